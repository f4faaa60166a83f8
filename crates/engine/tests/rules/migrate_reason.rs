//! Why memory moved.

use std::time::Duration;

use memtide_engine::{
    Config, Input, Limits, MigrateReason, Migrated, MoveOutcome, TenantConfig,
    migrate_reason::MIGRATIONS_MAX, tenant::OnDepletion,
};
use memtide_units::{
    AccessorId, Extent, HoldReason, Instant, NodeId, NodeKind, RequestId, TenantId,
};

use crate::{
    bench::{Bench, FAR, NEAR, Program, REQUEST, config, run, size},
    tenants::{bind, quota, tenant},
};

const ONE: TenantId = TenantId(0);
const OTHER: TenantId = TenantId(1);

fn told(bench: &Bench, tenant: TenantId) -> Vec<Migrated> {
    bench.engine.migrations(tenant).cloned().collect()
}

/// From where to where, how much, in how many plans, why.
fn parts(all: &[Migrated]) -> Vec<(NodeId, NodeId, u64, u64, MigrateReason)> {
    let parts = |m: &Migrated| (m.from, m.to, m.pageblocks, m.times, m.reason);
    all.iter().map(parts).collect()
}

fn move_to(bench: &mut Bench, request: u64, program: Program, to: NodeId, pageblocks: u64) {
    let (request, member) = (RequestId(request), program.member);
    let (bytes, deadline) = (Some(size(pageblocks)), Duration::from_secs(60));
    bench.say(Input::MoveTo { request, member, to, bytes, deadline });
}

#[test]
fn what_one_request_moves_is_told_once_for_each_way() {
    let mut bench = Bench::new();
    let (one, other) = (bench.join(), bench.join());
    bench.lease(one, 10);
    bench.lease(other, 6);
    bench.give_back(12, NEAR);
    assert_eq!(told(&bench, ONE), [], "what is ordered is not moved yet");
    bench.now = Instant(Duration::from_secs(7));
    bench.quiet();
    let mut all = told(&bench, ONE);
    all.sort_by_key(|migration| migration.member);
    let reason = MigrateReason::GiveBack { request: REQUEST };
    let moved: u64 = all.iter().map(|migration| migration.pageblocks).sum();
    assert_eq!((all.len(), moved), (2, bench.engine.moved_pageblocks()), "{all:#?}");
    for (migration, program) in all.iter().zip([one, other]) {
        assert_eq!((migration.member, migration.at), (program.member, bench.now));
        let (from, to, _, times, why) = parts(std::slice::from_ref(migration))[0];
        assert_eq!((from, to, times, why), (NEAR, FAR, 1, reason));
    }
    assert_eq!(bench.engine.migrations(TenantId(9)).count(), 0);
}

#[test]
fn every_plan_has_its_reason() {
    let mut bench = Bench::new();
    let program = bench.join();
    bench.lease(program, 4);
    move_to(&mut bench, 1, program, FAR, 2);
    bench.quiet();
    let (member, deadline) = (program.member, Duration::from_secs(60));
    let (request, policy) = (RequestId(2), bind(&[FAR]));
    let extents = run(2, 1);
    bench.say(Input::Mbind { request, member, extents, policy, deadline });
    bench.quiet();
    bench.say(Input::Evacuate { request: RequestId(3), node: FAR, deadline });
    bench.quiet();
    let id = RequestId;
    let expected = [
        (NEAR, FAR, 2, 1, MigrateReason::MoveTo { request: id(1) }),
        (NEAR, FAR, 1, 1, MigrateReason::Mbind { request: id(2) }),
        (FAR, NEAR, 3, 1, MigrateReason::Evacuation { request: id(3) }),
    ];
    assert_eq!(parts(&told(&bench, ONE)), expected);
    // Nothing of it is among the decisions.
    assert_eq!(bench.engine.decisions(ONE).count(), 1);
}

#[test]
fn what_did_not_move_is_not_told() {
    let mut bench = Bench::new();
    let program = bench.join();
    bench.lease(program, 3);
    move_to(&mut bench, 1, program, FAR, 3);
    let (member, id, pairs) = bench.orders.remove(0);
    assert_eq!(pairs.len(), 3);
    let held = MoveOutcome::Held(HoldReason::IoUring);
    let outcomes = vec![held, MoveOutcome::Moved, MoveOutcome::Gone];
    bench.say(Input::Moved { member, id, outcomes });
    let moved: u64 = told(&bench, ONE).iter().map(|migration| migration.pageblocks).sum();
    assert_eq!(moved, 1);
}

/// What is answered when its request is over was moved for it all the same.
#[test]
fn an_answer_that_comes_late_has_its_reason() {
    let mut bench = Bench::new();
    let program = bench.join();
    bench.lease(program, 3);
    move_to(&mut bench, 1, program, FAR, 3);
    bench.pass(60);
    bench.answer(MoveOutcome::Moved);
    let reason = MigrateReason::MoveTo { request: RequestId(1) };
    assert_eq!(parts(&told(&bench, ONE)), [(NEAR, FAR, 3, 1, reason)]);
}

const IDLE: Duration = Duration::from_secs(10);

fn balanced() -> Config {
    let falls = |name, uid| TenantConfig {
        on_depletion: OnDepletion::FallBack,
        ..tenant(name, uid, &[(NodeKind::Near, quota(0, None))])
    };
    let limits = Limits { idle_after: IDLE, settle_for: IDLE, ..Limits::default() };
    Config { tenants: vec![falls("one", 1), falls("other", 2)], limits, ..config() }
}

/// Khandual's case, as it is told: who made way, for whom, and who came home.
#[test]
fn balance_says_who_was_idle_and_who_lacked_what() {
    let mut bench = Bench::with(balanced());
    let (idle, busy) = (bench.join_as(1), bench.join_as(2));
    bench.lease(idle, 16);
    bench.lease(busy, 8);
    let on = |bench: &Bench, node| -> Vec<Extent> {
        bench.engine.held_by(bench.engine.image_of(busy.member).unwrap(), node)
    };
    for _ in 0..40 {
        bench.now = bench.now.after(Duration::from_secs(1));
        let hot = [on(&bench, NEAR), on(&bench, FAR)].concat();
        let extents = hot.iter().map(|&extent| (extent, 1)).collect();
        bench.say(Input::Accessed { accessor: AccessorId(0), extents });
        bench.quiet();
    }
    let out = told(&bench, ONE);
    let [out] = &out[..] else { panic!("{out:#?}") };
    assert_eq!((out.member, out.from, out.to, out.pageblocks), (idle.member, NEAR, FAR, 8));
    let MigrateReason::Demotion { idle_for, kind, lacking, lacks } = out.reason else {
        panic!("{out:#?}")
    };
    assert_eq!((kind, lacking, lacks), (NodeKind::Near, 8, OTHER));
    assert!(idle_for >= IDLE, "{idle_for:?}");
    let home = told(&bench, OTHER);
    let promoted = MigrateReason::Promotion { misplaced: 8 };
    assert_eq!(parts(&home), [(FAR, NEAR, 8, 1, promoted)]);

    let node = |node: NodeId| String::from(["near", "far"][usize::from(node.0)]);
    let names = |tenant: TenantId| String::from(["one", "other"][usize::from(tenant.0)]);
    let text = format!(
        "{}: 16MiB moved from near to far; because it was idle for {}s, and 16MiB of near memory \
         was lacking, to tenant other first",
        idle.member,
        idle_for.as_secs()
    );
    assert_eq!(out.text(node, names), text);
    let text = format!(
        "{}: 16MiB moved from far to near; because it is in use, as 16MiB of its tenant that do \
         not lie where they should",
        busy.member
    );
    assert_eq!(home[0].text(node, names), text);
}

/// What makes way for a process of the same tenant, or of the same process, does so for no others.
#[test]
fn who_lacks_something_may_be_the_tenant_whose_idle_memory_makes_way() {
    let mut config = balanced();
    config.tenants = vec![TenantConfig { who: Vec::new(), ..config.tenants.remove(0) }];
    let mut bench = Bench::with(config);
    let program = bench.join();
    bench.lease(program, 16);
    let far = bench.lease(program, 3);
    bench.pass(20);
    let hot = far.into_iter().map(|extent| (extent, 1)).collect();
    bench.say(Input::Accessed { accessor: AccessorId(0), extents: hot });
    bench.pass(2);
    bench.quiet();
    let out = told(&bench, ONE);
    let out = out.iter().find(|migration| migration.from == NEAR).expect("something makes way");
    let MigrateReason::Demotion { kind, lacking, lacks, .. } = out.reason else {
        panic!("{out:#?}")
    };
    assert_eq!((kind, lacking, lacks), (NodeKind::Near, 3, ONE));
    let text = out.text(|node| node.to_string(), |tenant| tenant.to_string());
    let why = "and 6MiB of near memory was lacking, to tenant tenant0 first";
    assert!(text.ends_with(why), "{text}");
}

#[test]
fn equal_plans_in_a_row_are_counted_and_the_oldest_are_forgotten() {
    let mut bench = Bench::new();
    let program = bench.join();
    bench.lease(program, 1);
    let mut plans = 0;
    for _ in 0..(2 * MIGRATIONS_MAX) {
        plans += 1;
        let to = if plans % 2 == 1 { FAR } else { NEAR };
        move_to(&mut bench, plans, program, to, 1);
        bench.quiet();
    }
    let all = told(&bench, ONE);
    assert_eq!(all.len(), MIGRATIONS_MAX);
    let reason = MigrateReason::MoveTo { request: RequestId(plans) };
    assert_eq!(parts(&all).last(), Some(&(FAR, NEAR, 1, 1, reason)));
    assert_eq!(bench.engine.decisions(ONE).count(), 1, "it is not drowned out");
}

/// What a round does not move, the next one does.
#[test]
fn balance_that_does_the_same_again_is_counted() {
    let mut config = balanced();
    config.limits.pairs_in_flight_max = 2;
    config.limits.pairs_per_order_max = 2;
    let mut bench = Bench::with(config);
    let (idle, busy) = (bench.join_as(1), bench.join_as(2));
    let near = bench.lease(idle, 16);
    let far = bench.lease(busy, 6);
    bench.release(idle, near);
    bench.quiet();
    for _ in 0..8 {
        bench.now = bench.now.after(Duration::from_secs(2));
        // What came home is not touched any more, so that the need stays as large.
        let lies = bench.engine.held_by(bench.engine.image_of(busy.member).unwrap(), FAR);
        let hot = lies.iter().map(|&extent| (extent, 1)).collect();
        bench.say(Input::Accessed { accessor: AccessorId(0), extents: hot });
        bench.quiet();
    }
    assert_eq!(far.iter().map(|extent| extent.count).sum::<u32>(), 6);
    let all = told(&bench, OTHER);
    // Two at a time: the last round was for the last two.
    let last = MigrateReason::Promotion { misplaced: 2 };
    assert_eq!(parts(&all), [(FAR, NEAR, 6, 3, last)]);
}
