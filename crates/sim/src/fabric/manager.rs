//! The manager: hands out extents under tags of its own, and asks them back.

use memtide_engine::dynamic_capacity::{DcExtent, DpaRange, More, Tag};
use serde::{Deserialize, Serialize};

use super::device::{Device, Record};

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

/// The manager.
pub(super) struct Manager {
    next_tag: u128,
}

impl Manager {
    pub(super) const fn new() -> Self {
        Self { next_tag: 1 }
    }

    pub(super) const fn tag(&mut self) -> Tag {
        self.next_tag += 1;
        Tag((self.next_tag - 1).to_be_bytes())
    }

    /// Offers a host as much as is free of what it is to have, in chains.
    pub(super) fn hand_out(
        &mut self,
        device: &mut Device,
        host: usize,
        bytes: u64,
        extent: u64,
        tags: Tags,
    ) -> Vec<Record> {
        let mut records = Vec::new();
        for ranges in device.free(extent, bytes / extent).chunks(CHAIN_MAX) {
            let shared = self.tag();
            let extents: Vec<DcExtent> = ranges
                .iter()
                .map(|&range| {
                    let tag = match tags {
                        Tags::Shared => shared,
                        Tags::Each => self.tag(),
                        Tags::None => Tag::NULL,
                    };
                    DcExtent { range, tag, sequence: 0 }
                })
                .collect();
            records.extend(device.offer(host, &extents));
        }
        records
    }

    /// Asks a host for these back, in one chain.
    pub(super) fn ask_back(extents: &[(DpaRange, Tag)]) -> Vec<Record> {
        let last = extents.len().saturating_sub(1);
        let record = |(at, &(range, tag))| {
            let more = if at == last { More::Last } else { More::Follows };
            Record::Release(range, tag, more)
        };
        extents.iter().enumerate().map(record).collect()
    }
}
