//! Why something was refused. Each says what was asked and what stood in its way; nothing that is
//! refused changes anything.

use core::fmt;

use memtide_units::{FrameRange, Order, Pfn};

use crate::{frame::Frame, zone::Zone};

/// Why numbers and a piece of memory do not make a node.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LayoutError {
    /// A block that is not a power of two of pageblocks.
    #[error("a block of {block_frames} frames; expected a power of two, 512 or more")]
    BlockSize {
        /// Frames in a block.
        block_frames: u64,
    },
    /// A first frame in the middle of a pageblock.
    #[error("a node from {first}; expected a multiple of 512")]
    First {
        /// The first frame.
        first: Pfn,
    },
    /// No frames, or not a whole number of blocks.
    #[error("a node of {frames} frames; expected one or more whole blocks of {block_frames}")]
    Size {
        /// Frames in the node.
        frames: u64,
        /// Frames in a block.
        block_frames: u64,
    },
    /// More frames than a node may have, or numbers that do not exist.
    #[error(
        "a node of {frames} frames from {first}; expected 2^35 at most, and numbers of 64 bits"
    )]
    Span {
        /// The first frame.
        first: Pfn,
        /// Frames in the node.
        frames: u64,
    },
    /// More cores than a node may have.
    #[error("a node of {cores} cores; expected 65535 at most")]
    Cores {
        /// How many.
        cores: u64,
    },
    /// Too little memory for the metadata.
    #[error("{words} words of metadata; expected {needed}")]
    Memory {
        /// Words that there are.
        words: usize,
        /// Words that it takes.
        needed: usize,
    },
    /// The memory holds something already.
    #[error("the metadata starts with {found:#x}; expected zero: is there a node in it already?")]
    NotZero {
        /// What it starts with.
        found: u64,
    },
    /// The memory holds no node, or one of another version.
    #[error("the metadata starts with {found:#x}; expected {expected:#x}")]
    NoNode {
        /// What it starts with.
        found: u64,
        /// What a node starts with.
        expected: u64,
    },
}

/// Why nothing could be taken.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TakeError {
    /// Fewer frames are free than were asked for, in all zones where the request may land.
    #[error("{order} asked for, {free} frames free where it may land")]
    Exhausted {
        /// What was asked for.
        order: Order,
        /// Frames free in the zones that it may land in.
        free: u64,
    },
    /// Enough frames are free, but no aligned block of that order was found; or only below the
    /// `min` watermarks, in channels that are dedicated to the other use, or in pageblocks that are
    /// reserved or that other threads have at the moment.
    #[error("{order} asked for, {free} frames free where it may land, but no such block")]
    NoBlock {
        /// What was asked for.
        order: Order,
        /// Frames free in the zones that it may land in.
        free: u64,
    },
}

/// Why a block was not given back, or not found under its number.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FrameError {
    /// No frame of this node.
    #[error("{pfn} of {order}: not of this node, which has {node}")]
    Foreign {
        /// Its number.
        pfn: Pfn,
        /// Its order.
        order: Order,
        /// The frames of the node.
        node: FrameRange,
    },
    /// The number is no multiple of the order's size.
    #[error("{pfn} of {order}: not aligned")]
    Unaligned {
        /// Its number.
        pfn: Pfn,
        /// Its order.
        order: Order,
    },
    /// Nobody holds it by its number: it is free, or given back already, or owned as a
    /// [`Frame`].
    #[error("{pfn} of {order}: not held by its number")]
    NotHeld {
        /// Its number.
        pfn: Pfn,
        /// Its order.
        order: Order,
    },
    /// It is held, as a block of another order.
    #[error("{pfn} of {order}: held, but as a block of {held}")]
    WrongOrder {
        /// Its number.
        pfn: Pfn,
        /// The order that was named.
        order: Order,
        /// Its order.
        held: Order,
    },
}

/// A block that was given to a node that it is not of. It comes back with the error.
pub struct GiveError<'f> {
    /// The block.
    pub frame: Frame<'f>,
    /// The frames of the node that refused it.
    pub node: FrameRange,
}

impl fmt::Debug for GiveError<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Display for GiveError<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (pfn, order) = (self.frame.pfn(), self.frame.order());
        write!(f, "{pfn} of {order}: of another node than this, which has {}", self.node)
    }
}

impl core::error::Error for GiveError<'_> {}

/// Why a named block or range could not be taken.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TakeAtError {
    /// Not of this node.
    #[error("{range}: not of this node, which has {node}")]
    Foreign {
        /// What was asked for.
        range: FrameRange,
        /// The frames of the node.
        node: FrameRange,
    },
    /// The number is no multiple of the order's size, or the range is empty.
    #[error("{range}: empty, or not aligned to its size")]
    Unaligned {
        /// What was asked for.
        range: FrameRange,
    },
    /// Part of it is taken, cached by a core, reserved, retired, or not in the pool.
    #[error("{range}: {busy} is not free")]
    Busy {
        /// What was asked for.
        range: FrameRange,
        /// A frame of it that is not free.
        busy: Pfn,
    },
    /// It lies in a zone that does not hold what was asked for, or is a block across two zones.
    #[error(
        "{range}: {zone} does not hold what cannot move, or is dedicated to the other use, or is \
         not all of it"
    )]
    Zone {
        /// What was asked for.
        range: FrameRange,
        /// The zone of its first frame that is in such a zone.
        zone: Zone,
    },
}

/// Why a core has no cache.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CoreError {
    /// There is no such core.
    #[error("core {core}; expected less than {cores}")]
    NoSuchCore {
        /// Its number.
        core: u16,
        /// How many there are.
        cores: u16,
    },
    /// Somebody has its cache.
    #[error("core {core} is in use already")]
    InUse {
        /// Its number.
        core: u16,
    },
}

/// Why a block or range could not be added, isolated, or removed.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PlugError {
    /// Not of this node, or not in whole units.
    #[error("{range}: not whole {unit}-frame units of this node, which has {node}")]
    Range {
        /// What was named.
        range: FrameRange,
        /// Frames in a unit: a block's or a pageblock's.
        unit: u64,
        /// The frames of the node.
        node: FrameRange,
    },
    /// Part of it is in another state.
    #[error("{range}: {at} is {found}; expected {expected}")]
    State {
        /// What was named.
        range: FrameRange,
        /// The first frame of a pageblock that is in another state.
        at: Pfn,
        /// What it is.
        found: &'static str,
        /// What it should be.
        expected: &'static str,
    },
}
