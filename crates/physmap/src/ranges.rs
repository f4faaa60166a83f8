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

/// The part of `range` that whole blocks of `bytes` (a power of two) make up: what of it can be
/// brought online. `None` if not one block fits.
pub fn whole_blocks(range: PhysRange, bytes: u64) -> Option<PhysRange> {
    let start = range.start().align_up(bytes)?;
    let last = match range.last().checked_add(1) {
        Some(end) => end.align_down(bytes).checked_sub(1)?,
        None => range.last(),
    };
    PhysRange::new(start, last)
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

    /// A device of 4 GiB around a hole, as 3 GiB and 1 GiB, in blocks of 2 GiB.
    #[test]
    fn only_whole_blocks_beside_a_hole_are_usable() {
        let (low, high) =
            (range(0x1_0000_0000, 0x1_bfff_ffff), range(0x2_0000_0000, 0x2_3fff_ffff));
        assert_eq!(whole_blocks(low, 2 << 30), Some(range(0x1_0000_0000, 0x1_7fff_ffff)));
        assert_eq!(whole_blocks(high, 2 << 30), None);
        assert_eq!(whole_blocks(range(0, u64::MAX), 1 << 30), Some(range(0, u64::MAX)));
        assert_eq!(whole_blocks(range(1, u64::MAX), 1 << 63), Some(range(1 << 63, u64::MAX)));
        assert_eq!(whole_blocks(range(u64::MAX, u64::MAX), 2), None);
        assert_eq!(whole_blocks(range(0, 100), 2 << 30), None);
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
