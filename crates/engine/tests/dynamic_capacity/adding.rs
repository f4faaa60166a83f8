//! What is offered, what of it is accepted, and the device's word on that.

use std::collections::{BTreeMap, BTreeSet};

use memtide_engine::dynamic_capacity::{
    DcExtent, DeviceId, DpaRange, Effect, Input, More, Outcome, Tag,
};

use crate::{
    NULL, PAGE, PARTITION, PENDING_MAX, TIMEOUT,
    world::{Allocation, Answered, Page, World, all_pages, pages_of, tag},
};

impl World {
    /// Offers the first allocation of several extents that waits again, each in a chain of its own.
    pub fn in_pieces(&mut self, device: u16) {
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

    pub fn add(&mut self, device: u16, extent: DcExtent, more: bool) {
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
    pub fn weigh(
        &mut self,
        device: u16,
        extents: &[DcExtent],
    ) -> (Vec<DpaRange>, Vec<usize>, BTreeSet<u64>) {
        let (mut accepted, mut new, mut again) = (Vec::new(), Vec::new(), BTreeSet::new());
        for group in by_tag(extents) {
            if self.torn[usize::from(device)].remove(&group[0].tag) {
                self.mark("torn");
            } else if !well_formed(&group) {
                continue;
            } else if self.is_duplicate(device, &group) {
                self.mark("duplicate");
                accepted.extend(group.iter().map(|extent| extent.range));
                let named = group.iter().flat_map(|extent| pages_of(extent.range));
                again.extend(named.filter(|&page| !self.has_surfaced(device, page)));
            } else if self.has_place(device, &group) {
                accepted.extend(group.iter().map(|extent| extent.range));
                new.push(self.accept(device, &group));
            }
        }
        (accepted, new, again)
    }

    fn has_surfaced(&self, device: u16, page: u64) -> bool {
        self.allocations[self.pages[&(device, page)].allocation].surfaced
    }

    /// Whether a group is there already: of each extent all, or what is left of it in one piece.
    fn is_duplicate(&self, device: u16, group: &[DcExtent]) -> bool {
        group.iter().all(|extent| {
            let pages = pages_of(extent.range);
            let first = self.pages.get(&(device, pages[0])).copied();
            first.is_some_and(|first| {
                self.allocations[first.allocation].tag == extent.tag
                    && self.is_piece(device, extent.range)
            })
        })
    }

    /// Whether nobody has a new group's tag or any of its pages.
    fn has_place(&mut self, device: u16, group: &[DcExtent]) -> bool {
        let of = group[0].tag;
        let has_tag = |page: &Page| self.allocations[page.allocation].tag == of;
        let tag_taken = of != tag(NULL) && self.pages.values().any(has_tag);
        let mut named = BTreeSet::new();
        let free = group
            .iter()
            .flat_map(|extent| pages_of(extent.range))
            .all(|page| named.insert(page) && !self.pages.contains_key(&(device, page)));
        if tag_taken || !free {
            self.mark(if tag_taken { "tag taken" } else { "overlap" });
        }
        !tag_taken && free
    }

    /// A new group, as an allocation.
    fn accept(&mut self, device: u16, group: &[DcExtent]) -> usize {
        let allocation = self.allocations.len();
        let (tag, first) = (group[0].tag, allocation);
        self.allocations.push(Allocation { tag, surfaced: false, first });
        for (place, extent) in group.iter().enumerate() {
            for page in pages_of(extent.range) {
                let (extent, asked) = (extent.range, false);
                self.pages.insert((device, page), Page { allocation, place, extent, asked });
            }
        }
        self.mark("accepted");
        allocation
    }

    /// Whether the host has this range as one extent, as it tells.
    pub fn is_piece(&self, device: u16, range: DpaRange) -> bool {
        self.host
            .groups()
            .iter()
            .any(|group| group.device == DeviceId(device) && group.extents.contains(&range))
    }

    pub fn answer(&mut self, device: u16, taken: bool) {
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
    pub fn reject(&mut self, device: u16, allocation: usize) {
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
}

/// The groups of a chain in the order in which they begin, each sorted by its numbers and without
/// what is there twice.
fn by_tag(extents: &[DcExtent]) -> Vec<Vec<DcExtent>> {
    let mut order: Vec<Vec<DcExtent>> = Vec::new();
    for &extent in extents {
        let null = extent.tag == tag(NULL);
        match order.iter_mut().find(|group| !null && group[0].tag == extent.tag) {
            Some(group) if group.contains(&extent) => {}
            Some(group) => group.push(extent),
            None => order.push(vec![extent]),
        }
    }
    order.iter_mut().for_each(|group| group.sort_by_key(|extent| extent.sequence));
    order
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
