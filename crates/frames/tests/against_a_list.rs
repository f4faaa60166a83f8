//! Random operations on [`Frames`] and on a plain list of states agree.

use memtide_frames::{BlockState, Frames, PageblockState};
use memtide_units::Pageblock;
use proptest::prelude::*;

const FIRST: u64 = 1000;
const BLOCK: u64 = 8;
const BLOCKS: u64 = 6;

#[derive(Clone, Copy, Debug)]
enum Op {
    Take(u64, Option<u64>),
    Put(u64),
    Claim(u64),
    Block(u64, BlockState),
}

fn op() -> impl Strategy<Value = Op> {
    let at = || FIRST..FIRST + BLOCK * BLOCKS;
    let state = prop_oneof![
        Just(BlockState::Offline),
        Just(BlockState::Online),
        Just(BlockState::Isolated)
    ];
    prop_oneof![
        (0..20u64, proptest::option::of(at())).prop_map(|(n, after)| Op::Take(n, after)),
        at().prop_map(Op::Put),
        at().prop_map(Op::Put),
        at().prop_map(Op::Claim),
        (0..BLOCKS, state).prop_map(|(block, state)| Op::Block(block, state)),
    ]
}

/// Brings a block into a state by the transitions there are, as far as that is possible.
fn bring(frames: &mut Frames, block: u64, to: BlockState) {
    use BlockState::{Isolated, Offline, Online};
    match (frames.block_state(block), to) {
        (Online, Isolated) => frames.isolate(block),
        (Isolated, Online) => frames.unisolate(block),
        (Isolated, Offline) if frames.block_used(block) == 0 => frames.offline(block),
        (Offline, Online) => frames.online(block),
        _ => {}
    }
}

proptest! {
    #[test]
    fn frames_agree_with_a_list(ops in proptest::collection::vec(op(), 1..300)) {
        let mut frames = Frames::new(Pageblock(FIRST), BLOCK * BLOCKS, BLOCK).unwrap();
        let mut used = [false; (BLOCK * BLOCKS) as usize];
        for op in ops {
            match op {
                Op::Take(count, after) => {
                    let free = frames.counts().free;
                    let follows = after
                        .map(|after| Pageblock(after + 1))
                        .filter(|&at| frames.contains(at) && count > 0)
                        .filter(|&at| frames.state(at) == PageblockState::Free);
                    let taken: Vec<_> =
                        frames.take(count, after.map(Pageblock)).iter().flat_map(|e| e.iter()).collect();
                    prop_assert_eq!(taken.len() as u64, free.min(count));
                    prop_assert!(follows.is_none_or(|at| taken[0] == at));
                    for at in taken {
                        let slot = &mut used[(at.0 - FIRST) as usize];
                        prop_assert!(!*slot, "two owners");
                        *slot = true;
                        prop_assert_eq!(frames.block_state(frames.block_of(at)), BlockState::Online);
                    }
                }
                Op::Put(at) if used[(at - FIRST) as usize] => {
                    used[(at - FIRST) as usize] = false;
                    frames.put(Pageblock(at));
                }
                Op::Claim(at) => {
                    use PageblockState::{Free, Isolated};
                    if matches!(frames.state(Pageblock(at)), Free | Isolated) {
                        frames.claim(Pageblock(at));
                        used[(at - FIRST) as usize] = true;
                    }
                }
                Op::Put(_) => {}
                Op::Block(block, to) => bring(&mut frames, block, to),
            }
            frames.validate();
            for (n, &used) in used.iter().enumerate() {
                let state = frames.state(Pageblock(FIRST + n as u64));
                prop_assert_eq!(state == PageblockState::Used, used);
            }
        }
    }
}
