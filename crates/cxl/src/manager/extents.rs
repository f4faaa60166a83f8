//! What of a device requests speak of: regions, extents, tags, and the way it is told.

use alloc::{collections::BTreeMap, vec::Vec};

use memtide_units::{DcExtent, DpaRange, Tag};

use super::{
    check::{Exclusive, MAX_EXTENTS, policy_bit},
    config::Chooser,
    device::{Device, is_sharable, range_of},
    ranges::{Ranges, bytes_of},
    request::{Policy, RequestError},
};
use crate::command::{HostId, fabric_manager::Selection};

impl Policy {
    /// How a device is told to choose for it.
    pub(super) const fn by_device(&self) -> Selection {
        match self {
            Self::Contiguous => Selection::Contiguous,
            Self::Shared => Selection::EnableSharedAccess,
            Self::Free | Self::Prescriptive(_) => Selection::Free,
        }
    }
}

impl Device {
    /// How the device is told where to find what a policy wants, and the policy's name.
    ///
    /// The device chooses only where it overwrites whatever is released, and has always done so:
    /// elsewhere nobody but this manager knows whose data is in what is free.
    pub(super) fn selection(
        &self,
        policy: &Policy,
        tag: Tag,
        region: Option<u8>,
    ) -> (Selection, &'static str) {
        let mut regions = (0..).zip(&self.regions);
        let overwrites = regions.all(|(number, known): (u8, _)| {
            region.is_some_and(|region| region != number) || self.is_clean_region(known)
        });
        let does = self.info.as_ref().map_or(0, |info| info.add_policies);
        let chooses = |selection| {
            self.chooser == Chooser::Device
                && !tag.is_null()
                && self.tags.is_some()
                && overwrites
                && does & policy_bit(selection) != 0
        };
        match policy {
            Policy::Free if chooses(Selection::Free) => (Selection::Free, "free"),
            Policy::Contiguous if chooses(Selection::Contiguous) => {
                (Selection::Contiguous, "contiguous")
            }
            Policy::Shared => (Selection::EnableSharedAccess, "shared"),
            Policy::Free | Policy::Contiguous | Policy::Prescriptive(_) => {
                (Selection::Prescriptive, "prescriptive")
            }
        }
    }

    /// How much there is in a region, or in all, and what extents are multiples of, at least.
    pub(super) fn room_in(&self, region: Option<u8>) -> Result<(u64, u64), RequestError> {
        let count = self.regions.len();
        if let Some(region) = region {
            let known = self.regions.get(usize::from(region));
            let known = known.ok_or(RequestError::NoSuchRegion { region, count })?;
            return Ok((known.length, known.block_size));
        }
        let block = self.regions.iter().map(|region| region.block_size).min();
        Ok((self.capacity(), block.unwrap_or(1)))
    }

    /// Extents of whole blocks in one region, each byte once.
    pub(super) fn check_extents(
        &self,
        extents: &[DpaRange],
        region: Option<u8>,
    ) -> Result<Ranges, RequestError> {
        let count = extents.len();
        if !(1..=MAX_EXTENTS).contains(&count) {
            return Err(RequestError::Extents { count, most: MAX_EXTENTS });
        }
        let mut seen = Ranges::default();
        let mut first = region;
        for &extent in extents {
            let (_, smallest) = self.room_in(None)?;
            let wrong = |block| RequestError::Extent { extent, block };
            let (number, known) = self.region_of(extent.start).ok_or_else(|| wrong(smallest))?;
            let block = known.block_size;
            let is_inside = range_of(known).contains(extent);
            let is_new = seen.common(extent).is_empty();
            let is_right = extent.exists() && extent.is_aligned(block) && is_inside && is_new;
            if !is_right || *first.get_or_insert(number) != number {
                return Err(wrong(block));
            }
            seen.insert(extent);
        }
        Ok(seen)
    }

    /// How much there is to share under a tag.
    pub(super) fn check_shared(&self, to: HostId, tag: Tag) -> Result<u64, RequestError> {
        if tag.is_null() {
            return Err(RequestError::NoTag);
        }
        let extents = self.extents_of(tag);
        let Some(first) = extents.first() else { return Err(RequestError::NoSuchTag { tag }) };
        if !self.region_of(first.start).is_some_and(|(_, region)| is_sharable(region)) {
            return Err(RequestError::NotSharable { tag });
        }
        let offered = self.ports[&to].offer.as_ref().is_some_and(|o| o.record.tag == tag);
        if offered || self.held_by(to).iter().any(|extent| extent.tag == tag) {
            return Err(RequestError::SharedAlready { tag, host: self.ports[&to].name.clone() });
        }
        Ok(bytes_of(&extents))
    }

    /// Which of a host's extents to ask for: what has no tag, the last first; then whole tags that
    /// fit, the largest first.
    pub(super) fn give(
        &self,
        from: HostId,
        size: u64,
        asked: &Ranges,
        exclusive: Exclusive,
    ) -> Ranges {
        let mut chosen = Ranges::default();
        let mut left = size;
        let mut plain = Ranges::default();
        let mut tags: BTreeMap<Tag, Vec<DpaRange>> = Default::default();
        let may = |extent: &&DcExtent| {
            let region = self.region_of(extent.range.start);
            exclusive == Exclusive::Any || !region.is_some_and(|(_, region)| is_sharable(region))
        };
        for extent in self.held_by(from).iter().filter(may) {
            match extent.tag.is_null() {
                true => plain.insert(extent.range),
                false => tags.entry(extent.tag).or_default().push(extent.range),
            }
        }
        asked.iter().for_each(|range| plain.remove(range));
        for region in self.regions.iter().rev() {
            let block = region.block_size;
            for run in plain.common(range_of(region)).into_iter().rev() {
                let take = run.length.min(left / block * block);
                chosen.insert(DpaRange::new(run.start + (run.length - take), take));
                left -= take;
            }
        }
        let mut tags: Vec<(u64, Vec<DpaRange>)> =
            tags.into_values().map(|extents| (bytes_of(&extents), extents)).collect();
        tags.sort_by_key(|&(bytes, _)| core::cmp::Reverse(bytes));
        for (bytes, extents) in tags {
            let is_asked = extents.iter().any(|&extent| !asked.common(extent).is_empty());
            if bytes <= left && !is_asked {
                extents.into_iter().for_each(|extent| chosen.insert(extent));
                left -= bytes;
            }
        }
        chosen
    }
}
