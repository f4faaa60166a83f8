//! memtide's own policy: pages are judged by what pages like them were seen to do next.
//!
//! Other policies rank pages by a number made of their past (a count, an age), and compare it with
//! a threshold; which number is the right one depends on the program. Here the past of a page is
//! its *age* since the last sample and its *score*, a count of samples ([`word`]); how many pages
//! have which past is known at any time ([`census`]), and what pages of a given past do next is
//! measured, turn by turn, and carried forward ([`outlook`]). Age is the short memory, score the
//! long one, and the measurement says which of them to believe: when the hot set moves, pages with a
//! high score and no recent sample are seen not to come back, within a turn or two.
//!
//! A *turn* is a quarter as many samples as the fast tier has pages. So time is measured by what
//! there is to learn, on four gigabytes as on four hundred.
//!
//! **What moves** ([`exchange`]). The best pages below are matched with the worst of the fast tier,
//! for as long as a pair gains more than it costs: accesses that are expected to be saved,
//! times what each saves, against the time that migration takes. Under a scan, or when all pages are
//! alike, no pair does, and nothing moves. There is no threshold to tune.
//!
//! **When the fast tier is saturated** the cost of an access is not its latency, but also what it
//! adds to the latency of all others. With a curve that rises with load the marginal cost is at
//! least the loaded latency plus what the load has added to it; that is what is balanced
//! ([`super::balance`]), where Colloid balances the latencies. The gain of a pair is the difference of
//! the marginal costs, too, so it is nothing once they are equal.
//!
//! **What it costs.** Two bytes a page, and queues of a page in 256. A sample is a look at a word
//! and three counters; a tick looks at the classes, and at as many pages as the sweep has to pass in
//! proportion to samples.

mod census;
mod exchange;
mod outlook;
#[cfg(test)]
mod tests;
mod word;

use alloc::{collections::VecDeque, vec, vec::Vec};
use core::time::Duration;

use memtide_units::Instant;

use self::{
    census::Census,
    exchange::Exchange,
    outlook::{Outlook, class},
    word::{Clock, Past, SCORE_MAX, Word},
};
use super::{
    Budget, Move, Page, Policy, Sample, Tier, TierState,
    balance::{Balance, measured},
    first_touch,
    plan::Plan,
};

/// One access in how many is sampled.
const PERIOD: u32 = 200;
/// How often it is asked.
const TICK: Duration = Duration::from_millis(10);
/// A turn has this part of the fast tier's pages in samples, and so many at least.
const TURN_PART: u32 = 4;
const TURN_MIN: u32 = 1024;
/// The sweep goes round in so many turns: fewer than words stay right for.
const SWEEP_TURNS: u32 = 6;
/// How far outlooks look ahead.
const AHEAD_NS: f64 = 4e9;
/// The most and fewest turns that they look ahead.
const AHEAD_TURNS: (f64, f64) = (4.0, 256.0);
/// The score from which on a page counts as saturated.
const SATURATED: u8 = 96;
/// Turns between coolings at least: words can tell three coolings apart in a sweep.
const COOLING_TURNS: u64 = 8;
/// Pages that are looked at in a tick at most to find some to move.
const SEARCH: u32 = 1 << 16;
/// What migration at full speed costs the program, as a part of its speed.
const MIGRATION_COST: f64 = 0.5;

/// The policy `memtide`.
pub(super) struct Memtide {
    words: Vec<Word>,
    clock: Clock,
    census: Census,
    outlook: Outlook,
    exchange: Exchange,
    balance: Balance,
    near_pages: u32,
    /// Samples of this turn.
    samples: u32,
    /// The sum of all scores, about.
    scores: f64,
    /// The turn in which scores were last halved.
    cooled: u64,
    /// When the last tick was, and how long a turn takes.
    ticked: Instant,
    turn_ns: f64,
    turns_seen: u64,
    /// The next page to be swept, and how many pages have to be.
    hand: Page,
    due: u32,
    /// Pages below that should be promoted, pages of the fast tier that should leave, and pages
    /// whose move was asked for.
    promote: VecDeque<Page>,
    demote: VecDeque<Page>,
    asked: Vec<Page>,
    queue_max: usize,
}

impl Memtide {
    /// For so many pages.
    pub(super) fn new(pages: u32) -> Self {
        let queue_max = pages as usize / 256 + 64;
        Self {
            words: vec![Word::default(); pages as usize],
            clock: Clock::default(),
            census: Census::new(),
            outlook: Outlook::new(),
            exchange: Exchange::new(),
            balance: Balance::new(),
            near_pages: 0,
            samples: 0,
            scores: 0.0,
            cooled: 0,
            ticked: Instant::default(),
            turn_ns: 0.0,
            turns_seen: 0,
            hand: 0,
            due: 0,
            promote: VecDeque::with_capacity(queue_max),
            demote: VecDeque::with_capacity(queue_max),
            asked: Vec::new(),
            queue_max,
        }
    }

    fn word(&self, page: Page) -> Word {
        self.words[page as usize]
    }

    fn turn_samples(&self) -> u32 {
        (self.near_pages / TURN_PART).max(TURN_MIN)
    }

    /// A page lies there, as we now know for sure; it is known from now on, if it was not.
    fn locate(&mut self, page: Page, near: bool) -> Word {
        let word = self.word(page);
        let located = if !word.is_placed() {
            let word = Word::placed(self.clock, near);
            self.census.enter(near, word.past(self.clock));
            word
        } else if word.is_near() != near {
            let past = word.past(self.clock);
            self.census.leave(word.is_near(), past);
            self.census.enter(near, past);
            word.with_near(near)
        } else {
            return word;
        };
        self.words[page as usize] = located;
        located
    }

    /// Takes a sample in.
    fn sample(&mut self, page: Page, near: bool) {
        let word = self.locate(page, near);
        let before = word.past(self.clock);
        if before.age > 0 {
            self.outlook.hit(class(before));
        }
        let past = Past { age: 0, score: (before.score + 1).min(SCORE_MAX) };
        self.census.leave(near, before);
        self.census.enter(near, past);
        self.words[page as usize] = word.with_past(self.clock, past);
        self.scores += 1.0;
        self.consider(page);
        self.samples += 1;
        if self.samples >= self.turn_samples() {
            self.end_turn();
        }
    }

    /// Ends the turn: all are older, what was seen is learned, and scores are halved when
    /// too many of them are at their end.
    fn end_turn(&mut self) {
        self.due = self.due.saturating_add(self.words.len() as u32 / SWEEP_TURNS + 1);
        self.clock.turn += 1;
        self.turns_seen += 1;
        self.census.age();
        let saturated = self.census.pasts().filter(|(past, _)| past.score >= SATURATED);
        let saturated: u32 = saturated.map(|(_, [near, far])| near + far).sum();
        if saturated > self.near_pages / 4 && self.clock.turn >= self.cooled + COOLING_TURNS {
            self.cooled = self.clock.turn;
            self.clock.coolings += 1;
            self.census.cool();
            self.outlook.cool();
            self.scores /= 2.0;
        }
        let growth = (f64::from(self.samples) / self.scores.max(1.0)).min(0.5);
        let turns = if self.turn_ns > 0.0 { AHEAD_NS / self.turn_ns } else { 0.0 };
        let ahead = turns.clamp(AHEAD_TURNS.0, AHEAD_TURNS.1);
        self.outlook.turn(self.census.pasts(), ahead as f32, growth as f32);
        self.samples = 0;
    }

    /// Puts a page into the queue where it belongs, if there is room.
    fn consider(&mut self, page: Page) {
        let word = self.word(page);
        let class = class(word.past(self.clock));
        let queue = if word.is_near() {
            if !self.exchange.is_victim(class) {
                return;
            }
            &mut self.demote
        } else {
            if !self.exchange.is_wanted(class) {
                return;
            }
            &mut self.promote
        };
        if !word.is_waiting() && queue.len() < self.queue_max {
            queue.push_back(page);
            self.words[page as usize] = word.with_waiting(true);
        }
    }

    /// The hand passes a page: its word is brought up to date, and it may be worth a move.
    fn sweep(&mut self) {
        let page = self.hand;
        self.hand = if page as usize + 1 >= self.words.len() { 0 } else { page + 1 };
        self.due = self.due.saturating_sub(1);
        let word = self.word(page);
        if word.is_placed() {
            self.words[page as usize] = word.with_past(self.clock, word.past(self.clock));
            self.consider(page);
        }
    }

    /// Sees what became of the moves that were asked for.
    fn settle(&mut self, tier_of: &dyn Fn(Page) -> Tier) {
        for page in core::mem::take(&mut self.asked) {
            self.locate(page, tier_of(page) == 0);
        }
    }

    /// Takes the next page of the fast tier that is worth less than one below.
    fn next_victim(&mut self, search: &mut u32) -> Option<Page> {
        loop {
            while let Some(page) = self.demote.pop_front() {
                let word = self.word(page).with_waiting(false);
                self.words[page as usize] = word;
                if word.is_near() && self.exchange.is_victim(class(word.past(self.clock))) {
                    return Some(page);
                }
            }
            if *search == 0 {
                return None;
            }
            *search -= 1;
            self.sweep();
        }
    }

    /// Takes the next page below that is worth more than one of the fast tier.
    fn next_wanted(&mut self, search: &mut u32) -> Option<Page> {
        loop {
            while let Some(page) = self.promote.pop_front() {
                let word = self.word(page).with_waiting(false);
                self.words[page as usize] = word;
                if !word.is_near() && self.exchange.is_wanted(class(word.past(self.clock))) {
                    return Some(page);
                }
            }
            if *search == 0 {
                return None;
            }
            *search -= 1;
            self.sweep();
        }
    }

    /// The share of the accesses that a page has, about.
    fn share_of(&self, page: Page) -> f64 {
        let rate = self.outlook.rate(class(self.word(page).past(self.clock)));
        f64::from(rate) / f64::from(self.exchange.hits()).max(1.0)
    }

    /// Promotes pages that together have this share, and demotes others to make room.
    fn grow(&mut self, plan: &mut Plan, tier_of: &dyn Fn(Page) -> Tier, mut share: f64) {
        let mut search = if self.exchange.is_idle() { 0 } else { SEARCH };
        while share > 0.0 && plan.left() > 1 {
            let Some(page) = self.next_wanted(&mut search) else { return };
            let from = tier_of(page);
            if from == 0 {
                continue;
            }
            if plan.free(0) == 0 {
                let Some(victim) = self.next_victim(&mut search) else { return };
                if tier_of(victim) == 0 && plan.demote(victim) {
                    share += self.share_of(victim);
                    self.asked.push(victim);
                }
            }
            if plan.put(page, from, 0) {
                share -= self.share_of(page);
                self.asked.push(page);
            }
        }
    }

    /// Demotes pages that together have this share, the better ones: it takes fewer of them.
    fn shrink(&mut self, plan: &mut Plan, tier_of: &dyn Fn(Page) -> Tier, mut share: f64) {
        for _ in 0..(self.words.len() as u32).min(SEARCH) {
            let page = self.hand;
            self.sweep();
            let word = self.word(page);
            let good = self.exchange.is_good(class(word.past(self.clock)));
            if !word.is_placed() || !good || tier_of(page) != 0 || word.is_waiting() {
                continue;
            }
            let its = self.share_of(page);
            if its <= share {
                if !plan.demote(page) {
                    return;
                }
                self.asked.push(page);
                share -= its;
            }
        }
    }

    /// How long a turn takes.
    fn keep_time(&mut self, now: Instant) -> f64 {
        let passed = now.0.saturating_sub(self.ticked.0).as_nanos() as f64;
        self.ticked = now;
        if self.turns_seen > 0 {
            let each = passed / self.turns_seen as f64;
            self.turn_ns = each;
            self.turns_seen = 0;
        }
        passed
    }
}

/// What an access more costs: its latency, and what it adds to that of the others.
fn marginal_ns(tier: &TierState) -> f64 {
    tier.loaded_ns + (tier.loaded_ns - tier.unloaded_ns).max(0.0)
}

impl Policy for Memtide {
    fn name(&self) -> &'static str {
        "memtide"
    }

    fn sample_period(&self) -> u32 {
        PERIOD
    }

    fn tick_every(&self) -> Duration {
        TICK
    }

    fn place(&mut self, page: Page, tiers: &[TierState]) -> Tier {
        let tier = first_touch(tiers);
        self.near_pages = tiers.first().map_or(0, |near| near.pages);
        self.locate(page, tier == 0);
        tier
    }

    fn samples(&mut self, samples: &[Sample]) {
        for sample in samples {
            self.sample(sample.page, sample.tier == 0);
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
        let passed = self.keep_time(now);
        self.near_pages = tiers.first().map_or(0, |near| near.pages);
        self.settle(tier_of);
        let Some((share, far_ns)) = measured(tiers, marginal_ns) else { return plan.finish() };
        let near_ns = marginal_ns(&tiers[0]);
        let shift = self.balance.shift(share, near_ns, far_ns);
        // By Little's law so many accesses are under way at a time; one that takes a nanosecond less
        // saves the program that part of a nanosecond.
        let latencies = tiers.iter().map(|tier| tier.accesses as f64 * tier.loaded_ns);
        let under_way = latencies.sum::<f64>() / passed.max(1.0);
        let gain = f64::from(PERIOD) * (far_ns - near_ns).max(0.0) / under_way.max(1e-9);
        let cost = MIGRATION_COST * TICK.as_nanos() as f64 / f64::from(budget.moves.max(1));
        let free = plan.free(0);
        self.exchange.set(self.census.pasts(), &self.outlook, (cost / gain.max(1e-9)) as f32, free);
        if shift > 0.0 {
            self.grow(&mut plan, tier_of, shift);
        } else if shift < 0.0 {
            self.shrink(&mut plan, tier_of, -shift);
        }
        for _ in 0..self.due.min(SEARCH) {
            self.sweep();
        }
        plan.finish()
    }

    fn metadata_bytes(&self) -> u64 {
        let queues = self.promote.capacity() + self.demote.capacity() + self.asked.capacity();
        let tables = self.census.bytes() + self.outlook.bytes() + self.exchange.bytes();
        (self.words.capacity() * size_of::<Word>() + queues * size_of::<Page>()) as u64 + tables
    }
}
