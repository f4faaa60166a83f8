//! Which blocks are offline, as runs.
//!
//! A window for a device's capacity is as long as the device may ever be, and next to nothing of
//! it is online: a terabyte of blocks of 2 MiB is half a million of them. Who wants to know what
//! is offline is told in runs, and pays for those, not for the blocks.

use alloc::collections::BTreeMap;
use core::ops::Range;

/// A set of blocks, as runs that neither touch nor overlap.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Away {
    /// From a first block to the one after the last.
    runs: BTreeMap<u64, u64>,
}

impl Away {
    /// The first so many.
    pub(super) fn all(blocks: u64) -> Self {
        Self { runs: BTreeMap::from([(0, blocks)]) }
    }

    /// This one, too, which is not in the set.
    pub(super) fn insert(&mut self, block: u64) {
        let end = self.runs.remove(&(block + 1)).unwrap_or(block + 1);
        match self.runs.range_mut(..block).next_back() {
            Some((_, before)) if *before == block => *before = end,
            _ => drop(self.runs.insert(block, end)),
        }
    }

    /// Not this one any more, which is in the set.
    pub(super) fn remove(&mut self, block: u64) {
        let (&start, &end) = self.runs.range(..=block).next_back().expect("it is in a run");
        if start == block {
            self.runs.remove(&start);
        } else {
            self.runs.insert(start, block);
        }
        if block + 1 < end {
            self.runs.insert(block + 1, end);
        }
    }

    /// The runs, ascending.
    pub(super) fn runs(&self) -> impl Iterator<Item = Range<u64>> {
        self.runs.iter().map(|(&start, &end)| start..end)
    }

    /// What of the first so many blocks is between them, ascending.
    pub(super) fn gaps(&self, blocks: u64) -> impl Iterator<Item = Range<u64>> {
        let starts = core::iter::once(0).chain(self.runs.values().copied());
        let ends = self.runs.keys().copied().chain(core::iter::once(blocks));
        starts.zip(ends).map(|(start, end)| start..end)
    }
}
