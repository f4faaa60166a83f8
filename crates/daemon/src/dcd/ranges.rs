//! Runs of device addresses, compared.

use memtide_units::DpaRange;

/// Ascending, without overlaps, neighbours joined. What does not exist is left out.
fn tidy(ranges: &[DpaRange]) -> Vec<DpaRange> {
    let mut all: Vec<DpaRange> = ranges.iter().copied().filter(|range| range.exists()).collect();
    all.sort_unstable();
    let mut tidied: Vec<DpaRange> = Vec::with_capacity(all.len());
    for range in all {
        match tidied.last_mut() {
            Some(last) if u128::from(range.start) <= last.end() => {
                *last = between(last.start, last.end().max(range.end()));
            }
            _ => tidied.push(range),
        }
    }
    tidied
}

fn between(start: u64, end: u128) -> DpaRange {
    let length = end - u128::from(start);
    // All 2^64 addresses have no length that fits; the last is as good as never there.
    DpaRange::new(start, u64::try_from(length).unwrap_or(u64::MAX))
}

/// What of the one is not in the other, ascending.
pub(crate) fn minus(these: &[DpaRange], those: &[DpaRange]) -> Vec<DpaRange> {
    let those = tidy(those);
    let mut left = Vec::new();
    for range in tidy(these) {
        let mut at = u128::from(range.start);
        let first = those.partition_point(|other| other.end() <= at);
        for other in those[first..].iter().take_while(|other| range.overlaps(**other)) {
            if u128::from(other.start) > at {
                left.push(between(u64::try_from(at).expect("below other"), other.start.into()));
            }
            at = at.max(other.end());
        }
        if at < range.end() {
            left.push(between(u64::try_from(at).expect("below the end"), range.end()));
        }
    }
    left
}

/// What is in both, ascending.
pub(crate) fn both(these: &[DpaRange], those: &[DpaRange]) -> Vec<DpaRange> {
    minus(these, &minus(these, those))
}

/// Bytes in all.
pub(crate) fn bytes(ranges: &[DpaRange]) -> u64 {
    ranges.iter().fold(0, |sum, range| range.length.saturating_add(sum))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use memtide_units::Random;

    use super::*;

    fn units(ranges: &[DpaRange]) -> BTreeSet<u64> {
        ranges.iter().flat_map(|range| range.start..range.start + range.length).collect()
    }

    #[test]
    fn ranges_are_sets_of_addresses() {
        for seed in 0..500 {
            let mut random = Random::new(seed);
            let mut some = || -> Vec<DpaRange> {
                let count = random.below(6);
                (0..count).map(|_| DpaRange::new(random.below(40), random.below(12))).collect()
            };
            let (a, b) = (some(), some());
            let less: BTreeSet<u64> = units(&a).difference(&units(&b)).copied().collect();
            assert_eq!(units(&minus(&a, &b)), less, "seed {seed}: {a:?} {b:?}");
            let shared: BTreeSet<u64> = units(&a).intersection(&units(&b)).copied().collect();
            assert_eq!(units(&both(&a, &b)), shared, "seed {seed}: {a:?} {b:?}");
            assert_eq!(bytes(&minus(&a, &b)), less.len() as u64);
        }
    }

    #[test]
    fn the_last_address_does_no_harm() {
        let all = [DpaRange::new(0, u64::MAX), DpaRange::new(7, u64::MAX)];
        assert_eq!(minus(&all, &all), []);
        let end = DpaRange::new(u64::MAX, 1);
        assert_eq!(minus(&[end], &[DpaRange::new(0, 5)]), [end]);
    }
}
