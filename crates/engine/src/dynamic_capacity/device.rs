//! What is known of one device: its regions, its chain, and what of it was accepted.

use alloc::{
    collections::{BTreeMap, BTreeSet},
    vec::Vec,
};

use super::{
    config::{DeviceConfig, Partition},
    extent::{ChainId, DpaRange, GroupId, Tag},
    host::Totals,
    pending::Chain,
    reclaim::Reclaim,
};

/// One device.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Device {
    pub(super) config: DeviceConfig,
    /// What regions decode; no two overlap.
    pub(super) decoders: Vec<DpaRange>,
    pub(super) chain: Chain,
    /// Tags of the last chain that was cut off, as far as they did not come again.
    pub(super) torn: BTreeSet<Tag>,
    /// Chains that were answered, and what was accepted; the device's word is yet to come.
    pub(super) answered: BTreeMap<ChainId, Vec<GroupId>>,
    /// What those chains named that waited for the word on an earlier one.
    pub(super) again: BTreeMap<ChainId, Vec<DpaRange>>,
    /// What was accepted and not released, by its first address.
    pub(super) held: BTreeMap<u64, Held>,
    pub(super) reclaim: Reclaim,
    pub(super) totals: Totals,
}

/// An accepted extent, or a piece of one. A piece is made when only a part is asked back.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Held {
    pub(super) length: u64,
    pub(super) group: GroupId,
    /// The place of the extent in its group.
    pub(super) place: u32,
    /// The extent as it was accepted: what the device calls it by, whatever of it is left here.
    pub(super) of: DpaRange,
    pub(super) standing: Standing,
}

/// Whether the device wants it back.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Standing {
    /// No.
    Kept,
    /// Yes.
    Asked,
    /// Yes, and its user was asked to stop using it, and has not answered.
    Reclaiming,
}

impl Device {
    pub(super) fn new(config: DeviceConfig) -> Self {
        Self {
            config,
            decoders: Vec::new(),
            chain: Chain::Closed,
            torn: BTreeSet::new(),
            answered: BTreeMap::new(),
            again: BTreeMap::new(),
            held: BTreeMap::new(),
            reclaim: Reclaim::Idle,
            totals: Totals::default(),
        }
    }

    /// The region that an address is in (`cxl_dpa_to_region()`).
    pub(super) fn decoder_of(&self, address: u64) -> Option<DpaRange> {
        let at = DpaRange::new(address, 1);
        self.decoders.iter().copied().find(|decoder| decoder.contains(at))
    }

    /// The number of the partition that has something behind all of a range.
    pub(super) fn partition_of(&self, range: DpaRange) -> Option<usize> {
        self.config.partitions.iter().position(|partition: &Partition| partition.has(range))
    }

    /// What is held and overlaps a range, ascending.
    pub(super) fn overlapping(
        &self,
        range: DpaRange,
    ) -> impl Iterator<Item = (DpaRange, &Held)> + '_ {
        let before = self.held.range(..range.start).next_back();
        let rest = self.held.range(range.start..);
        let all = before.into_iter().chain(rest);
        all.map(|(&start, held)| (DpaRange::new(start, held.length), held))
            .skip_while(move |(piece, _)| piece.end() <= u128::from(range.start))
            .take_while(move |(piece, _)| u128::from(piece.start) < range.end())
    }

    /// The extent, by its group and place, that has all of a range (which exists).
    pub(super) fn member_of(&self, range: DpaRange) -> Option<(GroupId, u32)> {
        let mut at = u128::from(range.start);
        let mut member = None;
        for (piece, held) in self.overlapping(range) {
            let known = *member.get_or_insert((held.group, held.place));
            if known != (held.group, held.place) || u128::from(piece.start) > at {
                return None;
            }
            at = piece.end();
        }
        member.filter(|_| at >= range.end())
    }

    /// What is left of the extent that had all of a range when it was accepted, as far as it lies
    /// in that range.
    pub(super) fn left_of(&self, range: DpaRange) -> impl Iterator<Item = (DpaRange, &Held)> + '_ {
        self.overlapping(range).filter(move |(_, held)| held.of.contains(range))
    }

    /// A range made larger until it starts and ends at multiples of the alignment. What lies
    /// inside an accepted extent stays inside it: those are aligned.
    pub(super) fn aligned_out(&self, range: DpaRange) -> DpaRange {
        let align = self.config.align;
        let start = range.start - range.start % align;
        let length = range.length + (range.start - start);
        DpaRange::new(start, length.checked_next_multiple_of(align).unwrap_or(length))
    }

    /// A range made smaller until it does, if anything is left.
    pub(super) fn aligned_in(&self, range: DpaRange) -> Option<DpaRange> {
        let align = self.config.align;
        let start = range.start.checked_next_multiple_of(align)?;
        let length = range.length.checked_sub(start - range.start)?;
        let length = length - length % align;
        (length != 0).then_some(DpaRange::new(start, length))
    }
}
