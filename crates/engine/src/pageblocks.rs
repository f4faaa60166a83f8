//! The pageblocks of one node as the engine sees them: blocks of [`memtide_frames`] of order 9,
//! each held by its number.
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
//! From any state a pageblock may be *retired*, because its memory is bad: then it is handed out
//! never again. A retired pageblock does not keep its block from going offline, and goes with it;
//! if the block comes back, it is retired still.
//!
//! # Who knows what
//! The page-frame allocator says which pageblock is used, and finds free ones; it alone. Here are
//! only what it does not know, the state of a block, and what it would have to count each time:
//! used pageblocks in a block, and pageblocks in each state. [`Pageblocks::validate`] recounts.
//!
//! The metadata is memory of the engine, and a [`Frames`] a view of it that is made for each
//! operation. Nobody else has one, so a look followed by a step is not raced: what is refused here
//! is a bug of the caller, and panics.
//!
//! # Zones
//! Every block is in a zone ([`zones`]). What never moves is not placed in MOVABLE and EXMEM: that
//! those can be emptied is promised. What was placed as movable stays where it is if it cannot be
//! moved later: it is a holder, with a reason. Whether that may be *asked for* there is decided
//! elsewhere ([`crate::pins`]).

use alloc::{collections::BTreeSet, vec, vec::Vec};
use core::fmt;

use memtide_frames::{AtomicU64, Frames, Geometry, Layout, Movability};
use memtide_units::{ByteSize, Extent, FrameRange, Order, PAGES_PER_PAGEBLOCK, Pageblock, Pfn};

use self::{away::Away, zones::frames_zone};
use crate::{config::LayoutError, onlining::OnlineZone, words::Words};

mod away;
mod placement;
mod retire;
#[cfg(test)]
mod tests;
mod validate;
mod zones;

pub(crate) use self::zones::{MOVABLE, UNMOVABLE};

/// The pageblocks of one node.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Pageblocks {
    layout: Layout,
    words: Words,
    first: Pageblock,
    present: u64,
    block_pageblocks: u64,
    blocks: Vec<Block>,
    /// Those that are offline.
    away: Away,
    /// Of the blocks in the pool, by their zone.
    in_zone: [Counts; OnlineZone::ALL.len()],
    /// In blocks that are not in the pool.
    offline: u64,
    /// Whether their blocks are in the pool or not.
    retired: BTreeSet<Pageblock>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Block {
    state: BlockState,
    /// That it is in, or was in last.
    zone: OnlineZone,
    used: u64,
    /// Whether it is in the pool or not.
    retired: u64,
}

/// The state of one block.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum BlockState {
    /// Not in the pool.
    Offline,
    /// In the pool.
    Online,
    /// Being emptied: nothing is handed out of it.
    Isolated,
}

/// The state of one pageblock.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum PageblockState {
    /// Its block is not in the pool.
    Offline,
    /// Can be taken.
    Free,
    /// Not in use, but its block is being emptied.
    Isolated,
    /// Somebody has it.
    Used,
    /// Its memory is bad; its block is in the pool.
    Retired,
}

/// How many pageblocks are in which state.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct Counts {
    /// Can be taken.
    pub(crate) free: u64,
    /// Taken.
    pub(crate) used: u64,
    /// Not taken, in blocks that are being emptied.
    pub(crate) isolated: u64,
    /// In blocks that are not in the pool.
    pub(crate) offline: u64,
    /// Bad, in blocks that are in the pool.
    pub(crate) retired: u64,
}

impl Counts {
    /// All of them.
    pub(crate) const fn present(&self) -> u64 {
        self.free + self.used + self.isolated + self.offline + self.retired
    }
}

/// The number of the first frame of a pageblock. Those of a node all have one.
const fn pfn(pageblock: Pageblock) -> Pfn {
    Pfn(pageblock.0 * PAGES_PER_PAGEBLOCK)
}

impl Pageblocks {
    /// Most pageblocks of one node: 128 TiB.
    pub(crate) const PAGEBLOCKS_MAX: u64 = Layout::FRAMES_MAX / PAGES_PER_PAGEBLOCK;

    /// A node of `pageblocks` from `first`, all offline.
    ///
    /// # Errors
    /// [`LayoutError`] when the numbers do not make a node.
    pub(crate) fn new(
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
        let span = LayoutError::Span { first, pageblocks };
        let end = first.checked_add(pageblocks).and_then(Pageblock::first_frame);
        if pageblocks > Self::PAGEBLOCKS_MAX || end.is_none() {
            return Err(span);
        }
        let geometry = Geometry {
            first: pfn(first),
            frames: pageblocks * PAGES_PER_PAGEBLOCK,
            block_frames: block_pageblocks * PAGES_PER_PAGEBLOCK,
            // The engine is one thread: there is nothing for a core's cache to gain.
            cores: 0,
        };
        let layout = Layout::new(geometry).map_err(|_| span)?;
        let size = ByteSize(layout.words() as u64 * size_of::<AtomicU64>() as u64);
        let words = Words::zero(layout.words());
        let words = words.ok_or(LayoutError::Memory { pageblocks, size })?;
        Frames::new(geometry, &words).expect("memory that is zero and as large as it takes");
        let (state, zone) = (BlockState::Offline, OnlineZone::default());
        let block = Block { state, zone, used: 0, retired: 0 };
        Ok(Self {
            layout,
            words,
            first,
            present: pageblocks,
            block_pageblocks,
            blocks: vec![block; usize_from(pageblocks / block_pageblocks)],
            away: Away::all(pageblocks / block_pageblocks),
            in_zone: [Counts::default(); OnlineZone::ALL.len()],
            offline: pageblocks,
            retired: BTreeSet::new(),
        })
    }

    /// The allocator, for one operation.
    fn frames(&self) -> Frames<'_> {
        Frames::attach(&self.words).expect("made with the metadata")
    }

    /// The first pageblock.
    pub(crate) const fn first(&self) -> Pageblock {
        self.first
    }

    /// Pageblocks in all, whatever their state.
    pub(crate) const fn present(&self) -> u64 {
        self.present
    }

    /// Pageblocks in a block.
    pub(crate) const fn block_pageblocks(&self) -> u64 {
        self.block_pageblocks
    }

    /// Number of blocks.
    pub(crate) const fn blocks(&self) -> u64 {
        self.blocks.len() as u64
    }

    /// How many pageblocks are in which state.
    pub(crate) fn counts(&self) -> Counts {
        let all = self.in_zone.iter();
        all.fold(Counts { offline: self.offline, ..Counts::default() }, |sum, zone| Counts {
            free: sum.free + zone.free,
            used: sum.used + zone.used,
            isolated: sum.isolated + zone.isolated,
            offline: sum.offline,
            retired: sum.retired + zone.retired,
        })
    }

    /// Whether the pageblock is one of this node's.
    pub(crate) const fn contains(&self, pageblock: Pageblock) -> bool {
        pageblock.0 >= self.first.0 && pageblock.0 - self.first.0 < self.present
    }

    /// The block that a pageblock of this node lies in.
    pub(crate) fn block_of(&self, pageblock: Pageblock) -> u64 {
        assert!(self.contains(pageblock), "{pageblock} is not of this node");
        (pageblock.0 - self.first.0) / self.block_pageblocks
    }

    /// The first pageblock of a block; its others follow.
    pub(crate) fn block_start(&self, block: u64) -> Pageblock {
        assert!(block < self.blocks(), "block {block} of {}", self.blocks());
        Pageblock(self.first.0 + block * self.block_pageblocks)
    }

    /// The whole blocks of this node that an extent is made of, if it is.
    pub(crate) fn blocks_of(&self, extent: Extent) -> Option<core::ops::Range<u64>> {
        let start = extent.start.0.checked_sub(self.first.0)?;
        let end = start.checked_add(u64::from(extent.count))?;
        let whole = |offset: u64| offset.is_multiple_of(self.block_pageblocks);
        (end <= self.present && whole(start) && whole(end))
            .then(|| start / self.block_pageblocks..end / self.block_pageblocks)
    }

    /// The state of a block.
    pub(crate) fn block_state(&self, block: u64) -> BlockState {
        self.blocks[usize_from(block)].state
    }

    /// The pageblocks of blocks that are offline, as runs, ascending.
    pub(crate) fn offline_extents(&self) -> impl Iterator<Item = Extent> {
        self.away.runs().map(|run| self.extent(run))
    }

    /// The pageblocks of a run of blocks, one at least.
    fn extent(&self, run: core::ops::Range<u64>) -> Extent {
        let count = (run.end - run.start) * self.block_pageblocks;
        let count = u32::try_from(count).expect("no more than PAGEBLOCKS_MAX");
        Extent::new(self.block_start(run.start), count)
    }

    /// The blocks that are in the pool, ascending.
    pub(crate) fn blocks_there(&self) -> impl Iterator<Item = u64> {
        self.away.gaps(self.blocks()).flatten()
    }

    /// Pageblocks in use in a block.
    pub(crate) fn block_used(&self, block: u64) -> u64 {
        self.blocks[usize_from(block)].used
    }

    /// Pageblocks of a block that are neither in use nor retired.
    pub(crate) fn block_free(&self, block: u64) -> u64 {
        let Block { used, retired, .. } = self.blocks[usize_from(block)];
        self.block_pageblocks - used - retired
    }

    /// Whether a pageblock is retired, wherever its block is.
    pub(crate) fn is_retired(&self, pageblock: Pageblock) -> bool {
        self.retired.contains(&pageblock)
    }

    /// The retired pageblocks, wherever their blocks are.
    pub(crate) const fn retired(&self) -> &BTreeSet<Pageblock> {
        &self.retired
    }

    /// The state of a pageblock of this node.
    pub(crate) fn state(&self, pageblock: Pageblock) -> PageblockState {
        self.state_by(&self.frames(), pageblock)
    }

    fn state_by(&self, frames: &Frames<'_>, pageblock: Pageblock) -> PageblockState {
        let block = self.block_state(self.block_of(pageblock));
        match block {
            _ if frames.is_held(pfn(pageblock), Order::PAGEBLOCK) => PageblockState::Used,
            BlockState::Offline => PageblockState::Offline,
            _ if self.is_retired(pageblock) => PageblockState::Retired,
            BlockState::Online => PageblockState::Free,
            BlockState::Isolated => PageblockState::Isolated,
        }
    }

    /// Takes this one pageblock, which is free or isolated. What is there is there: in a zone that
    /// it should not be in it counts as movable.
    ///
    /// # Panics
    /// When it is used or offline: look with [`Pageblocks::state`] first.
    pub(crate) fn claim(&mut self, pageblock: Pageblock, movability: Movability) {
        let (state, block) = (self.state(pageblock), self.block_of(pageblock));
        let held = if self.zone(block).is_movable_only() { MOVABLE } else { movability };
        match self.frames().take_at(pfn(pageblock), Order::PAGEBLOCK, held) {
            Ok(frame) => drop(frame.into_number()),
            Err(error) => panic!("{pageblock} is claimed but {state:?}: {error}"),
        }
        let counts = self.counts_of(block);
        match state {
            PageblockState::Free => counts.free -= 1,
            PageblockState::Isolated => counts.isolated -= 1,
            _ => unreachable!("the allocator refuses what is used, retired, or not there"),
        }
        counts.used += 1;
        self.blocks[usize_from(block)].used += 1;
    }

    /// Gives one pageblock back.
    ///
    /// # Panics
    /// When it is not used.
    pub(crate) fn put(&mut self, pageblock: Pageblock) {
        let block = self.block_of(pageblock);
        match self.frames().adopt(pfn(pageblock), Order::PAGEBLOCK) {
            Ok(frame) => drop(frame),
            Err(error) => panic!("{pageblock} is given back but not used: {error}"),
        }
        self.blocks[usize_from(block)].used -= 1;
        let isolated = self.block_state(block) == BlockState::Isolated;
        let counts = self.counts_of(block);
        counts.used -= 1;
        if isolated {
            counts.isolated += 1;
        } else {
            counts.free += 1;
        }
    }

    /// Hands out nothing of this block any more.
    ///
    /// # Panics
    /// When it is not online, or isolated already.
    pub(crate) fn isolate(&mut self, block: u64) {
        let free = self.leave(block, BlockState::Online, BlockState::Isolated);
        self.frames().isolate(self.range(block)).expect("an online block");
        let counts = self.counts_of(block);
        counts.free -= free;
        counts.isolated += free;
    }

    /// Undoes [`Pageblocks::isolate`].
    ///
    /// # Panics
    /// When it is not isolated.
    pub(crate) fn unisolate(&mut self, block: u64) {
        let free = self.leave(block, BlockState::Isolated, BlockState::Online);
        self.frames().unisolate(self.range(block)).expect("an isolated block");
        let counts = self.counts_of(block);
        counts.isolated -= free;
        counts.free += free;
    }

    /// Takes a block out of the pool. What is retired in it goes with it.
    ///
    /// # Panics
    /// When it is not isolated, or something in it is used.
    pub(crate) fn offline(&mut self, block: u64) {
        assert_eq!(self.block_used(block), 0, "block {block} goes offline but is used");
        let free = self.leave(block, BlockState::Isolated, BlockState::Offline);
        self.frames().remove(self.range(block)).expect("an isolated and empty block");
        self.away.insert(block);
        let retired = self.block_pageblocks - free;
        let counts = self.counts_of(block);
        counts.isolated -= free;
        counts.retired -= retired;
        self.offline += self.block_pageblocks;
    }

    /// Puts a block into the pool, in this zone; its pageblocks are free, but for those that are
    /// retired.
    ///
    /// # Panics
    /// When it is not offline.
    pub(crate) fn online(&mut self, block: u64, zone: OnlineZone) {
        let free = self.leave(block, BlockState::Offline, BlockState::Online);
        self.blocks[usize_from(block)].zone = zone;
        self.frames().add(self.range(block), frames_zone(zone)).expect("an offline block");
        self.away.remove(block);
        let retired = self.block_pageblocks - free;
        let counts = self.counts_of(block);
        counts.free += free;
        counts.retired += retired;
        self.offline -= self.block_pageblocks;
        let start = self.block_start(block);
        let end = Pageblock(start.0 + self.block_pageblocks);
        for &bad in self.retired.range(start..end) {
            self.retire_frames(bad);
        }
    }

    /// Changes a block's state; returns how many of its pageblocks are neither used nor retired.
    fn leave(&mut self, block: u64, from: BlockState, to: BlockState) -> u64 {
        let record = &mut self.blocks[usize_from(block)];
        assert_eq!(record.state, from, "block {block} to become {to:?}");
        record.state = to;
        self.block_free(block)
    }

    /// The frames of a block.
    fn range(&self, block: u64) -> FrameRange {
        let frames = self.block_pageblocks * PAGES_PER_PAGEBLOCK;
        FrameRange::new(pfn(self.block_start(block)), frames)
    }
}

impl fmt::Debug for Pageblocks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (first, present, counts) = (self.first.0, self.present, self.counts());
        write!(f, "pb{first}+{present} {counts:?}")
    }
}

fn usize_from(n: u64) -> usize {
    usize::try_from(n).expect("node sizes are bounded")
}
