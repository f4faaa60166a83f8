//! The allocator of one node: a view of its metadata.
//!
//! All state lies in the words that the caller supplied; a [`Frames`] is only where to look. So a
//! view may be made anew whenever one is needed, and several may be in use at once.

use memtide_units::{FrameRange, Order, Pfn};

use crate::{
    descriptor::{Descriptors, DescriptorsError},
    entry::{Entry, GRADES, State},
    error::LayoutError,
    index::Index,
    layout::{FRAMES, Geometry, HEADER, LINE, Layout, PAGEBLOCK_ORDER, RECORD, RUN_ORDERS, WORDS},
    primitive::{AtomicU64, Ordering::*},
    request::Movability,
    zone::Zone,
};

/// The bitmaps that describe single frames. A frame that is not taken has a zero in all of them.
/// A hole has a one in all of them: it is the only frame that is both held and a tail.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Bitmap {
    /// Not to be found by a search: taken, cached, retired, or a hole.
    Taken,
    /// Continues the block of the frame before it.
    Tail,
    /// The first of a block that is held by its number.
    Held,
    /// Out of service: poisoned, or not there at all.
    Retired,
}

/// Words of the header.
pub(crate) mod header {
    /// [`super::MAGIC`] once there is a node.
    pub(crate) const MAGIC: usize = 0;
    /// The geometry.
    pub(crate) const FIRST: usize = 1;
    pub(crate) const FRAMES: usize = 2;
    pub(crate) const BLOCK_FRAMES: usize = 3;
    pub(crate) const CORES: usize = 4;
    /// Pageblocks that are isolated; frames retired while in use.
    pub(crate) const ISOLATED: usize = 8;
    pub(crate) const RETIRING: usize = 9;
    /// Frames out of service.
    pub(crate) const RETIRED: usize = 10;
    /// The zones that have frames, one bit each, and above them those with a watermark.
    pub(crate) const POPULATED: usize = 11;
    pub(crate) const WATCHED: u32 = 16;
    /// A frame plus one that is between looking held by its number and being a hole.
    pub(crate) const EXCLUDING: usize = 12;
    /// Two lines for each zone.
    pub(crate) const ZONES: usize = 16;
    pub(crate) const ZONE: usize = 16;
    /// The first, which seldom changes: frames present; watermarks.
    pub(crate) const PRESENT: usize = 0;
    pub(crate) const WATERMARKS: usize = 1;
    /// The second: frames not taken; dedication; counters.
    pub(crate) const FREE: usize = 8;
    pub(crate) const DEDICATION: usize = 9;
    pub(crate) const BORROWED: usize = 10;
    pub(crate) const CONVERTED: usize = 11;
}

/// "memtide" and the version of the format.
pub(crate) const MAGIC: u64 = u64::from_be_bytes(*b"memtide\x01");

/// In the place of [`MAGIC`]: somebody is making a node.
const UNDER_WAY: u64 = 1;

/// The allocator of one node.
#[derive(Clone, Copy)]
pub struct Frames<'m> {
    pub(crate) layout: Layout,
    pub(crate) header: &'m [AtomicU64; HEADER],
    cores: &'m [AtomicU64],
    entries: &'m [AtomicU64],
    bitmaps: [&'m [AtomicU64]; 4],
    pub(crate) isolated: &'m [AtomicU64],
    free: &'m [AtomicU64],
    runs: &'m [AtomicU64],
    listed: &'m [AtomicU64],
    pub(crate) descriptors: Option<Descriptors<'m>>,
}

/// The part of the memory that starts at a multiple of 64 bytes: a pageblock's bits are one line.
fn aligned(words: &[AtomicU64]) -> &[AtomicU64] {
    let misplaced = words.as_ptr().addr() / 8 % LINE;
    // Loom's words are larger than 8 bytes.
    let skip = if cfg!(loom) || misplaced == 0 { 0 } else { LINE - misplaced };
    words.get(skip..).unwrap_or_default()
}

impl<'m> Frames<'m> {
    /// A new node in memory that is all zero. No block of it is in the pool yet:
    /// [`Frames::add`] them.
    ///
    /// # Errors
    /// [`LayoutError`] when the numbers do not make a node, or do not fit into the memory, or
    /// there is a node in it.
    pub fn new(geometry: Geometry, words: &'m [AtomicU64]) -> Result<Self, LayoutError> {
        let frames = Self::view(Layout::new(geometry)?, words)?;
        let magic = &frames.header[header::MAGIC];
        // Of two that race for one memory the second finds it taken, and writes nothing.
        if let Err(found) = magic.compare_exchange(0, UNDER_WAY, AcqRel, Acquire) {
            return Err(LayoutError::NotZero { found });
        }
        let Geometry { first, frames: count, block_frames, cores } = geometry;
        frames.header[header::FIRST].store(first.0, Relaxed);
        frames.header[header::FRAMES].store(count, Relaxed);
        frames.header[header::BLOCK_FRAMES].store(block_frames, Relaxed);
        frames.header[header::CORES].store(u64::from(cores), Relaxed);
        // Last: whoever sees it sees a node.
        magic.store(MAGIC, Release);
        Ok(frames)
    }

    /// The node that is in this memory already.
    ///
    /// # Errors
    /// [`LayoutError`] when there is none.
    pub fn attach(words: &'m [AtomicU64]) -> Result<Self, LayoutError> {
        let words = aligned(words);
        let Some(header) = words.first_chunk::<HEADER>() else {
            return Err(LayoutError::Memory { words: words.len(), needed: HEADER });
        };
        let found = header[header::MAGIC].load(Acquire);
        if found != MAGIC {
            return Err(LayoutError::NoNode { found, expected: MAGIC });
        }
        let load = |at: usize| header[at].load(Relaxed);
        let cores = load(header::CORES);
        let cores = u16::try_from(cores).map_err(|_| LayoutError::Cores { cores })?;
        let geometry = Geometry {
            first: Pfn(load(header::FIRST)),
            frames: load(header::FRAMES),
            block_frames: load(header::BLOCK_FRAMES),
            cores,
        };
        Self::view(Layout::new(geometry)?, words)
    }

    /// The same with a descriptor for each frame, kept up to date by this view. Either all views of
    /// a node have its descriptors, or none.
    ///
    /// # Errors
    /// [`DescriptorsError`] when they are those of a node of another size.
    pub fn with_descriptors(self, descriptors: Descriptors<'m>) -> Result<Self, DescriptorsError> {
        let (words, needed) = (descriptors.len(), Descriptors::words(&self.layout));
        if words != needed {
            return Err(DescriptorsError { words, needed });
        }
        Ok(Self { descriptors: Some(descriptors), ..self })
    }

    fn view(layout: Layout, words: &'m [AtomicU64]) -> Result<Self, LayoutError> {
        let words = aligned(words);
        let words = words
            .get(..layout.words)
            .ok_or(LayoutError::Memory { words: words.len(), needed: layout.words })?;
        let [taken, tail, held, retired] = layout.bitmaps;
        let header = words.first_chunk().expect("a layout has a header");
        Ok(Self {
            layout,
            header,
            cores: &words[layout.cores..layout.entries],
            entries: &words[layout.entries..taken],
            bitmaps: [
                &words[taken..tail],
                &words[tail..held],
                &words[held..retired],
                &words[retired..layout.isolated],
            ],
            isolated: &words[layout.isolated..layout.free],
            free: &words[layout.free..layout.runs],
            runs: &words[layout.runs..layout.listed],
            listed: &words[layout.listed..],
            descriptors: None,
        })
    }

    /// Where everything lies.
    #[must_use]
    pub const fn layout(&self) -> &Layout {
        &self.layout
    }

    /// All frames that the node may ever have.
    #[must_use]
    pub const fn span(&self) -> FrameRange {
        FrameRange::new(self.layout.geometry.first, self.layout.geometry.frames)
    }

    /// Whether this is a view of the same node as the other.
    #[inline(always)]
    pub(crate) fn is_same(&self, other: &Self) -> bool {
        core::ptr::eq(self.header, other.header)
    }

    /// The zone of a frame, if its block is in the pool.
    #[must_use]
    pub fn zone_of(&self, pfn: Pfn) -> Option<Zone> {
        let entry = self.entry(self.index(pfn)? / FRAMES);
        (entry.state() != State::Absent).then(|| entry.zone())
    }

    /// The number of a frame from its number inside the node.
    #[inline(always)]
    pub(crate) const fn pfn(&self, index: u64) -> Pfn {
        Pfn(self.layout.origin + index)
    }

    /// The number inside the node of a frame of it.
    pub(crate) fn index(&self, pfn: Pfn) -> Option<u64> {
        self.span().contains(pfn).then(|| pfn.0 - self.layout.origin)
    }

    /// The pageblocks of a range inside the node that starts and ends with one.
    pub(crate) fn pageblocks_of(&self, range: FrameRange) -> Option<core::ops::Range<u64>> {
        let whole = range.frames != 0
            && range.start.0.is_multiple_of(FRAMES)
            && range.frames.is_multiple_of(FRAMES);
        let last = range.start.checked_add(range.frames.checked_sub(1)?)?;
        if !whole || self.index(last).is_none() {
            return None;
        }
        let first = self.index(range.start)? / FRAMES;
        Some(first..first + range.frames / FRAMES)
    }

    /// The frames of a pageblock.
    pub(crate) const fn frames_of(&self, pb: u64) -> FrameRange {
        FrameRange::new(self.pfn(pb * FRAMES), FRAMES)
    }

    /// The record of a core.
    pub(crate) fn record(&self, core: u16) -> &'m [AtomicU64; RECORD] {
        let at = usize::from(core) * RECORD;
        self.cores[at..at + RECORD].first_chunk().expect("a record's length")
    }

    /// The entry of a pageblock.
    #[inline(always)]
    pub(crate) fn entry(&self, pb: u64) -> Entry {
        Entry(self.entries[pb as usize].load(SeqCst))
    }

    /// Changes the entry of a pageblock that the caller owns. What is found in an index is
    /// published by the index; see [`Frames::publish_entry`] for what is not.
    #[inline(always)]
    pub(crate) fn set_entry(&self, pb: u64, entry: Entry) {
        self.entries[pb as usize].store(entry.0, Release);
    }

    /// The same, where the caller will next look at what others may have freed meanwhile.
    pub(crate) fn publish_entry(&self, pb: u64, entry: Entry) {
        self.entries[pb as usize].store(entry.0, SeqCst);
    }

    /// Changes the entry of a pageblock if it is still `from`.
    pub(crate) fn exchange_entry(&self, pb: u64, from: Entry, to: Entry) -> bool {
        self.entries[pb as usize].compare_exchange(from.0, to.0, SeqCst, Relaxed).is_ok()
    }

    /// A word of a bitmap.
    #[inline(always)]
    pub(crate) fn word(&self, bitmap: Bitmap, word: u64) -> &'m AtomicU64 {
        &self.bitmaps[bitmap as usize][word as usize]
    }

    /// The words of a bitmap for a pageblock.
    #[inline(always)]
    pub(crate) fn words_of(&self, bitmap: Bitmap, pb: u64) -> &'m [AtomicU64] {
        let at = (pb * WORDS) as usize;
        &self.bitmaps[bitmap as usize][at..at + WORDS as usize]
    }

    /// The bit of a frame in a bitmap.
    pub(crate) fn bit(&self, bitmap: Bitmap, index: u64) -> bool {
        self.word(bitmap, index / 64).load(SeqCst) >> (index % 64) & 1 != 0
    }

    /// The pageblocks of a zone that are wholly free.
    #[inline(always)]
    pub(crate) fn free(&self, zone: u64) -> Index<'_> {
        let shape = &self.layout.shape;
        let words = shape.words();
        let at = zone as usize * words;
        Index::new(&self.free[at..at + words], shape)
    }

    /// The words of [`Frames::free`] that may have an aligned run of 2^`run` pageblocks.
    #[inline(always)]
    pub(crate) fn runs(&self, zone: u64, run: u64) -> Index<'_> {
        let shape = &self.layout.run_shape;
        let words = shape.words();
        let at = (zone * RUN_ORDERS + run - 1) as usize * words;
        Index::new(&self.runs[at..at + words], shape)
    }

    /// The pageblocks of a zone that are partly free, of this movability and grade.
    pub(crate) fn listed(&self, zone: u64, movability: Movability, grade: u64) -> Index<'_> {
        let shape = &self.layout.shape;
        let words = shape.words();
        let list = (zone as usize * Movability::COUNT + movability as usize) * GRADES;
        let at = (list + grade as usize) * words;
        Index::new(&self.listed[at..at + words], shape)
    }

    /// A word of the line of a zone.
    #[inline(always)]
    pub(crate) fn zone_word(&self, zone: u64, word: usize) -> &'m AtomicU64 {
        &self.header[header::ZONES + zone as usize * header::ZONE + word]
    }

    /// Whether any pageblock is isolated.
    #[inline(always)]
    pub(crate) fn is_any_isolated(&self) -> bool {
        self.header[header::ISOLATED].load(SeqCst) != 0
    }

    /// Whether nothing is to be handed out of a pageblock.
    #[inline(always)]
    pub(crate) fn is_isolated(&self, pb: u64) -> bool {
        self.is_any_isolated()
            && self.isolated[(pb / 64) as usize].load(SeqCst) >> (pb % 64) & 1 != 0
    }

    /// The order of a block, as its type.
    pub(crate) const fn order(exponent: u8) -> Order {
        Order::new(exponent).expect("only orders are stored")
    }
}

/// Pageblocks in a block of this order, which is a pageblock's or more.
pub(crate) const fn pageblocks_in(order: u8) -> u64 {
    1 << (order - PAGEBLOCK_ORDER)
}

const _: () = assert!(Zone::COUNT * header::ZONE + header::ZONES <= HEADER);
