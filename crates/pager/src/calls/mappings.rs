//! Protections of the mappings behind carved pages.
//!
//! A block of one huge page has one protection for all its pages: the union of what is asked for
//! them. Where that would let the program touch what it has protected, its calls make the block
//! ordinary first ([`Calls::make_divisible`]). Pages that it has unmapped in such a block stay
//! accessible until the rest is unmapped too: only a mistaken program notices, and taking the
//! block from the pool for every trimmed mapping would cost all of them.

use memtide_sys::{AddrRange, Prot};
use rustix::io::Errno;

use super::{Caller, Calls, Content, Locked, Managed};
use crate::space::{BLOCK, BlockIndex};

impl<M: Managed> Calls<'_, M> {
    /// Sets the protection of the mappings behind `range`, which is in the arena. What the space
    /// says of `range` itself is not looked at: it is changed before or after.
    pub(super) fn set_protection(
        &self,
        locked: &Locked<'_>,
        range: AddrRange,
        prot: Prot,
    ) -> Result<(), Errno> {
        for (part, content) in stretches(locked, range) {
            if content == Content::SharedHuge {
                for block in locked.space.blocks_of(part) {
                    let union = union_outside(locked, block, range, prot);
                    self.memory.arena().protect(locked.space.block_range(block), union)?;
                }
            } else {
                self.memory.arena().protect(part, prot)?;
            }
        }
        Ok(())
    }

    /// Makes sure that parts of blocks in `range` can have protections of their own, if `prot`
    /// takes away what other pages of the same huge page keep. Without the lock.
    ///
    /// # Errors
    /// `ENOMEM` when a block could not be made ordinary.
    pub(super) fn make_divisible(&self, range: AddrRange, prot: Prot) -> Result<(), Errno> {
        if self.caller == Caller::Allocator {
            return Ok(());
        }
        let ends = self.memory.locked(|locked| {
            let first = locked.space.block_at(range.start);
            let last = locked.space.block_at(range.end() - 1);
            [first, last].map(|block| {
                let is_huge = locked.contents.content(block) == Content::SharedHuge;
                let union = union_outside(&locked, block, range, prot);
                (is_huge && union != prot).then_some(block)
            })
        });
        for block in ends.into_iter().flatten() {
            if !self.memory.make_ordinary(block) {
                return Err(Errno::NOMEM);
            }
        }
        Ok(())
    }

    /// Makes all blocks of `range` ordinary memory. Without the lock.
    ///
    /// # Errors
    /// `ENOMEM` when one could not be.
    pub(super) fn make_ordinary(&self, range: AddrRange) -> Result<(), Errno> {
        let blocks = self.memory.locked(|locked| locked.space.blocks_of(range));
        for block in blocks {
            if !self.memory.make_ordinary(block) {
                return Err(Errno::NOMEM);
            }
        }
        Ok(())
    }
}

/// The protection that a block of one huge page needs when all of it that lies in `range` gets
/// `prot`.
fn union_outside(locked: &Locked<'_>, block: BlockIndex, range: AddrRange, prot: Prot) -> Prot {
    locked
        .space
        .runs_in(block)
        .filter(|run| !range.contains_range(run.range))
        .fold(prot, |union, run| union.with(run.prot))
}

/// Cuts `range` where what is behind it changes, in ascending order.
pub(super) fn stretches(
    locked: &Locked<'_>,
    range: AddrRange,
) -> impl Iterator<Item = (AddrRange, Content)> {
    let mut at = range.start;
    std::iter::from_fn(move || {
        if at >= range.end() {
            return None;
        }
        let start = at;
        let first = locked.space.block_at(at);
        let content = locked.contents.content(first);
        let mut end = locked.space.block_range(first).end();
        while end < range.end() && locked.contents.content(locked.space.block_at(end)) == content {
            end += BLOCK;
        }
        at = end;
        Some((AddrRange::between(start, end.min(range.end())), content))
    })
}
