//! What is remembered of a page, in two bytes.
//!
//! | bits | what |
//! |---|---|
//! | 0..7 | *score*: how many samples it got, halved at every cooling since |
//! | 7..11 | *stamp*: the turn of its last sample, modulo 15; 15 when that is long ago |
//! | 11..13 | how many coolings the score has seen, modulo 4 |
//! | 13 | whether it lies in the fast tier, as last heard |
//! | 14 | whether it was placed |
//! | 15 | whether it waits to be moved |
//!
//! A word is right for a bounded time: the stamp for 14 turns, the coolings for 3. The sweep visits
//! every page more often than that, and brings its word up to date.

/// The turns that ages are told apart for; older ones are all this old.
pub(super) const OLD: u8 = 6;
/// The largest score.
pub(super) const SCORE_MAX: u8 = 127;
/// Turns that stamps are counted by.
const STAMPS: u64 = 15;
/// The stamp of a page whose last sample is long ago.
const LONG_AGO: u16 = 15;

const STAMP_SHIFT: u32 = 7;
const COOLED_SHIFT: u32 = 11;
const NEAR: u16 = 1 << 13;
const PLACED: u16 = 1 << 14;
const WAITING: u16 = 1 << 15;

/// The time, as far as words know it.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) struct Clock {
    /// Turns that have ended.
    pub turn: u64,
    /// Coolings so far.
    pub coolings: u64,
}

/// The past of a page.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Past {
    /// Turns since its last sample, [`OLD`] at most.
    pub age: u8,
    /// Its score, [`SCORE_MAX`] at most.
    pub score: u8,
}

/// What is remembered of a page.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) struct Word(u16);

impl Word {
    /// A page that was just placed.
    pub(super) fn placed(clock: Clock, near: bool) -> Self {
        let word = Self(PLACED | if near { NEAR } else { 0 });
        word.with_past(clock, Past { age: OLD, score: 0 })
    }

    pub(super) fn is_placed(self) -> bool {
        self.0 & PLACED != 0
    }

    pub(super) fn is_near(self) -> bool {
        self.0 & NEAR != 0
    }

    pub(super) fn is_waiting(self) -> bool {
        self.0 & WAITING != 0
    }

    pub(super) fn with_near(self, near: bool) -> Self {
        Self(if near { self.0 | NEAR } else { self.0 & !NEAR })
    }

    pub(super) fn with_waiting(self, waiting: bool) -> Self {
        Self(if waiting { self.0 | WAITING } else { self.0 & !WAITING })
    }

    /// The past of the page at this time.
    pub(super) fn past(self, clock: Clock) -> Past {
        let stamp = self.0 >> STAMP_SHIFT & 15;
        let age = if stamp == LONG_AGO {
            OLD
        } else {
            let now = (clock.turn % STAMPS) as u16;
            ((now + STAMPS as u16 - stamp) % STAMPS as u16).min(u16::from(OLD)) as u8
        };
        let lag = (clock.coolings as u16).wrapping_sub(self.0 >> COOLED_SHIFT) & 3;
        Past { age, score: (self.0 & u16::from(SCORE_MAX)) as u8 >> lag }
    }

    /// With this past as of this time.
    pub(super) fn with_past(self, clock: Clock, past: Past) -> Self {
        let stamp = if past.age >= OLD {
            LONG_AGO
        } else {
            ((clock.turn + STAMPS - u64::from(past.age)) % STAMPS) as u16
        };
        let cooled = (clock.coolings & 3) as u16;
        let flags = self.0 & (NEAR | PLACED | WAITING);
        Self(flags | cooled << COOLED_SHIFT | stamp << STAMP_SHIFT | u16::from(past.score))
    }
}
