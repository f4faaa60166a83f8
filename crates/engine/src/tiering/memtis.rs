//! MEMTIS (Lee, Monga, Min, Eom: "MEMTIS: Efficient Memory Tiering with Dynamic Page
//! Classification and Page Size Determination", SOSP 2023).
//!
//! Sampled accesses are counted for each page, and pages are counted in 16 bins by the logarithm
//! of their count. After every 100,000 samples the *hot threshold* is set anew: bins are added up
//! from the hottest until the next would not fit into 97 % of the fast tier. Pages in the bin
//! below are *warm* if the hot ones fill less than three quarters of it; warm pages stay where
//! they are, which is what keeps it from ping-pong. After every 2,000,000 samples all counts are
//! halved. Each 500 ms hot pages below are promoted, and cold ones demoted for as long as less
//! than 2 % of the fast tier are free, or what is to be promoted has no room.
//!
//! Left out: splitting huge pages by how unevenly their parts are accessed (a page is one size
//! here), and adapting the sampling period to its cost.

use alloc::vec::Vec;
use core::time::Duration;

use memtide_units::Instant;

use super::{
    Budget, Move, Page, Policy, Sample, Tier, TierState, first_touch, frequency::Frequency,
    placed::Placed, plan::Plan, queue::Queue,
};

/// Bins of the histogram.
const BINS: usize = 16;
/// Samples between two settings of the threshold.
const ADAPTATION: u64 = 100_000;
/// Samples between two halvings.
const COOLING: u64 = 2_000_000;
/// Pages that the hand may pass for each that is demoted.
const REACH: u32 = 64;

/// The policy `memtis`.
pub(super) struct Memtis {
    counts: Frequency,
    placed: Placed,
    /// Pages in each bin.
    bins: [u64; BINS],
    samples: u64,
    /// Pages of the fast tier, as last seen.
    near: u64,
    /// The lowest bin that is hot.
    hot: usize,
    /// The lowest bin that is not cold.
    warm: usize,
    promote: Queue,
}

/// The bin of a count.
fn bin(count: u16) -> usize {
    ((u32::from(count) + 1).ilog2() as usize).min(BINS - 1)
}

impl Memtis {
    /// For so many pages.
    pub(super) fn new(pages: u32) -> Self {
        Self {
            counts: Frequency::new(pages),
            placed: Placed::new(pages),
            bins: [0; BINS],
            samples: 0,
            near: 0,
            hot: 1,
            warm: 1,
            promote: Queue::new(pages),
        }
    }

    /// Counts a sample; the bin of its page after that.
    fn count(&mut self, page: Page) -> usize {
        // Cooling moved whole bins down, which is not exact for single pages: a page leaves the
        // bin in which it was counted, and enters the one where it belongs.
        let lag = usize::from(self.counts.lag(page));
        let counted = bin(self.counts.raw(page)).saturating_sub(lag);
        self.bins[counted] = self.bins[counted].saturating_sub(1);
        let bin = bin(self.counts.add(page));
        self.bins[bin] += 1;
        bin
    }

    /// Sets the thresholds so that what is hot fits.
    fn adapt(&mut self) {
        let fits = self.near * 97 / 100;
        let mut pages = 0;
        self.hot = BINS;
        while self.hot > 1 && pages + self.bins[self.hot - 1] <= fits {
            self.hot -= 1;
            pages += self.bins[self.hot];
        }
        self.hot = self.hot.min(BINS - 1);
        let warm = if pages < self.near * 3 / 4 { self.hot - 1 } else { self.hot };
        // What was never sampled is cold in any case.
        self.warm = warm.max(1);
    }

    /// Halves all counts.
    fn cool(&mut self) {
        self.counts.cool();
        self.bins[0] += self.bins[1];
        self.bins.copy_within(2.., 1);
        self.bins[BINS - 1] = 0;
    }

    fn bin_of(&self, page: Page) -> usize {
        bin(self.counts.count(page))
    }

    /// Demotes cold pages until the fast tier has so many free.
    fn demote(&mut self, plan: &mut Plan, tier_of: &dyn Fn(Page) -> Tier, free: u32) {
        let missing = free.saturating_sub(plan.free(0)).min(plan.left());
        for _ in 0..self.placed.pages().min(missing.saturating_mul(REACH)) {
            if plan.free(0) >= free || plan.left() == 0 {
                return;
            }
            let Some(page) = self.placed.step() else { continue };
            if tier_of(page) == 0 && self.bin_of(page) < self.warm {
                plan.demote(page);
            }
        }
    }
}

impl Policy for Memtis {
    fn name(&self) -> &'static str {
        "memtis"
    }

    fn sample_period(&self) -> u32 {
        200
    }

    fn tick_every(&self) -> Duration {
        Duration::from_millis(500)
    }

    fn place(&mut self, page: Page, tiers: &[TierState]) -> Tier {
        self.placed.add(page);
        self.bins[0] += 1;
        self.near = tiers.first().map_or(0, |near| u64::from(near.pages));
        first_touch(tiers)
    }

    fn samples(&mut self, samples: &[Sample]) {
        for sample in samples {
            if self.count(sample.page) >= self.hot && sample.tier > 0 {
                self.promote.push(sample.page);
            }
            self.samples += 1;
            if self.samples.is_multiple_of(COOLING) {
                self.cool();
            }
            if self.samples.is_multiple_of(ADAPTATION) {
                self.adapt();
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
        let near = tiers.first().map_or(0, |near| near.pages);
        self.near = u64::from(near);
        // A promotion and the demotion that makes room for it share what may be spent.
        let wanted = (self.promote.len() as u32).min(budget.moves / 2);
        self.demote(&mut plan, tier_of, (near / 50).max(wanted));
        while let Some(page) = self.promote.first() {
            let from = tier_of(page);
            if from > 0 && self.bin_of(page) >= self.hot && !plan.put(page, from, 0) {
                break;
            }
            self.promote.pop();
        }
        plan.finish()
    }

    fn metadata_bytes(&self) -> u64 {
        self.counts.bytes() + self.placed.bytes() + self.promote.bytes()
    }
}

#[cfg(test)]
mod tests {
    use alloc::vec;

    use super::{super::tests::World, *};

    #[test]
    fn bins_are_logarithms_of_counts() {
        let bins = [0, 1, 2, 3, 6, 7, 14, 15, u16::MAX].map(bin);
        assert_eq!(bins, [0, 1, 1, 2, 2, 3, 3, 4, 15]);
    }

    fn with_bins(near: u64, bins: &[(usize, u64)]) -> Memtis {
        let mut memtis = Memtis::new(10);
        memtis.near = near;
        bins.iter().for_each(|&(bin, pages)| memtis.bins[bin] = pages);
        memtis.adapt();
        memtis
    }

    #[test]
    fn hot_is_what_fills_97_percent_of_the_fast_tier() {
        assert_eq!(with_bins(100, &[(9, 50), (5, 47), (4, 1)]).hot, 5, "50 + 47 fit");
        assert_eq!(with_bins(100, &[(9, 50), (5, 48), (4, 1)]).hot, 6, "50 + 48 do not");
        assert_eq!(with_bins(100, &[(0, 1000)]).hot, 1, "the lowest threshold is 1");
    }

    #[test]
    fn the_bin_below_is_warm_when_hot_pages_fill_less_than_75_percent() {
        let warm = with_bins(100, &[(9, 74), (5, 90)]);
        assert_eq!((warm.hot, warm.warm), (6, 5));
        let full = with_bins(100, &[(9, 75), (5, 90)]);
        assert_eq!((full.hot, full.warm), (6, 6));
    }

    #[test]
    fn two_million_samples_halve_all_counts() {
        let mut memtis = Memtis::new(10);
        let sample = |page| Sample { page, tier: 0, write: false };
        memtis.samples(&vec![sample(1); 40]);
        memtis.samples(&vec![sample(2); COOLING as usize - 41]);
        assert_eq!(memtis.counts.count(1), 40);
        memtis.samples(&[sample(2)]);
        assert_eq!(memtis.counts.count(1), 20);
    }

    #[test]
    fn two_percent_of_the_fast_tier_are_kept_free() {
        let mut world = World::new("memtis", &[1000, 5000], 3000, 1);
        world.tick(5000, 100);
        assert_eq!(world.tiers[0].free, 20);
    }

    /// Coolings move bins, samples move pages between bins: together no page is lost.
    #[test]
    fn the_bins_hold_all_pages() {
        let mut world = Memtis::new(1000);
        let tier =
            TierState { pages: 1000, free: 1000, unloaded_ns: 1.0, loaded_ns: 1.0, accesses: 0 };
        assert!((0..1000).all(|page| world.place(page, &[tier]) == 0));
        for round in 0..3000_u32 {
            let page = round.wrapping_mul(2_654_435_761) % 1000 % (1 + round % 999);
            world.samples(&[Sample { page, tier: 0, write: false }]);
            if round % 500 == 499 {
                world.cool();
            }
        }
        assert_eq!(world.bins.iter().sum::<u64>(), 1000);
    }
}
