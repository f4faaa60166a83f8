//! An engine that takes over from an earlier one.

use memtide_engine::{
    Awaited, Claims, Config, ConfigError, Effect, Engine, Input, Lineage, Refusal,
};
use memtide_units::{Extent, ImageId, Instant, MemberId, Pageblock, TokenId};
use std::time::Duration;

use crate::bench::{Bench, FAR, NEAR, Program, config, run, size};

const PARENT: Program = Program { member: MemberId(1), token: TokenId(11) };
const CHILD: Program = Program { member: MemberId(2), token: TokenId(12) };
const TENANT: ImageId = ImageId(5);

fn awaiting(members: &[MemberId]) -> Config {
    let mut config = config();
    let until = Instant(Duration::from_secs(30));
    config.awaited = Awaited { members: members.to_vec(), until };
    config.next_image = ImageId(6);
    config
}

fn claims(program: Program, leased: Vec<Extent>, shared: Vec<Extent>) -> Lineage {
    let member = program.member;
    let children = Vec::new();
    Lineage::Returning(Claims { member, image: TENANT, leased, shared, children, committed: 3 })
}

#[test]
fn leases_wait_until_all_have_returned() {
    let mut bench = Bench::with(awaiting(&[PARENT.member]));
    let new = bench.join();
    assert_eq!(
        bench.say(Input::Lease { member: new.member, count: 2, after: None, policy: None }),
        []
    );
    assert_eq!(bench.engine.awaiting(), 1);
    let effects = bench.say(bench.joining(PARENT, claims(PARENT, run(0, 3), Vec::new())));
    assert_eq!(effects, [Effect::Grant { member: new.member, extents: run(3, 2) }]);
    assert_eq!(bench.engine.awaiting(), 0);
    assert_eq!(bench.engine.image_of(new.member), Some(ImageId(6)));
    assert_eq!(bench.engine.image_of(PARENT.member), Some(TENANT));
    assert_eq!(bench.engine.held_by(TENANT, NEAR), run(0, 3));
    let status = bench.engine.member_status();
    assert_eq!(status[0].committed, size(3));
}

#[test]
fn who_is_gone_or_late_is_not_waited_for() {
    let mut bench = Bench::with(awaiting(&[PARENT.member, CHILD.member]));
    let new = bench.join();
    bench.say(Input::Lease { member: new.member, count: 1, after: None, policy: None });
    assert_eq!(bench.say(Input::AwaitedGone { member: PARENT.member }), []);
    let member = PARENT.member;
    assert_eq!(bench.refused(Input::AwaitedGone { member }), Refusal::NotAwaited { member });
    assert_eq!(bench.engine.next_deadline(), Some(Instant(Duration::from_secs(30))));
    assert!(matches!(bench.pass(30)[..], [Effect::Grant { .. }]));
}

#[test]
fn a_give_back_waits_too() {
    let mut bench = Bench::with(awaiting(&[PARENT.member]));
    assert_eq!(bench.give_back(16, NEAR), []);
    let effects = bench.say(bench.joining(PARENT, claims(PARENT, run(0, 1), Vec::new())));
    assert!(effects.contains(&Effect::Offlined { node: NEAR, extents: run(4, 12) }));
}

#[test]
fn parent_and_child_return_in_either_order() {
    for parent_first in [true, false] {
        let mut bench = Bench::with(awaiting(&[PARENT.member, CHILD.member]));
        let parent = Lineage::Returning(Claims {
            member: PARENT.member,
            image: TENANT,
            leased: run(8, 1),
            shared: run(0, 4),
            children: vec![CHILD.token],
            committed: 0,
        });
        let child = claims(CHILD, run(9, 1), run(0, 2));
        let mut joins = [bench.joining(PARENT, parent), bench.joining(CHILD, child)];
        if !parent_first {
            joins.reverse();
        }
        let [first, second] = joins;
        assert_eq!(bench.say(first), []);
        // Now all are back: what the child does not share after all is the parent's alone.
        let effects = bench.say(second);
        assert_eq!(effects, [Effect::Thaw { member: PARENT.member, extents: run(2, 2) }]);
        let effects = bench.say(Input::TokenGone { token: CHILD.token });
        let thaw = Effect::Thaw { member: PARENT.member, extents: run(0, 2) };
        assert!(effects.contains(&thaw));
    }
}

/// A program that was there before says what it has.
fn returns(bench: &Bench, program: Program, leased: Vec<Extent>, committed: u64) -> Input {
    let image = bench.engine.image_of(program.member).unwrap_or(TENANT);
    let (member, shared, children) = (program.member, Vec::new(), Vec::new());
    let claims = Claims { member, image, leased, shared, children, committed };
    bench.joining(program, Lineage::Returning(claims))
}

#[test]
fn who_returns_to_the_same_engine_has_no_more_than_the_books_say() {
    let mut bench = Bench::new();
    let program = bench.join();
    assert_eq!(bench.lease(program, 3), run(0, 3));
    bench.say(Input::Poison { pageblock: Pageblock(2) });
    bench.say(Input::Left { member: program.member });
    let member = program.member;
    let refusal = |n| Refusal::NotHeld { member, pageblock: Pageblock(n) };
    assert_eq!(bench.refused(returns(&bench, program, run(0, 48), 0)), refusal(3));
    assert_eq!(bench.refused(returns(&bench, program, run(30, 1), 0)), refusal(30));
    // It never heard of the second, and the third is lost to it.
    bench.say(returns(&bench, program, [run(0, 1), run(2, 1)].concat(), 0));
    assert_eq!(bench.zero.len(), 1);
    assert_eq!(bench.counts(NEAR).1, 2);
    // A stranger has nothing, also while others are awaited.
    for mut bench in [Bench::new(), Bench::with(awaiting(&[CHILD.member]))] {
        let (member, pageblock) = (PARENT.member, Pageblock(5));
        let join = returns(&bench, PARENT, run(5, 1), 0);
        assert_eq!(bench.refused(join), Refusal::NotHeld { member, pageblock });
        bench.say(returns(&bench, PARENT, Vec::new(), 0));
    }
}

#[test]
fn a_promise_that_cannot_have_been_given_is_not_kept() {
    // Nobody was promised that much, and the next gets a promise all the same.
    let mut bench = Bench::new();
    let (program, other) = (bench.join(), bench.join());
    bench.lease(program, 1);
    assert!(bench.commit(program, 2) && bench.commit(other, 40));
    bench.say(Input::Left { member: program.member });
    bench.say(returns(&bench, program, run(0, 1), u64::MAX));
    let committed = |bench: &Bench| bench.engine.member_status()[0].committed;
    assert_eq!(committed(&bench), size(2));
    assert!(bench.commit(other, 6));
    assert!(!bench.commit(program, 1));
    // It may give up what it thinks it has, and no more.
    let member = program.member;
    bench.say(Input::Commit { member, by: -i64::MAX });
    assert_eq!(committed(&bench), size(2));
    bench.say(Input::Commit { member, by: -i64::MAX });
    let refusal = Refusal::CommitUnderflow { member, by: 2, committed: 1 };
    assert_eq!(bench.refused(Input::Commit { member, by: -2 }), refusal);
    assert_eq!(committed(&bench), size(1));
    // What fits is promised.
    bench.say(Input::Commit { member: other.member, by: -10 });
    bench.say(Input::Left { member });
    bench.say(returns(&bench, program, run(0, 1), 9));
    assert_eq!(committed(&bench), size(9));
    // Of who is awaited it is not known: as much as it could have.
    let mut bench = Bench::with(awaiting(&[PARENT.member]));
    bench.say(returns(&bench, PARENT, run(0, 1), 500));
    assert_eq!(committed(&bench), size(48));
}

#[test]
fn promises_wait_until_all_have_returned() {
    let mut bench = Bench::with(awaiting(&[PARENT.member, CHILD.member]));
    bench.say(returns(&bench, PARENT, run(0, 1), 10));
    let member = PARENT.member;
    assert_eq!(bench.say(Input::Commit { member, by: 20 }), []);
    let effects = bench.say(returns(&bench, CHILD, Vec::new(), 30));
    assert_eq!(effects, [Effect::Promise { member, granted: false }]);
}

/// Found by the random world: it was zeroed although the child, not yet back, mapped it.
#[test]
fn what_a_sibling_may_share_is_not_zeroed_before_it_has_returned() {
    let mut bench = Bench::with(awaiting(&[PARENT.member, CHILD.member]));
    bench.say(bench.joining(PARENT, claims(PARENT, run(8, 1), run(0, 4))));
    let effects = bench.say(Input::TokenGone { token: PARENT.token });
    assert_eq!(effects, [Effect::Zero { image: TENANT, extents: run(8, 1) }]);
    let effects = bench.say(bench.joining(CHILD, claims(CHILD, Vec::new(), run(0, 2))));
    let thaw = Effect::Thaw { member: CHILD.member, extents: run(0, 2) };
    assert_eq!(effects, [thaw, Effect::Zero { image: TENANT, extents: run(2, 2) }]);
}

#[test]
fn claims_that_contradict_others_are_refused() {
    let mut bench = Bench::with({
        let mut config = awaiting(&[PARENT.member, CHILD.member]);
        config.nodes[1].offline = run(20, 4);
        config
    });
    bench.say(bench.joining(PARENT, claims(PARENT, run(0, 4), run(4, 4))));
    let mut refused = |leased, shared| {
        let join = bench.joining(CHILD, claims(CHILD, leased, shared));
        bench.refused(join)
    };
    let conflict =
        |n| Refusal::ClaimConflict { pageblock: Pageblock(n), image: TENANT, by: TENANT };
    assert_eq!(refused(run(3, 1), vec![]), conflict(3));
    assert_eq!(refused(vec![], run(3, 1)), conflict(3));
    assert_eq!(refused(run(7, 1), vec![]), conflict(7));
    let pageblock = Pageblock(48);
    assert_eq!(refused(run(40, u32::MAX), vec![]), Refusal::NoSuchPageblock { pageblock });
    assert_eq!(refused(run(9, 1), run(9, 1)), Refusal::NamedTwice { pageblock: Pageblock(9) });
    assert_eq!(bench.counts(FAR), (28, 0, 0, 4));
}

#[test]
fn configurations_that_make_no_sense_are_refused() {
    let refused = |change: fn(&mut Config)| {
        let mut config = config();
        change(&mut config);
        Engine::new(config).unwrap_err()
    };
    assert_eq!(refused(|c| c.nodes.clear()), ConfigError::NoNodes);
    assert_eq!(refused(|c| c.nodes[1].node = NEAR), ConfigError::NodeTwice { node: NEAR });
    assert!(matches!(
        refused(|c| c.nodes[1].pageblocks = 30),
        ConfigError::Layout { node: FAR, .. }
    ));
    let first = Pageblock(15);
    let overlap = ConfigError::Overlap { node: FAR, first, other: NEAR };
    assert_eq!(refused(|c| c.nodes[1].first = Pageblock(15)), overlap);
    assert_eq!(refused(|c| c.placement = vec![NEAR, NEAR]), ConfigError::Placement { node: NEAR });
    let extent = Extent::new(Pageblock(2), 4);
    let offline = ConfigError::Offline { node: NEAR, extent };
    assert_eq!(refused(|c| c.nodes[0].offline = run(2, 4)), offline);
    assert!(matches!(
        refused(|c| c.limits.pairs_in_flight_max = 3),
        ConfigError::Limit { limit: "pairs_in_flight_max", value: 3, least: 32 }
    ));
}
