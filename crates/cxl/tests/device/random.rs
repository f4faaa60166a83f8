//! Random histories: hosts and a manager say what makes sense, what nearly does, and bytes that
//! mean nothing; after each command the device and the model of single blocks agree on the return
//! code, on who has what, and on what is in the logs, and nobody saw what another left behind.

mod expecting;
mod saying;

use std::collections::BTreeMap;

use memtide_cxl::{
    command::{
        HostId, More, Sanitize,
        fabric_manager::{AddReference, RemoveReference, SetConfiguration},
    },
    device::{Config, Effect, Limits, Sharing},
};
use memtide_units::{DcExtent, DpaRange, Random, Tag};

use crate::{
    bed::{BLOCK, Bed, config},
    naive::{BLOCKS, Block, Naive, Share},
};

const TAGS: u64 = 5;

struct History {
    random: Random,
    bed: Bed,
    naive: Naive,
    memory: Memory,
    /// How often something worked, and how often it was refused with which code.
    outcomes: BTreeMap<u16, u32>,
}

/// What lies in the medium: who may touch a block, and whose data is in it.
struct Memory {
    open: Vec<Vec<bool>>,
    written: Vec<Option<Vec<usize>>>,
}

fn random_config(random: &mut Random) -> Config {
    let mut config = config();
    config.regions.iter_mut().for_each(|region| region.block_sizes = BLOCK);
    for region in &mut config.regions {
        region.sharing = if random.below(2) == 0 { Sharing::Exclusive } else { Sharing::Sharable };
        if random.below(2) == 0 {
            region.sanitize = Sanitize::OnRelease;
        }
    }
    config.limits = Limits {
        extents: 2 + random.below(12) as u32,
        tags: 1 + random.below(5) as u32,
        event_records: 2 + random.below(20) as u16,
        payload_bytes: 256 << random.below(3),
    };
    config
}

impl History {
    fn new(seed: u64) -> Self {
        let mut random = Random::new(seed);
        let config = random_config(&mut random);
        let blocks = config.regions.len() * BLOCKS;
        let hosts = usize::from(config.hosts);
        let memory = Memory { open: vec![vec![false; blocks]; hosts], written: vec![None; blocks] };
        let bed = Bed::of(config.clone());
        Self { random, bed, naive: Naive::new(config), memory, outcomes: BTreeMap::new() }
    }

    fn step(&mut self) {
        let host = self.host();
        match self.random.below(100) {
            0..25 => {
                let request = self.add_request();
                let said = self.bytes(&request);
                self.manager_says(said);
            }
            25..50 => {
                let host = self.host_with(|naive, host| !naive.offers[host].is_empty());
                let request = self.answer(host);
                let said = self.bytes(&request);
                self.host_says(host, said);
            }
            50..60 => {
                let host = self.host_with(|naive, host| !naive.held(host).is_empty());
                let request = self.release(host);
                let said = self.bytes(&request);
                self.host_says(host, said);
            }
            60..68 => {
                let request = self.release_request();
                let said = self.bytes(&request);
                self.manager_says(said);
            }
            68..72 => {
                let tag = self.shared_tag();
                let said = if self.chance(40) {
                    self.bytes(&AddReference(tag))
                } else {
                    self.bytes(&RemoveReference(tag))
                };
                self.manager_says(said);
            }
            72..86 => self.clear_some(host),
            86..92 => self.wash(),
            92 => {
                let number = usize::from(host.0);
                assert_eq!(self.bed.device.reset(host).is_ok(), number < self.naive.hosts());
                if number < self.naive.hosts() {
                    self.naive.reset(number);
                }
            }
            93 => {
                let region = self.random.below(3) as u8;
                let block_size = BLOCK << (self.random.below(8) == 0) as u64;
                let sanitize = self.sanitize();
                let said = self.bytes(&SetConfiguration { region, block_size, sanitize });
                self.manager_says(said);
            }
            94..97 => {
                let said = self.noise();
                self.host_says(host, said);
            }
            _ => {
                let said = self.noise();
                self.manager_says(said);
            }
        }
        self.follow_effects();
        self.bed.device.validate();
        self.compare();
    }

    fn clear_some(&mut self, host: HostId) {
        if self.chance(30) {
            let request = self.clearing(self.naive.hosts());
            let said = self.bytes(&request);
            self.manager_says(said);
        } else {
            let request = self.clearing(usize::from(host.0).min(self.naive.hosts() - 1));
            let said = self.bytes(&request);
            self.host_says(host, said);
        }
    }

    fn wash(&mut self) {
        let waiting: Vec<DpaRange> = self.bed.device.sanitizing().collect();
        let range = match self.one_of(&waiting) {
            Some(range) if self.random.below(20) != 0 => self.part(range),
            _ => self.range(),
        };
        let done = self.bed.device.sanitized(range);
        let washed = self.naive.washed(range);
        assert_eq!(done.is_ok(), washed, "{range}");
        if washed {
            for block in self.naive.of(range, 0xf).unwrap() {
                self.memory.written[block] = None;
            }
        }
    }

    /// Hosts write whatever they may, and see what is there before.
    fn follow_effects(&mut self) {
        for effect in self.bed.device.take_effects() {
            match effect {
                Effect::Gained { host, range } => self.gained(usize::from(host.0), range),
                Effect::Ended { host, range } => {
                    for block in self.naive.of(range, 0xf).unwrap() {
                        let open = &mut self.memory.open[usize::from(host.0)][block];
                        assert!(std::mem::take(open), "{host} never had {range}");
                    }
                }
                Effect::Sanitize { range } => {
                    for block in self.naive.of(range, 0xf).unwrap() {
                        let anybody = self.memory.open.iter().any(|open| open[block]);
                        assert!(!anybody, "somebody still has {range}");
                    }
                }
                _ => {}
            }
        }
    }

    fn gained(&mut self, host: usize, range: DpaRange) {
        for block in self.naive.of(range, 0xf).unwrap() {
            let others = (0..self.naive.hosts()).any(|host| self.memory.open[host][block]);
            let is_shared = matches!(self.naive.blocks[block], Block::Shared(_));
            assert!(is_shared || !others, "two hosts have {range}");
            // Region 1 is washed always, or never.
            let region = &self.naive.config.regions[1];
            let washed = block / BLOCKS == 1 && region.sanitize == Sanitize::OnRelease;
            let writers = self.memory.written[block].get_or_insert_default();
            if washed && !is_shared {
                assert!(writers.is_empty(), "host {host} sees what {writers:?} left in {range}");
            }
            writers.push(host);
            assert!(!std::mem::replace(&mut self.memory.open[host][block], true));
        }
    }

    fn compare(&self) {
        for (number, host) in self.bed.device.hosts().enumerate() {
            let held = self.naive.held(number);
            assert_eq!(self.bed.held(host), held, "{host}");
            let open: Vec<bool> =
                (0..self.naive.blocks.len()).map(|b| self.naive.holds(number, b)).collect();
            assert_eq!(self.memory.open[number], open, "{host}");
            let offers: Vec<Vec<DcExtent>> =
                self.bed.device.offers(host).map(<[_]>::to_vec).collect();
            let open = self.naive.offers[number].iter().filter(|offer| !offer.dead);
            assert!(open.map(|offer| &offer.extents).eq(&offers), "{host}: {offers:?}");
            self.compare_log(Some(host), number);
        }
        self.compare_log(None, self.naive.hosts());
        let washing: u64 = self.bed.device.sanitizing().map(|range| range.length).sum();
        let count = self.naive.blocks.iter().filter(|&&block| block == Block::Washing).count();
        assert_eq!(washing, count as u64 * BLOCK);
        let mut expected = tags(&self.naive);
        expected.truncate((self.naive.config.limits.payload_bytes as usize - 16) / 84);
        let expected = expected.into_iter().take(9).collect::<Vec<_>>();
        assert_eq!(self.bed.tags(), expected);
    }

    fn compare_log(&self, host: Option<HostId>, number: usize) {
        let log = &self.naive.logs[number];
        let read = self.bed.records(host);
        let handles = read.records.iter().map(|record| record.handle);
        assert!(handles.eq(log.handles.iter().copied().take(read.records.len())), "{host:?}");
        let is_all = read.records.len() == log.handles.len();
        assert_eq!(read.more == More::Last, is_all);
        assert_eq!(read.overflow.is_some(), log.overflown, "{host:?}");
    }
}

/// All tags: who has them, who is offered them, whether they are kept.
fn tags(naive: &Naive) -> Vec<(Tag, u8, u8, bool)> {
    let mut all: BTreeMap<Tag, (u8, u8, bool)> = BTreeMap::new();
    for (&tag, shared) in &naive.shared {
        let entry = all.entry(tag).or_default();
        entry.2 = shared.kept;
        for (host, share) in shared.shares.iter().enumerate() {
            entry.0 |= u8::from(*share == Share::Held) << host;
            entry.1 |= u8::from(*share == Share::Offered) << host;
        }
    }
    for host in 0..naive.hosts() {
        for extent in naive.held(host) {
            all.entry(extent.tag).or_default().0 |= 1 << host;
        }
        let open = naive.offers[host].iter().filter(|offer| !offer.dead);
        for extent in open.flat_map(|offer| &offer.extents) {
            all.entry(extent.tag).or_default().1 |= 1 << host;
        }
    }
    all.remove(&Tag::NULL);
    all.into_iter().map(|(tag, (held, offered, kept))| (tag, held, offered, kept)).collect()
}

/// Runs a history, and says which on failure.
fn run(seed: u64, steps: u32) -> BTreeMap<u16, u32> {
    let mut history = History::new(seed);
    for step in 0..steps {
        let done = std::panic::AssertUnwindSafe(|| history.step());
        if let Err(why) = std::panic::catch_unwind(done) {
            eprintln!("seed {seed}, step {step}");
            std::panic::resume_unwind(why);
        }
    }
    history.outcomes
}

#[test]
fn random_histories_go_as_in_a_model_of_single_blocks() {
    let mut outcomes: BTreeMap<u16, u32> = BTreeMap::new();
    for seed in 0..300 {
        for (code, count) in run(seed, 300) {
            *outcomes.entry(code).or_default() += count;
        }
    }
    // Every code that the device has was seen; the last is for dead offers.
    for code in [0, 2, 3, 5, 0xe, 0xf, 0x16, 0x1d, 0x1e, u16::MAX] {
        assert!(outcomes.get(&code).is_some_and(|&count| count >= 20), "{code:#x}: {outcomes:?}");
    }
    assert!(outcomes[&0] > 20_000, "{outcomes:?}");
}
