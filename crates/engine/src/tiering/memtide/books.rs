//! What is known of all pages: their words, the census over them, and where they lie.
//!
//! The words are brought up to date by a *sweep* that passes four pages with each sample. A turn
//! has at least a 32nd as many samples as there are pages, so the sweep goes round in eight
//! turns, which is less than words stay right for; and the work follows the samples, not the
//! memory. Pages of the fast tier are counted by blocks of 4096, so that a search for some can
//! pass over what has none: what was touched first lies together.

use alloc::{vec, vec::Vec};

use super::{
    census::Census,
    word::{Clock, Past, SCORE_MAX, Word},
};
use crate::tiering::Page;

/// Pages that are to be swept with each sample.
pub(super) const SWEPT: u32 = 4;
/// The score from which on a page counts as saturated.
const SATURATED: u8 = 96;
/// Turns between coolings at least: words can tell three coolings apart in a sweep.
const COOLING_TURNS: u64 = 8;
/// Pages of a block.
const BLOCK: u32 = 4096;

/// The books.
pub(super) struct Books {
    words: Vec<Word>,
    clock: Clock,
    census: Census,
    /// Pages of each block that lie in the fast tier.
    near_in: Vec<u16>,
    /// The sum of all scores, about.
    scores: f64,
    /// The turn in which scores were last halved.
    cooled: u64,
    /// The next page to be swept.
    hand: Page,
}

/// What the end of a turn did to scores.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Scores {
    /// They are as they were.
    Kept,
    /// They were halved.
    Halved,
}

impl Books {
    /// For so many pages, none of them placed.
    pub(super) fn new(pages: u32) -> Self {
        Self {
            words: vec![Word::default(); pages as usize],
            clock: Clock::default(),
            census: Census::new(),
            near_in: vec![0; pages.div_ceil(BLOCK) as usize],
            scores: 0.0,
            cooled: 0,
            hand: 0,
        }
    }

    /// How many pages there can be.
    pub(super) fn pages(&self) -> u32 {
        self.words.len() as u32
    }

    /// What is remembered of a page.
    pub(super) fn word(&self, page: Page) -> Word {
        self.words[page as usize]
    }

    /// The past of a page.
    pub(super) fn past(&self, page: Page) -> Past {
        self.word(page).past(self.clock)
    }

    /// How many pages have which past.
    pub(super) fn census(&self) -> &Census {
        &self.census
    }

    /// A page waits to be moved from now on, or no longer does.
    pub(super) fn set_waiting(&mut self, page: Page, waiting: bool) {
        self.words[page as usize] = self.word(page).with_waiting(waiting);
    }

    /// A page lies in the fast tier, or below. One that was not placed is from now on.
    pub(super) fn locate(&mut self, page: Page, near: bool) {
        let word = self.word(page);
        if word.is_placed() && word.is_near() == near {
            return;
        }
        let located = if word.is_placed() {
            self.census.leave(word.is_near(), word.past(self.clock));
            word.with_near(near)
        } else {
            Word::placed(self.clock, near)
        };
        let block = &mut self.near_in[(page / BLOCK) as usize];
        *block = *block + u16::from(near) - u16::from(word.is_placed() && word.is_near());
        self.census.enter(near, located.past(self.clock));
        self.words[page as usize] = located;
    }

    /// Counts a sample of a page; the past that it had.
    pub(super) fn sample(&mut self, page: Page, near: bool) -> Past {
        self.locate(page, near);
        let before = self.past(page);
        let past = Past { age: 0, score: (before.score + 1).min(SCORE_MAX) };
        self.census.leave(near, before);
        self.census.enter(near, past);
        self.words[page as usize] = self.word(page).with_past(self.clock, past);
        self.scores += 1.0;
        before
    }

    /// Ends a turn: all pages are older, and scores are halved when so many of them are at their
    /// end that a quarter of a fast tier of so many pages could not be told apart.
    pub(super) fn end_turn(&mut self, near_pages: u32) -> Scores {
        self.clock.turn += 1;
        self.census.age();
        let saturated = self.census.pasts().filter(|(past, _)| past.score >= SATURATED);
        let saturated: u32 = saturated.map(|(_, [near, far])| near + far).sum();
        if saturated <= near_pages / 4 || self.clock.turn < self.cooled + COOLING_TURNS {
            return Scores::Kept;
        }
        self.cooled = self.clock.turn;
        self.clock.coolings += 1;
        self.census.cool();
        self.scores /= 2.0;
        Scores::Halved
    }

    /// By which part of themselves so many samples make scores grow, half at most.
    pub(super) fn growth(&self, samples: u32) -> f64 {
        (f64::from(samples) / self.scores.max(1.0)).min(0.5)
    }

    /// Sweeps a page; which, if it was placed.
    pub(super) fn sweep(&mut self) -> Option<Page> {
        let page = self.hand;
        self.hand = if page + 1 >= self.pages() { 0 } else { page + 1 };
        let word = *self.words.get(page as usize)?;
        if !word.is_placed() {
            return None;
        }
        self.words[page as usize] = word.with_past(self.clock, word.past(self.clock));
        Some(page)
    }

    /// Where a search for pages of the fast tier goes on after this page; after the last with
    /// the first.
    pub(super) fn after(&self, page: Page) -> Page {
        let empty = self.near_in[(page / BLOCK) as usize] == 0;
        let next = if empty { (page / BLOCK + 1) * BLOCK } else { page + 1 };
        if next >= self.pages() { 0 } else { next }
    }

    /// Bytes in use.
    pub(super) fn bytes(&self) -> u64 {
        let words = self.words.capacity() * size_of::<Word>();
        (words + self.near_in.capacity() * size_of::<u16>()) as u64 + self.census.bytes()
    }

    /// Whether the census and the blocks are what the words add up to.
    #[cfg(test)]
    pub(super) fn is_sound(&self) -> bool {
        let mut census = Census::new();
        let mut near_in = vec![0; self.near_in.len()];
        for (page, word) in self.words.iter().enumerate().filter(|(_, word)| word.is_placed()) {
            census.enter(word.is_near(), word.past(self.clock));
            near_in[page / BLOCK as usize] += u16::from(word.is_near());
        }
        near_in == self.near_in && census.pasts().eq(self.census.pasts())
    }
}
