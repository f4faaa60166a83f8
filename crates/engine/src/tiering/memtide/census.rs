//! How many pages have which past, in the fast tier and below.
//!
//! A page is counted in the cell of its past. When a turn ends all pages grow older, and when
//! scores are halved all scores are; both happen to whole cells, exactly as they happen to the
//! words of the pages when those are next looked at. So the census is right at any time, without
//! a walk.

use alloc::{vec, vec::Vec};

use super::word::{OLD, Past, SCORE_MAX};

const AGES: usize = OLD as usize + 1;
const SCORES: usize = SCORE_MAX as usize + 1;

/// The counts.
pub(super) struct Census {
    /// By place, age and score.
    cells: Vec<u32>,
}

impl Census {
    /// No pages.
    pub(super) fn new() -> Self {
        Self { cells: vec![0; 2 * AGES * SCORES] }
    }

    fn cell(&mut self, near: bool, past: Past) -> &mut u32 {
        let row = usize::from(near) * AGES + usize::from(past.age);
        &mut self.cells[row * SCORES + usize::from(past.score)]
    }

    /// A page has this past now.
    pub(super) fn enter(&mut self, near: bool, past: Past) {
        *self.cell(near, past) += 1;
    }

    /// A page has it no longer.
    pub(super) fn leave(&mut self, near: bool, past: Past) {
        *self.cell(near, past) -= 1;
    }

    /// All pages are a turn older.
    pub(super) fn age(&mut self) {
        for half in self.cells.chunks_exact_mut(AGES * SCORES) {
            let (young, old) = half.split_at_mut((AGES - 1) * SCORES);
            let oldest = &young[(AGES - 2) * SCORES..];
            old.iter_mut().zip(oldest).for_each(|(into, from)| *into += from);
            young.copy_within(..(AGES - 2) * SCORES, SCORES);
            young[..SCORES].fill(0);
        }
    }

    /// All scores are halved.
    pub(super) fn cool(&mut self) {
        for row in self.cells.chunks_exact_mut(SCORES) {
            for score in 0..SCORES / 2 {
                row[score] = row[2 * score] + row[2 * score + 1];
            }
            row[SCORES / 2..].fill(0);
        }
    }

    /// Every past that pages have, with how many lie in the fast tier, and how many below.
    pub(super) fn pasts(&self) -> impl Iterator<Item = (Past, [u32; 2])> {
        (0..AGES * SCORES).filter_map(|at| {
            let past = Past { age: (at / SCORES) as u8, score: (at % SCORES) as u8 };
            let counts = [self.cells[AGES * SCORES + at], self.cells[at]];
            (counts != [0, 0]).then_some((past, counts))
        })
    }

    /// Bytes in use.
    pub(super) fn bytes(&self) -> u64 {
        self.cells.capacity() as u64 * 4
    }
}
