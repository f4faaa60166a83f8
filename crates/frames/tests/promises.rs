//! Promises of single calls that a walk at random seldom puts to the test.

use memtide_frames::{
    AtomicU64, CACHE_FRAMES, DescriptorError, Descriptors, FrameRange, Frames, Geometry, Layout,
    LayoutError, Movability, Order, Pfn, Request, TakeError, Watermarks, Zone,
};

const PAGEBLOCK: u64 = 512;
const NODE: Geometry =
    Geometry { first: Pfn(0), frames: 8 * PAGEBLOCK, block_frames: PAGEBLOCK, cores: 1 };
const SINGLE: Request = Request::new(Order::FRAME, Movability::Movable);

fn memory(words: usize) -> Vec<AtomicU64> {
    (0..words).map(|_| AtomicU64::new(0)).collect()
}

fn words() -> Vec<AtomicU64> {
    memory(Layout::new(NODE).unwrap().words() + Layout::WORDS_SPARE)
}

fn order(exponent: u8) -> Order {
    Order::new(exponent).unwrap()
}

#[test]
fn both_halves_of_a_block_are_as_movable_as_it_was() {
    let (words, layout) = (words(), Layout::new(NODE).unwrap());
    let descriptors = memory(Descriptors::words(&layout));
    let frames = Frames::new(NODE, &words).unwrap();
    let frames = frames.with_descriptors(Descriptors::new(&layout, &descriptors).unwrap()).unwrap();
    frames.add(frames.span(), Zone::Normal).unwrap();
    for exponent in [1, 5, 9, 10] {
        for movability in [Movability::Movable, Movability::Unmovable] {
            let block = frames.take(Request::new(order(exponent), movability)).unwrap();
            frames.set_owner(block.pfn(), 7).unwrap();
            let (low, high) = block.split().unwrap();
            for half in [&low, &high] {
                let known = frames.descriptor(half.pfn()).unwrap();
                assert_eq!((known.movability, known.owner), (movability, 7), "{half:?}");
            }
        }
    }
}

#[test]
fn a_pin_of_any_frame_holds_its_block() {
    let (words, layout) = (words(), Layout::new(NODE).unwrap());
    let descriptors = memory(Descriptors::words(&layout));
    let bare = Frames::new(NODE, &words).unwrap();
    let frames = bare.with_descriptors(Descriptors::new(&layout, &descriptors).unwrap()).unwrap();
    frames.add(frames.span(), Zone::Normal).unwrap();
    for exponent in [2, 10] {
        let block = frames.take(Request::new(order(exponent), Movability::Movable)).unwrap();
        let last = Pfn(block.pfn().0 + block.order().frames() - 1);
        let range = FrameRange::new(block.pfn().pageblock().first_frame().unwrap(), PAGEBLOCK);
        assert!(frames.plan(range).unwrap().is_feasible());
        assert_eq!(frames.pin(last), Ok(1));
        assert!(!frames.plan(range).unwrap().is_feasible(), "order {exponent}");
        assert_eq!(frames.unpin(block.pfn()), Ok(0));
        assert_eq!(frames.unpin(last), Err(DescriptorError::NotPinned { pfn: last }));
    }
    assert_eq!(bare.pin(Pfn(0)), Err(DescriptorError::NoDescriptors { pfn: Pfn(0) }));
    assert!(matches!(frames.pin(Pfn(1 << 40)), Err(DescriptorError::Foreign { .. })));
}

#[test]
fn descriptors_of_another_node_are_refused() {
    let words = words();
    let frames = Frames::new(NODE, &words).unwrap();
    let other = Layout::new(Geometry { frames: 16 * PAGEBLOCK, ..NODE }).unwrap();
    let descriptors = memory(Descriptors::words(&other));
    let descriptors = Descriptors::new(&other, &descriptors).unwrap();
    assert!(frames.with_descriptors(descriptors).is_err());
    assert!(matches!(Frames::new(NODE, &words), Err(LayoutError::NotZero { .. })));
}

#[test]
fn a_reservation_leaves_the_reserve_alone() {
    let words = words();
    let frames = Frames::new(NODE, &words).unwrap();
    frames.add(frames.span(), Zone::Normal).unwrap();
    let min = 2 * PAGEBLOCK;
    frames.set_watermarks(Zone::Normal, Watermarks { min, low: min, high: min }).unwrap();
    let huge = Request::new(Order::PAGEBLOCK, Movability::Movable);
    assert!(matches!(frames.reserve(huge, 7), Err(TakeError::NoBlock { .. })));
    assert!(matches!(frames.reserve(SINGLE, 6 * PAGEBLOCK + 1), Err(TakeError::NoBlock { .. })));
    frames.validate();
    let room = frames.reserve(huge, 6).unwrap();
    assert!(frames.take(SINGLE.emergency()).is_ok());
    drop(room);
    assert!(frames.reserve(huge.emergency(), 8).is_ok());
}

#[test]
fn a_reservation_that_is_refused_changes_nothing() {
    let words = words();
    let frames = Frames::new(NODE, &words).unwrap();
    frames.add(frames.span(), Zone::Normal).unwrap();
    let at =
        |pageblock| frames.take_at(Pfn(pageblock * PAGEBLOCK), Order::FRAME, Movability::Movable);
    let held: Vec<_> = (0..8).map(|pageblock| at(pageblock).unwrap()).collect();
    let before = frames.statistics();
    let unmovable = Request::new(Order::FRAME, Movability::Unmovable);
    assert!(frames.reserve(unmovable, 5000).is_err());
    assert!(frames.reserve(unmovable, 1).is_err(), "a reservation does not mix");
    assert_eq!(frames.statistics(), before);
    drop(held);
    assert!(frames.reserve(unmovable, 8 * PAGEBLOCK).is_ok());
}

#[test]
fn what_cannot_move_mixes_in_normal_before_it_leaks() {
    let words = words();
    let frames = Frames::new(NODE, &words).unwrap();
    let half = |at| FrameRange::new(Pfn(at * PAGEBLOCK), 4 * PAGEBLOCK);
    frames.add(half(0), Zone::Normal).unwrap();
    frames.add(half(4), Zone::PreferMovable).unwrap();
    let at =
        |pageblock| frames.take_at(Pfn(pageblock * PAGEBLOCK), Order::FRAME, Movability::Movable);
    let _held: Vec<_> = (0..4).map(|pageblock| at(pageblock).unwrap()).collect();
    let unmovable = Request::new(Order::FRAME, Movability::Unmovable);
    let taken: Vec<_> = (0..2044).map(|_| frames.take(unmovable).unwrap()).collect();
    assert!(taken.iter().all(|frame| frame.pfn() < Pfn(4 * PAGEBLOCK)));
    // Only then, and from the bottom.
    assert_eq!(frames.take(unmovable).unwrap().pfn(), Pfn(4 * PAGEBLOCK));
    assert_eq!(frames.take(SINGLE).unwrap().pfn().pageblock().0, 7);
}

#[test]
fn a_core_caches_no_more_than_it_may() {
    let words = words();
    let frames = Frames::new(NODE, &words).unwrap();
    frames.add(frames.span(), Zone::Normal).unwrap();
    for limit in [0, 1, 7, 63, 64, 1000] {
        let mut core = frames.core_with_cache(0, limit).unwrap();
        let mut held = Vec::new();
        let mut most = 0;
        // Words far apart and words in turn, of each kind, taken and given back in runs.
        for step in 0..4000_usize {
            if step % 90 < 45 {
                let movability = Movability::ALL[step / 7 % 3];
                held.push(core.take(Request::new(Order::FRAME, movability)).unwrap());
            } else if !held.is_empty() {
                let at = if step % 180 < 90 { held.len() - 1 } else { step * 31 % held.len() };
                core.give(held.swap_remove(at)).unwrap();
            }
            let cached = frames.counts().cached;
            assert!(cached <= limit.min(CACHE_FRAMES), "{cached} cached, {limit} allowed");
            most = most.max(cached);
        }
        assert!(limit < 2 || most > limit.min(CACHE_FRAMES) / 4, "{most} of {limit}");
    }
}
