//! Memory for the metadata of a node's page-frame allocator.
//!
//! A node of a terabyte has some 150 MiB of it, of which it uses a few until frames smaller than a
//! pageblock are taken. So it is asked for as memory that is zero already, which costs nothing
//! until it is written, and a copy writes only what is not zero.
//!
//! The allocator lays its words out from a multiple of 64 bytes on. Where that is in a piece of
//! memory differs from piece to piece, so what is copied or compared is what lies from there on.

use alloc::boxed::Box;
use core::{ops::Deref, sync::atomic::Ordering::Relaxed};

use memtide_frames::{AtomicU64, Layout};
use zerocopy::FromZeros;

/// Words in a line of cache, at whose start they start.
const LINE: usize = 8;

/// Words from a multiple of 64 bytes on.
pub(crate) struct Words {
    all: Box<[AtomicU64]>,
    start: usize,
    count: usize,
}

impl Words {
    /// So many words, all zero, if there is memory for them.
    pub(crate) fn zero(count: usize) -> Option<Self> {
        let room = count.checked_add(Layout::WORDS_SPARE)?;
        let all = <[AtomicU64]>::new_box_zeroed_with_elems(room).ok()?;
        let start = all.as_ptr().align_offset(LINE * size_of::<AtomicU64>());
        assert!(start <= Layout::WORDS_SPARE, "words are aligned to their size");
        Some(Self { all, start, count })
    }
}

impl Deref for Words {
    type Target = [AtomicU64];

    fn deref(&self) -> &[AtomicU64] {
        &self.all[self.start..self.start + self.count]
    }
}

impl Clone for Words {
    fn clone(&self) -> Self {
        let copy = Self::zero(self.count).expect("memory for a copy");
        // By lines: most are zero, and those stay untouched.
        for (to, from) in copy.chunks(LINE).zip(self.chunks(LINE)) {
            if from.iter().any(|word| word.load(Relaxed) != 0) {
                let words = to.iter().zip(from);
                words.for_each(|(to, from)| to.store(from.load(Relaxed), Relaxed));
            }
        }
        copy
    }
}

impl PartialEq for Words {
    fn eq(&self, other: &Self) -> bool {
        let mut words = self.iter().zip(other.iter());
        self.count == other.count && words.all(|(a, b)| a.load(Relaxed) == b.load(Relaxed))
    }
}

impl Eq for Words {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_copy_is_equal_until_one_of_them_changes() {
        let words = Words::zero(100).unwrap();
        words[3].store(7, Relaxed);
        words[99].store(9, Relaxed);
        // Copies of several sizes lie at several distances from a multiple of 64 bytes.
        let copies: [Words; 5] = core::array::from_fn(|_| words.clone());
        for copy in &copies {
            assert!(*copy == words && copy.as_ptr().addr() % 64 == 0);
            copy[50].store(1, Relaxed);
            assert!(*copy != words);
        }
        assert!(Words::zero(101).unwrap() != words);
        assert!(Words::zero(usize::MAX).is_none() && Words::zero(usize::MAX / 16).is_none());
    }
}
