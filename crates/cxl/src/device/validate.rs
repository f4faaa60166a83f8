//! What always holds.

use alloc::vec::Vec;

use memtide_units::DpaRange;

use super::Device;

impl Device {
    /// Checks all that must hold: every byte of a region is free, offered or held under one
    /// owner or one sharable tag, or being overwritten, and only one of these; who holds and who
    /// is offered sharable capacity is so by both accounts; nothing exceeds its limit.
    ///
    /// # Panics
    /// Something does not hold.
    pub fn validate(&self) {
        self.validate_bytes();
        self.validate_shared();
        let taken: u64 = self.regions.iter().map(super::Region::taken).sum();
        assert!(taken <= self.total_capacity, "{taken:#x} of {:#x}", self.total_capacity);
        assert!(self.log.holds(), "{:?}", self.log);
        for host in &self.hosts {
            assert!(host.log.holds(), "{:?}", host.log);
            assert!(host.tracked().count() <= self.limits.extents as usize, "{host:?}");
            assert!(host.tags().len() <= self.limits.tags as usize, "{host:?}");
            assert!(host.sanitize.iter().all(|range| host.held.covers(range)), "{host:?}");
            assert!(host.offers.iter().all(|offer| !offer.extents.is_empty()), "{host:?}");
        }
    }

    fn validate_bytes(&self) {
        let mut all: Vec<DpaRange> = self.sanitizing().collect();
        all.extend(self.regions.iter().flat_map(|region| region.free.iter()));
        all.extend(self.shared.values().flat_map(|shared| &shared.extents).map(|e| e.range));
        for host in &self.hosts {
            let own = host.held.iter().chain(host.offered());
            let exclusive = own.filter(|extent| !self.shared.contains_key(&extent.tag));
            all.extend(exclusive.map(|extent| extent.range));
        }
        all.sort();
        let twice = all.windows(2).find(|two| two[0].overlaps(two[1]));
        assert_eq!(twice, None, "two owners");
        let bytes: u64 = all.iter().map(|range| range.length).sum();
        let length: u64 = self.regions.iter().map(|region| region.config.length).sum();
        assert_eq!(bytes, length, "bytes appeared or vanished");
        for range in all {
            let region = self.region_of(range).expect("everything lies in a region");
            assert!(range.is_aligned(self.regions[region].config.block_size), "{range}");
        }
    }

    fn validate_shared(&self) {
        for (&tag, shared) in &self.shared {
            let kept = shared.referenced || (0..self.hosts.len()).any(|host| shared.is_with(host));
            assert!(kept && !tag.is_null(), "nobody keeps {tag}");
            for (number, host) in self.hosts.iter().enumerate() {
                let held = host.held.iter().filter(|extent| extent.tag == tag);
                let pending = host.offered().filter(|extent| extent.tag == tag);
                for (is_there, has) in [
                    (shared.holders.contains(&number), held.copied().collect::<Vec<_>>()),
                    (shared.pending.contains(&number), pending.copied().collect()),
                ] {
                    let mut has = has;
                    has.sort_by_key(|extent| extent.sequence);
                    let all = if is_there { &shared.extents[..] } else { &[] };
                    assert_eq!(has, all, "host {number}, tag {tag}");
                }
            }
        }
    }
}
