extern crate std;

use std::collections::BTreeSet;

use proptest::prelude::*;

use super::*;

const FIRST: Pageblock = Pageblock(100);

/// A node that is all online.
fn online(first: Pageblock, pageblocks: u64, block_pageblocks: u64) -> Pageblocks {
    let mut node = Pageblocks::new(first, pageblocks, block_pageblocks).unwrap();
    (0..node.blocks()).for_each(|block| node.online(block));
    node
}

fn node(blocks: u64) -> Pageblocks {
    online(FIRST, blocks * 4, 4)
}

fn run(start: u64, count: u32) -> Extent {
    Extent::new(Pageblock(start), count)
}

#[test]
fn nonsense_makes_no_node() {
    let error = |first, pageblocks, block| {
        Pageblocks::new(Pageblock(first), pageblocks, block).map(drop).unwrap_err()
    };
    assert_eq!(error(0, 6, 3), LayoutError::BlockSize { block_pageblocks: 3 });
    assert_eq!(error(0, 6, 0), LayoutError::BlockSize { block_pageblocks: 0 });
    assert_eq!(error(0, 6, 4), LayoutError::Size { pageblocks: 6, block_pageblocks: 4 });
    assert!(matches!(error(0, 0, 4), LayoutError::Size { .. }));
    assert!(matches!(error(u64::MAX - 2, 4, 4), LayoutError::Span { .. }));
    assert!(matches!(error(0, 1 << 60, 4), LayoutError::Span { .. }));
    assert!(matches!(error(0, 1 << 60, 1 << 60), LayoutError::Span { .. }));
    // Its frames would have no number.
    assert!(matches!(error((1 << 55) - 3, 4, 4), LayoutError::Span { .. }));
    assert!(Pageblocks::new(Pageblock((1 << 55) - 8), 4, 4).is_ok());
}

#[test]
fn low_holes_are_filled_before_high_ones() {
    let mut node = node(4);
    assert_eq!(node.take(16, None), [run(100, 16)]);
    for n in [101, 104, 105, 106] {
        node.put(Pageblock(n));
    }
    assert_eq!(node.take(1, None), [run(101, 1)]);
    assert_eq!(node.take(2, Some(Pageblock(104))), [run(105, 2)]);
    node.validate();
}

#[test]
fn what_follows_the_hint_comes_first() {
    let mut node = node(4);
    assert_eq!(node.take(3, Some(Pageblock(113))), [run(114, 2), run(100, 1)]);
    assert_eq!(node.take(1, Some(Pageblock(u64::MAX))).len(), 1);
    node.validate();
}

#[test]
fn a_lease_is_in_one_piece_where_there_is_a_place_and_others_lie_close() {
    let mut node = node(8);
    assert_eq!(node.take(3, None), [run(100, 3)]);
    assert_eq!(node.take(3, None), [run(103, 3)]);
    assert_eq!(node.take(5, None), [run(106, 5)]);
    node.put(Pageblock(101));
    // Not the hole and one more, but two that belong together.
    assert_eq!(node.take(2, None), [run(111, 2)]);
    // No aligned place for 16 is left; the largest there is goes on as far as it can.
    assert_eq!(node.take(20, None), [run(113, 19), run(101, 1)]);
    assert_eq!(node.take(1, None), []);
    node.validate();
}

#[test]
fn a_lease_of_several_gigabytes_is_in_one_piece() {
    let mut node = online(FIRST, 4096, 64);
    assert_eq!(node.take(1300, None), [run(100, 1300)]);
    assert_eq!(node.take(9999, None), [run(1400, 2796)]);
    for n in 100..4196 {
        node.put(Pageblock(n));
    }
    assert_eq!(node.counts(), Counts { free: 4096, ..Counts::default() });
    node.validate();
}

#[test]
fn an_isolated_block_hands_out_nothing_and_leaves_when_empty() {
    let mut node = node(2);
    node.take(1, None);
    node.isolate(0);
    assert_eq!(node.counts(), Counts { free: 4, used: 1, isolated: 3, ..Counts::default() });
    assert_eq!(node.take(9, Some(FIRST)), [run(104, 4)]);
    node.put(FIRST);
    assert_eq!(node.state(FIRST), PageblockState::Isolated);
    node.offline(0);
    assert_eq!(node.counts(), Counts { used: 4, offline: 4, ..Counts::default() });
    node.online(0);
    assert_eq!(node.take(9, None), [run(100, 4)]);
    node.validate();
}

#[test]
fn what_is_retired_is_never_handed_out_and_leaves_and_comes_back_with_its_block() {
    let mut node = node(2);
    node.take(2, None);
    for n in [101, 102, 104] {
        node.retire(Pageblock(n));
        assert_eq!(node.state(Pageblock(n)), PageblockState::Retired);
        node.validate();
    }
    assert_eq!(node.counts(), Counts { free: 4, used: 1, retired: 3, ..Counts::default() });
    node.isolate(0);
    node.put(FIRST);
    node.offline(0);
    node.validate();
    assert_eq!(node.counts(), Counts { free: 3, offline: 4, retired: 1, ..Counts::default() });
    // One more while it is away.
    node.retire(Pageblock(103));
    assert_eq!(node.state(Pageblock(103)), PageblockState::Offline);
    node.online(0);
    assert_eq!(node.counts(), Counts { free: 4, retired: 4, ..Counts::default() });
    assert_eq!(node.take(9, None), [run(105, 3), run(100, 1)]);
    node.validate();
}

#[test]
#[should_panic(expected = "is retired twice")]
fn nothing_is_retired_twice() {
    let mut node = node(1);
    node.retire(FIRST);
    node.retire(FIRST);
}

#[test]
fn a_copy_goes_its_own_way() {
    let mut node = node(2);
    node.take(3, None);
    let mut copy = node.clone();
    assert!(copy == node);
    copy.put(FIRST);
    assert!(copy != node);
    assert_eq!(node.state(FIRST), PageblockState::Used);
    copy.validate();
    node.validate();
}

#[test]
#[should_panic(expected = "goes offline but is used")]
fn a_used_block_never_leaves() {
    let mut node = node(1);
    node.take(1, None);
    node.isolate(0);
    node.offline(0);
}

#[test]
#[should_panic(expected = "is given back but not used")]
fn nothing_is_given_back_twice() {
    node(1).put(FIRST);
}

#[test]
#[should_panic(expected = "is claimed but Used")]
fn nothing_is_claimed_twice() {
    let mut node = node(1);
    node.claim(FIRST);
    node.claim(FIRST);
}

/// Not at the start of a block of a larger order, and longer than the blocks of its runs.
const START: u64 = 1000;
const BLOCK: u64 = 8;
const BLOCKS: u64 = 6;

#[derive(Clone, Copy, Debug)]
enum Op {
    Take(u64, Option<u64>),
    Put(u64),
    Claim(u64),
    Retire(u64),
    Block(u64, BlockState),
}

fn op() -> impl Strategy<Value = Op> {
    let at = || START..START + BLOCK * BLOCKS;
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
        at().prop_map(Op::Retire),
        (0..BLOCKS, state).prop_map(|(block, state)| Op::Block(block, state)),
    ]
}

/// Brings a block into a state by the transitions there are, as far as that is possible.
fn bring(node: &mut Pageblocks, block: u64, to: BlockState) {
    use BlockState::{Isolated, Offline, Online};
    match (node.block_state(block), to) {
        (Online, Isolated) => node.isolate(block),
        (Isolated, Online) => node.unisolate(block),
        (Isolated, Offline) if node.block_used(block) == 0 => node.offline(block),
        (Offline, Online) => node.online(block),
        _ => {}
    }
}

/// Whether a lease of so many after that is placed by the rules, of what was free.
fn check_placement(taken: &[Extent], free: &BTreeSet<u64>, count: u64, after: Option<u64>) {
    let mut free = free.clone();
    let mut left = count.min(free.len() as u64);
    let mut follows = after.map(|after| after + 1).filter(|at| free.contains(at));
    for run in taken {
        let (start, length) = (run.start.0, u64::from(run.count));
        let largest = largest_place(&free, left);
        assert!((start..start + length).all(|at| free.remove(&at)), "{run} was not free");
        left -= length;
        let ends = !free.contains(&(start + length));
        assert!(left == 0 || ends, "{run} does not go on");
        if let Some(follows) = follows.take() {
            assert_eq!(start, follows, "{run} does not follow the hint");
            continue;
        }
        assert!(length >= largest.min(left + length), "{run} where {largest} are in one piece");
        assert!(left == 0 || start == 0 || !free.contains(&(start - 1)), "{run} starts late");
    }
    assert_eq!(left, 0);
}

/// The largest aligned place up to so many, rounded up to a power of two.
fn largest_place(free: &BTreeSet<u64>, count: u64) -> u64 {
    let mut sizes = (0..=count.next_power_of_two().ilog2()).rev().map(|k| 1 << k);
    let is_free = |start: u64, size: u64| (start..start + size).all(|at| free.contains(&at));
    let has = |size: &u64| free.iter().any(|at| at % size == 0 && is_free(*at, *size));
    sizes.find(|size| has(size)).expect("something is free")
}

proptest! {
    #[test]
    fn pageblocks_agree_with_a_list(ops in proptest::collection::vec(op(), 1..300)) {
        let mut node = online(Pageblock(START), BLOCK * BLOCKS, BLOCK);
        let mut used = [false; (BLOCK * BLOCKS) as usize];
        for op in ops {
            match op {
                Op::Take(count, after) => {
                    let all = START..START + BLOCK * BLOCKS;
                    let is_free = |at: &u64| node.state(Pageblock(*at)) == PageblockState::Free;
                    let free: BTreeSet<u64> = all.filter(is_free).collect();
                    let taken = node.take(count, after.map(Pageblock));
                    check_placement(&taken, &free, count, after);
                    for at in taken.iter().flat_map(|e| e.iter()) {
                        let slot = &mut used[(at.0 - START) as usize];
                        prop_assert!(!*slot, "two owners");
                        *slot = true;
                        prop_assert_eq!(node.block_state(node.block_of(at)), BlockState::Online);
                    }
                }
                Op::Put(at) if used[(at - START) as usize] => {
                    used[(at - START) as usize] = false;
                    node.put(Pageblock(at));
                }
                Op::Claim(at) => {
                    use PageblockState::{Free, Isolated};
                    if matches!(node.state(Pageblock(at)), Free | Isolated) {
                        node.claim(Pageblock(at));
                        used[(at - START) as usize] = true;
                    }
                }
                Op::Put(_) => {}
                Op::Retire(at) if node.counts().retired < 12 => {
                    if !node.is_retired(Pageblock(at)) {
                        node.retire(Pageblock(at));
                        used[(at - START) as usize] = false;
                    }
                }
                Op::Retire(_) => {}
                Op::Block(block, to) => bring(&mut node, block, to),
            }
            node.validate();
            for (n, &used) in used.iter().enumerate() {
                let state = node.state(Pageblock(START + n as u64));
                prop_assert_eq!(state == PageblockState::Used, used);
            }
        }
    }
}
