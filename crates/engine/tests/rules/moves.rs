//! Orders, their answers, and moves to a node.

use std::time::Duration;

use memtide_engine::{
    Effect, Input, Limits, MoveOutcome, NodeConfig, Refusal,
    mempolicy::{Extended, MemPolicy, Mode},
    tenant::OnDepletion,
};
use memtide_units::{HoldReason, MoveId, NodeId, NodeKind, Pageblock};

use crate::bench::{Bench, FAR, NEAR, Program, REQUEST, config, holders, report, run, size};

fn move_to(
    bench: &mut Bench,
    program: Program,
    to: NodeId,
    pageblocks: Option<u64>,
) -> Vec<Effect> {
    bench.say(Input::MoveTo {
        request: REQUEST,
        member: program.member,
        to,
        bytes: pageblocks.map(size),
        deadline: Duration::from_secs(60),
    })
}

#[test]
fn orders_come_in_batches_and_never_too_many_at_once() {
    let mut bench = Bench::with({
        let mut config = config();
        config.limits =
            Limits { pairs_per_order_max: 4, pairs_in_flight_max: 8, ..Limits::default() };
        config
    });
    let program = bench.join();
    bench.lease(program, 16);
    move_to(&mut bench, program, FAR, None);
    let lengths: Vec<_> = bench.orders.iter().map(|(_, _, pairs)| pairs.len()).collect();
    assert_eq!(lengths, [4, 4]);
    // A single answer makes no place for a full order; the last of an order does.
    let (member, id, _) = bench.orders[0];
    bench.say(Input::Moved { member, id, outcomes: vec![MoveOutcome::Moved; 3] });
    assert_eq!(bench.orders.len(), 2);
    bench.say(Input::Moved { member, id, outcomes: vec![MoveOutcome::Moved] });
    assert_eq!(bench.orders.len(), 3);
    bench.orders.remove(0);
    assert_eq!(report(&bench.quiet()).returned, size(16));
    assert_eq!((bench.counts(NEAR).1, bench.counts(FAR).1), (0, 16));
}

#[test]
fn answers_must_fit_the_order() {
    let mut bench = Bench::new();
    let (program, other) = (bench.join(), bench.join());
    bench.lease(program, 2);
    move_to(&mut bench, program, FAR, None);
    let (member, id, _) = bench.orders[0];
    let outcomes = vec![MoveOutcome::Moved; 3];
    let refusal = bench.refused(Input::Moved { member, id, outcomes: outcomes.clone() });
    assert_eq!(refusal, Refusal::TooManyOutcomes { order: id, outcomes: 3, left: 2 });
    for (member, id) in [(other.member, id), (member, MoveId(99))] {
        let refusal = bench.refused(Input::Moved { member, id, outcomes: outcomes.clone() });
        assert_eq!(refusal, Refusal::NoSuchOrder { order: id, member });
    }
    let refusal = bench.refused(Input::Release { member, extents: run(16, 1) });
    assert_eq!(refusal, Refusal::InFlight { pageblock: Pageblock(16), order: id });
}

/// Found by the random world: the source was leased to the same process again before it answered,
/// and the process moved the new lease.
#[test]
fn a_released_source_is_not_free_before_its_order_is_answered() {
    let mut bench = Bench::new();
    let program = bench.join();
    bench.lease(program, 1);
    move_to(&mut bench, program, FAR, None);
    bench.release(program, run(0, 1));
    for input in std::mem::take(&mut bench.zero) {
        bench.say(input);
    }
    assert_eq!(bench.lease(program, 16)[0], run(1, 15)[0]);
    let effects = bench.answer(MoveOutcome::Gone);
    let image = bench.engine.image_of(program.member).unwrap();
    assert!(effects.contains(&Effect::Zero { image, extents: run(16, 1) }));
    assert_eq!(bench.counts(NEAR), (1, 15, 0, 0));
}

#[test]
fn who_leaves_keeps_both_ends_and_says_which_it_has_when_it_returns() {
    let mut bench = Bench::new();
    let program = bench.join();
    bench.lease(program, 2);
    move_to(&mut bench, program, FAR, None);
    let effects = bench.say(Input::Left { member: program.member });
    let answer = report(&effects);
    assert_eq!(answer.holders[0].reason, HoldReason::Inherited);
    assert_eq!((bench.counts(NEAR).1, bench.counts(FAR).1), (2, 2));
    bench.orders.clear();
    // It had moved the first, not the second.
    let claims = memtide_engine::Claims {
        member: program.member,
        image: bench.engine.image_of(program.member).unwrap(),
        leased: [run(1, 1), run(16, 1)].concat(),
        shared: Vec::new(),
        children: Vec::new(),
        committed: 0,
    };
    bench.say(bench.joining(program, memtide_engine::Lineage::Returning(claims)));
    bench.quiet();
    assert_eq!((bench.counts(NEAR).1, bench.counts(FAR).1), (1, 1));
}

#[test]
fn a_move_takes_as_much_as_there_is_room_for() {
    let mut bench = Bench::new();
    let (program, other) = (bench.join(), bench.join());
    bench.lease(other, 10);
    bench.lease(program, 16);
    bench.pin(program, run(16, 1));
    bench.release(other, run(0, 4));
    bench.quiet();
    move_to(&mut bench, program, NEAR, None);
    let answer = report(&bench.quiet());
    assert_eq!((answer.requested, answer.returned), (size(10), size(4)));
    let pid = u32::try_from(program.member.0).unwrap();
    let held = [(pid, 5, HoldReason::NoRoom), (pid, 1, HoldReason::MemoryLock)];
    assert_eq!(holders(&answer), held);
    assert!(!answer.ask_again);
}

#[test]
fn a_move_of_a_part_moves_that_part() {
    let mut bench = Bench::new();
    let program = bench.join();
    bench.lease(program, 8);
    move_to(&mut bench, program, FAR, Some(3));
    assert_eq!(report(&bench.quiet()).returned, size(3));
    assert_eq!((bench.counts(NEAR).1, bench.counts(FAR).1), (5, 3));
    let answer = report(&{
        let mut effects = move_to(&mut bench, program, FAR, Some(9));
        effects.extend(bench.quiet());
        effects
    });
    assert_eq!((answer.returned, answer.remaining, answer.holders.len()), (size(5), size(4), 0));
}

/// Leases with a policy of their own; says what was granted.
fn lease_with(bench: &mut Bench, program: Program, count: u32, policy: MemPolicy) -> u64 {
    let (member, policy) = (program.member, Some(policy));
    match &bench.say(Input::Lease { member, count, after: None, policy })[..] {
        [Effect::Grant { extents, .. }] => extents.iter().map(|e| u64::from(e.count)).sum(),
        other => panic!("no grant but {other:?}"),
    }
}

#[test]
fn a_lease_keeps_to_its_own_policy_when_its_node_leaves() {
    let bound = || Mode::Bind([FAR].into_iter().collect());
    // What is bound goes elsewhere when it has to; who asked for extended memory only stays.
    for (extended, stay) in [(Extended::Any, 0), (Extended::Only, 4)] {
        let mut bench = Bench::new();
        let program = bench.join();
        let policy = MemPolicy { mode: bound(), extended };
        assert_eq!(lease_with(&mut bench, program, 4, policy), 4);
        // The process may have near memory whatever its lease may.
        bench.lease(program, 1);
        let effects = bench.give_back(32, FAR);
        let answer = report(&[effects, bench.quiet()].concat());
        assert_eq!(answer.returned, size(32 - stay));
        assert!(holders(&answer).iter().all(|holder| holder.2 == HoldReason::NoRoom));
        assert_eq!((bench.counts(NEAR).1, bench.counts(FAR).1), (5 - stay, stay));
    }
}

#[test]
fn a_tenant_that_falls_back_takes_along_what_is_bound_but_not_to_near_instead_of_extended() {
    for (extended, near) in [(Extended::Any, 4), (Extended::Only, 0)] {
        let mut config = config();
        config.tenants[0].on_depletion = OnDepletion::FallBack;
        let mut bench = Bench::with(config);
        let program = bench.join();
        let mode = Mode::Bind([FAR].into_iter().collect());
        assert_eq!(lease_with(&mut bench, program, 4, MemPolicy { mode, extended }), 4);
        bench.give_back(32, FAR);
        bench.quiet();
        assert_eq!((bench.counts(NEAR).1, bench.counts(FAR).1), (near, 4 - near));
    }
}

#[test]
fn what_moved_keeps_its_own_policy_and_what_has_none_follows_its_process() {
    let third = NodeId(2);
    let mut config = config();
    config.nodes.push(NodeConfig::new(third, "far too", NodeKind::Far, Pageblock(48), 8));
    let mut bench = Bench::with(config);
    let program = bench.join();
    let mode = Mode::Bind([FAR, third].into_iter().collect());
    let policy = MemPolicy { mode, extended: Extended::Only };
    assert_eq!(lease_with(&mut bench, program, 4, policy), 4);
    bench.give_back(32, FAR);
    bench.quiet();
    assert_eq!((bench.counts(NEAR).1, bench.counts(third).1), (0, 4));
    // There it is bound still: near is not for it.
    let effects = bench.give_back(8, third);
    let answer = report(&[effects, bench.quiet()].concat());
    assert_eq!((answer.returned, bench.counts(NEAR).1), (size(4), 0));
    bench.lease(program, 2);
    assert_eq!(bench.counts(NEAR).1, 2);
    let mode = Mode::Bind([third].into_iter().collect());
    let policy = Some(MemPolicy { mode, ..MemPolicy::LOCAL });
    bench.say(Input::SetPolicy { member: program.member, policy });
    let online = bench.counts(third).0;
    bench.give_back(16, NEAR);
    bench.quiet();
    assert_eq!((bench.counts(NEAR).1, online), (2, 0), "its process is bound elsewhere now");
}
