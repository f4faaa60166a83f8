//! The shapes of node that the walks go through.

use memtide_frames::{AtomicU64, Descriptors, FrameRange, Geometry, Layout, Pfn, Zone};

use super::op;

/// Frames of a pageblock.
pub const PAGEBLOCK: u64 = 512;

/// A node before the first operation.
#[derive(Clone, Debug)]
pub struct Shape {
    /// Its size.
    pub geometry: Geometry,
    /// The zone of each block, or `None` for one that is not in the pool yet.
    pub zones: Vec<Option<Zone>>,
    /// Whether there are descriptors.
    pub descriptors: Option<usize>,
}

/// How many cores each node has.
pub const CORES: u16 = 3;

impl Shape {
    /// The shape of a record: mostly small, sometimes large enough for all orders.
    pub fn of([kind, a, b, c]: [u16; 4]) -> Self {
        if kind % 16 == 15 { Self::large(a) } else { Self::small(kind, a, b, c) }
    }

    fn small(kind: u16, a: u16, b: u16, c: u16) -> Self {
        let block_frames = PAGEBLOCK << (kind % 3);
        let blocks = [4, 6, 8, 5, 16][usize::from(kind / 3 % 5)].min(16 >> (kind % 3));
        // At times across a multiple of 1 GiB, mostly not at one.
        let first = u64::from(a % 1024) * PAGEBLOCK;
        let zones = (0..blocks).map(|n| match b % 8 {
            0 => Some(Zone::Normal),
            1 => Some(op::zone(b >> 3)),
            _ => {
                let own = b.rotate_left(3 * n) ^ c.rotate_right(5 * n);
                (!own.is_multiple_of(8)).then(|| op::zone(own >> 3))
            }
        });
        Self::new(first, block_frames, zones.collect(), kind >> 8 & 1 != 0)
    }

    /// Some 1300 pageblocks: a block of 1 GiB is possible, just one.
    pub fn large(a: u16) -> Self {
        let zone = |n: u64| match n {
            0..60 => Some(Zone::Normal),
            60..64 => None,
            64..80 => Some(Zone::Movable),
            // The pageblocks from 336 to 1556, seen from the origin.
            _ if a.is_multiple_of(4) => Some(op::zone(a >> 4)),
            _ => Some(Zone::Normal),
        };
        // Every pageblock from 256 on, in blocks of 4.
        Self::new(256 * PAGEBLOCK, 4 * PAGEBLOCK, (0..325).map(zone).collect(), false)
    }

    /// A node of blocks that are in these zones.
    pub fn new(first: u64, block_frames: u64, zones: Vec<Option<Zone>>, descriptors: bool) -> Self {
        let frames = zones.len() as u64 * block_frames;
        let geometry = Geometry { first: Pfn(first), frames, block_frames, cores: CORES };
        let layout = Layout::new(geometry).unwrap();
        Self { geometry, zones, descriptors: descriptors.then(|| Descriptors::words(&layout)) }
    }

    /// The frames of a block.
    pub fn block(&self, block: u64) -> FrameRange {
        let Geometry { first, block_frames, .. } = self.geometry;
        FrameRange::new(Pfn(first.0 + block * block_frames), block_frames)
    }

    /// Memory for its metadata.
    pub fn memory(&self) -> Vec<AtomicU64> {
        memory(Layout::new(self.geometry).unwrap().words() + Layout::WORDS_SPARE)
    }
}

/// So many zero words.
pub fn memory(words: usize) -> Vec<AtomicU64> {
    (0..words).map(|_| AtomicU64::new(0)).collect()
}
