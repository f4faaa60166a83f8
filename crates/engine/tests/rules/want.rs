//! How much more of a node would let programs have what they ask for.

use std::time::Duration;

use memtide_engine::{
    Awaited, Config, Effect, Input, TenantConfig, Want,
    onlining::OnlineZone::{self, Kernel, Movable, PreferMovable},
    tenant::{Migration, OnDepletion},
};
use memtide_units::{Instant, MemberId, NodeKind};

use crate::{
    bench::{Bench, FAR, NEAR, Program, REQUEST, run, size},
    tenants::{bind, quota, tenant, with},
};

/// Far memory may grow by so much.
const GROWTH: u64 = 100;

fn impatient(tenants: Vec<TenantConfig>) -> Config {
    let mut config = with(tenants);
    config.limits.patience = Duration::ZERO;
    config
}

fn waits(name: &str, uid: u32) -> TenantConfig {
    let on_depletion = OnDepletion::Wait(Duration::from_secs(10));
    TenantConfig { policy: bind(&[FAR]), on_depletion, ..tenant(name, uid, &[]) }
}

fn want(bench: &Bench) -> Want {
    bench.engine.want_of(FAR, Instant::default(), size(GROWTH))
}

fn waiting(pageblocks: u64) -> Want {
    Want { waiting: size(pageblocks), ..Want::default() }
}

fn refused(pageblocks: u64) -> Want {
    Want { refused: size(pageblocks), ..Want::default() }
}

fn ask(bench: &mut Bench, program: Program, count: u32) {
    bench.say(Input::Lease { member: program.member, count, after: None, policy: None });
}

#[test]
fn who_waits_for_a_node_wants_it_bigger_until_he_is_served_or_gone() {
    let mut bench = Bench::with(impatient(vec![waits("w", 1)]));
    let (has, one, other) = (bench.join_as(1), bench.join_as(1), bench.join_as(1));
    let all = bench.lease(has, 32);
    assert_eq!(want(&bench), Want::default());
    ask(&mut bench, one, 3);
    ask(&mut bench, one, 2);
    ask(&mut bench, other, 4);
    assert_eq!(want(&bench), waiting(9));
    assert_eq!(bench.engine.want_of(NEAR, Instant::default(), size(GROWTH)), Want::default());
    bench.say(Input::Left { member: other.member });
    assert_eq!(want(&bench), waiting(5));
    // What is being zeroed comes by itself.
    bench.release(has, vec![memtide_units::Extent::new(all[0].start, 1)]);
    assert_eq!(want(&bench), waiting(4));
    bench.quiet();
    assert_eq!(want(&bench), waiting(2));
}

#[test]
fn a_promise_wants_what_it_exceeds_the_room_by() {
    let mut bench = Bench::with(impatient(vec![waits("w", 1)]));
    let (has, one) = (bench.join_as(1), bench.join_as(1));
    bench.say(Input::Commit { member: has.member, by: 20 });
    bench.say(Input::Commit { member: one.member, by: 15 });
    assert_eq!(want(&bench), waiting(3));
    // What comes behind it lacks all.
    bench.say(Input::Commit { member: one.member, by: 5 });
    assert_eq!(want(&bench), waiting(8));
    // More than there is even alone: refused at once, and wanted all the same.
    let big = bench.join_as(1);
    bench.say(Input::Commit { member: big.member, by: 40 });
    assert_eq!(want(&bench), Want { refused: size(28), ..waiting(8) });
}

#[test]
fn a_promise_beyond_its_tenants_maximum_is_no_want() {
    let on_depletion = OnDepletion::Wait(Duration::from_secs(10));
    let quotas = [(NodeKind::Far, quota(0, Some(10))), (NodeKind::Near, quota(0, Some(0)))];
    let capped = TenantConfig { on_depletion, ..tenant("c", 1, &quotas) };
    let mut bench = Bench::with(impatient(vec![capped]));
    let (one, other) = (bench.join_as(1), bench.join_as(1));
    bench.say(Input::Commit { member: one.member, by: 10 });
    // All of the maximum is promised, and little of it is in use.
    bench.say(Input::Commit { member: other.member, by: 2 });
    assert_eq!(want(&bench), Want::default());
}

#[test]
fn a_refusal_counts_once_until_something_is_given_or_time_has_passed() {
    let fails = TenantConfig { policy: bind(&[FAR]), ..tenant("f", 1, &[]) };
    let mut bench = Bench::with(impatient(vec![fails]));
    let (has, one) = (bench.join_as(1), bench.join_as(1));
    let all = bench.lease(has, 32);
    for _ in 0..5 {
        ask(&mut bench, one, 3);
    }
    assert_eq!(want(&bench), refused(3));
    let later = Instant(Duration::from_secs(1));
    assert_eq!(bench.engine.want_of(FAR, later, size(GROWTH)), Want::default());
    // More than the node may ever grow.
    assert_eq!(bench.engine.want_of(FAR, Instant::default(), size(2)), Want::default());
    bench.release(has, all);
    bench.quiet();
    ask(&mut bench, one, 3);
    assert_eq!(want(&bench), Want::default());
}

#[test]
fn a_refused_process_that_is_gone_wants_nothing() {
    let fails = TenantConfig { policy: bind(&[FAR]), ..tenant("f", 1, &[]) };
    let mut bench = Bench::with(impatient(vec![fails]));
    let (has, one) = (bench.join_as(1), bench.join_as(1));
    bench.lease(has, 32);
    ask(&mut bench, one, 3);
    bench.say(Input::Left { member: one.member });
    assert_eq!(want(&bench), Want::default());
}

#[test]
fn falling_back_adds_up_and_a_maximum_is_no_want() {
    let falls = |name, uid, quotas: &[_]| TenantConfig {
        policy: bind(&[FAR]),
        on_depletion: OnDepletion::FallBack,
        ..tenant(name, uid, quotas)
    };
    let capped = quota(0, Some(4));
    let all = vec![falls("a", 1, &[]), falls("b", 2, &[(NodeKind::Far, capped)])];
    let mut bench = Bench::with(impatient(all));
    let (one, other) = (bench.join_as(1), bench.join_as(2));
    // To its maximum, and then elsewhere: that is not for want of room.
    bench.lease(other, 6);
    assert_eq!(want(&bench), Want::default());
    bench.lease(one, 30);
    // Two go to near memory.
    assert_eq!(want(&bench), Want { fell_back: size(2), ..Want::default() });
    bench.lease(one, 20);
    assert_eq!(want(&bench), Want { fell_back: size(22), ..Want::default() });
    bench.lease(other, 3);
    assert_eq!(want(&bench), Want { fell_back: size(22), ..Want::default() });
}

#[test]
fn nobody_wants_anything_before_it_is_known_what_there_is() {
    let mut config = impatient(vec![waits("w", 1)]);
    let (member, until) = (MemberId(1), Instant(Duration::from_secs(30)));
    config.awaited = Awaited { members: vec![member], until };
    let mut bench = Bench::with(config);
    let (one, other) = (bench.join_as(1), bench.join_as(1));
    ask(&mut bench, one, 32);
    ask(&mut bench, other, 21);
    assert_eq!(bench.say(Input::Commit { member: other.member, by: 4 }), []);
    assert_eq!(want(&bench), Want::default());
    bench.say(Input::AwaitedGone { member });
    assert_eq!(want(&bench), waiting(21));
}

#[test]
fn nothing_is_wanted_of_a_node_that_is_evacuated() {
    let falls = TenantConfig { on_depletion: OnDepletion::FallBack, ..waits("f", 3) };
    let fails = TenantConfig { on_depletion: OnDepletion::Fail, ..waits("r", 2) };
    let mut bench = Bench::with(impatient(vec![waits("w", 1), fails, falls]));
    let (has, one, other) = (bench.join_as(1), bench.join_as(1), bench.join_as(2));
    bench.lease(has, 32);
    ask(&mut bench, one, 3);
    ask(&mut bench, other, 4);
    let falls = bench.join_as(3);
    bench.lease(falls, 1);
    let all = Want { waiting: size(3), refused: size(4), fell_back: size(1) };
    assert_eq!(want(&bench), all);
    let deadline = Duration::from_secs(60);
    bench.say(Input::Evacuate { request: REQUEST, node: FAR, deadline });
    assert_eq!(want(&bench), Want::default());
}

/// Far memory in a zone, four pageblocks of it where anything may lie; a tenant that is never
/// moved, of user 1, which does this, and one of user 2 that waits.
fn with_zone(zone: OnlineZone, on_depletion: OnDepletion) -> Bench {
    let never = TenantConfig { migration: Migration::Never, on_depletion, ..waits("never", 1) };
    let mut config = impatient(vec![never, waits("w", 2)]);
    config.nodes[1].zone = zone;
    config.nodes[1].zones = vec![(run(16, 4)[0], Kernel)];
    Bench::with(config)
}

/// The zones, and how much of far memory is for who is never moved.
const ZONES: [(OnlineZone, u32); 3] = [(Kernel, 32), (PreferMovable, 32), (Movable, 4)];

#[test]
fn who_is_never_moved_wants_nothing_of_a_node_that_grows_for_what_can_move() {
    for (zone, all) in ZONES {
        let mut bench = with_zone(zone, OnDepletion::Wait(Duration::from_secs(10)));
        let (has, one, movable) = (bench.join_as(1), bench.join_as(1), bench.join_as(2));
        bench.lease(has, all);
        let member = one.member;
        assert_eq!(bench.say(Input::Lease { member, count: 3, after: None, policy: None }), []);
        let its = if all == 32 { 3 } else { 0 };
        assert_eq!(want(&bench), waiting(its), "{zone}");
        if all < 32 {
            bench.lease(movable, 32 - all);
        }
        ask(&mut bench, movable, 2);
        assert_eq!(want(&bench), waiting(its + 2), "{zone}");
    }
}

#[test]
fn a_promise_to_who_is_never_moved_wants_nothing_of_such_a_node() {
    for (zone, all) in ZONES {
        let mut bench = with_zone(zone, OnDepletion::Wait(Duration::from_secs(10)));
        let (has, one) = (bench.join_as(1), bench.join_as(1));
        assert!(bench.commit(has, all.into()));
        assert_eq!(bench.say(Input::Commit { member: one.member, by: 3 }), []);
        assert_eq!(want(&bench), waiting(if all == 32 { 3 } else { 0 }), "{zone}");
    }
}

#[test]
fn a_refusal_of_who_is_never_moved_is_no_want_of_such_a_node() {
    for (zone, all) in ZONES {
        let mut bench = with_zone(zone, OnDepletion::Fail);
        let (has, one) = (bench.join_as(1), bench.join_as(1));
        bench.lease(has, all);
        let effects =
            bench.say(Input::Lease { member: one.member, count: 3, after: None, policy: None });
        assert!(matches!(&effects[..], [Effect::Grant { extents, .. }] if extents.is_empty()));
        assert!(!bench.commit(one, 2));
        assert_eq!(want(&bench), refused(if all == 32 { 5 } else { 0 }), "{zone}");
    }
}
