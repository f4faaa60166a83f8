//! The model, the host, and that both agree after whatever happens.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use memtide_engine::dynamic_capacity::{
    ChainId, DcExtent, DeviceConfig, DeviceId, DpaRange, Effect, Host, Input, Limits, Notice,
    Partition, Splitting, Tag,
};
use memtide_units::Instant;

use crate::{NULL, PAGE, PARTITION, PENDING_MAX, op::Op};

/// One page that is held.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Page {
    pub allocation: usize,
    /// The place of its extent.
    pub place: usize,
    /// That extent, as it was accepted.
    pub extent: DpaRange,
    pub asked: bool,
}

#[derive(Clone, Default)]
pub struct Pending {
    pub extents: Vec<DcExtent>,
    pub overfull: bool,
    pub until: u64,
}

pub struct Allocation {
    pub tag: Tag,
    pub surfaced: bool,
    /// That which was accepted, of which this is what one chain named again.
    pub first: usize,
}

/// What waits for the device's word.
pub struct Answered {
    pub device: u16,
    pub chain: ChainId,
    pub new: Vec<usize>,
    /// Pages that were accepted before, without the device's word on that.
    pub again: BTreeSet<u64>,
}

pub struct World {
    pub host: Host,
    pub splitting: Splitting,
    pub now: u64,
    pub pages: BTreeMap<(u16, u64), Page>,
    pub allocations: Vec<Allocation>,
    pub chains: [Pending; 2],
    pub torn: [BTreeSet<Tag>; 2],
    pub answered: Vec<Answered>,
    /// What the host's user was asked for and has not answered.
    pub questions: [Option<BTreeSet<u64>>; 2],
    pub marks: BTreeMap<&'static str, u64>,
}

pub fn tag(number: u8) -> Tag {
    Tag([number; 16])
}

pub fn pages_of(range: DpaRange) -> Vec<u64> {
    assert!(range.is_aligned(PAGE), "{range}");
    (range.start / PAGE..(range.start + range.length) / PAGE).collect()
}

pub fn all_pages<'a>(ranges: impl IntoIterator<Item = &'a DpaRange>) -> BTreeSet<u64> {
    let pages: Vec<u64> = ranges.into_iter().flat_map(|&range| pages_of(range)).collect();
    let set: BTreeSet<u64> = pages.iter().copied().collect();
    assert_eq!(set.len(), pages.len(), "no page is named twice");
    set
}

impl World {
    pub fn new(splitting: Splitting) -> Self {
        let limits = Limits { pending_max: PENDING_MAX, ..Limits::default() };
        let mut host = Host::new(limits);
        for device in 0..2 {
            let partition = |number: u64, length| Partition {
                range: DpaRange::new(number * PARTITION * PAGE, PARTITION * PAGE),
                length: length * PAGE,
                block_bytes: PAGE,
            };
            let partitions = vec![partition(0, PARTITION), partition(1, PARTITION / 2)];
            let config = DeviceConfig { splitting, ..DeviceConfig::new(partitions) };
            host.add_device(DeviceId(device), config).unwrap();
            let decoder = DpaRange::new(0, 2 * PARTITION * PAGE);
            let probe = Input::Probe { device: DeviceId(device), decoder, accepted: vec![] };
            host.handle(Instant::default(), probe).unwrap();
        }
        Self {
            host,
            splitting,
            now: 0,
            pages: BTreeMap::new(),
            allocations: Vec::new(),
            chains: Default::default(),
            torn: Default::default(),
            answered: Vec::new(),
            questions: Default::default(),
            marks: BTreeMap::new(),
        }
    }

    pub fn mark(&mut self, what: &'static str) {
        *self.marks.entry(what).or_default() += 1;
    }

    pub fn run(&mut self, op: &Op) {
        match *op {
            Op::Add { device, start, pages, skew, tag: number, sequence, more } => {
                let range = DpaRange::new(start * PAGE + skew, pages * PAGE);
                let extent = DcExtent { range, tag: tag(number), sequence };
                self.add(device.into(), extent, more);
            }
            Op::Again { device, which, more } => {
                let device = u16::from(device);
                let Some((range, tag)) = self.some_extent(device, which) else { return };
                self.mark("again");
                self.add(device, DcExtent { range, tag, sequence: 0 }, more);
            }
            Op::InPieces { device } => self.in_pieces(device.into()),
            Op::Answer { device, taken } => self.answer(device.into(), taken),
            Op::Release { device, start, pages, tag: number, more } => {
                let range = DpaRange::new(start * PAGE, pages * PAGE);
                self.release(device.into(), range, tag(number), more);
            }
            Op::ReleaseHeld { device, which, more } => {
                let device = u16::from(device);
                let Some((range, tag)) = self.some_extent(device, which) else { return };
                self.release(device, range, tag, more);
            }
            Op::Force { device, which, skip, pages } => {
                self.force(device.into(), which, skip, pages)
            }
            Op::Reclaimed { device, ref free } => self.reclaimed(device.into(), free),
            Op::Freed { device } => {
                let device = DeviceId(device.into());
                self.say(Input::Freed { device });
            }
            Op::Pass { seconds } => {
                self.now += seconds;
                self.say(Input::Tick);
            }
        }
        self.compare();
    }

    /// Tells the host; what time makes due comes first. Says what the host said after that.
    pub fn say(&mut self, input: Input) -> Vec<Effect> {
        let now = Instant(Duration::from_secs(self.now));
        let due = self.host.handle(now, Input::Tick).unwrap();
        self.note_effects(&due);
        let late: Vec<u16> = (0..2).filter(|&device| self.is_late(usize::from(device))).collect();
        for &device in &late {
            let known = std::mem::take(&mut self.chains[usize::from(device)]);
            // Of a chain that had too many, what came until that was seen.
            let seen = known.extents.iter().take(PENDING_MAX + 1);
            let tags = seen.map(|extent| extent.tag);
            self.torn[usize::from(device)] = tags.filter(|&known| known != tag(NULL)).collect();
            self.mark("late");
        }
        let answers: Vec<u16> = due
            .iter()
            .filter_map(|effect| match effect {
                Effect::AddResponse { device, chain, accepted } => {
                    assert_eq!(accepted, &[], "what is late is refused");
                    let (chain, again) = (*chain, BTreeSet::new());
                    self.answered.push(Answered { device: device.0, chain, new: vec![], again });
                    Some(device.0)
                }
                _ => None,
            })
            .collect();
        assert_eq!(answers, late);
        let effects = self.host.handle(now, input).unwrap();
        self.host.validate();
        self.note_effects(&effects);
        effects
    }

    pub fn is_late(&self, device: usize) -> bool {
        let chain = &self.chains[device];
        !chain.extents.is_empty() && chain.until <= self.now
    }

    /// What questions there are, and that they are about all that is wanted.
    pub fn note_effects(&mut self, effects: &[Effect]) {
        for effect in effects {
            match effect {
                Effect::Reclaim { device, ranges } => {
                    let asked = all_pages(ranges);
                    assert!(self.questions[usize::from(device.0)].replace(asked).is_none());
                    self.mark("question");
                }
                Effect::Note { notice: Notice::Deferred { .. }, .. } => self.mark("deferred"),
                _ => {}
            }
        }
    }

    pub fn wanted(&self, device: u16) -> BTreeSet<u64> {
        let of_it = self.pages.iter().filter(|((of, _), page)| {
            *of == device && page.asked && self.allocations[page.allocation].surfaced
        });
        of_it.map(|((_, number), _)| *number).collect()
    }

    /// The range of an extent that is held whole, and its tag.
    pub fn some_extent(&self, device: u16, which: u8) -> Option<(DpaRange, Tag)> {
        let held: Vec<(&(u16, u64), &Page)> =
            self.pages.iter().filter(|((of, _), _)| *of == device).collect();
        let (_, page) = held.get(usize::from(which) % held.len().max(1))?;
        let same = |other: &&(&(u16, u64), &Page)| {
            (other.1.allocation, other.1.place) == (page.allocation, page.place)
        };
        let pages: Vec<u64> = held.iter().filter(same).map(|(key, _)| key.1).collect();
        let range = DpaRange::new(pages[0] * PAGE, pages.len() as u64 * PAGE);
        Some((range, self.allocations[page.allocation].tag))
    }

    pub fn pages_in(&self, allocation: usize) -> BTreeSet<u64> {
        let of_it = self.pages.iter().filter(|(_, page)| page.allocation == allocation);
        of_it.map(|((_, number), _)| *number).collect()
    }

    /// What the host says it has is what the model has, and nothing that is wanted is forgotten.
    fn compare(&mut self) {
        let groups = self.host.groups();
        let told: usize = groups
            .iter()
            .map(|group| {
                let pages = all_pages(&group.extents);
                let (first, device) = (*pages.first().unwrap(), group.device.0);
                let page = self.pages[&(device, first)];
                assert_eq!(pages, self.pages_in(page.allocation));
                let model = &self.allocations[page.allocation];
                assert_eq!((model.tag, model.surfaced), (group.tag, group.surfaced));
                let asked = pages.iter().filter(|&&page| self.pages[&(device, page)].asked).count();
                assert_eq!(group.asked, asked as u64 * PAGE);
                assert_eq!(group.bytes, pages.len() as u64 * PAGE);
                pages.len()
            })
            .sum();
        assert_eq!(told, self.pages.len(), "accepted, and not released, lost or rejected");
        for device in 0..2 {
            let wanted = self.wanted(device);
            match &self.questions[usize::from(device)] {
                Some(question) => assert!(question.is_subset(&wanted)),
                None if wanted.is_empty() => {}
                None => assert!(self.host.next_deadline().is_some(), "{wanted:?} is forgotten"),
            }
        }
    }
}
