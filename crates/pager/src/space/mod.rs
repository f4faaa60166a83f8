//! Which pages of the arena the program has, and how.
//!
//! A [`Space`] is a map from pages to what the program asked of them: a protection, whether the
//! pool promised memory for them, whether they are locked, whether something else than private
//! memory lies there. Pages that nobody has are *gaps*. Neighbours with equal attributes are one
//! [`Run`], so a program that maps page after page costs one entry, and the kernel one mapping.
//!
//! Places are found by best fit, the lowest address among equals: the last, endless gap is the
//! largest and is taken only when no smaller one fits, so memory stays packed at low addresses
//! and successive mappings lie side by side.
//!
//! It is pure: no system call is made here. Whoever changes it changes the mappings to match,
//! under the same lock (see [`crate::calls`]).
//!
//! Invariants ([`Space::validate`]): runs and gaps are whole pages, do not overlap, and together
//! are the arena; no two neighbours that touch are equal; no two gaps touch.

mod gaps;
mod per_block;
mod run;

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use memtide_sys::AddrRange;
use memtide_units::{PAGE_BYTES, PAGEBLOCK_BYTES};

use gaps::Gaps;
pub use run::{Charge, Kind, Lock, Run};

/// Bytes in a page.
pub const PAGE: usize = PAGE_BYTES as usize;
/// Bytes in a block of addresses.
pub const BLOCK: usize = PAGEBLOCK_BYTES as usize;

/// The number of one 2 MiB block of addresses, counted from the start of the arena.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct BlockIndex(pub usize);

/// What is carved out of an arena.
#[derive(Debug)]
pub struct Space {
    range: AddrRange,
    /// By first address.
    runs: BTreeMap<usize, Run>,
    gaps: Gaps,
    /// Whether what is mapped from now on is locked (`mlockall(MCL_FUTURE)`).
    lock_new: Lock,
}

impl Space {
    /// Nothing carved yet out of `len` bytes from `base`, both multiples of 2 MiB.
    ///
    /// # Panics
    /// When they are not.
    #[must_use]
    pub fn new(base: usize, len: usize) -> Self {
        assert!(base.is_multiple_of(BLOCK) && len.is_multiple_of(BLOCK), "{base:#x} + {len:#x}");
        let range = AddrRange::new(base, len);
        Self { range, runs: BTreeMap::new(), gaps: Gaps::new(range), lock_new: Lock::Unlocked }
    }

    /// The whole arena.
    #[must_use]
    pub const fn range(&self) -> AddrRange {
        self.range
    }

    /// Whether what is mapped from now on is locked.
    #[must_use]
    pub const fn lock_new(&self) -> Lock {
        self.lock_new
    }

    /// Locks, or does not lock, what is mapped from now on.
    pub const fn set_lock_new(&mut self, lock: Lock) {
        self.lock_new = lock;
    }

    /// All runs, ascending.
    pub fn iter(&self) -> impl Iterator<Item = Run> {
        self.runs.values().copied()
    }

    /// The run that `addr` lies in.
    #[must_use]
    pub fn run_at(&self, addr: usize) -> Option<Run> {
        let (_, run) = self.runs.range(..=addr).next_back()?;
        run.range.contains(addr).then_some(*run)
    }

    /// The parts of runs that lie in `range`, ascending.
    pub fn runs_within(&self, range: AddrRange) -> impl Iterator<Item = Run> {
        let first = self.run_at(range.start).map_or(range.start, |run| run.range.start);
        // An empty or inverted range would make `BTreeMap::range` panic.
        self.runs.range(first..range.end().max(first)).filter_map(move |(_, run)| {
            let part = Run { range: run.range.intersection(range), ..*run };
            (!part.range.is_empty()).then_some(part)
        })
    }

    /// Whether nothing is carved in `range`.
    #[must_use]
    pub fn is_free(&self, range: AddrRange) -> bool {
        self.runs_within(range).next().is_none()
    }

    /// Whether all of `range` is carved.
    #[must_use]
    pub fn is_carved(&self, range: AddrRange) -> bool {
        self.runs_within(range).map(|run| run.range.len).sum::<usize>() == range.len
    }

    /// Where `len` bytes are free, at a multiple of `align` (a power of two, at least a page).
    #[must_use]
    pub fn find(&self, len: usize, align: usize) -> Option<usize> {
        self.gaps.find(len, align)
    }

    /// Carves `run`.
    ///
    /// # Panics
    /// When it is empty, not of whole pages, not in the arena, or not free.
    pub fn carve(&mut self, run: Run) {
        self.check(run.range);
        self.gaps.take(run.range);
        self.runs.insert(run.range.start, run);
        self.join_around(run.range);
    }

    /// Makes gaps of all that is carved in `range`.
    ///
    /// # Panics
    /// When it is empty, not of whole pages or not in the arena.
    pub fn free(&mut self, range: AddrRange) {
        self.check(range);
        self.cut_at(range.start);
        self.cut_at(range.end());
        while let Some((&start, run)) = self.runs.range(range.start..range.end()).next() {
            self.gaps.put(run.range);
            self.runs.remove(&start);
        }
    }

    /// Changes the attributes of all that is carved in `range`; gaps are left alone.
    ///
    /// # Panics
    /// When it is empty, not of whole pages or not in the arena, or when `change` moves a run.
    pub fn change(&mut self, range: AddrRange, mut change: impl FnMut(&mut Run)) {
        self.check(range);
        self.cut_at(range.start);
        self.cut_at(range.end());
        for run in self.runs.range_mut(range.start..range.end()).map(|(_, run)| run) {
            let place = run.range;
            change(run);
            assert_eq!(run.range, place, "a run was moved");
        }
        self.join_around(range);
    }

    fn check(&self, range: AddrRange) {
        assert!(
            !range.is_empty() && range.is_page_aligned() && self.range.contains_range(range),
            "{range:?} in {:?}",
            self.range
        );
    }

    /// Makes two runs of one that `addr` lies inside of.
    fn cut_at(&mut self, addr: usize) {
        let Some(run) = self.run_at(addr).filter(|run| run.range.start < addr) else { return };
        let (low, high) = run.split_at(addr);
        self.runs.insert(low.range.start, low);
        self.runs.insert(high.range.start, high);
    }

    /// Joins equal neighbours inside `range` and at its ends.
    fn join_around(&mut self, range: AddrRange) {
        let before = range.start.checked_sub(1).and_then(|addr| self.run_at(addr));
        let mut at = before.map_or(range.start, |run| run.range.start);
        while let Some((&start, &run)) = self.runs.range(at..=range.end()).next() {
            let next = self.runs.get(&run.range.end()).copied();
            match next.filter(|next| next.is_like(&run)) {
                Some(next) => {
                    self.runs.remove(&next.range.start);
                    let range = AddrRange::between(start, next.range.end());
                    self.runs.insert(start, Run { range, ..run });
                    at = start;
                }
                None => at = run.range.end(),
            }
            if at > range.end() {
                break;
            }
        }
    }

    /// Checks the invariants of the module's documentation.
    ///
    /// # Panics
    /// When one does not hold.
    pub fn validate(&self) {
        let mut carved = 0;
        let mut before: Option<Run> = None;
        for (&start, run) in &self.runs {
            assert_eq!(start, run.range.start);
            self.check(run.range);
            if let Some(before) = before {
                assert!(before.range.end() <= start, "{before:?} overlaps {run:?}");
                let touch = before.range.end() == start;
                assert!(!touch || !before.is_like(run), "{before:?} is like {run:?}");
            }
            assert!(!self.gaps.any_in(run.range), "{run:?} is also a gap");
            carved += run.range.len;
            before = Some(*run);
        }
        assert_eq!(carved + self.gaps.validate(), self.range.len);
    }
}
