//! Sharing after a fork.

use memtide_engine::{Effect, Input, Lineage, MoveOutcome};
use memtide_units::{Extent, HoldReason::SharedWithChild, Pageblock};

use crate::bench::{Bench, FAR, NEAR, Program, holders, report, run, size, unanswered};

fn thaw(program: Program, extents: Vec<Extent>) -> Effect {
    Effect::Thaw { member: program.member, extents }
}

#[test]
fn a_shared_pageblock_stays_and_says_why() {
    let mut bench = Bench::new();
    let parent = bench.join();
    bench.lease(parent, 16);
    let child = bench.fork(parent);
    let answer = report(&bench.give_back(4, NEAR));
    assert_eq!((answer.returned, answer.ask_again), (size(0), false));
    let pid = u32::try_from(parent.member.0).unwrap();
    assert_eq!(holders(&answer), [(pid, 16, SharedWithChild)]);

    let effects = bench.say(Input::TokenGone { token: child.token });
    assert_eq!(effects, [thaw(parent, run(0, 16))]);
    bench.thaw.clear();
    // Thawing: not movable yet, but it will be; the request waits.
    assert!(unanswered(&bench.give_back(4, NEAR)));
    let thawed = Input::Thawed { member: parent.member, extents: run(0, 4) };
    assert!(matches!(bench.say(thawed)[..], [Effect::Move { .. }]));
    assert_eq!(report(&bench.quiet()).returned, size(4));
}

#[test]
fn a_new_fork_voids_a_thaw() {
    let mut bench = Bench::new();
    let parent = bench.join();
    bench.lease(parent, 4);
    let first = bench.fork(parent);
    bench.say(Input::TokenGone { token: first.token });
    let second = bench.fork(parent);
    bench.say(Input::Thawed { member: parent.member, extents: run(0, 4) });
    assert_eq!(holders(&report(&bench.give_back(16, NEAR)))[0].2, SharedWithChild);
    let effects = bench.say(Input::TokenGone { token: second.token });
    assert_eq!(effects, [thaw(parent, run(0, 4))]);
}

#[test]
fn a_child_that_joined_inherits_from_a_parent_that_dies() {
    let mut bench = Bench::new();
    let parent = bench.join();
    bench.lease(parent, 4);
    let child = bench.fork(parent);
    bench.say(bench.joining(child, Lineage::Child(child.token)));
    let image = bench.engine.image_of(child.member);
    assert_eq!(image, bench.engine.image_of(parent.member));
    let effects = bench.say(Input::TokenGone { token: parent.token });
    assert_eq!(effects, [thaw(child, run(0, 4))]);
    let status = bench.engine.member_status();
    assert_eq!((status.len(), &status[0].leased), (1, &vec![(NEAR, size(4))]));
}

#[test]
fn an_unborn_child_is_told_to_thaw_when_it_joins() {
    let mut bench = Bench::new();
    let parent = bench.join();
    bench.lease(parent, 4);
    let child = bench.fork(parent);
    bench.say(Input::Left { member: parent.member });
    assert_eq!(bench.say(Input::TokenGone { token: parent.token }), []);
    let answer = report(&bench.give_back(16, NEAR));
    assert_eq!(answer.returned, size(12));
    assert_eq!(answer.holders[0].reason, memtide_units::HoldReason::Inherited);
    let effects = bench.say(bench.joining(child, Lineage::Child(child.token)));
    assert_eq!(effects, [thaw(child, run(0, 4))]);
}

#[test]
fn grandchildren_share_what_their_parents_share() {
    let mut bench = Bench::new();
    let parent = bench.join();
    bench.lease(parent, 2);
    let child = bench.fork(parent);
    bench.say(bench.joining(child, Lineage::Child(child.token)));
    bench.lease(child, 1);
    let grandchild = bench.fork(child);
    assert_eq!(bench.say(Input::TokenGone { token: parent.token }), []);
    let effects = bench.say(Input::TokenGone { token: grandchild.token });
    assert_eq!(effects, [thaw(child, run(0, 3))]);
}

#[test]
fn a_release_takes_one_stake_only() {
    let mut bench = Bench::new();
    let parent = bench.join();
    bench.lease(parent, 2);
    let child = bench.fork(parent);
    bench.say(bench.joining(child, Lineage::Child(child.token)));
    assert_eq!(bench.release(child, run(0, 1)), [thaw(parent, run(0, 1))]);
    assert_eq!(bench.release(parent, run(1, 1)), [thaw(child, run(1, 1))]);
    assert!(matches!(bench.release(parent, run(0, 1))[..], [Effect::Zero { .. }]));
}

#[test]
fn a_fork_in_the_middle_of_a_move_shares_both_ends_until_the_answer() {
    for outcome in [MoveOutcome::Held(SharedWithChild), MoveOutcome::Moved] {
        let mut bench = Bench::new();
        let parent = bench.join();
        bench.lease(parent, 16);
        bench.release(parent, run(1, 3));
        bench.quiet();
        bench.give_back(4, NEAR);
        assert_eq!(bench.orders[0].2, [(Pageblock(0), Pageblock(16))]);
        let child = bench.fork(parent);
        let effects = bench.answer(outcome);
        let (kept, freed) = match outcome {
            MoveOutcome::Moved => (16, 0),
            _ => (0, 16),
        };
        let image = bench.engine.image_of(parent.member).unwrap();
        assert!(effects.contains(&Effect::Zero { image, extents: run(freed, 1) }));
        bench.quiet();
        let effects = bench.say(Input::TokenGone { token: child.token });
        let [Effect::Thaw { extents, .. }] = &effects[..] else { panic!("{effects:?}") };
        let thawed: Vec<_> = extents.iter().flat_map(|extent| extent.iter()).collect();
        assert_eq!(thawed.len(), 13);
        assert!(thawed.contains(&Pageblock(kept)));
        assert_eq!(bench.counts(FAR).1, u64::from(outcome == MoveOutcome::Moved));
    }
}

/// Found by the random world: the answer freed nothing, but told the dying parent to thaw.
#[test]
fn who_dies_in_the_middle_of_a_move_is_told_nothing() {
    let mut bench = Bench::new();
    let parent = bench.join();
    bench.lease(parent, 16);
    bench.give_back(4, NEAR);
    assert_eq!(bench.orders.len(), 1);
    let child = bench.fork(parent);
    bench.say(Input::TokenGone { token: child.token });
    let effects = bench.say(Input::TokenGone { token: parent.token });
    assert!(matches!(effects[..], [Effect::Zero { .. }]), "{effects:?}");
    bench.orders.clear();
    bench.thaw.clear();
    bench.quiet();
    assert_eq!(bench.counts(FAR), (32, 0, 0, 0));
    assert_eq!(bench.counts(NEAR), (16, 0, 0, 0));
}
