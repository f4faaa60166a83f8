//! The record of a core: its cache, and what it counts.
//!
//! All of it is words of the metadata, so that others can look (and, holding the lock, take the
//! pageblocks away). Only the core itself touches its masks, with plain loads and stores.
//!
//! | words | |
//! |---|---|
//! | `IN_USE` | whether somebody has the core |
//! | `LOCK` | held while pageblocks are searched, and by others who take them away |
//! | `SUMMONS` | what others want of the core; looked at in every call |
//! | `CACHED` | frames in the masks |
//! | `RETURN` | a word of frames that were given back, and which of them |
//! | `HOME` | the word of the index of free pageblocks where the last was found |
//! | `ACTIVE`, `ACTIVE_WORD` | the mask that a frame was last taken of, and its word |
//! | `SLOTS` | one for each kind of request: frames taken ahead, and the pageblock they are of |
//! | `FREED` | frames released less frames taken, by zone, not yet folded |
//! | `CROSSING` | how each zone stood, and which change was not asked for yet |

use crate::{
    layout::RECORD,
    primitive::{AtomicU64, Ordering::*, spin},
    request::{Movability, Want},
    zone::Zone,
};

pub(crate) const IN_USE: usize = 0;
pub(crate) const LOCK: usize = 1;
pub(crate) const SUMMONS: usize = 2;
pub(crate) const CACHED: usize = 3;
/// The number of the word plus one, and its mask.
pub(crate) const RETURN: usize = 4;
pub(crate) const HOME: usize = 6;
/// The mask that a frame was last taken of, by its place, and its word plus one.
pub(crate) const ACTIVE: usize = 7;
pub(crate) const ACTIVE_WORD: usize = 49;
const SLOTS: usize = 8;
pub(crate) const FREED: usize = 32;
pub(crate) const CROSSING: usize = 48;

/// Words of a slot: the mask of frames; their word plus one; the pageblock plus one; its zone.
pub(crate) mod slot {
    pub(crate) const MASK: usize = 0;
    pub(crate) const WORD: usize = 1;
    pub(crate) const PAGEBLOCK: usize = 2;
    pub(crate) const ZONE: usize = 3;
    pub(crate) const LENGTH: usize = 4;
}

/// How many kinds of request have a slot of their own.
pub(crate) const SLOT_COUNT: usize = 2 * Movability::COUNT;

const _: () = assert!(SLOTS + SLOT_COUNT * slot::LENGTH <= FREED);
const _: () = assert!(FREED + Zone::COUNT <= CROSSING && ACTIVE_WORD < RECORD);

/// Give back what is cached.
pub(crate) const DRAIN: u64 = 1;
/// Look at each frame: some that are taken or cached are to be retired.
pub(crate) const CAREFUL: u64 = 2;

/// Where the slot of a kind of request starts.
#[inline(always)]
pub(crate) const fn slot_of(movability: Movability, want: Want) -> usize {
    let kind =
        movability as usize + if matches!(want, Want::Exmem) { Movability::COUNT } else { 0 };
    SLOTS + kind * slot::LENGTH
}

/// Where each slot starts.
pub(crate) fn slots() -> impl Iterator<Item = usize> {
    (0..SLOT_COUNT).map(|kind| SLOTS + kind * slot::LENGTH)
}

/// The kind of request whose slot starts here.
pub(crate) const fn movability_of(slot: usize) -> Movability {
    let kind = (slot - SLOTS) / slot::LENGTH % Movability::COUNT;
    Movability::from_bits(kind as u64)
}

/// A core's pageblocks, held for as long as this lives.
///
/// Nobody waits for another lock while it has one, so nobody waits in a circle.
pub(crate) struct Guard<'f>(&'f AtomicU64);

impl<'f> Guard<'f> {
    pub(crate) fn new(record: &'f [AtomicU64; RECORD]) -> Self {
        loop {
            if let Some(guard) = Self::attempt(record) {
                return guard;
            }
            spin();
        }
    }

    pub(crate) fn attempt(record: &'f [AtomicU64; RECORD]) -> Option<Self> {
        let lock = &record[LOCK];
        // Who waits stores nothing. And a guard made in vain would release the lock of who has it.
        lock.compare_exchange(0, 1, Acquire, Relaxed).is_ok().then(|| Self(lock))
    }
}

impl Drop for Guard<'_> {
    fn drop(&mut self) {
        self.0.store(0, Release);
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    /// A `Guard` was made, and dropped again, also when the lock was somebody else's.
    #[test]
    fn who_does_not_get_the_lock_does_not_release_it() {
        let record = [const { AtomicU64::new(0) }; RECORD];
        let guard = Guard::new(&record);
        for _ in 0..2 {
            assert!(Guard::attempt(&record).is_none());
        }
        drop(guard);
        assert!(Guard::attempt(&record).is_some());
    }
}
