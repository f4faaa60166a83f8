//! 5604h.

use std::collections::{BTreeMap, BTreeSet};

use memtide_cxl::{
    ReturnCode,
    command::fabric_manager::{InitiateAdd, Selection},
    device::Sharing,
};
use memtide_units::{DcExtent, DpaRange, Tag};

use super::{BLOCKS, Block, Naive, OK, Offer, Share, Shared};
use crate::bed::BLOCK;

impl Naive {
    /// How long the runs of some blocks of a region are.
    pub(super) fn runs(&self, region: usize, is: impl Fn(Block) -> bool) -> Vec<usize> {
        let mut runs = vec![0];
        for block in &self.blocks[region * BLOCKS..(region + 1) * BLOCKS] {
            if is(*block) {
                *runs.last_mut().unwrap() += 1;
            } else {
                runs.push(0);
            }
        }
        runs.sort_unstable_by(|one, other| other.cmp(one));
        runs
    }

    pub(super) fn medium(&self, blocks: usize) -> Result<(), ReturnCode> {
        let count = |is: fn(Block) -> bool| self.blocks.iter().filter(|&&block| is(block)).count();
        let taken = count(|block| block != Block::Free);
        let washing = count(|block| block == Block::Washing);
        let free = ((self.config.total_capacity / BLOCK) as usize).saturating_sub(taken);
        if blocks <= free {
            OK
        } else if blocks <= free + washing {
            Err(ReturnCode::RETRY_REQUIRED)
        } else {
            Err(ReturnCode::RESOURCES_EXHAUSTED)
        }
    }

    /// Whether it should work; for what the device chooses, in how many extents.
    pub fn may_add(&self, request: &InitiateAdd) -> Result<usize, ReturnCode> {
        let host = usize::from(request.host.0);
        if host >= self.hosts() {
            return Err(ReturnCode::INVALID_INPUT);
        }
        let (extents, new_tags, tag) = match request.selection {
            Selection::Free | Selection::Contiguous => {
                let extents = self.may_select(request)?;
                (extents, BTreeSet::from([request.tag]), request.tag)
            }
            Selection::Prescriptive => {
                self.may_prescribe(&request.extents)?;
                let tags = request.extents.iter().map(|extent| extent.tag).collect();
                (request.extents.len(), tags, request.extents[0].tag)
            }
            Selection::EnableSharedAccess => {
                let region = self.config.regions.get(usize::from(request.region));
                let sharable = region.is_some_and(|region| region.sharing == Sharing::Sharable);
                let shared = self.shared.get(&request.tag).filter(|shared| {
                    let block = self.blocks_of(&shared.extents[0])[0];
                    sharable
                        && block / BLOCKS == usize::from(request.region)
                        && shared.shares[host] == Share::None
                        && (shared.kept || shared.shares.contains(&Share::Held))
                });
                let shared = shared.ok_or(ReturnCode::INVALID_INPUT)?;
                (shared.extents.len(), BTreeSet::from([request.tag]), request.tag)
            }
        };
        let (extents_left, tags_left) = self.left(host, Some(tag));
        let tracked = self.tracked(host);
        let is_new = |tag: &&Tag| !tag.is_null() && tracked.iter().all(|e| e.tag != **tag);
        if extents > extents_left || new_tags.iter().filter(is_new).count() > tags_left {
            return Err(ReturnCode::RESOURCES_EXHAUSTED);
        }
        self.log_takes(host, extents)?;
        Ok(extents)
    }

    pub(super) fn may_select(&self, request: &InitiateAdd) -> Result<usize, ReturnCode> {
        let region = usize::from(request.region);
        let config = self.config.regions.get(region).ok_or(ReturnCode::INVALID_INPUT)?;
        let (length, tag) = (request.length, request.tag);
        let no_tag = config.sharing == Sharing::Sharable && tag.is_null();
        let used = !tag.is_null() && self.tag_is_used(tag);
        if length == 0 || !length.is_multiple_of(BLOCK) || no_tag || used {
            return Err(ReturnCode::INVALID_INPUT);
        }
        let blocks = (length / BLOCK) as usize;
        self.medium(blocks)?;
        let enough = |runs: &[usize]| match request.selection {
            Selection::Contiguous => runs[0] >= blocks,
            _ => runs.iter().sum::<usize>() >= blocks,
        };
        let free = self.runs(region, |block| block == Block::Free);
        let later = self.runs(region, |block| matches!(block, Block::Free | Block::Washing));
        if !enough(&free) {
            let soon = enough(&later);
            let code =
                if soon { ReturnCode::RETRY_REQUIRED } else { ReturnCode::RESOURCES_EXHAUSTED };
            return Err(code);
        }
        // The fewest extents: the longest runs.
        let mut sum = 0;
        let count = free.iter().take_while(|&&run| {
            let more = sum < blocks;
            sum += run;
            more
        });
        Ok(count.count())
    }

    pub(super) fn may_prescribe(&self, extents: &[DcExtent]) -> Result<(), ReturnCode> {
        let wrong = Err(ReturnCode::INVALID_EXTENT_LIST);
        if extents.is_empty() {
            return wrong;
        }
        let ranges: Vec<DpaRange> = extents.iter().map(|extent| extent.range).collect();
        let lists = self.list(&ranges, 0x1e)?;
        for list in &lists {
            let states: Vec<Block> = list.iter().map(|&block| self.blocks[block]).collect();
            if states.iter().any(|&s| s != Block::Free && s != Block::Washing) {
                return wrong;
            }
            if states.contains(&Block::Washing) {
                return Err(ReturnCode::RETRY_REQUIRED);
            }
        }
        let mut tags: BTreeMap<Tag, (usize, Vec<u16>)> = BTreeMap::new();
        for (extent, list) in extents.iter().zip(&lists) {
            let sharable = self.is_sharable(list[0]);
            if (!sharable && extent.sequence != 0) || (sharable && extent.tag.is_null()) {
                return wrong;
            }
            if extent.tag.is_null() {
                continue;
            }
            let entry = tags.entry(extent.tag).or_insert((list[0] / BLOCKS, vec![]));
            if self.tag_is_used(extent.tag) || entry.0 != list[0] / BLOCKS {
                return wrong;
            }
            entry.1.push(extent.sequence);
        }
        for (region, mut numbers) in tags.into_values() {
            numbers.sort_unstable();
            let count = numbers.len() as u16;
            let from_0: Vec<u16> = (0..count).collect();
            let from_1: Vec<u16> = (1..=count).collect();
            let sharable = self.config.regions[region].sharing == Sharing::Sharable;
            if sharable && numbers != from_0 && numbers != from_1 {
                return wrong;
            }
        }
        self.medium(lists.iter().flatten().count())
    }

    /// What a host was offered.
    pub fn offered(&mut self, host: usize, extents: &[DcExtent]) {
        for extent in extents {
            for block in self.blocks_of(extent) {
                if self.is_sharable(block) {
                    self.blocks[block] = Block::Shared(extent.tag);
                } else {
                    assert_eq!(self.blocks[block], Block::Free);
                    self.blocks[block] = Block::Offered(host);
                }
            }
            if self.is_sharable(self.blocks_of(extent)[0]) {
                let hosts = self.hosts();
                let shared = self.shared.entry(extent.tag).or_insert_with(|| Shared {
                    extents: vec![],
                    shares: vec![Share::None; hosts],
                    kept: false,
                    touched: false,
                    wash: false,
                });
                shared.shares[host] = Share::Offered;
                if !shared.extents.contains(extent) {
                    shared.extents.push(*extent);
                }
            }
        }
        self.offers[host].push_back(Offer { extents: extents.to_vec(), dead: false });
        self.log(host, extents.len());
    }
}
