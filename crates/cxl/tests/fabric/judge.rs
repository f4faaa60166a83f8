//! What must be true whatever the parties believe. It knows only what the device did to the medium.

use std::collections::{BTreeMap, BTreeSet};

use memtide_cxl::{
    command::{HostId, dynamic_capacity::GetExtentList},
    device::{Device, Effect, RegionConfig, Sharing},
    manager::Limits,
};
use memtide_units::{DpaRange, Tag};

/// The medium, block by block, and who may get at it.
pub struct Judge {
    block: u64,
    regions: Vec<RegionConfig>,
    total: u64,
    owners: BTreeMap<u64, BTreeSet<HostId>>,
    /// Whose data is there, and under which tag it was written.
    data: BTreeMap<u64, (HostId, Tag)>,
    pub limits: BTreeMap<HostId, Limits>,
    /// What is to be overwritten.
    pub sanitizing: Vec<DpaRange>,
}

impl Judge {
    pub fn new(
        block: u64,
        regions: Vec<RegionConfig>,
        total: u64,
        limits: BTreeMap<HostId, Limits>,
    ) -> Self {
        let total = total.min(regions.iter().map(|region| region.length).sum());
        Self {
            block,
            regions,
            total,
            limits,
            owners: BTreeMap::new(),
            data: BTreeMap::new(),
            sanitizing: Vec::new(),
        }
    }

    fn blocks(&self, range: DpaRange) -> impl Iterator<Item = u64> + use<> {
        (range.start..range.start + range.length).step_by(self.block as usize)
    }

    fn is_sharable(&self, block: u64) -> bool {
        let region = self.regions.iter().find(|r| r.usable().contains(DpaRange::new(block, 1)));
        region.expect("only regions have blocks").sharing == Sharing::Sharable
    }

    /// Something happened to the medium.
    pub fn see(&mut self, effect: Effect, device: &Device) {
        match effect {
            Effect::Gained { host, range } => self.gained(host, range, tag_at(device, host, range)),
            Effect::Ended { host, range } => {
                for block in self.blocks(range) {
                    let was = self.owners.get_mut(&block).is_some_and(|set| set.remove(&host));
                    assert!(was, "{host} loses block {block:#x}, which it did not have");
                }
            }
            Effect::Sanitize { range } => self.sanitizing.push(range),
            _ => {}
        }
    }

    fn gained(&mut self, host: HostId, range: DpaRange, tag: Tag) {
        for block in self.blocks(range) {
            let is_sharable = self.is_sharable(block);
            let owners = self.owners.entry(block).or_default();
            assert!(owners.is_empty() || is_sharable, "{owners:?} and {host} have {block:#x}");
            assert!(owners.insert(host), "{host} gets block {block:#x} twice");
            if let Some(&(whose, under)) = self.data.get(&block) {
                let is_its_own = whose == host || (is_sharable && under == tag);
                assert!(is_its_own, "{host} sees data of {whose} at {block:#x}");
            }
            self.data.insert(block, (host, tag));
        }
    }

    /// A range was overwritten.
    pub fn overwritten(&mut self, range: DpaRange) {
        for block in self.blocks(range) {
            self.data.remove(&block);
            let owners = self.owners.get(&block);
            assert!(owners.is_none_or(BTreeSet::is_empty), "{owners:?} at {block:#x} lost data");
        }
    }

    pub fn held(&self, host: HostId) -> u64 {
        self.owners.values().filter(|set| set.contains(&host)).count() as u64 * self.block
    }

    fn offered(&self, device: &Device, host: HostId) -> u64 {
        device.offers(host).flatten().map(|extent| extent.range.length).sum()
    }

    /// Bytes that could be offered, some of them once they are overwritten. Offers to those who
    /// lack of what they are guaranteed are none of it.
    fn free(&self, device: &Device) -> u64 {
        let taken = self.owners.values().filter(|set| !set.is_empty()).count() as u64 * self.block;
        let offered: u64 = device.hosts().map(|host| self.offered(device, host)).sum();
        self.total - taken - offered
    }

    /// Limits and guarantees, now.
    pub fn judge(&self, device: &Device) {
        let mut lacking = 0;
        for (&host, limits) in &self.limits {
            let has = self.held(host) + self.offered(device, host);
            let most = limits.maximum;
            assert!(has <= most, "{host} has or is offered {has:#x}; its maximum is {most:#x}");
            lacking += limits.minimum.saturating_sub(has);
        }
        // Shared capacity that one host lets go of does not become free.
        if self.regions.iter().all(|region| region.sharing == Sharing::Exclusive) {
            let free = self.free(device);
            assert!(lacking <= free, "{lacking:#x} are guaranteed; only {free:#x} are free");
        }
    }
}

fn tag_at(device: &Device, host: HostId, range: DpaRange) -> Tag {
    let ask = GetExtentList { count: 1000, start: 0 };
    let list = device.extent_list(host, &ask).expect("it has this host").extents;
    list.iter().find(|extent| extent.range.contains(range)).map_or(Tag::NULL, |extent| extent.tag)
}
