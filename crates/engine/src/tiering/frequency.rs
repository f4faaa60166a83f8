//! Counters of pages that are all halved at once, without being walked.
//!
//! A *cooling* raises a generation; a counter remembers the generation that it was last brought
//! up to, and is halved as often as it lags when it is next looked at (HeMem's cooling clock,
//! SOSP 2021, section 3.2; MEMTIS does the same on access). A counter that nobody looks at for 256
//! coolings would take them for none; it would have been zero after 16.

use alloc::{vec, vec::Vec};

use super::Page;

/// A counter and a generation for each page.
pub(super) struct Frequency {
    counts: Vec<u16>,
    generations: Vec<u8>,
    generation: u8,
}

impl Frequency {
    /// All zero.
    pub(super) fn new(pages: u32) -> Self {
        Self {
            counts: vec![0; pages as usize],
            generations: vec![0; pages as usize],
            generation: 0,
        }
    }

    /// The count of a page, with all coolings.
    pub(super) fn count(&self, page: Page) -> u16 {
        let at = page as usize;
        let lag = self.generation.wrapping_sub(self.generations[at]);
        self.counts[at].checked_shr(u32::from(lag)).unwrap_or(0)
    }

    /// How often a page was cooled since its counter was last changed.
    pub(super) fn lag(&self, page: Page) -> u8 {
        self.generation.wrapping_sub(self.generations[page as usize])
    }

    /// The count of a page as it was when its counter was last changed.
    pub(super) fn raw(&self, page: Page) -> u16 {
        self.counts[page as usize]
    }

    /// Counts an access; the new count. A counter at its end stays there.
    pub(super) fn add(&mut self, page: Page) -> u16 {
        let count = self.count(page).saturating_add(1);
        self.counts[page as usize] = count;
        self.generations[page as usize] = self.generation;
        count
    }

    /// Halves all.
    pub(super) fn cool(&mut self) {
        self.generation = self.generation.wrapping_add(1);
    }

    /// Bytes in use.
    pub(super) fn bytes(&self) -> u64 {
        (self.counts.capacity() * 2 + self.generations.capacity()) as u64
    }
}

#[cfg(test)]
mod tests {
    use super::Frequency;

    #[test]
    fn counts_are_halved_for_each_cooling_they_lag() {
        let mut counts = Frequency::new(2);
        let added = (0..40).map(|_| counts.add(0));
        assert_eq!(added.last(), Some(40));
        counts.cool();
        counts.cool();
        assert_eq!((counts.count(0), counts.count(1)), (10, 0));
        assert_eq!((counts.raw(0), counts.lag(0)), (40, 2));
        assert_eq!(counts.add(0), 11);
        (0..17).for_each(|_| counts.cool());
        assert_eq!(counts.count(0), 0);
    }
}
