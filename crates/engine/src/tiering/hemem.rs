//! HeMem (Raybuck, Stamler, Zhang, Erez, Peter: "HeMem: Scalable Tiered Memory Management for Big
//! Data Applications and Real NVM", SOSP 2021).
//!
//! Loads and stores are counted apart for each page. A page is hot from 8 sampled loads or 4
//! sampled stores on. When a page's count reaches 18, a global clock advances, and every page
//! halves its counts once for each advance, when it is next looked at. Each 10 ms hot pages below
//! are promoted, first in, first out, into room that cold pages of the fast tier make; when there
//! is none that is cold, nothing moves.
//!
//! Left out: that stores go to the head of the queue (on Optane they cost more), large
//! allocations that are placed by size, and the copying by DMA, which is the world's matter.

use alloc::vec::Vec;
use core::time::Duration;

use memtide_units::Instant;

use super::{
    Budget, Move, Page, Policy, Sample, Tier, TierState, first_touch, frequency::Frequency,
    placed::Placed, plan::Plan, queue::Queue,
};

/// Loads from which on a page is hot.
const HOT_READS: u16 = 8;
/// Stores from which on it is.
const HOT_WRITES: u16 = 4;
/// The count at which all are cooled.
const COOLING: u16 = 18;
/// Pages that the hand may pass for each move.
const REACH: u32 = 64;

/// The policy `hemem`.
pub(super) struct HeMem {
    reads: Frequency,
    writes: Frequency,
    placed: Placed,
    /// Pages below that became hot, oldest first.
    hot: Queue,
}

impl HeMem {
    /// For so many pages.
    pub(super) fn new(pages: u32) -> Self {
        Self {
            reads: Frequency::new(pages),
            writes: Frequency::new(pages),
            placed: Placed::new(pages),
            hot: Queue::new(pages),
        }
    }

    fn is_hot(&self, page: Page) -> bool {
        self.reads.count(page) >= HOT_READS || self.writes.count(page) >= HOT_WRITES
    }

    /// Makes room for a page in the fast tier: there is some, or the next cold page leaves.
    fn room(&mut self, plan: &mut Plan, tier_of: &dyn Fn(Page) -> Tier, reach: &mut u32) -> bool {
        while plan.free(0) == 0 && *reach > 0 && plan.left() > 1 {
            *reach -= 1;
            let Some(page) = self.placed.step() else { continue };
            if tier_of(page) == 0 && !self.is_hot(page) && !plan.demote(page) {
                return false;
            }
        }
        plan.free(0) > 0
    }
}

impl Policy for HeMem {
    fn name(&self) -> &'static str {
        "hemem"
    }

    fn sample_period(&self) -> u32 {
        5000
    }

    fn tick_every(&self) -> Duration {
        Duration::from_millis(10)
    }

    fn place(&mut self, page: Page, tiers: &[TierState]) -> Tier {
        self.placed.add(page);
        first_touch(tiers)
    }

    fn samples(&mut self, samples: &[Sample]) {
        for sample in samples {
            let was = self.is_hot(sample.page);
            let counts = if sample.write { &mut self.writes } else { &mut self.reads };
            let count = counts.add(sample.page);
            if !was && sample.tier > 0 && self.is_hot(sample.page) {
                self.hot.push(sample.page);
            }
            if count >= COOLING {
                self.reads.cool();
                self.writes.cool();
            }
        }
    }

    fn tick(
        &mut self,
        _: Instant,
        tiers: &[TierState],
        tier_of: &dyn Fn(Page) -> Tier,
        budget: Budget,
    ) -> Vec<Move> {
        let mut plan = Plan::new(tiers, budget);
        let mut reach = self.placed.pages().min(REACH.saturating_mul(budget.moves));
        while let Some(page) = self.hot.first() {
            let from = tier_of(page);
            if from > 0 && self.is_hot(page) {
                if plan.left() == 0 || !self.room(&mut plan, tier_of, &mut reach) {
                    break;
                }
                plan.put(page, from, 0);
            }
            self.hot.pop();
        }
        plan.finish()
    }

    fn metadata_bytes(&self) -> u64 {
        self.reads.bytes() + self.writes.bytes() + self.placed.bytes() + self.hot.bytes()
    }
}

#[cfg(test)]
mod tests {
    use super::{super::tests::World, *};

    fn sampled(policy: &mut dyn Policy, page: Page, write: bool, times: u32) {
        (0..times).for_each(|_| policy.samples(&[Sample { page, tier: 1, write }]));
    }

    #[test]
    fn hot_from_8_loads_or_4_stores_on() {
        let mut hemem = HeMem::new(10);
        sampled(&mut hemem, 1, false, 7);
        sampled(&mut hemem, 2, true, 3);
        assert!(!hemem.is_hot(1) && !hemem.is_hot(2));
        sampled(&mut hemem, 1, false, 1);
        sampled(&mut hemem, 2, true, 1);
        assert!(hemem.is_hot(1) && hemem.is_hot(2));
    }

    #[test]
    fn a_count_of_18_cools_all() {
        let mut hemem = HeMem::new(10);
        sampled(&mut hemem, 1, false, 8);
        sampled(&mut hemem, 2, false, 17);
        assert!(hemem.is_hot(1));
        sampled(&mut hemem, 2, false, 1);
        assert!(!hemem.is_hot(1), "8 became 4");
        assert_eq!(hemem.reads.count(2), 9);
    }

    #[test]
    fn nothing_moves_when_no_page_of_the_fast_tier_is_cold() {
        let mut world = World::new("hemem", &[10, 100], 50, 1);
        for page in 0..11 {
            world.access(11, &|_| page);
        }
        assert_eq!(world.tick(100, 100), []);
    }

    #[test]
    fn a_hot_page_takes_the_room_of_a_cold_one() {
        let mut world = World::new("hemem", &[10, 100], 50, 1);
        world.access(11, &|_| 30);
        let moves = world.tick(100, 100);
        assert_eq!(moves.len(), 2);
        assert_eq!(moves[1], Move { page: 30, to: 0 });
    }
}
