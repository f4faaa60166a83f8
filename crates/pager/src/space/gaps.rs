//! The free parts of an arena, found by size.

use std::collections::{BTreeMap, BTreeSet};

use memtide_sys::AddrRange;

use super::PAGE;

/// Gaps that fit only unaligned are passed over; after so many, one that surely fits is taken.
const ALIGNED_TRIES: usize = 16;

/// Free ranges, none of which touches another.
#[derive(Debug)]
pub(super) struct Gaps {
    /// First address to length.
    by_start: BTreeMap<usize, usize>,
    /// Length, then first address.
    by_len: BTreeSet<(usize, usize)>,
}

impl Gaps {
    pub(super) fn new(range: AddrRange) -> Self {
        let mut gaps = Self { by_start: BTreeMap::new(), by_len: BTreeSet::new() };
        gaps.insert(range);
        gaps
    }

    fn insert(&mut self, range: AddrRange) {
        if !range.is_empty() {
            self.by_start.insert(range.start, range.len);
            self.by_len.insert((range.len, range.start));
        }
    }

    fn remove(&mut self, range: AddrRange) {
        self.by_start.remove(&range.start);
        self.by_len.remove(&(range.len, range.start));
    }

    /// The gap that `addr` lies in.
    fn at(&self, addr: usize) -> Option<AddrRange> {
        let (&start, &len) = self.by_start.range(..=addr).next_back()?;
        Some(AddrRange::new(start, len)).filter(|gap| gap.contains(addr))
    }

    /// An address where `len` bytes are free, at a multiple of `align`.
    pub(super) fn find(&self, len: usize, align: usize) -> Option<usize> {
        debug_assert!(align.is_power_of_two() && align >= PAGE);
        let fit = |&(gap_len, start): &(usize, usize)| {
            let at = start.checked_next_multiple_of(align)?;
            (at.checked_add(len)? <= start + gap_len).then_some(at)
        };
        let least = (len, 0);
        self.by_len.range(least..).take(ALIGNED_TRIES).find_map(fit).or_else(|| {
            let sure = (len.checked_add(align - PAGE)?, 0);
            self.by_len.range(sure..).next().and_then(fit)
        })
    }

    /// Takes `range`, which lies in one gap.
    ///
    /// # Panics
    /// When it does not.
    pub(super) fn take(&mut self, range: AddrRange) {
        let gap = self.at(range.start).filter(|gap| gap.contains_range(range));
        let Some(gap) = gap else { panic!("{range:?} is not free") };
        self.remove(gap);
        self.insert(AddrRange::between(gap.start, range.start));
        self.insert(AddrRange::between(range.end(), gap.end()));
    }

    /// Puts back `range`, none of which is a gap, and joins it with its neighbours.
    pub(super) fn put(&mut self, range: AddrRange) {
        let mut joined = range;
        if let Some(low) = range.start.checked_sub(1).and_then(|addr| self.at(addr)) {
            self.remove(low);
            joined = AddrRange::between(low.start, joined.end());
        }
        if let Some(high) = self.at(range.end()) {
            self.remove(high);
            joined = AddrRange::between(joined.start, high.end());
        }
        self.insert(joined);
    }

    /// Whether any of `range` is a gap.
    pub(super) fn any_in(&self, range: AddrRange) -> bool {
        self.at(range.start).is_some()
            || self.by_start.range(range.start..range.end()).next().is_some()
    }

    /// Checks that both indexes agree and no gap touches another; the bytes in all gaps.
    pub(super) fn validate(&self) -> usize {
        let mut end = None;
        for (&start, &len) in &self.by_start {
            assert!(len > 0 && end.is_none_or(|end| end < start), "gap at {start:#x}");
            assert!(self.by_len.contains(&(len, start)), "gap at {start:#x} is not indexed");
            end = Some(start + len);
        }
        assert_eq!(self.by_start.len(), self.by_len.len());
        self.by_start.values().sum()
    }
}
