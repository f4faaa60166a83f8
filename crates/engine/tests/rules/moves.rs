//! Orders, their answers, and moves to a node.

use std::time::Duration;

use memtide_engine::{Effect, Input, Limits, MoveOutcome, Refusal};
use memtide_units::{HoldReason, MoveId, NodeId, Pageblock};

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
