//! madvise: what changes content is done here, hints are taken as given.
//!
//! Advice that only asks the kernel to prefer something (huge pages, readahead, merging, dumps)
//! has no meaning for memory that moves between nodes, and splitting mappings for it would cost
//! more than it gives: it succeeds and does nothing. Advice that lasts and changes what fork does
//! is followed by the kernel, on memory made ordinary for it.

use libc::{
    MADV_COLD, MADV_COLLAPSE, MADV_DODUMP, MADV_DOFORK, MADV_DONTDUMP, MADV_DONTFORK,
    MADV_DONTNEED, MADV_FREE, MADV_HUGEPAGE, MADV_KEEPONFORK, MADV_MERGEABLE, MADV_NOHUGEPAGE,
    MADV_NORMAL, MADV_PAGEOUT, MADV_POPULATE_READ, MADV_POPULATE_WRITE, MADV_RANDOM,
    MADV_SEQUENTIAL, MADV_UNMERGEABLE, MADV_WILLNEED, MADV_WIPEONFORK,
};
use memtide_sys::{AddrRange, OnFault};
use rustix::io::Errno;

use super::{Caller, Calls, Content, Locked, Managed, Part, pages, unmap::next_run};
use crate::space::{Charge, Kind, Lock, Run};

/// `MADV_DONTNEED_LOCKED` (Linux 5.18): frees locked pages too.
const MADV_DONTNEED_LOCKED: i32 = 24;

/// What is to be done with pages that are not wanted.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Locks {
    /// Locked pages make the call fail.
    Respect,
    /// Locked pages are freed too.
    Ignore,
}

impl<M: Managed> Calls<'_, M> {
    /// `madvise`.
    ///
    /// # Errors
    /// The kernel's, and its rules: `ENOMEM` for holes, after the rest was done; `EINVAL` for
    /// advice that private anonymous memory cannot follow, or that is not known here.
    pub fn advise(&self, start: usize, len: usize, advice: i32) -> Result<(), Errno> {
        let range = pages(start, len).map_err(|_| Errno::INVAL)?;
        let mut result = Ok(());
        for part in self.cut(range) {
            let done = match part {
                Part::Outside(range) => self.kernel.madvise(range, advice),
                Part::Inside(range) => self.advise_inside(range, advice),
            };
            match done {
                // A hole is told at the end, as the kernel does.
                Ok(()) | Err(Errno::NOMEM) => result = result.and(done),
                Err(errno) => return Err(errno),
            }
        }
        result
    }

    fn advise_inside(&self, range: AddrRange, advice: i32) -> Result<(), Errno> {
        match advice {
            MADV_DONTNEED | MADV_FREE if self.caller == Caller::Allocator => {
                self.drop_retained(range, advice)
            }
            MADV_DONTNEED | MADV_FREE => self
                .memory
                .locked(|mut locked| self.drop_pages(&mut locked, range, advice, Locks::Respect)),
            MADV_DONTNEED_LOCKED => self
                .memory
                .locked(|mut locked| self.drop_pages(&mut locked, range, advice, Locks::Ignore)),
            MADV_NORMAL | MADV_RANDOM | MADV_SEQUENTIAL | MADV_WILLNEED | MADV_HUGEPAGE
            | MADV_NOHUGEPAGE | MADV_MERGEABLE | MADV_UNMERGEABLE | MADV_DONTDUMP | MADV_DODUMP
            | MADV_COLD | MADV_PAGEOUT | MADV_COLLAPSE => {
                self.memory.locked(|locked| holes(&locked, range))
            }
            // These wait for the pager: without the lock.
            MADV_POPULATE_READ | MADV_POPULATE_WRITE => {
                self.memory.locked(|locked| holes(&locked, range))?;
                self.kernel.madvise(range, advice)
            }
            MADV_DONTFORK | MADV_WIPEONFORK => {
                self.mark_advised(range, || self.kernel.madvise(range, advice))
            }
            MADV_DOFORK | MADV_KEEPONFORK => self.memory.locked(|locked| {
                let is_advised = locked.space.runs_within(range).any(|run| run.is_foreign());
                // What was never advised otherwise is so already.
                if is_advised {
                    self.kernel.madvise(range, advice)?
                }
                holes(&locked, range)
            }),
            _ => Err(Errno::INVAL),
        }
    }

    /// The allocator keeps the addresses of what it frees, for later. The pool's promise goes back
    /// with the memory; what is touched again is leased again, and counts from then on.
    fn drop_retained(&self, range: AddrRange, advice: i32) -> Result<(), Errno> {
        self.releasing(range, |mut locked| {
            self.drop_pages(&mut locked, range, advice, Locks::Respect)?;
            locked.space.change(range, |run| run.charge = Charge::Exempt);
            Ok(())
        })
    }

    fn drop_pages(
        &self,
        locked: &mut Locked<'_>,
        range: AddrRange,
        advice: i32,
        locks: Locks,
    ) -> Result<(), Errno> {
        let mut at = range.start;
        // By runs: what was lost is joined to its neighbours on the way.
        while let Some(run) = next_run(locked, AddrRange::between(at, range.end())) {
            at = run.range.end();
            if run.is_locked() && locks == Locks::Respect {
                return Err(Errno::INVAL);
            }
            match run.kind {
                Kind::Private => {
                    self.erase_locked(locked, &run)?;
                    self.post_emptied(locked, run.range);
                }
                Kind::Foreign | Kind::Advised => self.kernel.madvise(run.range, advice)?,
                Kind::Lost => self.replace_lost(locked, &run)?,
            }
        }
        holes(locked, range)
    }

    /// The allocator hands out `range`, whole pages, which nobody had: what of it was lost is fresh
    /// from now on, or, where there is no mapping to spare, stays lost.
    pub fn freshen(&self, range: AddrRange) {
        let range = range.intersection(self.memory.arena().range());
        if range.is_empty() || !range.is_page_aligned() {
            return;
        }
        self.memory.locked(|mut locked| {
            let runs = locked.space.runs_within(range);
            let lost: Vec<Run> = runs.filter(|run| run.kind == Kind::Lost).collect();
            for run in lost {
                let _ = self.replace_lost(&mut locked, &run);
            }
        });
    }

    /// Puts fresh memory, of the kernel's like the rest of its block, where content was lost: the
    /// program does not want it any more.
    fn replace_lost(&self, locked: &mut Locked<'_>, run: &Run) -> Result<(), Errno> {
        self.memory.arena().map_anonymous(run.range, run.prot)?;
        locked.space.change(run.range, |run| run.kind = Kind::Private);
        if run.lock == Lock::Unlocked {
            return Ok(());
        }
        self.memory.arena().lock(run.range, OnFault::Later)
    }

    /// Tells of the blocks of `range`, which may hold nothing any more.
    fn post_emptied(&self, locked: &Locked<'_>, range: AddrRange) {
        for block in locked.space.blocks_of(range) {
            if locked.contents.content(block) == Content::Shared {
                self.memory.post_idle(block);
            }
        }
    }

    /// Erases a run that may be locked; it is locked again afterwards, on fault.
    fn erase_locked(&self, locked: &Locked<'_>, run: &Run) -> Result<(), Errno> {
        self.unlock_for_erasing(run)?;
        self.erase(locked, run.range, run.prot)?;
        if run.lock == Lock::Unlocked {
            return Ok(());
        }
        // Populating now could wait for the pager, which would wait for us.
        self.memory.arena().lock(run.range, OnFault::Later)
    }

    /// Makes the carved parts of `range` ordinary memory, has `follow` tell the kernel, and marks
    /// them as what must stay where it is.
    ///
    /// # Errors
    /// `ENOMEM` for holes or when the memory could not be made ordinary; what `follow` says.
    pub(super) fn mark_advised(
        &self,
        range: AddrRange,
        follow: impl FnOnce() -> Result<(), Errno>,
    ) -> Result<(), Errno> {
        if range.is_empty() {
            return Ok(());
        }
        self.memory.locked(|locked| holes(&locked, range))?;
        self.make_ordinary(range)?;
        self.memory.locked(|locked| {
            follow()?;
            locked.space.change(range, |run| {
                if run.kind == Kind::Private {
                    run.kind = Kind::Advised;
                }
            });
            for block in locked.space.blocks_of(range) {
                self.memory.post_pins(block);
            }
            Ok(())
        })
    }
}

/// `ENOMEM` when not all of `range` is carved.
pub(super) fn holes(locked: &Locked<'_>, range: AddrRange) -> Result<(), Errno> {
    if locked.space.is_carved(range) { Ok(()) } else { Err(Errno::NOMEM) }
}
