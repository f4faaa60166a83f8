//! Blocks that the program no longer uses go back to the pool.
//!
//! Freed memory is often wanted again at once, so a block is looked at only after
//! [`LOOK_AFTER`]. Looking is safe against a racing first write: the block is protected first,
//! then looked at, and a writer that waits finds either its page or the reservation.

use std::time::{Duration, Instant};

use memtide_proto::FromProgram;
use memtide_sys::Prot;
use memtide_units::{Extent, Pageblock};
use rustix::io::Errno;

use crate::{
    blocks::{Block, Frame},
    memory::State,
    pager::Pager,
    space::BlockIndex,
    touch::parts,
};

/// How long a block stays after it became idle.
pub const LOOK_AFTER: Duration = Duration::from_millis(50);

/// A block to look at.
#[derive(Clone, Copy, Debug)]
pub struct IdleBlock {
    /// Which.
    pub block: BlockIndex,
    /// When.
    pub look_at: Instant,
}

impl Pager {
    pub(crate) fn look_at_later(&mut self, block: BlockIndex) {
        if !self.idle.iter().any(|idle| idle.block == block) {
            self.idle.push_back(IdleBlock { block, look_at: Instant::now() + LOOK_AFTER });
        }
    }

    pub(crate) fn look_at_idle(&mut self, now: Instant) {
        if self.forking {
            return;
        }
        let mut released = Vec::new();
        let memory = self.memory;
        while let Some(idle) = self.idle.front().copied().filter(|idle| idle.look_at <= now) {
            self.idle.pop_front();
            let mut state = memory.lock_as_pager();
            released.extend(self.give_back_if_empty(&mut state, idle.block));
        }
        self.release(&Extent::from_blocks(released));
    }

    /// Puts the reservation back behind a block that holds nothing; the pageblock that this frees
    /// is no longer mapped by us.
    pub(crate) fn give_back_if_empty(
        &mut self,
        state: &mut State,
        block: BlockIndex,
    ) -> Option<Pageblock> {
        if state.space.has_foreign(block) {
            return None;
        }
        let uncarved = state.space.pages_carved(block) == 0;
        let freed = match state.blocks.get(block) {
            Block::Mapped(frame) => {
                if state.space.is_locked(block) || !self.is_empty(block, frame, uncarved) {
                    return None;
                }
                Some(frame.pageblock)
            }
            Block::Frozen(frame) if uncarved => Some(frame.pageblock),
            Block::Ordinary if uncarved => None,
            // A foreign mapping may have taken the registration with it.
            Block::Reserved if uncarved => None,
            _ => return None,
        };
        if self.put_reservation(state, block).is_err() {
            return None;
        }
        freed
    }

    /// Whether a mapped block holds no data. If so it is left write-protected.
    fn is_empty(&mut self, block: BlockIndex, frame: Frame, uncarved: bool) -> bool {
        let range = self.range_of(block);
        let arena = self.memory.arena();
        // Most are not, and need not be disturbed to see it.
        let looks_empty = uncarved || !frame.is_huge && self.holds_no_data(frame);
        if !looks_empty || self.uffd.protect(arena, range).is_err() {
            return false;
        }
        let empty = uncarved || self.holds_no_data(frame);
        if !empty {
            let _ = self.uffd.unprotect(arena, range);
        }
        empty
    }

    fn holds_no_data(&mut self, frame: Frame) -> bool {
        let mut data = std::mem::take(&mut self.scratch.data);
        let place = self.nodes.place(frame.pageblock);
        let empty = place.is_some_and(|place| place.data(&mut data).is_ok() && data.is_empty());
        self.scratch.data = data;
        empty
    }

    /// Maps the reservation over a block again, whatever was there, and wakes who waits.
    fn put_reservation(&mut self, state: &mut State, block: BlockIndex) -> Result<(), Errno> {
        let range = self.range_of(block);
        let arena = self.memory.arena();
        // What is carved stays accessible all the while: another thread may be about to touch it.
        for (part, prot) in parts(state, block, range) {
            if prot == Prot::NONE {
                arena.reserve_again(part)?;
            } else {
                arena.map_anonymous(part, prot)?;
            }
        }
        state.blocks.set(block, Block::Reserved);
        let registered = self.uffd.register_missing(arena, range);
        // From here on nothing appears without us; what was touched before is ordinary memory.
        let mut pages = std::mem::take(&mut self.scratch.pages);
        let touched = match self.pagemap.read(range, &mut pages) {
            Ok(()) => pages.iter().any(|page| !page.is_empty()),
            Err(_) => true,
        };
        self.scratch.pages = pages;
        if touched || registered.is_err() {
            self.settle_ordinary(state, block);
        }
        self.count_ordinary(state);
        let _ = self.uffd.wake(range);
        Ok(())
    }

    /// Tells the daemon that pageblocks are ours no more.
    pub(crate) fn release(&mut self, extents: &[Extent]) {
        for pageblock in extents.iter().flat_map(|extent| extent.iter()) {
            self.told_pins.forget(pageblock);
        }
        self.tell_extents(extents, |extents| FromProgram::Release { extents });
    }
}
