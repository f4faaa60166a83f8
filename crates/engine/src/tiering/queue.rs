//! A queue of pages in which each stands at most once.

use alloc::{collections::VecDeque, vec, vec::Vec};

use super::Page;

/// Pages, first in, first out.
pub(super) struct Queue {
    pages: VecDeque<Page>,
    queued: Vec<u64>,
}

impl Queue {
    /// An empty one, for so many pages.
    pub(super) fn new(pages: u32) -> Self {
        Self { pages: VecDeque::new(), queued: vec![0; pages.div_ceil(64) as usize] }
    }

    /// Puts a page at the end, unless it stands there already.
    pub(super) fn push(&mut self, page: Page) {
        let word = &mut self.queued[page as usize / 64];
        let bit = 1 << (page % 64);
        if *word & bit == 0 {
            *word |= bit;
            self.pages.push_back(page);
        }
    }

    /// The first.
    pub(super) fn first(&self) -> Option<Page> {
        self.pages.front().copied()
    }

    /// Takes the first away.
    pub(super) fn pop(&mut self) -> Option<Page> {
        let page = self.pages.pop_front()?;
        self.queued[page as usize / 64] &= !(1 << (page % 64));
        Some(page)
    }

    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.pages.len()
    }

    /// Bytes in use.
    pub(super) fn bytes(&self) -> u64 {
        (self.pages.capacity() * size_of::<Page>() + self.queued.capacity() * 8) as u64
    }
}
