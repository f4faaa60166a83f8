//! Bulk, repeat, rand: nanoseconds for each take and give.
//!
//! Each thread works on its share of half the memory: as many blocks as would be half of it if the
//! largest number of threads ran. What is done once with single frames is done 2^k times with
//! blocks of order k, so that all orders make the same number of calls. A run is measured on a
//! fresh node; variants take turns within a round, so that a machine that drifts drifts for all.

use std::{
    hint::black_box,
    mem, thread,
    time::{Duration, Instant},
};

use memtide_frames::Order;
use memtide_units::Random;
use serde::Serialize;

use super::{
    FramesError,
    hands::{By, Caches, Calls, Hands, Numbering, Owning},
    node::Node,
    spread::Spread,
    threads::{AbortOnPanic, Shared, pin},
};

/// What the threads do.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Operation {
    /// Take all, then give all back, the last first.
    Bulk,
    /// With half of the memory taken: take one and give it back, again and again.
    Repeat,
    /// Take all, shuffle what all threads have, and give it back: half of two threads' frames are
    /// of the other.
    Rand,
}

/// What to measure.
#[derive(Clone, Debug)]
pub struct SpeedOptions {
    /// Which operations.
    pub operations: Vec<Operation>,
    /// Numbers of threads.
    pub threads: Vec<u16>,
    /// Orders.
    pub orders: Vec<Order>,
    /// Frames of the node.
    pub frames: u64,
    /// How often.
    pub iterations: u32,
    /// With caches, without, or both.
    pub caches: Vec<Caches>,
    /// By token, by number, or both.
    pub by: Vec<By>,
    /// How the allocator is called.
    pub calls: Calls,
}

/// One line of the report. Nanoseconds.
#[derive(Clone, Debug, Serialize)]
pub struct SpeedRow {
    /// What was done.
    pub operation: Operation,
    /// By how many threads.
    pub threads: u16,
    /// With blocks of which order.
    pub order: u8,
    /// What was held of them.
    pub by: By,
    /// With or without caches.
    pub caches: Caches,
    /// To take one; not told apart when repeating.
    pub take_ns: Option<Spread>,
    /// To give one back; not told apart when repeating.
    pub give_ns: Option<Spread>,
    /// To take one and give it back.
    pub pair_ns: Spread,
}

/// What was found.
#[derive(Clone, Debug, Serialize)]
pub struct SpeedReport {
    /// Frames of the node.
    pub frames: u64,
    /// How often everything was measured.
    pub iterations: u32,
    /// How the allocator was called.
    pub calls: Calls,
    /// The figures.
    pub rows: Vec<SpeedRow>,
}

/// Measures. `progress` hears how many of how many runs are done.
///
/// # Errors
/// [`FramesError`]: the sizes make no sense, or the allocator refused what it should not.
pub fn bench_speed(
    options: &SpeedOptions,
    mut progress: impl FnMut(u32, u32),
) -> Result<SpeedReport, FramesError> {
    let most = options.threads.iter().copied().max().unwrap_or(1);
    let mut cases = Vec::new();
    for &operation in &options.operations {
        for &threads in &options.threads {
            for &order in &options.orders {
                let variants = options.by.iter().flat_map(|&by| {
                    options.caches.iter().map(move |&caches| (by, caches, Vec::new()))
                });
                let run = Run::new(operation, threads, most, order, options)?;
                cases.push((run, variants.collect::<Vec<_>>()));
            }
        }
    }
    let of: u32 = cases.iter().map(|(_, variants)| variants.len() as u32).sum();
    let (mut done, of) = (0, of * options.iterations);
    let mut rows = Vec::new();
    for (run, mut variants) in cases {
        for _ in 0..options.iterations {
            for (by, caches, found) in &mut variants {
                progress(done, of);
                found.push(run.measure(*by, *caches)?);
                done += 1;
            }
        }
        rows.extend(variants.iter().filter_map(|(by, caches, found)| run.row(*by, *caches, found)));
    }
    progress(of, of);
    let (frames, iterations, calls) = (options.frames, options.iterations, options.calls);
    Ok(SpeedReport { frames, iterations, calls, rows })
}

/// What one run does.
#[derive(Clone, Copy, Debug)]
struct Run {
    operation: Operation,
    threads: u16,
    cores: u16,
    order: Order,
    frames: u64,
    /// Blocks for each thread.
    blocks: usize,
    /// How often.
    rounds: u32,
    calls: Calls,
}

/// Nanoseconds for each take and each give, the average of all threads.
#[derive(Clone, Copy, Default, Debug)]
struct Timed {
    take: f64,
    give: f64,
}

impl Run {
    fn new(
        operation: Operation,
        threads: u16,
        cores: u16,
        order: Order,
        options: &SpeedOptions,
    ) -> Result<Self, FramesError> {
        let (frames, calls) = (options.frames, options.calls);
        let blocks = frames / u64::from(cores.max(1)) / 2 / order.frames();
        if blocks == 0 || threads == 0 {
            return Err(FramesError::TooSmall { frames, threads: cores, order: order.get() });
        }
        let (blocks, rounds) = (blocks as usize, order.frames() as u32);
        Ok(Self { operation, threads, cores, order, frames, blocks, rounds, calls })
    }

    fn row(&self, by: By, caches: Caches, found: &[Timed]) -> Option<SpeedRow> {
        let spread =
            |figure: fn(&Timed) -> f64| Spread::of(&found.iter().map(figure).collect::<Vec<_>>());
        let apart = self.operation != Operation::Repeat;
        Some(SpeedRow {
            operation: self.operation,
            threads: self.threads,
            order: self.order.get(),
            by,
            caches,
            take_ns: spread(|timed| timed.take).filter(|_| apart),
            give_ns: spread(|timed| timed.give).filter(|_| apart),
            pair_ns: spread(|timed| timed.take + timed.give)?,
        })
    }

    fn measure(&self, by: By, caches: Caches) -> Result<Timed, FramesError> {
        let node = Node::new(self.frames, self.cores)?;
        let frames = &node.frames()?;
        match by {
            By::Owned => self.all_threads(|core| Owning::new(frames, core, caches, self.order)),
            By::Number => self.all_threads(|core| Numbering::new(frames, core, caches, self.order)),
        }
    }

    fn all_threads<H: Hands>(&self, hands: impl Fn(u16) -> H + Sync) -> Result<Timed, FramesError> {
        let shared = Shared::new(self.threads);
        let one = |number: u16| {
            let _guard = AbortOnPanic;
            let pinned = pin(number);
            let mut hands = hands(number);
            let timed = match self.calls {
                Calls::Direct => self.one_thread(&mut hands, number, &shared),
                Calls::Indirect => {
                    let hands: &mut dyn Hands<Held = H::Held> = &mut hands;
                    self.one_thread(black_box(hands), number, &shared)
                }
            };
            pinned?;
            timed
        };
        thread::scope(|scope| {
            let threads: Vec<_> =
                (0..self.threads).map(|number| scope.spawn(move || one(number))).collect();
            let mut sum = Timed::default();
            for thread in threads {
                let timed = thread.join().expect("a panic ends the process")?;
                sum.take += timed.take / f64::from(self.threads);
                sum.give += timed.give / f64::from(self.threads);
            }
            Ok(sum)
        })
    }

    fn one_thread<H: Hands + ?Sized>(
        &self,
        hands: &mut H,
        number: u16,
        shared: &Shared<H::Held>,
    ) -> Result<Timed, FramesError> {
        match self.operation {
            Operation::Bulk => self.bulk(hands, shared),
            Operation::Repeat => self.repeat(hands, shared),
            Operation::Rand => self.rand(hands, number, shared),
        }
    }

    /// The average of all calls of all rounds.
    fn each(&self, all: Duration) -> f64 {
        all.as_secs_f64() * 1e9 / (self.blocks as f64 * f64::from(self.rounds))
    }

    fn bulk<H: Hands + ?Sized>(
        &self,
        hands: &mut H,
        shared: &Shared<H::Held>,
    ) -> Result<Timed, FramesError> {
        let mut outcome = Ok(());
        let (mut take, mut give) = (Duration::ZERO, Duration::ZERO);
        let mut held = Vec::with_capacity(self.blocks);
        for _ in 0..self.rounds {
            shared.barrier.wait();
            let start = Instant::now();
            for _ in 0..self.blocks {
                match hands.take() {
                    Ok(block) => held.push(block),
                    Err(error) => outcome = Err(error.into()),
                }
            }
            take += start.elapsed();
            shared.barrier.wait();
            let start = Instant::now();
            while let Some(block) = held.pop() {
                if let Err(error) = hands.give(block) {
                    outcome = Err(error);
                }
            }
            give += start.elapsed();
        }
        outcome.map(|()| Timed { take: self.each(take), give: self.each(give) })
    }

    fn repeat<H: Hands + ?Sized>(
        &self,
        hands: &mut H,
        shared: &Shared<H::Held>,
    ) -> Result<Timed, FramesError> {
        let mut outcome = Ok(());
        let filled: Vec<_> = (0..self.blocks).map_while(|_| hands.take().ok()).collect();
        shared.barrier.wait();
        let start = Instant::now();
        for _ in 0..self.rounds {
            for _ in 0..self.blocks {
                let done = match hands.take() {
                    Ok(block) => hands.give(black_box(block)),
                    Err(error) => Err(error.into()),
                };
                if done.is_err() {
                    outcome = done;
                }
            }
        }
        let pair = self.each(start.elapsed());
        shared.barrier.wait();
        for block in filled {
            hands.give(block)?;
        }
        outcome.map(|()| Timed { take: pair, give: 0.0 })
    }

    fn rand<H: Hands + ?Sized>(
        &self,
        hands: &mut H,
        number: u16,
        shared: &Shared<H::Held>,
    ) -> Result<Timed, FramesError> {
        let mut outcome = Ok(());
        let (mut take, mut give) = (Duration::ZERO, Duration::ZERO);
        let mut held = Vec::with_capacity(self.blocks);
        for _ in 0..self.rounds {
            shared.barrier.wait();
            let start = Instant::now();
            for _ in 0..self.blocks {
                match hands.take() {
                    Ok(block) => held.push(block),
                    Err(error) => outcome = Err(error.into()),
                }
            }
            take += start.elapsed();
            shared.put(number, mem::take(&mut held));
            if shared.barrier.wait().is_leader() {
                shared.shuffle(&mut Random::new(42));
            }
            shared.barrier.wait();
            held = shared.get(number);
            let start = Instant::now();
            for block in held.drain(..) {
                if let Err(error) = hands.give(block) {
                    outcome = Err(error);
                }
            }
            give += start.elapsed();
        }
        outcome.map(|()| Timed { take: self.each(take), give: self.each(give) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(frames: u64) -> SpeedOptions {
        SpeedOptions {
            operations: vec![Operation::Bulk, Operation::Repeat, Operation::Rand],
            threads: vec![1, 2],
            orders: [0, 3, 9].map(|order| Order::new(order).unwrap()).to_vec(),
            frames,
            iterations: 2,
            caches: vec![Caches::On, Caches::Off],
            by: vec![By::Owned, By::Number],
            calls: Calls::Indirect,
        }
    }

    #[test]
    fn every_case_has_a_row() {
        let mut heard = 0;
        let report = bench_speed(&options(1 << 15), |done, _| heard = done).unwrap();
        assert_eq!((report.rows.len(), heard), (3 * 2 * 3 * 4, 3 * 2 * 3 * 4 * 2));
        for row in &report.rows {
            assert_eq!(row.take_ns.is_none(), row.operation == Operation::Repeat);
            assert!(row.pair_ns.min > 0.0 && row.pair_ns.min <= row.pair_ns.max, "{row:?}");
        }
        let direct = SpeedOptions { calls: Calls::Direct, ..options(1 << 15) };
        assert_eq!(bench_speed(&direct, |_, _| {}).unwrap().rows.len(), report.rows.len());
    }

    #[test]
    fn too_little_memory_is_refused() {
        let error = bench_speed(&options(1 << 10), |_, _| {}).unwrap_err();
        let expected = "1024 frames among 2 threads leave none of order 9 for each";
        assert_eq!(error.to_string(), expected);
    }
}
