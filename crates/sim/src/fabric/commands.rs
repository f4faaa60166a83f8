//! What the device is told by the other side: extents of one size, handed out under tags, asked
//! back, taken.
//!
//! An operator chooses here, to show what becomes of allocations of every shape; those that the
//! manager of [`crate::pool`] makes have no tags. The commands are the same: 5604h and 5605h.

use memtide_cxl::{
    command::{
        HostId, Sanitize,
        fabric_manager::{Force, InitiateAdd, InitiateRelease, Removal, Selection},
    },
    device::{Device, Refusal},
};
use memtide_units::{DcExtent, DpaRange, Tag};
use serde::{Deserialize, Serialize};

/// Records of one chain: no more than a host is sure to remember.
pub(crate) const CHAIN_MAX: usize = 100;

/// How extents are tagged.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Tags {
    /// As few allocations as can be: a tag for all extents of a chain.
    Shared,
    /// A tag for each extent.
    Each,
    /// None.
    None,
}

/// Who chooses.
pub(super) struct Operator {
    capacity: u64,
    extent: u64,
    tags: Tags,
    next_tag: u128,
}

impl Operator {
    pub(super) const fn new(capacity: u64, extent: u64, tags: Tags) -> Self {
        Self { capacity, extent, tags, next_tag: 1 }
    }

    pub(super) const fn tag(&mut self) -> Tag {
        self.next_tag += 1;
        Tag((self.next_tag - 1).to_be_bytes())
    }

    /// The lowest free extents, as many as are wanted and there.
    pub(super) fn free(&self, device: &Device, count: u64) -> Vec<DpaRange> {
        let hosts = || device.hosts();
        let held = hosts().flat_map(|host| device.held(host));
        let offered = hosts().flat_map(|host| device.offers(host).flatten());
        let mut taken: Vec<DpaRange> =
            held.chain(offered).map(|extent| extent.range).chain(device.sanitizing()).collect();
        taken.sort_unstable();
        let is_free = |range: &DpaRange| {
            let next = taken.partition_point(|taken| taken.end() <= u128::from(range.start));
            taken.get(next).is_none_or(|taken| !taken.overlaps(*range))
        };
        let all = (0..self.capacity / self.extent).map(|n| n * self.extent);
        let all = all.map(|start| DpaRange::new(start, self.extent));
        all.filter(is_free).take(count as usize).collect()
    }

    /// Offers a host as much as is free of what it is to have, in chains.
    pub(super) fn hand_out(
        &mut self,
        device: &mut Device,
        host: HostId,
        bytes: u64,
    ) -> Result<(), Refusal> {
        for ranges in self.free(device, bytes / self.extent).chunks(CHAIN_MAX) {
            let shared = self.tag();
            let extents = ranges.iter().map(|&range| {
                let tag = match self.tags {
                    Tags::Shared => shared,
                    Tags::Each => self.tag(),
                    Tags::None => Tag::NULL,
                };
                DcExtent { range, tag, sequence: 0 }
            });
            device.initiate_add(&InitiateAdd {
                host,
                selection: Selection::Prescriptive,
                region: 0,
                length: 0,
                tag: Tag::NULL,
                extents: extents.collect(),
            })?;
        }
        Ok(())
    }
}

/// Asks a host for extents in one chain, or takes them.
pub(super) fn release(
    device: &mut Device,
    host: HostId,
    force: Force,
    extents: Vec<DcExtent>,
) -> Result<(), Refusal> {
    if extents.is_empty() {
        return Ok(());
    }
    device.initiate_release(&InitiateRelease {
        host,
        removal: Removal::Prescriptive,
        force,
        sanitize: Sanitize::OnRelease,
        length: 0,
        tag: Tag::NULL,
        extents,
    })
}
