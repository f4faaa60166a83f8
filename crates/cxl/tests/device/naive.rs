//! The same device again, block by block: what each block is, and for each command which return
//! code there should be. Slow, with lists of numbers instead of ranges, and written from the
//! rules, not from the device.

mod adding;
mod answering;
mod taking;

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use memtide_cxl::{
    ReturnCode,
    command::{events::Clear, fabric_manager::SetConfiguration},
    device::{Config, SanitizeControl, Sharing},
};
use memtide_units::{DcExtent, DpaRange, Tag};

use crate::bed::BLOCK;

/// Blocks of each region.
pub const BLOCKS: usize = 64;
const OK: Result<(), ReturnCode> = Ok(());

/// What a block is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Block {
    Free,
    Offered(usize),
    Held(usize),
    Shared(Tag),
    Washing,
}

/// What a host has of a sharable tag.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Share {
    None,
    Offered,
    Held,
}

#[derive(Clone, Debug)]
pub struct Shared {
    pub extents: Vec<DcExtent>,
    pub shares: Vec<Share>,
    pub kept: bool,
    touched: bool,
    wash: bool,
}

#[derive(Clone, Debug, Default)]
pub struct Log {
    pub handles: VecDeque<u16>,
    pub overflown: bool,
    last: u16,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Chain {
    Idle,
    Open(Vec<DpaRange>),
    Broken,
}

#[derive(Clone, Debug)]
pub struct Offer {
    pub extents: Vec<DcExtent>,
    pub dead: bool,
}

pub struct Naive {
    pub config: Config,
    pub blocks: Vec<Block>,
    /// Of an exclusive block that is held: the tag, which extent it came with, and whether it is
    /// to be washed.
    owned: Vec<(Tag, usize, bool)>,
    pub shared: BTreeMap<Tag, Shared>,
    pub offers: Vec<VecDeque<Offer>>,
    /// Logs of the hosts, and the manager's behind them.
    pub logs: Vec<Log>,
    answers: Vec<Chain>,
    releases: Vec<Chain>,
    extents_seen: usize,
}

impl Naive {
    pub fn new(config: Config) -> Self {
        let (hosts, blocks) = (usize::from(config.hosts), config.regions.len() * BLOCKS);
        Self {
            blocks: vec![Block::Free; blocks],
            owned: vec![(Tag::NULL, 0, false); blocks],
            shared: BTreeMap::new(),
            offers: vec![VecDeque::new(); hosts],
            logs: vec![Log::default(); hosts + 1],
            answers: vec![Chain::Idle; hosts],
            releases: vec![Chain::Idle; hosts],
            extents_seen: 0,
            config,
        }
    }

    pub fn hosts(&self) -> usize {
        self.offers.len()
    }

    /// The blocks of a range that is well formed, or the code that says what is wrong with it.
    pub fn of(&self, range: DpaRange, outside: u16) -> Result<Vec<usize>, ReturnCode> {
        if range.length == 0 {
            return Err(ReturnCode(0x1e));
        }
        let last = range.start.checked_add(range.length - 1).ok_or(ReturnCode(outside))?;
        for (number, region) in self.config.regions.iter().enumerate() {
            let end = region.base + region.length - 1;
            if range.start >= region.base && last <= end {
                if !(range.start - region.base).is_multiple_of(BLOCK)
                    || !range.length.is_multiple_of(BLOCK)
                {
                    return Err(ReturnCode(0x1e));
                }
                let first = ((range.start - region.base) / BLOCK) as usize;
                let count = (range.length / BLOCK) as usize;
                return Ok((first..first + count).map(|at| number * BLOCKS + at).collect());
            }
        }
        Err(ReturnCode(outside))
    }

    pub(super) fn blocks_of(&self, extent: &DcExtent) -> Vec<usize> {
        self.of(extent.range, 0xf).unwrap()
    }

    pub(super) fn list(
        &self,
        ranges: &[DpaRange],
        outside: u16,
    ) -> Result<Vec<Vec<usize>>, ReturnCode> {
        let lists: Result<Vec<_>, _> =
            ranges.iter().map(|&range| self.of(range, outside)).collect();
        let lists = lists?;
        let mut seen = BTreeSet::new();
        if lists.iter().flatten().all(|block| seen.insert(*block)) {
            return Ok(lists);
        }
        Err(ReturnCode(0x1e))
    }

    pub fn holds(&self, host: usize, block: usize) -> bool {
        match self.blocks[block] {
            Block::Held(by) => by == host,
            Block::Shared(tag) => self.shared[&tag].shares[host] == Share::Held,
            _ => false,
        }
    }

    pub(super) fn is_offered(&self, host: usize, block: usize) -> bool {
        match self.blocks[block] {
            Block::Offered(to) => to == host,
            Block::Shared(tag) => self.shared[&tag].shares[host] == Share::Offered,
            _ => false,
        }
    }

    /// What a host has: extents, found as runs of blocks that came with the same extent.
    pub fn held(&self, host: usize) -> Vec<DcExtent> {
        self.extents_among(host, &(0..self.blocks.len()).collect::<Vec<_>>())
    }

    /// The same, of some blocks in their order.
    pub(super) fn extents_among(&self, host: usize, blocks: &[usize]) -> Vec<DcExtent> {
        let mut found: Vec<(DcExtent, usize, usize)> = vec![];
        for &block in blocks.iter().filter(|&&block| self.holds(host, block)) {
            let region = &self.config.regions[block / BLOCKS];
            let start = region.base + (block % BLOCKS) as u64 * BLOCK;
            let (tag, came_with, sequence) = match self.blocks[block] {
                Block::Shared(tag) => {
                    let extents = &self.shared[&tag].extents;
                    let range = DpaRange::new(start, BLOCK);
                    let has = |extent: &&DcExtent| extent.range.contains(range);
                    let sequence = extents.iter().find(has).unwrap().sequence;
                    (tag, usize::MAX - usize::from(sequence), sequence)
                }
                _ => (self.owned[block].0, self.owned[block].1, 0),
            };
            if let Some((extent, with, last)) = found.last_mut()
                && *with == came_with
                && extent.tag == tag
                && *last + 1 == block
                && *last / BLOCKS == block / BLOCKS
            {
                extent.range.length += BLOCK;
                *last = block;
            } else {
                let range = DpaRange::new(start, BLOCK);
                found.push((DcExtent { range, tag, sequence }, came_with, block));
            }
        }
        found.into_iter().map(|(extent, ..)| extent).collect()
    }

    pub(super) fn open_offers(&self, host: usize) -> Vec<DcExtent> {
        let open = self.offers[host].iter().filter(|offer| !offer.dead);
        open.flat_map(|offer| offer.extents.clone()).collect()
    }

    pub(super) fn tracked(&self, host: usize) -> Vec<DcExtent> {
        let mut all = self.held(host);
        all.extend(self.offers[host].iter().flat_map(|offer| offer.extents.clone()));
        all
    }

    /// Extents and tags that this host can still get.
    pub(super) fn left(&self, host: usize, except: Option<Tag>) -> (usize, usize) {
        let tracked = self.tracked(host);
        let tags: BTreeSet<Tag> = tracked.iter().map(|e| e.tag).filter(|t| !t.is_null()).collect();
        let (mut extents, mut tags) = (tracked.len(), tags.len());
        for (&tag, shared) in &self.shared {
            if shared.kept && Some(tag) != except && shared.shares[host] == Share::None {
                extents += shared.extents.len();
                tags += 1;
            }
        }
        let limits = self.config.limits;
        let left = |limit: u32, used: usize| (limit as usize).saturating_sub(used);
        (left(limits.extents, extents), left(limits.tags, tags))
    }

    pub(super) fn tag_is_used(&self, tag: Tag) -> bool {
        let by_host = |host| {
            let mut all = self.held(host);
            all.extend(self.open_offers(host));
            all.iter().any(|extent| extent.tag == tag)
        };
        self.shared.contains_key(&tag) || (0..self.hosts()).any(by_host)
    }

    pub(super) fn log(&mut self, who: usize, records: usize) {
        let limit = usize::from(self.config.limits.event_records);
        let log = &mut self.logs[who];
        if log.handles.len() + records > limit {
            log.overflown = true;
            return;
        }
        for _ in 0..records {
            log.last = if log.last == u16::MAX { 1 } else { log.last + 1 };
            log.handles.push_back(log.last);
        }
    }

    pub(super) fn log_takes(&self, host: usize, records: usize) -> Result<(), ReturnCode> {
        let limit = usize::from(self.config.limits.event_records);
        match (records > limit, self.logs[host].handles.len() + records > limit) {
            (true, _) => Err(ReturnCode::RESOURCES_EXHAUSTED),
            (_, true) => Err(ReturnCode::RETRY_REQUIRED),
            _ => Ok(()),
        }
    }

    pub fn clear(&mut self, who: usize, what: &Clear) -> Result<(), ReturnCode> {
        let log = &mut self.logs[who];
        match what {
            Clear::All if !log.overflown => return Err(ReturnCode::INVALID_INPUT),
            Clear::All => log.handles.clear(),
            Clear::Handles(handles) => {
                let oldest: Vec<u16> = log.handles.iter().copied().take(handles.len()).collect();
                if oldest != *handles {
                    return Err(ReturnCode::INVALID_HANDLE);
                }
                log.handles.drain(..handles.len());
            }
        }
        log.overflown = false;
        OK
    }

    pub(super) fn is_sharable(&self, block: usize) -> bool {
        self.config.regions[block / BLOCKS].sharing == Sharing::Sharable
    }

    pub fn reference(&mut self, tag: Tag, kept: bool) -> Result<(), ReturnCode> {
        self.shared.get_mut(&tag).ok_or(ReturnCode::INVALID_INPUT)?.kept = kept;
        self.settle(tag);
        OK
    }

    pub fn configure(&mut self, request: &SetConfiguration) -> Result<(), ReturnCode> {
        let region = usize::from(request.region);
        let config = self.config.regions.get(region).ok_or(ReturnCode::INVALID_INPUT)?;
        let mut blocks = self.blocks[region * BLOCKS..(region + 1) * BLOCKS].iter();
        if blocks.any(|&block| block != Block::Free) {
            return Err(ReturnCode::UNSUPPORTED);
        }
        if request.block_size != BLOCK {
            return Err(ReturnCode::INVALID_INPUT);
        }
        let is_fixed = config.sanitize_control == SanitizeControl::Fixed;
        if is_fixed && request.sanitize != config.sanitize {
            return Err(ReturnCode::UNSUPPORTED);
        }
        (0..self.hosts()).try_for_each(|host| self.log_takes(host, 1))?;
        self.config.regions[region].sanitize = request.sanitize;
        (0..self.hosts()).for_each(|host| self.log(host, 1));
        OK
    }

    pub fn reset(&mut self, host: usize) {
        let manager = self.hosts();
        let log = &mut self.logs[host];
        log.handles.clear();
        log.overflown = false;
        self.answers[host] = Chain::Idle;
        self.releases[host] = Chain::Idle;
        for offer in std::mem::take(&mut self.offers[host]) {
            if !offer.dead {
                self.withdraw(host, &offer.extents, false);
            }
            self.log(manager, 1);
        }
        let shares: Vec<DpaRange> = self
            .held(host)
            .iter()
            .filter(|extent| self.shared.contains_key(&extent.tag))
            .map(|extent| extent.range)
            .collect();
        if !shares.is_empty() {
            let ended = self.end(host, &shares);
            self.log(manager, ended.len());
        }
    }

    pub fn washed(&mut self, range: DpaRange) -> bool {
        let Ok(blocks) = self.of(range, 0xf) else { return false };
        let washing = blocks.iter().all(|&block| self.blocks[block] == Block::Washing);
        if washing {
            blocks.iter().for_each(|&block| self.blocks[block] = Block::Free);
        }
        washing
    }
}
