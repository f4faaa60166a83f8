//! Sets of addresses, as runs that neither touch nor overlap.

use alloc::collections::BTreeMap;

use memtide_units::DpaRange;

/// A set of addresses below 2^64 - 1.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(super) struct Ranges {
    /// One past the last address of each run, by its first.
    runs: BTreeMap<u64, u64>,
}

impl Ranges {
    /// The runs, ascending.
    pub(super) fn iter(&self) -> impl Iterator<Item = DpaRange> {
        self.runs.iter().map(|(&start, &end)| DpaRange::new(start, end - start))
    }

    /// How many addresses there are.
    pub(super) fn bytes(&self) -> u64 {
        self.runs.iter().map(|(start, end)| end - start).sum()
    }

    /// The run with this address in it, as first and end.
    fn run_at(&self, address: u64) -> Option<(u64, u64)> {
        let (&start, &end) = self.runs.range(..=address).next_back()?;
        (address < end).then_some((start, end))
    }

    /// Whether all of a range, which exists, is in it.
    pub(super) fn contains(&self, range: DpaRange) -> bool {
        self.run_at(range.start).is_some_and(|(_, end)| range.end() <= u128::from(end))
    }

    /// Whether any of a range is in it.
    pub(super) fn overlaps(&self, range: DpaRange) -> bool {
        let next = || self.runs.range(range.start..).next();
        range.length != 0
            && (self.run_at(range.start).is_some()
                || next().is_some_and(|(&start, _)| u128::from(start) < range.end()))
    }

    /// Adds a range that exists; what is there of it already stays.
    pub(super) fn insert(&mut self, range: DpaRange) {
        let (mut start, mut end) = (range.start, range.start + range.length);
        // Runs that overlap it, or touch it, become one with it.
        while let Some((&first, &last)) =
            self.runs.range(..=end).next_back().filter(|&(_, &last)| last >= start)
        {
            self.runs.remove(&first);
            (start, end) = (start.min(first), end.max(last));
        }
        self.runs.insert(start, end);
    }

    /// Takes a range that exists out, as far as it is there.
    pub(super) fn remove(&mut self, range: DpaRange) {
        let (start, end) = (range.start, range.start + range.length);
        while let Some((&first, &last)) =
            self.runs.range(..end).next_back().filter(|&(_, &last)| last > start)
        {
            self.runs.remove(&first);
            if first < start {
                self.runs.insert(first, start);
            }
            if last > end {
                self.runs.insert(end, last);
            }
        }
    }
}

impl FromIterator<DpaRange> for Ranges {
    fn from_iter<I: IntoIterator<Item = DpaRange>>(ranges: I) -> Self {
        let mut set = Self::default();
        ranges.into_iter().for_each(|range| set.insert(range));
        set
    }
}

#[cfg(test)]
mod tests {
    use alloc::vec::Vec;

    use memtide_units::Random;

    use super::*;

    /// The same set as 64 flags.
    fn flags(set: &Ranges) -> Vec<bool> {
        (0..64).map(|at| set.contains(DpaRange::new(at, 1))).collect()
    }

    #[test]
    fn a_set_does_what_flags_do() {
        let mut random = Random::new(7);
        let (mut set, mut naive) = (Ranges::default(), alloc::vec![false; 64]);
        for _ in 0..20_000 {
            let start = random.below(63);
            let range = DpaRange::new(start, 1 + random.below(64 - start - 1));
            let part = &mut naive[start as usize..range.end() as usize];
            assert_eq!(set.overlaps(range), part.contains(&true), "{set:?} {range}");
            assert_eq!(set.contains(range), !part.contains(&false), "{set:?} {range}");
            let add = random.below(2) == 0;
            part.fill(add);
            if add {
                set.insert(range)
            } else {
                set.remove(range)
            }
            assert_eq!(flags(&set), naive, "{set:?}");
            assert_eq!(set.bytes(), naive.iter().filter(|&&is| is).count() as u64);
            let runs: Vec<_> = set.iter().collect();
            assert!(runs.windows(2).all(|two| two[0].end() < u128::from(two[1].start)), "{runs:?}");
        }
    }
}
