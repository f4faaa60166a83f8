//! Many random machines and pools, one of each for a seed.
//!
//! A seed whose machine or pool does what must not happen is told with what led to it; the same
//! seed does it again. What was covered is counted, so that a fuzz that covers nothing is noticed.

use core::{num::NonZeroUsize, ops::Range};
use std::collections::BTreeMap;

use serde::Serialize;

use super::{Violation, run_plan, swarm};
use crate::{parallel, pool};

/// Seeds whose results are kept apart until they are added up.
const BATCH: u64 = 1024;
/// Seeds that failed of which all is told: the first. Of the others it is how many.
const FAILURES_MAX: usize = 100;

/// What came of many seeds.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize)]
pub struct Fuzz {
    /// How many seeds.
    pub seeds: u64,
    /// Steps of all worlds.
    pub steps: u64,
    /// The seeds that did what must not happen, and what that was: the first hundred at most.
    pub failures: Vec<Failure>,
    /// How many more did.
    pub more_failures: u64,
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
    let mut outcome = Fuzz { seeds: count, ..Fuzz::default() };
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
    /// How many seeds did what must not happen.
    #[must_use]
    pub fn failed(&self) -> u64 {
        self.failures.len() as u64 + self.more_failures
    }

    fn add(&mut self, seed: u64, result: Result<(u64, Seen), Violation>) {
        match result {
            Ok((steps, seen)) => {
                self.steps += steps;
                for (what, count) in seen {
                    *self.seen.entry(what).or_default() += count;
                }
            }
            Err(_) if self.failures.len() == FAILURES_MAX => self.more_failures += 1,
            Err(violation) => {
                self.failures.push(Failure { seed, violation: violation.to_string() });
            }
        }
    }
}

type Seen = BTreeMap<String, u64>;

fn run_seed(seed: u64) -> Result<(u64, Seen), Violation> {
    let row = run_plan(&swarm::plan(seed), seed, "", &|_| {})?;
    let (mut steps, mut seen) = (row.steps, row.seen);
    for row in pool::run_plan(&pool::random_plan(seed), seed, "", &|_| {})? {
        steps += row.steps;
        for (what, count) in row.seen {
            *seen.entry(format!("pool: {what}")).or_default() += count;
        }
    }
    Ok((steps, seen))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_many_failures_the_first_are_told_and_the_others_counted() {
        let mut outcome = Fuzz::default();
        for seed in 0..250 {
            let violation = Violation { at: seed, what: "broken".to_owned(), trace: Vec::new() };
            outcome.add(seed, Err(violation));
        }
        outcome.add(250, Ok((3, Seen::new())));
        assert_eq!(
            (outcome.failures.len(), outcome.more_failures, outcome.failed()),
            (100, 150, 250)
        );
        assert_eq!(outcome.failures[99].seed, 99);
        assert!(outcome.failures[99].violation.contains("after 99 ns: broken"));
        assert_eq!(outcome.steps, 3);
    }
}
