//! NUMA balancing in memory-tiering mode (`numa_balancing` = 2), as Linux selects hot pages:
//! `should_numa_migrate_memory`, `numa_promotion_adjust_threshold` and `numa_promotion_rate_limit`
//! in `kernel/sched/fair.c`.
//!
//! * A hand arms pages, 256 MiB a second (`numa_balancing_scan_size_mb`): the next access to an
//!   armed page is a hint fault. The first sample stands for that access.
//! * What counts is how long after it was armed a page faults: the sooner, the hotter. A page below
//!   whose latency is less than a threshold, 1 s at first (`hot_threshold_ms`), is a candidate, and
//!   is promoted.
//! * The threshold follows a rate limit. Candidates 10 % above what the limit lets through make it
//!   an eighth of a second stricter, 10 % below so much laxer, between 1/8 s and 2 s.
//! * While the fast tier has 1 GiB or a sixteenth of itself free, whichever is more, every fault
//!   promotes, and the threshold starts anew (`pgdat_free_space_enough`).
//! * Demotion is reclaim's: until the fast tier has the promotion watermark free, a clock takes the
//!   accessed bits off pages and demotes those of the fast tier that have none.
//!
//! The rate limit (`promote_rate_limit_MBps`) is what migration can carry: the budget. Linux looks
//! after the threshold every 60 s (`scan_period_max_ms`), here it is every second, for runs take
//! seconds. Left out: the lists, of which the clock is a plain one.

use alloc::{vec, vec::Vec};
use core::time::Duration;

use memtide_units::Instant;

use super::{
    Budget, Move, Page, Policy, Sample, Tier, TierState, first_touch, placed::Placed, plan::Plan,
    queue::Queue,
};

/// The page was accessed since the clock passed it.
const REFERENCED: u16 = 1 << 15;
/// The tick at which the page was armed, from 1; 0 when it is not.
const ARMED_AT: u16 = REFERENCED - 1;

const TICKS_A_SECOND: u32 = 50;
const TICK_MS: u32 = 1000 / TICKS_A_SECOND;
/// Pages of 4 KiB in the 256 MiB that are armed in a second.
const ARMED_A_SECOND: u32 = 65536;
/// Pages of 4 KiB in 1 GiB.
const ENOUGH: u32 = 262_144;
/// `sysctl_numa_balancing_hot_threshold`.
const THRESHOLD_MS: u32 = 1000;
/// `NUMA_MIGRATION_ADJUST_STEPS` of them are twice the threshold.
const STEP_MS: u32 = THRESHOLD_MS * 2 / 16;
/// Pages that the clock may pass for each that is demoted.
const REACH: u32 = 64;

/// The policy `numa-balancing`.
pub(super) struct NumaBalancing {
    marks: Vec<u16>,
    /// The clock that finds victims.
    clock: Placed,
    /// The next page to be armed.
    arming: Page,
    promote: Queue,
    /// Ticks so far, modulo [`ARMED_AT`].
    ticks: u16,
    threshold_ms: u32,
    /// Pages whose fault came soon enough, since the threshold was looked after.
    candidates: u64,
    /// Pages that the rate limit let through meanwhile.
    limit: u64,
    /// Ticks until it is looked after again.
    adjust_in: u32,
    /// Every fault promotes.
    has_enough: bool,
}

impl NumaBalancing {
    /// For so many pages.
    pub(super) fn new(pages: u32) -> Self {
        Self {
            marks: vec![0; pages as usize],
            clock: Placed::new(pages),
            arming: 0,
            promote: Queue::new(pages),
            ticks: 0,
            threshold_ms: THRESHOLD_MS,
            candidates: 0,
            limit: 0,
            adjust_in: TICKS_A_SECOND,
            has_enough: false,
        }
    }

    /// Makes the next accesses to the next pages hint faults; of pages that are armed, too: their
    /// time starts anew.
    fn arm(&mut self) {
        let pages = self.clock.pages();
        for _ in 0..pages.min(ARMED_A_SECOND / TICKS_A_SECOND) {
            let marks = &mut self.marks[self.arming as usize];
            *marks = *marks & REFERENCED | (self.ticks + 1);
            self.arming = if self.arming + 1 >= pages { 0 } else { self.arming + 1 };
        }
    }

    /// Milliseconds since the tick, from 1, at which a page was armed.
    fn latency_ms(&self, armed_at: u16) -> u32 {
        u32::from((self.ticks + ARMED_AT - (armed_at - 1)) % ARMED_AT) * TICK_MS
    }

    fn adjust_threshold(&mut self) {
        self.adjust_in -= 1;
        if self.adjust_in > 0 {
            return;
        }
        if self.candidates * 10 > self.limit * 11 {
            self.threshold_ms = (self.threshold_ms - STEP_MS).max(STEP_MS);
        } else if self.candidates * 10 < self.limit * 9 {
            self.threshold_ms = (self.threshold_ms + STEP_MS).min(2 * THRESHOLD_MS);
        }
        (self.candidates, self.limit, self.adjust_in) = (0, 0, TICKS_A_SECOND);
    }

    /// Demotes pages of the fast tier that were not accessed, until it has so many pages free.
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
            } else if tier_of(page) == 0 {
                plan.demote(page);
            }
        }
    }
}

/// Free pages of a tier that reclaim aims at (`WMARK_PROMO`): the high watermark, 0.25 % of it as
/// in `tpp`, and a step of `watermark_scale_factor`, 0.1 %.
fn promotion_watermark(pages: u32) -> u32 {
    pages / 400 + pages / 1000
}

impl Policy for NumaBalancing {
    fn name(&self) -> &'static str {
        "numa-balancing"
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
            let marks = self.marks[sample.page as usize];
            let armed_at = marks & ARMED_AT;
            // The accessed bit of the page table is seen when the clock comes, fault or not.
            self.marks[sample.page as usize] = REFERENCED;
            if armed_at == 0 || sample.tier == 0 {
                continue;
            }
            if self.has_enough {
                self.promote.push(sample.page);
            } else if self.latency_ms(armed_at) < self.threshold_ms {
                self.candidates += 1;
                self.promote.push(sample.page);
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
        self.ticks = (self.ticks + 1) % ARMED_AT;
        self.limit += u64::from(budget.moves);
        self.adjust_threshold();
        let near = tiers.first().map_or((0, 0), |near| (near.pages, near.free));
        let free = promotion_watermark(near.0);
        self.has_enough = near.1 > free.saturating_add(ENOUGH.max(near.0 / 16));
        if self.has_enough {
            self.threshold_ms = THRESHOLD_MS;
        }
        let mut plan = Plan::new(tiers, budget);
        while let Some(page) = self.promote.first() {
            let from = tier_of(page);
            if from > 0 && !plan.put(page, from, 0) {
                break;
            }
            self.promote.pop();
        }
        // A fault that finds no room, or is beyond the limit, promotes nothing: the next one may.
        while self.promote.pop().is_some() {}
        self.demote(&mut plan, tier_of, free);
        self.arm();
        plan.finish()
    }

    fn metadata_bytes(&self) -> u64 {
        self.marks.capacity() as u64 * 2 + self.clock.bytes() + self.promote.bytes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FULL: [TierState; 2] = [tier(10_000, 100), tier(100_000, 50_000)];

    const fn tier(pages: u32, free: u32) -> TierState {
        TierState { pages, free, unloaded_ns: 90.0, loaded_ns: 90.0, accesses: 0 }
    }

    /// Ticks that find nothing to promote; the last one's moves.
    fn pass(policy: &mut NumaBalancing, ticks: u32, tiers: &[TierState], moves: u32) -> Vec<Move> {
        let mut last = Vec::new();
        for _ in 0..ticks {
            last = policy.tick(Instant::default(), tiers, &|_| 1, Budget { moves });
        }
        last
    }

    fn fault(policy: &mut NumaBalancing, page: Page) {
        policy.samples(&[Sample { page, tier: 1, write: false }]);
    }

    /// A policy whose first page was armed by the first tick, and by none since.
    fn armed(pages: u32) -> NumaBalancing {
        let mut policy = NumaBalancing::new(pages);
        pass(&mut policy, 1, &FULL, 10);
        policy
    }

    #[test]
    fn a_page_that_faults_within_the_threshold_is_promoted() {
        // Armed at the first tick; 49 ticks later is 980 ms, 50 are 1000 ms.
        for (ticks, is_promoted) in [(1, true), (49, true), (50, false), (60, false)] {
            let mut policy = armed(200_000);
            pass(&mut policy, ticks, &FULL, 10);
            policy.threshold_ms = THRESHOLD_MS;
            fault(&mut policy, 0);
            let moves = pass(&mut policy, 1, &FULL, 10);
            let expected = if is_promoted { vec![Move { page: 0, to: 0 }] } else { vec![] };
            assert_eq!(moves, expected, "after {ticks} ticks");
        }
    }

    #[test]
    fn a_page_that_is_not_armed_does_not_fault() {
        let mut policy = armed(200_000);
        // The first tick armed a fiftieth of 65536 pages.
        fault(&mut policy, 1309);
        fault(&mut policy, 1310);
        fault(&mut policy, 0);
        pass(&mut policy, 1, &FULL, 10);
        fault(&mut policy, 0);
        assert_eq!(policy.candidates, 2, "1309 and 0; a page faults once");
        assert_eq!(pass(&mut policy, 1, &FULL, 10), []);
    }

    #[test]
    fn the_threshold_follows_the_rate_limit() {
        let mut policy = NumaBalancing::new(200_000);
        // Nobody faults: it grows to twice of what it was, by steps of 125 ms.
        pass(&mut policy, TICKS_A_SECOND, &FULL, 10);
        assert_eq!(policy.threshold_ms, 1125);
        pass(&mut policy, 20 * TICKS_A_SECOND, &FULL, 10);
        assert_eq!(policy.threshold_ms, 2000);
        // Within 10 % of 500 in a second, which is 10 in each tick, it stays.
        for (candidates, expected) in [(450, 2000), (550, 2000), (551, 1875), (449, 2000)] {
            policy.candidates = candidates;
            pass(&mut policy, TICKS_A_SECOND, &FULL, 10);
            assert_eq!(policy.threshold_ms, expected, "{candidates} candidates");
        }
        for _ in 0..30 {
            policy.candidates = 10_000;
            pass(&mut policy, TICKS_A_SECOND, &FULL, 10);
        }
        assert_eq!(policy.threshold_ms, 125, "and no stricter");
    }

    #[test]
    fn with_enough_room_every_fault_promotes() {
        let roomy = [tier(2 * ENOUGH, 3 * ENOUGH / 2), tier(100_000, 50_000)];
        let mut policy = armed(200_000);
        policy.threshold_ms = 125;
        pass(&mut policy, 100, &roomy, 10);
        assert_eq!(policy.threshold_ms, THRESHOLD_MS, "it starts anew");
        fault(&mut policy, 0);
        assert_eq!(pass(&mut policy, 1, &roomy, 10), [Move { page: 0, to: 0 }]);
        assert_eq!(policy.candidates, 0);
    }

    #[test]
    fn what_is_beyond_the_limit_is_not_promoted_later() {
        let mut policy = armed(200_000);
        (0..5).for_each(|page| fault(&mut policy, page));
        assert_eq!(pass(&mut policy, 1, &FULL, 3).len(), 3);
        assert_eq!(pass(&mut policy, 1, &FULL, 3), []);
    }

    #[test]
    fn reclaim_frees_the_promotion_watermark_and_spares_what_is_accessed() {
        let full = [tier(10_000, 0), tier(100_000, 90_000)];
        let mut policy = NumaBalancing::new(10_000);
        (0..10_000).for_each(|page| assert_eq!(policy.place(page, &FULL), 0));
        (0..10).for_each(|page| policy.samples(&[Sample { page, tier: 0, write: false }]));
        let moves = policy.tick(Instant::default(), &full, &|_| 0, Budget { moves: 1000 });
        let expected: Vec<Move> = (10..45).map(|page| Move { page, to: 1 }).collect();
        assert_eq!(moves, expected);
    }
}
