//! Thousands of random steps of a random world. A failure prints its seed and the shortest list
//! of operations that still fails; `MEMTIDE_TRACE=1` prints what goes into the engine and out.

mod model;

use std::time::Duration;

use memtide_engine::tenant::OnDepletion;
use model::{Op, Setup, World};
use proptest::{
    collection::vec,
    prelude::*,
    strategy::ValueTree,
    test_runner::{FileFailurePersistence, TestRunner},
};

fn op() -> impl Strategy<Value = Op> {
    let n = any::<u8>;
    prop_oneof![
        3 => n().prop_map(|who| Op::Join { who }),
        4 => n().prop_map(|child| Op::JoinChild { child }),
        1 => (n(), n()).prop_map(|(process, moves_done)| Op::Left { process, moves_done }),
        4 => n().prop_map(|process| Op::Return { process }),
        4 => n().prop_map(|process| Op::Die { process }),
        3 => (n(), any::<i8>()).prop_map(|(process, by)| Op::Commit { process, by }),
        12 => (n(), n(), n(), n()).prop_map(|(process, count, after, policy)| {
            Op::Lease { process, count, after, policy: if after % 2 == 0 { 0 } else { policy } }
        }),
        1 => (n(), n()).prop_map(|(process, policy)| Op::SetPolicy { process, policy }),
        8 => (n(), n(), n())
            .prop_map(|(process, which, count)| Op::Release { process, which, count }),
        5 => (n(), n(), n(), n(), prop::bool::weighted(0.6)).prop_map(
            |(process, which, count, reason, unpin)| {
                Op::Pin { process, which, count, reason, unpin }
            }
        ),
        4 => n().prop_map(|process| Op::Fork { process }),
        20 => (n(), n(), n())
            .prop_map(|(process, count, outcomes)| Op::Answer { process, count, outcomes }),
        12 => (n(), n()).prop_map(|(process, count)| Op::Thaw { process, count }),
        14 => n().prop_map(|count| Op::Zero { count }),
        6 => (any::<u16>(), n(), 0..2000u16).prop_map(|(megabytes, from, deadline_ms)| {
            Op::GiveBack { megabytes, from, deadline_ms }
        }),
        4 => (any::<u16>(), n(), n())
            .prop_map(|(megabytes, to, zone)| Op::Add { megabytes, to, zone }),
        3 => (n(), n(), any::<u16>(), 0..2000u16).prop_map(
            |(process, to, megabytes, deadline_ms)| {
                Op::MoveTo { process, to, megabytes, deadline_ms }
            }
        ),
        6 => (0..60u8).prop_map(|ms| Op::Pass { ms }),
        1 => any::<u16>().prop_map(|which| Op::Poison { which }),
        1 => (n(), n(), n()).prop_map(|(node, block, count)| Op::Lost { node, block, count }),
        8 => n().prop_map(|process| Op::Hear { process }),
        4 => (n(), n(), n()).prop_map(|(node, block, count)| Op::Online { node, block, count }),
        2 => (n(), n(), n(), 0..2000u16).prop_map(|(node, block, count, deadline_ms)| {
            Op::GiveBackExtents { node, block, count, deadline_ms }
        }),
        2 => (n(), 0..200u16)
            .prop_map(|(node, deadline_ms)| Op::Evacuate { node, deadline_ms }),
        1 => Just(Op::Driver),
        6 => (n(), n(), n())
            .prop_map(|(process, which, count)| Op::Accessed { process, which, count }),
        2 => (n(), n(), n(), n(), 0..2000u16).prop_map(
            |(process, which, count, to, deadline_ms)| {
                Op::Mbind { process, which, count, to, deadline_ms }
            }
        ),
        8 => (n(), n(), n(), vec((0..1200u16, n()), 0..6))
            .prop_map(|(kind, a, b, extents)| Op::Nonsense { kind, a, b, extents }),
    ]
}

/// Mostly quiet, with a daemon that is killed now and then.
fn op_with_restarts() -> impl Strategy<Value = Op> {
    prop_oneof![60 => op(), 1 => Just(Op::Restart), 20 => any::<u8>().prop_map(|process| {
        Op::Return { process }
    })]
}

/// Nothing that takes or moves capacity.
fn op_that_only_lends() -> impl Strategy<Value = Op> {
    op().prop_filter("it changes what is free", |op| {
        !matches!(op, Op::GiveBack { .. } | Op::MoveTo { .. } | Op::Return { .. })
    })
}

fn setup() -> impl Strategy<Value = Setup> {
    let wait = Duration::from_millis(30);
    prop_oneof![
        1 => Just(Setup::One(OnDepletion::Fail)),
        1 => Just(Setup::One(OnDepletion::FallBack)),
        1 => Just(Setup::One(OnDepletion::Wait(wait))),
        3 => Just(Setup::Several),
    ]
}

fn run(ops: &[Op], setup: Setup) -> World {
    let mut world = World::new(setup);
    for op in ops {
        world.run(op);
    }
    world.finish();
    world
}

/// A random world is worth something only if everything happens in it.
#[test]
fn everything_happens_in_a_random_world() {
    let mut runner = TestRunner::deterministic();
    let ops = vec(op(), 20_000).new_tree(&mut runner).unwrap().current();
    let marks = run(&ops, Setup::Several).marks;
    println!("{marks:#?}");
    let happens = [
        "Grant",
        "Move",
        "Thaw",
        "Zero",
        "ImageGone",
        "ForgetToken",
        "Offlined",
        "Onlined",
        "Progress",
        "Answer",
        "Poisoned",
        "Lost",
        "SaveDevice",
        "RestoreDevice",
        "device-state",
        "whole",
        "part",
        "nothing",
        "Moved",
        "Gone",
        "memory-lock",
        "direct-read",
        "map-count",
        "shared-with-child",
        "inherited",
        "moving",
        "no-room",
        "not-responding",
        "no-migration",
        "pin-limit",
        "pin-in-zone",
        "never moves",
        "promised",
        "not promised",
        "Placed",
        "FellBack",
        "Emergency",
        "Refused",
        "TimedOut",
    ];
    for what in happens {
        assert!(marks.get(what).is_some_and(|&count| count > 0), "{what}: {:?}", marks.get(what));
    }
}

proptest! {
    #![proptest_config(ProptestConfig { max_shrink_iters: 4000,
        failure_persistence: Some(Box::new(FileFailurePersistence::WithSource("regressions"))),
        ..Default::default()
    })]

    #[test]
    fn a_random_world_keeps_every_rule(
        ops in vec(op(), 1..3000),
        setup in setup(),
    ) {
        run(&ops, setup);
    }

    #[test]
    fn whoever_is_guaranteed_something_gets_it(
        ops in vec(op_that_only_lends(), 1..2000),
    ) {
        run(&ops, Setup::Several);
    }

    #[test]
    fn a_daemon_that_is_killed_now_and_then_keeps_every_rule(
        ops in vec(op_with_restarts(), 1..2000),
        several in any::<bool>(),
    ) {
        run(&ops, if several { Setup::Several } else { Setup::One(OnDepletion::FallBack) });
    }
}
