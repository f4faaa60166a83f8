//! Zipf: the k-th most popular page is as likely as 1 ∕ k^theta.
//!
//! Drawn from a table of 2^16 bins that are equally likely. A bin is a range of ranks, of which
//! any is as likely: a step function in place of the curve. So a rank's likelihood is off by 2^-16
//! of all visits at most, and that of the first k ranks together, too. The bounds of the bins come
//! from the sum of the first 2^12 terms and, beyond, from the integral (the error of the midpoint
//! rule is below 10^-8 there).

use memtide_units::Random;

use super::{Stream, Writes, power::power};
use crate::tiering::scatter::Scatter;

const BINS: usize = 1 << 16;
/// Terms that are summed, not integrated.
const EXACT: u32 = 1 << 12;

/// Draws ranks.
pub struct Ranks {
    /// The first rank of a bin, and how many there are.
    bins: Vec<(u32, u32)>,
}

impl Ranks {
    /// Of `pages` pages; theta between 0 and 1, both excluded.
    pub fn new(pages: u32, theta: f64) -> Self {
        let bounds = bounds(pages, theta);
        let bins = bounds.windows(2).map(|pair| (pair[0], (pair[1] - pair[0]).max(1)));
        Self { bins: bins.collect() }
    }

    /// The rank, from 0, that a random number means. Looks at all but its lowest 16 bits.
    #[inline]
    pub fn rank(&self, random: u64) -> u32 {
        let (first, count) = self.bins[(random >> 48) as usize];
        first + ((u64::from((random >> 16) as u32) * u64::from(count)) >> 32) as u32
    }
}

/// The rank at which each bin begins, and the end of the last.
fn bounds(pages: u32, theta: f64) -> Vec<u32> {
    let rest = 1.0 - theta;
    let exact = EXACT.min(pages);
    let mut sums = Vec::with_capacity(exact as usize);
    let mut sum = 0.0;
    for rank in 1..=exact {
        sum += power(f64::from(rank), -theta);
        sums.push(sum);
    }
    let from = power(f64::from(exact) + 0.5, rest);
    let total = sum + (power(f64::from(pages) + 0.5, rest) - from) / rest;
    let mut at = 0_u32;
    let bound = |bin: usize| {
        let target = total * bin as f64 / BINS as f64;
        if target < sum {
            while sums[at as usize] <= target {
                at += 1;
            }
            return at;
        }
        let rank = power((target - sum) * rest + from, 1.0 / rest) - 0.5;
        (rank as u32).clamp(exact.min(pages - 1), pages - 1)
    };
    let mut bounds: Vec<u32> = (0..BINS).map(bound).collect();
    bounds.push(pages);
    bounds
}

pub struct Zipf {
    pages: u32,
    ranks: Ranks,
    scatter: Scatter,
    writes: Writes,
    random: Random,
}

impl Zipf {
    pub fn new(pages: u32, theta: f64, writes: Writes, seed: u64) -> Self {
        let (ranks, scatter) = (Ranks::new(pages, theta), Scatter::new(pages));
        Self { pages, ranks, scatter, writes, random: Random::new(seed) }
    }
}

impl Stream for Zipf {
    fn fill(&mut self, phase: u64, into: &mut [u32]) {
        let pages = u64::from(self.pages);
        let shift = (phase % pages * u64::from(self.pages.div_ceil(8)) % pages) as u32;
        for visit in into {
            let random = self.random.next();
            let rank = self.ranks.rank(random) + shift;
            let rank = if rank >= self.pages { rank - self.pages } else { rank };
            *visit = self.scatter.page(rank) | self.writes.bit(random);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranks_are_as_likely_as_zipf_says() {
        for (pages, theta) in [(100, 0.5), (100_000, 0.99), (1 << 22, 0.8)] {
            let ranks = Ranks::new(pages, theta);
            let mut random = Random::new(7);
            let draws = 2_000_000;
            let mut seen = vec![0_u32; pages as usize];
            (0..draws).for_each(|_| seen[ranks.rank(random.next()) as usize] += 1);
            let term = |rank: u32| f64::from(rank).powf(-theta);
            let total: f64 = (1..=pages).map(term).sum();
            // The first rank alone, then all up to 10, 100, …
            let mut upto = 1;
            while upto < pages {
                let expected = (1..=upto).map(term).sum::<f64>() / total;
                let drawn: u32 = seen[..upto as usize].iter().sum();
                let drawn = f64::from(drawn) / f64::from(draws);
                let off = (expected - drawn).abs();
                assert!(off < 0.002, "{pages} {theta} {upto}: {expected} {drawn}");
                upto *= 10;
            }
        }
    }

    #[test]
    fn bounds_rise_and_reach_the_end() {
        for pages in [1, 2, 4095, 4096, 4097, 1 << 28] {
            let bounds = bounds(pages, 0.99);
            assert!(bounds.is_sorted() && bounds[0] == 0);
            assert!(bounds.iter().rev().skip(1).all(|&bound| bound < pages), "{pages}");
            assert_eq!(bounds.last(), Some(&pages));
        }
    }
}
