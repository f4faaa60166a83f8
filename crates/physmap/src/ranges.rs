//! Sets of addresses as lists of ranges: sorted, and nowhere touching.
//!
//! Much of this crate asks what is left of one range once others are taken out of it. The lists
//! are built once with [`union`] and then searched by halving, so that nothing here takes more than
//! the number of ranges times its logarithm.

use alloc::vec::Vec;

use memtide_units::PhysRange;

/// All addresses of all ranges; what overlaps or touches becomes one.
pub fn union(ranges: impl IntoIterator<Item = PhysRange>) -> Vec<PhysRange> {
    let mut sorted: Vec<_> = ranges.into_iter().collect();
    sorted.sort_unstable();
    let mut all: Vec<PhysRange> = Vec::with_capacity(sorted.len());
    for range in sorted {
        match all.last_mut() {
            Some(last) if follows(*last, range) || last.overlaps(range) => *last = last.hull(range),
            _ => all.push(range),
        }
    }
    all
}

/// Whether `next` begins at the address after `range`.
pub fn follows(range: PhysRange, next: PhysRange) -> bool {
    range.last().checked_add(1) == Some(next.start())
}

/// The parts of `range` that are in `set`, ascending.
pub fn shared(range: PhysRange, set: &[PhysRange]) -> Vec<PhysRange> {
    let first = set.partition_point(|taken| taken.last() < range.start());
    set[first..].iter().map_while(|&taken| taken.intersection(range)).collect()
}

/// The parts of `range` that are not in `set`, ascending.
pub fn without(range: PhysRange, set: &[PhysRange]) -> Vec<PhysRange> {
    let mut left = Vec::new();
    let mut from = Some(range.start());
    for taken in shared(range, set) {
        let before = taken.start().checked_sub(1);
        left.extend(from.zip(before).and_then(|(start, last)| PhysRange::new(start, last)));
        from = taken.last().checked_add(1);
    }
    left.extend(from.and_then(|start| PhysRange::new(start, range.last())));
    left
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec;
    use memtide_units::PhysAddr;
    use proptest::prelude::*;

    fn range(start: u64, last: u64) -> PhysRange {
        PhysRange::new(PhysAddr(start), PhysAddr(last)).unwrap()
    }

    #[test]
    fn the_ends_of_the_address_space_are_no_special_case() {
        let all = range(0, u64::MAX);
        assert_eq!(without(all, &[all]), vec![]);
        assert_eq!(without(all, &[range(0, 0)]), vec![range(1, u64::MAX)]);
        assert_eq!(without(all, &[range(9, u64::MAX)]), vec![range(0, 8)]);
        assert_eq!(union([range(5, u64::MAX), range(0, 4)]), vec![all]);
    }

    proptest! {
        #[test]
        fn sets_are_sets_of_addresses(
            spans in prop::collection::vec((0u64..64, 0u64..12), 0..10),
            start in 0u64..64,
            more in 0u64..20,
        ) {
            let list: Vec<_> = spans.iter().map(|&(at, long)| range(at, at + long)).collect();
            let set = union(list.clone());
            prop_assert!(set.windows(2).all(|two| two[0].last().0 + 1 < two[1].start().0));
            let within = range(start, start + more);
            let (inside, outside) = (shared(within, &set), without(within, &set));
            for address in (0..100).map(PhysAddr) {
                let taken = list.iter().any(|range| range.has(address));
                let has = |ranges: &[PhysRange]| ranges.iter().any(|range| range.has(address));
                prop_assert_eq!(has(&set), taken);
                prop_assert_eq!(has(&inside), taken && within.has(address));
                prop_assert_eq!(has(&outside), !taken && within.has(address));
            }
        }
    }
}
