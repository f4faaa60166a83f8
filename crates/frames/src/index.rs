//! A set of numbers that many cores change at once, and search in both directions.
//!
//! # The problem
//! Every list of pageblocks (the free ones of a zone, the partly free ones of a grade, and so on)
//! is asked for its lowest or highest member from a place on, and for one that no other core has
//! got yet. There may be tens of millions of numbers, and some two hundred lists in one mapping,
//! whose words start out zero and are never allocated, locked, or grown.
//!
//! # The idea
//! A hierarchy of bitmaps. A *leaf* word holds 64 numbers, one bit each, and is the only truth:
//! who clears a bit, and sees in the returned word that it was set, has taken that number, and
//! nobody else has. Above the leaves lie *guides*, words that say which of [`FAN`] words of the
//! level below are worth a look; the topmost level is a single word. A search climbs until a guide
//! shows something ahead and descends from there, and so reads a handful of words.
//!
//! A guide that is changed after its child is wrong in between. A set bit that leads to an empty
//! child costs a look; an unset bit that hides a member would make a pool with free memory refuse a
//! request. How that is prevented is told in [`guides`].
//!
//! # What holds
//! 1. *Always:* a member whose insertion has returned before a search begins, and that nobody
//!    removes, is worth a look in every guide above it. So **a search never misses it**, nor
//!    returns a number if such a member lies nearer. It does not wait, repeat, or fall back on
//!    anything, and reads no leaf twice.
//! 2. *At rest:* the guides are exact ([`Index::validate`]).
//! 3. Of several who remove a number, one is told that it did.
//! 4. [`Index::insert`] and [`Index::remove`] of numbers in one leaf are ordered, also if they find
//!    nothing to do: the later sees whatever the party of the earlier wrote before. (What fails
//!    after a mere load, such as [`Index::remove_mask`], is seen by nobody.)
//!
//! Adding to and removing from a leaf that stays non-empty costs one read-modify-write, and no
//! operation waits for another: each loop repeats only because somebody else got further.
//!
//! # What it refuses
//! To be a snapshot: what comes and goes during a search may or may not be found. To mend itself
//! if a party dies between leaf and guide: whoever attaches to such words calls
//! [`Index::repair`]. To keep neighbouring indexes on different lines of cache: the caller places
//! them.

use crate::primitive::{
    AtomicU64,
    Ordering::{Relaxed, SeqCst},
};

mod guides;
#[cfg(all(test, loom))]
mod model;
#[cfg(all(test, not(loom)))]
mod tests;

/// Numbers in a leaf.
const LEAF: u64 = 64;
/// Children of a guide; two in the model checker, which so sees three levels in six words.
const FAN: usize = 1 << FAN_LOG2;
const FAN_LOG2: u32 = if cfg!(loom) { 1 } else { 5 };
/// Most levels: enough for 2^31 numbers.
const LEVELS_MAX: usize = 6;

/// What all indexes of one length have in common: how many levels, and where each starts.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Shape {
    len: u64,
    levels: u8,
    /// The first word of each level, leaves first; from `levels` on, how many words there are.
    starts: [u32; LEVELS_MAX + 1],
}

impl Shape {
    /// The shape of an index of the numbers below `len`.
    pub(crate) const fn new(len: u64) -> Self {
        assert!(len <= LEAF << (FAN_LOG2 * (LEVELS_MAX as u32 - 1)), "too many numbers");
        let mut starts = [0; LEVELS_MAX + 1];
        let mut size = if len == 0 { 1 } else { len.div_ceil(LEAF) };
        let mut end = size;
        let mut levels = 1;
        while size > 1 {
            starts[levels] = end as u32;
            size = size.div_ceil(FAN as u64);
            end += size;
            levels += 1;
        }
        let mut level = levels;
        while level <= LEVELS_MAX {
            starts[level] = end as u32;
            level += 1;
        }
        Self { len, levels: levels as u8, starts }
    }

    /// Words of an index of this shape.
    #[inline]
    pub(crate) const fn words(&self) -> usize {
        self.starts[LEVELS_MAX] as usize
    }

    #[inline]
    const fn leaves(&self) -> usize {
        self.starts[1] as usize
    }

    #[inline]
    const fn levels(&self) -> usize {
        self.levels as usize
    }

    const fn words_of(&self, level: usize) -> usize {
        (self.starts[level + 1] - self.starts[level]) as usize
    }
}

/// An index: words, and how to read them. Words that are all zero are an empty index.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Index<'w> {
    words: &'w [AtomicU64],
    shape: &'w Shape,
}

impl<'w> Index<'w> {
    /// The index in these words, as many as its shape says.
    #[inline]
    pub(crate) fn new(words: &'w [AtomicU64], shape: &'w Shape) -> Self {
        debug_assert_eq!(words.len(), shape.words(), "words of an index");
        Self { words, shape }
    }

    // ---- The leaves ----
    //
    // Their changes are SeqCst, which costs no more than AcqRel on any machine we run on. The
    // acquire is what owning a number rests on, the release publishes what is said of it elsewhere.
    // The rest is for callers that insert or remove and then look at a word that another party
    // writes before it looks here: one of the two must see the other.

    /// Adds a number. False if it was there already.
    #[inline]
    pub(crate) fn insert(&self, at: u64) -> bool {
        let (leaf, bit) = self.place(at);
        let before = self.leaf_word(leaf).fetch_or(bit, SeqCst);
        self.filled(leaf);
        before & bit == 0
    }

    /// Adds a number that is not there, as only the caller may add it.
    #[inline(always)]
    pub(crate) fn put(&self, at: u64) {
        let (leaf, bit) = self.place(at);
        // A sum, where the bit is zero, is an `or` whose former value machines know to return.
        let word = self.leaf_word(leaf);
        if word.fetch_add(bit, SeqCst) & bit != 0 {
            word.fetch_sub(bit, SeqCst);
            panic!("{at} added to an index that had it");
        }
        self.filled(leaf);
    }

    /// Takes a number away. False if it was not there, or somebody else was quicker.
    #[inline]
    pub(crate) fn remove(&self, at: u64) -> bool {
        let (leaf, bit) = self.place(at);
        let before = self.leaf_word(leaf).fetch_and(!bit, SeqCst);
        if before == bit {
            self.emptied(1, leaf);
        }
        before & bit != 0
    }

    /// Whether a number is there.
    #[inline]
    pub(crate) fn contains(&self, at: u64) -> bool {
        let (leaf, bit) = self.place(at);
        self.leaf_word(leaf).load(SeqCst) & bit != 0
    }

    /// The 64 numbers from 64 × `word`, one bit each.
    #[inline]
    pub(crate) fn leaf(&self, word: u64) -> u64 {
        self.leaf_word(word as usize).load(SeqCst)
    }

    /// Takes the lowest of the 64 numbers from 64 × `word`.
    #[inline]
    pub(crate) fn take_in_leaf(&self, word: u64) -> Option<u64> {
        let leaf = word as usize;
        // Relaxed: a guess, which the exchange puts to the test.
        let bits = self.leaf_word(leaf).load(Relaxed);
        self.take_of::<Up>(leaf, bits)
    }

    /// Adds all numbers of a mask over the 64 from 64 × `word`, none of which was there.
    pub(crate) fn insert_mask(&self, word: u64, mask: u64) {
        let leaf = word as usize;
        let before = self.leaf_word(leaf).fetch_or(mask, SeqCst);
        assert_eq!(before & mask, 0, "numbers of leaf {word} inserted that were there");
        self.filled(leaf);
    }

    /// Takes all numbers of a mask over the 64 from 64 × `word`, or none if one is not there.
    pub(crate) fn remove_mask(&self, word: u64, mask: u64) -> bool {
        let leaf = word as usize;
        let bits = self.leaf_word(leaf);
        let mut seen = bits.load(SeqCst);
        while seen & mask == mask {
            match bits.compare_exchange_weak(seen, seen & !mask, SeqCst, SeqCst) {
                Ok(_) => {
                    if seen == mask {
                        self.emptied(1, leaf);
                    }
                    return true;
                }
                Err(now) => seen = now,
            }
        }
        false
    }

    /// Takes the nearest of these numbers of a leaf that is still there.
    #[inline]
    fn take_of<W: Way>(&self, leaf: usize, bits: u64) -> Option<u64> {
        let mut bits = bits;
        while bits != 0 {
            let place = W::nearest(bits);
            let before = self.leaf_word(leaf).fetch_and(!(1 << place), SeqCst);
            if before >> place & 1 != 0 {
                if before == 1 << place {
                    self.emptied(1, leaf);
                }
                return Some(leaf as u64 * LEAF + u64::from(place));
            }
            bits = before & W::beyond(place);
        }
        None
    }

    // ---- Searching ----
    //
    // Relaxed throughout: if a member's insertion happened before the search, no word can be read
    // as it was before that. What is found is a hint until somebody takes it.

    /// The smallest member that is not less than `at`.
    pub(crate) fn first_from(&self, at: u64) -> Option<u64> {
        let (leaf, bits) = self.search::<Up>(self.up(at)?)?;
        Some(leaf as u64 * LEAF + u64::from(Up::nearest(bits)))
    }

    /// The largest member that is not greater than `at`.
    pub(crate) fn last_to(&self, at: u64) -> Option<u64> {
        let (leaf, bits) = self.search::<Down>(self.down(at)?)?;
        Some(leaf as u64 * LEAF + u64::from(Down::nearest(bits)))
    }

    /// The smallest member.
    pub(crate) fn first(&self) -> Option<u64> {
        self.first_from(0)
    }

    /// The largest member.
    #[cfg(test)]
    pub(crate) fn last(&self) -> Option<u64> {
        self.last_to(u64::MAX)
    }

    /// Whether there is no member.
    #[cfg(test)]
    pub(crate) fn is_empty(&self) -> bool {
        self.first().is_none()
    }

    /// Takes the smallest member that is not less than `at`.
    pub(crate) fn take_first_from(&self, at: u64) -> Option<u64> {
        self.take::<Up>(self.up(at)?)
    }

    /// Takes the largest member that is not greater than `at`.
    pub(crate) fn take_last_to(&self, at: u64) -> Option<u64> {
        self.take::<Down>(self.down(at)?)
    }

    fn up(&self, at: u64) -> Option<u64> {
        (at < self.shape.len).then_some(at)
    }

    fn down(&self, at: u64) -> Option<u64> {
        Some(at.min(self.shape.len.checked_sub(1)?))
    }

    /// Goes on where it lost to somebody quicker: what it passed was not there, or is taken.
    fn take<W: Way>(&self, at: u64) -> Option<u64> {
        let (mut leaf, mut bits) = self.search::<W>(at)?;
        loop {
            if let Some(taken) = self.take_of::<W>(leaf, bits) {
                return Some(taken);
            }
            (leaf, bits) = self.search_beyond::<W>(leaf)?;
        }
    }

    /// The nearest leaf with a member from `at` on, and all such members of it.
    fn search<W: Way>(&self, at: u64) -> Option<(usize, u64)> {
        let leaf = (at / LEAF) as usize;
        let place = (at % LEAF) as u32;
        let bits = self.leaf_word(leaf).load(Relaxed) & (W::beyond(place) | 1 << place);
        if bits != 0 { Some((leaf, bits)) } else { self.search_beyond::<W>(leaf) }
    }

    /// The nearest leaf beyond this one that is not empty, and its members.
    fn search_beyond<W: Way>(&self, leaf: usize) -> Option<(usize, u64)> {
        // Of the level below `level`, all is searched up to and with `word`.
        let (mut level, mut word) = (1, leaf);
        while level < self.shape.levels() {
            let place = (word % FAN) as u32;
            word /= FAN;
            let mut ahead = self.worth_a_look(level, word) & W::beyond(place);
            while ahead != 0 {
                word = word * FAN + W::nearest(ahead) as usize;
                level -= 1;
                if level == 0 {
                    ahead = self.leaf_word(word).load(Relaxed);
                    if ahead != 0 {
                        return Some((word, ahead));
                    }
                } else {
                    ahead = self.worth_a_look(level, word);
                }
            }
            level += 1;
        }
        None
    }

    // ---- Statistics ----

    /// How many members there are. It reads every leaf.
    #[cfg(test)]
    pub(crate) fn count(&self) -> u64 {
        let leaves = &self.words[..self.shape.leaves()];
        leaves.iter().map(|leaf| u64::from(leaf.load(Relaxed).count_ones())).sum()
    }

    // ---- Places ----

    #[inline]
    fn place(&self, at: u64) -> (usize, u64) {
        debug_assert!(at < self.shape.len, "{at} of {}", self.shape.len);
        ((at / LEAF) as usize, 1 << (at % LEAF))
    }

    /// A leaf. Others than leaves are out of bounds: a wrong number cannot spoil a guide.
    #[inline]
    fn leaf_word(&self, leaf: usize) -> &'w AtomicU64 {
        &self.words[..self.shape.leaves()][leaf]
    }

    #[inline]
    fn word(&self, level: usize, word: usize) -> &'w AtomicU64 {
        &self.words[self.shape.starts[level] as usize + word]
    }
}

/// A direction of search within a word.
trait Way {
    /// The bits beyond this place; none of a guide's for its last.
    fn beyond(place: u32) -> u64;
    /// The place of the nearest of these bits, of which there is one.
    fn nearest(bits: u64) -> u32;
}

struct Up;
struct Down;

impl Way for Up {
    #[inline]
    fn beyond(place: u32) -> u64 {
        !1 << place
    }

    #[inline]
    fn nearest(bits: u64) -> u32 {
        bits.trailing_zeros()
    }
}

impl Way for Down {
    #[inline]
    fn beyond(place: u32) -> u64 {
        (1 << place) - 1
    }

    #[inline]
    fn nearest(bits: u64) -> u32 {
        63 - bits.leading_zeros()
    }
}
