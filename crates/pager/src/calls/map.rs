//! mmap: which mappings are taken, and how they are carved.

use libc::{
    MAP_32BIT, MAP_ANONYMOUS, MAP_FIXED, MAP_FIXED_NOREPLACE, MAP_GROWSDOWN, MAP_HUGETLB,
    MAP_LOCKED, MAP_NORESERVE, MAP_POPULATE, MAP_PRIVATE, MAP_STACK, MAP_TYPE,
};
use memtide_sys::{AddrRange, Prot};
use rustix::io::Errno;

use super::{Caller, Calls, Locked, Managed, Part, pages};
use crate::space::{Charge, Lock, PAGE, Run};

/// Mappings smaller than this stay the kernel's: the pool leases by 2 MiB, and small mappings
/// (thread-local tables, buffers of libraries) are many and short-lived. glibc's malloc draws its
/// line at the same size. The allocator's are taken all the same: it asks for so little only where
/// the pool has refused it more, and would go on for ever beside a pool that is full.
pub const LEAST_TAKEN: usize = 128 << 10;

/// The arguments of one mmap.
#[derive(Clone, Copy, Debug)]
pub struct Request {
    /// Address, or a hint.
    pub addr: usize,
    /// Bytes.
    pub len: usize,
    /// `PROT_*`.
    pub prot: i32,
    /// `MAP_*`.
    pub flags: i32,
    /// The file, or −1.
    pub fd: i32,
    /// Offset in the file.
    pub offset: i64,
}

impl Request {
    fn has(&self, flag: i32) -> bool {
        self.flags & flag != 0
    }

    /// The kernel prefers `MAP_FIXED_NOREPLACE` when both are given.
    fn is_fixed(&self) -> bool {
        self.has(MAP_FIXED) || self.has(MAP_FIXED_NOREPLACE)
    }

    /// The protections, if the mapping is private anonymous memory of a sort that the pool has.
    fn private_memory(&self) -> Option<Prot> {
        let other = MAP_GROWSDOWN | MAP_STACK | MAP_32BIT | MAP_HUGETLB;
        let is_private = self.flags & MAP_TYPE == MAP_PRIVATE && self.has(MAP_ANONYMOUS);
        if !is_private || self.has(other) {
            return None;
        }
        u32::try_from(self.prot).ok().and_then(Prot::from_bits)
    }

    /// The allocator reserves no more than it means to use, whatever flags it gives.
    fn charge(&self, caller: Caller, prot: Prot) -> Charge {
        if self.has(MAP_NORESERVE) && caller == Caller::Program {
            Charge::Exempt
        } else if prot.has(Prot::WRITE) {
            Charge::Charged
        } else {
            Charge::Uncharged
        }
    }
}

impl<M: Managed> Calls<'_, M> {
    /// `mmap`.
    ///
    /// # Errors
    /// The kernel's; `ENOMEM` when the pool promises no more.
    pub fn map(&self, request: Request) -> Result<usize, Errno> {
        if request.is_fixed() {
            return self.map_fixed(request);
        }
        let is_taken = request.len >= LEAST_TAKEN || self.caller == Caller::Allocator;
        match request.private_memory() {
            Some(prot) if is_taken && request.len > 0 => self.map_anywhere(request, prot),
            _ => self.forward(request),
        }
    }

    fn forward(&self, request: Request) -> Result<usize, Errno> {
        let Request { addr, len, prot, flags, fd, offset } = request;
        self.kernel.mmap(AddrRange::new(addr, len), prot, flags, fd, offset)
    }

    fn map_anywhere(&self, request: Request, prot: Prot) -> Result<usize, Errno> {
        let charge = request.charge(self.caller, prot);
        let len = pages(0, request.len)?.len;
        // The place is taken first, and for no charge: nobody else finds it meanwhile.
        let found = self.memory.locked(|locked| {
            let start = place(&locked, request.addr, len)?;
            let range = AddrRange::new(start, len);
            let needed = needed(&locked, range, charge);
            locked.space.carve(Run::private(range, Prot::NONE, Charge::Exempt));
            Some((range, needed))
        });
        // Addresses have run out, not memory.
        let Some((range, needed)) = found else { return self.forward(request) };
        let mut was_promised = false;
        let carved = self.promised(needed, range, |mut locked| {
            was_promised = true;
            locked.space.free(range);
            self.carve(&mut locked, Run::private(range, prot, charge))
        });
        if !was_promised {
            self.memory.locked(|locked| locked.space.free(range));
        }
        self.finish(request, range, carved?)?;
        Ok(range.start)
    }

    /// Carves `run`, whose pages are free, and makes them accessible; whether they are to be
    /// locked. When it fails they are free again.
    pub(super) fn carve(&self, locked: &mut Locked<'_>, run: Run) -> Result<Lock, Errno> {
        if run.prot != Prot::NONE
            && let Err(errno) = self.set_protection(locked, run.range, run.prot)
        {
            // Some of it may have changed already.
            let _ = self.set_protection(locked, run.range, Prot::NONE);
            return Err(errno);
        }
        let lock = locked.space.lock_new();
        locked.space.carve(Run { lock, ..run });
        Ok(lock)
    }

    /// What mmap does after mapping: locks, and populates.
    fn finish(&self, request: Request, range: AddrRange, lock: Lock) -> Result<(), Errno> {
        let lock = if request.has(MAP_LOCKED) { Lock::Locked } else { lock };
        if lock != Lock::Unlocked
            && let Err(errno) = self.lock_inside(range, lock)
            // mmap(2): a mapping that cannot be populated is still a mapping.
            && errno != Errno::NOMEM
        {
            self.unmap(range.start, range.len)?;
            return Err(Errno::AGAIN);
        }
        if request.has(MAP_POPULATE) {
            let advice = match request.prot & libc::PROT_WRITE {
                0 => libc::MADV_POPULATE_READ,
                _ => libc::MADV_POPULATE_WRITE,
            };
            // As mmap(2) has it: failing to populate is not failing to map.
            let _ = self.kernel.madvise(range, advice);
        }
        Ok(())
    }

    fn map_fixed(&self, request: Request) -> Result<usize, Errno> {
        let Ok(range) = pages(request.addr, request.len) else { return self.forward(request) };
        if range.intersection(self.memory.arena().range()).is_empty() {
            return self.forward(request);
        }
        if request.has(MAP_FIXED_NOREPLACE) {
            let inside = range.intersection(self.memory.arena().range());
            if !self.memory.locked(|locked| locked.space.is_free(inside)) {
                return Err(Errno::EXIST);
            }
        }
        for part in self.cut(range) {
            let range = part.range();
            let offset = i64::try_from(range.start - request.addr).map_err(|_| Errno::INVAL)?;
            let request = Request {
                addr: range.start,
                len: range.len,
                offset: request.offset + offset,
                ..request
            };
            match (part, request.private_memory()) {
                (Part::Outside(_), _) => self.forward(request).map(|_| ())?,
                (Part::Inside(range), Some(prot)) => self.replace(request, range, prot)?,
                (Part::Inside(range), None) => self.map_foreign(request, range)?,
            }
        }
        Ok(range.start)
    }

    /// Fresh private memory at a place in the arena, whatever was there.
    fn replace(&self, request: Request, range: AddrRange, prot: Prot) -> Result<(), Errno> {
        self.make_divisible(range, prot)?;
        let charge = request.charge(self.caller, prot);
        let needed = self.memory.locked(|locked| needed(&locked, range, charge));
        let lock = self.promised(needed, range, |mut locked| {
            self.give_up(&mut locked, range)?;
            self.carve(&mut locked, Run::private(range, prot, charge))
        })?;
        self.finish(request, range, lock)
    }

    /// Another mapping at a place in the arena. Its blocks become ordinary memory, which the
    /// pager leaves alone as long as the mapping is there.
    fn map_foreign(&self, request: Request, range: AddrRange) -> Result<(), Errno> {
        self.make_ordinary(range)?;
        let prot = Prot::from_bits((request.prot & 7) as u32).unwrap_or(Prot::NONE);
        // With NOREPLACE the kernel would find the reservation in its way.
        let flags = request.flags & !MAP_FIXED_NOREPLACE | MAP_FIXED;
        self.releasing(range, |locked| {
            let Request { prot: bits, fd, offset, .. } = request;
            // The kernel's mapping comes first: when it refuses, nothing has changed.
            self.kernel.mmap(range, bits, flags, fd, offset)?;
            locked.space.free(range);
            locked.space.carve(Run::foreign(range, prot));
            for block in locked.space.blocks_of(range) {
                self.memory.post_pins(block);
            }
            Ok(())
        })
    }
}

/// Where to put a mapping: where the program would like it, if that is free in the arena (an
/// allocator grows its extents so), or where it fits best.
fn place(locked: &Locked<'_>, hint: usize, len: usize) -> Option<usize> {
    let wanted = AddrRange::new(hint & !(PAGE - 1), len);
    if locked.space.range().contains_range(wanted) && locked.space.is_free(wanted) {
        return Some(wanted.start);
    }
    locked.space.find(len, PAGE)
}

/// Blocks that carving `range` anew would have to be promised.
fn needed(locked: &Locked<'_>, range: AddrRange, charge: Charge) -> usize {
    match charge {
        Charge::Charged => locked.space.block_count(range) - locked.space.charged_blocks(range),
        Charge::Uncharged | Charge::Exempt => 0,
    }
}
