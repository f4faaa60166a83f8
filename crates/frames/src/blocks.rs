//! Blocks smaller than a pageblock: finding, taking and releasing them in the bitmaps.
//!
//! A block of order `k` is 2^k ones in *Taken*, and 2^k - 1 ones in *Tail*, one for each frame but
//! the first; so every block can be told from its neighbours. A block of order 0, the most common,
//! never touches *Tail*. Whoever takes owns the pageblock, so what it found free stays free, and
//! one addition takes it. Releasing is one subtraction, whoever does it.

use crate::{
    bits::{WORD_ORDER, aligned_zeros, lowest, run},
    claim::Claim,
    frames::{Bitmap, Frames},
    layout::{FRAMES, WORDS},
    primitive::Ordering::*,
};

/// Two bits in a word: freeing one of these frames looks after the grade of its pageblock. So that
/// happens once in 32 times, whatever the order in which frames are freed.
const SAMPLE: u64 = 1 << 32 | 1;

/// The words that a block smaller than a pageblock lies in, and its bits in each of them.
fn span(index: u64, order: u8) -> (core::ops::Range<u64>, u64) {
    let word = index / 64;
    if order <= WORD_ORDER {
        (word..word + 1, run((index % 64) as u32, order))
    } else {
        (word..word + (1 << (order - WORD_ORDER)), !0)
    }
}

impl<'m> Frames<'m> {
    /// The lowest free block of this order in a pageblock.
    pub(crate) fn find_block(&self, pb: u64, order: u8) -> Option<u64> {
        let words = self.words_of(Bitmap::Taken, pb);
        if order <= WORD_ORDER {
            let mut words = words.iter().enumerate();
            return words.find_map(|(n, word)| {
                let bit = aligned_zeros(word.load(Acquire), order)?;
                Some(pb * FRAMES + n as u64 * 64 + u64::from(bit))
            });
        }
        let step = 1 << (order - WORD_ORDER);
        let mut groups = words.chunks_exact(step).enumerate();
        groups.find_map(|(n, group)| {
            let free = group.iter().all(|word| word.load(Acquire) == 0);
            free.then_some(pb * FRAMES + (n * step) as u64 * 64)
        })
    }

    /// Takes a block that [`Frames::find_block`] found, in a pageblock that the caller owns.
    pub(crate) fn mark_block(&self, claim: &Claim, index: u64, order: u8) {
        debug_assert_eq!(index / FRAMES, claim.pb);
        let (words, mask) = span(index, order);
        for word in words.clone() {
            self.set_taken(word, mask);
        }
        if order > 0 {
            for word in words {
                let first = if word == index / 64 { 1 << (index % 64) } else { 0 };
                self.word(Bitmap::Tail, word).fetch_or(mask & !first, AcqRel);
            }
        }
    }

    /// Takes up to `most` single frames that lie in one word of a pageblock that the caller owns.
    pub(crate) fn take_some(&self, pb: u64, most: u64) -> Option<(u64, u64)> {
        let words = self.words_of(Bitmap::Taken, pb);
        let (n, word) = words.iter().enumerate().find(|(_, word)| word.load(Acquire) != !0)?;
        let free = !word.load(Acquire);
        let mask = if most >= 64 {
            free
        } else if most >= 32 {
            if free as u32 != 0 { free & u64::from(u32::MAX) } else { free }
        } else {
            lowest(free, most as u32)
        };
        let at = pb * WORDS + n as u64;
        self.set_taken(at, mask);
        Some((at, mask))
    }

    /// Sets bits of *Taken* that are zero, and stay so until now: the caller owns the pageblock.
    ///
    /// Adding zeros and ones that do not overlap is an `or`, and subtracting what is there an
    /// `and not`. Machines return the former value of a sum in one operation on the line of
    /// cache; of an `or` only by a loop that first reads it, and then asks for it once more.
    #[inline]
    fn set_taken(&self, word: u64, mask: u64) {
        let taken = self.word(Bitmap::Taken, word);
        let before = taken.fetch_add(mask, AcqRel);
        if before & mask != 0 {
            taken.fetch_sub(mask, AcqRel);
            panic!("frames {mask:#x} of {} have two takers", self.pfn(word * 64));
        }
    }

    /// Clears bits of *Taken*; returns what they were part of.
    #[inline]
    fn clear_taken(&self, word: u64, mask: u64) -> u64 {
        let taken = self.word(Bitmap::Taken, word);
        let before = taken.fetch_sub(mask, SeqCst);
        if before & mask != mask {
            taken.fetch_add(mask, AcqRel);
            panic!("frames {mask:#x} of {} are given back but not taken", self.pfn(word * 64));
        }
        before
    }

    /// Releases single frames that lie in one word. Returns the zone they are of.
    #[inline]
    pub(crate) fn release_some(&self, word: u64, mask: u64) -> u64 {
        let pb = word / WORDS;
        // Before, for the zone is certain only while a frame is taken.
        let zone = self.entry(pb).zone_id();
        let before = self.clear_taken(word, mask);
        self.freed(pb, before, before & !mask, mask & SAMPLE != 0);
        zone
    }

    /// Releases a block smaller than a pageblock. Returns the zone it is of.
    pub(crate) fn release_block(&self, index: u64, order: u8) -> u64 {
        let (words, mask) = span(index, order);
        if order > 0 {
            // Before the frames: whoever takes them next writes tails of its own.
            for word in words.clone() {
                self.word(Bitmap::Tail, word).fetch_and(!mask, AcqRel);
            }
        }
        let mut zone = 0;
        for word in words {
            zone = self.release_some(word, mask);
        }
        zone
    }

    /// Whether a block of just this order starts here, of frames that are taken.
    pub(crate) fn order_at(&self, index: u64) -> Option<u8> {
        if !self.bit(Bitmap::Taken, index) || self.bit(Bitmap::Tail, index) {
            return None;
        }
        let end = (index / FRAMES + 1) * FRAMES;
        // The tails of the block; those of a hole behind it are held.
        let tail = |&at: &u64| self.bit(Bitmap::Tail, at) && !self.bit(Bitmap::Held, at);
        let length = (index + 1..end).take_while(tail).count() + 1;
        Some(length.trailing_zeros() as u8)
    }
}
