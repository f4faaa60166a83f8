use super::*;
use crate::{
    request::{Request, Want},
    validate::tests::{Caller, mixed_zones, pageblocks, words},
};

/// The free blocks as a buddy allocator finds them: two halves make a whole.
fn buddies(frames: &Frames<'_>, zone: Zone) -> [u64; ORDERS] {
    let all = frames.layout.pageblocks * FRAMES;
    let free = |index: u64| {
        let entry = frames.entry(index / FRAMES);
        let none = matches!(entry.state(), State::Absent | State::Head | State::Tail);
        !none && entry.zone() == zone && !frames.bit(Bitmap::Taken, index)
    };
    let mut level: std::vec::Vec<bool> = (0..all).map(free).collect();
    core::array::from_fn(|order| {
        let next: std::vec::Vec<bool> = match order {
            18 => std::vec![false; level.len().div_ceil(2)],
            _ => level.chunks(2).map(|pair| pair.len() == 2 && pair[0] && pair[1]).collect(),
        };
        let alone = (0..level.len()).filter(|&at| level[at] && !next[at / 2]).count();
        level = next;
        alone as u64
    })
}

#[test]
fn free_blocks_are_those_of_a_buddy_allocator() {
    for seed in 1..20 {
        let (geometry, words) = words(20);
        let frames = Frames::new(geometry, &words).unwrap();
        mixed_zones(&frames);
        let mut caller = Caller::new(&frames, seed);
        for _ in 0..20 {
            (0..10).for_each(|_| caller.step());
            let sums = frames.statistics();
            for sum in &sums.zones {
                assert_eq!(sum.blocks, buddies(&frames, sum.zone), "seed {seed} {}", sum.zone);
                let blocks = sum.blocks.iter().enumerate();
                let free: u64 = blocks.map(|(order, count)| count << order).sum();
                assert_eq!(free, sum.free);
                let kinds = sum.listed.iter().flatten().sum::<u64>() + sum.huge / FRAMES;
                let kinds = kinds + sum.free_pageblocks + sum.full + sum.owned + sum.reserved;
                assert!(kinds <= sum.pageblocks && sum.pageblocks <= kinds + sum.isolated);
            }
        }
        caller.finish();
    }
}

#[test]
fn the_index_is_the_kernels() {
    let mut blocks = [0; ORDERS];
    assert_eq!(unusable_index(&blocks, Order::FRAME), 1000);
    (blocks[0], blocks[3]) = (8, 3);
    let at = |order| unusable_index(&blocks, Order::new(order).unwrap());
    assert_eq!([at(0), at(1), at(3), at(4)], [0, 250, 250, 1000]);
}

#[test]
fn what_leaks_is_seen() {
    let (geometry, words) = words(8);
    let frames = Frames::new(geometry, &words).unwrap();
    frames.add(pageblocks(0, 8), Zone::PreferMovable).unwrap();
    let leak = || frames.statistics().zone(Zone::PreferMovable).leakage;
    let take = |order, movability| {
        let request = Request::new(Order::new(order).unwrap(), movability);
        frames.take(request.from(Want::Normal)).unwrap()
    };
    let moves = take(9, Movability::Movable);
    assert_eq!((moves.pfn(), leak()), (Pfn(7 << 9), Leakage::default()));
    let stays = (take(0, Movability::Unmovable), take(10, Movability::Unmovable));
    let expected = Leakage { pageblocks: 3, highest: Some(Pfn(3 << 9)), beneath: 4 };
    assert_eq!(leak(), expected);
    drop((stays, moves));
    assert_eq!(leak(), Leakage::default());
    assert_eq!(frames.statistics().blocks()[12], 1);
}

#[test]
fn counts_add_up() {
    let (geometry, words) = words(8);
    let frames = Frames::new(geometry, &words).unwrap();
    frames.add(pageblocks(0, 4), Zone::Normal).unwrap();
    let mut core = frames.core(0).unwrap();
    let frame = core.take(Request::new(Order::FRAME, Movability::Movable)).unwrap();
    frames.retire(Pfn(1000)).unwrap();
    let expected = Counts {
        span: 4096,
        present: 2048,
        free: 2048 - 33,
        cached: 31,
        used: 1,
        retired: 1,
        offline: 2048,
    };
    assert_eq!(frames.counts(), expected);
    drop(frame);
}
