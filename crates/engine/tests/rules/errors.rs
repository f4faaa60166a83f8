//! Bad memory, and memory that is gone.

use memtide_engine::{Claims, Effect, Input, Lineage, MoveOutcome, Refusal};
use memtide_units::{HoldReason, Pageblock};

use crate::bench::{Bench, FAR, NEAR, Program, holders, report, run, size};

fn poison(bench: &mut Bench, at: u64) -> Vec<Effect> {
    bench.say(Input::Poison { pageblock: Pageblock(at) })
}

fn lose(bench: &mut Bench, start: u64, count: u32) -> Vec<Effect> {
    bench.say(Input::Lost { extents: run(start, count) })
}

fn let_go(bench: &mut Bench, program: Program, start: u64, count: u32) -> Vec<Effect> {
    bench.say(Input::LetGo { member: program.member, extents: run(start, count) })
}

fn retired(bench: &Bench, node: memtide_units::NodeId) -> u64 {
    let status = bench.engine.node_status();
    status.iter().find(|status| status.node == node).unwrap().retired.pageblocks_ceil()
}

#[test]
fn a_bad_pageblock_that_is_free_is_never_handed_out() {
    let mut bench = Bench::new();
    assert_eq!(poison(&mut bench, 1), []);
    assert_eq!(poison(&mut bench, 1), [], "said twice");
    assert_eq!((bench.counts(NEAR), retired(&bench, NEAR)), ((15, 0, 0, 0), 1));
    let program = bench.join();
    let granted = bench.lease(program, 47);
    assert!(!granted.iter().any(|extent| extent.iter().any(|at| at == Pageblock(1))));
    assert_eq!(bench.engine.retired(NEAR), run(1, 1));
    let pageblock = Pageblock(48);
    let refusal = bench.refused(Input::Poison { pageblock });
    assert_eq!(refusal, Refusal::NoSuchPageblock { pageblock });
}

#[test]
fn the_owner_of_a_bad_pageblock_is_told_and_it_is_not_even_zeroed() {
    let mut bench = Bench::new();
    let program = bench.join();
    bench.lease(program, 4);
    let member = program.member;
    let effects = poison(&mut bench, 2);
    assert_eq!(effects, [Effect::Poisoned { member, extents: run(2, 1) }]);
    assert_eq!((bench.counts(NEAR), retired(&bench, NEAR)), ((12, 3, 0, 0), 1));
    // What it said before it heard is void, not wrong.
    bench.pin(program, run(1, 2));
    assert!(bench.release(program, run(2, 1)).is_empty());
    assert_eq!(let_go(&mut bench, program, 2, 1), []);
    let pageblock = Pageblock(2);
    let refusal = bench.refused(Input::LetGo { member, extents: run(2, 1) });
    assert_eq!(refusal, Refusal::NotLost { member, pageblock });
    let refusal = bench.refused(Input::Release { member, extents: run(2, 1) });
    assert_eq!(refusal, Refusal::NotHeld { member, pageblock });
}

#[test]
fn all_who_share_a_bad_pageblock_are_told_a_child_when_it_joins() {
    let mut bench = Bench::new();
    let parent = bench.join();
    bench.lease(parent, 2);
    let child = bench.fork(parent);
    let effects = poison(&mut bench, 0);
    assert_eq!(effects, [Effect::Poisoned { member: parent.member, extents: run(0, 1) }]);
    // Forked before the parent has heard: it maps it, too.
    let other = bench.fork(parent);
    for child in [child, other] {
        let effects = bench.say(bench.joining(child, Lineage::Child(child.token)));
        assert_eq!(effects[0], Effect::Poisoned { member: child.member, extents: run(0, 1) });
        let_go(&mut bench, child, 0, 1);
    }
    let_go(&mut bench, parent, 0, 1);
    let last = bench.fork(parent);
    let effects = bench.say(bench.joining(last, Lineage::Child(last.token)));
    assert_eq!(effects, []);
}

#[test]
fn a_bad_pageblock_keeps_no_block_from_leaving_and_is_bad_when_it_is_back() {
    let mut bench = Bench::new();
    let program = bench.join();
    bench.lease(program, 16);
    bench.give_back(16, NEAR);
    // In an isolated block, under an order, and away.
    poison(&mut bench, 3);
    let effects = bench.quiet();
    assert_eq!(report(&effects).returned, size(16));
    poison(&mut bench, 4);
    assert_eq!((bench.counts(NEAR), retired(&bench, NEAR)), ((0, 0, 0, 16), 0));
    bench.say(Input::Add { bytes: size(16), to: NEAR, zone: None });
    assert_eq!((bench.counts(NEAR), retired(&bench, NEAR)), ((14, 0, 0, 0), 2));
    assert_eq!(bench.engine.retired(NEAR), run(3, 2));
}

#[test]
fn what_is_being_zeroed_and_turns_out_bad_needs_no_zeroing() {
    let mut bench = Bench::new();
    let program = bench.join();
    let image = bench.engine.image_of(program.member).unwrap();
    bench.lease(program, 1);
    bench.release(program, run(0, 1));
    poison(&mut bench, 0);
    assert_eq!((bench.counts(NEAR), retired(&bench, NEAR)), ((15, 0, 0, 0), 1));
    // The store is done all the same.
    bench.quiet();
    let pageblock = Pageblock(0);
    let refusal = bench.refused(Input::Zeroed { image, extents: run(0, 1) });
    assert_eq!(refusal, Refusal::NotZeroing { image, pageblock });
}

/// The four ways in which an order to move one pageblock can end when one of its ends is bad.
#[test]
fn an_order_with_a_bad_end_is_settled_by_its_answer() {
    for (bad, outcome, near, far) in [
        // The copy was complete: nothing is lost.
        (0, MoveOutcome::Moved, 0, 1),
        (0, MoveOutcome::Gone, 0, 0),
        // The content went to where it was lost.
        (16, MoveOutcome::Moved, 0, 0),
        (16, MoveOutcome::Held(HoldReason::MoveFailed), 1, 0),
    ] {
        let mut bench = Bench::new();
        let program = bench.join();
        bench.lease(program, 1);
        let member = program.member;
        let deadline = std::time::Duration::from_secs(60);
        let request = crate::bench::REQUEST;
        let input = Input::MoveTo { request, member, to: FAR, bytes: None, deadline };
        bench.say(input);
        let effects = poison(&mut bench, bad);
        assert_eq!(effects[0], Effect::Poisoned { member, extents: run(bad, 1) });
        bench.answer(outcome);
        bench.quiet();
        assert_eq!((bench.counts(NEAR).1, bench.counts(FAR).1), (near, far), "{bad} {outcome:?}");
        let_go(&mut bench, program, bad, 1);
    }
}

#[test]
fn lost_blocks_are_offline_at_once_and_nobody_else_notices() {
    let mut bench = Bench::new();
    let (one, other) = (bench.join(), bench.join());
    bench.lease(one, 6);
    bench.lease(other, 4);
    let effects = lose(&mut bench, 0, 8);
    let lost = |program: Program, start, count| Effect::Lost {
        member: program.member,
        extents: run(start, count),
    };
    let offlined = Effect::Offlined { node: NEAR, extents: run(0, 8) };
    assert_eq!(effects, [lost(one, 0, 6), lost(other, 6, 2), offlined]);
    assert_eq!(bench.counts(NEAR), (6, 2, 0, 8));
    assert_eq!(lose(&mut bench, 4, 4), [], "said twice");
    let extent = run(1, 4)[0];
    let refusal = bench.refused(Input::Lost { extents: vec![extent] });
    assert_eq!(refusal, Refusal::NotBlocks { extent, expected: "there" });
}

#[test]
fn lost_blocks_come_back_when_all_have_let_go() {
    let mut bench = Bench::new();
    let program = bench.join();
    bench.lease(program, 3);
    bench.release(program, run(2, 1));
    lose(&mut bench, 0, 4);
    let back = || Input::Online { extents: run(0, 4) };
    let kept = |n| Refusal::NotLetGo { pageblock: Pageblock(n) };
    assert_eq!(bench.refused(back()), kept(0));
    assert_eq!(bench.refused(Input::Add { bytes: size(4), to: NEAR, zone: None }), kept(0));
    let_go(&mut bench, program, 0, 2);
    // The store is at it still: what it says must not be taken for a later zeroing.
    assert_eq!(bench.refused(back()), kept(2));
    bench.quiet();
    let effects = bench.say(back());
    assert_eq!(effects, [Effect::Onlined { node: NEAR, extents: run(0, 4) }]);
    assert_eq!(bench.lease(program, 1), run(0, 1));
}

#[test]
fn a_give_back_has_what_is_lost_and_orders_do_not_keep_it_waiting() {
    let mut bench = Bench::new();
    let program = bench.join();
    bench.lease(program, 16);
    bench.give_back(16, NEAR);
    let effects = lose(&mut bench, 0, 16);
    let answer = report(&effects);
    assert_eq!((answer.returned, answer.remaining), (size(16), size(0)));
    // It had moved none of it; the destinations were never used.
    bench.answer(MoveOutcome::Gone);
    bench.quiet();
    assert_eq!((bench.counts(NEAR), bench.counts(FAR)), ((0, 0, 0, 16), (32, 0, 0, 0)));
}

#[test]
fn lost_destinations_leave_the_sources_where_they_are() {
    let mut bench = Bench::new();
    let program = bench.join();
    bench.lease(program, 16);
    bench.give_back(16, NEAR);
    lose(&mut bench, 16, 32);
    let effects = bench.answer(MoveOutcome::Held(HoldReason::MoveFailed));
    let answer = report(&effects);
    let pid = u32::try_from(program.member.0).unwrap();
    assert_eq!(holders(&answer), [(pid, 16, HoldReason::MoveFailed)]);
    assert_eq!((bench.counts(NEAR), bench.counts(FAR)), ((0, 16, 0, 0), (0, 0, 0, 32)));
}

#[test]
fn who_was_away_is_told_when_it_returns() {
    let mut bench = Bench::new();
    let program = bench.join();
    let image = bench.engine.image_of(program.member).unwrap();
    bench.lease(program, 8);
    bench.say(Input::Left { member: program.member });
    assert!(matches!(lose(&mut bench, 0, 4)[..], [Effect::Offlined { .. }]));
    poison(&mut bench, 5);
    assert_eq!(
        bench.refused(Input::Online { extents: run(0, 4) }),
        Refusal::NotLetGo { pageblock: Pageblock(0) }
    );
    let member = program.member;
    let claims = Claims {
        member,
        image,
        leased: run(1, 7),
        shared: Vec::new(),
        children: Vec::new(),
        committed: 0,
    };
    let effects = bench.say(bench.joining(program, Lineage::Returning(claims)));
    let poisoned = Effect::Poisoned { member, extents: run(5, 1) };
    assert_eq!(effects, [poisoned, Effect::Lost { member, extents: run(1, 3) }]);
    // Of what it did not claim it knows nothing.
    let_go(&mut bench, program, 1, 3);
    bench.say(Input::Online { extents: run(0, 4) });
    assert_eq!(bench.counts(NEAR), (12, 3, 0, 0));
}

#[test]
fn a_program_that_lost_what_it_was_to_thaw_owes_nothing() {
    let mut bench = Bench::new();
    let parent = bench.join();
    bench.lease(parent, 4);
    let child = bench.fork(parent);
    bench.say(Input::TokenGone { token: child.token });
    assert!(bench.engine.next_deadline().is_some());
    lose(&mut bench, 0, 4);
    assert_eq!(bench.engine.next_deadline(), None);
    // It had thawed them before it heard.
    bench.quiet();
    let_go(&mut bench, parent, 0, 4);
}
