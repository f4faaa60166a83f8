//! Lists of extents, as hosts and managers send them.

use alloc::vec::Vec;

use memtide_units::{DcExtent, DpaRange, Tag};

use super::{Device, Refusal};

impl Device {
    /// Checks that each of some ranges is made of whole blocks of one region, and that no two
    /// overlap (CXL 3.1, 8.2.9.9.9.3: malformed lists). What lies in no region is `outside`.
    pub(super) fn well_formed(
        &self,
        ranges: &[DpaRange],
        outside: fn(DpaRange) -> Refusal,
    ) -> Result<(), Refusal> {
        for &range in ranges {
            if range.length == 0 {
                return Err(Refusal::Empty { range });
            }
            let region = self.region_of(range).ok_or_else(|| outside(range))?;
            let block_size = self.regions[region].config.block_size;
            if !range.is_aligned(block_size) {
                return Err(Refusal::Unaligned { range, block_size });
            }
        }
        let mut sorted = ranges.to_vec();
        sorted.sort();
        match sorted.windows(2).find(|two| two[0].overlaps(two[1])) {
            Some(two) => Err(Refusal::Overlap { range: two[1], other: two[0] }),
            None => Ok(()),
        }
    }

    /// The tags among some extents that name sharable capacity, each once.
    pub(super) fn shared_tags(&self, extents: &[DcExtent]) -> Vec<Tag> {
        let mut tags: Vec<Tag> = extents.iter().map(|extent| extent.tag).collect();
        tags.sort();
        tags.dedup();
        tags.retain(|tag| self.shared.contains_key(tag));
        tags
    }

    /// Whether an allocation has this tag.
    pub(super) fn is_used(&self, tag: Tag) -> bool {
        self.shared.contains_key(&tag) || self.hosts.iter().any(|host| host.uses(tag))
    }
}
