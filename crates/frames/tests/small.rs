//! A walk through the whole interface, and two threads, small enough for Miri:
//!
//! ```text
//! cargo +nightly miri test -p memtide-frames --test small
//! ```

use std::{
    sync::{
        atomic::{AtomicU32, AtomicU64, Ordering::Relaxed},
        mpsc,
    },
    thread,
};

use memtide_frames::{
    Channel, Descriptors, FrameError, FrameRange, Frames, Geometry, GiveError, Layout, Movability,
    Order, Pfn, PlugError, Pressure, Request, Retirement, TakeAtError, TakeError, Want, Watermarks,
    Zone,
};

const PAGEBLOCK: u64 = 512;
const NODE: Geometry =
    Geometry { first: Pfn(0), frames: 4 * PAGEBLOCK, block_frames: PAGEBLOCK, cores: 2 };

fn memory(words: usize) -> Vec<AtomicU64> {
    (0..words).map(|_| AtomicU64::new(0)).collect()
}

fn words() -> Vec<AtomicU64> {
    memory(Layout::new(NODE).unwrap().words() + Layout::WORDS_SPARE)
}

fn order(exponent: u8) -> Order {
    Order::new(exponent).unwrap()
}

fn movable(exponent: u8) -> Request {
    Request::new(order(exponent), Movability::Movable)
}

fn pageblock(n: u64) -> FrameRange {
    FrameRange::new(Pfn(n * PAGEBLOCK), PAGEBLOCK)
}

#[test]
fn a_walk_through_all_of_it() {
    let words = words();
    let frames = Frames::new(NODE, &words).unwrap();
    let descriptors = memory(Descriptors::words(frames.layout()));
    let descriptors = Descriptors::new(frames.layout(), &descriptors).unwrap();
    let frames = frames.with_descriptors(descriptors).unwrap();
    assert!(matches!(frames.take(movable(0)), Err(TakeError::Exhausted { .. })));
    frames.add(FrameRange::new(Pfn(0), 2 * PAGEBLOCK), Zone::Normal).unwrap();
    frames.add(pageblock(2), Zone::Movable).unwrap();
    frames.add(pageblock(3), Zone::Exmem(Channel::new(0).unwrap())).unwrap();
    assert!(matches!(frames.add(pageblock(3), Zone::Normal), Err(PlugError::State { .. })));
    frames.validate();
    take_and_give(&frames);
    zone_by_zone(&frames);
    numbers(&frames);
    named(&frames);
    plug(&frames);
    marks(&frames);
    assert!(Frames::new(NODE, &words).is_err());
    let again = Frames::attach(&words).unwrap();
    again.validate();
    assert_eq!(again.counts(), frames.counts());
    assert_eq!(again.counts().used, 0);
}

/// From a zone, and from no other: not when it is full, and not where the request may not land.
fn zone_by_zone(frames: &Frames<'_>) {
    let exmem = Zone::Exmem(Channel::new(0).unwrap());
    let whole = |movability| Request::new(order(9), movability);
    let (movable, unmovable) = (whole(Movability::Movable), whole(Movability::Unmovable));
    for (zone, at) in [(Zone::Normal, 0), (Zone::Movable, 2), (exmem, 3)] {
        let first = frames.take_in(zone, movable).unwrap();
        assert_eq!((first.pfn(), frames.zone_of(first.pfn())), (Pfn(at * PAGEBLOCK), Some(zone)));
    }
    let both = frames.take_in(Zone::Normal, movable.from(Want::Normal)).unwrap();
    assert_eq!(frames.take_in(Zone::Normal, movable).unwrap().pfn(), Pfn(PAGEBLOCK));
    let run = frames.take_in(Zone::Normal, Request::new(order(10), Movability::Movable));
    assert!(matches!(run, Err(TakeError::Exhausted { free: PAGEBLOCK, .. })));
    drop(both);
    let run = frames.take_in(Zone::Normal, Request::new(order(10), Movability::Movable)).unwrap();
    let refused = |zone, request, free| {
        let error = frames.take_in(zone, request).map(drop).unwrap_err();
        let (Exhausted { free: found, .. } | NoBlock { free: found, .. }) = error else {
            panic!("{error}");
        };
        assert_eq!(found, free, "{zone}: {error}");
    };
    use TakeError::{Exhausted, NoBlock};
    refused(Zone::Normal, movable, 0);
    refused(Zone::Movable, unmovable, PAGEBLOCK);
    refused(Zone::PreferMovable, movable, 0);
    refused(exmem, movable.from(Want::Normal), PAGEBLOCK);
    drop(run);
    assert_eq!(frames.zone_of(Pfn(NODE.frames)), None);
    frames.validate();
}

fn take_and_give(frames: &Frames<'_>) {
    let mut core = frames.core(0).unwrap();
    let mut other = frames.core_with_cache(1, 7).unwrap();
    assert!(frames.core(0).is_err() && frames.core(2).is_err());
    let held: Vec<_> = (0..40).map(|_| core.take(movable(0)).unwrap()).collect();
    for frame in held {
        assert_eq!(frames.descriptor(frame.pfn()).unwrap().movability, Movability::Movable);
        other.give(frame).unwrap();
    }
    for exponent in 0..=10 {
        let unmovable = Request::new(order(exponent), Movability::Unmovable).from(Want::Normal);
        let block = core.take(unmovable).unwrap();
        assert!(block.pfn().is_aligned(block.order()) && block.pfn().0 < 2 * PAGEBLOCK);
        core.give(block).unwrap();
    }
    let extended = core.take(movable(3).from(Want::Exmem)).unwrap();
    assert!(pageblock(3).contains(extended.pfn()));
    other.give(extended).unwrap();
    frames.validate();
    core.drain();
    drop(other);
    drop(core);
    frames.validate();
    assert_eq!(frames.counts().free, NODE.frames);
}

fn numbers(frames: &Frames<'_>) {
    let mut core = frames.core(0).unwrap();
    for exponent in [0, 1, 8, 9, 10] {
        let (pfn, order) = core.take(movable(exponent)).unwrap().into_number();
        let wrong = Order::new(exponent ^ 1).unwrap();
        let result = core.give_number(pfn, wrong);
        assert!(result.is_err() && frames.is_held(pfn, order));
        frames.validate();
        core.give_number(pfn, order).unwrap();
        assert_eq!(core.give_number(pfn, order), Err(FrameError::NotHeld { pfn, order }));
    }
    let (low, high) = core.take(movable(9)).unwrap().split().unwrap();
    frames.validate();
    let (middle, end) = high.split().unwrap();
    let (low, middle) = low.merge(middle).unwrap_err();
    let whole = low.merge(middle.merge(end).unwrap()).unwrap();
    frames.validate();
    core.give(whole).unwrap();
    let words = words();
    let foreign = Frames::new(NODE, &words).unwrap();
    foreign.add(pageblock(0), Zone::Normal).unwrap();
    let error: GiveError<'_> = frames.give(foreign.take(movable(0)).unwrap()).unwrap_err();
    assert_eq!(error.frame.pfn(), Pfn(0));
}

fn named(frames: &Frames<'_>) {
    let range = FrameRange::new(Pfn(3), 1000);
    let run = frames.take_range(range, Movability::Movable).unwrap();
    assert!(frames.take_range(range, Movability::Movable).is_err());
    assert!(frames.take_at(Pfn(2), order(0), Movability::Unmovable).is_ok());
    frames.validate();
    let mut parts = run.into_frames();
    let first = parts.next().unwrap();
    assert_eq!((first.pfn(), first.order()), (Pfn(3), order(0)));
    drop(parts);
    let busy = frames.take_at(Pfn(0), order(4), Movability::Movable).unwrap_err();
    assert!(matches!(busy, TakeAtError::Busy { busy: Pfn(3), .. }), "{busy}");
    drop(first);
    let zone = frames.take_at(Pfn(1024), order(9), Movability::Unmovable).unwrap_err();
    assert!(matches!(zone, TakeAtError::Zone { zone: Zone::Movable, .. }), "{zone}");
    let mut room = frames.reserve(movable(2), 100).unwrap();
    let acquired = room.acquire().unwrap();
    room.forfeit();
    drop(acquired);
    frames.validate();
}

fn plug(frames: &Frames<'_>) {
    let held = frames.take_at(Pfn(7), order(0), Movability::Movable).unwrap();
    frames.isolate(pageblock(0)).unwrap();
    assert!(frames.isolate(pageblock(0)).is_err() && frames.remove(pageblock(0)).is_err());
    assert_eq!(frames.retire(Pfn(7)), Ok(Retirement::WhenGivenBack));
    assert_eq!(frames.retire(Pfn(8)), Ok(Retirement::Done));
    assert_eq!(frames.retire(Pfn(8)), Ok(Retirement::Before));
    assert!(held.is_poisoned());
    drop(held);
    assert_eq!((frames.retired(), frames.retiring()), (2, 0));
    frames.exclude(FrameRange::new(Pfn(16), 5)).unwrap();
    frames.validate();
    frames.unisolate(pageblock(0)).unwrap();
    frames.validate();
    frames.isolate(pageblock(0)).unwrap();
    frames.remove(pageblock(0)).unwrap();
    assert_eq!(frames.counts().present, 3 * PAGEBLOCK);
    frames.add(pageblock(0), Zone::PreferMovable).unwrap();
    frames.validate();
}

fn marks(frames: &Frames<'_>) {
    frames.set_watermarks(Zone::Normal, Watermarks { min: 500, low: 505, high: 510 }).unwrap();
    assert!(frames.set_watermarks(Zone::Normal, Watermarks { min: 2, low: 1, high: 3 }).is_err());
    assert_eq!(frames.pressure(Zone::Normal), Pressure::None);
    let mut core = frames.core(0).unwrap();
    let normal = Request::new(order(3), Movability::Unmovable).from(Want::Normal);
    let block = core.take(normal).unwrap();
    assert_eq!(frames.pressure(Zone::Normal), Pressure::BelowLow);
    assert_eq!(core.crossing().map(|crossing| crossing.zone), Some(Zone::Normal));
    drop((block, core));
    frames.validate();
}

#[test]
fn two_threads_share_a_node() {
    let words = words();
    let frames = Frames::new(NODE, &words).unwrap();
    frames.add(frames.span(), Zone::Normal).unwrap();
    let memory: Vec<AtomicU32> = (0..NODE.frames).map(|_| AtomicU32::new(0)).collect();
    let write = |frame: &memtide_frames::Frame<'_>, from: u32, to: u32| {
        let at = frame.pfn().0 as usize;
        for word in &memory[at..at + frame.order().frames() as usize] {
            assert_eq!(word.swap(to, Relaxed), from, "{frame:?} has two owners");
        }
    };
    let (send, receive) = mpsc::channel();
    thread::scope(|scope| {
        let frames = &frames;
        scope.spawn(move || {
            let mut core = frames.core(0).unwrap();
            for n in 0..60 {
                let Ok(frame) = core.take(movable([0, 0, 0, 2, 9][n % 5])) else { continue };
                write(&frame, 0, 1);
                if n % 3 == 0 {
                    send.send(frame).unwrap();
                } else {
                    write(&frame, 1, 0);
                    core.give(frame).unwrap();
                }
            }
        });
        scope.spawn(move || {
            let mut core = frames.core(1).unwrap();
            let unmovable = Request::new(Order::FRAME, Movability::Unmovable);
            for frame in receive {
                let own = core.take(unmovable).ok();
                own.iter().for_each(|own| write(own, 0, 2));
                write(&frame, 1, 0);
                core.give(frame).unwrap();
                own.iter().for_each(|own| write(own, 2, 0));
            }
            frames.isolate(pageblock(1)).unwrap();
            frames.unisolate(pageblock(1)).unwrap();
        });
    });
    frames.validate();
    assert_eq!(frames.counts().free, NODE.frames);
    drop(frames.take(movable(11)).unwrap());
}
