//! Crash images: what a script of operations leaves behind when it is killed before each of its
//! stores, recovered, and compared with a log that was kept outside.

mod nonsense;
mod world;

use std::{vec, vec::Vec};

use proptest::prelude::*;

use self::world::{BLOCKS, Memory, Op, World, new_node, node};
use super::*;
use crate::crash::killed_before;

/// Runs a script until it is killed before its store number `stores`. Returns the image that is
/// left, and what must be true of it; `None` when the script came to its end.
fn crash(script: &[Op], stores: u64) -> (Memory, world::Log, bool) {
    let memory = new_node();
    let frames = Frames::attach(memory.words()).unwrap();
    let mut world = World::new(&frames);
    let killed = killed_before(stores, || script.iter().for_each(|&op| world.step(op)));
    let image = Memory::of(&memory.image());
    (image, world.die(), killed)
}

/// Recovers an image, also after recovery itself was killed, and checks all of it.
fn recovers(image: &Memory, log: &world::Log, kill_recovery: bool) {
    let found = image.image();
    let (frames, recovered) = Frames::recover(image.words()).unwrap();
    log.check(&frames, &recovered);
    let settled = image.image();
    let again = || assert!(Frames::recover(image.words()).is_ok());
    assert!(
        !killed_before(0, again),
        "a node that was recovered is written to by another recovery"
    );

    for stores in 0.. {
        let image = Memory::of(&found);
        let killed = killed_before(stores, || assert!(Frames::recover(image.words()).is_ok()));
        Frames::recover(image.words()).unwrap();
        let differs = image.image().iter().zip(&settled).position(|(is, should)| is != should);
        assert_eq!(differs, None, "word that differs if recovery is killed before store {stores}");
        if !killed || !kill_recovery {
            break;
        }
    }
    log.use_up(&frames);
}

/// Kills a script before each store.
fn survives(script: &[Op]) {
    for stores in 0.. {
        let (image, log, killed) = crash(script, stores);
        recovers(&image, &log, stores % 7 == 0);
        if !killed {
            return;
        }
    }
}

fn order(order: u8) -> Op {
    Op::TakeNumber { cached: order.is_multiple_of(2), order, movability: Movability::Movable }
}

#[test]
fn blocks_that_are_held_survive_a_kill_at_any_store() {
    let mut script: Vec<Op> = (0..=10).map(order).collect();
    script.extend((0..=10).rev().map(|nth| Op::GiveNumber { cached: nth % 3 == 0, nth }));
    survives(&script);
}

#[test]
fn single_frames_survive_a_kill_at_any_store() {
    let take = |_| Op::TakeNumber { cached: true, order: 0, movability: Movability::Movable };
    let mut script: Vec<Op> = (0..70).map(take).collect();
    script.extend((0..70).map(|nth| Op::GiveNumber { cached: nth % 4 != 0, nth: nth * 7 }));
    script.push(Op::Drain);
    survives(&script);
}

#[test]
fn a_number_becomes_a_frame_and_back() {
    let mut script = Vec::new();
    for (nth, order) in [0, 1, 5, 7, 9, 10].into_iter().enumerate() {
        script.extend([
            Op::Take { cached: nth % 2 == 0, order, movability: Movability::Unmovable },
            Op::Hold(0),
            Op::Adopt(0),
            Op::Hold(0),
        ]);
    }
    survives(&script);
}

#[test]
fn splitting_and_merging_beside_what_is_held() {
    let owned = |order| Op::Take { cached: false, order, movability: Movability::Movable };
    let mut script = vec![owned(10)];
    script.extend((0..10).map(|_| Op::Split(usize::MAX)));
    script.extend([Op::Hold(0), Op::Hold(1), Op::Hold(2)]);
    script.extend((0..8).map(|_| Op::Merge));
    script.extend((0..3).map(|_| Op::Adopt(0)));
    script.extend((0..10).map(|_| Op::Merge));
    script.extend([Op::Hold(0), owned(9), Op::Split(0), Op::Merge, Op::Hold(0)]);
    survives(&script);
}

#[test]
fn blocks_come_and_go() {
    let last = BLOCKS - 1;
    survives(&[
        order(3),
        Op::Add { block: last, movable: true },
        order(9),
        Op::Isolate(last),
        Op::Unisolate(last),
        Op::Isolate(last),
        Op::Retire { at: last * node::BLOCK_FRAMES + 77 },
        Op::Exclude { at: last * node::BLOCK_FRAMES + 511, frames: 3 },
        Op::Remove(last),
        Op::Add { block: last, movable: false },
        Op::Isolate(0),
        Op::GiveNumber { cached: false, nth: 0 },
        order(2),
        Op::Unisolate(0),
    ]);
}

#[test]
fn what_is_retired_stays_so() {
    let take = |cached, order| Op::Take { cached, order, movability: Movability::Movable };
    survives(&[
        Op::Retire { at: 1 },
        Op::Retire { at: 2048 },
        order(3),
        order(9),
        take(true, 0),
        take(false, 4),
        // Of the block of eight, of the pageblock, of the frames that die.
        Op::Retire { at: 8 },
        Op::Retire { at: 12 },
        Op::Retire { at: 1024 + 5 },
        Op::Retire { at: 0 },
        Op::Retire { at: 16 },
        Op::GiveNumber { cached: true, nth: 0 },
        Op::GiveNumber { cached: false, nth: 0 },
        Op::Give { cached: true, nth: 0 },
        Op::Give { cached: false, nth: 0 },
    ]);
}

#[test]
fn holes_stay_holes() {
    survives(&[
        order(0),
        Op::Exclude { at: 60, frames: 9 },
        order(1),
        Op::Exclude { at: 3, frames: 1 },
        Op::Retire { at: 3 },
        order(0),
    ]);
    // A whole pageblock and more takes many stores: not before each of them.
    let script = [Op::Exclude { at: 1023, frames: 514 }, order(9)];
    for stores in (0..).step_by(97) {
        let (image, log, killed) = crash(&script, stores);
        recovers(&image, &log, false);
        if !killed {
            return;
        }
    }
}

#[test]
fn a_reservation_dies_with_its_owner() {
    survives(&[
        order(0),
        Op::Reserve { order: 0, count: 600, acquire: 2 },
        Op::Reserve { order: 9, count: 2, acquire: 1 },
        Op::Reserve { order: 10, count: 1, acquire: 1 },
        Op::Hold(0),
        Op::Hold(0),
    ]);
}

fn op() -> impl Strategy<Value = Op> {
    let order = || prop_oneof![3 => Just(0), 4 => 1..9u8, 2 => 9..=10u8];
    let movability = || prop::sample::select(Movability::ALL.to_vec());
    let at = || 0..node::FRAMES;
    let nth = || any::<usize>();
    prop_oneof![
        4 => (any::<bool>(), order(), movability())
            .prop_map(|(cached, order, movability)| Op::Take { cached, order, movability }),
        6 => (any::<bool>(), order(), movability())
            .prop_map(|(cached, order, movability)| Op::TakeNumber { cached, order, movability }),
        3 => (any::<bool>(), nth()).prop_map(|(cached, nth)| Op::Give { cached, nth }),
        4 => (any::<bool>(), nth()).prop_map(|(cached, nth)| Op::GiveNumber { cached, nth }),
        3 => nth().prop_map(Op::Hold),
        3 => nth().prop_map(Op::Adopt),
        3 => nth().prop_map(Op::Split),
        3 => Just(Op::Merge),
        2 => (at(), order()).prop_map(|(at, order)| Op::TakeAt { at, order }),
        2 => at().prop_map(|at| Op::Retire { at }),
        1 => (at(), 1..20u64).prop_map(|(at, frames)| Op::Exclude { at, frames }),
        1 => (0..BLOCKS).prop_map(Op::Isolate),
        1 => (0..BLOCKS).prop_map(Op::Unisolate),
        2 => (0..BLOCKS).prop_map(Op::Remove),
        2 => (0..BLOCKS, any::<bool>()).prop_map(|(block, movable)| Op::Add { block, movable }),
        1 => Just(Op::Drain),
        1 => (order(), 1..30u64, 0..9u64)
            .prop_map(|(order, count, acquire)| Op::Reserve { order, count, acquire }),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1000, ..ProptestConfig::default() })]

    #[test]
    fn random_scripts_survive_random_kills(
        script in prop::collection::vec(op(), 1..60),
        stores in 0..1500u64,
        kill_recovery in prop::bool::weighted(0.05),
    ) {
        let (image, log, _) = crash(&script, stores);
        recovers(&image, &log, kill_recovery);
    }
}
