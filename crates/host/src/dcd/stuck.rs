//! Blocks that the kernel did not let go of, though nobody uses them: not released, and tried
//! again at longer and longer intervals, until they are gone.

use std::time::{Duration, Instant};

use memtide_engine::dynamic_capacity::DpaRange;

/// The first pause before another attempt, and the longest; each is twice the one before.
const PAUSE_MIN: Duration = Duration::from_secs(1);
const PAUSE_MAX: Duration = Duration::from_secs(60);

/// What is to be released and could not be taken from the kernel.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Stuck {
    /// Ascending, apart from each other; a block each.
    blocks: Vec<DpaRange>,
    pause: Duration,
    /// When they are tried again, if there are any.
    due: Option<Instant>,
}

impl Default for Stuck {
    fn default() -> Self {
        Self { blocks: Vec::new(), pause: PAUSE_MIN, due: None }
    }
}

impl Stuck {
    /// All of them.
    pub(super) fn blocks(&self) -> &[DpaRange] {
        &self.blocks
    }

    /// This block did not go.
    pub(super) fn push(&mut self, block: DpaRange, now: Instant) {
        if let Err(at) = self.blocks.binary_search(&block) {
            self.blocks.insert(at, block);
        }
        self.due.get_or_insert(now + self.pause);
    }

    /// These are memory again, or somebody else's.
    pub(super) fn forget(&mut self, extents: &[DpaRange]) {
        self.blocks.retain(|block| !extents.iter().any(|extent| extent.overlaps(*block)));
        if self.blocks.is_empty() {
            *self = Self::default();
        }
    }

    /// What is to be tried at this time. What does not go is to be said again.
    pub(super) fn take_due(&mut self, now: Instant) -> Vec<DpaRange> {
        if self.due.is_none_or(|due| due > now) {
            return Vec::new();
        }
        self.due = None;
        self.pause = (self.pause * 2).min(PAUSE_MAX);
        std::mem::take(&mut self.blocks)
    }

    /// The next attempt begins with the shortest pause, unless something stays.
    pub(super) fn tried(&mut self) {
        self.forget(&[]);
    }

    /// What of extents did go.
    pub(super) fn gone_of(&self, extents: &[DpaRange]) -> Vec<DpaRange> {
        let mut gone = Vec::new();
        for extent in extents {
            let mut from = extent.start;
            for stays in self.blocks.iter().filter(|block| extent.overlaps(**block)) {
                gone.extend(part(from, u128::from(stays.start)));
                from = u64::try_from(stays.end()).unwrap_or(u64::MAX);
            }
            gone.extend(part(from, extent.end()));
        }
        gone
    }
}

fn part(start: u64, end: u128) -> Option<DpaRange> {
    let length = u64::try_from(end.checked_sub(u128::from(start))?).ok()?;
    (length > 0).then_some(DpaRange::new(start, length))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_stays_is_cut_out_of_what_goes() {
        let mut stuck = Stuck::default();
        let now = Instant::now();
        stuck.push(DpaRange::new(30, 10), now);
        stuck.push(DpaRange::new(10, 10), now);
        stuck.push(DpaRange::new(10, 10), now);
        let extents = [DpaRange::new(0, 40), DpaRange::new(50, 10), DpaRange::new(30, 10)];
        let gone = [DpaRange::new(0, 10), DpaRange::new(20, 10), DpaRange::new(50, 10)];
        assert_eq!(stuck.gone_of(&extents), gone);
    }

    #[test]
    fn pauses_grow_until_nothing_stays() {
        let (mut stuck, mut now) = (Stuck::default(), Instant::now());
        let block = DpaRange::new(10, 10);
        stuck.push(block, now);
        for seconds in [1, 2, 4, 8, 16, 32, 60, 60] {
            let pause = Duration::from_secs(seconds);
            assert!(stuck.take_due(now + pause - Duration::from_millis(1)).is_empty());
            now += pause;
            assert_eq!(stuck.take_due(now), [block], "after {seconds} s");
            stuck.push(block, now);
            stuck.tried();
        }
        stuck.take_due(now + PAUSE_MAX);
        stuck.tried();
        assert_eq!(stuck, Stuck::default());
    }
}
