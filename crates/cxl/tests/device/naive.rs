//! The same device again, block by block: what each block is, and for each command which return
//! code there should be. Slow, with lists of numbers instead of ranges, and written from the
//! rules, not from the device.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use memtide_cxl::{
    ReturnCode,
    command::{
        More, Sanitize,
        dynamic_capacity::{AddResponse, Release},
        events::Clear,
        fabric_manager::{
            Force, InitiateAdd, InitiateRelease, Removal, Selection, SetConfiguration,
        },
    },
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

    fn blocks_of(&self, extent: &DcExtent) -> Vec<usize> {
        self.of(extent.range, 0xf).unwrap()
    }

    fn list(&self, ranges: &[DpaRange], outside: u16) -> Result<Vec<Vec<usize>>, ReturnCode> {
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

    fn is_offered(&self, host: usize, block: usize) -> bool {
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
    fn extents_among(&self, host: usize, blocks: &[usize]) -> Vec<DcExtent> {
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

    fn open_offers(&self, host: usize) -> Vec<DcExtent> {
        let open = self.offers[host].iter().filter(|offer| !offer.dead);
        open.flat_map(|offer| offer.extents.clone()).collect()
    }

    fn tracked(&self, host: usize) -> Vec<DcExtent> {
        let mut all = self.held(host);
        all.extend(self.offers[host].iter().flat_map(|offer| offer.extents.clone()));
        all
    }

    /// Extents and tags that this host can still get.
    fn left(&self, host: usize, except: Option<Tag>) -> (usize, usize) {
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

    fn tag_is_used(&self, tag: Tag) -> bool {
        let by_host = |host| {
            let mut all = self.held(host);
            all.extend(self.open_offers(host));
            all.iter().any(|extent| extent.tag == tag)
        };
        self.shared.contains_key(&tag) || (0..self.hosts()).any(by_host)
    }

    fn log(&mut self, who: usize, records: usize) {
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

    fn log_takes(&self, host: usize, records: usize) -> Result<(), ReturnCode> {
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

    fn is_sharable(&self, block: usize) -> bool {
        self.config.regions[block / BLOCKS].sharing == Sharing::Sharable
    }

    // ---- 5604h ----

    /// How long the runs of some blocks of a region are.
    fn runs(&self, region: usize, is: impl Fn(Block) -> bool) -> Vec<usize> {
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

    fn medium(&self, blocks: usize) -> Result<(), ReturnCode> {
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

    fn may_select(&self, request: &InitiateAdd) -> Result<usize, ReturnCode> {
        let region = usize::from(request.region);
        let config = self.config.regions.get(region).ok_or(ReturnCode::INVALID_INPUT)?;
        let (length, tag) = (request.length, request.tag);
        let no_tag = config.sharing == Sharing::Sharable && tag.is_null();
        let used = !tag.is_null() && self.tag_is_used(tag);
        if length == 0 || length % BLOCK != 0 || no_tag || used {
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

    fn may_prescribe(&self, extents: &[DcExtent]) -> Result<(), ReturnCode> {
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

    // ---- 4802h and 4803h ----

    fn chain(&self, told: &Chain, now: &[DpaRange]) -> Result<Vec<DpaRange>, ReturnCode> {
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

    fn next<T>(checked: &Result<Vec<DpaRange>, T>, more: More) -> Chain {
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
    fn may_answer(&self, host: usize, ranges: &[DpaRange], more: More) -> Result<bool, ReturnCode> {
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

    fn take_answer(&mut self, host: usize, ranges: &[DpaRange]) {
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

    fn may_release(&self, host: usize, ranges: &[DpaRange], more: More) -> Result<(), ReturnCode> {
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
    fn whole(&self, blocks: &[usize], code: ReturnCode) -> Result<(), ReturnCode> {
        for &block in blocks {
            let Block::Shared(tag) = self.blocks[block] else { continue };
            let mut all = (0..self.blocks.len()).filter(|&b| self.blocks[b] == Block::Shared(tag));
            if all.any(|block| !blocks.contains(&block)) {
                return Err(code);
            }
        }
        OK
    }

    fn may_split(&self, host: usize, blocks: &[usize]) -> Result<(), ReturnCode> {
        let left: Vec<usize> = (0..self.blocks.len()).filter(|b| !blocks.contains(b)).collect();
        let (before, after) = (self.held(host).len(), self.extents_among(host, &left).len());
        if after > before && after - before > self.left(host, None).0 {
            return Err(ReturnCode::RESOURCES_EXHAUSTED);
        }
        OK
    }

    // ---- How capacity ends ----

    fn end(&mut self, host: usize, ranges: &[DpaRange]) -> Vec<DcExtent> {
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

    fn unshare(&mut self, tag: Tag, host: usize) {
        self.shared.get_mut(&tag).unwrap().shares[host] = Share::None;
        self.settle(tag);
    }

    fn settle(&mut self, tag: Tag) {
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

    fn withdraw(&mut self, host: usize, extents: &[DcExtent], wash: bool) {
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

    // ---- 5605h ----

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

    fn kill(&mut self, host: usize, ranges: &[DpaRange], wash: bool) {
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

    fn by_tag(&self, host: usize, request: &InitiateRelease) -> Result<Vec<DpaRange>, ReturnCode> {
        let mut held = self.held(host);
        held.reverse();
        let mut offered = self.open_offers(host);
        held.retain(|extent| extent.tag == request.tag);
        offered.retain(|extent| extent.tag == request.tag);
        let length = request.length;
        if held.len() + offered.len() == 0 || length == 0 || length % BLOCK != 0 {
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

    fn by_list(&self, host: usize, request: &InitiateRelease) -> Result<Vec<DpaRange>, ReturnCode> {
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

    // ---- The rest ----

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
