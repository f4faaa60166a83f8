//! What pages with a given past do next, as they were seen to do it.
//!
//! Pasts are put into *classes*: by age in five steps, by score in sixteen. At the end of every
//! turn it is known of each class how many pages it had at the start, and how many of them were
//! sampled: the *rate* of the class. Nothing is assumed of it. Where pages that were sampled lately
//! are sampled again, young classes have high rates; under a scan they have low ones; where all
//! pages are alike, all rates are.
//!
//! A move pays over time, so the rate of the next turn is not enough. The classes and their rates
//! are a Markov chain: a page that is sampled becomes young and scores one more, one that is not
//! grows older. Its *outlook* is the number of turns with a sample that it can expect, with those
//! further away counting less: the value of the chain, found by iterating the equation
//!
//! > outlook(age, score) = rate × (1 + d × outlook(1, score + 1))
//! >                     + (1 − rate) × d × outlook(age + 1, score)
//!
//! Scores mean less as time passes, because those of all pages grow (or are halved); so at every
//! step a page falls to the next lower score with a probability that undoes that growth.
//!
//! Each rate has a window of its own: what was seen is halved when about [`WINDOW`] hits were
//! expected in it. So the rates of classes with many pages follow a change within a turn or two,
//! and those with few do not jump. A class that was never seen is taken for an average one.

use alloc::{vec, vec::Vec};

use super::word::{OLD, Past, SCORE_MAX};

/// Steps of age: 1, 2, 3, 4..5, older.
const AGES: usize = 5;
/// Turns that a page spends in a step of age.
const TURNS: [f32; AGES] = [1.0, 1.0, 1.0, 2.0, f32::INFINITY];
/// The first score of each step.
const SCORES: [u8; 16] = [0, 1, 2, 3, 4, 5, 7, 9, 12, 16, 21, 28, 38, 51, 71, 96];
/// Classes.
pub(super) const CLASSES: usize = AGES * SCORES.len();
/// Hits that the window of a rate holds.
const WINDOW: f32 = 512.0;
/// What is left of what was seen after another turn, at most.
const FADE: f32 = 0.9;
/// Average pages that a class is mixed with, in hits.
const PRIOR: f32 = 4.0;
/// Iterations of the equation each turn; it goes on from the last turn's solution.
const ITERATIONS: usize = 32;

/// A class, by number.
pub(super) type Class = usize;

/// The class of a past.
pub(super) fn class(past: Past) -> Class {
    let age = match past.age {
        0 | 1 => 0,
        2 => 1,
        3 => 2,
        4..OLD => 3,
        _ => 4,
    };
    age * SCORES.len() + step(past.score)
}

fn step(score: u8) -> usize {
    SCORES.partition_point(|&first| first <= score) - 1
}

/// Scores in a step.
fn width(step: usize) -> f32 {
    let end = SCORES.get(step + 1).copied().unwrap_or(SCORE_MAX + 1);
    f32::from(end - SCORES[step])
}

/// What was seen of a class.
#[derive(Clone, Copy, Debug, Default)]
struct Seen {
    /// Pages at the start of turns, added up.
    pages: f32,
    /// Those that were sampled in them.
    hits: f32,
}

/// The rates and outlooks of all classes.
pub(super) struct Outlook {
    seen: Vec<Seen>,
    /// Pages at the start of this turn.
    starters: Vec<u32>,
    /// Those that were sampled since.
    hits: Vec<u32>,
    rate: Vec<f32>,
    outlook: Vec<f32>,
    broken: f32,
}

impl Outlook {
    /// Nothing was seen.
    pub(super) fn new() -> Self {
        Self {
            seen: vec![Seen::default(); CLASSES],
            starters: vec![0; CLASSES],
            hits: vec![0; CLASSES],
            rate: vec![0.0; CLASSES],
            outlook: vec![0.0; CLASSES],
            broken: 0.0,
        }
    }

    /// A page of this class had its first sample of this turn.
    pub(super) fn hit(&mut self, class: Class) {
        self.hits[class] += 1;
    }

    /// A turn ends. `pasts` are those of the pages at the start of the next one. Outlooks look so
    /// many turns ahead, and scores grow by `growth` of themselves each turn.
    pub(super) fn turn(
        &mut self,
        pasts: impl Iterator<Item = (Past, [u32; 2])>,
        ahead: f32,
        growth: f32,
    ) {
        self.observe();
        self.starters.fill(0);
        pasts.for_each(|(past, [near, far])| self.starters[class(past)] += near + far);
        for _ in 0..ITERATIONS {
            self.iterate(1.0 - 1.0 / ahead.max(1.0), growth);
        }
    }

    /// Takes in what this turn showed.
    fn observe(&mut self) {
        let pages: u32 = self.starters.iter().sum();
        let hits: u32 = self.hits.iter().sum();
        let mean = (hits as f32 / (pages as f32).max(1.0)).max(1e-9);
        let (mut promised, mut missing) = (0.0, 0.0);
        for class in 0..CLASSES {
            let promise = self.starters[class] as f32 * self.rate[class];
            promised += promise;
            missing += (promise - self.hits[class] as f32).max(0.0);
            let seen = &mut self.seen[class];
            let expected = seen.hits.max(seen.pages * self.rate[class]);
            // The pages of this turn push out what they are equal to.
            if expected > 0.0 {
                let here =
                    (self.starters[class] as f32 * self.rate[class]).max(self.hits[class] as f32);
                let keep = ((WINDOW - here) / expected).clamp(0.0, FADE);
                seen.pages *= keep;
                seen.hits *= keep;
            }
            seen.pages += self.starters[class] as f32;
            seen.hits += self.hits[class] as f32;
            self.rate[class] = ((seen.hits + PRIOR) / (seen.pages + PRIOR / mean)).min(1.0);
        }
        self.broken = missing / promised.max(1.0);
        self.hits.fill(0);
    }

    /// Which part of the hits that were expected of the last turn, class by class, did not come.
    pub(super) fn broken(&self) -> f32 {
        self.broken
    }

    fn iterate(&mut self, discount: f32, growth: f32) {
        for (age, turns) in TURNS.into_iter().enumerate() {
            for step in (0..SCORES.len()).rev() {
                let class = age * SCORES.len() + step;
                let rate = self.rate[class];
                let sampled = 1.0 + discount * self.blend(0, step, 1.0 / width(step), growth);
                let stays = self.blend(age, step, 0.0, growth);
                let older = self.blend((age + 1).min(AGES - 1), step, 0.0, growth);
                let passed = stays + (older - stays) / turns;
                self.outlook[class] = rate * sampled + (1.0 - rate) * discount * passed;
            }
        }
    }

    /// The outlook of a page of this age that is in this step of score, or, so probably, in the
    /// next higher one, or has fallen to the next lower one.
    fn blend(&self, age: usize, step: usize, up: f32, growth: f32) -> f32 {
        let row = &self.outlook[age * SCORES.len()..(age + 1) * SCORES.len()];
        let above = row.get(step + 1).unwrap_or(&row[step]);
        let below = row[step.saturating_sub(1)];
        let middle = f32::from(SCORES[step]) + (width(step) - 1.0) / 2.0;
        let down = (growth * middle / width(step)).min(1.0);
        row[step] + up * (above - row[step]) + down * (below - row[step])
    }

    /// All scores were halved: what was seen of a class was seen of the one it became.
    pub(super) fn cool(&mut self) {
        let mut seen = vec![Seen::default(); CLASSES];
        for (class, old) in self.seen.iter().enumerate() {
            let (age, from) = (class / SCORES.len(), class % SCORES.len());
            let into = &mut seen[age * SCORES.len() + step(SCORES[from] / 2)];
            into.pages += old.pages;
            into.hits += old.hits;
        }
        self.seen = seen;
    }

    /// Turns with a sample that a page of this class can expect, those far away counting less.
    pub(super) fn of(&self, class: Class) -> f32 {
        self.outlook[class]
    }

    /// The part of a class that is sampled in a turn.
    pub(super) fn rate(&self, class: Class) -> f32 {
        self.rate[class]
    }

    /// Bytes in use.
    pub(super) fn bytes(&self) -> u64 {
        let floats = self.rate.capacity() + self.outlook.capacity();
        let counts = self.starters.capacity() + self.hits.capacity();
        (self.seen.capacity() * size_of::<Seen>() + (floats + counts) * 4) as u64
    }
}
