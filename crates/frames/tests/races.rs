//! Two threads at the same edge, again and again.
//!
//! A pageblock that becomes full, wholly free, isolated, or that has a frame retired while somebody
//! takes or frees frames of it: each has a moment in which two threads write one place and then
//! look at what the other wrote. These tests do little else, so that the moment is met often, and
//! look afterwards whether anything was lost. (The model checker proves the same for small nodes;
//! this is the machine's word.)

use std::{
    sync::{Barrier, atomic::AtomicU64},
    thread,
};

use memtide_frames::{
    Frame, FrameRange, Frames, Geometry, Layout, Movability, Order, Pfn, Request, Zone,
};

const PAGEBLOCK: u64 = 512;
const ROUNDS: u64 = 8;
/// Long enough for two threads to run at the same time.
const TIMES: u32 = 400_000;

fn movable(exponent: u8) -> Request {
    Request::new(Order::new(exponent).unwrap(), Movability::Movable)
}

/// Runs a test on a new node of so many pageblocks, often.
fn on_nodes(pageblocks: u64, rounds: u64, test: impl Fn(&Frames<'_>, u64)) {
    let frames = pageblocks * PAGEBLOCK;
    let geometry = Geometry { first: Pfn(0), frames, block_frames: frames, cores: 2 };
    let words = Layout::new(geometry).unwrap().words() + Layout::WORDS_SPARE;
    for round in 0..rounds {
        let words: Vec<AtomicU64> = (0..words).map(|_| AtomicU64::new(0)).collect();
        let frames = Frames::new(geometry, &words).unwrap();
        frames.add(frames.span(), Zone::Normal).unwrap();
        test(&frames, round);
        frames.validate();
        assert_eq!(frames.counts().used, 0);
        assert_eq!(frames.retiring(), 0, "frames that are free, but to be retired");
    }
}

/// Runs both at once.
fn both(one: impl FnOnce() + Send, other: impl FnOnce() + Send) {
    let barrier = Barrier::new(2);
    thread::scope(|scope| {
        scope.spawn(|| {
            barrier.wait();
            one();
        });
        barrier.wait();
        other();
    });
}

/// Takes and gives blocks without a core, so that every call goes to the bitmaps.
fn take_and_give(frames: &Frames<'_>, request: Request, times: u32) {
    for _ in 0..times {
        drop(frames.take(request));
    }
}

#[test]
fn a_pageblock_becomes_full_while_frames_are_freed() {
    on_nodes(1, 2 * ROUNDS, |frames, _| {
        // Two are left, for two that take one each.
        let held: Vec<Frame<'_>> = (0..510).map(|_| frames.take(movable(0)).unwrap()).collect();
        let run = || take_and_give(frames, movable(0), TIMES);
        both(run, run);
        assert!(frames.take(movable(0)).is_ok());
        drop(held);
    });
}

#[test]
fn a_pageblock_becomes_free_while_frames_are_taken() {
    on_nodes(1, ROUNDS, |frames, round| {
        let run = || take_and_give(frames, movable((round % 4) as u8), TIMES);
        both(run, || take_and_give(frames, movable(0), TIMES));
        assert!(frames.take(movable(9)).is_ok());
    });
}

#[test]
fn runs_are_noted_while_pageblocks_come_and_go() {
    on_nodes(64, ROUNDS, |frames, round| {
        let large = movable(10 + (round % 6) as u8);
        both(
            || take_and_give(frames, large, TIMES),
            || {
                for _ in 0..TIMES / 3 {
                    let pair = [9, 0, 11].map(|exponent| frames.take(movable(exponent)));
                    drop(pair);
                }
            },
        );
        assert!(frames.take(movable(15)).is_ok());
    });
}

#[test]
fn cores_come_and_go_while_their_pageblocks_are_taken_away() {
    on_nodes(2, ROUNDS / 2, |frames, _| {
        let run = |number| {
            move || {
                for _ in 0..TIMES / 200 {
                    let mut core = frames.core(number).unwrap();
                    let held: Vec<_> = (0..300).map_while(|_| core.take(movable(0)).ok()).collect();
                    held.into_iter().for_each(|frame| core.give(frame).unwrap());
                }
            }
        };
        both(run(0), run(1));
        assert!(frames.take(movable(10)).is_ok());
    });
}

#[test]
fn pageblocks_are_isolated_while_frames_come_and_go() {
    on_nodes(2, ROUNDS, |frames, round| {
        let request = movable([0, 3, 9, 10][(round % 4) as usize]);
        both(
            || take_and_give(frames, request, TIMES / 8),
            || {
                let part = FrameRange::new(Pfn(0), PAGEBLOCK * (1 + round / 4 % 2));
                for _ in 0..TIMES / 80 {
                    frames.isolate(part).unwrap();
                    frames.unisolate(part).unwrap();
                }
                frames.isolate(frames.span()).unwrap();
            },
        );
        frames.validate();
        frames.remove(frames.span()).unwrap();
    });
}

#[test]
fn frames_are_retired_while_they_come_and_go() {
    on_nodes(1, 100 * ROUNDS, |frames, round| {
        let request = movable([0, 2, 9][(round % 3) as usize]);
        both(
            || take_and_give(frames, request, TIMES / 200),
            || {
                for n in 0..6 {
                    std::hint::black_box((0..100 * (round % 9)).sum::<u64>());
                    let _ = frames.retire(Pfn(n * (1 + round % 5))).unwrap();
                }
            },
        );
        assert_eq!(frames.retired(), 6);
    });
}

#[test]
fn a_cached_frame_is_retired() {
    on_nodes(1, 100 * ROUNDS, |frames, round| {
        let run = || {
            let mut core = frames.core_with_cache(0, 1 + round % 64).unwrap();
            for _ in 0..TIMES / 400 {
                // Refused while the other thread has the pageblock.
                let pair = [0, 1].map(|_| core.take(movable(0)).ok());
                pair.into_iter().flatten().for_each(|frame| core.give(frame).unwrap());
            }
        };
        both(run, || {
            for n in 0..6 {
                let _ = frames.retire(Pfn(n)).unwrap();
            }
        });
        assert_eq!(frames.retired(), 6);
    });
}

/// Halves are put together in a pageblock that a core has, or that is isolated at the moment.
#[test]
fn halves_are_merged_while_others_look_for_the_pageblock() {
    on_nodes(1, ROUNDS, |frames, _| {
        both(
            || {
                for _ in 0..TIMES / 80 {
                    let Ok(whole) = frames.take(movable(9)) else { continue };
                    let (low, high) = whole.split().unwrap();
                    drop(low.merge(high).unwrap());
                }
            },
            || {
                for _ in 0..TIMES / 80 {
                    drop(frames.take_at(Pfn(3), Order::FRAME, Movability::Movable));
                    frames.isolate(frames.span()).unwrap();
                    drop(frames.take(movable(0)));
                    frames.unisolate(frames.span()).unwrap();
                }
            },
        );
        assert!(frames.take(movable(9)).is_ok());
    });
}
