//! TPP (Maruf and others: "TPP: Transparent Page Placement for CXL-Enabled Tiered-Memory",
//! ASPLOS 2023), as Linux has it: NUMA balancing in tiering mode with promotion from the active
//! list only, and demotion by reclaim.
//!
//! * A hand arms pages, 256 MiB a second (`numa_balancing_scan_size_mb`): the next access to an
//!   armed page is a hint fault. The first sample stands for that access.
//! * A hint fault on a page below makes it active; one on an active page promotes it. So a page is
//!   promoted on its second touch, as long as aging has not made it inactive meanwhile.
//! * The fast tier keeps max(2 % of it, twice the high watermark) free, apart from what allocation
//!   needs (`demote_scale_factor`). Demotion is proactive: below that mark a clock goes round,
//!   takes the marks off pages, and demotes those of the fast tier that have none.
//!
//! Left out: the lists themselves (a clock with two marks ages as they do), file pages before
//! anonymous ones, and the ping-pong counter, which only counts.

use alloc::{vec, vec::Vec};
use core::time::Duration;

use memtide_units::Instant;

use super::{
    Budget, Move, Page, Policy, Sample, Tier, TierState, first_touch, placed::Placed, plan::Plan,
    queue::Queue,
};

/// The page was accessed since the clock passed it.
const REFERENCED: u8 = 1;
/// It was so twice.
const ACTIVE: u8 = 2;
/// The next access to it is a hint fault.
const ARMED: u8 = 4;

/// Pages of 4 KiB in the 256 MiB that are armed in a second.
const ARMED_A_SECOND: u32 = 65536;
/// Ticks in a second.
const TICKS_A_SECOND: u32 = 10;
/// Pages that the clock may pass for each that is demoted.
const REACH: u32 = 64;

/// The policy `tpp`.
pub(super) struct Tpp {
    marks: Vec<u8>,
    /// The clock that ages and finds victims.
    clock: Placed,
    /// The next page to be armed.
    arming: Page,
    promote: Queue,
}

impl Tpp {
    /// For so many pages.
    pub(super) fn new(pages: u32) -> Self {
        Self {
            marks: vec![0; pages as usize],
            clock: Placed::new(pages),
            arming: 0,
            promote: Queue::new(pages),
        }
    }

    /// Makes the next accesses to the next pages hint faults.
    fn arm(&mut self) {
        let pages = self.clock.pages();
        for _ in 0..pages.min(ARMED_A_SECOND / TICKS_A_SECOND) {
            self.marks[self.arming as usize] |= ARMED;
            self.arming = if self.arming + 1 >= pages { 0 } else { self.arming + 1 };
        }
    }

    /// Ages pages of the fast tier, and demotes old ones until it has so many pages free.
    fn demote(&mut self, plan: &mut Plan, tier_of: &dyn Fn(Page) -> Tier, free: u32) {
        let missing = free.saturating_sub(plan.free(0)).min(plan.left());
        for _ in 0..self.clock.pages().min(missing.saturating_mul(REACH)) {
            if plan.free(0) >= free || plan.left() == 0 {
                return;
            }
            let Some(page) = self.clock.step() else { continue };
            let marks = &mut self.marks[page as usize];
            if *marks & REFERENCED != 0 {
                *marks &= !REFERENCED;
            } else if *marks & ACTIVE != 0 {
                *marks &= !ACTIVE;
            } else if tier_of(page) == 0 {
                plan.demote(page);
            }
        }
    }
}

/// Free pages below which demotion starts: the larger of 2 % of a tier and twice its high
/// watermark, which is 0.25 % here, between what `min_free_kbytes` gives small and large zones.
fn demotion_watermark(pages: u32) -> u32 {
    let high = pages / 400;
    (pages / 50).max(2 * high)
}

impl Policy for Tpp {
    fn name(&self) -> &'static str {
        "tpp"
    }

    fn sample_period(&self) -> u32 {
        100
    }

    fn tick_every(&self) -> Duration {
        Duration::from_secs(1) / TICKS_A_SECOND
    }

    fn place(&mut self, page: Page, tiers: &[TierState]) -> Tier {
        self.clock.add(page);
        first_touch(tiers)
    }

    fn samples(&mut self, samples: &[Sample]) {
        for sample in samples {
            let marks = &mut self.marks[sample.page as usize];
            // The accessed bit of the page table is seen at every turn of the clock, fault or not.
            if sample.tier == 0 {
                *marks |= if *marks & REFERENCED != 0 { ACTIVE } else { REFERENCED };
            }
            if *marks & ARMED == 0 {
                continue;
            }
            *marks &= !ARMED;
            if sample.tier == 0 {
                continue;
            }
            if *marks & ACTIVE != 0 {
                self.promote.push(sample.page);
            } else {
                // The paper, section 5.3: at once, not by way of being referenced.
                *marks |= ACTIVE;
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
        while let Some(page) = self.promote.first() {
            let from = tier_of(page);
            if from > 0 && !plan.put(page, from, 0) {
                break;
            }
            self.promote.pop();
        }
        // A fault that finds no room promotes nothing: the next one may.
        while self.promote.pop().is_some() {}
        let free = tiers.first().map_or(0, |near| demotion_watermark(near.pages));
        self.demote(&mut plan, tier_of, free);
        self.arm();
        plan.finish()
    }

    fn metadata_bytes(&self) -> u64 {
        self.marks.capacity() as u64 + self.clock.bytes() + self.promote.bytes()
    }
}

#[cfg(test)]
mod tests {
    use super::{super::tests::World, *};

    #[test]
    fn the_demotion_watermark_is_2_percent_of_the_tier() {
        assert_eq!(demotion_watermark(10_000), 200);
        let mut world = World::new("tpp", &[1000, 5000], 3000, 1);
        world.tick(5000, 100);
        assert_eq!(world.tiers[0].free, 20);
    }

    #[test]
    fn a_page_is_promoted_when_it_faults_while_active() {
        let mut world = World::new("tpp", &[1000, 5000], 3000, 1);
        world.tick(5000, 100);
        // The page is armed again at each tick.
        for fault in 1..=2 {
            world.access(5, &|_| 2500);
            let promoted = world.tick(5000, 100).iter().any(|wanted| wanted.to == 0);
            assert_eq!(promoted, fault == 2, "fault {fault}");
        }
        assert_eq!(world.tier_of[2500], 0);
    }

    #[test]
    fn pages_that_are_referenced_get_a_second_chance() {
        let mut world = World::new("tpp", &[1000, 5000], 3000, 1);
        for page in 0..10 {
            world.access(1, &|_| page);
        }
        world.tick(5000, 100);
        assert_eq!(world.near(0..10), 10, "the clock passed them by");
        assert_eq!(world.near(10..30), 0, "these were the next");
    }
}
