//! munmap: of any range, across mappings and holes.

use memtide_sys::{AddrRange, Prot};
use rustix::io::Errno;

use super::{Calls, Content, Locked, Managed, Part, pages};
use crate::space::{Kind, Run};

impl<M: Managed> Calls<'_, M> {
    /// `munmap`.
    ///
    /// # Errors
    /// The kernel's, and its rules: `EINVAL` for nothing or an odd address.
    pub fn unmap(&self, start: usize, len: usize) -> Result<(), Errno> {
        let range = pages(start, len).map_err(|_| Errno::INVAL)?;
        if range.is_empty() {
            return Err(Errno::INVAL);
        }
        for part in self.cut(range) {
            match part {
                Part::Outside(range) => self.kernel.munmap(range)?,
                Part::Inside(range) => {
                    self.releasing(range, |mut locked| self.give_up(&mut locked, range))?;
                }
            }
        }
        Ok(())
    }

    /// Frees all that is carved in `range`: not accessible any more, and zero once carved again.
    ///
    /// # Errors
    /// The kernel's: then some of it is still carved.
    pub(super) fn give_up(&self, locked: &mut Locked<'_>, range: AddrRange) -> Result<(), Errno> {
        let mut pinned = Vec::new();
        let mut at = range.start;
        // By runs: each is freed before the next is looked at.
        while let Some(run) = next_run(locked, AddrRange::between(at, range.end())) {
            if run.is_foreign() || run.is_locked() {
                pinned.extend(locked.space.blocks_of(run.range));
            }
            match run.kind {
                Kind::Private => {
                    self.unlock_for_erasing(&run)?;
                    self.set_protection(locked, run.range, Prot::NONE)?;
                    self.erase(locked, run.range, Prot::NONE)?;
                }
                // In blocks of ordinary memory only: the reservation's like is what belongs there.
                Kind::Foreign | Kind::Advised | Kind::Lost => {
                    self.memory.arena().reserve_again(run.range)?;
                }
            }
            locked.space.free(run.range);
            at = run.range.end();
        }
        for block in pinned {
            self.memory.post_pins(block);
        }
        self.post_idle_in(locked, range);
        Ok(())
    }

    /// Tells of the blocks of `range` that nothing is carved out of any more.
    fn post_idle_in(&self, locked: &Locked<'_>, range: AddrRange) {
        for block in locked.space.blocks_of(range) {
            let is_behind = locked.contents.content(block) != Content::Nothing;
            if is_behind && locked.space.pages_carved(block) == 0 {
                self.memory.post_idle(block);
            }
        }
    }
}

/// The part in `range` of the first run that has one.
pub(super) fn next_run(locked: &Locked<'_>, range: AddrRange) -> Option<Run> {
    if range.is_empty() { None } else { locked.space.runs_within(range).next() }
}
