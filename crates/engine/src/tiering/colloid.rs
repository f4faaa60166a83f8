//! Colloid (Vuppalapati, Agarwal: "Tiered Memory Management: Access Latency is the Key!", SOSP
//! 2024), over counters of accesses.
//!
//! The latencies of the tiers under load are compared each tick ([`super::balance`]). While the
//! fast tier is the faster one, pages below are promoted that together have the share of the
//! accesses by which it should grow, hottest first, and cold pages make room; while it is the
//! slower one, nothing is promoted, and pages of it are demoted that have the share by which it
//! should shrink.
//!
//! Hotness is a count of samples that is halved after every 2,000,000, as in MEMTIS, over which
//! the paper evaluates it too. A page's share is its count among all counts; it is only moved if
//! that is not more than the share that is still to be moved.
//!
//! Left out: latencies by Little's law from the queues of the memory controller (the world tells
//! latencies), the limit of migration that follows the shift (the budget is the limit).

use alloc::vec::Vec;
use core::time::Duration;

use memtide_units::Instant;

use super::{
    Budget, Move, Page, Policy, Sample, Tier, TierState,
    balance::{Balance, measured},
    first_touch,
    frequency::Frequency,
    placed::Placed,
    plan::Plan,
    queue::Queue,
};

/// Samples between two halvings.
const COOLING: u64 = 2_000_000;
/// The count from which on a page below is worth a promotion.
const HOT: u16 = 2;
/// Pages that a hand may pass for each that is moved.
const REACH: u32 = 64;

/// The policy `colloid`.
pub(super) struct Colloid {
    counts: Frequency,
    placed: Placed,
    balance: Balance,
    samples: u64,
    /// The sum of all counts.
    sum: f64,
    promote: Queue,
}

impl Colloid {
    /// For so many pages.
    pub(super) fn new(pages: u32) -> Self {
        Self {
            counts: Frequency::new(pages),
            placed: Placed::new(pages),
            balance: Balance::new(),
            samples: 0,
            sum: 0.0,
            promote: Queue::new(pages),
        }
    }

    fn share_of(&self, page: Page) -> f64 {
        f64::from(self.counts.count(page)) / self.sum.max(1.0)
    }

    /// Demotes pages of the fast tier that together have this share.
    fn shrink(&mut self, plan: &mut Plan, tier_of: &dyn Fn(Page) -> Tier, mut share: f64) {
        for _ in 0..self.placed.pages().min(plan.left().saturating_mul(REACH)) {
            let Some(page) = self.placed.step() else { continue };
            let its = self.share_of(page);
            if tier_of(page) == 0 && its > 0.0 && its <= share {
                if !plan.demote(page) {
                    return;
                }
                share -= its;
            }
        }
    }

    /// Promotes pages that together have this share.
    fn grow(&mut self, plan: &mut Plan, tier_of: &dyn Fn(Page) -> Tier, mut share: f64) {
        let mut reach = self.placed.pages().min(plan.left().saturating_mul(REACH));
        while let Some(page) = self.promote.first() {
            let (from, its) = (tier_of(page), self.share_of(page));
            let count = self.counts.count(page);
            if from > 0 && count >= HOT && its <= share {
                self.make_room(plan, tier_of, count, &mut reach);
                if !plan.put(page, from, 0) {
                    return;
                }
                share -= its;
            }
            self.promote.pop();
        }
    }

    /// Demotes a page that is accessed at most half as often, unless there is room.
    fn make_room(
        &mut self,
        plan: &mut Plan,
        tier_of: &dyn Fn(Page) -> Tier,
        count: u16,
        reach: &mut u32,
    ) {
        while plan.free(0) == 0 && *reach > 0 && plan.left() > 1 {
            *reach -= 1;
            let Some(page) = self.placed.step() else { continue };
            if tier_of(page) == 0 && self.counts.count(page) <= count / 2 && !plan.demote(page) {
                return;
            }
        }
    }
}

impl Policy for Colloid {
    fn name(&self) -> &'static str {
        "colloid"
    }

    fn sample_period(&self) -> u32 {
        200
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
            let count = self.counts.add(sample.page);
            self.sum += 1.0;
            if count >= HOT && sample.tier > 0 {
                self.promote.push(sample.page);
            }
            self.samples += 1;
            if self.samples.is_multiple_of(COOLING) {
                self.counts.cool();
                self.sum /= 2.0;
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
        let Some((share, far)) = measured(tiers, |tier| tier.loaded_ns) else {
            return plan.finish();
        };
        let shift = self.balance.shift(share, tiers[0].loaded_ns, far);
        if shift > 0.0 {
            self.grow(&mut plan, tier_of, shift);
        } else if shift < 0.0 {
            self.shrink(&mut plan, tier_of, -shift);
        }
        plan.finish()
    }

    fn metadata_bytes(&self) -> u64 {
        self.counts.bytes() + self.placed.bytes() + self.promote.bytes()
    }
}

#[cfg(test)]
mod tests {
    use super::{super::tests::World, *};

    fn busy(near_ns: f64) -> World {
        let mut world = World::new("colloid", &[1000, 5000], 3000, 1);
        world.access(60_000, &|number| (number % 3000) as Page);
        world.tiers[0].loaded_ns = near_ns;
        world
    }

    #[test]
    fn nothing_is_promoted_while_the_fast_tier_is_the_slower_one() {
        let moves = busy(300.0).tick(500, 100);
        assert!(!moves.is_empty() && moves.iter().all(|wanted| wanted.to > 0), "{moves:?}");
    }

    #[test]
    fn nothing_moves_while_latencies_are_within_5_percent() {
        assert_eq!(busy(225.0).tick(500, 100), []);
    }

    #[test]
    fn what_is_shifted_has_the_share_that_is_to_be_shifted() {
        let mut world = busy(300.0);
        let share = world.tiers[0].accesses as f64 / 60_000.0 / 200.0;
        let moved = world.tick(2000, 100).len();
        // From the share to half of it; each page has a 3000th.
        assert!((moved as f64 / 3000.0 - share / 2.0).abs() < 0.01, "{moved} of {share}");
    }
}
