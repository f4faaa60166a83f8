//! A node of the benchmark's own: metadata, and no memory behind it.

use std::io;

use memtide_frames::{FrameRange, Frames, Geometry, Layout, Pfn, Zone};
use memtide_sys::ZeroedWords;

use super::FramesError;

/// Frames in a block, the unit of hot-plug: 128 MiB, as a section of Linux on x86-64.
pub const BLOCK_FRAMES: u64 = 1 << 15;

/// The metadata of a node, in memory of its own that is mapped afresh.
#[derive(Debug)]
pub struct Node {
    words: ZeroedWords,
    geometry: Geometry,
}

impl Node {
    /// A node of this size from frame 0 on, with nothing in the pool yet.
    ///
    /// # Errors
    /// The sizes make no node, or there is no memory for it.
    pub fn absent(frames: u64, cores: u16) -> Result<Self, FramesError> {
        let frames = frames.next_multiple_of(BLOCK_FRAMES);
        let geometry = Geometry { first: Pfn(0), frames, block_frames: BLOCK_FRAMES, cores };
        let words = Layout::new(geometry)?.words() + Layout::WORDS_SPARE;
        let words = ZeroedWords::new(words).map_err(io::Error::from)?;
        Frames::new(geometry, &words)?;
        Ok(Self { words, geometry })
    }

    /// The same with all of it in the pool: whole blocks, of one zone.
    ///
    /// # Errors
    /// As [`Node::absent`].
    pub fn new(frames: u64, cores: u16) -> Result<Self, FramesError> {
        let node = Self::absent(frames, cores)?;
        let all = FrameRange::new(node.geometry.first, node.geometry.frames);
        node.frames()?.add(all, Zone::Movable)?;
        Ok(node)
    }

    /// The allocator.
    ///
    /// # Errors
    /// None that could come up: there is a node in the memory.
    pub fn frames(&self) -> Result<Frames<'_>, FramesError> {
        Ok(Frames::attach(&self.words)?)
    }

    /// Its size.
    #[must_use]
    pub const fn geometry(&self) -> Geometry {
        self.geometry
    }

    /// Bytes of metadata, used or not.
    #[must_use]
    pub fn metadata_bytes(&self) -> u64 {
        size_of_val(&*self.words) as u64
    }
}
