//! What is behind each block of addresses.
//!
//! The arena is cut into 2 MiB blocks; this table says in which state each is, and finds the block
//! that a pageblock lies behind. It is only ever changed together with the mapping itself, under
//! the lock of [`crate::memory::Memory`].
//!
//! ```text
//! Reserved ──first touch──► Mapped ──fork──► Frozen ──thaw──► Mapped
//!    ▲  │                     │  ▲              │
//!    │  └─pool full─► Ordinary│  └─move─┐       │
//!    └────── emptied ─────────┴─────────┴───────┘
//! ```

use std::collections::BTreeMap;

use memtide_units::Pageblock;

use crate::space::BlockIndex;

/// The state of one block of addresses.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Block {
    /// Nothing is leased for it; the first touch faults to the pager.
    #[default]
    Reserved,
    /// A leased pageblock, mapped shared.
    Mapped(Frame),
    /// A leased pageblock, mapped private: shared copy-on-write with a forked child.
    Frozen(Frame),
    /// Ordinary memory of the kernel's.
    Ordinary,
}

/// A leased pageblock behind a block of addresses.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Frame {
    /// Which.
    pub pageblock: Pageblock,
    /// Whether it is one page of 2 MiB.
    pub is_huge: bool,
}

impl Block {
    /// The pageblock behind it, if any.
    #[must_use]
    pub const fn frame(self) -> Option<Frame> {
        match self {
            Self::Mapped(frame) | Self::Frozen(frame) => Some(frame),
            Self::Reserved | Self::Ordinary => None,
        }
    }

    /// Whether it is mapped shared, of one page of 2 MiB.
    #[must_use]
    pub const fn is_huge(self) -> bool {
        matches!(self, Self::Mapped(Frame { is_huge: true, .. }))
    }
}

/// The state of all blocks.
#[derive(Debug, Default)]
pub struct Blocks {
    states: Vec<Block>,
    behind: BTreeMap<Pageblock, BlockIndex>,
    ordinary: usize,
}

impl Blocks {
    /// A table in which all is reserved.
    #[must_use]
    pub const fn new() -> Self {
        Self { states: Vec::new(), behind: BTreeMap::new(), ordinary: 0 }
    }

    /// The state of a block.
    #[must_use]
    pub fn get(&self, block: BlockIndex) -> Block {
        self.states.get(block.0).copied().unwrap_or_default()
    }

    /// Changes the state of a block.
    ///
    /// # Panics
    /// When another block is already backed by the same pageblock: that would hand one part of
    /// the program another's bytes.
    pub fn set(&mut self, block: BlockIndex, state: Block) {
        let before = self.get(block);
        if let Some(frame) = before.frame() {
            self.behind.remove(&frame.pageblock);
        }
        if let Some(frame) = state.frame() {
            let other = self.behind.insert(frame.pageblock, block);
            assert!(other.is_none(), "{} is behind {other:?} and {block:?}", frame.pageblock);
        }
        self.ordinary += usize::from(state == Block::Ordinary);
        self.ordinary -= usize::from(before == Block::Ordinary);
        if block.0 >= self.states.len() {
            self.states.resize(block.0 + 1, Block::Reserved);
        }
        self.states[block.0] = state;
    }

    /// The block that a pageblock is behind.
    #[must_use]
    pub fn block_of(&self, pageblock: Pageblock) -> Option<BlockIndex> {
        self.behind.get(&pageblock).copied()
    }

    /// All blocks that are not reserved, ascending.
    pub fn in_use(&self) -> impl Iterator<Item = (BlockIndex, Block)> {
        self.states
            .iter()
            .enumerate()
            .filter(|(_, state)| **state != Block::Reserved)
            .map(|(index, state)| (BlockIndex(index), *state))
    }

    /// Number of blocks backed by ordinary memory.
    #[must_use]
    pub const fn ordinary(&self) -> usize {
        self.ordinary
    }

    /// One past the highest block that was ever in use.
    #[must_use]
    pub fn end(&self) -> BlockIndex {
        BlockIndex(self.states.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mapped(pageblock: u64) -> Block {
        Block::Mapped(Frame { pageblock: Pageblock(pageblock), is_huge: false })
    }

    #[test]
    fn a_pageblock_is_found_behind_its_block() {
        let mut blocks = Blocks::new();
        blocks.set(BlockIndex(3), mapped(7));
        assert_eq!(blocks.block_of(Pageblock(7)), Some(BlockIndex(3)));
        blocks.set(BlockIndex(3), mapped(8));
        assert_eq!(blocks.block_of(Pageblock(7)), None);
        assert_eq!(blocks.block_of(Pageblock(8)), Some(BlockIndex(3)));
        blocks.set(BlockIndex(3), Block::Ordinary);
        assert_eq!((blocks.block_of(Pageblock(8)), blocks.ordinary()), (None, 1));
        blocks.set(BlockIndex(3), Block::Reserved);
        assert_eq!((blocks.in_use().count(), blocks.ordinary()), (0, 0));
    }

    #[test]
    #[should_panic(expected = "pb7 is behind")]
    fn a_pageblock_is_behind_one_block_only() {
        let mut blocks = Blocks::new();
        blocks.set(BlockIndex(1), mapped(7));
        blocks.set(BlockIndex(2), mapped(7));
    }
}
