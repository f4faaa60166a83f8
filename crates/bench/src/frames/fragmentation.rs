//! How well placement keeps pageblocks free.
//!
//! All memory is taken frame by frame, shuffled among the threads, and a half given back at
//! random; then, step by step, a tenth of what may be free is replaced: a random frame given back,
//! another taken. An allocator that takes from the fullest pageblocks first packs the memory as
//! this goes on; one that takes what lies next to the last scatters it.
//!
//! Counted after each step: pageblocks in which nothing is taken, and the *moves* that compaction
//! would need at least ([`Packing`]). Then compaction is carried out, the emptiest pageblocks first:
//! they are isolated, and each frame of theirs is replaced by one that the allocator chooses.

use std::{
    io, mem,
    sync::{Barrier, Mutex, PoisonError},
    thread,
    time::Instant,
};

use memtide_frames::{Frame, FrameRange, Frames, Movability, Order, Pfn, Request};
use memtide_sys::processor::{pin_to, processors};
use memtide_units::PAGES_PER_PAGEBLOCK;
use serde::Serialize;

use super::{
    FramesError,
    hands::{Caches, core},
    node::Node,
    packing::{Packing, taken_of},
    random::Random,
    speed::AbortOnPanic,
};

/// What to measure.
#[derive(Clone, Debug)]
pub struct FragOptions {
    /// How many threads.
    pub threads: u16,
    /// Frames of the node.
    pub frames: u64,
    /// Steps, the first of which is the state after the frames were given back.
    pub steps: u32,
    /// With or without caches.
    pub caches: Caches,
    /// The order of things depends on it alone, if there is one thread.
    pub seed: u64,
}

/// Compaction as it was carried out.
#[derive(Clone, Copy, PartialEq, Debug, Serialize)]
pub struct Compaction {
    /// Frames that were replaced by frames elsewhere.
    pub moves: u64,
    /// Pageblocks that could be taken as a whole before.
    pub before: u64,
    /// Pageblocks that could be taken as a whole afterwards.
    pub after: u64,
    /// How long isolating, taking elsewhere and giving back took, with no memory copied.
    pub ms: f64,
}

/// What was found.
#[derive(Clone, Debug, Serialize)]
pub struct FragReport {
    /// Frames of the node.
    pub frames: u64,
    /// How many threads.
    pub threads: u16,
    /// With or without caches.
    pub caches: Caches,
    /// After the frames were given back, and after each step.
    pub steps: Vec<Packing>,
    /// From the state after the frames were given back.
    pub compaction_at_first: Compaction,
    /// From the state after the last step.
    pub compaction_at_last: Compaction,
}

/// Measures.
///
/// # Errors
/// [`FramesError`]: the sizes make no sense, or the allocator refused what it should not.
pub fn bench_fragmentation(options: &FragOptions) -> Result<FragReport, FramesError> {
    // Twice, because compaction ends a run.
    let (first, compaction_at_first) = run(&FragOptions { steps: 1, ..options.clone() })?;
    let (mut steps, compaction_at_last) = run(options)?;
    if options.threads == 1 {
        assert_eq!(steps.first(), first.first(), "one thread always does the same");
    }
    steps.truncate(options.steps as usize);
    Ok(FragReport {
        frames: options.frames,
        threads: options.threads,
        caches: options.caches,
        steps,
        compaction_at_first,
        compaction_at_last,
    })
}

fn run(options: &FragOptions) -> Result<(Vec<Packing>, Compaction), FramesError> {
    let node = Node::new(options.frames, options.threads)?;
    let frames = &node.frames()?;
    let pageblocks = node.geometry().frames / PAGES_PER_PAGEBLOCK;
    let (held, steps) = scatter(frames, options, pageblocks)?;
    let compaction = compact(frames, options, held, pageblocks)?;
    Ok((steps, compaction))
}

/// What the threads share.
struct Shared<'f> {
    barrier: Barrier,
    held: Vec<Mutex<Vec<Frame<'f>>>>,
    steps: Mutex<Vec<Packing>>,
    pageblocks: u64,
}

impl<'f> Shared<'f> {
    /// Everything that is taken, by thread.
    fn all(&self) -> Vec<Vec<Frame<'f>>> {
        let take = |held: &Mutex<Vec<_>>| {
            mem::take(&mut *held.lock().unwrap_or_else(PoisonError::into_inner))
        };
        self.held.iter().map(take).collect()
    }

    /// Shuffles all that is taken, and deals it out evenly.
    fn shuffle(&self, random: &mut Random) {
        let mut all: Vec<_> = self.all().into_iter().flatten().collect();
        random.shuffle(&mut all);
        let share = all.len().div_ceil(self.held.len()).max(1);
        for held in &self.held {
            let rest = all.split_off(share.min(all.len()));
            let mine = mem::replace(&mut all, rest);
            *held.lock().unwrap_or_else(PoisonError::into_inner) = mine;
        }
    }

    fn note(&self) {
        let mut taken = vec![0; self.pageblocks as usize];
        for held in &self.held {
            let held = held.lock().unwrap_or_else(PoisonError::into_inner);
            held.iter().for_each(|frame| count(&mut taken, frame));
        }
        self.steps.lock().unwrap_or_else(PoisonError::into_inner).push(Packing::of(&taken));
    }
}

fn count(taken: &mut [u64], frame: &Frame<'_>) {
    taken[frame.pfn().pageblock().0 as usize] += 1;
}

type Scattered<'f> = (Vec<Frame<'f>>, Vec<Packing>);

/// Fills the memory, gives half back, replaces; returns what is taken then, and how it was packed.
fn scatter<'f>(
    frames: &'f Frames<'f>,
    options: &FragOptions,
    pageblocks: u64,
) -> Result<Scattered<'f>, FramesError> {
    let threads = usize::from(options.threads);
    let mut held = Vec::new();
    held.resize_with(threads, Mutex::default);
    let barrier = Barrier::new(threads);
    let shared = Shared { barrier, held, steps: Mutex::default(), pageblocks };
    thread::scope(|scope| {
        let start = |number| {
            let shared = &shared;
            scope.spawn(move || scatter_one(frames, options, shared, number))
        };
        let all: Vec<_> = (0..options.threads).map(start).collect();
        all.into_iter().try_for_each(|thread| thread.join().expect("a panic ends the process"))
    })?;
    let steps = shared.steps.lock().map(|mut steps| mem::take(&mut *steps));
    let held = shared.all().into_iter().flatten().collect();
    Ok((held, steps.unwrap_or_default()))
}

fn scatter_one<'f>(
    frames: &'f Frames<'f>,
    options: &FragOptions,
    shared: &Shared<'f>,
    number: u16,
) -> Result<(), FramesError> {
    let _guard = AbortOnPanic;
    let processors = processors().map_err(io::Error::from)?;
    let pinned = pin_to(processors[usize::from(number) % processors.len()]);
    let request = Request::new(Order::FRAME, Movability::Movable);
    let mut core = core(frames, number, options.caches);
    let mut random = Random::new(options.seed + u64::from(number));
    let mine = &shared.held[usize::from(number)];
    let mine = || mine.lock().unwrap_or_else(PoisonError::into_inner);
    let mut outcome = pinned.map_err(|errno| FramesError::System(errno.into()));

    shared.barrier.wait();
    let mut held = mine();
    while let Ok(frame) = core.take(request) {
        held.push(frame);
    }
    drop(held);
    if shared.barrier.wait().is_leader() {
        shared.shuffle(&mut random);
    }
    shared.barrier.wait();

    let free = (shared.pageblocks * PAGES_PER_PAGEBLOCK / 2) as usize / usize::from(options.threads);
    let mut held = mine();
    let keep = held.len().saturating_sub(free);
    for frame in held.split_off(keep) {
        // A thread that left would keep the others waiting: errors are told at the end.
        if let Err(error) = core.give(frame) {
            outcome = Err(error.into());
        }
    }
    drop(held);
    if shared.barrier.wait().is_leader() {
        shared.note();
    }
    shared.barrier.wait();

    for _ in 1..options.steps {
        let mut held = mine();
        for _ in 0..free / 10 {
            let at = random.below(held.len());
            if let Err(error) = core.give(held.swap_remove(at)) {
                outcome = Err(error.into());
            }
            match core.take(request) {
                Ok(frame) => held.push(frame),
                Err(error) => outcome = Err(error.into()),
            }
        }
        drop(held);
        if shared.barrier.wait().is_leader() {
            shared.note();
        }
        shared.barrier.wait();
    }
    outcome
}

/// Empties as many pageblocks as the free frames allow, those with the least in them.
fn compact<'f>(
    frames: &'f Frames<'f>,
    options: &FragOptions,
    held: Vec<Frame<'f>>,
    pageblocks: u64,
) -> Result<Compaction, FramesError> {
    let mut core = core(frames, 0, options.caches);
    let before = takeable(&mut core)?;
    let mut of: Vec<Vec<Frame<'f>>> = Vec::new();
    of.resize_with(pageblocks as usize, Vec::new);
    for frame in held {
        of[frame.pfn().pageblock().0 as usize].push(frame);
    }
    let taken: Vec<u64> = of.iter().map(|frames| frames.len() as u64).collect();
    let goal = Packing::of(&taken).possible;
    let chosen = taken_of(&taken).into_iter().take(goal as usize).map(|(pb, _)| pb);
    let ranges: Vec<(usize, FrameRange)> =
        chosen.map(|pb| (pb, pageblock(pb as u64))).collect();

    let request = Request::new(Order::FRAME, Movability::Movable);
    let (mut moves, mut moved) = (0, Vec::new());
    let start = Instant::now();
    for (_, range) in &ranges {
        frames.isolate(*range)?;
    }
    for (pb, _) in &ranges {
        for old in mem::take(&mut of[*pb]) {
            moved.push(core.take(request)?);
            core.give(old)?;
            moves += 1;
        }
    }
    core.drain();
    for (_, range) in &ranges {
        frames.unisolate(*range)?;
    }
    let ms = start.elapsed().as_secs_f64() * 1e3;
    let after = takeable(&mut core)?;
    Ok(Compaction { moves, before, after, ms })
}

const fn pageblock(pb: u64) -> FrameRange {
    FrameRange::new(Pfn(pb * PAGES_PER_PAGEBLOCK), PAGES_PER_PAGEBLOCK)
}

/// How many pageblocks the allocator hands out as a whole.
fn takeable(core: &mut memtide_frames::Core<'_>) -> Result<u64, FramesError> {
    core.drain();
    let request = Request::new(Order::PAGEBLOCK, Movability::Movable);
    let mut all = Vec::new();
    while let Ok(frame) = core.take(request) {
        all.push(frame);
    }
    let count = all.len() as u64;
    for frame in all {
        core.give(frame)?;
    }
    Ok(count)
}
