//! Sets of device addresses.

use alloc::{collections::BTreeMap, vec::Vec};

use memtide_units::DpaRange;

/// Addresses, as runs that neither touch nor overlap. All of them lie below 2^64 - 1.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(super) struct Ranges(BTreeMap<u64, u64>);

/// One past the last address of a range, as far as there are addresses.
fn end_of(range: DpaRange) -> u64 {
    range.start.saturating_add(range.length)
}

impl Ranges {
    /// Puts a range in; what is there already stays.
    pub(super) fn insert(&mut self, range: DpaRange) {
        if range.length == 0 {
            return;
        }
        let (mut start, mut end) = (range.start, end_of(range));
        let touching = self.0.range(..=end).rev().take_while(|&(_, &other)| other >= start);
        let touching: Vec<(u64, u64)> = touching.map(|(&start, &end)| (start, end)).collect();
        for (other, other_end) in touching {
            self.0.remove(&other);
            start = start.min(other);
            end = end.max(other_end);
        }
        self.0.insert(start, end);
    }

    /// Takes a range out, as far as it is there.
    pub(super) fn remove(&mut self, range: DpaRange) {
        for piece in self.common(range) {
            let (&start, &end) =
                self.0.range(..=piece.start).next_back().expect("it has this piece");
            self.0.remove(&start);
            if start < piece.start {
                self.0.insert(start, piece.start);
            }
            if end_of(piece) < end {
                self.0.insert(end_of(piece), end);
            }
        }
    }

    /// What of a range is there, ascending.
    pub(super) fn common(&self, range: DpaRange) -> Vec<DpaRange> {
        let (start, end) = (range.start, end_of(range));
        if start == end {
            return Vec::new();
        }
        let runs = self.0.range(..end).rev().take_while(|&(_, &other)| other > start);
        let mut pieces: Vec<DpaRange> = runs
            .map(|(&other, &other_end)| {
                let from = other.max(start);
                DpaRange::new(from, other_end.min(end) - from)
            })
            .collect();
        pieces.reverse();
        pieces
    }

    /// Whether all of a range is there.
    pub(super) fn contains(&self, range: DpaRange) -> bool {
        self.common(range) == [range]
    }

    /// How many addresses.
    pub(super) fn bytes(&self) -> u64 {
        self.0.iter().map(|(start, end)| end - start).sum()
    }

    /// Whether there are none.
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The runs, ascending.
    pub(super) fn iter(&self) -> impl DoubleEndedIterator<Item = DpaRange> + '_ {
        self.0.iter().map(|(&start, &end)| DpaRange::new(start, end - start))
    }

    /// The runs, ascending.
    pub(super) fn to_vec(&self) -> Vec<DpaRange> {
        self.iter().collect()
    }
}

impl FromIterator<DpaRange> for Ranges {
    fn from_iter<I: IntoIterator<Item = DpaRange>>(ranges: I) -> Self {
        let mut set = Self::default();
        for range in ranges {
            set.insert(range);
        }
        set
    }
}

/// Addresses, and how many of them lie before each of their runs.
pub(super) struct Below(Vec<(DpaRange, u64)>);

impl Below {
    /// Of these runs, which ascend.
    pub(super) fn of(runs: Vec<DpaRange>) -> Self {
        let counted = |sum: &mut u64, run: DpaRange| {
            let before = *sum;
            *sum += run.length;
            Some((run, before))
        };
        Self(runs.into_iter().scan(0, counted).collect())
    }

    /// How many lie below an address.
    pub(super) fn below(&self, at: u64) -> u64 {
        let count = self.0.partition_point(|(run, _)| run.start < at);
        let last = self.0[..count].last();
        last.map_or(0, |(run, before)| before + run.length.min(at - run.start))
    }

    /// Where runs begin and end.
    pub(super) fn ends(&self) -> impl Iterator<Item = u64> {
        self.0.iter().flat_map(|(run, _)| [run.start, run.start + run.length])
    }
}

/// How many bytes ranges have together.
pub(super) fn bytes_of(ranges: &[DpaRange]) -> u64 {
    ranges.iter().fold(0, |sum: u64, range| sum.saturating_add(range.length))
}

#[cfg(test)]
mod tests {
    use super::*;
    use memtide_units::Random;

    /// Against a bit for each address.
    #[test]
    fn a_set_of_runs_is_a_set_of_addresses() {
        for seed in 0..200 {
            let mut random = Random::new(seed);
            let (mut runs, mut bits) = (Ranges::default(), 0_u64);
            for _ in 0..60 {
                let start = random.below(64);
                let range = DpaRange::new(start, random.below(65 - start));
                let mask = (0..range.length).fold(0, |mask, at| mask | 1 << (start + at));
                if random.below(2) == 0 {
                    runs.insert(range);
                    bits |= mask;
                } else {
                    runs.remove(range);
                    bits &= !mask;
                }
                assert_eq!(runs.bytes(), u64::from(bits.count_ones()), "seed {seed}");
                let pieces = runs.common(range);
                assert_eq!(bytes_of(&pieces), u64::from((bits & mask).count_ones()), "seed {seed}");
                let all = range.length != 0 && bits & mask == mask;
                assert_eq!(runs.contains(range), all, "seed {seed}");
                let below = Below::of(runs.to_vec()).below(start);
                let bits_below = bits & ((1 << start) - 1);
                assert_eq!(below, u64::from(bits_below.count_ones()), "seed {seed}");
                let mut ends = runs.iter().map(|run| (run.start, run.start + run.length));
                let mut last = ends.next();
                for next in ends {
                    assert!(last.expect("there was one").1 < next.0, "seed {seed}");
                    last = Some(next);
                }
            }
        }
    }
}
