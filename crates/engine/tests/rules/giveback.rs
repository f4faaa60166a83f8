//! Capacity leaves and comes back.

use std::time::Duration;

use memtide_engine::{Effect, Input, MoveOutcome, Refusal};
use memtide_units::{ByteSize, HoldReason, Pageblock};

use crate::bench::{Bench, FAR, NEAR, REQUEST, holders, report, run, size, unanswered};

fn pid(program: crate::bench::Program) -> u32 {
    u32::try_from(program.member.0).unwrap()
}

#[test]
fn free_blocks_leave_at_once_the_highest_first_and_the_lowest_come_back_first() {
    let mut bench = Bench::new();
    let effects = bench.give_back(5, NEAR);
    assert_eq!(effects[0], Effect::Offlined { node: NEAR, extents: run(8, 8) });
    let answer = report(&effects);
    assert_eq!((answer.requested, answer.returned), (size(8), size(8)));
    assert_eq!((answer.remaining, answer.ask_again), (size(0), false));
    assert_eq!(bench.counts(NEAR), (8, 0, 0, 8));
    let effects = bench.say(Input::Add { bytes: ByteSize(1), to: NEAR, zone: None });
    assert_eq!(effects, [Effect::Onlined { node: NEAR, extents: run(8, 4) }]);
    let refusal = bench.refused(Input::Add { bytes: size(5), to: NEAR, zone: None });
    assert_eq!(refusal, Refusal::NotOffline { node: NEAR, blocks: 2, offline: 1 });
}

#[test]
fn without_a_node_the_furthest_leaves_first() {
    let mut bench = Bench::new();
    let give_back = |pageblocks| Input::GiveBack {
        request: REQUEST,
        bytes: size(pageblocks),
        from: None,
        deadline: Duration::ZERO,
    };
    bench.say(give_back(32));
    assert_eq!((bench.counts(NEAR).3, bench.counts(FAR).3), (0, 32));
    bench.say(give_back(4));
    assert_eq!(bench.counts(NEAR).3, 4);
}

#[test]
fn more_than_there_is_leaves_a_rest_without_a_holder() {
    let mut bench = Bench::new();
    let answer = report(&bench.give_back(100, NEAR));
    assert_eq!((answer.requested, answer.returned), (size(100), size(16)));
    assert_eq!((answer.remaining, answer.holders.len()), (size(84), 0));
    assert!(!answer.ask_again);
}

#[test]
fn used_blocks_are_emptied_the_cheapest_first() {
    let mut bench = Bench::new();
    let program = bench.join();
    bench.lease(program, 16);
    bench.release(program, run(5, 3));
    bench.quiet();
    assert!(unanswered(&bench.give_back(4, NEAR)));
    assert_eq!(bench.orders[0].2, [(Pageblock(4), Pageblock(16))]);
    assert_eq!(bench.counts(NEAR), (0, 13, 3, 0));
    let effects = bench.quiet();
    assert!(effects.contains(&Effect::Offlined { node: NEAR, extents: run(4, 4) }));
    assert_eq!(report(&effects).returned, size(4));
    assert_eq!(bench.engine.moved_pageblocks(), 1);
}

/// Its process may have far memory, but not this lease.
#[test]
fn what_is_pinned_stays_and_its_block_is_never_isolated() {
    let mut bench = Bench::new();
    let (one, other) = (bench.join(), bench.join());
    bench.lease(one, 15);
    bench.lease(other, 1);
    bench.pin(one, run(1, 2));
    bench.pin(other, run(15, 1));
    bench.give_back(16, NEAR);
    assert_eq!(bench.counts(NEAR).2, 0);
    let answer = report(&bench.quiet());
    assert_eq!((answer.returned, answer.remaining), (size(8), size(8)));
    let lock = HoldReason::MemoryLock;
    assert_eq!(holders(&answer), [(pid(one), 2, lock), (pid(other), 1, lock)]);
    assert!(!answer.ask_again);
}

#[test]
fn a_block_that_fails_is_opened_and_the_next_is_tried() {
    let mut bench = Bench::new();
    let program = bench.join();
    bench.lease(program, 16);
    bench.release(program, run(9, 3));
    bench.release(program, run(5, 1));
    bench.quiet();
    bench.give_back(4, NEAR);
    assert_eq!(bench.orders[0].2[0].0, Pageblock(8));
    let effects = bench.answer(MoveOutcome::Held(HoldReason::DirectRead));
    assert!(unanswered(&effects));
    // The block that failed serves others again: here, as the destination.
    let pairs = [(4, 9), (6, 10), (7, 11)].map(|(from, to)| (Pageblock(from), Pageblock(to)));
    assert_eq!(bench.orders[0].2, pairs);
    assert_eq!(report(&bench.quiet()).returned, size(4));
}

#[test]
fn what_could_not_move_is_named_and_may_be_asked_for_again() {
    let mut bench = Bench::new();
    let program = bench.join();
    bench.lease(program, 16);
    bench.give_back(16, NEAR);
    let mut last = Vec::new();
    while !bench.orders.is_empty() {
        last = bench.answer(MoveOutcome::Held(HoldReason::DirectRead));
    }
    let answer = report(&last);
    assert_eq!(holders(&answer), [(pid(program), 16, HoldReason::DirectRead)]);
    assert!(answer.ask_again);
}

#[test]
fn a_lack_of_room_gives_what_room_there_is() {
    let mut bench = Bench::new();
    let program = bench.join();
    bench.lease(program, 48);
    for start in (16..48).step_by(4) {
        bench.release(program, run(start, 2));
    }
    bench.quiet();
    // Half of the far node is free, two pageblocks in each of its eight blocks: four blocks of
    // it can be emptied into the others.
    bench.give_back(32, FAR);
    let answer = report(&bench.quiet());
    assert_eq!(answer.returned, size(16));
    assert_eq!(holders(&answer), [(pid(program), 16, HoldReason::NoRoom)]);
    assert!(!answer.ask_again);
}

#[test]
fn the_deadline_cuts_off_and_repeating_goes_on() {
    let mut bench = Bench::new();
    let program = bench.join();
    bench.lease(program, 16);
    bench.give_back(16, NEAR);
    let (member, id, pairs) = bench.orders.remove(0);
    let outcomes = vec![MoveOutcome::Moved; pairs.len() - 1];
    bench.say(Input::Moved { member, id, outcomes });
    for input in std::mem::take(&mut bench.zero) {
        bench.say(input);
    }
    bench.pass(4);
    let outcomes = vec![MoveOutcome::Moved];
    // Heard of now and then: it responds, but it is not done in time.
    let effects = bench.pass(56);
    let answer = report(&effects);
    assert!(answer.ask_again);
    assert_eq!(answer.returned.0 + answer.remaining.0, answer.requested.0);
    assert_eq!(bench.counts(NEAR).2, 0);
    bench.say(Input::Moved { member, id, outcomes });
    bench.give_back(16 - answer.returned.0 / size(1).0, NEAR);
    assert_eq!(report(&bench.quiet()).remaining, size(0));
    assert_eq!(bench.counts(NEAR), (0, 0, 0, 16));
}

#[test]
fn a_process_that_does_not_answer_is_a_holder() {
    let mut bench = Bench::new();
    let program = bench.join();
    bench.lease(program, 4);
    bench.give_back(16, NEAR);
    let stall = bench.engine.next_deadline().unwrap();
    assert_eq!(stall.0, Duration::from_secs(5));
    let answer = report(&bench.pass(5));
    assert_eq!(holders(&answer), [(pid(program), 4, HoldReason::NotResponding)]);
    assert!(answer.ask_again);
    // It does answer at last, and all is well.
    bench.quiet();
    assert_eq!(report(&bench.give_back(4, NEAR)).remaining, size(0));
}

#[test]
fn two_give_backs_run_side_by_side() {
    let mut bench = Bench::new();
    let program = bench.join();
    bench.lease(program, 16);
    bench.give_back(4, NEAR);
    let other = memtide_units::RequestId(77);
    let (bytes, deadline) = (size(4), Duration::from_secs(60));
    let again = |request| Input::GiveBack { request, bytes, from: Some(NEAR), deadline };
    assert_eq!(bench.refused(again(REQUEST)), Refusal::RequestTaken { request: REQUEST });
    bench.say(again(other));
    let effects = bench.quiet();
    let whole = |effect: &&Effect| matches!(effect, Effect::Answer { report, .. } if report.remaining.0 == 0);
    assert_eq!(effects.iter().filter(whole).count(), 2);
    assert_eq!(bench.counts(NEAR), (0, 8, 0, 8));
}

#[test]
fn nonsense_is_refused() {
    let mut bench = Bench::new();
    let node = memtide_units::NodeId(5);
    let deadline = Duration::MAX;
    let request = REQUEST;
    let give_back = |bytes, from| Input::GiveBack { request, bytes, from, deadline };
    assert_eq!(bench.refused(give_back(ByteSize(0), None)), Refusal::NoBytes);
    assert_eq!(bench.refused(give_back(size(1), Some(node))), Refusal::NoSuchNode { node });
    assert_eq!(
        bench.refused(Input::Add { bytes: size(1), to: node, zone: None }),
        Refusal::NoSuchNode { node }
    );
    let answer = report(&bench.say(give_back(ByteSize(u64::MAX), Some(FAR))));
    assert_eq!(answer.requested.0, answer.returned.0 + answer.remaining.0);
}
