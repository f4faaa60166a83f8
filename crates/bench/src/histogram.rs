//! How long single accesses took.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// Buckets to a doubling.
const FINE: u32 = 4;
const BUCKETS: usize = (64 * FINE) as usize;

/// Counts of durations; buckets grow by a quarter of a doubling.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Histogram {
    counts: Vec<u64>,
    max_ns: u64,
}

impl Default for Histogram {
    fn default() -> Self {
        Self { counts: vec![0; BUCKETS], max_ns: 0 }
    }
}

fn bucket(ns: u64) -> usize {
    let ns = ns.max(1);
    let doubling = ns.ilog2();
    let fine = if doubling >= 2 { (ns >> (doubling - 2)) & 3 } else { 0 };
    (doubling * FINE) as usize + fine as usize
}

/// The longest duration that falls into a bucket.
fn upper_ns(bucket: usize) -> u64 {
    let doubling = bucket as u32 / FINE;
    let fine = (bucket as u32 % FINE) as u64;
    if doubling < 2 { (2 << doubling) - 1 } else { ((fine + 5) << (doubling - 2)) - 1 }
}

impl Histogram {
    /// Counts one.
    pub fn add(&mut self, ns: u64) {
        self.counts[bucket(ns)] += 1;
        self.max_ns = self.max_ns.max(ns);
    }

    /// All that were counted.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.counts.iter().sum()
    }

    /// The duration that the share `quantile` (0 to 1) does not exceed, to a quarter of a
    /// doubling.
    #[must_use]
    pub fn quantile(&self, quantile: f64) -> Duration {
        let total = self.count();
        let over = ((1.0 - quantile) * total as f64).floor() as u64;
        let mut above = 0;
        for (index, &count) in self.counts.iter().enumerate().rev() {
            above += count;
            if above > over {
                return Duration::from_nanos(upper_ns(index).min(self.max_ns));
            }
        }
        Duration::ZERO
    }

    /// The longest.
    #[must_use]
    pub const fn max(&self) -> Duration {
        Duration::from_nanos(self.max_ns)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_fall_into_their_buckets() {
        for ns in [1, 2, 3, 4, 5, 7, 8, 100, 1000, 123_456_789] {
            let index = bucket(ns);
            assert!(ns <= upper_ns(index), "{ns}");
            assert!(index == 0 || upper_ns(index - 1) < ns || ns < 4, "{ns}");
        }
    }

    #[test]
    fn quantiles_are_of_the_long_end() {
        let mut histogram = Histogram::default();
        for _ in 0..99_999 {
            histogram.add(100);
        }
        histogram.add(50_000);
        assert!(histogram.quantile(0.999).as_nanos() < 130);
        assert_eq!(histogram.quantile(1.0).as_nanos(), 50_000);
        assert_eq!(histogram.max().as_nanos(), 50_000);
    }
}
