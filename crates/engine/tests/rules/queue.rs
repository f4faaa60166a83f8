//! Who waits, for how long, and who is next.

use std::time::Duration;

use memtide_engine::{Config, Effect, Input, TenantConfig, tenant::OnDepletion};
use memtide_units::{Extent, NodeKind, Pageblock};

use crate::{
    bench::{Bench, NEAR, Program, config, run},
    tenants::{bind, quota, tenant, with},
};

/// A tenant of near memory only that waits for so many seconds.
fn waits(name: &str, uid: u32, seconds: u64) -> TenantConfig {
    TenantConfig {
        policy: bind(&[NEAR]),
        on_depletion: OnDepletion::Wait(Duration::from_secs(seconds)),
        ..tenant(name, uid, &[])
    }
}

fn impatient(tenants: Vec<TenantConfig>) -> Config {
    let mut config = with(tenants);
    config.limits.patience = Duration::ZERO;
    config
}

fn ask(bench: &mut Bench, program: Program, count: u32) -> Vec<Effect> {
    bench.say(Input::Lease { member: program.member, count, after: None, policy: None })
}

/// Who was granted how much, in order.
fn grants(effects: &[Effect]) -> Vec<(Program, u32)> {
    let grant = |effect: &Effect| match effect {
        Effect::Grant { member, extents } => {
            let program = Program { member: *member, token: memtide_units::TokenId(member.0 + 1) };
            Some((program, extents.iter().map(|run| run.count).sum()))
        }
        _ => None,
    };
    effects.iter().filter_map(grant).collect()
}

fn members(grants: &[(Program, u32)]) -> Vec<(u64, u32)> {
    grants.iter().map(|(program, count)| (program.member.0, *count)).collect()
}

/// Frees pageblocks of a process, all the way.
fn free(bench: &mut Bench, program: Program, extents: Vec<Extent>) -> Vec<Effect> {
    let mut effects = bench.release(program, extents);
    effects.extend(bench.quiet());
    effects
}

#[test]
fn a_lease_waits_until_something_is_free_and_gets_what_there_is() {
    let mut bench = Bench::with(impatient(vec![waits("w", 1, 10)]));
    let (has, wants) = (bench.join_as(1), bench.join_as(1));
    bench.lease(has, 16);
    assert_eq!(ask(&mut bench, wants, 3), []);
    assert_eq!(bench.engine.next_deadline(), Some(memtide_units::Instant(Duration::from_secs(10))));
    let status = &bench.engine.tenant_status()[0];
    assert_eq!((status.waiting, status.waiting_for), (1, crate::bench::size(3)));
    let effects = free(&mut bench, has, run(7, 2));
    assert_eq!(members(&grants(&effects)), [(wants.member.0, 2)]);
    assert_eq!(bench.engine.next_deadline(), None);
}

#[test]
fn at_the_deadline_the_answer_is_nothing() {
    let mut bench = Bench::with(impatient(vec![waits("w", 1, 10)]));
    let (has, wants) = (bench.join_as(1), bench.join_as(1));
    bench.lease(has, 16);
    ask(&mut bench, wants, 3);
    assert_eq!(bench.pass(9), []);
    assert_eq!(members(&grants(&bench.pass(1))), [(wants.member.0, 0)]);
    // A promise: false.
    bench.say(Input::Commit { member: has.member, by: 16 });
    assert_eq!(bench.say(Input::Commit { member: wants.member, by: 1 }), []);
    let refused = Effect::Promise { member: wants.member, granted: false };
    assert_eq!(bench.pass(10), [refused]);
}

#[test]
fn leases_of_one_process_are_answered_in_order() {
    let mut bench = Bench::with(impatient(vec![waits("w", 1, 10)]));
    let (has, wants) = (bench.join_as(1), bench.join_as(1));
    bench.lease(has, 16);
    let member = wants.member;
    ask(&mut bench, wants, 1);
    // There is room far, but it asked for something before.
    let policy = Some(bind(&[crate::bench::FAR]));
    assert_eq!(bench.say(Input::Lease { member, count: 2, after: None, policy }), []);
    let effects = free(&mut bench, has, run(3, 1));
    assert_eq!(members(&grants(&effects)), [(member.0, 1), (member.0, 2)]);
}

/// What waits to be promised would hold up the little that its program needs to go on, perhaps to
/// free what it waits for.
#[test]
fn a_promise_that_waits_holds_up_no_lease_of_its_process_nor_a_lease_a_promise() {
    let mut bench = Bench::with(impatient(vec![waits("w", 1, 10)]));
    let (has, wants) = (bench.join_as(1), bench.join_as(1));
    bench.lease(has, 12);
    let member = wants.member;
    assert_eq!(bench.say(Input::Commit { member, by: 6 }), []);
    assert_eq!(members(&grants(&ask(&mut bench, wants, 2))), [(member.0, 2)]);
    ask(&mut bench, wants, 2);
    assert_eq!(bench.engine.tenant_status()[0].waiting, 1, "the promise alone");
    // Promises have an order of their own, and are not given before one that was asked before.
    assert_eq!(bench.say(Input::Commit { member, by: 1 }), []);
    ask(&mut bench, wants, 1);
    let effects = free(&mut bench, has, run(0, 2));
    let promise = Effect::Promise { member, granted: true };
    let granted = Effect::Grant { member, extents: run(0, 1) };
    assert!(effects.contains(&promise) && effects.contains(&granted), "{effects:?}");
    assert_eq!(bench.engine.tenant_status()[0].waiting, 1, "the second promise");
}

#[test]
fn who_has_least_for_its_weight_is_next() {
    let heavy = TenantConfig { weight: 3, ..waits("heavy", 2, 100) };
    let mut bench = Bench::with(impatient(vec![waits("light", 1, 100), heavy, waits("has", 3, 9)]));
    let (light, heavy, has) = (bench.join_as(1), bench.join_as(2), bench.join_as(3));
    bench.lease(has, 16);
    let (mut of_light, mut of_heavy) = (0, 0);
    ask(&mut bench, light, 1);
    ask(&mut bench, heavy, 1);
    for n in 0..16 {
        for (program, count) in grants(&free(&mut bench, has, run(n, 1))) {
            let of = if program.member == light.member { &mut of_light } else { &mut of_heavy };
            *of += count;
            ask(&mut bench, program, 1);
        }
    }
    assert_eq!((of_light, of_heavy), (4, 12));
}

#[test]
fn within_a_tenant_the_earliest_is_next() {
    let mut bench = Bench::with(impatient(vec![waits("w", 1, 100)]));
    let has = bench.join_as(1);
    bench.lease(has, 16);
    let all: Vec<_> = (0..4).map(|_| bench.join_as(1)).collect();
    for &program in all.iter().rev() {
        ask(&mut bench, program, 1);
    }
    let mut order = Vec::new();
    for n in 0..4 {
        order.extend(members(&grants(&free(&mut bench, has, run(n, 1)))));
    }
    let expected: Vec<_> = all.iter().rev().map(|program| (program.member.0, 1)).collect();
    assert_eq!(order, expected);
}

#[test]
fn nobody_passes_a_promise_that_waits_but_within_its_guarantee() {
    let sure = tenant("sure", 2, &[(NodeKind::Near, quota(4, None))]);
    let mut bench = Bench::with(impatient(vec![
        TenantConfig {
            on_depletion: OnDepletion::Wait(Duration::from_secs(10)),
            ..tenant("waits", 1, &[])
        },
        sure,
        tenant("late", 3, &[]),
    ]));
    let (first, waits, sure, late) =
        (bench.join_as(1), bench.join_as(1), bench.join_as(2), bench.join_as(3));
    assert!(bench.commit(first, 40));
    assert_eq!(bench.say(Input::Commit { member: waits.member, by: 8 }), []);
    // There would be room for one more.
    assert!(!bench.commit(late, 1));
    assert!(bench.commit(sure, 4));
    assert!(!bench.commit(sure, 1));
    let effects = bench.say(Input::Commit { member: first.member, by: -4 });
    assert_eq!(effects, [Effect::Promise { member: waits.member, granted: true }]);
    assert!(!bench.commit(late, 1));
}

#[test]
fn a_promise_that_can_never_be_kept_does_not_wait() {
    let mut bench = Bench::with(impatient(vec![waits("w", 1, 10)]));
    let program = bench.join_as(1);
    assert!(!bench.commit(program, 17));
}

#[test]
fn everybody_is_patient_while_memory_is_on_its_way_back() {
    let mut bench = Bench::with(config());
    let (has, wants) = (bench.join(), bench.join());
    bench.lease(has, 48);
    // Nothing is on its way back: answered at once.
    assert_eq!(members(&grants(&ask(&mut bench, wants, 1))), [(wants.member.0, 0)]);
    bench.release(has, run(5, 1));
    assert_eq!(members(&grants(&ask(&mut bench, wants, 1))), []);
    let effects = bench.quiet();
    assert_eq!(members(&grants(&effects)), [(wants.member.0, 1)]);
    // For as long as the patience lasts.
    bench.release(has, run(6, 1));
    assert_eq!(ask(&mut bench, wants, 1), []);
    assert_eq!(members(&grants(&bench.pass(1))), [(wants.member.0, 0)]);
}

#[test]
fn who_has_just_disconnected_is_expected_to_end() {
    let mut bench = Bench::with(config());
    let (has, wants) = (bench.join(), bench.join());
    bench.lease(has, 48);
    bench.say(Input::Left { member: has.member });
    assert_eq!(ask(&mut bench, wants, 1), []);
    bench.say(Input::TokenGone { token: has.token });
    let effects = bench.quiet();
    assert_eq!(members(&grants(&effects)), [(wants.member.0, 1)]);
    // Who disconnected long ago is not.
    let mut bench = Bench::with(config());
    let (has, wants) = (bench.join(), bench.join());
    bench.lease(has, 48);
    bench.say(Input::Left { member: has.member });
    bench.pass(5);
    assert_eq!(members(&grants(&ask(&mut bench, wants, 1))), [(wants.member.0, 0)]);
}

#[test]
fn capacity_that_comes_serves_those_who_wait() {
    let mut bench = Bench::with(impatient(vec![waits("w", 1, 100)]));
    let (has, wants) = (bench.join_as(1), bench.join_as(1));
    bench.give_back(4, NEAR);
    bench.lease(has, 16);
    assert_eq!(ask(&mut bench, wants, 2), []);
    let bytes = memtide_units::ByteSize(1);
    let effects = bench.say(Input::Add { bytes, to: NEAR, zone: None });
    assert!(matches!(&effects[..], [Effect::Onlined { .. }, Effect::Grant { extents, .. }]
        if extents[0].start == Pageblock(12)));
}

#[test]
fn a_block_that_is_opened_again_serves_those_who_wait() {
    let mut bench = Bench::with(impatient(vec![waits("w", 1, 100), tenant("has", 2, &[])]));
    let (wants, has) = (bench.join_as(1), bench.join_as(2));
    bench.lease(has, 16);
    free(&mut bench, has, run(15, 1));
    // No other block can be tried.
    bench.pin(has, run(0, 12));
    bench.give_back(4, NEAR);
    assert_eq!(bench.counts(NEAR), (0, 15, 1, 0));
    assert_eq!(ask(&mut bench, wants, 1), []);
    let direct_read = memtide_units::HoldReason::DirectRead;
    let effects = bench.answer(memtide_engine::MoveOutcome::Held(direct_read));
    assert_eq!(members(&grants(&effects)), [(wants.member.0, 1)]);
}

#[test]
fn a_full_queue_answers_as_things_are_and_in_order() {
    let mut config = impatient(vec![waits("w", 1, 100)]);
    config.limits.leases_queued_max = 2;
    let mut bench = Bench::with(config);
    let (has, wants) = (bench.join_as(1), bench.join_as(1));
    bench.lease(has, 16);
    let member = wants.member;
    ask(&mut bench, wants, 1);
    bench.say(Input::Commit { member, by: 1 });
    let effects = ask(&mut bench, wants, 2);
    let nothing = Effect::Grant { member, extents: Vec::new() };
    assert_eq!(effects, [nothing.clone(), Effect::Promise { member, granted: false }, nothing]);
}

#[test]
fn nobody_is_turned_away_because_another_asks_for_ever_more() {
    let mut config = impatient(vec![waits("w", 1, 100)]);
    config.limits.leases_queued_max = 4;
    let mut bench = Bench::with(config);
    let (has, greedy, modest) = (bench.join_as(1), bench.join_as(1), bench.join_as(1));
    bench.lease(has, 16);
    (0..4).for_each(|_| assert_eq!(ask(&mut bench, greedy, 1), []));
    let answers = grants(&ask(&mut bench, modest, 1));
    assert_eq!(members(&answers), [(greedy.member.0, 0); 4]);
    assert_eq!(members(&grants(&free(&mut bench, has, run(0, 1)))), [(modest.member.0, 1)]);
}

#[test]
fn what_those_lack_who_reclaim_is_known() {
    let reclaims = TenantConfig {
        on_depletion: OnDepletion::Reclaim(Duration::from_secs(9)),
        policy: bind(&[NEAR]),
        ..tenant("reclaims", 2, &[(NodeKind::Near, quota(0, Some(5)))])
    };
    let mut bench = Bench::with(impatient(vec![waits("w", 1, 100), reclaims]));
    let (has, wants, other) = (bench.join_as(1), bench.join_as(2), bench.join_as(2));
    bench.lease(wants, 1);
    bench.lease(has, 15);
    ask(&mut bench, has, 1);
    assert!(bench.engine.shortage().is_empty());
    ask(&mut bench, wants, 3);
    assert_eq!(bench.engine.shortage(), [(NodeKind::Near, 3)].into());
    // No more than its tenant may have.
    ask(&mut bench, other, 3);
    assert_eq!(bench.engine.shortage(), [(NodeKind::Near, 4)].into());
    bench.pass(9);
    assert!(bench.engine.shortage().is_empty());
}

#[test]
fn who_leaves_waits_for_nothing() {
    let mut bench = Bench::with(impatient(vec![waits("w", 1, 100)]));
    let (has, wants) = (bench.join_as(1), bench.join_as(1));
    bench.lease(has, 16);
    ask(&mut bench, wants, 1);
    bench.say(Input::Left { member: wants.member });
    assert_eq!(grants(&free(&mut bench, has, run(0, 4))), []);
    assert_eq!(bench.engine.next_deadline(), None);
}
