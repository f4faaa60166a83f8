//! Pageblocks and runs of them.
//!
//! A *frame* is a 4 KiB physical page; a *pageblock* is 512 of them, 2 MiB, aligned: the unit of
//! leases and of live moves. Pageblocks are numbered across all nodes of a pool, each node owning
//! one contiguous span of numbers, so a number names the same memory everywhere: in the engine,
//! in messages, and as an offset into the file that holds the memory.

use core::fmt;

/// Bytes in a frame.
pub const PAGE_BYTES: u64 = 4096;
/// Bytes in a pageblock.
pub const PAGEBLOCK_BYTES: u64 = 2 << 20;
/// Frames in a pageblock.
pub const PAGES_PER_PAGEBLOCK: u64 = PAGEBLOCK_BYTES / PAGE_BYTES;

/// The number of one pageblock, unique across the nodes of a pool.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(transparent))]
pub struct Pageblock(pub u64);

impl Pageblock {
    /// The pageblock `count` further on, if that number exists.
    #[must_use]
    pub const fn checked_add(self, count: u64) -> Option<Self> {
        match self.0.checked_add(count) {
            Some(n) => Some(Self(n)),
            None => None,
        }
    }
}

impl Pageblock {
    /// Its first frame, if that number exists.
    #[must_use]
    pub const fn first_frame(self) -> Option<crate::frame::Pfn> {
        match self.0.checked_mul(PAGES_PER_PAGEBLOCK) {
            Some(n) => Some(crate::frame::Pfn(n)),
            None => None,
        }
    }
}

impl fmt::Debug for Pageblock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "pb{}", self.0)
    }
}

impl fmt::Display for Pageblock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

/// A contiguous run of pageblocks.
///
/// `count` may be zero in a message from outside; [`Extent::iter`] then yields nothing and
/// [`Extent::end`] is `None` when the run would leave the number space.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct Extent {
    /// First pageblock of the run.
    pub start: Pageblock,
    /// Number of pageblocks.
    pub count: u32,
}

impl Extent {
    /// The run of `count` pageblocks from `start`.
    #[must_use]
    pub const fn new(start: Pageblock, count: u32) -> Self {
        Self { start, count }
    }

    /// One past the last pageblock, or `None` if that number does not exist.
    #[must_use]
    pub const fn end(self) -> Option<Pageblock> {
        self.start.checked_add(self.count as u64)
    }

    /// Bytes covered.
    #[must_use]
    pub const fn bytes(self) -> u64 {
        self.count as u64 * PAGEBLOCK_BYTES
    }

    /// The pageblocks of the run, ascending. Numbers that do not exist are left out.
    pub fn iter(self) -> impl Iterator<Item = Pageblock> {
        let end = self.end().map_or(u64::MAX, |e| e.0);
        (self.start.0..end).map(Pageblock)
    }

    /// Merges pageblocks into runs; the input need not be sorted, duplicates are kept once.
    #[must_use]
    pub fn from_blocks(blocks: impl IntoIterator<Item = Pageblock>) -> alloc::vec::Vec<Self> {
        let mut all: alloc::vec::Vec<Pageblock> = blocks.into_iter().collect();
        all.sort_unstable();
        all.dedup();
        let mut runs: alloc::vec::Vec<Self> = alloc::vec::Vec::new();
        for block in all {
            match runs.last_mut() {
                Some(run) if run.end() == Some(block) && run.count < u32::MAX => run.count += 1,
                _ => runs.push(Self::new(block, 1)),
            }
        }
        runs
    }
}

impl fmt::Debug for Extent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "pb{}+{}", self.start.0, self.count)
    }
}

impl fmt::Display for Extent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_merge_into_runs() {
        let runs = Extent::from_blocks([5, 3, 4, 9, 9].map(Pageblock));
        assert_eq!(runs, [Extent::new(Pageblock(3), 3), Extent::new(Pageblock(9), 1)]);
    }

    #[test]
    fn a_run_past_the_last_number_has_no_end() {
        let run = Extent::new(Pageblock(u64::MAX - 1), 5);
        assert_eq!(run.end(), None);
        assert_eq!(run.iter().count(), 1);
    }
}
