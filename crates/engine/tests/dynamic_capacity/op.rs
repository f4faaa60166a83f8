//! What may happen, at random.

use proptest::{collection::vec, prelude::*};

use crate::PAGE;

#[derive(Clone, Debug)]
pub enum Op {
    Add { device: u8, start: u64, pages: u64, skew: u64, tag: u8, sequence: u16, more: bool },
    Again { device: u8, which: u8, more: bool },
    InPieces { device: u8 },
    Answer { device: u8, taken: bool },
    Release { device: u8, start: u64, pages: u64, tag: u8, more: bool },
    ReleaseHeld { device: u8, which: u8, more: bool },
    Force { device: u8, which: u8, skip: u64, pages: u64 },
    Reclaimed { device: u8, free: Vec<bool> },
    Freed { device: u8 },
    Pass { seconds: u64 },
}

pub fn op() -> impl Strategy<Value = Op> {
    let d = || 0..2u8;
    let n = any::<u8>;
    let sequence = prop_oneof![6 => Just(0u16), 4 => 0..4u16];
    let skew = prop_oneof![12 => Just(0u64), 1 => 1..PAGE];
    let more = || prop::bool::weighted(0.4);
    prop_oneof![
        20 => (d(), 0..260u64, 1..6u64, skew, 0..4u8, sequence, more()).prop_map(
            |(device, start, pages, skew, tag, sequence, more)| {
                Op::Add { device, start, pages, skew, tag, sequence, more }
            }
        ),
        2 => (d(), n(), more()).prop_map(|(device, which, more)| Op::Again { device, which, more }),
        8 => d().prop_map(|device| Op::InPieces { device }),
        16 => (d(), prop::bool::weighted(0.8))
            .prop_map(|(device, taken)| Op::Answer { device, taken }),
        2 => (d(), 0..260u64, 0..4u64, 0..4u8, more()).prop_map(
            |(device, start, pages, tag, more)| Op::Release { device, start, pages, tag, more }
        ),
        8 => (d(), n(), more())
            .prop_map(|(device, which, more)| Op::ReleaseHeld { device, which, more }),
        2 => (d(), n(), 0..4u64, 1..3u64)
            .prop_map(|(device, which, skip, pages)| Op::Force { device, which, skip, pages }),
        8 => (d(), vec(any::<bool>(), 1..8))
            .prop_map(|(device, free)| Op::Reclaimed { device, free }),
        2 => d().prop_map(|device| Op::Freed { device }),
        3 => (0..15u64).prop_map(|seconds| Op::Pass { seconds }),
    ]
}
