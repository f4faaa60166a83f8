//! The allocator under the model checker: every interleaving of two or three threads, with so many
//! preemptions at most, on nodes of one to three pageblocks of 64 frames.
//!
//! A model sets a node up alone, lets its threads go, waits for all of them, and then checks that
//! the node is at rest ([`Frames::validate`]) and that nothing was lost or given out twice. What a
//! thread owns at first was taken by the setup; so blocks change hands as plain numbers.
//!
//! A request may be refused while the only pageblock that could serve it is on its way from one
//! place to another in the hands of another thread. Models in which that can happen allow for it.
//!
//! `RUSTFLAGS="--cfg loom" cargo test -p memtide-frames --lib --release loom::`, with
//! `LOOM_MAX_PREEMPTIONS` to look further.

mod cores;
mod isolation;
mod pageblocks;

use std::{sync::Arc, vec::Vec};

use ::loom::thread::{self, JoinHandle};

use crate::{
    Core, Frame, FrameRange, Frames, Geometry, Layout, Movability, Order, Pfn, Request, Zone,
    entry::State,
    layout::{FRAMES, PAGEBLOCK_ORDER},
    primitive::{AtomicU64, Ordering::*},
    record,
};

/// The words of a node in NORMAL, all of it in the pool.
struct Node(Vec<AtomicU64>);

impl Node {
    fn new(pageblocks: u64, cores: u16) -> Arc<Self> {
        let frames = pageblocks * FRAMES;
        let node = Geometry { first: Pfn(0), frames, block_frames: FRAMES, cores };
        let words = Layout::new(node).unwrap().words();
        let words: Vec<AtomicU64> = (0..words).map(|_| AtomicU64::new(0)).collect();
        let frames = Frames::new(node, &words).unwrap();
        frames.add(frames.span(), Zone::Normal).unwrap();
        Arc::new(Self(words))
    }

    fn frames(&self) -> Frames<'_> {
        Frames::attach(&self.0).unwrap()
    }

    /// Checks that the node is at rest, with so many frames in use.
    fn is_at_rest(&self, used: u64) -> Frames<'_> {
        let frames = self.frames();
        frames.validate();
        assert_eq!(frames.counts().used, used);
        frames
    }
}

/// Tries all interleavings with so many preemptions, or as many as the environment says.
fn check(preemptions: usize, model: impl Fn() + Sync + Send + 'static) {
    let mut builder = ::loom::model::Builder::new();
    builder.preemption_bound = builder.preemption_bound.or(Some(preemptions));
    // Every access counts, those of the setup and of the checks too.
    builder.max_branches = 100_000;
    builder.check(model);
}

fn spawn<T: 'static>(
    node: &Arc<Node>,
    run: impl FnOnce(&Frames<'_>) -> T + 'static,
) -> JoinHandle<T> {
    let node = node.clone();
    thread::spawn(move || run(&node.frames()))
}

fn request(order: u8) -> Request {
    Request::new(Order::new(order).unwrap(), Movability::Movable)
}

/// A block that changes hands: its number inside the node, and its order.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Handed(u64, u8);

fn hand_over(frame: Frame<'_>) -> Handed {
    let handed = Handed(frame.index(), frame.exponent());
    frame.forget();
    handed
}

fn take(frames: &Frames<'_>, order: u8) -> Handed {
    hand_over(frames.take(request(order)).unwrap())
}

impl Handed {
    fn receive<'f>(self, frames: &'f Frames<'f>) -> Frame<'f> {
        Frame::new(frames, self.0, self.1)
    }

    fn give(self, frames: &Frames<'_>) {
        drop(self.receive(frames));
    }
}

/// Leaves a core as it is, for another thread to use.
fn leave(core: Core<'_>) {
    let record = core.frames().record(core.number());
    core::mem::forget(core);
    record[record::IN_USE].store(0, Release);
}
