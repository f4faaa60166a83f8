//! Leases, promises, pins, deaths.

use memtide_engine::{Effect, Input, Refusal, tenant::OnDepletion};
use memtide_units::{HoldReason, Pageblock, TokenId};

use crate::bench::{Bench, FAR, NEAR, config, run};

#[test]
fn near_memory_goes_first_and_extents_never_cross_nodes() {
    let mut bench = Bench::new();
    let program = bench.join();
    assert_eq!(bench.lease(program, 20), [run(0, 16), run(16, 4)].concat());
    assert_eq!(bench.lease(program, 100), run(20, 28));
    assert_eq!(bench.lease(program, 1), []);
}

#[test]
fn a_lease_follows_its_hint_on_the_node_that_is_next() {
    let mut bench = Bench::new();
    let program = bench.join();
    let after = Some(Pageblock(6));
    let effects = bench.say(Input::Lease { member: program.member, count: 2, after, policy: None });
    let extents = run(7, 2);
    assert_eq!(effects, [Effect::Grant { member: program.member, extents }]);
    // Near has room: the hint does not draw the lease to the far node.
    let after = Some(Pageblock(20));
    let effects = bench.say(Input::Lease { member: program.member, count: 1, after, policy: None });
    assert!(matches!(&effects[..], [Effect::Grant { extents, .. }] if extents[0].start.0 < 16));
}

#[test]
fn leases_that_make_no_sense_are_refused() {
    let mut bench = Bench::new();
    let member = bench.join().member;
    let lease = |count, after| Input::Lease { member, count, after, policy: None };
    assert_eq!(bench.refused(lease(0, None)), Refusal::NoPageblocks);
    let pageblock = Pageblock(48);
    assert_eq!(bench.refused(lease(1, Some(pageblock))), Refusal::NoSuchPageblock { pageblock });
}

#[test]
fn what_is_released_is_free_only_when_zeroed() {
    let mut bench = Bench::new();
    let program = bench.join();
    bench.lease(program, 4);
    let image = bench.engine.image_of(program.member).unwrap();
    let effects = bench.release(program, run(1, 2));
    assert_eq!(effects, [Effect::Zero { image, extents: run(1, 2) }]);
    assert_eq!(bench.counts(NEAR), (12, 4, 0, 0));
    bench.say(Input::Zeroed { image, extents: run(1, 1) });
    assert_eq!(bench.counts(NEAR), (13, 3, 0, 0));
    let pageblock = Pageblock(1);
    let twice = Input::Zeroed { image, extents: run(1, 1) };
    assert_eq!(bench.refused(twice), Refusal::NotZeroing { image, pageblock });
}

#[test]
fn only_holders_speak_of_a_pageblock() {
    let mut bench = Bench::new();
    let (one, other) = (bench.join(), bench.join());
    bench.lease(one, 4);
    let (member, extents) = (other.member, run(3, 1));
    let not_held = Refusal::NotHeld { member, pageblock: Pageblock(3) };
    let reason = HoldReason::IoUring;
    for input in [
        Input::Release { member, extents: extents.clone() },
        Input::Pin { member, extents: extents.clone(), reason },
        Input::Unpin { member, extents: extents.clone(), reason },
        Input::Thawed { member, extents: extents.clone() },
    ] {
        assert_eq!(bench.refused(input), not_held);
    }
    let twice = Input::Release { member: one.member, extents: [run(0, 2), run(1, 1)].concat() };
    assert_eq!(bench.refused(twice), Refusal::NamedTwice { pageblock: Pageblock(1) });
    // Not facts, or facts that the engine knows better.
    for reason in [HoldReason::Moving, HoldReason::SharedWithChild, HoldReason::Inherited] {
        let extents = extents.clone();
        let pin = Input::Pin { member: one.member, extents: extents.clone(), reason };
        assert_eq!(bench.refused(pin), Refusal::NotAPin { reason });
        let unpin = Input::Unpin { member: one.member, extents, reason };
        assert_eq!(bench.refused(unpin), Refusal::NotAPin { reason });
    }
}

#[test]
fn promises_beyond_the_pool_are_refused_or_not() {
    for on_depletion in [OnDepletion::Fail, OnDepletion::FallBack] {
        let mut bench = Bench::with({
            let mut config = config();
            config.tenants[0].on_depletion = on_depletion;
            config
        });
        let (one, other) = (bench.join(), bench.join());
        bench.lease(one, 20);
        assert!(bench.commit(one, 10));
        // What is leased counts, whether promised or not.
        assert!(bench.commit(other, 28));
        assert_eq!(bench.commit(other, 1), on_depletion == OnDepletion::FallBack);
        let member = one.member;
        let less = Input::Commit { member, by: -11 };
        let refusal = Refusal::CommitUnderflow { member, by: 11, committed: 10 };
        assert_eq!(bench.refused(less), refusal);
        assert!(!bench.commit(one, i64::MAX) || on_depletion == OnDepletion::FallBack);
        assert!(!bench.commit(one, i64::MAX) || on_depletion == OnDepletion::FallBack);
        assert!(!bench.commit(one, i64::MAX));
    }
}

#[test]
fn memory_outlives_the_connection_but_not_the_token() {
    let mut bench = Bench::new();
    let program = bench.join();
    let image = bench.engine.image_of(program.member).unwrap();
    bench.lease(program, 4);
    assert_eq!(bench.say(Input::Left { member: program.member }), []);
    assert_eq!(bench.counts(NEAR), (12, 4, 0, 0));
    let member = program.member;
    let lease = Input::Lease { member, count: 1, after: None, policy: None };
    assert_eq!(bench.refused(lease), Refusal::NotConnected { member });
    let effects = bench.say(Input::TokenGone { token: program.token });
    assert_eq!(effects, [Effect::Zero { image, extents: run(0, 4) }]);
    let effects = bench.quiet();
    assert_eq!(effects, [Effect::ImageGone { image }]);
    assert_eq!(bench.counts(NEAR), (16, 0, 0, 0));
    assert_eq!(bench.counts(FAR), (32, 0, 0, 0));
}

#[test]
fn a_token_that_is_gone_means_death_even_while_connected() {
    let mut bench = Bench::new();
    let program = bench.join();
    bench.lease(program, 1);
    bench.say(Input::TokenGone { token: program.token });
    let member = program.member;
    assert_eq!(bench.refused(Input::Left { member }), Refusal::NoSuchMember { member });
    let token = TokenId(1);
    assert_eq!(bench.refused(Input::TokenGone { token }), Refusal::NoSuchToken { token });
}

#[test]
fn who_leaves_with_nothing_is_forgotten() {
    let mut bench = Bench::new();
    let program = bench.join();
    let image = bench.engine.image_of(program.member).unwrap();
    let effects = bench.say(Input::Left { member: program.member });
    let token = program.token;
    assert_eq!(effects, [Effect::ForgetToken { token }, Effect::ImageGone { image }]);
}
