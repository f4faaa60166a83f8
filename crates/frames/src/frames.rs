//! Which pageblock of a node is free, used, isolated or offline.
//!
//! Every pageblock is in one state:
//!
//! ```text
//!             online               take, claim
//!   offline ─────────► free ◄───────────────────► used
//!      ▲                │ ▲             put
//!      │        isolate │ │ unisolate
//!      │                ▼ │             put
//!      └──────────── isolated ◄────────────────── used
//!          offline
//! ```
//!
//! Isolation and offlining act on whole blocks: in an isolated block nothing is handed out any
//! more, what is used stays used, and what comes back stays back. A block goes offline when it is
//! isolated and nothing in it is used.
//!
//! A pageblock leaves the free set exactly once per [`Frames::take`] or [`Frames::claim`] and
//! enters it exactly once per [`Frames::put`]; the opposite order is a bug of the caller and
//! panics. So no two callers ever hold the same pageblock, and
//! `free + used + isolated + offline = present` holds after every operation; the four counts are
//! kept as they change, and [`Frames::validate`] recomputes them.

use alloc::{vec, vec::Vec};

use memtide_units::{Extent, Pageblock};

use crate::runs::Runs;

/// The pageblocks of one node.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Frames {
    first: Pageblock,
    block_pageblocks: u64,
    used: Vec<bool>,
    blocks: Vec<Block>,
    free: Runs,
    counts: Counts,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Block {
    state: BlockState,
    used: u64,
}

/// The state of one block.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum BlockState {
    /// Not in the pool.
    Offline,
    /// In the pool.
    Online,
    /// Being emptied: nothing is handed out of it.
    Isolated,
}

/// The state of one pageblock.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum PageblockState {
    /// Its block is not in the pool.
    Offline,
    /// Can be taken.
    Free,
    /// Not in use, but its block is being emptied.
    Isolated,
    /// Somebody has it.
    Used,
}

/// How many pageblocks are in which state.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Counts {
    /// Can be taken.
    pub free: u64,
    /// Taken.
    pub used: u64,
    /// Not taken, in blocks that are being emptied.
    pub isolated: u64,
    /// In blocks that are not in the pool.
    pub offline: u64,
}

impl Counts {
    /// All of them.
    #[must_use]
    pub const fn present(&self) -> u64 {
        self.free + self.used + self.isolated + self.offline
    }
}

/// Why a span and a block size do not make a node.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LayoutError {
    /// A block of no, or not a power of two, pageblocks.
    #[error("a block of {block_pageblocks} pageblocks; expected a power of two")]
    BlockSize {
        /// Pageblocks in a block.
        block_pageblocks: u64,
    },
    /// No pageblocks, or not a whole number of blocks.
    #[error(
        "a node of {pageblocks} pageblocks; expected one or more whole blocks of {block_pageblocks}"
    )]
    Size {
        /// Pageblocks in the node.
        pageblocks: u64,
        /// Pageblocks in a block.
        block_pageblocks: u64,
    },
    /// It would end past the last pageblock number, or not fit this machine's memory.
    #[error("a node of {pageblocks} pageblocks from {first} leaves the range of numbers")]
    Span {
        /// The first pageblock.
        first: Pageblock,
        /// Pageblocks in the node.
        pageblocks: u64,
    },
}

impl Frames {
    /// Most pageblocks of one node: 128 TiB.
    pub const PAGEBLOCKS_MAX: u64 = 1 << 26;

    /// A node of `pageblocks` from `first`, all online and free.
    ///
    /// # Errors
    /// [`LayoutError`] when the numbers do not make a node.
    pub fn new(
        first: Pageblock,
        pageblocks: u64,
        block_pageblocks: u64,
    ) -> Result<Self, LayoutError> {
        if !block_pageblocks.is_power_of_two() {
            return Err(LayoutError::BlockSize { block_pageblocks });
        }
        if pageblocks == 0 || !pageblocks.is_multiple_of(block_pageblocks) {
            return Err(LayoutError::Size { pageblocks, block_pageblocks });
        }
        if pageblocks > Self::PAGEBLOCKS_MAX || first.checked_add(pageblocks).is_none() {
            return Err(LayoutError::Span { first, pageblocks });
        }
        let mut free = Runs::default();
        free.insert(0, pageblocks);
        let block = Block { state: BlockState::Online, used: 0 };
        Ok(Self {
            first,
            block_pageblocks,
            used: vec![false; usize_from(pageblocks)],
            blocks: vec![block; usize_from(pageblocks / block_pageblocks)],
            free,
            counts: Counts { free: pageblocks, ..Counts::default() },
        })
    }

    /// The first pageblock.
    #[must_use]
    pub const fn first(&self) -> Pageblock {
        self.first
    }

    /// Pageblocks in all, whatever their state.
    #[must_use]
    pub const fn present(&self) -> u64 {
        self.used.len() as u64
    }

    /// Pageblocks in a block.
    #[must_use]
    pub const fn block_pageblocks(&self) -> u64 {
        self.block_pageblocks
    }

    /// Number of blocks.
    #[must_use]
    pub const fn blocks(&self) -> u64 {
        self.blocks.len() as u64
    }

    /// How many pageblocks are in which state.
    #[must_use]
    pub const fn counts(&self) -> Counts {
        self.counts
    }

    /// Whether the pageblock is one of this node's.
    #[must_use]
    pub const fn contains(&self, pageblock: Pageblock) -> bool {
        pageblock.0 >= self.first.0 && pageblock.0 - self.first.0 < self.present()
    }

    /// The block that a pageblock of this node lies in.
    #[must_use]
    pub fn block_of(&self, pageblock: Pageblock) -> u64 {
        self.offset(pageblock) / self.block_pageblocks
    }

    /// The first pageblock of a block; its others follow.
    #[must_use]
    pub fn block_start(&self, block: u64) -> Pageblock {
        assert!(block < self.blocks(), "block {block} of {}", self.blocks());
        Pageblock(self.first.0 + block * self.block_pageblocks)
    }

    /// The state of a block.
    #[must_use]
    pub fn block_state(&self, block: u64) -> BlockState {
        self.blocks[usize_from(block)].state
    }

    /// Pageblocks in use in a block.
    #[must_use]
    pub fn block_used(&self, block: u64) -> u64 {
        self.blocks[usize_from(block)].used
    }

    /// The state of a pageblock of this node.
    #[must_use]
    pub fn state(&self, pageblock: Pageblock) -> PageblockState {
        let offset = self.offset(pageblock);
        match (self.used[usize_from(offset)], self.block_state(offset / self.block_pageblocks)) {
            (true, _) => PageblockState::Used,
            (false, BlockState::Offline) => PageblockState::Offline,
            (false, BlockState::Online) => PageblockState::Free,
            (false, BlockState::Isolated) => PageblockState::Isolated,
        }
    }

    /// Takes up to `count` free pageblocks, in as few runs as can be had cheaply: what follows
    /// `after` if that is free, then the shortest run that is long enough, or the longest there is.
    pub fn take(&mut self, count: u64, after: Option<Pageblock>) -> Vec<Extent> {
        let mut left = count.min(self.counts.free);
        let mut taken = Vec::new();
        let follows = after.and_then(|after| after.checked_add(1)).filter(|&n| self.contains(n));
        if let Some(next) = follows.map(|next| self.offset(next))
            && let Some((start, length)) = self.free.containing(next)
            && left > 0
        {
            left -= self.take_run(next, (start + length - next).min(left), &mut taken);
        }
        while left > 0 {
            let (start, length) = self.free.best(left).expect("free pageblocks lie in runs");
            left -= self.take_run(start, length.min(left), &mut taken);
        }
        taken
    }

    fn take_run(&mut self, start: u64, length: u64, taken: &mut Vec<Extent>) -> u64 {
        // An extent counts in 32 bits; the rest of a longer run comes with the next round.
        let length = length.min(u64::from(u32::MAX));
        self.free.remove(start, length);
        for offset in start..start + length {
            self.set_used(offset);
        }
        self.counts.free -= length;
        let count = u32::try_from(length).expect("bounded above");
        taken.push(Extent::new(Pageblock(self.first.0 + start), count));
        length
    }

    /// Takes this one pageblock, which is free or isolated.
    ///
    /// # Panics
    /// When it is used or offline: look with [`Frames::state`] first.
    pub fn claim(&mut self, pageblock: Pageblock) {
        let offset = self.offset(pageblock);
        match self.state(pageblock) {
            PageblockState::Free => {
                self.free.remove(offset, 1);
                self.counts.free -= 1;
            }
            PageblockState::Isolated => self.counts.isolated -= 1,
            state => panic!("{pageblock} is claimed but {state:?}"),
        }
        self.set_used(offset);
    }

    /// Gives one pageblock back.
    ///
    /// # Panics
    /// When it is not used.
    pub fn put(&mut self, pageblock: Pageblock) {
        let offset = self.offset(pageblock);
        let used = &mut self.used[usize_from(offset)];
        assert!(*used, "{pageblock} is given back but not used");
        *used = false;
        self.counts.used -= 1;
        let block = &mut self.blocks[usize_from(offset / self.block_pageblocks)];
        block.used -= 1;
        if block.state == BlockState::Isolated {
            self.counts.isolated += 1;
        } else {
            self.free.insert(offset, 1);
            self.counts.free += 1;
        }
    }

    /// Hands out nothing of this block any more.
    ///
    /// # Panics
    /// When it is not online, or isolated already.
    pub fn isolate(&mut self, block: u64) {
        let free = self.leave(block, BlockState::Online, BlockState::Isolated);
        for (start, length) in self.unused_runs(block) {
            self.free.remove(start, length);
        }
        self.counts.free -= free;
        self.counts.isolated += free;
    }

    /// Undoes [`Frames::isolate`].
    ///
    /// # Panics
    /// When it is not isolated.
    pub fn unisolate(&mut self, block: u64) {
        let free = self.leave(block, BlockState::Isolated, BlockState::Online);
        for (start, length) in self.unused_runs(block) {
            self.free.insert(start, length);
        }
        self.counts.isolated -= free;
        self.counts.free += free;
    }

    /// Takes a block out of the pool.
    ///
    /// # Panics
    /// When it is not isolated, or something in it is used.
    pub fn offline(&mut self, block: u64) {
        assert_eq!(self.block_used(block), 0, "block {block} goes offline but is used");
        let free = self.leave(block, BlockState::Isolated, BlockState::Offline);
        self.counts.isolated -= free;
        self.counts.offline += free;
    }

    /// Puts a block into the pool; its pageblocks are free.
    ///
    /// # Panics
    /// When it is not offline.
    pub fn online(&mut self, block: u64) {
        let free = self.leave(block, BlockState::Offline, BlockState::Online);
        self.free.insert(block * self.block_pageblocks, self.block_pageblocks);
        self.counts.offline -= free;
        self.counts.free += free;
    }

    /// Recomputes what is kept incrementally.
    ///
    /// # Panics
    /// When something does not add up.
    pub fn validate(&self) {
        self.free.validate();
        let mut counts = Counts::default();
        for (index, block) in self.blocks.iter().enumerate() {
            let start = index as u64 * self.block_pageblocks;
            let all = start..start + self.block_pageblocks;
            let used = all.clone().filter(|&at| self.used[usize_from(at)]).count() as u64;
            assert_eq!(used, block.used, "used pageblocks of block {index}");
            counts.used += used;
            let unused = self.block_pageblocks - used;
            match block.state {
                BlockState::Offline => counts.offline += unused,
                BlockState::Isolated => counts.isolated += unused,
                BlockState::Online => counts.free += unused,
            }
            assert!(block.state != BlockState::Offline || used == 0, "block {index} is offline");
            for at in all {
                let listed = self.free.containing(at).is_some();
                let free = block.state == BlockState::Online && !self.used[usize_from(at)];
                assert_eq!(listed, free, "pageblock {at} of the node in the free runs");
            }
        }
        assert_eq!(counts, self.counts);
        assert_eq!(counts.free, self.free.total());
        assert_eq!(counts.present(), self.present());
    }

    fn offset(&self, pageblock: Pageblock) -> u64 {
        assert!(self.contains(pageblock), "{pageblock} is not of this node");
        pageblock.0 - self.first.0
    }

    fn set_used(&mut self, offset: u64) {
        let used = &mut self.used[usize_from(offset)];
        assert!(!*used, "pageblock {offset} of the node has two takers");
        *used = true;
        self.counts.used += 1;
        self.blocks[usize_from(offset / self.block_pageblocks)].used += 1;
    }

    /// Changes a block's state; returns how many of its pageblocks are not used.
    fn leave(&mut self, block: u64, from: BlockState, to: BlockState) -> u64 {
        let block_pageblocks = self.block_pageblocks;
        let state = &mut self.blocks[usize_from(block)];
        assert_eq!(state.state, from, "block {block} to become {to:?}");
        state.state = to;
        block_pageblocks - state.used
    }

    fn unused_runs(&self, block: u64) -> Vec<(u64, u64)> {
        let mut runs: Vec<(u64, u64)> = Vec::new();
        let start = block * self.block_pageblocks;
        for at in start..start + self.block_pageblocks {
            if self.used[usize_from(at)] {
                continue;
            }
            match runs.last_mut() {
                Some((first, length)) if *first + *length == at => *length += 1,
                _ => runs.push((at, 1)),
            }
        }
        runs
    }
}

fn usize_from(n: u64) -> usize {
    usize::try_from(n).expect("node sizes are bounded")
}

#[cfg(test)]
mod tests {
    use super::*;

    const FIRST: Pageblock = Pageblock(100);

    fn node(blocks: u64) -> Frames {
        Frames::new(FIRST, blocks * 4, 4).unwrap()
    }

    #[test]
    fn nonsense_makes_no_node() {
        let error = |first, pageblocks, block| Frames::new(Pageblock(first), pageblocks, block);
        assert_eq!(error(0, 6, 3), Err(LayoutError::BlockSize { block_pageblocks: 3 }));
        assert_eq!(error(0, 6, 0), Err(LayoutError::BlockSize { block_pageblocks: 0 }));
        let size = LayoutError::Size { pageblocks: 6, block_pageblocks: 4 };
        assert_eq!(error(0, 6, 4), Err(size));
        assert!(matches!(error(0, 0, 4), Err(LayoutError::Size { .. })));
        assert!(matches!(error(u64::MAX - 2, 4, 4), Err(LayoutError::Span { .. })));
        assert!(matches!(error(0, 1 << 60, 4), Err(LayoutError::Span { .. })));
    }

    #[test]
    fn short_holes_are_filled_before_long_runs_are_cut() {
        let mut frames = node(4);
        assert_eq!(frames.take(16, None), [Extent::new(FIRST, 16)]);
        for n in [101, 104, 105, 106] {
            frames.put(Pageblock(n));
        }
        assert_eq!(frames.take(1, None), [Extent::new(Pageblock(101), 1)]);
        assert_eq!(frames.take(2, Some(Pageblock(104))), [Extent::new(Pageblock(105), 2)]);
        frames.validate();
    }

    #[test]
    fn what_follows_the_hint_comes_first() {
        let mut frames = node(4);
        let taken = frames.take(3, Some(Pageblock(113)));
        assert_eq!(taken, [Extent::new(Pageblock(114), 2), Extent::new(FIRST, 1)]);
        assert_eq!(frames.take(1, Some(Pageblock(u64::MAX))).len(), 1);
        frames.validate();
    }

    #[test]
    fn an_isolated_block_hands_out_nothing_and_leaves_when_empty() {
        let mut frames = node(2);
        frames.take(1, None);
        frames.isolate(0);
        assert_eq!(frames.counts(), Counts { free: 4, used: 1, isolated: 3, offline: 0 });
        assert_eq!(frames.take(9, Some(FIRST)), [Extent::new(Pageblock(104), 4)]);
        frames.put(FIRST);
        assert_eq!(frames.state(FIRST), PageblockState::Isolated);
        frames.offline(0);
        assert_eq!(frames.counts(), Counts { free: 0, used: 4, isolated: 0, offline: 4 });
        frames.online(0);
        assert_eq!(frames.take(9, None), [Extent::new(FIRST, 4)]);
        frames.validate();
    }

    #[test]
    #[should_panic(expected = "goes offline but is used")]
    fn a_used_block_never_leaves() {
        let mut frames = node(1);
        frames.take(1, None);
        frames.isolate(0);
        frames.offline(0);
    }

    #[test]
    #[should_panic(expected = "is given back but not used")]
    fn nothing_is_given_back_twice() {
        node(1).put(FIRST);
    }
}
