//! Regions as runs of pageblocks.

use memtide_units::{Extent, NodeId, PAGEBLOCK_BYTES, Pageblock};

use crate::dynamic_capacity::extent::{DeviceId, DpaRange};

/// Most pageblocks in one extent of a message: a power of two, so that blocks stay whole.
const EXTENT_PAGEBLOCKS_MAX: u64 = 1 << 31;

/// A region of a device, and the pageblocks of a node that are its memory, one after the other.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Window {
    /// Which device.
    pub device: DeviceId,
    /// What its endpoint decoder decodes: whole blocks of the node.
    pub decoder: DpaRange,
    /// Which node.
    pub node: NodeId,
    /// The pageblock of its first address.
    pub first: Pageblock,
}

impl Window {
    pub(super) const fn pageblocks(&self) -> u64 {
        self.decoder.length / PAGEBLOCK_BYTES
    }

    /// The pageblocks of a part of it.
    pub(super) fn extents(&self, range: DpaRange) -> impl Iterator<Item = Extent> + use<> {
        let first = self.first.0 + (range.start - self.decoder.start) / PAGEBLOCK_BYTES;
        let count = range.length / PAGEBLOCK_BYTES;
        (0..count).step_by(EXTENT_PAGEBLOCKS_MAX as usize).map(move |at| {
            let here = (count - at).min(EXTENT_PAGEBLOCKS_MAX);
            Extent::new(Pageblock(first + at), u32::try_from(here).expect("2^31 at most"))
        })
    }

    /// What of it some pageblocks are.
    pub(super) fn range_of(&self, extent: Extent) -> Option<DpaRange> {
        let start = extent.start.0.max(self.first.0);
        let end = extent.end()?.0.min(self.first.0 + self.pageblocks());
        let pageblocks = end.checked_sub(start).filter(|&count| count != 0)?;
        let offset = (start - self.first.0) * PAGEBLOCK_BYTES;
        Some(DpaRange::new(self.decoder.start + offset, pageblocks * PAGEBLOCK_BYTES))
    }

    /// Whether its pageblocks have a number, and none of them is of the other window.
    pub(super) const fn is_apart_from(&self, other: &Self) -> bool {
        other.first.0 + other.pageblocks() <= self.first.0
            || other.first.0 >= self.first.0 + self.pageblocks()
    }
}
