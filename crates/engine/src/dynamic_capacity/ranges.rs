//! Sets of device addresses.

use alloc::{collections::BTreeMap, vec::Vec};

use super::extent::DpaRange;

/// A set of addresses, as runs that neither touch nor overlap.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(super) struct Ranges {
    /// From a start to the address after the end.
    runs: BTreeMap<u64, u128>,
}

impl Ranges {
    pub(super) fn insert(&mut self, range: DpaRange) {
        let (mut start, mut end) = (range.start, range.end());
        while let Some((&other, &other_end)) = self.runs.range(..=at_most(end)).next_back()
            && other_end >= u128::from(start)
        {
            self.runs.remove(&other);
            (start, end) = (start.min(other), end.max(other_end));
        }
        self.runs.insert(start, end);
    }

    pub(super) fn remove(&mut self, range: DpaRange) {
        for part in self.within(range) {
            let (&start, &end) = self.holding(part.start).expect("a part of a run lies in it");
            self.runs.remove(&start);
            if start < part.start {
                self.runs.insert(start, u128::from(part.start));
            }
            if part.end() < end {
                self.runs.insert(at_most(part.end()), end);
            }
        }
    }

    /// The run that has an address.
    fn holding(&self, address: u64) -> Option<(&u64, &u128)> {
        self.runs.range(..=address).next_back().filter(|&(_, &end)| end > u128::from(address))
    }

    /// What of a range is in the set, ascending.
    pub(super) fn within(&self, range: DpaRange) -> Vec<DpaRange> {
        let first = self.holding(range.start).map_or(range.start, |(&start, _)| start);
        let mut parts = Vec::new();
        for (&start, &end) in self.runs.range(first..) {
            if u128::from(start) >= range.end() {
                break;
            }
            let (start, end) = (start.max(range.start), end.min(range.end()));
            let length = u64::try_from(end - u128::from(start)).expect("no longer than the range");
            parts.push(DpaRange::new(start, length));
        }
        parts
    }

    /// What of a range is not in the set, ascending.
    pub(super) fn missing(&self, range: DpaRange) -> Vec<DpaRange> {
        let mut gaps = Vec::new();
        let mut at = u128::from(range.start);
        let ends = core::iter::once(range.end());
        let parts = self.within(range);
        let starts = parts.iter().map(|part| u128::from(part.start));
        for (number, start) in starts.chain(ends).enumerate() {
            if start > at {
                let length = u64::try_from(start - at).expect("no longer than the range");
                gaps.push(DpaRange::new(at_most(at), length));
            }
            at = parts.get(number).map_or(start, |part| part.end());
        }
        gaps
    }

    pub(super) fn covers(&self, range: DpaRange) -> bool {
        let holding = self.holding(range.start);
        holding.is_some_and(|(_, &end)| end >= range.end())
    }
}

/// An address, or the last one.
fn at_most(address: u128) -> u64 {
    u64::try_from(address).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::collections::BTreeSet;
    use memtide_units::Random;

    #[test]
    fn a_set_of_ranges_is_a_set_of_addresses() {
        for seed in 0..64 {
            let mut random = Random::new(seed);
            let (mut ranges, mut model) = (Ranges::default(), BTreeSet::new());
            for _ in 0..200 {
                let start = random.below(60);
                let range = DpaRange::new(start, 1 + random.below(64 - start));
                let all = range.start..range.start + range.length;
                if random.below(2) == 0 {
                    ranges.insert(range);
                    model.extend(all);
                } else {
                    ranges.remove(range);
                    model.retain(|address| !all.contains(address));
                }
                let asked = DpaRange::new(random.below(60), 4);
                let of = |parts: Vec<DpaRange>| -> BTreeSet<u64> {
                    parts.iter().flat_map(|part| part.start..part.start + part.length).collect()
                };
                let asked_all = asked.start..asked.start + asked.length;
                let (inside, outside): (BTreeSet<u64>, BTreeSet<u64>) =
                    asked_all.partition(|address| model.contains(address));
                assert_eq!(of(ranges.within(asked)), inside, "seed {seed}");
                assert_eq!(of(ranges.missing(asked)), outside, "seed {seed}");
                assert_eq!(ranges.covers(asked), outside.is_empty(), "seed {seed}");
                let runs: Vec<(u64, u128)> = ranges.runs.iter().map(|(&s, &e)| (s, e)).collect();
                let apart = |pair: &[(u64, u128)]| pair[0].1 < u128::from(pair[1].0);
                assert!(runs.windows(2).all(apart), "seed {seed}: {runs:?}");
            }
        }
    }

    #[test]
    fn the_last_address_can_be_in_a_set() {
        let mut ranges = Ranges::default();
        ranges.insert(DpaRange::new(u64::MAX - 1, 2));
        assert!(ranges.covers(DpaRange::new(u64::MAX, 1)));
        ranges.remove(DpaRange::new(u64::MAX - 1, 1));
        assert_eq!(ranges.within(DpaRange::new(0, u64::MAX)), []);
        assert!(ranges.covers(DpaRange::new(u64::MAX, 1)));
    }
}
