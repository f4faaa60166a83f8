//! Bugs that the random tests found, each reduced to the few calls that showed it; and what they
//! hardly find.

use std::sync::atomic::AtomicU64;

use memtide_frames::{
    Channel, Dedication, Frame, FrameRange, Frames, Geometry, Layout, Movability, Order, Pfn,
    Request, Retirement, TakeAtError, Want, Zone,
};

const PAGEBLOCK: u64 = 512;
const CHANNEL: Zone = Zone::Exmem(Channel::new(0).unwrap());

/// Runs a test on a node whose pageblocks are blocks of their own, each in one of these zones.
fn with_node(zones: &[Zone], test: impl FnOnce(&Frames<'_>)) {
    let frames = zones.len() as u64 * PAGEBLOCK;
    let geometry = Geometry { first: Pfn(0), frames, block_frames: PAGEBLOCK, cores: 2 };
    let words = Layout::new(geometry).unwrap().words() + Layout::WORDS_SPARE;
    let words: Vec<AtomicU64> = (0..words).map(|_| AtomicU64::new(0)).collect();
    let frames = Frames::new(geometry, &words).unwrap();
    for (n, &zone) in (0..).zip(zones) {
        frames.add(pageblock(n), zone).unwrap();
    }
    test(&frames);
    frames.validate();
}

fn pageblock(n: u64) -> FrameRange {
    FrameRange::new(Pfn(n * PAGEBLOCK), PAGEBLOCK)
}

fn order(exponent: u8) -> Order {
    Order::new(exponent).unwrap()
}

fn single(movability: Movability, want: Want) -> Request {
    Request::new(Order::FRAME, movability).from(want)
}

const MOVABLE: Movability = Movability::Movable;
const UNMOVABLE: Movability = Movability::Unmovable;

/// `Busy` named the first frame of the block, free or not.
#[test]
fn busy_names_a_frame_that_is_not_free() {
    with_node(&[Zone::Normal; 4], |frames| {
        let held = frames.take_at(Pfn(517), order(0), MOVABLE).unwrap();
        for exponent in [3, 8, 9, 11] {
            let at = Pfn(if exponent == 11 { 0 } else { 512 });
            let error = frames.take_at(at, order(exponent), MOVABLE).unwrap_err();
            assert!(matches!(error, TakeAtError::Busy { busy: Pfn(517), .. }), "{error}");
        }
        drop(held);
    });
}

/// Only the zone of the first pageblock was looked at: a block that is split later went back to
/// other zones than were charged for it, and what cannot move got into MOVABLE.
#[test]
fn a_block_is_of_one_zone() {
    with_node(&[Zone::Normal, Zone::Movable, Zone::Movable, Zone::Normal], |frames| {
        let error = frames.take_at(Pfn(0), order(10), MOVABLE).unwrap_err();
        assert!(matches!(error, TakeAtError::Zone { zone: Zone::Movable, .. }), "{error}");
        assert!(frames.take_range(FrameRange::new(Pfn(0), 1024), UNMOVABLE).is_err());
        let run = frames.take_range(frames.span(), MOVABLE).unwrap();
        frames.validate();
        let parts: Vec<Frame<'_>> = run.into_frames().collect();
        assert!(parts.iter().map(Frame::order).eq([order(9); 4]));
        drop(parts);
        assert_eq!(frames.counts().free, 4 * PAGEBLOCK);
    });
}

/// Who named a frame in a pageblock of a channel that was in use was not asked for what.
#[test]
fn who_names_a_frame_keeps_to_the_use_of_its_channel() {
    with_node(&[CHANNEL; 2], |frames| {
        let held = frames.take(single(UNMOVABLE, Want::Exmem)).unwrap();
        for pfn in [Pfn(100), Pfn(1000)] {
            let error = frames.take_at(pfn, order(0), MOVABLE).unwrap_err();
            assert!(matches!(error, TakeAtError::Zone { zone: CHANNEL, .. }), "{error}");
            assert_eq!(frames.retire(pfn), Ok(Retirement::Done), "whatever the use");
        }
        drop(held);
    });
}

/// A channel that is dedicated to what cannot move refused one kind of that while frames were
/// free in pageblocks of the other kind.
#[test]
fn what_is_reclaimable_shares_a_channel_with_what_cannot_move() {
    with_node(&[CHANNEL], |frames| {
        let unmovable = frames.take(single(UNMOVABLE, Want::Exmem)).unwrap();
        let request = single(Movability::Reclaimable, Want::Exmem);
        let reclaimable = frames.take(request).unwrap();
        assert!(frames.take(single(MOVABLE, Want::Exmem)).is_err());
        drop((unmovable, reclaimable));
        assert_eq!(frames.dedication(CHANNEL), Dedication::None);
    });
}

/// The last frame of an isolated pageblock went back unnoticed, and the channel stayed dedicated.
#[test]
fn an_isolated_pageblock_that_is_empty_dedicates_no_channel() {
    with_node(&[CHANNEL; 2], |frames| {
        let held = frames.take_at(Pfn(3), order(0), UNMOVABLE).unwrap();
        frames.isolate(pageblock(0)).unwrap();
        drop(held);
        assert_eq!(frames.dedication(CHANNEL), Dedication::None);
        drop(frames.take(single(MOVABLE, Want::Exmem)).unwrap());
        frames.remove(pageblock(0)).unwrap();
    });
}

/// A core kept a frame for its next request, because it had others of that word before the
/// pageblock was isolated.
#[test]
fn what_is_given_back_after_isolation_is_not_handed_out() {
    with_node(&[Zone::Normal; 2], |frames| {
        let mut core = frames.core(0).unwrap();
        let request = single(MOVABLE, Want::Any);
        let [first, second] = [0, 1].map(|_| core.take(request).unwrap());
        frames.isolate(pageblock(0)).unwrap();
        core.give(first).unwrap();
        core.give(second).unwrap();
        let next = core.take(request).unwrap();
        assert!(pageblock(1).contains(next.pfn()), "{next:?}");
    });
}

/// In the same way a core kept a frame for a use that its channel was not dedicated to any more.
#[test]
fn what_is_given_back_to_a_channel_of_another_use_is_not_handed_out() {
    with_node(&[CHANNEL], |frames| {
        let mut core = frames.core_with_cache(0, 2).unwrap();
        let unmovable = single(UNMOVABLE, Want::Exmem);
        // All that the core took ahead, so that it caches nothing.
        let held = [0, 1].map(|_| core.take(unmovable).unwrap());
        held.into_iter().for_each(drop);
        // This takes the pageblock away from the core; the first frame given meets that.
        let movable = single(MOVABLE, Want::Exmem);
        let [first, second, third] = [0, 1, 2].map(|_| frames.take(movable).unwrap());
        core.give(first).unwrap();
        core.give(second).unwrap();
        assert!(core.take(unmovable).is_err());
        drop(third);
        assert!(core.take(unmovable).is_ok());
    });
}

/// As long as any frame waited to be retired, no pageblock with a hole could be removed.
#[test]
fn a_hole_does_not_keep_a_block_while_another_frame_is_retiring() {
    with_node(&[Zone::Normal; 2], |frames| {
        let held = frames.take_at(Pfn(600), order(0), MOVABLE).unwrap();
        assert_eq!(frames.retire(Pfn(600)), Ok(Retirement::WhenGivenBack));
        frames.exclude(FrameRange::new(Pfn(10), 20)).unwrap();
        frames.isolate(pageblock(0)).unwrap();
        frames.remove(pageblock(0)).unwrap();
        drop(held);
    });
}

/// Of the pageblocks of a list only some are looked through before a free one is opened. When
/// there is none, all are.
#[test]
fn a_block_is_found_behind_many_pageblocks_that_have_none() {
    with_node(&[Zone::Normal; 16], |frames| {
        let mut held = Vec::new();
        for pb in 0..16 {
            held.push(frames.take_at(Pfn(pb * 512), order(0), MOVABLE).unwrap());
            if pb < 15 {
                held.push(frames.take_at(Pfn(pb * 512 + 256), order(0), MOVABLE).unwrap());
            }
        }
        let block = frames.take(Request::new(order(8), MOVABLE)).unwrap();
        assert_eq!(block.pfn(), Pfn(15 * 512 + 256));
    });
}
