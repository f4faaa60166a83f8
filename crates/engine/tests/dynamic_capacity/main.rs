//! Random records of two devices against a model that is one table of pages. What the model knows
//! of the rules, it knows by another way: page by page, and from the start each time.
//!
//! * `op`: what may happen.
//! * `world`: the model and the host beside it, and that they agree.
//! * `adding`: what is offered, and the device's word on the answer.
//! * `taking`: what is asked back, and what is taken by force.

mod adding;
mod op;
mod taking;
mod world;

use memtide_engine::dynamic_capacity::Splitting;
use proptest::{collection::vec, prelude::*};

use self::{op::op, world::World};

const PAGE: u64 = 2 << 20;
/// Pages in a partition. The first has all, the second only half of what is decoded.
const PARTITION: u64 = 128;
const PENDING_MAX: usize = 6;
const TIMEOUT: u64 = 20;
const NULL: u8 = 0;

fn splitting() -> impl Strategy<Value = Splitting> {
    prop_oneof![Just(Splitting::Group), Just(Splitting::Extent), Just(Splitting::Block)]
}

proptest! {
    #[test]
    fn a_random_fabric_keeps_every_rule(ops in vec(op(), 1..600), splitting in splitting()) {
        let mut world = World::new(splitting);
        for op in &ops {
            world.run(op);
        }
    }
}

/// A random fabric is worth something only if everything happens in it.
#[test]
fn everything_happens_in_a_random_fabric() {
    use proptest::{strategy::ValueTree, test_runner::TestRunner};
    for splitting in [Splitting::Group, Splitting::Extent, Splitting::Block] {
        let mut runner = TestRunner::deterministic();
        let ops = vec(op(), 60_000).new_tree(&mut runner).unwrap().current();
        let mut world = World::new(splitting);
        ops.iter().for_each(|op| world.run(op));
        for what in [
            "accepted",
            "again",
            "rejected but named again",
            "named again by several",
            "asked back",
            "deferred",
            "duplicate",
            "forced",
            "forced in part",
            "late",
            "not released",
            "nothing",
            "overfull",
            "overlap",
            "question",
            "released",
            "surfaced",
            "tag taken",
            "torn",
        ] {
            let count = world.marks.get(what).copied().unwrap_or_default();
            assert!(count > 0, "{what} with {splitting:?}: {:?}", world.marks);
        }
    }
}
