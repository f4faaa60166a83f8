//! What lies above the leaves: how it never hides a member, and how it becomes exact again.
//!
//! A guide is changed after its child, and so lags behind. It therefore has two bits for each
//! child:
//!
//! ```text
//!   63                  32 31                   0
//!  ┌──────────────────────┬──────────────────────┐      full  doubt
//!  │ in doubt, child 31…0 │   full, child 31…0   │        0     0    nothing below
//!  └──────────────────────┴──────────────────────┘        1     0    something below
//!                                                         0     1    somebody is looking
//!                                                         1     1    filled meanwhile
//! ```
//!
//! * Who adds to a child then looks at the guide of every level, and sets *full* where it is not.
//!   (Mere looking at one level does not do: who filled the child may not have come further yet.)
//! * Who emptied a child turns *full* into *in doubt* in a single exchange, looks at the child
//!   again, makes it *full* again if something has come, and then takes the doubt away. Only one
//!   party does so for a child at a time; others leave it to that one, who therefore looks once
//!   more at the end.
//! * A search enters children that are full **or** in doubt.
//!
//! # Why no member is missed
//! An adder changes the child and then looks at the guide; a remover changes the guide and then
//! looks at the child. Were both looks mere loads, each could miss the other's change. So the
//! remover looks by an exchange, which comes either after the adder's change of the child or before
//! it. If after, it sees the member and sets *full* again, and there was doubt all the time. If
//! before, the adder's change sees the exchange, and so its look sees a guide without *full*, or
//! one where somebody else has set it since. The same holds one level up, where the child is a
//! guide and the member a bit of it.
//!
//! # Why no mark stays on an empty child
//! The last to empty a child then touches its guide. It finds *full* alone and clears it; or
//! doubt, whose owner looks again after taking it away; or no mark, and who sets one later looks
//! at the child after that. Touching is an exchange in each case, so that who comes later knows.

use super::{FAN, Index, LEAF};
use crate::primitive::{
    AtomicU64,
    Ordering::{Acquire, Relaxed, Release},
    settle,
};

/// The bits of a guide that say which children are full.
const FULL: u64 = (1 << FAN) - 1;
/// How far left of *full* the doubt about a child lies.
const DOUBT: u32 = 32;

impl<'w> Index<'w> {
    /// The children of a guide that may hold members.
    #[inline]
    pub(super) fn worth_a_look(&self, level: usize, word: usize) -> u64 {
        let guide = self.word(level, word).load(Relaxed);
        (guide | guide >> DOUBT) & FULL
    }

    /// Sees to it that what was added to a leaf is found: *full* in every level.
    #[inline(always)]
    pub(super) fn filled(&self, leaf: usize) {
        let mut child = leaf;
        for level in 1..self.shape.levels() {
            // Acquire: who took *full* away one level up may have looked at this word before the
            // bit was set that is seen here; then that change must be seen in the next turn.
            let guide = self.word(level, child / FAN).load(Acquire);
            if guide >> (child % FAN) & 1 == 0 && !self.set_full(level, child) {
                return;
            }
            child /= FAN;
        }
    }

    /// Marks a child full. False if it is empty after all, and so what was added is gone again.
    #[cold]
    fn set_full(&self, level: usize, child: usize) -> bool {
        let (guide, full, _) = self.guide(level, child);
        // Acquire: for the next level as in `filled`, and because who emptied the child and found
        // no mark to take away left that to us. It touched the guide before we did, so the load
        // below cannot be older than the emptying, and may be relaxed.
        guide.fetch_or(full, Acquire);
        if self.word(level - 1, child).load(Relaxed) != 0 {
            return true;
        }
        self.emptied(level, child);
        false
    }

    /// Corrects the guides after a child of one in this level was emptied.
    #[cold]
    pub(super) fn emptied(&self, level: usize, child: usize) {
        let mut child = child;
        for level in level..self.shape.levels() {
            if !self.clear_full(level, child) {
                return;
            }
            child /= FAN;
        }
    }

    /// Takes the mark off a child if it is empty. True if that emptied the guide.
    fn clear_full(&self, level: usize, child: usize) -> bool {
        let (guide, full, doubt) = self.guide(level, child);
        let child = self.word(level - 1, child);
        while raise_doubt(guide, full, doubt) {
            // The second look puts zero in the place of zero. It is an exchange, and releases, so
            // that a later adder to the child sees the guide without the mark. (A mere load could
            // miss an adder who still sees the mark.)
            if child.compare_exchange(0, 0, Release, Relaxed).is_err() {
                // Relaxed: it tells nobody anything but itself.
                guide.fetch_or(full, Relaxed);
            }
            // Acquire: others who emptied the child meanwhile saw the doubt and left it at that.
            // They touched the guide before the doubt is taken away, so the load below cannot be
            // older than their emptying, and may be relaxed.
            let before = guide.fetch_and(!doubt, Acquire);
            if before & full == 0 {
                return before == doubt;
            }
            if child.load(Relaxed) != 0 {
                return false;
            }
        }
        false
    }

    // ---- At rest ----

    /// Says which of the 64 numbers from 64 × `word` are members. Nobody else may use the index
    /// until it is repaired.
    pub(crate) fn restore(&self, word: u64, members: u64) {
        settle(self.leaf_word(word as usize), members);
    }

    /// Makes the guides anew after a party died. Nobody else may use the index meanwhile.
    pub(crate) fn repair(&self) {
        for level in 1..self.shape.levels() {
            for word in 0..self.shape.words_of(level) {
                settle(self.word(level, word), self.guide_at_rest(level, word));
            }
        }
    }

    /// Checks an index that nobody uses at the moment.
    ///
    /// # Panics
    /// If a member could be missed, a guide is not exact, or a number is beyond the length.
    pub(crate) fn validate(&self) {
        let beyond = self.shape.leaves() as u64 * LEAF - self.shape.len;
        let last = self.leaf_word(self.shape.leaves() - 1).load(Relaxed);
        let strays = if beyond == LEAF { last } else { last & !(!0 >> beyond) };
        assert_eq!(strays, 0, "members beyond {}", self.shape.len);
        for level in 1..self.shape.levels() {
            for word in 0..self.shape.words_of(level) {
                let (is, should) =
                    (self.word(level, word).load(Relaxed), self.guide_at_rest(level, word));
                assert_eq!(is, should, "guide {word} of level {level}: {is:#x}, not {should:#x}");
            }
        }
    }

    fn guide_at_rest(&self, level: usize, word: usize) -> u64 {
        let children = word * FAN..self.shape.words_of(level - 1).min((word + 1) * FAN);
        children
            .filter(|&child| self.word(level - 1, child).load(Relaxed) != 0)
            .fold(0, |guide, child| guide | 1 << (child % FAN))
    }

    /// The guide of a child, and the child's two bits of it.
    pub(super) fn guide(&self, level: usize, child: usize) -> (&'w AtomicU64, u64, u64) {
        let full = 1 << (child % FAN);
        (self.word(level, child / FAN), full, full << DOUBT)
    }
}

/// Turns *full* into *in doubt*. False if there is nothing to turn, or others are at it.
fn raise_doubt(guide: &AtomicU64, full: u64, doubt: u64) -> bool {
    let mut seen = guide.load(Relaxed);
    loop {
        let mine = seen & (full | doubt) == full;
        // Also who changes nothing exchanges the word, and releases: whoever marks the child or
        // takes the doubt away after that must see the child as empty as we left it.
        let next = if mine { seen ^ (full | doubt) } else { seen };
        match guide.compare_exchange_weak(seen, next, Release, Relaxed) {
            Ok(_) => return mine,
            Err(now) => seen = now,
        }
    }
}
