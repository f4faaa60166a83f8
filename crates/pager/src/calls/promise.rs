//! Asking the pool before memory becomes writable.
//!
//! A program may be refused memory when it asks for it, never when it touches it. So the blocks
//! that a call will charge are counted and promised first, without the lock (the answer is a round
//! trip to the daemon), then the call is done, and what was promised too much is given back.
//! Between counting and doing, another thread may charge or free a page of the same outermost
//! blocks: the difference, at most two blocks a call, is settled without asking again.

use memtide_sys::AddrRange;
use rustix::io::Errno;

use super::{Calls, Locked, Managed};

impl<M: Managed> Calls<'_, M> {
    /// Has `needed` blocks promised, runs `work` with the lock held, and settles what the charges
    /// of the blocks of `range` really became.
    ///
    /// # Errors
    /// `ENOMEM` when the pool refuses, and whatever `work` says.
    pub(super) fn promised<R>(
        &self,
        needed: usize,
        range: AddrRange,
        work: impl FnOnce(Locked<'_>) -> Result<R, Errno>,
    ) -> Result<R, Errno> {
        let needed = as_count(needed);
        if needed > 0 && !self.memory.promise(needed) {
            return Err(Errno::NOMEM);
        }
        let (result, became) = self.memory.locked(|locked| charged_by(locked, range, work));
        self.settle(became - needed);
        result
    }

    /// Runs `work`, which charges nothing, with the lock held, and gives back promises for what
    /// it frees of the blocks of `range`.
    pub(super) fn releasing<R>(&self, range: AddrRange, work: impl FnOnce(Locked<'_>) -> R) -> R {
        let (result, became) = self.memory.locked(|locked| charged_by(locked, range, work));
        self.settle(became);
        result
    }

    /// Corrects the promise by `by` blocks.
    pub(super) fn settle(&self, by: i64) {
        if by != 0 {
            // More than was asked for happens only in the race above, and is done already.
            let _ = self.memory.promise(by);
        }
    }
}

/// Runs `work`; by how many blocks the charge of the blocks of `range` grew.
fn charged_by<R>(
    locked: Locked<'_>,
    range: AddrRange,
    work: impl FnOnce(Locked<'_>) -> R,
) -> (R, i64) {
    let Locked { space, contents } = locked;
    let before = as_count(space.charged_blocks(range));
    let result = work(Locked { space, contents });
    (result, as_count(space.charged_blocks(range)) - before)
}

/// A number of blocks, which is far below 2^63.
pub(super) fn as_count(blocks: usize) -> i64 {
    i64::try_from(blocks).unwrap_or(i64::MAX)
}
