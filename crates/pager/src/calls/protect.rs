//! mprotect: of any carved range.

use memtide_sys::{AddrRange, Prot};
use rustix::io::Errno;

use super::{Calls, Locked, Managed, Part, pages};
use crate::space::{Charge, Kind};

/// `PROT_SEM`: the kernel accepts and ignores it.
const PROT_SEM: i32 = 8;

impl<M: Managed> Calls<'_, M> {
    /// `mprotect`.
    ///
    /// # Errors
    /// The kernel's, and its rules: `ENOMEM` from the first hole on; `ENOMEM` too when memory
    /// would become writable that the pool does not promise.
    pub fn protect(&self, start: usize, len: usize, prot: i32) -> Result<(), Errno> {
        let range = pages(start, len)?;
        for part in self.cut(range) {
            match part {
                Part::Outside(range) => self.kernel.mprotect(range, prot)?,
                Part::Inside(range) => {
                    let bits = u32::try_from(prot & !PROT_SEM).ok();
                    let prot = bits.and_then(Prot::from_bits).ok_or(Errno::INVAL)?;
                    self.protect_inside(range, prot)?;
                }
            }
        }
        Ok(())
    }

    fn protect_inside(&self, range: AddrRange, prot: Prot) -> Result<(), Errno> {
        self.make_divisible(range, prot)?;
        let is_writable = prot.has(Prot::WRITE);
        let needed = if is_writable {
            self.memory
                .locked(|locked| locked.space.blocks_to_charge(carved_from_start(&locked, range)))
        } else {
            0
        };
        self.promised(needed, range, |mut locked| {
            let carved = carved_from_start(&locked, range);
            self.protect_carved(&mut locked, carved, prot)?;
            if carved == range { Ok(()) } else { Err(Errno::NOMEM) }
        })
    }

    fn protect_carved(
        &self,
        locked: &mut Locked<'_>,
        range: AddrRange,
        prot: Prot,
    ) -> Result<(), Errno> {
        if range.is_empty() {
            return Ok(());
        }
        let is_plain = !locked.space.runs_within(range).any(|run| run.is_foreign());
        if is_plain {
            self.set_protection(locked, range, prot)?;
        } else {
            let bits = prot.bits() as i32;
            for run in locked.space.runs_within(range) {
                match run.kind {
                    Kind::Private => self.set_protection(locked, run.range, prot)?,
                    // The kernel knows what a file allows.
                    Kind::Foreign | Kind::Advised | Kind::Lost => {
                        self.kernel.mprotect(run.range, bits)?;
                    }
                }
            }
        }
        locked.space.change(range, |run| {
            run.prot = prot;
            if prot.has(Prot::WRITE) && run.charge == Charge::Uncharged {
                run.charge = Charge::Charged;
            }
        });
        Ok(())
    }

    /// `pkey_mprotect` with a key: the kernel keeps keys by mapping, so the memory becomes
    /// ordinary.
    ///
    /// # Errors
    /// As [`Calls::protect`].
    pub fn protect_with_key(
        &self,
        start: usize,
        len: usize,
        prot: i32,
        key: i32,
    ) -> Result<(), Errno> {
        let range = pages(start, len)?;
        let set = |range| self.kernel.pkey_mprotect(range, prot, key);
        for part in self.cut(range) {
            match part {
                Part::Outside(range) => set(range)?,
                Part::Inside(range) => {
                    self.protect(range.start, range.len, prot)?;
                    self.mark_advised(range, || set(range))?;
                }
            }
        }
        Ok(())
    }
}

/// The part of `range` before its first hole.
pub(super) fn carved_from_start(locked: &Locked<'_>, range: AddrRange) -> AddrRange {
    let mut end = range.start;
    for run in locked.space.runs_within(range) {
        if run.range.start != end {
            break;
        }
        end = run.range.end();
    }
    AddrRange::between(range.start, end)
}
