//! mremap: shrinking, growing, moving.
//!
//! The kernel moves page tables; a managed block cannot be moved so, because what is behind it
//! belongs to its place. Pages are copied instead, and given up piece by piece, so that moving a
//! large mapping takes little memory on top. Copying faults targets in, which waits for the
//! pager: it is done without the lock. Who changes a mapping in one thread while another moves it
//! gets what he deserves, as with the kernel.

use libc::{MREMAP_DONTUNMAP, MREMAP_FIXED, MREMAP_MAYMOVE};
use memtide_sys::{AddrRange, Prot};
use rustix::io::Errno;

use super::{Calls, Content, Locked, Managed, pages, promise::as_count};
use crate::space::{BLOCK, Charge, Kind, PAGE, Run};

/// The arguments of one mremap.
#[derive(Clone, Copy, Debug)]
pub struct Request {
    /// Where the mapping is.
    pub addr: usize,
    /// Bytes of it.
    pub len: usize,
    /// Bytes that it shall have.
    pub new_len: usize,
    /// `MREMAP_*`.
    pub flags: i32,
    /// Where it shall be, with `MREMAP_FIXED`.
    pub target: usize,
}

impl Request {
    fn has(&self, flag: i32) -> bool {
        self.flags & flag != 0
    }

    fn is_sensible(&self) -> bool {
        let known = MREMAP_MAYMOVE | MREMAP_FIXED | MREMAP_DONTUNMAP;
        let moves = self.has(MREMAP_MAYMOVE);
        self.flags & !known == 0
            && (moves || !self.has(MREMAP_FIXED | MREMAP_DONTUNMAP))
            && (!self.has(MREMAP_DONTUNMAP) || self.len == self.new_len)
            && self.new_len != 0
    }
}

/// A mapping on its way.
#[derive(Clone, Copy)]
struct Journey {
    /// What is moved.
    from: AddrRange,
    /// Where to; may be longer, or shorter.
    to: AddrRange,
    /// The attributes of what is moved.
    run: Run,
    /// Whether the old place stays mapped, empty.
    keeps_old: bool,
}

impl<M: Managed> Calls<'_, M> {
    /// `mremap`.
    ///
    /// # Errors
    /// The kernel's, and its rules: `EFAULT` for ranges that are not one mapping. `ENOMEM` also
    /// for moving foreign mappings out of the arena: a hole there could not be closed in time; and
    /// for moving or growing what was lost: there is nothing to move.
    pub fn remap(&self, request: Request) -> Result<usize, Errno> {
        let arena = self.memory.arena().range();
        let old = AddrRange::new(request.addr, request.len);
        let target = AddrRange::new(request.target, request.new_len);
        let is_old_ours = !arena.intersection(old).is_empty() || arena.contains(request.addr);
        let is_target_ours = request.has(MREMAP_FIXED) && !arena.intersection(target).is_empty();
        match (is_old_ours, is_target_ours) {
            (false, false) => self.kernel_remap(request),
            (false, true) => self.remap_into_arena(request),
            (true, _) => self.remap_ours(request),
        }
    }

    fn kernel_remap(&self, request: Request) -> Result<usize, Errno> {
        let old = AddrRange::new(request.addr, request.len);
        self.kernel.mremap(old, request.new_len, request.flags, request.target)
    }

    /// Another mapping moves into the arena: it is foreign there.
    fn remap_into_arena(&self, request: Request) -> Result<usize, Errno> {
        let target = pages(request.target, request.new_len).map_err(|_| Errno::INVAL)?;
        if target.is_empty() || !self.memory.arena().contains_range(target) {
            return Err(Errno::INVAL);
        }
        self.make_ordinary(target)?;
        self.releasing(target, |locked| {
            let at = self.kernel_remap(request)?;
            locked.space.free(target);
            // What it allows is not known; it is never consulted for foreign mappings.
            locked.space.carve(Run::foreign(target, Prot::NONE));
            for block in locked.space.blocks_of(target) {
                self.memory.post_pins(block);
            }
            Ok(at)
        })
    }

    fn remap_ours(&self, request: Request) -> Result<usize, Errno> {
        if !request.is_sensible() || !request.addr.is_multiple_of(PAGE) {
            return Err(Errno::INVAL);
        }
        let old = pages(request.addr, request.len).map_err(|_| Errno::INVAL)?;
        let new_len = pages(0, request.new_len).map_err(|_| Errno::NOMEM)?.len;
        if old.is_empty() {
            // Only for shared mappings: the old one would stay.
            return Err(Errno::INVAL);
        }
        let run = self.one_mapping(old)?;
        let fixed = if request.has(MREMAP_FIXED) {
            let target = pages(request.target, new_len).map_err(|_| Errno::INVAL)?;
            if !target.intersection(old).is_empty() {
                return Err(Errno::INVAL);
            }
            Some(target)
        } else {
            None
        };
        let stays = fixed.is_none() && !request.has(MREMAP_DONTUNMAP);
        if stays && new_len <= old.len {
            if new_len < old.len {
                self.unmap(old.start + new_len, old.len - new_len)?;
            }
            return Ok(old.start);
        }
        if run.is_foreign() {
            return Err(Errno::NOMEM);
        }
        if stays && self.grow_in_place(old, new_len, run)? {
            return Ok(old.start);
        }
        if !request.has(MREMAP_MAYMOVE) {
            return Err(Errno::NOMEM);
        }
        let keeps_old = request.has(MREMAP_DONTUNMAP);
        self.relocate(old, new_len, fixed, run, keeps_old)
    }

    /// The attributes of `range`, all of which must be one mapping.
    fn one_mapping(&self, range: AddrRange) -> Result<Run, Errno> {
        let run = self.memory.locked(|locked| locked.space.run_at(range.start));
        run.filter(|run| run.range.contains_range(range)).ok_or(Errno::FAULT)
    }

    /// Grows a mapping where it is, if the pages behind it are free.
    fn grow_in_place(&self, old: AddrRange, new_len: usize, run: Run) -> Result<bool, Errno> {
        let more = AddrRange::between(old.end(), old.start.saturating_add(new_len));
        let blank = Run::private(more, Prot::NONE, Charge::Exempt);
        let needed = self.memory.locked(|locked| {
            let is_free = self.memory.arena().contains_range(more) && locked.space.is_free(more);
            is_free.then(|| {
                let blocks = locked.space.block_count(more) - locked.space.charged_blocks(more);
                locked.space.carve(blank);
                if run.is_charged() { blocks } else { 0 }
            })
        });
        let Some(needed) = needed else { return Ok(false) };
        let mut was_promised = false;
        let done = self.promised(needed, more, |mut locked| {
            was_promised = true;
            locked.space.free(more);
            self.carve(&mut locked, Run { range: more, ..run }).map(|_| ())
        });
        if !was_promised {
            self.memory.locked(|locked| locked.space.free(more));
        }
        done?;
        if run.is_locked() {
            // As the kernel: a mapping that cannot be locked as a whole has still grown.
            let _ = self.lock_inside(more, run.lock);
        }
        Ok(true)
    }

    fn relocate(
        &self,
        old: AddrRange,
        new_len: usize,
        fixed: Option<AddrRange>,
        run: Run,
        keeps_old: bool,
    ) -> Result<usize, Errno> {
        let arena = self.memory.arena();
        let in_arena = fixed.is_none_or(|target| arena.contains_range(target));
        if fixed.is_some_and(|target| !in_arena && !arena.range().intersection(target).is_empty()) {
            return Err(Errno::INVAL);
        }
        // What the old place frees pays for most of the new one; the rest is promised first.
        let freed = if keeps_old { 0 } else { old.len / BLOCK };
        let more = (new_len / BLOCK + 2).saturating_sub(freed);
        let more = if run.is_charged() && in_arena { as_count(more) } else { 0 };
        if more > 0 && !self.memory.promise(more) {
            return Err(Errno::NOMEM);
        }
        let target = match (fixed, in_arena) {
            (Some(target), true) => self.clear_target(target, run),
            (Some(target), false) => self.map_outside(target, run),
            (None, _) => self.find_target(new_len, run),
        };
        let journey = target.map(|to| Journey { from: old, to, run, keeps_old });
        match journey.and_then(|journey| self.travel(journey, in_arena)) {
            Ok((at, charged)) => {
                self.settle(charged - more);
                Ok(at)
            }
            Err(errno) => {
                self.settle(-more);
                Err(errno)
            }
        }
    }

    /// Carves a place for a mapping of `len` bytes, writable for the copy and not charged yet.
    fn find_target(&self, len: usize, run: Run) -> Result<AddrRange, Errno> {
        self.memory.locked(|mut locked| {
            let start = locked.space.find(len, PAGE).ok_or(Errno::NOMEM)?;
            let range = AddrRange::new(start, len);
            self.carve_target(&mut locked, range, run)
        })
    }

    fn clear_target(&self, target: AddrRange, run: Run) -> Result<AddrRange, Errno> {
        self.make_divisible(target, run.prot)?;
        self.releasing(target, |mut locked| {
            self.give_up(&mut locked, target)?;
            self.carve_target(&mut locked, target, run)
        })
    }

    fn carve_target(
        &self,
        locked: &mut Locked<'_>,
        range: AddrRange,
        run: Run,
    ) -> Result<AddrRange, Errno> {
        let prot = run.prot.with(Prot::READ_WRITE);
        self.carve(locked, Run::private(range, prot, Charge::Exempt))?;
        Ok(range)
    }

    fn map_outside(&self, target: AddrRange, run: Run) -> Result<AddrRange, Errno> {
        let prot = run.prot.with(Prot::READ_WRITE).bits() as i32;
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_FIXED;
        self.kernel.mmap(target, prot, flags, -1, 0)?;
        Ok(target)
    }

    /// Copies, gives up the old place, and sets what the new one is; where it is, and by how many
    /// blocks the charge grew.
    fn travel(&self, journey: Journey, in_arena: bool) -> Result<(usize, i64), Errno> {
        let Journey { from, to, run, keeps_old } = journey;
        let mut charged = 0;
        if !run.prot.has(Prot::READ) {
            let readable = run.prot.with(Prot::READ);
            self.memory.locked(|locked| self.set_protection(&locked, from, readable))?;
        }
        let mut at = from.start;
        while at < from.end() {
            // By blocks: a block that holds nothing is not read.
            let end = (at / BLOCK + 1) * BLOCK;
            let piece = AddrRange::between(at, end.min(from.end()));
            let kept = piece.intersection(AddrRange::new(from.start, to.len));
            let is_empty = self.memory.locked(|locked| {
                locked.contents.content(locked.space.block_at(at)) == Content::Nothing
            });
            if !is_empty && !kept.is_empty() {
                self.kernel.copy_pages(kept, to.start + (at - from.start))?;
            }
            charged += self.leave(piece, run, keeps_old)?;
            at = piece.end();
        }
        if in_arena {
            charged += self.arrive(to, run)?;
        } else {
            self.kernel.mprotect(to, run.prot.bits() as i32)?;
        }
        Ok((to.start, charged))
    }

    /// Gives up a piece of the old place; by how much that changes the charge.
    fn leave(&self, piece: AddrRange, run: Run, keeps_old: bool) -> Result<i64, Errno> {
        self.memory.locked(|mut locked| {
            if keeps_old {
                let part = Run { range: piece, ..run };
                self.unlock_for_erasing(&part)?;
                self.erase(&locked, piece, run.prot)?;
                self.set_protection(&locked, piece, run.prot)?;
                locked.space.change(piece, |run| run.lock = crate::space::Lock::Unlocked);
                return Ok(0);
            }
            let before = as_count(locked.space.charged_blocks(piece));
            self.give_up(&mut locked, piece)?;
            Ok(as_count(locked.space.charged_blocks(piece)) - before)
        })
    }

    /// Gives the new place its attributes; by how much that changes the charge.
    fn arrive(&self, to: AddrRange, run: Run) -> Result<i64, Errno> {
        let charged = self.memory.locked(|locked| {
            let before = as_count(locked.space.charged_blocks(to));
            self.set_protection(&locked, to, run.prot)?;
            locked.space.change(to, |new| {
                *new = Run { range: new.range, kind: Kind::Private, ..run };
            });
            Ok(as_count(locked.space.charged_blocks(to)) - before)
        })?;
        if run.is_locked() {
            let _ = self.lock_inside(to, run.lock);
        }
        Ok(charged)
    }
}
