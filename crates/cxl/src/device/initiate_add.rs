//! 5604h: a manager has capacity offered to a host (CXL 3.1, 7.6.7.6.5).
//!
//! Free and contiguous: the device chooses, in one region, under one tag. Prescriptive: the
//! manager lists extents, each with its tag; the fields for region, length and tag are reserved
//! and not looked at. Enable shared access: another host gets what is under a sharable tag, once
//! somebody has accepted it, or the manager keeps it.

use alloc::{collections::BTreeSet, vec::Vec};

use memtide_units::{DcExtent, Tag};

use super::{
    Device, Refusal,
    host::{Offer, OfferState},
    region::Layout,
    shared::{End, Shared},
};
use crate::command::{
    events::DynamicCapacityEventKind,
    fabric_manager::{InitiateAdd, Selection},
};

impl Device {
    /// Offers capacity to a host.
    ///
    /// # Errors
    /// Unknown hosts, regions and tags, lengths and lists that are wrong, what is not free or
    /// cannot be remembered, and records for which the host's log has no room now. Nothing has
    /// changed.
    pub fn initiate_add(&mut self, request: &InitiateAdd) -> Result<(), Refusal> {
        let host = self.known(request.host)?;
        let extents = match request.selection {
            Selection::Free => self.select(request, Layout::Any)?,
            Selection::Contiguous => self.select(request, Layout::Contiguous)?,
            Selection::Prescriptive => self.check_prescribed(&request.extents)?,
            Selection::EnableSharedAccess => self.check_shared(host, request)?,
        };
        self.check_memory(host, &extents)?;
        self.check_log(host, extents.len())?;
        self.offer(host, extents);
        Ok(())
    }

    /// What a request for free capacity gets.
    fn select(&self, request: &InitiateAdd, layout: Layout) -> Result<Vec<DcExtent>, Refusal> {
        let region = self.region(request.region)?;
        let (length, block_size) = (request.length, region.config.block_size);
        if length == 0 || !length.is_multiple_of(block_size) {
            return Err(Refusal::Length { length, block_size });
        }
        let tag = request.tag;
        if region.is_sharable() && tag.is_null() {
            return Err(Refusal::NoTag { region: request.region });
        }
        if !tag.is_null() && self.is_used(tag) {
            return Err(Refusal::TagInUse { tag });
        }
        self.check_capacity(length)?;
        let chosen = region.select(length, layout)?;
        let extent = |(number, range)| {
            let sequence = if region.is_sharable() { number as u16 } else { 0 };
            DcExtent { range, tag, sequence }
        };
        Ok(chosen.into_iter().enumerate().map(extent).collect())
    }

    /// What is under a tag, for one more host.
    fn check_shared(&self, host: usize, request: &InitiateAdd) -> Result<Vec<DcExtent>, Refusal> {
        let (region, tag) = (request.region, request.tag);
        if !self.region(region)?.is_sharable() {
            return Err(Refusal::NotSharable { region });
        }
        let shared = self.shared.get(&tag).ok_or(Refusal::NoSharedTag { tag })?;
        if shared.region != region {
            return Err(Refusal::OtherRegion { tag, lies: shared.region, region });
        }
        if shared.is_with(host) {
            return Err(Refusal::SharedAlready { host: request.host, tag });
        }
        if shared.holders.is_empty() && !shared.referenced {
            return Err(Refusal::NotYetShared { tag });
        }
        Ok(shared.extents.clone())
    }

    /// Whether there is so much medium, behind whichever addresses.
    pub(super) fn check_capacity(&self, length: u64) -> Result<(), Refusal> {
        let free = self.unused();
        if length <= free {
            return Ok(());
        }
        let sanitizing: u64 = self.sanitizing().map(|range| range.length).sum();
        if length <= free.saturating_add(sanitizing) {
            return Err(Refusal::Sanitizing { length });
        }
        Err(Refusal::Capacity { length, free })
    }

    /// Whether the device can remember an offer.
    fn check_memory(&self, host: usize, extents: &[DcExtent]) -> Result<(), Refusal> {
        // What only the manager keeps changes sides, if that is what is offered.
        let kept = extents.first().map(|extent| extent.tag);
        let (extents_left, tags_left) = self.available(host, kept);
        if extents.len() > extents_left {
            return Err(Refusal::Extents { needed: extents.len(), available: extents_left });
        }
        let known = self.hosts[host].tags();
        let tags: BTreeSet<Tag> = extents.iter().map(|extent| extent.tag).collect();
        let needed = tags.iter().filter(|tag| !tag.is_null() && !known.contains(*tag)).count();
        if needed > tags_left {
            return Err(Refusal::Tags { needed, available: tags_left });
        }
        Ok(())
    }

    /// Whether a host's log has room for a group of records.
    pub(super) fn check_log(&self, host: usize, records: usize) -> Result<(), Refusal> {
        let log = &self.hosts[host].log;
        if records > log.limit() {
            return Err(Refusal::LogTooSmall { records, limit: log.limit() });
        }
        if records > log.room() {
            let host = crate::command::HostId(host as u16);
            return Err(Refusal::LogFull { host, records, room: log.room() });
        }
        Ok(())
    }

    fn offer(&mut self, host: usize, extents: Vec<DcExtent>) {
        for &extent in &extents {
            let number = self.region_of(extent.range).expect("offers were checked");
            let region = &mut self.regions[number];
            // Shared access to what is allocated already takes nothing.
            region.free.remove(extent.range);
            if region.is_sharable() {
                self.share(number as u8, extent, host);
            }
        }
        let state = OfferState::Open;
        self.hosts[host].offers.push_back(Offer { extents: extents.clone(), state });
        self.tell_host(host, DynamicCapacityEventKind::Add, 0, &extents);
        self.tags_changed();
    }

    /// Remembers an extent of sharable capacity that a host is offered.
    fn share(&mut self, region: u8, extent: DcExtent, host: usize) {
        let shared = self.shared.entry(extent.tag).or_insert_with(|| Shared {
            region,
            extents: Vec::new(),
            holders: BTreeSet::new(),
            pending: BTreeSet::new(),
            referenced: false,
            end: End::Untouched,
        });
        shared.pending.insert(host);
        if !shared.extents.contains(&extent) {
            shared.extents.push(extent);
            shared.extents.sort_by_key(|extent| extent.sequence);
        }
    }
}
