//! Tag groups: what was accepted together, from the answer to the last release.
//!
//! ```text
//!              the device             the last of it is
//!              takes the answer       released, or taken by force
//!  Answered ──────────────▶ Surfaced ──────────────────────▶ gone
//!     │                        ▲                               ▲
//!     │ rejects it             │ recovered                     │
//!     └────────────────────────┼───────────────────────────────┘
//! ```
//!
//! What was offered again meanwhile is not gone when the first answer is rejected: it goes on
//! waiting, for the word on the later one (`again`).

use alloc::{
    collections::{BTreeMap, BTreeSet},
    vec::Vec,
};

use super::{
    device::{Held, Standing},
    extent::{ChainId, DcExtent, DeviceId, DpaRange, GroupId, Tag},
    host::Host,
};

/// One group (`struct cxl_dc_tag_group`).
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct TagGroup {
    pub(super) device: DeviceId,
    pub(super) tag: Tag,
    /// The group that was accepted: itself, or that of which it is a part.
    pub(super) first: GroupId,
    pub(super) state: GroupState,
    /// What is held of it: the place of an extent, and where a piece of it starts.
    pub(super) pieces: BTreeSet<(u32, u64)>,
    pub(super) bytes: u64,
}

/// How far a group has come.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum GroupState {
    /// It is accepted; the device's word on that is yet to come.
    Answered(ChainId),
    /// It can be used.
    Surfaced,
}

/// The groups among extents, in the order in which each first came (`extract_tag_group()`). What
/// has no tag is a group of its own, and the same extent twice is there once.
pub(super) fn tag_groups(extents: Vec<DcExtent>) -> Vec<Vec<DcExtent>> {
    let mut groups: Vec<Vec<DcExtent>> = Vec::new();
    let mut seen = BTreeSet::new();
    let mut of_tag = BTreeMap::new();
    for extent in extents {
        if extent.tag.is_null() {
            groups.push(alloc::vec![extent]);
        } else if seen.insert(extent) {
            let group = *of_tag.entry(extent.tag).or_insert(groups.len());
            if group == groups.len() {
                groups.push(Vec::new());
            }
            groups[group].push(extent);
        }
    }
    groups
}

impl Host {
    /// Enters a group that passed all gates.
    pub(super) fn enter_group(
        &mut self,
        device: DeviceId,
        extents: &[DcExtent],
        state: GroupState,
    ) -> GroupId {
        let id = GroupId(self.next_group);
        self.next_group += 1;
        let tag = extents[0].tag;
        let places = 0..u32::try_from(extents.len()).expect("no more than extents_max");
        let pieces = places.clone().zip(extents.iter().map(|extent| extent.range.start)).collect();
        let bytes = extents.iter().map(|extent| extent.range.length).sum();
        self.groups.insert(id, TagGroup { device, tag, first: id, state, pieces, bytes });
        assert!(!self.tags.contains_key(&tag), "tag {tag} is used twice");
        self.note_tag(tag, id);
        let known = self.device_mut(device);
        for (place, extent) in places.zip(extents) {
            let DpaRange { start, length } = extent.range;
            let (of, standing) = (extent.range, Standing::Kept);
            let held = Held { length, group: id, place, of, standing };
            let before = known.held.insert(start, held);
            assert!(before.is_none(), "{} is held twice", extent.range);
        }
        id
    }

    /// A group has a tag.
    pub(super) fn note_tag(&mut self, tag: Tag, group: GroupId) {
        if !tag.is_null() {
            self.tags.entry(tag).or_default().insert(group);
        }
    }

    /// The pieces of a group, in the order in which its user sees them.
    pub(super) fn pieces_of(&self, group: GroupId) -> Vec<DpaRange> {
        let group = &self.groups[&group];
        let held = &self.devices[&group.device].held;
        let pieces = group.pieces.iter();
        pieces.map(|&(_, start)| DpaRange::new(start, held[&start].length)).collect()
    }

    /// Makes two pieces of one that has either end of a range inside.
    pub(super) fn split_around(&mut self, device: DeviceId, range: DpaRange) {
        for address in [Some(range.start), u64::try_from(range.end()).ok()].into_iter().flatten() {
            let known = self.device_mut(device);
            let Some((&start, held)) = known.held.range_mut(..address).next_back() else {
                continue;
            };
            if u128::from(address) < DpaRange::new(start, held.length).end() {
                let rest = Held { length: held.length - (address - start), ..*held };
                held.length = address - start;
                known.held.insert(address, rest);
                let group = self.groups.get_mut(&rest.group).expect("pieces have a group");
                group.pieces.insert((rest.place, address));
            }
        }
    }

    /// Takes pieces out of the books, and their groups when nothing is left of them. Says what of
    /// which group it was, ascending, and what is left of it.
    pub(super) fn remove_pieces(
        &mut self,
        device: DeviceId,
        starts: &BTreeSet<u64>,
    ) -> BTreeMap<GroupId, Gone> {
        let mut gone: BTreeMap<GroupId, Gone> = BTreeMap::new();
        for &start in starts {
            let known = self.device_mut(device);
            let Held { length, group, place, .. } =
                known.held.remove(&start).expect("the caller found it");
            let record = self.groups.get_mut(&group).expect("pieces have a group");
            record.bytes -= length;
            record.pieces.remove(&(place, start));
            let gone = gone.entry(group).or_default();
            gone.ranges.push(DpaRange::new(start, length));
            gone.left = record.bytes;
        }
        for (&group, _) in gone.iter().filter(|(_, gone)| gone.left == 0) {
            self.drop_group(group);
        }
        gone
    }

    /// Forgets a group of which nothing is left.
    pub(super) fn drop_group(&mut self, id: GroupId) {
        let group = self.groups.remove(&id).expect("the caller found it");
        if let Some(groups) = self.tags.get_mut(&group.tag) {
            groups.remove(&id);
            if groups.is_empty() {
                self.tags.remove(&group.tag);
            }
        }
        if let GroupState::Answered(chain) = group.state {
            let known = self.device_mut(group.device);
            let groups = known.answered.get_mut(&chain).expect("it waits for the device's word");
            groups.retain(|&other| other != id);
        }
    }
}

/// What went out of the books of one group.
#[derive(Default)]
pub(super) struct Gone {
    pub(super) ranges: Vec<DpaRange>,
    /// Bytes left of it.
    pub(super) left: u64,
}

impl Gone {
    pub(super) fn bytes(&self) -> u128 {
        self.ranges.iter().map(|range| u128::from(range.length)).sum()
    }
}
