//! Free runs, by place and by length.
//!
//! The same runs stand in two ordered indexes, so that the neighbour of a place and the shortest
//! run that is long enough are both found in logarithmic time. Runs never touch each other: two
//! that would are one.

use alloc::collections::{BTreeMap, BTreeSet};

/// A set of numbers as disjoint, non-adjacent runs.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(crate) struct Runs {
    by_start: BTreeMap<u64, u64>,
    by_length: BTreeSet<(u64, u64)>,
    total: u64,
}

impl Runs {
    /// Numbers in the set.
    pub(crate) const fn total(&self) -> u64 {
        self.total
    }

    fn link(&mut self, start: u64, length: u64) {
        self.by_start.insert(start, length);
        self.by_length.insert((length, start));
    }

    fn unlink(&mut self, start: u64, length: u64) {
        self.by_start.remove(&start);
        self.by_length.remove(&(length, start));
    }

    /// The run that contains `at`.
    pub(crate) fn containing(&self, at: u64) -> Option<(u64, u64)> {
        let (&start, &length) = self.by_start.range(..=at).next_back()?;
        (at < start + length).then_some((start, length))
    }

    /// The shortest run of at least `length`, the lowest of those; failing that the longest.
    pub(crate) fn best(&self, length: u64) -> Option<(u64, u64)> {
        let fitting = self.by_length.range((length, 0)..).next();
        let &(length, start) = fitting.or_else(|| self.by_length.last())?;
        Some((start, length))
    }

    /// Adds numbers none of which is there yet.
    pub(crate) fn insert(&mut self, start: u64, length: u64) {
        debug_assert!(length > 0);
        self.total += length;
        let (mut start, mut length) = (start, length);
        if let Some((&before, &len)) = self.by_start.range(..start).next_back() {
            assert!(before + len <= start, "{start} is free already");
            if before + len == start {
                self.unlink(before, len);
                (start, length) = (before, len + length);
            }
        }
        if let Some((&after, &len)) = self.by_start.range(start..).next() {
            assert!(start + length <= after, "{after} is free already");
            if start + length == after {
                self.unlink(after, len);
                length += len;
            }
        }
        self.link(start, length);
    }

    /// Takes out numbers all of which are there, as part of one run.
    pub(crate) fn remove(&mut self, start: u64, length: u64) {
        let (run, len) = self.containing(start).expect("only free runs are taken");
        assert!(start + length <= run + len, "only whole free runs are taken");
        self.total -= length;
        self.unlink(run, len);
        if run < start {
            self.link(run, start - run);
        }
        if start + length < run + len {
            self.link(start + length, run + len - start - length);
        }
    }

    /// Recomputes everything that is kept twice.
    pub(crate) fn validate(&self) {
        let mut end = None;
        let mut total = 0;
        for (&start, &length) in &self.by_start {
            assert!(length > 0);
            assert!(end.is_none_or(|end| end < start), "runs touch at {start}");
            assert!(
                self.by_length.contains(&(length, start)),
                "run {start}+{length} not by length"
            );
            end = Some(start + length);
            total += length;
        }
        assert_eq!(self.by_start.len(), self.by_length.len());
        assert_eq!(total, self.total);
    }
}
