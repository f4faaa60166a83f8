//! How well placement keeps pageblocks free.
//!
//! All memory is taken frame by frame, shuffled among the threads, and a half given back at
//! random; then, step by step, a tenth of what may be free is replaced: a random frame given back,
//! another taken. An allocator that takes from the fullest pageblocks first packs the memory as
//! this goes on; one that takes what lies next to the last scatters it.
//!
//! Counted after each step: pageblocks in which nothing is taken, and the *moves* that compaction
//! would need at least ([`Packing`]). Then compaction is carried out, the emptiest pageblocks
//! first: they are isolated, and each frame of theirs is replaced by one that the allocator
//! chooses.

use std::{
    mem,
    sync::{Mutex, PoisonError},
    thread,
    time::Instant,
};

use memtide_frames::{Frame, FrameRange, Frames, Movability, Order, Pfn, Request};
use memtide_units::{PAGES_PER_PAGEBLOCK, Random};
use serde::Serialize;

use super::{
    FramesError,
    hands::{Caches, core},
    node::Node,
    packing::{Packing, taken_of},
    threads::{AbortOnPanic, Shared, pin},
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

fn count(taken: &mut [u64], frame: &Frame<'_>) {
    taken[frame.pfn().pageblock().0 as usize] += 1;
}

/// How all that was handed over is packed.
fn packing(shared: &Shared<Frame<'_>>, pageblocks: u64) -> Packing {
    let mut taken = vec![0; pageblocks as usize];
    shared.each(|frame| count(&mut taken, frame));
    Packing::of(&taken)
}

type Scattered<'f> = (Vec<Frame<'f>>, Vec<Packing>);

/// Fills the memory, gives half back, replaces; returns what is taken then, and how it was packed.
fn scatter<'f>(
    frames: &'f Frames<'f>,
    options: &FragOptions,
    pageblocks: u64,
) -> Result<Scattered<'f>, FramesError> {
    let shared = Shared::new(options.threads);
    let steps = Mutex::new(Vec::new());
    let note = || {
        let packing = packing(&shared, pageblocks);
        steps.lock().unwrap_or_else(PoisonError::into_inner).push(packing);
    };
    thread::scope(|scope| {
        let start = |number| {
            let (shared, note) = (&shared, &note);
            scope.spawn(move || {
                let _guard = AbortOnPanic;
                let free = pageblocks * PAGES_PER_PAGEBLOCK / 2 / u64::from(options.threads);
                let thread = Thread { number, free: free as usize, frames, options, shared };
                thread.scatter(note)
            })
        };
        let all: Vec<_> = (0..options.threads).map(start).collect();
        all.into_iter().try_for_each(|thread| thread.join().expect("a panic ends the process"))
    })?;
    let held = (0..options.threads).flat_map(|number| shared.get(number)).collect();
    Ok((held, steps.into_inner().unwrap_or_else(PoisonError::into_inner)))
}

/// One of the threads that scatter.
struct Thread<'a, 'f> {
    number: u16,
    /// Frames that it gives back.
    free: usize,
    frames: &'f Frames<'f>,
    options: &'a FragOptions,
    shared: &'a Shared<Frame<'f>>,
}

impl<'f> Thread<'_, 'f> {
    /// Errors are told at the end: a thread that left earlier would keep the others waiting.
    fn scatter(&self, note: impl Fn()) -> Result<(), FramesError> {
        let mut outcome = pin(self.number);
        let request = Request::new(Order::FRAME, Movability::Movable);
        let mut core = core(self.frames, self.number, self.options.caches);
        let mut random = Random::new(self.options.seed + u64::from(self.number));

        self.shared.barrier.wait();
        let mut held = Vec::new();
        while let Ok(frame) = core.take(request) {
            held.push(frame);
        }
        held = self.meet(held, || self.shared.shuffle(&mut random));

        let keep = held.len().saturating_sub(self.free);
        for frame in held.split_off(keep) {
            if let Err(error) = core.give(frame) {
                outcome = Err(error.into());
            }
        }
        held = self.meet(held, &note);

        for _ in 1..self.options.steps {
            for _ in 0..self.free / 10 {
                let at = random.below(held.len() as u64) as usize;
                if let Err(error) = core.give(held.swap_remove(at)) {
                    outcome = Err(error.into());
                }
                match core.take(request) {
                    Ok(frame) => held.push(frame),
                    Err(error) => outcome = Err(error.into()),
                }
            }
            held = self.meet(held, &note);
        }
        self.shared.put(self.number, held);
        outcome
    }

    /// Hands over what this thread has, waits for all to do so, lets one of them do something,
    /// and takes back what is this thread's then.
    fn meet(&self, held: Vec<Frame<'f>>, once: impl FnOnce()) -> Vec<Frame<'f>> {
        self.shared.put(self.number, held);
        if self.shared.barrier.wait().is_leader() {
            once();
        }
        self.shared.barrier.wait();
        self.shared.get(self.number)
    }
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
    let ranges: Vec<(usize, FrameRange)> = chosen.map(|pb| (pb, pageblock(pb as u64))).collect();

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

#[cfg(test)]
mod tests {
    use super::*;

    fn report(threads: u16, caches: Caches) -> FragReport {
        let options = FragOptions { threads, frames: 1 << 15, steps: 3, caches, seed: 1 };
        bench_fragmentation(&options).unwrap()
    }

    #[test]
    fn half_is_free_and_compaction_frees_it_whole() {
        for (threads, caches) in [(1, Caches::On), (1, Caches::Off), (3, Caches::On)] {
            let report = report(threads, caches);
            assert_eq!(report.steps.len(), 3);
            let share = 1 << 14;
            let free: Vec<u64> = report.steps.iter().map(|step| step.free_frames).collect();
            assert!(free.iter().all(|&free| free.abs_diff(share) <= 3), "{free:?}");
            for done in [report.compaction_at_first, report.compaction_at_last] {
                assert_eq!(done.after, free[0] / PAGES_PER_PAGEBLOCK, "{report:?}");
                assert!(done.moves > 0 && done.before < done.after);
            }
        }
    }

    #[test]
    fn one_thread_always_does_the_same() {
        let [first, second] = [(); 2].map(|()| report(1, Caches::On));
        assert_eq!(first.steps, second.steps);
        assert_eq!(first.compaction_at_last.moves, first.steps[2].moves);
    }
}
