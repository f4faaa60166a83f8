use std::{collections::BTreeSet, vec::Vec};

use super::*;
use crate::{
    request::Request,
    validate::tests::{Caller, mixed_zones, pageblocks, words},
    zone::Zone,
};

#[test]
fn all_that_is_taken_is_told_once() {
    for seed in 1..30 {
        let (geometry, words) = words(20);
        let frames = Frames::new(geometry, &words).unwrap();
        mixed_zones(&frames);
        let mut caller = Caller::new(&frames, seed);
        for _ in 0..40 {
            (0..10).for_each(|_| caller.step());
            let told: Vec<Occupant> = frames.occupants(frames.span()).unwrap().collect();
            let blocks = told.iter().filter(|o| o.kind == Kind::Block);
            let mut blocks: BTreeSet<_> = blocks.map(|o| (o.pfn, o.order, o.held)).collect();
            for frame in &caller.owned {
                assert!(blocks.remove(&(frame.pfn(), frame.order(), false)), "{frame:?}");
            }
            for &(pfn, order) in &caller.numbers {
                assert!(blocks.remove(&(pfn, order, true)), "{pfn}, {order}");
            }
            for (pfn, order, held) in blocks {
                let index = frames.index(pfn).unwrap();
                let noted = frames.bit(Bitmap::Retired, index) && order == Order::FRAME;
                assert!(frames.retiring() != 0 && noted && !held, "{pfn}, {order}");
            }
            let blocks = told.iter().filter(|o| o.kind != Kind::Reserved);
            let ends = blocks.map(|o| (o.pfn.0, o.pfn.0 + o.order.frames()));
            let ends: Vec<_> = ends.collect();
            assert!(ends.windows(2).all(|pair| pair[0].1 <= pair[1].0), "in order");
            agrees_with_the_counts(&frames);
        }
        caller.finish();
    }
}

fn agrees_with_the_counts(frames: &Frames<'_>) {
    let (sum, counts) = (frames.occupancy(frames.span()).unwrap(), frames.counts());
    assert_eq!((sum.free, sum.cached), (counts.free, counts.cached));
    let taken = sum.movable + sum.reclaimable + sum.unmovable + sum.retired;
    assert_eq!(taken, counts.used + counts.retired);
    assert_eq!(sum.absent + sum.holes, counts.offline);
}

#[test]
fn each_kind_is_told_as_what_it_is() {
    let (geometry, words) = words(8);
    let frames = Frames::new(geometry, &words).unwrap();
    frames.add(pageblocks(0, 4), Zone::Normal).unwrap();
    let mut core = frames.core(1).unwrap();
    let single = Request::new(Order::FRAME, Movability::Movable);
    let (pfn, _) = core.take(single).unwrap().into_number();
    frames.retire(Pfn(100)).unwrap();
    frames.exclude(FrameRange::new(Pfn(200), 2)).unwrap();
    let huge = core.take(Request::new(Order::PAGEBLOCK, Movability::Unmovable)).unwrap();
    let room = frames.reserve(Request::new(Order::PAGEBLOCK, Movability::Movable), 1).unwrap();
    let told: Vec<Occupant> = frames.occupants(pageblocks(0, 4)).unwrap().collect();
    let kinds = |kind| told.iter().filter(|o| o.kind == kind).map(|o| o.pfn.0).collect();
    let kinds: [Vec<u64>; 4] = [Kind::Block, Kind::Reserved, Kind::Retired, Kind::Hole].map(kinds);
    assert_eq!(
        kinds,
        [[pfn.0, huge.pfn().0].to_vec(), [1024].to_vec(), [100].to_vec(), [200, 201].to_vec()]
    );
    let cached = told.iter().filter(|o| o.kind == Kind::Cached { core: 1 }).count();
    assert_eq!(cached, 31);
    assert!(told[0].held && told[0].can_move() && !told[1].can_move());
    let sum = frames.occupancy(pageblocks(0, 8)).unwrap();
    assert_eq!((sum.reserved, sum.absent, sum.holes, sum.retired), (512, 2048, 2, 1));
    assert!(!sum.can_leave());
    assert!(frames.occupancy(pageblocks(0, 1)).unwrap().can_leave());
    assert!(frames.occupancy(pageblocks(3, 5)).unwrap().is_empty());
    assert!(frames.occupants(pageblocks(7, 2)).is_err());
    drop((room, huge));
}

#[test]
fn a_block_that_is_cut_comes_whole() {
    let (geometry, words) = words(8);
    let frames = Frames::new(geometry, &words).unwrap();
    frames.add(pageblocks(0, 8), Zone::Normal).unwrap();
    let order = Order::new(11).unwrap();
    let frame = frames.take(Request::new(order, Movability::Reclaimable)).unwrap();
    let told: Vec<Occupant> = frames.occupants(pageblocks(1, 2)).unwrap().collect();
    assert_eq!(told.iter().map(Occupant::range).collect::<Vec<_>>(), [pageblocks(0, 4)]);
    let sum = frames.occupancy(pageblocks(3, 2)).unwrap();
    assert_eq!((sum.reclaimable, sum.free, sum.blocks), (512, 512, 1));
    drop(frame);
}
