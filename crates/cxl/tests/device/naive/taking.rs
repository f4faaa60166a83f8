//! How capacity ends, and 5605h.

use memtide_cxl::{
    ReturnCode,
    command::{
        Sanitize,
        fabric_manager::{Force, InitiateRelease, Removal},
    },
};
use memtide_units::{DcExtent, DpaRange, Tag};

use super::{BLOCKS, Block, Naive, OK, Share};
use crate::bed::BLOCK;

impl Naive {
    pub(super) fn end(&mut self, host: usize, ranges: &[DpaRange]) -> Vec<DcExtent> {
        let mut parts = vec![];
        for &range in ranges {
            parts.extend(self.extents_among(host, &self.of(range, 0xf).unwrap()));
        }
        let blocks: Vec<_> =
            ranges.iter().flat_map(|&range| self.of(range, 0xf).unwrap()).collect();
        for block in blocks {
            match self.blocks[block] {
                Block::Held(_) => {
                    let region = &self.config.regions[block / BLOCKS];
                    let wash = self.owned[block].2 || region.sanitize == Sanitize::OnRelease;
                    self.blocks[block] = if wash { Block::Washing } else { Block::Free };
                }
                Block::Shared(tag) => self.unshare(tag, host),
                _ => {}
            }
        }
        parts
    }

    pub(super) fn unshare(&mut self, tag: Tag, host: usize) {
        self.shared.get_mut(&tag).unwrap().shares[host] = Share::None;
        self.settle(tag);
    }

    pub(super) fn settle(&mut self, tag: Tag) {
        let shared = &self.shared[&tag];
        if shared.kept || shared.shares.iter().any(|&share| share != Share::None) {
            return;
        }
        let shared = self.shared.remove(&tag).unwrap();
        let blocks: Vec<_> =
            shared.extents.iter().flat_map(|extent| self.blocks_of(extent)).collect();
        for block in blocks {
            let says = self.config.regions[block / BLOCKS].sanitize == Sanitize::OnRelease;
            let wash = shared.wash || (shared.touched && says);
            self.blocks[block] = if wash { Block::Washing } else { Block::Free };
        }
    }

    pub(super) fn withdraw(&mut self, host: usize, extents: &[DcExtent], wash: bool) {
        for extent in extents {
            for block in self.blocks_of(extent) {
                match self.blocks[block] {
                    Block::Offered(_) => {
                        self.blocks[block] = if wash { Block::Washing } else { Block::Free };
                    }
                    Block::Shared(tag) => {
                        self.shared.get_mut(&tag).unwrap().wash |= wash;
                        self.unshare(tag, host);
                    }
                    _ => {}
                }
            }
        }
    }

    pub fn take_back(&mut self, request: &InitiateRelease) -> Result<(), ReturnCode> {
        let host = usize::from(request.host.0);
        if host >= self.hosts() {
            return Err(ReturnCode::INVALID_INPUT);
        }
        let ranges = match request.removal {
            Removal::TagBased => self.by_tag(host, request)?,
            Removal::Prescriptive => self.by_list(host, request)?,
        };
        let mut held = vec![];
        let mut parts = vec![];
        for &range in &ranges {
            let blocks = self.of(range, 0xf).unwrap();
            parts.extend(self.extents_among(host, &blocks));
            held.extend(blocks.into_iter().filter(|&block| self.holds(host, block)));
        }
        match request.force {
            Force::Ask => self.log_takes(host, parts.len())?,
            Force::Take => self.may_split(host, &held)?,
        }
        let wash = request.sanitize == Sanitize::OnRelease;
        for &block in &held {
            match self.blocks[block] {
                Block::Shared(tag) => self.shared.get_mut(&tag).unwrap().wash |= wash,
                _ => self.owned[block].2 |= wash,
            }
        }
        if request.force == Force::Ask {
            self.log(host, parts.len());
            return OK;
        }
        self.kill(host, &ranges, wash);
        let parts: Vec<DpaRange> = parts.iter().map(|part| part.range).collect();
        let ended = self.end(host, &parts);
        if !ended.is_empty() {
            self.log(host, ended.len());
        }
        OK
    }

    pub(super) fn kill(&mut self, host: usize, ranges: &[DpaRange], wash: bool) {
        let mut gone = vec![];
        for offer in self.offers[host].iter_mut().filter(|offer| !offer.dead) {
            let hit = |e: &DcExtent| ranges.iter().any(|range| range.overlaps(e.range));
            if offer.extents.iter().any(hit) {
                offer.dead = true;
                gone.extend(offer.extents.clone());
            }
        }
        self.withdraw(host, &gone, wash);
    }

    pub(super) fn by_tag(
        &self,
        host: usize,
        request: &InitiateRelease,
    ) -> Result<Vec<DpaRange>, ReturnCode> {
        let mut held = self.held(host);
        held.reverse();
        let mut offered = self.open_offers(host);
        held.retain(|extent| extent.tag == request.tag);
        offered.retain(|extent| extent.tag == request.tag);
        let length = request.length;
        if held.len() + offered.len() == 0 || length == 0 || !length.is_multiple_of(BLOCK) {
            return Err(ReturnCode::INVALID_INPUT);
        }
        if request.force == Force::Take {
            held.extend(offered);
        }
        let all: u64 = held.iter().map(|extent| extent.range.length).sum();
        if length > all {
            return Err(ReturnCode::RESOURCES_EXHAUSTED);
        }
        if self.shared.contains_key(&request.tag) && length < all {
            return Err(ReturnCode::INVALID_INPUT);
        }
        let (mut ranges, mut missing) = (vec![], length);
        for extent in held {
            let some = missing.min(extent.range.length);
            if some > 0 {
                let start = extent.range.start + extent.range.length - some;
                ranges.push(DpaRange::new(start, some));
            }
            missing -= some;
        }
        Ok(ranges)
    }

    pub(super) fn by_list(
        &self,
        host: usize,
        request: &InitiateRelease,
    ) -> Result<Vec<DpaRange>, ReturnCode> {
        let wrong = Err(ReturnCode::INVALID_EXTENT_LIST);
        let ranges: Vec<DpaRange> = request.extents.iter().map(|extent| extent.range).collect();
        if ranges.is_empty() {
            return wrong;
        }
        let asks = request.force == Force::Ask;
        let lists = self.list(&ranges, if asks { 0xf } else { 0x1e })?;
        for (extent, list) in request.extents.iter().zip(&lists) {
            if asks && list.iter().any(|&block| self.is_offered(host, block)) {
                return Err(ReturnCode::INVALID_PHYSICAL_ADDRESS);
            }
            let has = |block| self.holds(host, block) || self.is_offered(host, block);
            if !list.iter().all(|&block| has(block)) {
                return wrong;
            }
            let mut mine = self.held(host);
            mine.extend(self.open_offers(host));
            let of_range = mine.iter().filter(|own| own.range.overlaps(extent.range));
            if !extent.tag.is_null() && of_range.clone().any(|own| own.tag != extent.tag) {
                return wrong;
            }
        }
        let held: Vec<usize> =
            lists.concat().into_iter().filter(|&block| self.holds(host, block)).collect();
        self.whole(&held, ReturnCode::INVALID_INPUT)?;
        Ok(ranges)
    }
}
