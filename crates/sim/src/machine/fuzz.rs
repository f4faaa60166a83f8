//! Many random machines, each of one seed.
//!
//! A seed whose machine does what must not happen is told with what led to it; the same seed does
//! it again. What was covered is counted, so that a fuzz that covers nothing is noticed.

use core::{num::NonZeroUsize, ops::Range};
use std::collections::BTreeMap;

use serde::Serialize;

use super::{Violation, run_plan, swarm};
use crate::parallel;

/// Seeds whose results are kept apart until they are added up.
const BATCH: u64 = 1024;

/// What came of many seeds.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Fuzz {
    /// How many seeds.
    pub seeds: u64,
    /// Steps of all worlds.
    pub steps: u64,
    /// The seeds that did what must not happen, and what that was.
    pub failures: Vec<Failure>,
    /// What went in and came out, was refused and stood in the way, and how often.
    pub seen: BTreeMap<String, u64>,
}

/// A seed that failed.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Failure {
    /// Which.
    pub seed: u64,
    /// What happened.
    pub violation: String,
}

/// Runs all seeds, so many at once. The outcome does not depend on how many.
#[must_use]
pub fn fuzz(seeds: Range<u64>, threads: NonZeroUsize, progress: &mut dyn FnMut(u64, u64)) -> Fuzz {
    let count = seeds.end.saturating_sub(seeds.start);
    let mut outcome = Fuzz { seeds: count, steps: 0, failures: Vec::new(), seen: BTreeMap::new() };
    let mut first = seeds.start;
    while first < seeds.end {
        let batch = (seeds.end - first).min(BATCH);
        let one = |number: usize, _: &dyn Fn(u64)| run_seed(first + number as u64);
        let before = (first - seeds.start) * 1000;
        let mut told = |done, _| progress(before + done, count * 1000);
        let results = parallel::all(batch as usize, threads, one, &mut told);
        for (seed, result) in (first..).zip(results) {
            outcome.add(seed, result);
        }
        first += batch;
    }
    outcome
}

impl Fuzz {
    fn add(&mut self, seed: u64, result: Result<(u64, Seen), Violation>) {
        match result {
            Ok((steps, seen)) => {
                self.steps += steps;
                for (what, count) in seen {
                    *self.seen.entry(what).or_default() += count;
                }
            }
            Err(violation) => {
                self.failures.push(Failure { seed, violation: violation.to_string() });
            }
        }
    }
}

type Seen = BTreeMap<String, u64>;

fn run_seed(seed: u64) -> Result<(u64, Seen), Violation> {
    let row = run_plan(&swarm::plan(seed), seed, "", &|_| {})?;
    Ok((row.steps, row.seen))
}
