//! What is said: mostly what makes sense, as bytes, some of them wrong.

use memtide_cxl::{
    Command, Opcode,
    command::{
        HostId, More, Sanitize,
        dynamic_capacity::{AddResponse, Release},
        events::{Clear, ClearEventRecords, EventLog},
        fabric_manager::{Force, InitiateAdd, InitiateRelease, Removal, Selection},
    },
    device::{Config, Sharing},
};
use memtide_units::{DcExtent, DpaRange, Tag};

use super::{History, TAGS, tags};
use crate::{
    bed::BLOCK,
    naive::{BLOCKS, Block, Naive},
};

impl History {
    pub(super) fn one_of<T: Copy>(&mut self, things: &[T]) -> Option<T> {
        let at = self.random.below(things.len().max(1) as u64) as usize;
        things.get(at).copied()
    }

    pub(super) fn chance(&mut self, percent: u64) -> bool {
        self.random.below(100) < percent
    }

    pub(super) fn host(&mut self) -> HostId {
        let hosts = self.naive.hosts() as u64;
        HostId(if self.chance(1) { hosts as u16 } else { self.random.below(hosts) as u16 })
    }

    /// A host for which `is` holds, if there is one.
    pub(super) fn host_with(&mut self, is: impl Fn(&Naive, usize) -> bool) -> HostId {
        let hosts: Vec<usize> =
            (0..self.naive.hosts()).filter(|&host| is(&self.naive, host)).collect();
        match self.one_of(&hosts) {
            Some(host) if !self.chance(3) => HostId(host as u16),
            _ => self.host(),
        }
    }

    /// A tag for something new.
    pub(super) fn new_tag(&mut self) -> Tag {
        let used = tags(&self.naive);
        let free = |number: &u8| used.iter().all(|(tag, ..)| tag.0[0] != *number);
        let free: Vec<u8> = (1..=TAGS as u8).filter(free).collect();
        match self.one_of(&free) {
            Some(number) if !self.chance(5) => Tag([number; 16]),
            _ => self.tag(),
        }
    }

    /// A tag of something sharable.
    pub(super) fn shared_tag(&mut self) -> Tag {
        let shared: Vec<Tag> = self.naive.shared.keys().copied().collect();
        match self.one_of(&shared) {
            Some(tag) if !self.chance(10) => tag,
            _ => self.tag(),
        }
    }

    pub(super) fn tag(&mut self) -> Tag {
        Tag([self.random.below(TAGS + 1) as u8; 16])
    }

    pub(super) fn sanitize(&mut self) -> Sanitize {
        if self.chance(20) { Sanitize::OnRelease } else { Sanitize::Never }
    }

    pub(super) fn more(&mut self) -> More {
        if self.chance(10) { More::Follows } else { More::Last }
    }

    /// Some range, mostly of whole blocks of a region.
    pub(super) fn range(&mut self) -> DpaRange {
        let region = self.random.below(2) as usize;
        let base = self.naive.config.regions[region].base;
        let first = self.random.below(BLOCKS as u64);
        let count = 1 + self.random.below(6);
        let mut range = DpaRange::new(base + first * BLOCK, count * BLOCK);
        match self.random.below(60) {
            0 => range.start += 64,
            1 => range.length -= 64,
            2 => range.length = 0,
            3 => range.length = u64::MAX - 63,
            4 => range.start = self.random.next(),
            _ => {}
        }
        range
    }

    /// A part of a range, or all of it.
    pub(super) fn part(&mut self, range: DpaRange) -> DpaRange {
        let blocks = range.length / BLOCK;
        if blocks == 0 || self.chance(60) {
            return range;
        }
        let first = self.random.below(blocks);
        let count = 1 + self.random.below(blocks - first);
        DpaRange::new(range.start + first * BLOCK, count * BLOCK)
    }

    pub(super) fn some_of(&mut self, extents: &[DcExtent], percent: u64) -> Vec<DpaRange> {
        let mut ranges = vec![];
        for extent in extents {
            if self.chance(percent) {
                ranges.push(extent.range);
            }
        }
        if self.chance(5) {
            ranges.push(self.range());
        }
        self.random.shuffle(&mut ranges);
        ranges
    }

    pub(super) fn add_request(&mut self) -> InitiateAdd {
        let selections = [Selection::Free, Selection::Contiguous, Selection::EnableSharedAccess];
        let mut request = InitiateAdd {
            host: self.host(),
            selection: self.one_of(&selections).unwrap(),
            region: if self.chance(2) { 2 } else { self.random.below(2) as u8 },
            length: (1 + self.random.below(12)) * BLOCK,
            tag: self.new_tag(),
            extents: vec![],
        };
        if request.selection == Selection::EnableSharedAccess {
            request.tag = self.shared_tag();
            let region = |config: &Config| {
                config.regions.iter().position(|region| region.sharing == Sharing::Sharable)
            };
            if let Some(region) = region(&self.naive.config).filter(|_| !self.chance(20)) {
                request.region = region as u8;
            }
        }
        if self.chance(3) {
            request.length = self.random.below(3) * (BLOCK - 1);
        }
        if self.chance(3) {
            request.length *= 8;
        }
        if self.chance(40) {
            request.selection = Selection::Prescriptive;
            request.extents = self.extents_to_add();
        }
        request
    }

    /// A list that is all right, if what it names is free.
    pub(super) fn extents_to_add(&mut self) -> Vec<DcExtent> {
        let (mut tag, mut number) = (self.new_tag(), 0);
        let mut extents: Vec<DcExtent> = vec![];
        for _ in 0..self.random.below(5) {
            let free = self.naive.blocks.iter().position(|&block| block == Block::Free);
            let mut range = self.range();
            if let Some(free) = free.filter(|_| self.chance(50)) {
                let region = &self.naive.config.regions[free / BLOCKS];
                range = DpaRange::new(region.base + (free % BLOCKS) as u64 * BLOCK, BLOCK);
            }
            let sharable = self.naive.of(range, 0xf).is_ok_and(|blocks| {
                self.naive.config.regions[blocks[0] / BLOCKS].sharing == Sharing::Sharable
            });
            if self.chance(10) {
                (tag, number) = (self.new_tag(), 0);
            }
            let sequence = if sharable { number } else { 0 };
            number += 1;
            extents.push(DcExtent { range, tag, sequence });
        }
        if self.chance(3) && !extents.is_empty() {
            extents[0].sequence = self.random.next() as u16;
        }
        extents
    }

    pub(super) fn release_request(&mut self) -> InitiateRelease {
        let host = self.host_with(|naive, host| {
            !naive.offers[host].is_empty() || !naive.held(host).is_empty()
        });
        let number = usize::from(host.0).min(self.naive.hosts() - 1);
        let mut mine = self.naive.held(number);
        mine.extend(self.naive.offers[number].iter().flat_map(|offer| offer.extents.clone()));
        let chosen = self.one_of(&mine);
        let mut request = InitiateRelease {
            host,
            removal: if self.chance(50) { Removal::TagBased } else { Removal::Prescriptive },
            force: if self.chance(50) { Force::Take } else { Force::Ask },
            sanitize: self.sanitize(),
            length: (1 + self.random.below(6)) * BLOCK,
            tag: chosen.map_or(Tag([1; 16]), |extent| extent.tag),
            extents: vec![],
        };
        if self.chance(60) {
            let of_tag = mine.iter().filter(|extent| extent.tag == request.tag);
            request.length = of_tag.map(|extent| extent.range.length).sum();
        }
        if self.chance(3) {
            request.length += 64;
        }
        for extent in mine {
            if self.chance(40) {
                let range = self.part(extent.range);
                let tag = if self.chance(50) { extent.tag } else { Tag::NULL };
                request.extents.push(DcExtent { range, tag, sequence: 0 });
            }
        }
        if self.chance(5) {
            let (range, tag) = (self.range(), self.tag());
            request.extents.push(DcExtent { range, tag, sequence: 0 });
        }
        request
    }

    pub(super) fn answer(&mut self, host: HostId) -> AddResponse {
        let number = usize::from(host.0).min(self.naive.hosts() - 1);
        let which = if self.chance(5) { 1 } else { 0 };
        let offer = self.naive.offers[number].get(which).map(|offer| offer.extents.clone());
        let percent = if self.chance(60) { 100 } else { self.random.below(100) };
        let mut accepted = self.some_of(&offer.unwrap_or_default(), percent);
        if self.chance(5) {
            accepted = accepted.into_iter().map(|range| self.part(range)).collect();
        }
        AddResponse { more: self.more(), accepted }
    }

    pub(super) fn release(&mut self, host: HostId) -> Release {
        let number = usize::from(host.0).min(self.naive.hosts() - 1);
        let held = self.naive.held(number);
        let tag = self.one_of(&held).map(|extent| extent.tag);
        let mine: Vec<DcExtent> =
            held.into_iter().filter(|extent| Some(extent.tag) == tag).collect();
        let percent = if self.chance(60) { 100 } else { 50 };
        let ranges = self.some_of(&mine, percent);
        let released = ranges.into_iter().map(|range| self.part(range)).collect();
        Release { more: self.more(), released }
    }

    pub(super) fn clearing(&mut self, who: usize) -> ClearEventRecords {
        let handles = &self.naive.logs[who].handles;
        let count = handles.len().min(1 + self.random.below(30) as usize);
        let mut handles: Vec<u16> = handles.iter().copied().take(count).collect();
        if self.random.below(20) == 0 {
            handles.push(self.random.next() as u16);
        }
        let all = handles.is_empty() || self.random.below(20) == 0;
        let what = if all { Clear::All } else { Clear::Handles(handles) };
        ClearEventRecords { log: EventLog::DynamicCapacity, what }
    }

    pub(super) fn bytes<C: Command>(&mut self, command: &C) -> (Opcode, Vec<u8>) {
        let mut bytes = command.to_bytes();
        if self.chance(3) && !bytes.is_empty() {
            for _ in 0..=self.random.below(4) {
                let at = self.random.below(bytes.len() as u64) as usize;
                bytes[at] = self.random.next() as u8;
            }
        }
        if self.chance(1) {
            bytes.truncate(self.random.below(bytes.len() as u64 + 1) as usize);
        }
        (C::OPCODE, bytes)
    }

    pub(super) fn noise(&mut self) -> (Opcode, Vec<u8>) {
        let known = [1, 0x4000]
            .into_iter()
            .chain(0x100..=0x101)
            .chain(0x4800..=0x4804)
            .chain(0x5600..=0x5609);
        let known: Vec<u16> = known.collect();
        let opcode = Opcode(self.one_of(&known).unwrap());
        let length = self.random.below(80);
        let mut bytes: Vec<u8> = (0..length).map(|_| self.random.next() as u8).collect();
        if self.chance(50) {
            bytes.iter_mut().step_by(2).for_each(|byte| *byte = 0);
        }
        (opcode, bytes)
    }
}
