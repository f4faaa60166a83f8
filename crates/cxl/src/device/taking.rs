//! How capacity stops being a host's, whoever wants that.

use alloc::vec::Vec;

use memtide_units::{DcExtent, DpaRange, Tag};

use super::{Device, Effect, Refusal, host::OfferState};
use crate::command::{HostId, Sanitize};

impl Device {
    /// Ends a host's having some ranges that it holds, whole sharable tags among them. Says what
    /// that was, extent by extent.
    pub(super) fn end(&mut self, host: usize, ranges: &[DpaRange]) -> Vec<DcExtent> {
        let mut ended = Vec::new();
        for &range in ranges {
            let parts = self.hosts[host].held.parts(range);
            self.hosts[host].held.remove(range);
            for part in &parts {
                let host = HostId(host as u16);
                self.effects.push(Effect::Ended { host, range: part.range });
                if !self.shared.contains_key(&part.tag) {
                    let sanitize = self.wanted(usize::from(host.0), part.range);
                    self.free(part.range, sanitize);
                }
            }
            self.hosts[host].sanitize.remove(range);
            ended.extend(parts);
        }
        for tag in self.shared_tags(&ended) {
            self.no_longer(tag, host);
        }
        self.hosts[host].list_changed();
        self.tags_changed();
        ended
    }

    /// Whether something that a host held is to be overwritten.
    fn wanted(&mut self, host: usize, range: DpaRange) -> Sanitize {
        if self.hosts[host].sanitize.overlaps(range) {
            return Sanitize::OnRelease;
        }
        self.region_behind(range).config.sanitize
    }

    /// Ends a host's being offered some extents.
    pub(super) fn withdraw(&mut self, host: usize, extents: &[DcExtent], sanitize: Sanitize) {
        for extent in extents {
            if !self.shared.contains_key(&extent.tag) {
                self.free(extent.range, sanitize);
            }
        }
        for tag in self.shared_tags(extents) {
            if sanitize == Sanitize::OnRelease {
                self.sanitize_shared(tag);
            }
            self.no_longer(tag, host);
        }
    }

    /// Makes offers of a host dead: those with something of `ranges`.
    pub(super) fn kill(&mut self, host: usize, ranges: &[DpaRange], sanitize: Sanitize) {
        let mut withdrawn = Vec::new();
        for offer in &mut self.hosts[host].offers {
            let hit = |extent: &DcExtent| ranges.iter().any(|range| extent.range.overlaps(*range));
            if offer.state == OfferState::Open && offer.extents.iter().any(hit) {
                offer.state = OfferState::Dead;
                withdrawn.extend_from_slice(&offer.extents);
            }
        }
        self.withdraw(host, &withdrawn, sanitize);
        self.tags_changed();
    }

    /// Nobody has this any more.
    pub(super) fn free(&mut self, range: DpaRange, sanitize: Sanitize) {
        self.region_behind(range).put_back(range, sanitize);
        if sanitize == Sanitize::OnRelease {
            self.effects.push(Effect::Sanitize { range });
        }
    }

    /// Refuses parts of what a host holds that have a part of a sharable tag.
    pub(super) fn whole_tags(
        &self,
        host: usize,
        parts: &[DcExtent],
        refuse: fn(Tag) -> Refusal,
    ) -> Result<(), Refusal> {
        for tag in self.shared_tags(parts) {
            let some = parts.iter().filter(|part| part.tag == tag);
            let some: u64 = some.map(|part| part.range.length).sum();
            if some != self.hosts[host].held.bytes(tag) {
                return Err(refuse(tag));
            }
        }
        Ok(())
    }

    pub(super) fn tags_changed(&mut self) {
        self.tags_generation = self.tags_generation.wrapping_add(1);
    }
}
