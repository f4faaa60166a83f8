//! Random records of two devices against a model that is one table of pages. What the model knows
//! of the rules, it knows by another way: page by page, and from the start each time.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use memtide_engine::dynamic_capacity::{
    DcExtent, DeviceConfig, DeviceId, DpaRange, Effect, Host, Input, Limits, More, Notice, Outcome,
    Partition, Splitting, Tag,
};
use memtide_units::Instant;
use proptest::{collection::vec, prelude::*};

const PAGE: u64 = 2 << 20;
/// Pages in a partition. The first has all, the second only half of what is decoded.
const PARTITION: u64 = 128;
const PENDING_MAX: usize = 6;
const TIMEOUT: u64 = 20;
const NULL: u8 = 0;

#[derive(Clone, Debug)]
enum Op {
    Add { device: u8, start: u64, pages: u64, skew: u64, tag: u8, sequence: u16, more: bool },
    Again { device: u8, which: u8, more: bool },
    InPieces { device: u8 },
    Answer { device: u8, taken: bool },
    Release { device: u8, start: u64, pages: u64, tag: u8, more: bool },
    ReleaseHeld { device: u8, which: u8, more: bool },
    Force { device: u8, which: u8, skip: u64, pages: u64 },
    Reclaimed { device: u8, free: Vec<bool> },
    Freed { device: u8 },
    Pass { seconds: u64 },
}

fn op() -> impl Strategy<Value = Op> {
    let d = || 0..2u8;
    let n = any::<u8>;
    let sequence = prop_oneof![6 => Just(0u16), 4 => 0..4u16];
    let skew = prop_oneof![12 => Just(0u64), 1 => 1..PAGE];
    let more = || prop::bool::weighted(0.4);
    prop_oneof![
        20 => (d(), 0..260u64, 1..6u64, skew, 0..4u8, sequence, more()).prop_map(
            |(device, start, pages, skew, tag, sequence, more)| {
                Op::Add { device, start, pages, skew, tag, sequence, more }
            }
        ),
        2 => (d(), n(), more()).prop_map(|(device, which, more)| Op::Again { device, which, more }),
        8 => d().prop_map(|device| Op::InPieces { device }),
        16 => (d(), prop::bool::weighted(0.8))
            .prop_map(|(device, taken)| Op::Answer { device, taken }),
        2 => (d(), 0..260u64, 0..4u64, 0..4u8, more()).prop_map(
            |(device, start, pages, tag, more)| Op::Release { device, start, pages, tag, more }
        ),
        8 => (d(), n(), more())
            .prop_map(|(device, which, more)| Op::ReleaseHeld { device, which, more }),
        2 => (d(), n(), 0..4u64, 1..3u64)
            .prop_map(|(device, which, skip, pages)| Op::Force { device, which, skip, pages }),
        8 => (d(), vec(any::<bool>(), 1..8))
            .prop_map(|(device, free)| Op::Reclaimed { device, free }),
        2 => d().prop_map(|device| Op::Freed { device }),
        3 => (0..15u64).prop_map(|seconds| Op::Pass { seconds }),
    ]
}

/// One page that is held.
#[derive(Clone, Copy, PartialEq, Debug)]
struct Page {
    allocation: usize,
    /// The place of its extent.
    place: usize,
    /// That extent, as it was accepted.
    extent: DpaRange,
    asked: bool,
}

#[derive(Clone, Default)]
struct Pending {
    extents: Vec<DcExtent>,
    overfull: bool,
    until: u64,
}

struct Allocation {
    tag: Tag,
    surfaced: bool,
    /// That which was accepted, of which this is what one chain named again.
    first: usize,
}

/// What waits for the device's word.
struct Answered {
    device: u16,
    chain: memtide_engine::dynamic_capacity::ChainId,
    new: Vec<usize>,
    /// Pages that were accepted before, without the device's word on that.
    again: BTreeSet<u64>,
}

struct World {
    host: Host,
    splitting: Splitting,
    now: u64,
    pages: BTreeMap<(u16, u64), Page>,
    allocations: Vec<Allocation>,
    chains: [Pending; 2],
    torn: [BTreeSet<Tag>; 2],
    answered: Vec<Answered>,
    /// What the host's user was asked for and has not answered.
    questions: [Option<BTreeSet<u64>>; 2],
    marks: BTreeMap<&'static str, u64>,
}

fn tag(number: u8) -> Tag {
    Tag([number; 16])
}

fn pages_of(range: DpaRange) -> Vec<u64> {
    assert!(range.is_aligned(PAGE), "{range}");
    (range.start / PAGE..(range.start + range.length) / PAGE).collect()
}

fn all_pages<'a>(ranges: impl IntoIterator<Item = &'a DpaRange>) -> BTreeSet<u64> {
    let pages: Vec<u64> = ranges.into_iter().flat_map(|&range| pages_of(range)).collect();
    let set: BTreeSet<u64> = pages.iter().copied().collect();
    assert_eq!(set.len(), pages.len(), "no page is named twice");
    set
}

impl World {
    fn new(splitting: Splitting) -> Self {
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

    fn mark(&mut self, what: &'static str) {
        *self.marks.entry(what).or_default() += 1;
    }

    fn run(&mut self, op: &Op) {
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
    fn say(&mut self, input: Input) -> Vec<Effect> {
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

    fn is_late(&self, device: usize) -> bool {
        let chain = &self.chains[device];
        !chain.extents.is_empty() && chain.until <= self.now
    }

    /// What questions there are, and that they are about all that is wanted.
    fn note_effects(&mut self, effects: &[Effect]) {
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

    fn wanted(&self, device: u16) -> BTreeSet<u64> {
        let of_it = self.pages.iter().filter(|((of, _), page)| {
            *of == device && page.asked && self.allocations[page.allocation].surfaced
        });
        of_it.map(|((_, number), _)| *number).collect()
    }

    /// The range of an extent that is held whole, and its tag.
    fn some_extent(&self, device: u16, which: u8) -> Option<(DpaRange, Tag)> {
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

    /// Offers the first allocation of several extents that waits again, each in a chain of its own.
    fn in_pieces(&mut self, device: u16) {
        let mut waiting: BTreeMap<usize, BTreeMap<usize, Vec<u64>>> = BTreeMap::new();
        for (&(of, number), page) in &self.pages {
            if of == device && !self.allocations[page.allocation].surfaced {
                let places = waiting.entry(page.allocation).or_default();
                places.entry(page.place).or_default().push(number);
            }
        }
        let several = waiting.into_iter().find(|(_, places)| places.len() > 1);
        let Some((allocation, places)) = several else { return };
        let tag = self.allocations[allocation].tag;
        for pages in places.into_values() {
            let range = DpaRange::new(pages[0] * PAGE, pages.len() as u64 * PAGE);
            self.add(device, DcExtent { range, tag, sequence: 0 }, false);
        }
    }

    fn add(&mut self, device: u16, extent: DcExtent, more: bool) {
        let flag = if more { More::Follows } else { More::Last };
        let effects = self.say(Input::Add { device: DeviceId(device), extent, more: flag });
        let now = self.now;
        let known = &mut self.chains[usize::from(device)];
        known.extents.push(extent);
        if known.extents.len() > PENDING_MAX {
            known.overfull = true;
        } else {
            known.until = now + TIMEOUT;
        }
        let answers: Vec<_> = effects
            .iter()
            .filter_map(|effect| match effect {
                Effect::AddResponse { chain, accepted, .. } => Some((*chain, accepted.clone())),
                _ => None,
            })
            .collect();
        if more {
            assert_eq!(answers, []);
            return;
        }
        let chain = std::mem::take(known);
        let (accepted, new, again) = if chain.overfull {
            self.mark("overfull");
            (vec![], vec![], BTreeSet::new())
        } else {
            self.weigh(device, &chain.extents)
        };
        assert_eq!(answers.len(), 1);
        assert_eq!(answers[0].1, accepted, "{:?}", chain.extents);
        self.answered.push(Answered { device, chain: answers[0].0, new, again });
    }

    /// What of a chain is accepted, in order, the allocations that it makes, and the pages that it
    /// names again.
    fn weigh(
        &mut self,
        device: u16,
        extents: &[DcExtent],
    ) -> (Vec<DpaRange>, Vec<usize>, BTreeSet<u64>) {
        let mut order: Vec<Vec<DcExtent>> = Vec::new();
        for &extent in extents {
            let null = extent.tag == tag(NULL);
            match order.iter_mut().find(|group| !null && group[0].tag == extent.tag) {
                Some(group) => group.push(extent),
                None => order.push(vec![extent]),
            }
        }
        let (mut accepted, mut new, mut again) = (Vec::new(), Vec::new(), BTreeSet::new());
        for mut group in order {
            let mut once = Vec::new();
            group.retain(|extent| {
                let first = !once.contains(extent);
                once.push(*extent);
                first
            });
            group.sort_by_key(|extent| extent.sequence);
            let torn = self.torn[usize::from(device)].remove(&group[0].tag);
            if torn {
                self.mark("torn");
                continue;
            }
            if !well_formed(&group) {
                continue;
            }
            let duplicate = group.iter().all(|extent| {
                let pages = pages_of(extent.range);
                let first = self.pages.get(&(device, pages[0])).copied();
                // The whole of an extent, or of what is left of it in one piece.
                first.is_some_and(|first| {
                    self.allocations[first.allocation].tag == extent.tag
                        && self.is_piece(device, extent.range)
                })
            });
            if duplicate {
                self.mark("duplicate");
                accepted.extend(group.iter().map(|extent| extent.range));
                let waits = |page: &u64| {
                    !self.allocations[self.pages[&(device, *page)].allocation].surfaced
                };
                let named = group.iter().flat_map(|extent| pages_of(extent.range));
                again.extend(named.filter(waits));
                continue;
            }
            let tag_taken = group[0].tag != tag(NULL)
                && self
                    .pages
                    .values()
                    .any(|page| self.allocations[page.allocation].tag == group[0].tag);
            let mut pages = BTreeSet::new();
            let free = group.iter().all(|extent| {
                pages_of(extent.range)
                    .into_iter()
                    .all(|page| pages.insert(page) && !self.pages.contains_key(&(device, page)))
            });
            if tag_taken || !free {
                self.mark(if tag_taken { "tag taken" } else { "overlap" });
                continue;
            }
            let allocation = self.allocations.len();
            let (tag, first) = (group[0].tag, allocation);
            self.allocations.push(Allocation { tag, surfaced: false, first });
            for (place, extent) in group.iter().enumerate() {
                for page in pages_of(extent.range) {
                    let (extent, asked) = (extent.range, false);
                    self.pages.insert((device, page), Page { allocation, place, extent, asked });
                }
                accepted.push(extent.range);
            }
            new.push(allocation);
            self.mark("accepted");
        }
        (accepted, new, again)
    }

    /// Whether the host has this range as one extent, as it tells.
    fn is_piece(&self, device: u16, range: DpaRange) -> bool {
        self.host
            .groups()
            .iter()
            .any(|group| group.device == DeviceId(device) && group.extents.contains(&range))
    }

    fn answer(&mut self, device: u16, taken: bool) {
        let of_it = |answered: &Answered| answered.device == device;
        let Some(at) = self.answered.iter().position(of_it) else { return };
        let Answered { chain, new, .. } = self.answered.remove(at);
        let outcome = if taken { Outcome::Taken } else { Outcome::Rejected };
        let effects = self.say(Input::Answered { device: DeviceId(device), chain, outcome });
        let surfaced: Vec<(Tag, Vec<DpaRange>)> = effects
            .iter()
            .filter_map(|effect| match effect {
                Effect::Surface { tag, extents, .. } => Some((*tag, extents.clone())),
                _ => None,
            })
            .collect();
        let there = |world: &Self, allocation: usize| {
            world.pages.values().any(|page| page.allocation == allocation)
        };
        let alive: Vec<usize> = new.iter().copied().filter(|&one| there(self, one)).collect();
        if taken {
            assert_eq!(surfaced.len(), alive.len());
            for (&allocation, (tag, extents)) in alive.iter().zip(surfaced) {
                self.allocations[allocation].surfaced = true;
                assert_eq!(self.allocations[allocation].tag, tag);
                assert_eq!(all_pages(&extents), self.pages_in(allocation));
                self.mark("surfaced");
            }
        } else {
            assert_eq!(surfaced, []);
            new.into_iter().for_each(|allocation| self.reject(device, allocation));
        }
    }

    /// Every page goes to the first chain that named it again, with those of the same allocation
    /// that are there.
    fn reject(&mut self, device: u16, allocation: usize) {
        let Allocation { tag, first, .. } = self.allocations[allocation];
        let mut chains = BTreeSet::new();
        for number in self.pages_in(allocation) {
            let names = |later: &Answered| later.device == device && later.again.contains(&number);
            let Some(at) = self.answered.iter().position(names) else {
                self.pages.remove(&(device, number));
                continue;
            };
            chains.insert(at);
            let is_there = |&&other: &&usize| {
                self.allocations[other].first == first && !self.pages_in(other).is_empty()
            };
            let there = self.answered[at].new.iter().find(is_there).copied();
            let to = there.unwrap_or_else(|| {
                self.allocations.push(Allocation { tag, surfaced: false, first });
                let to = self.allocations.len() - 1;
                self.answered[at].new.push(to);
                to
            });
            self.pages.get_mut(&(device, number)).unwrap().allocation = to;
        }
        match chains.len() {
            0 => {}
            1 => self.mark("rejected but named again"),
            _ => self.mark("named again by several"),
        }
    }

    fn pages_in(&self, allocation: usize) -> BTreeSet<u64> {
        let of_it = self.pages.iter().filter(|(_, page)| page.allocation == allocation);
        of_it.map(|((_, number), _)| *number).collect()
    }

    fn release(&mut self, device: u16, range: DpaRange, tag: Tag, more: bool) {
        let flag = if more { More::Follows } else { More::Last };
        // What is marked is part of a question that the record itself starts.
        let marked = self.named(device, range, tag);
        if let Some(first) = marked {
            for ((of, number), page) in &mut self.pages {
                let inside =
                    (range.start / PAGE..(range.start + range.length) / PAGE).contains(number);
                page.asked |= *of == device
                    && page.allocation == first.allocation
                    && match self.splitting {
                        Splitting::Group => true,
                        Splitting::Extent => page.place == first.place,
                        Splitting::Block => inside,
                    };
            }
        }
        let device_id = DeviceId(device);
        let effects = self.say(Input::Release { device: device_id, range, tag, more: flag });
        let outside = range.length != 0 && range.start >= 2 * PARTITION * PAGE;
        let released: Vec<DpaRange> = effects
            .iter()
            .filter_map(|effect| match effect {
                Effect::ReleaseDc { released, .. } => Some(released.clone()),
                _ => None,
            })
            .flatten()
            .collect();
        assert_eq!(released, if outside { vec![range] } else { vec![] });
        let refused = effects.iter().any(|effect| {
            matches!(effect, Effect::Note { notice: Notice::NotReleased { .. }, .. })
        });
        assert_eq!(refused, marked.is_none());
        self.mark(if refused { "not released" } else { "asked back" });
    }

    /// The first page of a range, if all of it is one extent of this tag.
    fn named(&self, device: u16, range: DpaRange, tag: Tag) -> Option<Page> {
        let pages: Option<Vec<Page>> = pages_of(range)
            .into_iter()
            .map(|page| self.pages.get(&(device, page)).copied())
            .collect();
        let pages = pages?;
        let first = *pages.first()?;
        let same = pages
            .iter()
            .all(|page| (page.allocation, page.place) == (first.allocation, first.place));
        (same && self.allocations[first.allocation].tag == tag).then_some(first)
    }

    /// The pages of a range that are left of an extent of this tag that had all of it.
    fn left_of(&self, device: u16, range: DpaRange, tag: Tag) -> BTreeSet<u64> {
        let is_named = |page: &Page| {
            let (extent, of) = (page.extent, self.allocations[page.allocation].tag);
            of == tag && extent.start <= range.start && range.end() <= extent.end()
        };
        let pages = pages_of(range).into_iter();
        pages.filter(|&number| self.pages.get(&(device, number)).is_some_and(is_named)).collect()
    }

    fn force(&mut self, device: u16, which: u8, skip: u64, pages: u64) {
        let Some((range, tag)) = self.some_extent(device, which) else { return };
        // What is left of it, or all that there was.
        let accepted = self.pages[&(device, range.start / PAGE)].extent;
        let range = match skip {
            0 if pages == 1 => accepted,
            _ => DpaRange::new(range.start + skip * PAGE, pages * PAGE),
        };
        let lost = self.left_of(device, range, tag);
        let effects = self.say(Input::ForcedRelease { device: DeviceId(device), range, tag });
        let told: Vec<&Vec<DpaRange>> = effects
            .iter()
            .filter_map(|effect| match effect {
                Effect::Lost { extents, .. } => Some(extents),
                _ => None,
            })
            .collect();
        let told = all_pages(told.into_iter().flatten());
        let is_surfaced =
            |number: &u64| self.allocations[self.pages[&(device, *number)].allocation].surfaced;
        assert_eq!(told, lost.iter().copied().filter(is_surfaced).collect());
        if lost.is_empty() {
            return;
        }
        self.mark(if lost.len() < pages_of(range).len() { "forced in part" } else { "forced" });
        for page in lost {
            self.pages.remove(&(device, page));
            if let Some(question) = &mut self.questions[usize::from(device)] {
                question.remove(&page);
            }
        }
    }

    /// The user answers: some pages of the question are free.
    fn reclaimed(&mut self, device: u16, free: &[bool]) {
        self.say(Input::Tick);
        let Some(question) = self.questions[usize::from(device)].take() else { return };
        let free: BTreeSet<u64> = question
            .iter()
            .zip(free.iter().cycle())
            .filter_map(|(&page, &free)| free.then_some(page))
            .collect();
        let of = |page: u64| self.pages[&(device, page)];
        let goes = |page: u64| {
            let mine = of(page);
            let with_it = |other: &u64| match self.splitting {
                Splitting::Group => of(*other).allocation == mine.allocation,
                Splitting::Extent => {
                    (of(*other).allocation, of(*other).place) == (mine.allocation, mine.place)
                }
                Splitting::Block => *other == page,
            };
            question.iter().filter(|other| with_it(other)).all(|other| free.contains(other))
        };
        let gone: BTreeSet<u64> = free.iter().copied().filter(|&page| goes(page)).collect();
        let kept: BTreeSet<u64> = free.difference(&gone).copied().collect();
        for page in &gone {
            self.pages.remove(&(device, *page));
        }
        let ranges = free.iter().map(|&page| DpaRange::new(page * PAGE, PAGE)).collect();
        let effects = self.say(Input::Reclaimed { device: DeviceId(device), free: ranges });
        let (mut released, mut keeps) = (BTreeSet::new(), BTreeSet::new());
        for effect in &effects {
            match effect {
                Effect::ReleaseDc { released: ranges, .. } => released = all_pages(ranges),
                Effect::Keep { ranges, .. } => keeps = all_pages(ranges),
                _ => {}
            }
        }
        assert_eq!((released, keeps), (gone.clone(), kept));
        self.mark(if gone.is_empty() { "nothing" } else { "released" });
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

/// Whether a group, sorted by its numbers, is one as far as it alone is concerned.
fn well_formed(group: &[DcExtent]) -> bool {
    let numbers: Vec<usize> = group.iter().map(|extent| extent.sequence.into()).collect();
    let n = group.len();
    let numbered = numbers.iter().all(|&number| number == 0)
        || numbers == (0..n).collect::<Vec<_>>()
        || numbers == (1..=n).collect::<Vec<_>>();
    let partition = |extent: &DcExtent| {
        let DpaRange { start, length } = extent.range;
        let aligned = start % PAGE == 0 && length % PAGE == 0 && length > 0;
        let (first, last) = (start / PAGE, (start + length).div_ceil(PAGE));
        let inside = [(0, PARTITION), (PARTITION, PARTITION + PARTITION / 2)];
        let inside = inside.iter().position(|&(from, to)| first >= from && last <= to);
        inside.filter(|_| aligned)
    };
    let partitions: BTreeSet<_> = group.iter().map(partition).collect();
    numbered && partitions.len() == 1 && partitions.first().unwrap().is_some()
}

fn splitting() -> impl Strategy<Value = Splitting> {
    prop_oneof![Just(Splitting::Group), Just(Splitting::Extent), Just(Splitting::Block)]
}

proptest! {
    #[test]
    fn a_random_fabric_keeps_every_rule(ops in vec(op(), 1..600), splitting in splitting()) {
        let mut world = World::new(splitting);
        for op in &ops {
            world.run(op);
        }
    }
}

/// A random fabric is worth something only if everything happens in it.
#[test]
fn everything_happens_in_a_random_fabric() {
    use proptest::{strategy::ValueTree, test_runner::TestRunner};
    for splitting in [Splitting::Group, Splitting::Extent, Splitting::Block] {
        let mut runner = TestRunner::deterministic();
        let ops = vec(op(), 60_000).new_tree(&mut runner).unwrap().current();
        let mut world = World::new(splitting);
        ops.iter().for_each(|op| world.run(op));
        for what in [
            "accepted",
            "again",
            "rejected but named again",
            "named again by several",
            "asked back",
            "deferred",
            "duplicate",
            "forced",
            "forced in part",
            "late",
            "not released",
            "nothing",
            "overfull",
            "overlap",
            "question",
            "released",
            "surfaced",
            "tag taken",
            "torn",
        ] {
            let count = world.marks.get(what).copied().unwrap_or_default();
            assert!(count > 0, "{what} with {splitting:?}: {:?}", world.marks);
        }
    }
}
