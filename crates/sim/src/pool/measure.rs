//! What a run leaves behind: of each host what it needed and had, how long it waited, and how
//! much was said for it.

use core::time::Duration;
use std::collections::BTreeMap;

use memtide_units::Instant;

/// What somebody had of what it needed, over time.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Share {
    /// Time in which something was needed.
    needed: Duration,
    /// Time of that in which all of it was had.
    satisfied: Duration,
    /// Bytes x nanoseconds: what was needed, and what of it was had.
    area: u128,
    had: u128,
}

impl Share {
    /// So much time passes with so much needed and had.
    pub fn pass(&mut self, time: Duration, need: u64, had: u64) {
        if need == 0 {
            return;
        }
        self.needed += time;
        if had >= need {
            self.satisfied += time;
        }
        self.area += u128::from(need) * time.as_nanos();
        self.had += u128::from(need.min(had)) * time.as_nanos();
    }

    /// Both together.
    pub fn add(&mut self, other: Self) {
        self.needed += other.needed;
        self.satisfied += other.satisfied;
        self.area += other.area;
        self.had += other.had;
    }

    /// Thousandths of the time with a need in which all of it was had.
    #[must_use]
    pub fn satisfied_permille(&self) -> u64 {
        permille(self.satisfied.as_nanos(), self.needed.as_nanos())
    }

    /// Thousandths of what was needed, over time, that was had.
    #[must_use]
    pub fn had_permille(&self) -> u64 {
        permille(self.had, self.area)
    }
}

/// Of nothing that was needed, all was had.
fn permille(part: u128, of: u128) -> u64 {
    // No product overflows: bytes below 2^42, nanoseconds below 2^47, hosts below 2^8.
    (part * 1000).checked_div(of).map_or(1000, |part| part as u64)
}

/// From a need that rose to when it was met.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Waits {
    /// How often a need rose beyond what was there, and was met.
    pub met: Vec<Duration>,
    /// How often it rose, and was there.
    pub at_once: u64,
    /// How often it fell again before it was met, or was not met at the end.
    pub given_up: u64,
}

impl Waits {
    /// All of both.
    pub fn add(&mut self, other: &Self) {
        self.met.extend(&other.met);
        self.at_once += other.at_once;
        self.given_up += other.given_up;
    }

    /// So many thousandths of those that waited had what they needed by then.
    #[must_use]
    pub fn within(&self, permille: usize) -> Duration {
        let mut met = self.met.clone();
        met.sort_unstable();
        let last = met.len().saturating_sub(1);
        met.get(last * permille / 1000).copied().unwrap_or_default()
    }
}

/// One host's books.
#[derive(Clone, Debug, Default)]
pub(super) struct Account {
    pub(super) share: Share,
    pub(super) waits: Waits,
    need: u64,
    has: u64,
    since: Duration,
    /// Since when it waits.
    waiting: Option<Duration>,
}

impl Account {
    /// What it needs and has from now on.
    pub(super) fn now(&mut self, at: Instant, need: u64, has: u64) {
        self.share.pass(at.0.saturating_sub(self.since), self.need, self.has);
        self.since = at.0;
        if need > self.need && need <= has {
            self.waits.at_once += 1;
        }
        if need > self.need && need > has {
            self.waiting.get_or_insert(at.0);
        }
        if let Some(from) = self.waiting.filter(|_| need <= has) {
            match need < self.need {
                true => self.waits.given_up += 1,
                false => self.waits.met.push(at.0 - from),
            }
            self.waiting = None;
        }
        (self.need, self.has) = (need, has);
    }

    /// It is over.
    pub(super) fn end(&mut self, at: Instant) {
        self.now(at, self.need, self.has);
        self.waits.given_up += u64::from(self.waiting.take().is_some());
    }
}

/// All of a run's.
#[derive(Clone, Debug, Default)]
pub(super) struct Measure {
    pub(super) accounts: Vec<Account>,
    /// What was sent, and what happened, how often.
    pub(super) seen: BTreeMap<&'static str, u64>,
    /// Per sample: seconds, bytes needed in all, and what each group has.
    pub(super) curve: Vec<Sample>,
}

/// A moment.
#[derive(Clone, PartialEq, Eq, Debug, serde::Serialize)]
pub struct Sample {
    /// Milliseconds since the start.
    pub at_ms: u64,
    /// Bytes that all hosts need.
    pub needed_bytes: u64,
    /// Bytes that each group has, in the order of the file.
    pub held_bytes: Vec<u64>,
}

impl Measure {
    pub(super) fn count(&mut self, what: &'static str) {
        *self.seen.entry(what).or_default() += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn at(seconds: u64) -> Instant {
        Instant(Duration::from_secs(seconds))
    }

    #[test]
    fn a_share_is_of_time_and_of_bytes() {
        let mut account = Account::default();
        for (when, need, has) in [(0, 10, 0), (4, 10, 5), (6, 10, 10), (10, 0, 10), (20, 4, 8)] {
            account.now(at(when), need, has);
        }
        account.end(at(24));
        // 14 seconds with a need, 8 of them met; of 116 byte seconds 4 x 0, 2 x 5 and the rest.
        assert_eq!(account.share.satisfied_permille(), 8 * 1000 / 14);
        assert_eq!(account.share.had_permille(), (10 + 40 + 16) * 1000 / 116);
        assert_eq!(account.waits.met, [Duration::from_secs(6)]);
        assert_eq!((account.waits.at_once, account.waits.given_up), (1, 0));
    }

    #[test]
    fn who_needs_less_before_it_has_it_has_given_up() {
        let mut account = Account::default();
        account.now(at(0), 10, 2);
        account.now(at(5), 1, 2);
        account.now(at(6), 3, 2);
        account.end(at(9));
        assert_eq!(account.waits, Waits { met: vec![], at_once: 0, given_up: 2 });
    }
}
