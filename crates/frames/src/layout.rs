//! Where everything lies in the metadata: one slice of words, supplied by the caller.
//!
//! ```text
//! header │ one record a core │ one word a pageblock: its entry │ four bitmaps, one bit a frame │
//! isolated: one bit a pageblock │ indexes: free, runs, listed
//! ```
//!
//! The order never changes with the size, so a mapping of a file is its own address book: the
//! header says how large the node is, and all else follows. All of it may start out zero, and what
//! describes a part of the node that was never used stays untouched: a node of 64 TiB costs the
//! memory of what is in use.

use memtide_units::{Order, Pfn};

use crate::{
    bits::WORD_FRAMES, entry::GRADES, error::LayoutError, index::Shape, request::Movability,
    zone::Zone,
};

/// Words of a bitmap for one pageblock.
pub(crate) const WORDS: u64 = if cfg!(loom) { 1 } else { 8 };
/// Frames in a pageblock: 512. (The model checker gets by with a single word of 64.)
pub(crate) const FRAMES: u64 = WORDS * WORD_FRAMES;
/// The order of a pageblock.
pub(crate) const PAGEBLOCK_ORDER: u8 = FRAMES.trailing_zeros() as u8;
/// Orders above a pageblock whose runs lie within one word of the index of free pageblocks.
pub(crate) const RUN_ORDERS: u64 = 6;

const _: () = assert!(cfg!(loom) || FRAMES == memtide_units::PAGES_PER_PAGEBLOCK);

/// Words of the header. (Each costs the model checker time.)
pub(crate) const HEADER: usize = if cfg!(loom) { 96 } else { 256 };
/// Words of the record of a core.
pub(crate) const RECORD: usize = 64;
/// Words in a line of cache.
pub(crate) const LINE: usize = 8;

/// The size of a node.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Geometry {
    /// Its first frame: the first of a pageblock.
    pub first: Pfn,
    /// Frames that it may ever have, in whole blocks; they are added block by block.
    pub frames: u64,
    /// Frames in a block, the unit of hot-plug: a power of two of pageblocks.
    pub block_frames: u64,
    /// How many cores may have a cache.
    pub cores: u16,
}

/// Where what lies, in words.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Layout {
    pub(crate) geometry: Geometry,
    /// The frame that has the number zero inside: the first, rounded down to the largest order
    /// that a block of the node may have, so that all blocks are aligned in both numbers alike.
    pub(crate) origin: u64,
    /// Pageblocks from the origin to the end.
    pub(crate) pageblocks: u64,
    pub(crate) shape: Shape,
    pub(crate) run_shape: Shape,
    pub(crate) cores: usize,
    pub(crate) entries: usize,
    pub(crate) bitmaps: [usize; 4],
    pub(crate) isolated: usize,
    pub(crate) free: usize,
    pub(crate) runs: usize,
    pub(crate) listed: usize,
    pub(crate) words: usize,
}

impl Layout {
    /// Most frames of one node: 128 TiB.
    pub const FRAMES_MAX: u64 = 1 << 35;

    /// The layout of a node of this size.
    ///
    /// # Errors
    /// [`LayoutError`] when the numbers do not make a node.
    pub fn new(geometry: Geometry) -> Result<Self, LayoutError> {
        let Geometry { first, frames, block_frames, cores } = geometry;
        if !block_frames.is_power_of_two() || block_frames < FRAMES {
            return Err(LayoutError::BlockSize { block_frames });
        }
        if !first.0.is_multiple_of(FRAMES) {
            return Err(LayoutError::First { first });
        }
        if frames == 0 || !frames.is_multiple_of(block_frames) {
            return Err(LayoutError::Size { frames, block_frames });
        }
        if frames > Self::FRAMES_MAX || first.0.checked_add(frames).is_none() {
            return Err(LayoutError::Span { first, frames });
        }
        let largest = frames.next_power_of_two().min(Order::MAX.frames());
        let origin = first.0 & !(largest - 1);
        let pageblocks = (first.0 + frames - origin) / FRAMES;
        let shape = Shape::new(pageblocks);
        let run_shape = Shape::new(pageblocks.div_ceil(64));

        let mut at = HEADER;
        let mut place = |words: u64| {
            let here = at;
            let words = usize::try_from(words).ok()?;
            at = at.checked_add(words.checked_next_multiple_of(LINE)?)?;
            Some(here)
        };
        let zones = Zone::COUNT as u64;
        let lists = zones * (Movability::COUNT * GRADES) as u64;
        let mut all = || {
            Some(Self {
                geometry,
                origin,
                pageblocks,
                shape,
                run_shape,
                cores: place(u64::from(cores) * RECORD as u64)?,
                entries: place(pageblocks)?,
                bitmaps: [
                    place(pageblocks * WORDS)?,
                    place(pageblocks * WORDS)?,
                    place(pageblocks * WORDS)?,
                    place(pageblocks * WORDS)?,
                ],
                isolated: place(pageblocks.div_ceil(64))?,
                free: place(zones * shape.words() as u64)?,
                runs: place(zones * RUN_ORDERS * run_shape.words() as u64)?,
                listed: place(lists * shape.words() as u64)?,
                words: 0,
            })
        };
        let layout = all().ok_or(LayoutError::Span { first, frames })?;
        Ok(Self { words: at, ..layout })
    }

    /// The size of the node.
    #[must_use]
    pub const fn geometry(&self) -> Geometry {
        self.geometry
    }

    /// Words of 8 bytes that the metadata takes. A slice that does not start at a multiple of 64
    /// bytes needs [`Layout::WORDS_SPARE`] more.
    #[must_use]
    pub const fn words(&self) -> usize {
        self.words
    }

    /// Words that finding a multiple of 64 bytes may cost.
    pub const WORDS_SPARE: usize = LINE - 1;
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    const GIB: u64 = 1 << 18;

    fn node(frames: u64) -> Geometry {
        Geometry { first: Pfn(0), frames, block_frames: 1 << 15, cores: 2 }
    }

    #[test]
    fn nonsense_makes_no_node() {
        let error = |geometry| Layout::new(geometry).unwrap_err();
        for block_frames in [0, 256, 513, 3 << 9] {
            let geometry = Geometry { block_frames, ..node(GIB) };
            assert_eq!(error(geometry), LayoutError::BlockSize { block_frames });
        }
        assert!(matches!(error(node(0)), LayoutError::Size { .. }));
        assert!(matches!(error(node(GIB + 512)), LayoutError::Size { .. }));
        assert!(matches!(error(node(1 << 36)), LayoutError::Span { .. }));
        let first = |first| error(Geometry { first: Pfn(first), ..node(GIB) });
        assert!(matches!(first(3), LayoutError::First { .. }));
        assert!(matches!(first(u64::MAX - 511), LayoutError::Span { .. }));
    }

    #[test]
    fn half_a_byte_a_frame_is_enough() {
        for gib in [1, 16, 1 << 10, 64 << 10] {
            let layout = Layout::new(node(gib * GIB)).unwrap();
            let bytes = layout.words() as f64 * 8.0 / (gib * GIB) as f64;
            assert!(bytes < 0.65, "{gib} GiB: {bytes} bytes a frame");
        }
    }

    #[test]
    fn the_origin_keeps_alignment() {
        let layout = Layout::new(Geometry { first: Pfn(GIB + 512), ..node(1 << 15) }).unwrap();
        assert_eq!((layout.origin, layout.pageblocks), (GIB, 65));
    }
}
