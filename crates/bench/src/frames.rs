//! What taking and giving frames costs, in nanoseconds and in instructions, next to another
//! allocator where its figures are at hand.
//!
//! The operations are those of the benchmark that comes with LLFree (USENIX ATC 2023,
//! <https://github.com/luhsra/llfree-rs>, `eval/src/bin/{bench,frag}.rs`), so that its program and
//! this one can be run in turn on one machine and read side by side; nothing of its source is here.
//! No memory is behind the frames: only the metadata of the node is mapped.
//!
//! * [`speed`]: bulk, repeat, rand. [`hands`]: owned frames or plain numbers, called directly or
//!   through a table. [`node`]: a node of the benchmark's own.
//! * [`fragmentation`]: frag. [`packing`]: what compaction would have to move.
//! * [`scale`]: nodes up to 64 TiB. [`mod@count`]: calls whose instructions are counted.
//! * [`peer`]: the other program's figures. [`rows`]: tables. [`spread`]: numbers.

pub mod count;
pub mod fragmentation;
pub mod hands;
pub mod node;
pub mod packing;
pub mod peer;
pub mod rows;
pub mod scale;
pub mod speed;
pub mod spread;
mod threads;

use std::io;

use memtide_frames::{FrameError, GiveError, LayoutError, PlugError, TakeAtError, TakeError};

pub use self::{
    count::{CountOptions, Counted, count},
    fragmentation::{FragOptions, FragReport, bench_fragmentation},
    hands::{By, Caches, Calls},
    packing::Packing,
    peer::Peer,
    rows::{Peers, metadata_rows, scale_rows},
    scale::{ScaleRow, bench_scale},
    speed::{Operation, SpeedOptions, SpeedReport, bench_speed},
    spread::Spread,
};

/// Why a benchmark of frames stopped.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FramesError {
    /// The kernel's.
    #[error("memory for the metadata, or a processor: {0}")]
    System(#[from] io::Error),
    /// The sizes make no node.
    #[error(transparent)]
    Layout(#[from] LayoutError),
    /// The node's blocks did not come or go.
    #[error(transparent)]
    Plug(#[from] PlugError),
    /// A core had nothing left, though half of the memory should be free.
    #[error(transparent)]
    Take(#[from] TakeError),
    /// A range was not free, though nothing is taken of it.
    #[error(transparent)]
    TakeAt(#[from] TakeAtError),
    /// A block that was just taken was not accepted.
    #[error(transparent)]
    Give(#[from] FrameError),
    /// A frame that was just taken was not accepted.
    #[error("a frame was given to another node: {0}")]
    Foreign(String),
    /// So much memory is too little for so many threads.
    #[error("{frames} frames among {threads} threads leave none of order {order} for each")]
    TooSmall {
        /// Frames that there are.
        frames: u64,
        /// Threads that share them.
        threads: u16,
        /// What each should have.
        order: u8,
    },
    /// The other program's file could not be read.
    #[error("line {line} of the peer's figures: {what}")]
    Peer {
        /// Which line, from 1.
        line: usize,
        /// What is wrong with it.
        what: String,
    },
}

impl From<GiveError<'_>> for FramesError {
    fn from(error: GiveError<'_>) -> Self {
        Self::Foreign(error.to_string())
    }
}
