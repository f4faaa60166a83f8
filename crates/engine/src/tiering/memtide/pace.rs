//! How often to look, and how far ahead, by how long the program has behaved as it does now.
//!
//! What has lasted for a second will rather last for another one than for an hour (Lindy's law);
//! and a move that pays back within as long again as things have lasted costs twice at most what
//! knowing the future would have cost, as with skis that are rented until renting has cost what
//! buying does. So outlooks look ahead for twice as long as it has lasted.
//!
//! Looking has its price as well, and most of it is learned at first. A turn should take a part
//! of how long it has lasted, and the sampling period is chosen so that it does: samples are dense
//! after a change, and get sparse.
//!
//! A change is a [`Surprise`]: the share of the accesses that go to the fast tier falls without our
//! doing, or the hits that pages were expected to have do not come.

use memtide_units::Instant;

use super::surprise::Surprise;

/// One access in how many is sampled: at first, and at least and at most later.
const PERIOD: (u32, f64, f64) = (100, 20.0, 5000.0);
/// How long a turn should take: this part of how long things have lasted, and so many nanoseconds
/// at least and at most.
const TURN_PART: f64 = 0.04;
const TURN_NS: (f64, f64) = (3.5e6, 4e7);
/// Samples a nanosecond at most: three million a second.
const SAMPLES_MAX: f64 = 3e-3;
/// How far outlooks look ahead, in nanoseconds and in turns, at least and at most.
const AHEAD_NS: (f64, f64) = (1e8, 4e9);
const AHEAD_TURNS: (f64, f64) = (4.0, 256.0);

/// The pace.
pub(super) struct Pace {
    /// When the last tick was, and how many turns ended since.
    ticked: Instant,
    turns: u32,
    /// How long a turn took lately; none is known yet when it is zero.
    turn_ns: f64,
    /// Since when all has been as expected.
    since: Instant,
    surprised: bool,
    broken: Surprise,
    fallen: Surprise,
    /// The share of the fast tier, as last seen.
    share: f64,
    period: u32,
}

impl Pace {
    /// Before the start.
    pub(super) fn new() -> Self {
        Self {
            ticked: Instant::default(),
            turns: 0,
            turn_ns: 0.0,
            since: Instant::default(),
            surprised: false,
            broken: Surprise::default(),
            fallen: Surprise::default(),
            share: 0.0,
            period: PERIOD.0,
        }
    }

    /// One access in how many is to be sampled.
    pub(super) fn period(&self) -> u32 {
        self.period
    }

    /// A turn ended, and this part of the hits that were expected did not come.
    pub(super) fn end_turn(&mut self, broken: f32) {
        self.turns += 1;
        self.surprised |= self.broken.take(broken);
    }

    /// How many turns an outlook should look ahead.
    pub(super) fn ahead(&self) -> f64 {
        if self.turn_ns <= 0.0 {
            return AHEAD_TURNS.0;
        }
        let ahead = (2.0 * nanoseconds(self.since, self.ticked)).clamp(AHEAD_NS.0, AHEAD_NS.1);
        (ahead / self.turn_ns).clamp(AHEAD_TURNS.0, AHEAD_TURNS.1)
    }

    /// The fast tier had this share of the accesses since the last tick. A fall that was `meant`
    /// is no surprise.
    pub(super) fn see(&mut self, share: f64, meant: Meant) {
        let fallen = self.fallen.take((self.share - share).max(0.0) as f32);
        self.surprised |= fallen && meant == Meant::No;
        self.share = share;
    }

    /// A tick, with so many accesses since the last one; a turn has so many samples. How many
    /// nanoseconds have passed.
    pub(super) fn tick(&mut self, now: Instant, accesses: u64, turn_samples: u32) -> f64 {
        let passed = nanoseconds(self.ticked, now);
        self.ticked = now;
        if self.turns > 0 {
            self.turn_ns = passed / f64::from(self.turns);
            self.turns = 0;
        }
        self.broken.fade(passed as f32 / 1e9);
        self.fallen.fade(passed as f32 / 1e9);
        if core::mem::take(&mut self.surprised) {
            self.since = now;
        }
        let lasted = nanoseconds(self.since, now);
        let turn_ns = (lasted * TURN_PART).clamp(TURN_NS.0, TURN_NS.1);
        let rate = (f64::from(turn_samples) / turn_ns).min(SAMPLES_MAX);
        let period = accesses as f64 / passed.max(1.0) / rate;
        self.period = period.clamp(PERIOD.1, PERIOD.2) as u32;
        passed
    }
}

/// Whether we demoted pages that were accessed much, to relieve the fast tier.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Meant {
    /// We did.
    Yes,
    /// We did not.
    No,
}

fn nanoseconds(from: Instant, to: Instant) -> f64 {
    to.0.saturating_sub(from.0).as_nanos() as f64
}
