//! What hosts and managers ask, and what changes nothing but logs.
//!
//! Lists are told in pages: the device tells no more than was asked for and no more than fits
//! into a payload. A list that starts at its end is empty; past it, Invalid Input (CXL 3.1,
//! 8.2.9.9.9.2).

use alloc::{collections::BTreeMap, vec::Vec};

use memtide_units::{DcExtent, Tag};

use super::{Device, Refusal, config::SanitizeControl, region::Region};
use crate::command::{
    HostId,
    dynamic_capacity::{Configuration, ExtentList, GetConfiguration, GetExtentList, Resources},
    events::{ClearEventRecords, EventLog, EventRecords, GetEventRecords},
    fabric_manager::{
        GetHostConfiguration, GetHostExtents, HostConfiguration, HostExtents, HostRegion, Info,
        ListTags, Removal, Selection, TagInfo, Tags,
    },
};

/// Bytes of payloads before and after their lists, and of what is in these.
mod bytes {
    pub(super) const CONFIGURATION: usize = 8 + 16;
    pub(super) const HOST_CONFIGURATION: usize = 4 + 16;
    pub(super) const REGION: usize = 40;
    pub(super) const EXTENTS: usize = 16;
    pub(super) const HOST_EXTENTS: usize = 24;
    pub(super) const EXTENT: usize = 40;
    pub(super) const RECORDS: usize = 32;
    pub(super) const RECORD: usize = 128;
    pub(super) const TAGS: usize = 16;
    pub(super) const TAG: usize = 84;
}

impl Device {
    /// 4800h (8.2.9.9.9.1).
    ///
    /// # Errors
    /// There is no such host, or region to start at.
    pub fn configuration(
        &self,
        host: HostId,
        request: &GetConfiguration,
    ) -> Result<Configuration, Refusal> {
        let host = self.known(host)?;
        let fit = self.fit(bytes::CONFIGURATION, bytes::REGION);
        let regions = self.page_of_regions(request.start, request.count, fit)?;
        Ok(Configuration {
            available: self.regions.len() as u8,
            regions: regions.iter().map(Region::told).collect(),
            resources: self.resources(host),
        })
    }

    /// 4801h (8.2.9.9.9.2): what a host has accepted, in the order of addresses.
    ///
    /// # Errors
    /// There is no such host, or the list is shorter.
    pub fn extent_list(
        &self,
        host: HostId,
        request: &GetExtentList,
    ) -> Result<ExtentList, Refusal> {
        let fit = self.fit(bytes::EXTENTS, bytes::EXTENT);
        self.page_of_extents(self.known(host)?, request.start, request.count, fit)
    }

    /// 0100h, asked by a host (8.2.9.2.2).
    ///
    /// # Errors
    /// There is no such host.
    pub fn host_events(
        &self,
        host: HostId,
        request: &GetEventRecords,
    ) -> Result<EventRecords, Refusal> {
        let log = &self.hosts[self.known(host)?].log;
        Ok(self.read(log, request.log))
    }

    /// 0101h, from a host (8.2.9.2.3).
    ///
    /// # Errors
    /// There is no such host, or it clears other records than the oldest, or all though none was
    /// lost. Nothing has changed.
    pub fn clear_host_events(
        &mut self,
        host: HostId,
        request: &ClearEventRecords,
    ) -> Result<(), Refusal> {
        let host = self.known(host)?;
        match request.log {
            EventLog::DynamicCapacity => self.hosts[host].log.clear(&request.what),
            _ => super::Log::new(1).clear(&request.what),
        }
    }

    /// 0100h, asked by the manager.
    #[must_use]
    pub fn manager_events(&self, request: &GetEventRecords) -> EventRecords {
        self.read(&self.log, request.log)
    }

    /// 0101h, from the manager.
    ///
    /// # Errors
    /// As with [`Device::clear_host_events`].
    pub fn clear_manager_events(&mut self, request: &ClearEventRecords) -> Result<(), Refusal> {
        match request.log {
            EventLog::DynamicCapacity => self.log.clear(&request.what),
            _ => super::Log::new(1).clear(&request.what),
        }
    }

    /// 5600h (7.6.7.6.1). The policy "enable shared access" has no bit of its own.
    #[must_use]
    pub fn info(&self) -> Info {
        let bit = |policy: u8| 1_u16 << policy;
        let adds = [Selection::Free, Selection::Contiguous, Selection::Prescriptive];
        let removals = [Removal::TagBased, Removal::Prescriptive];
        let mut info = Info {
            hosts: self.hosts.len() as u8,
            regions: self.regions.len() as u8,
            add_policies: adds.into_iter().map(|policy| bit(policy as u8)).sum(),
            release_policies: removals.into_iter().map(|policy| bit(policy as u8)).sum(),
            sanitize_configurable: 0,
            total_capacity: self.total_capacity,
            block_sizes: [0; 8],
        };
        for (number, region) in self.regions.iter().enumerate() {
            info.block_sizes[number] = region.config.block_sizes;
            if region.config.sanitize_control == SanitizeControl::Configurable {
                info.sanitize_configurable |= 1 << number;
            }
        }
        info
    }

    /// 5601h (7.6.7.6.2).
    ///
    /// # Errors
    /// There is no such host, or region to start at.
    pub fn host_configuration(
        &self,
        request: &GetHostConfiguration,
    ) -> Result<HostConfiguration, Refusal> {
        let host = self.known(request.host)?;
        let fit = self.fit(bytes::HOST_CONFIGURATION, bytes::REGION);
        let regions = self.page_of_regions(request.start, request.count, fit)?;
        let told = |region: &Region| HostRegion {
            base: region.config.base,
            decode_length: region.config.decode_length,
            length: region.config.length,
            block_size: region.config.block_size,
            dsmas_flags: region.dsmas_flags(),
            sanitize: region.config.sanitize,
        };
        Ok(HostConfiguration {
            host: request.host,
            available: self.regions.len() as u8,
            regions: regions.iter().map(told).collect(),
            resources: self.resources(host),
        })
    }

    /// 5603h (7.6.7.6.4).
    ///
    /// # Errors
    /// There is no such host, or its list is shorter.
    pub fn host_extents(&self, request: &GetHostExtents) -> Result<HostExtents, Refusal> {
        let GetHostExtents { host, count, start } = *request;
        let fit = self.fit(bytes::HOST_EXTENTS, bytes::EXTENT);
        let list = self.page_of_extents(self.known(host)?, start, count, fit)?;
        let ExtentList { total, generation, extents } = list;
        Ok(HostExtents { host, start, total, generation, extents })
    }

    /// 5608h (7.6.7.6.9): all tags that name an allocation, ascending.
    ///
    /// # Errors
    /// There are fewer.
    pub fn list_tags(&self, request: &ListTags) -> Result<Tags, Refusal> {
        let all = self.all_tags();
        let fit = self.fit(bytes::TAGS, bytes::TAG);
        let total = all.len();
        let from = from(request.start, total)?;
        let tags = all.into_values().skip(from).take(request.count.min(fit) as usize).collect();
        Ok(Tags { generation: self.tags_generation, total: total as u32, tags })
    }

    fn all_tags(&self) -> BTreeMap<Tag, TagInfo> {
        let mut all = BTreeMap::new();
        for (&tag, shared) in &self.shared {
            entry(&mut all, tag).referenced = shared.referenced;
        }
        for (number, host) in self.hosts.iter().enumerate() {
            for extent in host.held.iter().filter(|extent| !extent.tag.is_null()) {
                set(&mut entry(&mut all, extent.tag).holders, number);
            }
            for extent in host.offered().filter(|extent| !extent.tag.is_null()) {
                set(&mut entry(&mut all, extent.tag).pending, number);
            }
        }
        all
    }

    fn resources(&self, host: usize) -> Resources {
        let (extents, tags) = self.available(host, None);
        Resources {
            extents_supported: self.limits.extents,
            extents_available: extents as u32,
            tags_supported: self.limits.tags,
            tags_available: tags as u32,
        }
    }

    /// How many things fit into a payload.
    fn fit(&self, around: usize, each: usize) -> u32 {
        ((self.limits.payload_bytes as usize - around) / each) as u32
    }

    fn read(&self, log: &super::Log, which: EventLog) -> EventRecords {
        let fit = self.fit(bytes::RECORDS, bytes::RECORD) as usize;
        match which {
            EventLog::DynamicCapacity => log.read(fit),
            _ => super::Log::new(1).read(fit),
        }
    }

    fn page_of_regions(&self, start: u8, count: u8, fit: u32) -> Result<&[Region], Refusal> {
        self.region(start)?;
        let rest = &self.regions[usize::from(start)..];
        Ok(&rest[..rest.len().min(usize::from(count)).min(fit as usize)])
    }

    fn page_of_extents(
        &self,
        host: usize,
        start: u32,
        count: u32,
        fit: u32,
    ) -> Result<ExtentList, Refusal> {
        let host = &self.hosts[host];
        let total = host.held.len();
        let from = from(start, total)?;
        let extents: Vec<DcExtent> =
            host.held.iter().skip(from).take(count.min(fit) as usize).copied().collect();
        Ok(ExtentList { total: total as u32, generation: host.generation, extents })
    }
}

/// Where a page of a list starts.
fn from(start: u32, total: usize) -> Result<usize, Refusal> {
    let from = start as usize;
    if from > total { Err(Refusal::Start { start, total }) } else { Ok(from) }
}

fn entry(all: &mut BTreeMap<Tag, TagInfo>, tag: Tag) -> &mut TagInfo {
    let new = TagInfo { tag, referenced: false, holders: [0; 32], pending: [0; 32] };
    all.entry(tag).or_insert(new)
}

fn set(bits: &mut [u8; 32], number: usize) {
    bits[number / 8] |= 1 << (number % 8);
}
