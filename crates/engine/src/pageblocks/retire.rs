//! Pageblocks whose memory is bad.

use memtide_units::{Order, PAGES_PER_PAGEBLOCK, Pageblock, Pfn};

use super::{MOVABLE, PageblockState, Pageblocks, pfn, usize_from};

impl Pageblocks {
    /// Takes a pageblock out of service for good, whatever its state: who used it uses it no more.
    ///
    /// # Panics
    /// When it is retired already.
    pub(crate) fn retire(&mut self, pageblock: Pageblock) {
        let state = self.state(pageblock);
        assert!(self.retired.insert(pageblock), "{pageblock} is retired twice");
        let block = self.block_of(pageblock);
        let record = &mut self.blocks[usize_from(block)];
        record.retired += 1;
        record.used -= u64::from(state == PageblockState::Used);
        let counts = self.counts_of(block);
        match state {
            PageblockState::Offline => return,
            PageblockState::Free => counts.free -= 1,
            PageblockState::Isolated => counts.isolated -= 1,
            PageblockState::Used => counts.used -= 1,
            PageblockState::Retired => unreachable!("it was not in the set"),
        }
        counts.retired += 1;
        self.retire_frames(pageblock);
    }

    /// Has the allocator retire the frames of a pageblock of the pool.
    pub(super) fn retire_frames(&self, pageblock: Pageblock) {
        let (frames, first) = (self.frames(), pfn(pageblock));
        let block = match frames.adopt(first, Order::PAGEBLOCK) {
            Ok(used) => used,
            Err(_) => {
                let free = frames.take_at(first, Order::PAGEBLOCK, MOVABLE);
                free.expect("a pageblock that is not used can be taken")
            }
        };
        for frame in 0..PAGES_PER_PAGEBLOCK {
            frames.retire(Pfn(first.0 + frame)).expect("a frame of the pool");
        }
        // Each is out of service as it is given back.
        drop(block);
    }
}
