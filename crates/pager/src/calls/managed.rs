//! What the calls need of the process's memory.

use memtide_sys::Arena;

use crate::{
    blocks::{Block, Blocks},
    memory::{Memory, PagerState},
    space::{BlockIndex, Space},
};

/// What is behind a block of addresses, as far as freeing it goes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Content {
    /// Nothing: all of it is zero.
    Nothing,
    /// A file, mapped shared: freeing is punching.
    Shared,
    /// A page of 2 MiB of a file, mapped shared: freed whole or overwritten, one protection.
    SharedHuge,
    /// A file that must not change, mapped private: freeing is overwriting.
    Frozen,
    /// Private anonymous memory of the kernel's.
    Anonymous,
}

/// What is behind each block.
pub trait Contents {
    /// What is behind `block`.
    fn content(&self, block: BlockIndex) -> Content;
}

/// What the lock protects, while it is held.
#[expect(missing_debug_implementations, reason = "a view for the length of one call")]
pub struct Locked<'a> {
    /// What is carved.
    pub space: &'a mut Space,
    /// What is behind it.
    pub contents: &'a dyn Contents,
}

/// The memory of a process that calls of the mmap family work on.
pub trait Managed {
    /// The range of addresses.
    fn arena(&self) -> &Arena;

    /// Runs `work` with the lock held and signals blocked. Not to be nested.
    fn locked<R>(&self, work: impl FnOnce(Locked<'_>) -> R) -> R;

    /// Promises `by` blocks more, or fewer: whether the promise holds. Without the lock; fewer
    /// never fails.
    fn promise(&self, by: i64) -> bool;

    /// Nothing is carved out of `block` any more.
    fn post_idle(&self, block: BlockIndex);

    /// Locks or foreign mappings of `block` changed.
    fn post_pins(&self, block: BlockIndex);

    /// Puts ordinary memory with the same content behind `block`: whether it is there now.
    /// Without the lock.
    fn make_ordinary(&self, block: BlockIndex) -> bool;
}

/// The table of blocks, read with the pager in mind.
struct Behind<'a> {
    blocks: &'a Blocks,
    pager: PagerState,
}

impl Contents for Behind<'_> {
    fn content(&self, block: BlockIndex) -> Content {
        match self.blocks.get(block) {
            // Touched while nobody serves faults (a forked child's first moments), the
            // reservation is ordinary memory; its pager will look which blocks became so.
            Block::Reserved if self.pager == PagerState::Absent => Content::Anonymous,
            Block::Reserved => Content::Nothing,
            Block::Mapped(frame) if frame.is_huge => Content::SharedHuge,
            Block::Mapped(_) => Content::Shared,
            Block::Frozen(_) => Content::Frozen,
            Block::Ordinary => Content::Anonymous,
        }
    }
}

impl Managed for Memory {
    fn arena(&self) -> &Arena {
        self.arena()
    }

    fn locked<R>(&self, work: impl FnOnce(Locked<'_>) -> R) -> R {
        let mut guard = self.lock();
        let state = &mut *guard;
        let behind = Behind { blocks: &state.blocks, pager: self.pager_state() };
        work(Locked { space: &mut state.space, contents: &behind })
    }

    fn promise(&self, by: i64) -> bool {
        self.commit(by)
    }

    fn post_idle(&self, block: BlockIndex) {
        self.post_idle(block);
    }

    fn post_pins(&self, block: BlockIndex) {
        self.post_pins(block);
    }

    fn make_ordinary(&self, block: BlockIndex) -> bool {
        if self.pager_state() == PagerState::Listening {
            return self.make_ordinary(block);
        }
        // A forked child's first moments: the reservation faults to nobody.
        let mut state = self.lock();
        if state.blocks.get(block) == Block::Reserved {
            state.blocks.set(block, Block::Ordinary);
        }
        state.blocks.get(block) == Block::Ordinary
    }
}
