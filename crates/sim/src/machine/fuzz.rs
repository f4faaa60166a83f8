//! Many random machines, each of one seed.
//!
//! A seed whose machine does what must not happen is told with what led to it; the same seed does
//! it again. What was covered is counted, so that a fuzz that covers nothing is noticed.

use core::{num::NonZeroUsize, ops::Range};
use std::collections::BTreeMap;

use serde::Serialize;

use super::{Violation, run_plan, swarm};
use crate::parallel;

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
    let count = usize::try_from(seeds.end.saturating_sub(seeds.start)).unwrap_or(usize::MAX);
    let one = |number: usize, _: &dyn Fn(u64)| run_seed(seeds.start + number as u64);
    let mut outcome =
        Fuzz { seeds: count as u64, steps: 0, failures: Vec::new(), seen: BTreeMap::new() };
    for (seed, result) in seeds.clone().zip(parallel::all(count, threads, one, progress)) {
        match result {
            Ok((steps, seen)) => {
                outcome.steps += steps;
                for (what, count) in seen {
                    *outcome.seen.entry(what).or_default() += count;
                }
            }
            Err(violation) => {
                let violation = violation.to_string();
                outcome.failures.push(Failure { seed, violation });
            }
        }
    }
    outcome
}

type Seen = BTreeMap<String, u64>;

fn run_seed(seed: u64) -> Result<(u64, Seen), Violation> {
    let row = run_plan(&swarm::plan(seed), seed, "", &|_| {})?;
    Ok((row.steps, row.seen))
}
