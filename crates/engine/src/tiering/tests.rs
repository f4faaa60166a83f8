//! What every policy keeps to, whatever it is told.

use alloc::{boxed::Box, vec, vec::Vec};
use core::time::Duration;

use memtide_units::{Instant, Random};

use super::{Budget, Move, NAMES, Page, Policy, Sample, Tier, TierState, by_name};

/// A world of the plainest kind: pages with a popularity, tiers with room.
pub(super) struct World {
    pub tier_of: Vec<Tier>,
    pub tiers: Vec<TierState>,
    pub policy: Box<dyn Policy>,
    pub now: Instant,
    pub moved: u64,
    random: Random,
}

impl World {
    /// Pages placed by a policy into tiers of these sizes.
    pub(super) fn new(name: &str, sizes: &[u32], pages: u32, seed: u64) -> Self {
        let mut policy = by_name(name, pages, sizes.len()).expect("a name of the list");
        let tier = |(at, &pages): (usize, &u32)| {
            let unloaded_ns = 90.0 + 130.0 * at as f64;
            TierState { pages, free: pages, unloaded_ns, loaded_ns: unloaded_ns, accesses: 0 }
        };
        let mut tiers: Vec<_> = sizes.iter().enumerate().map(tier).collect();
        let mut tier_of = vec![];
        for page in 0..pages {
            let to = policy.place(page, &tiers);
            assert!(tiers[usize::from(to)].free > 0, "{name} places page {page} where it fits");
            tiers[usize::from(to)].free -= 1;
            tier_of.push(to);
        }
        let now = Instant::default();
        Self { tier_of, tiers, policy, now, moved: 0, random: Random::new(seed) }
    }

    /// Samples of accesses; `page_of` turns a random number into a page.
    pub(super) fn access(&mut self, samples: u32, page_of: &dyn Fn(u64) -> Page) {
        for _ in 0..samples {
            let page = page_of(self.random.next());
            let tier = self.tier_of[page as usize];
            let write = self.random.below(4) == 0;
            self.policy.samples(&[Sample { page, tier, write }]);
            let period = u64::from(self.policy.sample_period().min(1 << 20));
            self.tiers[usize::from(tier)].accesses += period;
        }
    }

    /// A tick, with its moves checked against the contract. So many percent of them are carried
    /// out.
    pub(super) fn tick(&mut self, moves: u32, percent: u64) -> Vec<Move> {
        self.now = self.now.after(self.policy.tick_every().min(Duration::from_secs(1)));
        let wanted = {
            let tier_of = |page: Page| self.tier_of[page as usize];
            self.policy.tick(self.now, &self.tiers, &tier_of, Budget { moves })
        };
        let name = self.policy.name();
        assert!(wanted.len() <= moves as usize, "{name}: {} of {moves}", wanted.len());
        let mut free: Vec<u32> = self.tiers.iter().map(|tier| tier.free).collect();
        let mut seen: Vec<Page> = wanted.iter().map(|wanted| wanted.page).collect();
        for &Move { page, to } in &wanted {
            let from = usize::from(self.tier_of[page as usize]);
            let to = usize::from(to);
            assert!(from != to, "{name} moves page {page} to where it lies");
            assert!(free[to] > 0, "{name} moves page {page} to a tier without room");
            free[to] -= 1;
            free[from] += 1;
        }
        seen.sort_unstable();
        seen.dedup();
        assert_eq!(seen.len(), wanted.len(), "{name} moves a page twice");
        for &Move { page, to } in &wanted {
            let from = usize::from(self.tier_of[page as usize]);
            if self.random.below(100) < percent && self.tiers[usize::from(to)].free > 0 {
                self.tiers[usize::from(to)].free -= 1;
                self.tiers[from].free += 1;
                self.tier_of[page as usize] = to;
                self.moved += 1;
            }
        }
        self.tiers.iter_mut().for_each(|tier| tier.accesses = 0);
        wanted
    }

    /// Pages of a range that lie in the fast tier.
    pub(super) fn near(&self, pages: core::ops::Range<usize>) -> usize {
        self.tier_of[pages].iter().filter(|&&tier| tier == 0).count()
    }
}

/// A random history; the moves of all its ticks.
fn history(name: &str, seed: u64) -> Vec<Move> {
    let mut random = Random::new(seed);
    let pages = 1 + random.below(20_000) as u32;
    let near = random.below(u64::from(pages)) as u32;
    let middle = random.below(3) as u32 * pages / 4;
    let far = (pages - near) + random.below(u64::from(pages)) as u32;
    let mut world = World::new(name, &[near, middle, far], pages, seed);
    let mut all = vec![];
    for _ in 0..40 {
        // Hot pages somewhere, more or less of them, for a while.
        let first = random.below(u64::from(pages));
        let hot = 1 + random.below(u64::from(pages));
        let spread = u64::from(pages);
        let page_of = move |number: u64| {
            let within = if number & 7 == 0 { spread } else { hot };
            ((first + (number >> 3) % within) % spread) as Page
        };
        world.access(random.below(8000) as u32, &page_of);
        let slow = 90.0 + random.below(400) as f64;
        world.tiers[0].loaded_ns = slow;
        let budget = random.below(3000) as u32;
        let percent = random.below(101);
        all.extend(world.tick(budget, percent));
    }
    all
}

#[test]
fn no_policy_asks_for_more_than_it_may_or_for_what_has_no_room() {
    for &name in NAMES {
        let moves: usize = (0..12).map(|seed| history(name, seed).len()).sum();
        assert_eq!(moves > 0, name != "static", "{name} moved {moves} pages");
    }
}

#[test]
fn the_same_history_gives_the_same_moves() {
    for &name in NAMES {
        for seed in 100..102 {
            assert_eq!(history(name, seed), history(name, seed), "{name}, seed {seed}");
        }
    }
}

#[test]
fn a_policy_goes_by_the_name_that_it_is_asked_for_by() {
    for &name in NAMES {
        let policy = by_name(name, 100, 2).expect("a name of the list");
        assert_eq!(policy.name(), name);
        assert!(by_name(name, 100, 0).is_none(), "no tiers");
    }
    assert!(by_name("best", 100, 2).is_none());
}

/// Bits that each policy needs for a page, from what its essay says that it remembers, and that a
/// queue that fills is counted as well.
#[test]
fn metadata_is_what_is_remembered() {
    let pages = 1_000_000;
    let bits = [
        ("static", 0),
        ("tpp", 10),
        ("numa-balancing", 18),
        ("hemem", 50),
        ("memtis", 26),
        ("colloid", 26),
        ("memtide", 16),
    ];
    for (name, bits) in bits {
        let mut policy = by_name(name, pages, 2).expect("a name of the list");
        let least = u64::from(pages) * bits / 8;
        let before = policy.metadata_bytes();
        assert!((least..=least + least / 20).contains(&before), "{name}: {before}, not {least}");
        let far = (0..pages).flat_map(|page| [Sample { page, tier: 1, write: true }; 4]);
        policy.samples(&far.collect::<Vec<_>>());
        let queued = policy.metadata_bytes() - before;
        let queues = ["hemem", "memtis", "colloid"].contains(&name);
        assert_eq!(queued > 0, queues, "{name} queued {queued} bytes");
    }
}

/// 0.05 % of memory, and a little for tables: what a page of 4 KiB may cost.
#[test]
fn memtide_remembers_two_bytes_and_a_queue_of_a_page_in_96() {
    let pages = 1 << 22;
    let policy = by_name("memtide", pages, 2).expect("a name of the list");
    let per_page = policy.metadata_bytes() as f64 / f64::from(pages);
    assert!(per_page < 2.0 + 4.0 / 96.0 + 0.01, "{per_page}");
    assert!(per_page / 4096.0 < 0.0005, "{per_page}");
}
