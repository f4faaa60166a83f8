//! Making pages read as zero, and freeing the memory behind them.
//!
//! How depends on what is behind a block: a shared file is punched, the kernel's own memory is
//! discarded, and what cannot be freed by pages (a huge page, a file that a forked child still
//! reads) is overwritten.

use memtide_sys::{AddrRange, Prot};
use rustix::io::Errno;

use super::{Calls, Content, Locked, Managed, mappings::stretches};
use crate::space::Run;

impl<M: Managed> Calls<'_, M> {
    /// Makes `range`, which is carved as private memory with protection `prot` all over and is
    /// not locked, read as zero.
    pub(super) fn erase(
        &self,
        locked: &Locked<'_>,
        range: AddrRange,
        prot: Prot,
    ) -> Result<(), Errno> {
        let arena = self.memory.arena();
        for (part, content) in stretches(locked, range) {
            match content {
                Content::Nothing => {}
                Content::Anonymous => arena.discard_anonymous(part)?,
                Content::Shared => self.punch(part)?,
                Content::SharedHuge => self.erase_huge(locked, part, prot)?,
                Content::Frozen => {
                    // The copies go; what the file holds is overwritten by new ones.
                    arena.discard_anonymous(part)?;
                    arena.protect(part, Prot::READ_WRITE)?;
                    arena.zero_fill(part)?;
                    arena.protect(part, prot)?;
                }
            }
        }
        Ok(())
    }

    fn erase_huge(&self, locked: &Locked<'_>, range: AddrRange, prot: Prot) -> Result<(), Errno> {
        let arena = self.memory.arena();
        for block in locked.space.blocks_of(range) {
            let whole = locked.space.block_range(block);
            let part = whole.intersection(range);
            if part == whole {
                self.punch(whole)?;
            } else {
                arena.protect(whole, Prot::READ_WRITE)?;
                arena.zero_fill(part)?;
                self.set_protection(locked, part, prot)?;
            }
        }
        Ok(())
    }

    /// Punches pages that may be locked although the space does not say so: under `mlockall`
    /// with `MCL_FUTURE` the pager's new mappings are.
    fn punch(&self, range: AddrRange) -> Result<(), Errno> {
        let arena = self.memory.arena();
        match arena.punch(range) {
            Err(Errno::INVAL) => {
                arena.unlock(range)?;
                arena.punch(range)
            }
            other => other,
        }
    }

    /// Unlocks a run that is about to be erased: locked pages can be neither discarded nor
    /// punched.
    pub(super) fn unlock_for_erasing(&self, run: &Run) -> Result<(), Errno> {
        if run.is_locked() { self.memory.arena().unlock(run.range) } else { Ok(()) }
    }
}
