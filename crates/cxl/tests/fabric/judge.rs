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
    data: BTreeMap<u64, (Machine, Tag)>,
    /// Who had it since it was overwritten, as far as the manager can know that it was.
    had: BTreeMap<u64, BTreeSet<HostId>>,
    /// What this manager has said is to be overwritten when it comes back.
    told: BTreeSet<u64>,
    /// How often a host became another machine.
    lives: BTreeMap<HostId, u32>,
    pub limits: BTreeMap<HostId, Limits>,
    /// What is to be overwritten.
    pub sanitizing: Vec<DpaRange>,
}

/// A host, and which one of those that were behind its number.
type Machine = (HostId, u32);

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
            had: BTreeMap::new(),
            told: BTreeSet::new(),
            lives: BTreeMap::new(),
            sanitizing: Vec::new(),
        }
    }

    pub fn blocks(&self, range: DpaRange) -> impl Iterator<Item = u64> + use<> {
        (range.start..range.start + range.length).step_by(self.block as usize)
    }

    pub fn is_sharable(&self, block: u64) -> bool {
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

    fn machine(&self, host: HostId) -> Machine {
        (host, self.lives.get(&host).copied().unwrap_or(0))
    }

    /// Another machine is behind a number: it goes on with what it has, and nothing else is its.
    pub fn is_another(&mut self, host: HostId) {
        *self.lives.entry(host).or_default() += 1;
        let now = self.machine(host);
        for (block, (whose, _)) in &mut self.data {
            let holds = self.owners.get(block).is_some_and(|owners| owners.contains(&host));
            if whose.0 == host && holds {
                *whose = now;
            }
        }
    }

    /// A manager said what is to be overwritten.
    pub fn told(&mut self, ranges: &[DpaRange]) {
        let blocks: Vec<u64> = ranges.iter().flat_map(|&range| self.blocks(range)).collect();
        self.told.extend(blocks);
    }

    /// Another manager does not know what the one before it said.
    pub fn manager_is_another(&mut self) {
        self.told.clear();
    }

    /// Whether a host had some of a block since it was overwritten.
    pub fn had(&self, host: HostId, block: u64) -> bool {
        self.had.get(&block).is_some_and(|hosts| hosts.contains(&host))
    }

    fn gained(&mut self, host: HostId, range: DpaRange, tag: Tag) {
        let machine = self.machine(host);
        for block in self.blocks(range) {
            let is_sharable = self.is_sharable(block);
            let owners = self.owners.entry(block).or_default();
            assert!(owners.is_empty() || is_sharable, "{owners:?} and {host} have {block:#x}");
            assert!(owners.insert(host), "{host} gets block {block:#x} twice");
            if let Some(&(whose, under)) = self.data.get(&block) {
                let is_its_own = whose == machine || (is_sharable && under == tag);
                assert!(is_its_own, "{machine:?} sees data of {whose:?} at {block:#x}");
            }
            self.data.insert(block, (machine, tag));
            self.had.entry(block).or_default().insert(host);
        }
    }

    /// A range was overwritten.
    pub fn overwritten(&mut self, range: DpaRange) {
        for block in self.blocks(range) {
            self.data.remove(&block);
            if self.told.remove(&block) {
                self.had.remove(&block);
            }
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
            // Who became another machine lost what was kept for it.
            if self.lives.is_empty() {
                self.judge_whose(device);
            }
        }
    }

    /// What is guaranteed is there to be had by its host: nobody else's data is in it.
    fn judge_whose(&self, device: &Device) {
        let offered: BTreeSet<u64> = device
            .hosts()
            .flat_map(|host| device.offers(host).flatten().flat_map(|e| self.blocks(e.range)))
            .collect();
        let waits: BTreeSet<u64> =
            self.sanitizing.iter().flat_map(|&range| self.blocks(range)).collect();
        let (mut clean, mut own) = (0, BTreeMap::<HostId, u64>::new());
        for block in self.regions.iter().flat_map(|region| self.blocks(region.usable())) {
            let is_owned = self.owners.get(&block).is_some_and(|owners| !owners.is_empty());
            if is_owned || offered.contains(&block) {
                continue;
            }
            match self.data.get(&block).filter(|_| !waits.contains(&block)) {
                Some(&((host, _), _)) => *own.entry(host).or_default() += self.block,
                None => clean += self.block,
            }
        }
        let lacking = self.limits.iter().map(|(host, limits)| {
            let has = self.held(*host) + self.offered(device, *host);
            let lacks = limits.minimum.saturating_sub(has);
            lacks.saturating_sub(own.get(host).copied().unwrap_or(0))
        });
        let lacking: u64 = lacking.sum();
        assert!(lacking <= clean, "{lacking:#x} are guaranteed; only {clean:#x} are anybody's");
    }
}

fn tag_at(device: &Device, host: HostId, range: DpaRange) -> Tag {
    let ask = GetExtentList { count: 1000, start: 0 };
    let list = device.extent_list(host, &ask).expect("it has this host").extents;
    list.iter().find(|extent| extent.range.contains(range)).map_or(Tag::NULL, |extent| extent.tag)
}
