//! The event log of a guest's device, as far as a manager can know it: what room it has, and what
//! waits for that.
//!
//! **Problem.** QEMU's log holds 8 records, of offers and of what is asked back alike, and drops
//! what does not fit without a word. An offer that has no record is never answered, and what is
//! asked back without one is not heard of. A guest takes records out when it has done what they
//! ask for, which may take as long as a give-back, and QMP does not tell.
//!
//! **Idea.** Records are counted as QEMU is told to make them. The agent is asked to look at its
//! device ([`FromManager::Look`], with the count), and the next thing that it says of what it has
//! names that count: so many records are out of the log, and every offer among them is answered.
//! What it says first on a connection is as good as a look at all that was told before.
//!
//! An offer that has no room is not made; the manager tries again. What is asked back waits here
//! and goes out as there is room, one command after the other: so what a guest keeps does not stand
//! before what it could give. An offer that had no room has it next. What nobody asks back any more
//! is forgotten after a while: a manager does not say that it has given up.
//!
//! [`FromManager::Look`]: crate::wire::FromManager::Look

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

use memtide_units::DpaRange;

use super::{
    adopt::without,
    orders::{Order, RECORDS_MAX, What},
};

/// How long room is left for an offer that had none: a manager makes it again after a second, by
/// default. One that takes longer may find that what is asked back has taken the room.
const YIELD: Duration = Duration::from_secs(2);
/// How long something waits to be asked back: a manager that still wants it asks again, by default
/// each minute at least.
const ASK_LASTS: Duration = Duration::from_secs(5 * 60);

/// What a guest was told on this connection, and what it will be.
#[derive(Debug, Default)]
pub(super) struct Log {
    /// Records that QEMU has made.
    told: u64,
    /// Records that it is told to make, which it has not answered.
    telling: u64,
    /// So many of those that were made are out of the log; no more than those.
    seen: u64,
    /// How many were made when an agent connected that has said nothing since.
    first_word: Option<u64>,
    /// How many its agent was asked to look for.
    look: u64,
    /// Offers that may be without an answer, and how many records were made with each.
    offers: VecDeque<(u64, Vec<DpaRange>)>,
    /// What waits for room to be asked back, and until when: no byte twice.
    asks: VecDeque<(Order, Instant)>,
    /// Until then it leaves room to an offer.
    yields_until: Option<Instant>,
}

impl Log {
    /// Records that certainly fit.
    pub(super) fn room(&self) -> usize {
        let there = self.told + self.telling - self.seen;
        RECORDS_MAX.saturating_sub(usize::try_from(there).unwrap_or(usize::MAX))
    }

    /// QEMU is given this.
    pub(super) fn tell(&mut self, order: &Order) {
        self.telling = order.len() as u64;
        if order.what != What::Release {
            self.yields_until = None;
        }
    }

    /// QEMU has done this.
    pub(super) fn is_told(&mut self, order: &Order) {
        self.told += std::mem::take(&mut self.telling);
        if order.what == What::Add {
            self.offers.push_back((self.told, order.extents().to_vec()));
        }
    }

    /// QEMU has not done what it was told.
    pub(super) const fn is_not_told(&mut self) {
        self.telling = 0;
    }

    /// What the agent is to look for, if it has not been asked to.
    pub(super) fn take_look(&mut self) -> Option<u64> {
        let is_new = self.told > self.look;
        self.look = self.told;
        is_new.then_some(self.told)
    }

    /// A new agent of the guest will say what it has once it has looked at the device.
    pub(super) const fn is_greeted(&mut self) {
        self.first_word = Some(self.told);
        self.look = self.told;
    }

    /// The agent has looked for so many records. What of its offers has been answered by that.
    pub(super) fn is_seen(&mut self, looked: u64) -> Vec<DpaRange> {
        let first = self.first_word.take().unwrap_or(0);
        self.seen = self.seen.max(first).max(looked.min(self.told));
        let mut answered = Vec::new();
        while self.offers.front().is_some_and(|(last, _)| *last <= self.seen) {
            answered.extend(self.offers.pop_front().into_iter().flat_map(|(_, ranges)| ranges));
        }
        answered
    }

    /// These are offered and no others: what is offered later is another offer, also of the same
    /// range.
    pub(super) fn keep_offers(&mut self, offered: &[DpaRange]) {
        let is_there = |range: &DpaRange| offered.contains(range);
        self.offers.retain(|(_, ranges)| ranges.iter().any(is_there));
    }

    /// Asks for this once there is room; what of it waits already waits anew.
    pub(super) fn ask(&mut self, order: Order, now: Instant) {
        let asked = order.extents().to_vec();
        for (waiting, _) in &mut self.asks {
            waiting.retain(|range| !asked.iter().any(|other| other.overlaps(*range)));
        }
        self.asks.retain(|(waiting, _)| waiting.len() > 0);
        if order.len() > 0 {
            self.asks.push_back((order, now + ASK_LASTS));
        }
    }

    /// What is asked back next, of what the guest has and is still wanted, if there is room for it.
    pub(super) fn next_ask(
        &mut self,
        now: Instant,
        held: impl FnOnce() -> Vec<DpaRange>,
    ) -> Option<Order> {
        self.asks.retain(|(_, until)| now < *until);
        let yields = self.yields_until.is_some_and(|until| now < until);
        if yields || self.asks.is_empty() {
            return None;
        }
        self.yields_until = None;
        let held = held();
        while let Some((order, _)) = self.asks.front_mut() {
            order.retain(|range| without(*range, held.iter().copied()).is_empty());
            match order.len() {
                0 => drop(self.asks.pop_front()),
                records if records > self.room() => return None,
                _ => return self.asks.pop_front().map(|(order, _)| order),
            }
        }
        None
    }

    /// There was no room for an offer: it is the next thing that there is room for.
    pub(super) fn yield_room(&mut self, now: Instant) {
        self.yields_until = Some(now + YIELD);
    }

    /// Whether there was no room for an offer, and nobody has looked at all records since.
    pub(super) const fn lacks_room(&self) -> bool {
        self.yields_until.is_some() && self.seen < self.told
    }

    /// When something may be asked back that yields now.
    pub(super) fn due(&self) -> Option<Instant> {
        self.yields_until.filter(|_| !self.asks.is_empty())
    }
}

#[cfg(test)]
mod tests;
