//! mlock and its like: the kernel locks, and what is locked is not moved.
//!
//! Locking is done twice. Populating the pages may fault to the pager, which puts a mapping of a
//! pageblock where the reservation was, and the lock went with the reservation; the second call
//! locks what is there now. In between nothing moves or is given back: the mark in the space is
//! set first.
//!
//! Whoever maps a block later, of which a part is marked locked on fault, locks that part.

use memtide_sys::{AddrRange, OnFault};
use rustix::io::Errno;

use super::{Calls, Managed, Part, advise::holes, pages};
use crate::space::Lock;

/// `MLOCK_ONFAULT`.
const MLOCK_ONFAULT: u32 = 1;

impl<M: Managed> Calls<'_, M> {
    /// `mlock2`; `mlock` is the same with no flags.
    ///
    /// # Errors
    /// The kernel's, and its rules: `ENOMEM` for holes.
    pub fn lock(&self, start: usize, len: usize, flags: u32) -> Result<(), Errno> {
        let lock = match flags {
            0 => Lock::Locked,
            MLOCK_ONFAULT => Lock::LockedOnFault,
            _ => return Err(Errno::INVAL),
        };
        for part in self.cut(enclosing(start, len)?) {
            match part {
                Part::Outside(range) => self.kernel.mlock2(range, flags)?,
                Part::Inside(range) => {
                    self.memory.locked(|locked| holes(&locked, range))?;
                    self.lock_inside(range, lock)?;
                }
            }
        }
        Ok(())
    }

    /// Locks what is carved in `range`.
    pub(super) fn lock_inside(&self, range: AddrRange, lock: Lock) -> Result<(), Errno> {
        self.mark(range, lock);
        let on_fault = match lock {
            Lock::Unlocked => return self.memory.arena().unlock(range),
            Lock::Locked => OnFault::Now,
            Lock::LockedOnFault => OnFault::Later,
        };
        let twice = || {
            self.memory.arena().lock(range, on_fault)?;
            self.memory.arena().lock(range, on_fault)
        };
        twice().inspect_err(|_| {
            // Whatever was locked on the way is not any more; nothing else can be done about it.
            let _ = self.memory.arena().unlock(range);
            self.mark(range, Lock::Unlocked);
        })
    }

    fn mark(&self, range: AddrRange, lock: Lock) {
        if range.is_empty() {
            return;
        }
        self.memory.locked(|locked| {
            locked.space.change(range, |run| run.lock = lock);
            for block in locked.space.blocks_of(range) {
                self.memory.post_pins(block);
            }
        });
    }

    /// `munlock`.
    ///
    /// # Errors
    /// The kernel's, and its rules: `ENOMEM` for holes.
    pub fn unlock(&self, start: usize, len: usize) -> Result<(), Errno> {
        for part in self.cut(enclosing(start, len)?) {
            match part {
                Part::Outside(range) => self.kernel.munlock(range)?,
                Part::Inside(range) => {
                    self.memory.locked(|locked| holes(&locked, range))?;
                    self.lock_inside(range, Lock::Unlocked)?;
                }
            }
        }
        Ok(())
    }

    /// `mlockall`.
    ///
    /// # Errors
    /// The kernel's. A program whose lock limit (`RLIMIT_MEMLOCK`) is below its address space is
    /// refused, and the arena counts as address space.
    pub fn lock_all(&self, flags: i32) -> Result<(), Errno> {
        let lock = match flags & libc::MCL_ONFAULT {
            0 => Lock::Locked,
            _ => Lock::LockedOnFault,
        };
        // What is locked must not move from the moment on that the kernel says it is.
        let carved = if flags & libc::MCL_CURRENT != 0 { self.carved() } else { Vec::new() };
        for &range in &carved {
            self.mark(range, lock);
        }
        let before = self.memory.locked(|locked| {
            let before = locked.space.lock_new();
            if flags & libc::MCL_FUTURE != 0 {
                locked.space.set_lock_new(lock);
            }
            before
        });
        if let Err(errno) = self.kernel.mlockall(flags) {
            for &range in &carved {
                self.mark(range, Lock::Unlocked);
            }
            self.memory.locked(|locked| locked.space.set_lock_new(before));
            return Err(errno);
        }
        for range in carved {
            // Populating may have put other mappings there; see the module.
            self.lock_inside(range, lock)?;
        }
        Ok(())
    }

    /// `munlockall`.
    ///
    /// # Errors
    /// The kernel's.
    pub fn unlock_all(&self) -> Result<(), Errno> {
        self.kernel.munlockall()?;
        self.memory.locked(|locked| locked.space.set_lock_new(Lock::Unlocked));
        for range in self.carved() {
            self.mark(range, Lock::Unlocked);
        }
        Ok(())
    }

    fn carved(&self) -> Vec<AddrRange> {
        self.memory.locked(|locked| locked.space.iter().map(|run| run.range).collect())
    }
}

/// The pages that `len` bytes from `start` lie in: mlock, unlike its relatives, takes any address.
fn enclosing(start: usize, len: usize) -> Result<AddrRange, Errno> {
    let first = start & !(crate::space::PAGE - 1);
    pages(first, len.checked_add(start - first).ok_or(Errno::INVAL)?).map_err(|_| Errno::INVAL)
}
