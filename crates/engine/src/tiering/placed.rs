//! Which pages there are, and a hand that goes round them.
//!
//! A page exists from its first touch on. The hand is that of the clock algorithm: whoever looks
//! for victims goes on where the last search ended, and so no search walks all pages at once.

use alloc::{vec, vec::Vec};

use super::Page;

/// The pages that were placed, a bit each.
pub(super) struct Placed {
    words: Vec<u64>,
    pages: u32,
    hand: Page,
}

impl Placed {
    /// None of so many pages yet.
    pub(super) fn new(pages: u32) -> Self {
        Self { words: vec![0; pages.div_ceil(64) as usize], pages, hand: 0 }
    }

    /// A page is there from now on.
    pub(super) fn add(&mut self, page: Page) {
        self.words[page as usize / 64] |= 1 << (page % 64);
    }

    /// The page under the hand, if it is there; then the hand goes on.
    pub(super) fn step(&mut self) -> Option<Page> {
        let page = self.hand;
        self.hand = if page + 1 >= self.pages { 0 } else { page + 1 };
        let word = self.words.get(page as usize / 64)?;
        (word >> (page % 64) & 1 == 1).then_some(page)
    }

    /// How many pages there can be.
    pub(super) fn pages(&self) -> u32 {
        self.pages
    }

    /// Bytes in use.
    pub(super) fn bytes(&self) -> u64 {
        self.words.capacity() as u64 * 8
    }
}
