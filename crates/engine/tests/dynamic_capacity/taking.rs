//! What is asked back, what of it goes, and what is taken by force.

use std::collections::BTreeSet;

use memtide_engine::dynamic_capacity::{
    DeviceId, DpaRange, Effect, Input, More, Notice, Splitting, Tag,
};

use crate::{
    PAGE, PARTITION,
    world::{Page, World, all_pages, pages_of},
};

impl World {
    pub fn release(&mut self, device: u16, range: DpaRange, tag: Tag, more: bool) {
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
    pub fn named(&self, device: u16, range: DpaRange, tag: Tag) -> Option<Page> {
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
    pub fn left_of(&self, device: u16, range: DpaRange, tag: Tag) -> BTreeSet<u64> {
        let is_named = |page: &Page| {
            let (extent, of) = (page.extent, self.allocations[page.allocation].tag);
            of == tag && extent.start <= range.start && range.end() <= extent.end()
        };
        let pages = pages_of(range).into_iter();
        pages.filter(|&number| self.pages.get(&(device, number)).is_some_and(is_named)).collect()
    }

    pub fn force(&mut self, device: u16, which: u8, skip: u64, pages: u64) {
        let Some((range, tag)) = self.some_extent(device, which) else { return };
        // What is left of it, or all that there was.
        let accepted = self.pages[&(device, range.start / PAGE)].extent;
        let range = match skip {
            0 if pages == 1 => accepted,
            _ => DpaRange::new(range.start + skip * PAGE, pages * PAGE),
        };
        let lost = self.left_of(device, range, tag);
        let expected = self.losses(device, &lost);
        let effects = self.say(Input::ForcedRelease { device: DeviceId(device), range, tag });
        let mut groups = BTreeSet::new();
        let mut told = Vec::new();
        for effect in &effects {
            let Effect::Lost { device: of, group, extents, left } = effect else { continue };
            assert_eq!(*of, DeviceId(device));
            assert!(groups.insert(*group), "{group} is told once");
            assert!(extents.is_sorted(), "{extents:?}");
            told.push((all_pages(extents), *left));
        }
        told.sort();
        assert_eq!(told, expected);
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

    /// What is told when pages are lost: of each allocation that has surfaced which, and how many
    /// bytes are left of it.
    fn losses(&self, device: u16, lost: &BTreeSet<u64>) -> Vec<(BTreeSet<u64>, u64)> {
        let allocation = |number: &u64| self.pages[&(device, *number)].allocation;
        let allocations: BTreeSet<usize> = lost.iter().map(allocation).collect();
        let surfaced = allocations.into_iter().filter(|&one| self.allocations[one].surfaced);
        let loss = |one: usize| {
            let its: BTreeSet<u64> =
                lost.iter().copied().filter(|page| allocation(page) == one).collect();
            let left = (self.pages_in(one).len() - its.len()) as u64 * PAGE;
            (its, left)
        };
        let mut losses: Vec<_> = surfaced.map(loss).collect();
        losses.sort();
        losses
    }

    /// The user answers: some pages of the question are free.
    pub fn reclaimed(&mut self, device: u16, free: &[bool]) {
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
}
