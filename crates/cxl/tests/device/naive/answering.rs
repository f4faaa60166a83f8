//! 4802h and 4803h.

use memtide_cxl::{
    ReturnCode,
    command::{
        More,
        dynamic_capacity::{AddResponse, Release},
    },
};
use memtide_units::DpaRange;

use super::{Block, Chain, Naive, OK, Offer, Share};

impl Naive {
    pub(super) fn chain(
        &self,
        told: &Chain,
        now: &[DpaRange],
    ) -> Result<Vec<DpaRange>, ReturnCode> {
        let limits = self.config.limits;
        let before = match told {
            Chain::Idle => vec![],
            Chain::Open(ranges) => ranges.clone(),
            Chain::Broken => return Err(ReturnCode::INVALID_INPUT),
        };
        let all = [&before[..], now].concat();
        if all.len() > (limits.extents + limits.payload_bytes / 24) as usize {
            return Err(ReturnCode::RESOURCES_EXHAUSTED);
        }
        Ok(all)
    }

    pub(super) fn next<T>(checked: &Result<Vec<DpaRange>, T>, more: More) -> Chain {
        match (checked, more) {
            (_, More::Last) => Chain::Idle,
            (Ok(ranges), More::Follows) => Chain::Open(ranges.clone()),
            (Err(_), More::Follows) => Chain::Broken,
        }
    }

    /// A command that could not be read.
    pub fn unreadable(&mut self, host: usize, is_answer: bool) {
        let chains = if is_answer { &mut self.answers } else { &mut self.releases };
        if let Some(chain @ Chain::Open(_)) = chains.get_mut(host) {
            *chain = Chain::Broken;
        }
    }

    pub fn answer(&mut self, host: usize, request: &AddResponse) -> Result<(), ReturnCode> {
        self.unreadable(host, false);
        let told = self.answers[host].clone();
        let mut dead = false;
        let checked = self.chain(&told, &request.accepted).and_then(|ranges| {
            dead = self.may_answer(host, &ranges, request.more)?;
            if dead && !ranges.is_empty() {
                return Err(ReturnCode::INVALID_PHYSICAL_ADDRESS);
            }
            Ok(ranges)
        });
        self.answers[host] = Self::next(&checked, request.more);
        if dead && checked.is_err() {
            self.offers[host].pop_front();
            self.log(self.hosts(), 1);
        }
        let ranges = checked?;
        if request.more == More::Last {
            self.take_answer(host, &ranges);
        }
        OK
    }

    /// Whether the offer is dead.
    pub(super) fn may_answer(
        &self,
        host: usize,
        ranges: &[DpaRange],
        more: More,
    ) -> Result<bool, ReturnCode> {
        let lists = self.list(ranges, 0xf)?;
        if lists.iter().flatten().any(|&block| self.holds(host, block)) {
            return Err(ReturnCode::INVALID_PHYSICAL_ADDRESS);
        }
        let oldest = self.offers[host].front().ok_or(ReturnCode::INVALID_INPUT)?;
        let meets = |offer: &Offer, list: &[usize]| {
            let mut blocks = offer.extents.iter().flat_map(|extent| self.blocks_of(extent));
            blocks.any(|block| list.contains(&block))
        };
        for (range, list) in ranges.iter().zip(&lists) {
            if !meets(oldest, list) {
                let later = self.offers[host].iter().skip(1).any(|offer| meets(offer, list));
                return Err(if later { ReturnCode(2) } else { ReturnCode(0xf) });
            }
            if !oldest.dead && oldest.extents.iter().all(|extent| extent.range != *range) {
                return Err(ReturnCode::INVALID_EXTENT_LIST);
            }
        }
        if more == More::Last && !oldest.dead {
            for tag in self.shared.keys() {
                let of_tag = oldest.extents.iter().filter(|extent| extent.tag == *tag);
                let taken: Vec<bool> =
                    of_tag.map(|extent| ranges.contains(&extent.range)).collect();
                if taken.contains(&true) && taken.contains(&false) {
                    return Err(ReturnCode::INVALID_EXTENT_LIST);
                }
            }
        }
        Ok(oldest.dead)
    }

    pub(super) fn take_answer(&mut self, host: usize, ranges: &[DpaRange]) {
        let manager = self.hosts();
        let offer = self.offers[host].pop_front().unwrap();
        if offer.dead {
            return self.log(manager, 1);
        }
        let mut left_out = vec![];
        for extent in &offer.extents {
            if !ranges.contains(&extent.range) {
                left_out.push(*extent);
                continue;
            }
            self.extents_seen += 1;
            for block in self.blocks_of(extent) {
                if let Block::Shared(tag) = self.blocks[block] {
                    let shared = self.shared.get_mut(&tag).unwrap();
                    shared.shares[host] = Share::Held;
                    shared.touched = true;
                } else {
                    self.blocks[block] = Block::Held(host);
                    self.owned[block] = (extent.tag, self.extents_seen, false);
                }
            }
        }
        self.withdraw(host, &left_out, false);
        self.log(manager, ranges.len().max(1));
    }

    pub fn release(&mut self, host: usize, request: &Release) -> Result<(), ReturnCode> {
        self.unreadable(host, true);
        let told = self.releases[host].clone();
        let checked = self.chain(&told, &request.released).and_then(|ranges| {
            self.may_release(host, &ranges, request.more)?;
            Ok(ranges)
        });
        self.releases[host] = Self::next(&checked, request.more);
        let ranges = checked?;
        if request.more == More::Last {
            let parts = self.end(host, &ranges);
            self.log(self.hosts(), parts.len());
        }
        OK
    }

    pub(super) fn may_release(
        &self,
        host: usize,
        ranges: &[DpaRange],
        more: More,
    ) -> Result<(), ReturnCode> {
        let blocks = self.list(ranges, 0xf)?.concat();
        if blocks.iter().any(|&block| !self.holds(host, block)) {
            return Err(ReturnCode::INVALID_PHYSICAL_ADDRESS);
        }
        if more == More::Follows {
            return OK;
        }
        self.whole(&blocks, ReturnCode::INVALID_EXTENT_LIST)?;
        self.may_split(host, &blocks)
    }

    /// All of each sharable tag, or none.
    pub(super) fn whole(&self, blocks: &[usize], code: ReturnCode) -> Result<(), ReturnCode> {
        for &block in blocks {
            let Block::Shared(tag) = self.blocks[block] else { continue };
            let mut all = (0..self.blocks.len()).filter(|&b| self.blocks[b] == Block::Shared(tag));
            if all.any(|block| !blocks.contains(&block)) {
                return Err(code);
            }
        }
        OK
    }

    pub(super) fn may_split(&self, host: usize, blocks: &[usize]) -> Result<(), ReturnCode> {
        let left: Vec<usize> = (0..self.blocks.len()).filter(|b| !blocks.contains(b)).collect();
        let (before, after) = (self.held(host).len(), self.extents_among(host, &left).len());
        if after > before && after - before > self.left(host, None).0 {
            return Err(ReturnCode::RESOURCES_EXHAUSTED);
        }
        OK
    }
}
