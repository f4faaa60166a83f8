extern crate std;

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::*;

const FIRST: Pageblock = Pageblock(100);

/// A node that is all online.
fn online(first: Pageblock, pageblocks: u64, block_pageblocks: u64) -> Pageblocks {
    let mut node = Pageblocks::new(first, pageblocks, block_pageblocks).unwrap();
    (0..node.blocks()).for_each(|block| node.online(block, OnlineZone::Kernel));
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

/// Block by block.
fn zones_one_by_one(node: &Pageblocks) -> Vec<(Extent, OnlineZone)> {
    let of_zone = |zone| {
        let there = node.blocks_there().filter(|&block| node.zone(block) == zone);
        let starts = there.map(|block| node.block_start(block).0);
        let all = starts.flat_map(|start| start..start + node.block_pageblocks()).map(Pageblock);
        Extent::from_blocks(all).into_iter().map(move |extent| (extent, zone)).collect::<Vec<_>>()
    };
    OnlineZone::ALL.into_iter().flat_map(of_zone).collect()
}

#[test]
fn what_is_in_one_zone_is_told_in_runs() {
    let mut node = online(Pageblock(0), 1 << 18, 1);
    node.isolate(7);
    node.offline(7);
    let all = [(run(0, 7), OnlineZone::Kernel), (run(8, (1 << 18) - 8), OnlineZone::Kernel)];
    assert_eq!(node.zone_extents(), all);
}

#[test]
fn low_holes_are_filled_before_high_ones() {
    let mut node = node(4);
    assert_eq!(node.take(16, None, MOVABLE), [run(100, 16)]);
    for n in [101, 104, 105, 106] {
        node.put(Pageblock(n));
    }
    assert_eq!(node.take(1, None, MOVABLE), [run(101, 1)]);
    assert_eq!(node.take(2, Some(Pageblock(104)), MOVABLE), [run(105, 2)]);
    node.validate();
}

#[test]
fn what_follows_the_hint_comes_first() {
    let mut node = node(4);
    assert_eq!(node.take(3, Some(Pageblock(113)), MOVABLE), [run(114, 2), run(100, 1)]);
    assert_eq!(node.take(1, Some(Pageblock(u64::MAX)), MOVABLE).len(), 1);
    node.validate();
}

#[test]
fn a_lease_is_in_one_piece_where_there_is_a_place_and_others_lie_close() {
    let mut node = node(8);
    assert_eq!(node.take(3, None, MOVABLE), [run(100, 3)]);
    assert_eq!(node.take(3, None, MOVABLE), [run(103, 3)]);
    assert_eq!(node.take(5, None, MOVABLE), [run(106, 5)]);
    node.put(Pageblock(101));
    // Not the hole and one more, but two that belong together.
    assert_eq!(node.take(2, None, MOVABLE), [run(111, 2)]);
    // No aligned place for 16 is left; the largest there is goes on as far as it can.
    assert_eq!(node.take(20, None, MOVABLE), [run(113, 19), run(101, 1)]);
    assert_eq!(node.take(1, None, MOVABLE), []);
    node.validate();
}

#[test]
fn a_lease_of_several_gigabytes_is_in_one_piece() {
    let mut node = online(FIRST, 4096, 64);
    assert_eq!(node.take(1300, None, MOVABLE), [run(100, 1300)]);
    assert_eq!(node.take(9999, None, MOVABLE), [run(1400, 2796)]);
    for n in 100..4196 {
        node.put(Pageblock(n));
    }
    assert_eq!(node.counts(), Counts { free: 4096, ..Counts::default() });
    node.validate();
}

#[test]
fn an_isolated_block_hands_out_nothing_and_leaves_when_empty() {
    let mut node = node(2);
    node.take(1, None, MOVABLE);
    node.isolate(0);
    assert_eq!(node.counts(), Counts { free: 4, used: 1, isolated: 3, ..Counts::default() });
    assert_eq!(node.take(9, Some(FIRST), MOVABLE), [run(104, 4)]);
    node.put(FIRST);
    assert_eq!(node.state(FIRST), PageblockState::Isolated);
    node.offline(0);
    assert_eq!(node.counts(), Counts { used: 4, offline: 4, ..Counts::default() });
    node.online(0, OnlineZone::Kernel);
    assert_eq!(node.take(9, None, MOVABLE), [run(100, 4)]);
    node.validate();
}

#[test]
fn what_is_retired_is_never_handed_out_and_leaves_and_comes_back_with_its_block() {
    let mut node = node(2);
    node.take(2, None, MOVABLE);
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
    node.online(0, OnlineZone::Kernel);
    assert_eq!(node.counts(), Counts { free: 4, retired: 4, ..Counts::default() });
    assert_eq!(node.take(9, None, MOVABLE), [run(105, 3), run(100, 1)]);
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
    node.take(3, None, MOVABLE);
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
    node.take(1, None, MOVABLE);
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
    node.claim(FIRST, MOVABLE);
    node.claim(FIRST, MOVABLE);
}

/// Not at the start of a block of a larger order, and longer than the blocks of its runs.
const START: u64 = 1000;
const BLOCK: u64 = 8;
const BLOCKS: u64 = 6;
/// Those that a node may have beside each other.
const ZONES: [OnlineZone; 3] = [OnlineZone::Kernel, OnlineZone::Movable, OnlineZone::PreferMovable];

#[derive(Clone, Copy, Debug)]
enum Op {
    Take(u64, Option<u64>, Movability),
    Put(u64),
    Claim(u64),
    Retire(u64),
    Block(u64, BlockState, OnlineZone),
}

fn op() -> impl Strategy<Value = Op> {
    let at = || START..START + BLOCK * BLOCKS;
    let state = prop_oneof![
        Just(BlockState::Offline),
        Just(BlockState::Online),
        Just(BlockState::Isolated)
    ];
    let zone = proptest::sample::select(ZONES.to_vec());
    let movability = prop_oneof![3 => Just(MOVABLE), 1 => Just(UNMOVABLE)];
    prop_oneof![
        (0..20u64, proptest::option::of(at()), movability)
            .prop_map(|(n, after, movability)| Op::Take(n, after, movability)),
        at().prop_map(Op::Put),
        at().prop_map(Op::Put),
        at().prop_map(Op::Claim),
        at().prop_map(Op::Retire),
        (0..BLOCKS, state, zone).prop_map(|(block, state, zone)| Op::Block(block, state, zone)),
    ]
}

/// Brings a block into a state by the transitions there are, as far as that is possible.
fn bring(node: &mut Pageblocks, block: u64, to: BlockState, zone: OnlineZone) {
    use BlockState::{Isolated, Offline, Online};
    match (node.block_state(block), to) {
        (Online, Isolated) => node.isolate(block),
        (Isolated, Online) => node.unisolate(block),
        (Isolated, Offline) if node.block_used(block) == 0 => node.offline(block),
        (Offline, Online) => node.online(block, zone),
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

/// Whether a lease lies in the zones where it may, in their order, and in each by its rules.
fn check_zones(
    taken: &[Extent],
    free: &BTreeMap<u64, OnlineZone>,
    count: u64,
    after: Option<u64>,
    movability: Movability,
) {
    use OnlineZone::{Kernel, Movable, PreferMovable};
    let order: &[OnlineZone] = if movability == MOVABLE {
        &[Movable, PreferMovable, Kernel]
    } else {
        &[Kernel, PreferMovable]
    };
    let mut left = count;
    let mut runs = taken.iter().copied().peekable();
    for &zone in order {
        let of_zone = free.iter().filter(|&(_, &of)| of == zone).map(|(&at, _)| at);
        let of_zone: BTreeSet<u64> = of_zone.collect();
        let here = left.min(of_zone.len() as u64);
        let mut some = Vec::new();
        let mut got = 0;
        while got < here {
            let run = runs.next().expect("what is free is taken");
            got += u64::from(run.count);
            some.push(run);
        }
        assert_eq!(got, here, "{zone} is left too late");
        left -= here;
        if zone != PreferMovable {
            check_placement(&some, &of_zone, here, after);
            continue;
        }
        let mut expected: Vec<u64> = of_zone.into_iter().collect();
        if movability == MOVABLE {
            expected.drain(..expected.len() - here as usize);
        }
        expected.truncate(here as usize);
        let got: Vec<u64> = some.iter().flat_map(|run| run.iter()).map(|at| at.0).collect();
        assert_eq!(got, expected, "movable from the top, all else from the bottom");
    }
    assert_eq!(runs.next(), None, "more than was asked for, or where it may not lie");
}

/// The largest aligned place up to so many, rounded up to a power of two.
fn largest_place(free: &BTreeSet<u64>, count: u64) -> u64 {
    let mut sizes = (0..=count.next_power_of_two().ilog2()).rev().map(|k| 1 << k);
    let is_free = |start: u64, size: u64| (start..start + size).all(|at| free.contains(&at));
    let has = |size: &u64| free.iter().any(|at| at % size == 0 && is_free(*at, *size));
    sizes.find(|size| has(size)).expect("something is free")
}

/// A node of four blocks of four pageblocks: kernel, movable, prefer-movable, kernel.
fn mixed() -> Pageblocks {
    let mut node = Pageblocks::new(FIRST, 16, 4).unwrap();
    let zones = [ZONES[0], ZONES[1], ZONES[2], ZONES[0]];
    (0..).zip(zones).for_each(|(block, zone)| node.online(block, zone));
    node
}

#[test]
fn what_can_move_tries_movable_then_prefer_movable_then_kernel() {
    let mut node = mixed();
    // From the top of PREFER_MOVABLE; the hint counts where the zone's turn is.
    let taken = node.take(11, Some(Pageblock(112)), MOVABLE);
    assert_eq!(taken, [run(104, 4), run(108, 4), run(113, 3)]);
    let taken = node.take(9, None, MOVABLE);
    assert_eq!(taken, [run(100, 4), run(112, 1)]);
    node.validate();
}

#[test]
fn what_never_moves_tries_kernel_then_the_bottom_of_prefer_movable_and_never_movable() {
    let mut node = mixed();
    assert_eq!(node.take(2, None, MOVABLE), [run(104, 2)]);
    assert_eq!(node.free_for(UNMOVABLE), 12);
    assert_eq!(node.take(10, None, UNMOVABLE), [run(100, 4), run(112, 4), run(108, 2)]);
    // What can move comes from the other end.
    assert_eq!(node.take(3, None, MOVABLE), [run(106, 2), run(111, 1)]);
    assert_eq!(node.take(9, None, UNMOVABLE), [run(110, 1)]);
    assert_eq!((node.free_for(UNMOVABLE), node.free_for(MOVABLE)), (0, 0));
    node.validate();
}

#[test]
fn what_is_there_is_there_whatever_its_zone() {
    let mut node = mixed();
    node.claim(Pageblock(104), UNMOVABLE);
    node.claim(Pageblock(100), UNMOVABLE);
    assert_eq!(node.counts().used, 2);
    node.validate();
}

#[test]
fn a_block_comes_back_into_the_zone_that_is_asked_for() {
    let mut node = mixed();
    node.isolate(1);
    node.offline(1);
    assert_eq!(node.counts_in(OnlineZone::Movable), Counts::default());
    node.online(1, OnlineZone::PreferMovable);
    assert_eq!(node.counts_in(OnlineZone::PreferMovable).free, 8);
    assert_eq!(node.take(1, None, MOVABLE), [run(111, 1)]);
    node.validate();
}

#[test]
fn exmem_is_for_what_can_move() {
    let mut node = Pageblocks::new(FIRST, 8, 4).unwrap();
    (0..2).for_each(|block| node.online(block, OnlineZone::Exmem));
    assert_eq!(node.take(1, None, UNMOVABLE), []);
    assert_eq!(node.take(9, None, MOVABLE), [run(100, 8)]);
    node.put(Pageblock(103));
    assert_eq!(node.take(1, None, UNMOVABLE), []);
    node.retire(Pageblock(103));
    node.validate();
}

proptest! {
    #[test]
    fn pageblocks_agree_with_a_list(ops in proptest::collection::vec(op(), 1..300)) {
        let mut node = online(Pageblock(START), BLOCK * BLOCKS, BLOCK);
        let mut used = [false; (BLOCK * BLOCKS) as usize];
        for op in ops {
            match op {
                Op::Take(count, after, movability) => {
                    let all = START..START + BLOCK * BLOCKS;
                    let is_free = |at: &u64| node.state(Pageblock(*at)) == PageblockState::Free;
                    let zone_of = |at: u64| node.zone(node.block_of(Pageblock(at)));
                    let free: Vec<u64> = all.filter(is_free).collect();
                    let free = free.into_iter().map(|at| (at, zone_of(at))).collect();
                    let taken = node.take(count, after.map(Pageblock), movability);
                    check_zones(&taken, &free, count, after, movability);
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
                        node.claim(Pageblock(at), MOVABLE);
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
                Op::Block(block, to, zone) => bring(&mut node, block, to, zone),
            }
            node.validate();
            prop_assert_eq!(node.zone_extents(), zones_one_by_one(&node));
            for (n, &used) in used.iter().enumerate() {
                let state = node.state(Pageblock(START + n as u64));
                prop_assert_eq!(state == PageblockState::Used, used);
            }
        }
    }
}
