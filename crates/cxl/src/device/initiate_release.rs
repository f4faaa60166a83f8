//! 5605h: a manager asks a host for capacity, or takes it (CXL 3.1, 7.6.7.6.6).
//!
//! Tag-based: the device chooses among what the host has under the tag, from its highest address
//! down; the null tag stands for what has none. Prescriptive: the manager lists ranges of whole
//! blocks; a tag in the list that is not null must be theirs. Of a sharable tag it is all or
//! nothing.
//!
//! Asked, the host gets a record for each extent. Forced, it has lost them at once, and gets
//! records if its log has room. Force also reaches what was offered and not answered: that offer
//! is dead as a whole, without a record.

use alloc::vec::Vec;

use memtide_units::{DcExtent, DpaRange};

use super::{Device, Refusal};
use crate::command::{
    HostId, Sanitize,
    events::DynamicCapacityEventKind,
    fabric_manager::{Force, InitiateRelease, Removal},
};

/// What a request is about.
#[derive(Default)]
struct Target {
    /// Ranges that the host holds; each in one extent.
    held: Vec<DcExtent>,
    /// Ranges that it was offered.
    offered: Vec<DpaRange>,
}

impl Device {
    /// Asks a host for capacity, or takes it.
    ///
    /// # Errors
    /// Unknown hosts and tags, lengths and lists that are wrong or more than the host has, what
    /// cannot be remembered, and records for which the host's log has no room now. Nothing has
    /// changed.
    pub fn initiate_release(&mut self, request: &InitiateRelease) -> Result<(), Refusal> {
        let host = self.known(request.host)?;
        let target = match request.removal {
            Removal::TagBased => self.by_tag(host, request)?,
            Removal::Prescriptive => self.by_list(host, request)?,
        };
        let ranges: Vec<DpaRange> = target.held.iter().map(|part| part.range).collect();
        match request.force {
            Force::Ask => {
                self.check_log(host, target.held.len())?;
                self.wish(host, &target.held, request.sanitize);
                self.tell_host(host, DynamicCapacityEventKind::Release, 0, &target.held);
            }
            Force::Take => {
                self.check_split(host, &ranges)?;
                self.wish(host, &target.held, request.sanitize);
                self.kill(host, &target.offered, request.sanitize);
                if !ranges.is_empty() {
                    let parts = self.end(host, &ranges);
                    self.tell_host(host, DynamicCapacityEventKind::ForcedRelease, 0, &parts);
                }
            }
        }
        Ok(())
    }

    /// Remembers that parts of what a host holds are to be overwritten in the end.
    fn wish(&mut self, host: usize, parts: &[DcExtent], sanitize: Sanitize) {
        if sanitize == Sanitize::Never {
            return;
        }
        for part in parts {
            if self.shared.contains_key(&part.tag) {
                self.sanitize_shared(part.tag);
            } else {
                self.hosts[host].sanitize.insert(part.range);
            }
        }
    }

    fn by_tag(&self, host: usize, request: &InitiateRelease) -> Result<Target, Refusal> {
        let (tag, length) = (request.tag, request.length);
        let is_tagged = |extent: &&DcExtent| extent.tag == tag;
        let mut candidates: Vec<DcExtent> =
            self.hosts[host].held.iter().rev().filter(is_tagged).copied().collect();
        let offered = self.hosts[host].offered().filter(is_tagged).copied();
        let all: Vec<DcExtent> = candidates.iter().copied().chain(offered).collect();
        if all.is_empty() {
            return Err(Refusal::NothingTagged { host: HostId(host as u16), tag });
        }
        let blocks = all.iter().map(|extent| self.block_size(extent.range));
        let block_size = blocks.max().expect("there are some");
        if length == 0 || !length.is_multiple_of(block_size) {
            return Err(Refusal::Length { length, block_size });
        }
        if request.force == Force::Take {
            candidates = all;
        }
        let bytes: u64 = candidates.iter().map(|extent| extent.range.length).sum();
        if length > bytes {
            return Err(Refusal::MoreThanHeld { length, held: bytes });
        }
        if self.shared.contains_key(&tag) && length != bytes {
            return Err(Refusal::PartIsAsked { tag });
        }
        Ok(self.target(host, candidates, length))
    }

    /// The first `length` bytes of some extents, of the last of them its end.
    fn target(&self, host: usize, candidates: Vec<DcExtent>, length: u64) -> Target {
        let (mut target, mut missing) = (Target::default(), length);
        for extent in candidates {
            let some = missing.min(extent.range.length);
            if some == 0 {
                break;
            }
            missing -= some;
            let start = extent.range.start + (extent.range.length - some);
            let range = DpaRange::new(start, some);
            if self.hosts[host].held.covers(range) {
                target.held.push(DcExtent { range, ..extent });
            } else {
                target.offered.push(range);
            }
        }
        target.held.sort();
        target
    }

    fn by_list(&self, host: usize, request: &InitiateRelease) -> Result<Target, Refusal> {
        if request.extents.is_empty() {
            return Err(Refusal::NoExtents);
        }
        let ranges: Vec<DpaRange> = request.extents.iter().map(|extent| extent.range).collect();
        let outside = match request.force {
            Force::Ask => |range| Refusal::NoAddress { range },
            Force::Take => |range| Refusal::NotInRegion { range },
        };
        self.well_formed(&ranges, outside)?;
        let mut target = Target::default();
        for &asked in &request.extents {
            self.add_listed(host, asked, request.force, &mut target)?;
        }
        self.whole_tags(host, &target.held, |tag| Refusal::PartIsAsked { tag })?;
        Ok(target)
    }

    /// Adds what a host has of a range in a list: all of that must be the host's.
    fn add_listed(
        &self,
        host: usize,
        asked: DcExtent,
        force: Force,
        target: &mut Target,
    ) -> Result<(), Refusal> {
        let range = asked.range;
        let held = self.hosts[host].held.parts(range);
        let offered: Vec<DcExtent> = self.hosts[host]
            .offered()
            .filter(|extent| extent.range.overlaps(range))
            .copied()
            .collect();
        if force == Force::Ask && !offered.is_empty() {
            return Err(Refusal::Pending { range });
        }
        let mut covered: u64 = held.iter().map(|part| part.range.length).sum();
        for extent in &offered {
            let start = extent.range.start.max(range.start);
            let end = extent.range.end().min(range.end());
            covered += (end - u128::from(start)) as u64;
        }
        if covered != range.length {
            return Err(Refusal::NotAssigned { range });
        }
        let mut tags = held.iter().chain(&offered).map(|extent| extent.tag);
        if !asked.tag.is_null() && tags.any(|tag| tag != asked.tag) {
            let expected = "the tag that the capacity is under, or none";
            return Err(Refusal::ExtentTag { range, tag: asked.tag, expected });
        }
        target.held.extend(held);
        if !offered.is_empty() {
            target.offered.push(range);
        }
        Ok(())
    }

    fn block_size(&self, range: DpaRange) -> u64 {
        let region = self.region_of(range).expect("what is offered or held lies in a region");
        self.regions[region].config.block_size
    }
}
