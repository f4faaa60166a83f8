//! Blocks of whole pageblocks: orders 9 to 18.
//!
//! The bit of a pageblock in the index of free ones *is* its availability: whoever clears it has
//! the pageblock, in one atomic operation, and setting it gives it back. The entries are written
//! by the owner alone. So a 2 MiB block is taken and given back in two atomic operations, and no
//! bitmap of its frames is touched.
//!
//! A block of order 9 + r is an aligned run of 2^r ones in the index: up to r = 6 within a word,
//! above that whole words. So that large blocks are found without looking through all words, each
//! r from 1 to 6 has an index of words, and a word stands in one that is as high as its largest
//! run, or higher: whoever completes a run notes the word, unless it is noted so; a search that
//! finds less than the note says takes it away, looks again, and notes what there is.

use crate::{
    bits::{run, run_starts},
    claim::Claim,
    entry::{Entry, State},
    frames::{Frames, pageblocks_in},
    layout::{FRAMES, LINE, PAGEBLOCK_ORDER, RUN_ORDERS},
    primitive::{Ordering::Relaxed, seq_cst_in_model},
    record,
    request::Movability,
    zone::{End, Zone},
};

/// How many cores look after each other's home.
const CORES_LOOKED_AT: u16 = 64;

/// A word of the index of a zone's free pageblocks, as the home of a core.
pub(crate) const fn home_of(zone: u64, word: u64) -> u64 {
    (word + 1) << 4 | zone
}

impl Frames<'_> {
    /// Takes a free pageblock of a zone for this use.
    pub(crate) fn claim_free(&self, zone: u64, movability: Movability, end: End) -> Option<Claim> {
        let exmem = zone >= 4;
        if exmem && !self.dedicate(zone, movability) {
            return None;
        }
        let free = self.free(zone);
        loop {
            let found = match end {
                End::Bottom => free.take_first_from(0),
                End::Top => free.take_last_to(self.layout.pageblocks - 1),
            };
            let Some(pb) = found else {
                if exmem {
                    self.undedicate(zone);
                }
                return None;
            };
            if let Some(claim) = self.own(pb) {
                let entry = self.entry(pb).with_movability(movability);
                self.set_entry(pb, entry.with_dedicated(u64::from(exmem)));
                return Some(claim);
            }
        }
    }

    /// Takes a block of one pageblock of a word of the index of free ones. For zones that are
    /// filled from the bottom and not dedicated.
    #[inline]
    pub(crate) fn take_near(&self, zone: u64, word: u64, movability: Movability) -> Option<u64> {
        let pb = self.free(zone).take_in_leaf(word)?;
        seq_cst_in_model();
        if self.is_any_isolated() && self.is_isolated(pb) {
            self.set_aside(Claim { pb });
            return None;
        }
        // All that the entry of a free pageblock says is the zone, so it need not be read.
        let head = Entry::new(State::Head, Zone::from_id(zone), movability);
        self.set_entry(pb, head.with_order(PAGEBLOCK_ORDER));
        Some(pb)
    }

    /// The lowest word with free pageblocks in whose line no other core has its home, if
    /// possible: two that take of the same line get into each other's way.
    pub(crate) fn lonely_word(&self, zone: u64, core: u16) -> Option<u64> {
        let free = self.free(zone);
        let lowest = free.first_from(0)? / 64;
        let mut word = lowest;
        let others = self.layout.geometry.cores.min(CORES_LOOKED_AT);
        let is_home = |line: u64| {
            (0..others).filter(|&n| n != core).any(|n| {
                let home = self.record(n)[record::HOME].load(Relaxed);
                home & 15 == zone && (home >> 4).wrapping_sub(1) / LINE as u64 == line
            })
        };
        for _ in 0..others {
            let line = word / LINE as u64;
            if !is_home(line) {
                return Some(word);
            }
            let Some(next) = free.first_from((line + 1) * LINE as u64 * 64) else {
                break;
            };
            word = next / 64;
        }
        Some(lowest)
    }

    /// Takes a free aligned run of pageblocks, for orders above a pageblock's.
    pub(crate) fn claim_run(&self, zone: u64, movability: Movability, order: u8) -> Option<u64> {
        let run = u64::from(order - PAGEBLOCK_ORDER);
        let exmem = zone >= 4;
        loop {
            let first = if run <= RUN_ORDERS {
                self.run_in_word(zone, run)?
            } else {
                self.run_of_words(zone, 1 << (run - RUN_ORDERS))?
            };
            let all = first..first + pageblocks_in(order);
            seq_cst_in_model();
            if all.clone().any(|pb| self.is_isolated(pb)) {
                // Those are set aside, the others are free again; and another run is looked for.
                all.filter_map(|pb| self.own(pb)).for_each(|claim| self.put_free(claim));
                continue;
            }
            if exmem && !self.dedicate_all(zone, movability, pageblocks_in(order)) {
                all.filter_map(|pb| self.own(pb)).for_each(|claim| self.put_free(claim));
                return None;
            }
            for pb in all {
                let entry = self.entry(pb).into(State::Owned).with_movability(movability);
                self.set_entry(pb, entry.with_dedicated(u64::from(exmem)));
            }
            return Some(first);
        }
    }

    fn dedicate_all(&self, zone: u64, movability: Movability, count: u64) -> bool {
        let done = (0..count).take_while(|_| self.dedicate(zone, movability)).count() as u64;
        if done < count {
            (0..done).for_each(|_| self.undedicate(zone));
        }
        done == count
    }

    /// Claims a run of 2^`run` pageblocks within a word: of the words with the smallest runs that
    /// will do the lowest.
    fn run_in_word(&self, zone: u64, run_order: u64) -> Option<u64> {
        let free = self.free(zone);
        for noted in run_order..=RUN_ORDERS {
            let mut next = self.runs(zone, noted).first_from(0);
            while let Some(word) = next {
                let starts = run_starts(free.leaf(word), run_order as u8);
                if starts == 0 {
                    self.correct_note(zone, word, noted);
                    next = self.runs(zone, noted).first_from(word + 1);
                    continue;
                }
                let bit = starts.trailing_zeros();
                if free.remove_mask(word, run(bit, run_order as u8)) {
                    return Some(word * 64 + u64::from(bit));
                }
            }
        }
        None
    }

    /// Takes away a note that promises too much, and notes what there is.
    #[cold]
    fn correct_note(&self, zone: u64, word: u64, noted: u64) {
        self.runs(zone, noted).remove(word);
        seq_cst_in_model();
        let leaf = self.free(zone).leaf(word);
        let largest = (1..=RUN_ORDERS).rev().find(|&order| run_starts(leaf, order as u8) != 0);
        if let Some(largest) = largest {
            self.runs(zone, largest).insert(word);
        }
    }

    /// Claims the lowest aligned run of so many words.
    fn run_of_words(&self, zone: u64, words: u64) -> Option<u64> {
        let (free, noted) = (self.free(zone), self.runs(zone, RUN_ORDERS));
        let total = self.layout.pageblocks.div_ceil(64);
        let mut at = 0;
        while let Some(word) = noted.first_from(at) {
            if free.leaf(word) != !0 {
                self.correct_note(zone, word, RUN_ORDERS);
            }
            let start = word & !(words - 1);
            let all = start..start + words;
            if start >= at && all.end <= total && all.clone().all(|word| free.leaf(word) == !0) {
                let got = all.clone().take_while(|&word| free.remove_mask(word, !0)).count() as u64;
                if got == words {
                    return Some(start * 64);
                }
                for word in all.clone().take(got as usize) {
                    free.insert_mask(word, !0);
                    // Others may have found the word empty meanwhile, and taken the note away.
                    self.runs(zone, RUN_ORDERS).insert(word);
                    if self.is_any_isolated() {
                        (word * 64..(word + 1) * 64).for_each(|pb| {
                            self.withdraw(zone, pb);
                        });
                    }
                }
            }
            at = all.end;
        }
        None
    }

    /// Notes the run that a free pageblock completes, unless one as large is noted.
    #[inline(always)]
    pub(crate) fn note_run(&self, zone: u64, pb: u64) {
        let (word, bit) = (pb / 64, (pb % 64) as u32);
        let leaf = self.free(zone).leaf(word);
        // Most often it is alone, or the word is noted for all that it can have.
        if leaf >> (bit ^ 1) & 1 != 0 && !self.runs(zone, RUN_ORDERS).contains(word) {
            self.note_run_around(zone, word, leaf, bit);
        }
    }

    #[inline(never)]
    fn note_run_around(&self, zone: u64, word: u64, leaf: u64, bit: u32) {
        let complete = |&order: &u64| {
            let mask = run(bit & !((1 << order) - 1), order as u8);
            leaf & mask == mask
        };
        let largest = (1..=RUN_ORDERS).take_while(complete).last().unwrap_or(1);
        if !(largest..=RUN_ORDERS).any(|order| self.runs(zone, order).contains(word)) {
            self.runs(zone, largest).insert(word);
        }
    }

    /// Makes a block of pageblocks that the caller owns.
    #[inline]
    pub(crate) fn make_huge(&self, pb: u64, order: u8) {
        let entry = self.entry(pb);
        for tail in pb + 1..pb + pageblocks_in(order) {
            self.set_entry(tail, self.entry(tail).into(State::Tail));
        }
        self.set_entry(pb, entry.into(State::Head).with_order(order));
    }

    /// Gives back a block of order 9 or more. Returns the zone it is of.
    #[inline(always)]
    pub(crate) fn release_huge(&self, index: u64, order: u8) -> u64 {
        let pb = index / FRAMES;
        let zone = self.entry(pb).zone_id();
        if order > PAGEBLOCK_ORDER {
            self.release_tails(pb + 1..pb + pageblocks_in(order));
        }
        self.put_free(Claim { pb });
        zone
    }

    #[cold]
    #[inline(never)]
    fn release_tails(&self, pageblocks: core::ops::Range<u64>) {
        pageblocks.rev().for_each(|pb| self.put_free(Claim { pb }));
    }

    /// The block of order 9 or more that a pageblock is the head of.
    pub(crate) fn huge_at(&self, index: u64) -> Option<Entry> {
        let entry = self.entry(index / FRAMES);
        (index.is_multiple_of(FRAMES) && entry.state() == State::Head).then_some(entry)
    }
}
