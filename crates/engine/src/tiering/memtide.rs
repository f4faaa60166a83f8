//! memtide's own policy: pages are judged by what pages like them were seen to do next.
//!
//! Other policies rank pages by a number made of their past (a count, an age), and compare it
//! with a threshold; which number is the right one depends on the program. Here the past of a
//! page is its *age* since the last sample and its *score*, a count of samples ([`word`]); how
//! many pages have which past is known at any time ([`census`], [`books`]), and what pages of a
//! given past do next is measured, turn by turn, and carried forward ([`outlook`]). Age is the
//! short memory, score the long one, and the measurement says which of them to believe: when the
//! hot set moves, pages with a high score and no recent sample are seen not to come back, within
//! a turn or two.
//!
//! A *turn* is an eighth as many samples as the fast tier has pages, or a quarter of all pages if
//! those are more. So time is measured by what there is to learn, on four gigabytes as on four
//! hundred. How long turns take, and with them how dense samples are and how far ahead is looked,
//! follows from how long the program has behaved as it does ([`pace`], [`surprise`]).
//!
//! **What moves** ([`exchange`]). The best pages below are matched with the worst of the fast tier,
//! for as long as a pair gains more than it costs: accesses that are expected to be saved, times
//! what each saves, against the time that migration takes. Under a scan, or when all pages are
//! alike, no pair does, and nothing moves. There is no threshold of hotness.
//!
//! **When the fast tier is saturated** the cost of an access is not its latency, but also what it
//! adds to the latency of all others. With a curve that rises with load the marginal cost is at
//! least the loaded latency plus what the load has added to it; that is what is balanced
//! ([`super::balance`]), where Colloid balances the latencies. The gain of a pair is the
//! difference of the marginal costs, too, so it is nothing once they are equal.
//!
//! **What it costs.** Two bytes a page, and a queue of a page in 96. A sample is a look at a few
//! words and counters; a tick looks at the classes, and at pages in proportion to samples.
//!
//! **Kin.** HybridTier (Song and others, ASPLOS 2025) and ARMS keep a short and a long history too,
//! and weigh them by rule; MEMTIS counts pages by bins too, and assumes that the higher bin is the
//! better one.

mod books;
mod census;
mod exchange;
mod outlook;
mod pace;
mod surprise;
#[cfg(test)]
mod tests;
mod word;

use alloc::{collections::VecDeque, vec::Vec};
use core::time::Duration;

use memtide_units::Instant;

use self::{
    books::{Books, SWEPT, Scores},
    exchange::Exchange,
    outlook::{Class, Outlook, class},
    pace::{Meant, Pace},
};
use super::{
    Budget, Move, Page, Policy, Sample, Tier, TierState,
    balance::{Balance, measured},
    first_touch,
    plan::Plan,
};

/// How often it is asked.
const TICK: Duration = Duration::from_millis(10);
/// A turn has this part of pages in samples, and so many at least.
const TURN_PART: u32 = 8;
const TURN_MIN: u32 = 1024;
/// Pages that are located in a tick at most.
const LOCATE_MAX: u32 = 1 << 17;
/// Pages that are looked at in a tick at most to find some to move.
const SEARCH: u32 = 1 << 16;
/// The queue holds this part of all pages, and a few.
const QUEUE_PART: usize = 96;
const QUEUE_MIN: usize = 64;
/// What migration at full speed costs the program, as a part of its speed.
const MIGRATION_COST: f64 = 0.5;

/// The policy `memtide`.
pub(super) struct Memtide {
    books: Books,
    outlook: Outlook,
    exchange: Exchange,
    balance: Balance,
    pace: Pace,
    /// Pages that fit into the fast tier.
    near_pages: u32,
    /// Samples of this turn.
    samples: u32,
    /// Pages swept since the last tick, and the next one to be located.
    swept: u32,
    located: Page,
    /// Where the search for victims goes on.
    victims: Page,
    /// Pages below that should be promoted.
    promote: VecDeque<Page>,
    queue_max: usize,
    /// Whether the last tick relieved the fast tier.
    relieved: Meant,
}

impl Memtide {
    /// For so many pages.
    pub(super) fn new(pages: u32) -> Self {
        let queue_max = pages as usize / QUEUE_PART + QUEUE_MIN;
        Self {
            books: Books::new(pages),
            outlook: Outlook::new(),
            exchange: Exchange::new(),
            balance: Balance::new(),
            pace: Pace::new(),
            near_pages: 0,
            samples: 0,
            swept: 0,
            located: 0,
            victims: 0,
            promote: VecDeque::with_capacity(queue_max),
            queue_max,
            relieved: Meant::No,
        }
    }

    fn class(&self, page: Page) -> Class {
        class(self.books.past(page))
    }

    fn turn_samples(&self) -> u32 {
        (self.near_pages.max(self.books.pages() / 4) / TURN_PART).max(TURN_MIN)
    }

    /// Ends the turn: what it showed is learned.
    fn end_turn(&mut self) {
        if self.books.end_turn(self.near_pages) == Scores::Halved {
            self.outlook.cool();
        }
        let growth = self.books.growth(self.samples);
        let pasts = self.books.census().pasts();
        self.outlook.turn(pasts, self.pace.ahead() as f32, growth as f32);
        self.pace.end_turn(self.outlook.broken());
        self.samples = 0;
    }

    /// Queues a page that should be promoted, if there is room.
    fn consider(&mut self, page: Page) {
        let word = self.books.word(page);
        let wanted = !word.is_near() && self.exchange.is_wanted(self.class(page));
        if wanted && !word.is_waiting() && self.promote.len() < self.queue_max {
            self.promote.push_back(page);
            self.books.set_waiting(page, true);
        }
    }

    /// Sweeps a page; it may be worth a promotion.
    fn sweep(&mut self) {
        if let Some(page) = self.books.sweep() {
            self.consider(page);
        }
    }

    /// Sees where pages lie, as many as were swept: a move that was asked for may not have been
    /// carried out.
    fn locate(&mut self, tier_of: &dyn Fn(Page) -> Tier) {
        for _ in 0..core::mem::take(&mut self.swept).min(LOCATE_MAX) {
            let page = self.located;
            self.located = if page + 1 >= self.books.pages() { 0 } else { page + 1 };
            if self.books.word(page).is_placed() {
                self.books.locate(page, tier_of(page) == 0);
            }
        }
    }

    /// The next page below that is worth more than one of the fast tier.
    fn next_wanted(&mut self, tier_of: &dyn Fn(Page) -> Tier, search: &mut u32) -> Option<Page> {
        loop {
            while let Some(page) = self.promote.pop_front() {
                self.books.set_waiting(page, false);
                let far = !self.books.word(page).is_near() && tier_of(page) > 0;
                if far && self.exchange.is_wanted(self.class(page)) {
                    return Some(page);
                }
            }
            *search = search.checked_sub(1)?;
            self.sweep();
        }
    }

    /// The next page of the fast tier for which this holds. One that does not lie where it is
    /// thought to be is on its way.
    fn next_near(
        &mut self,
        tier_of: &dyn Fn(Page) -> Tier,
        search: &mut u32,
        holds: impl Fn(&Self, Page) -> bool,
    ) -> Option<Page> {
        loop {
            *search = search.checked_sub(1)?;
            let page = self.victims;
            self.victims = self.books.after(page);
            if self.books.word(page).is_near() && holds(self, page) && tier_of(page) == 0 {
                return Some(page);
            }
        }
    }

    /// The share of the accesses that a page has, about.
    fn share_of(&self, page: Page) -> f64 {
        let rate = self.outlook.rate(self.class(page));
        f64::from(rate) / f64::from(self.exchange.hits()).max(1.0)
    }

    /// Promotes pages that together have this share, and demotes others to make room.
    fn grow(&mut self, plan: &mut Plan, tier_of: &dyn Fn(Page) -> Tier, mut share: f64) {
        if self.exchange.is_idle() {
            return;
        }
        let mut search_wanted = self.books.pages().min(SEARCH);
        let mut search_victims = search_wanted;
        let is_victim = |this: &Self, page| this.exchange.is_victim(this.class(page));
        while share > 0.0 && plan.left() > 1 {
            let Some(page) = self.next_wanted(tier_of, &mut search_wanted) else { return };
            if plan.free(0) == 0 {
                let victim = self.next_near(tier_of, &mut search_victims, is_victim);
                let Some(victim) = victim else { return };
                if plan.demote(victim) {
                    share += self.share_of(victim);
                    self.books.locate(victim, false);
                }
            }
            if plan.put(page, tier_of(page), 0) {
                share -= self.share_of(page);
                self.books.locate(page, true);
            }
        }
    }

    /// Demotes pages that together have this share, the better ones: it takes fewer of them.
    fn shrink(&mut self, plan: &mut Plan, tier_of: &dyn Fn(Page) -> Tier, mut share: f64) {
        let mut search = self.books.pages().min(SEARCH);
        while plan.left() > 0 {
            let fits = |this: &Self, page| {
                this.exchange.is_good(this.class(page)) && this.share_of(page) <= share
            };
            let Some(page) = self.next_near(tier_of, &mut search, fits) else { return };
            if !plan.demote(page) {
                return;
            }
            share -= self.share_of(page);
            self.books.locate(page, false);
        }
    }
}

/// What an access more costs: its latency, and what it adds to that of the others.
fn marginal_ns(tier: &TierState) -> f64 {
    tier.loaded_ns + (tier.loaded_ns - tier.unloaded_ns).max(0.0)
}

/// Accesses under way at a time, by Little's law. One that takes a nanosecond less saves the
/// program that part of a nanosecond.
fn under_way(tiers: &[TierState], passed_ns: f64) -> f64 {
    let latencies = tiers.iter().map(|tier| tier.accesses as f64 * tier.loaded_ns);
    (latencies.sum::<f64>() / passed_ns.max(1.0)).max(1e-9)
}

impl Policy for Memtide {
    fn name(&self) -> &'static str {
        "memtide"
    }

    fn sample_period(&self) -> u32 {
        self.pace.period()
    }

    fn tick_every(&self) -> Duration {
        TICK
    }

    fn place(&mut self, page: Page, tiers: &[TierState]) -> Tier {
        let tier = first_touch(tiers);
        self.near_pages = tiers.first().map_or(0, |near| near.pages);
        self.books.locate(page, tier == 0);
        tier
    }

    fn samples(&mut self, samples: &[Sample]) {
        for sample in samples {
            let before = self.books.sample(sample.page, sample.tier == 0);
            if before.age > 0 {
                self.outlook.hit(class(before));
            }
            self.consider(sample.page);
            (0..SWEPT).for_each(|_| self.sweep());
            self.swept = self.swept.saturating_add(SWEPT);
            self.samples += 1;
            if self.samples >= self.turn_samples() {
                self.end_turn();
            }
        }
    }

    fn tick(
        &mut self,
        now: Instant,
        tiers: &[TierState],
        tier_of: &dyn Fn(Page) -> Tier,
        budget: Budget,
    ) -> Vec<Move> {
        let mut plan = Plan::new(tiers, budget);
        self.near_pages = tiers.first().map_or(0, |near| near.pages);
        let accesses = tiers.iter().map(|tier| tier.accesses).sum();
        let passed_ns = self.pace.tick(now, accesses, self.turn_samples());
        self.locate(tier_of);
        let Some((share, far_ns)) = measured(tiers, marginal_ns) else { return plan.finish() };
        let near_ns = marginal_ns(&tiers[0]);
        self.pace.see(share, self.relieved);
        let shift = self.balance.shift(share, near_ns, far_ns);
        let saved_ns = (far_ns - near_ns).max(0.0) / under_way(tiers, passed_ns);
        let hit_ns = f64::from(self.pace.period()) * saved_ns;
        let move_ns = MIGRATION_COST * TICK.as_nanos() as f64 / f64::from(budget.moves.max(1));
        let cost = (move_ns / hit_ns.max(1e-9)) as f32;
        self.exchange.set(self.books.census().pasts(), &self.outlook, cost, plan.free(0));
        if shift > 0.0 {
            self.grow(&mut plan, tier_of, shift);
        } else if shift < 0.0 {
            self.shrink(&mut plan, tier_of, -shift);
        }
        self.relieved = if shift < 0.0 { Meant::Yes } else { Meant::No };
        plan.finish()
    }

    fn metadata_bytes(&self) -> u64 {
        let queue = (self.promote.capacity() * size_of::<Page>()) as u64;
        self.books.bytes() + self.outlook.bytes() + self.exchange.bytes() + queue
    }
}
