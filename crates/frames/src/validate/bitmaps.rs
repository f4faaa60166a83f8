//! What the bitmaps of a pageblock say, and whether they can all be right.

use super::Books;
use crate::{
    entry::State,
    frames::{Bitmap, Frames},
    layout::{FRAMES, WORDS},
    primitive::Ordering::*,
};

/// A word of each bitmap.
#[derive(Clone, Copy)]
pub(super) struct Word {
    pub(super) taken: u64,
    pub(super) tail: u64,
    pub(super) held: u64,
    pub(super) retired: u64,
}

impl Word {
    /// Frames that are not there: marked held and tail at once, which no frame of a block is.
    pub(super) fn holes(self) -> u64 {
        self.held & self.tail
    }
}

impl Frames<'_> {
    pub(super) fn load(&self, word: u64) -> Word {
        let load = |bitmap| self.word(bitmap, word).load(Acquire);
        Word {
            taken: load(Bitmap::Taken),
            tail: load(Bitmap::Tail),
            held: load(Bitmap::Held),
            retired: load(Bitmap::Retired),
        }
    }

    /// Returns how many frames of a pageblock are free by the bitmaps.
    pub(super) fn validate_bitmaps(&self, pb: u64, books: &mut Books) -> u64 {
        let (frames, entry) = (self.frames_of(pb), self.entry(pb));
        let huge = matches!(entry.state(), State::Head | State::Tail);
        let mut free = 0;
        let mut tails = [0; WORDS as usize];
        let mut blocks = [0; WORDS as usize];
        for n in 0..WORDS as usize {
            let word = self.load(pb * WORDS + n as u64);
            let Word { taken, tail, held, retired } = word;
            let hole = word.holes();
            let at = n * 64;
            assert_eq!((tail | held) & !taken, 0, "{frames}+{at}: tail or held, but not taken");
            // What is reserved nobody but the reservation takes; it is retired when it goes back.
            let kept = huge || entry.state() == State::Reserved;
            let lost = if kept { 0 } else { retired & !taken };
            assert_eq!(lost, 0, "{frames}+{at}: to be retired, but free");
            assert_eq!(hole & !retired, 0, "{frames}+{at}: held in the middle of a block");
            let noted = u64::from((retired & !hole).count_ones());
            free += u64::from(taken.count_zeros());
            (tails[n], blocks[n]) = (tail & !hole, taken & !hole);
            books.retired += noted;
            books.taken += u64::from(blocks[n].count_ones());
            books.zones[entry.zone_id() as usize].holes += u64::from(hole.count_ones());
            assert!(!huge || noted == 0 || self.retiring() != 0, "{frames}: retired, in a block");
        }
        if tails.iter().any(|&word| word != 0) {
            self.validate_blocks(pb, &tails, &blocks);
        }
        free
    }

    /// That tails make blocks of a power of two, each at a multiple of its size.
    fn validate_blocks(&self, pb: u64, tails: &[u64], blocks: &[u64]) {
        let bit = |words: &[u64], at: u64| words[(at / 64) as usize] >> (at % 64) & 1 != 0;
        let mut at = 0;
        while at < FRAMES {
            let pfn = self.pfn(pb * FRAMES + at);
            assert!(!bit(tails, at), "{pfn}: tail of no block");
            if !bit(blocks, at) {
                at += 1;
                continue;
            }
            let length = 1 + (at + 1..FRAMES).take_while(|&at| bit(tails, at)).count() as u64;
            let whole = length.is_power_of_two() && at.is_multiple_of(length) && length < FRAMES;
            assert!(whole, "{pfn}: a block of {length} frames");
            let index = pb * FRAMES + at;
            let noted = (index..index + length).any(|at| self.bit(Bitmap::Retired, at));
            assert!(length == 1 || !noted || self.retiring() != 0, "{pfn}: retired, in a block");
            at += length;
        }
    }
}
