//! Which classes of pages are worth an exchange.
//!
//! The best pages below are matched with the worst of the fast tier, class by class, for as long
//! as the difference of their outlooks is worth the two moves. The outlook of the worst class
//! below that found a partner is the *floor*: pages below from there on are wanted. That of the
//! best class of the fast tier that did is the *ceiling*: pages up to there are victims. Between
//! the two lies what the cost of moving makes indifferent, and that is the hysteresis.

use alloc::{vec, vec::Vec};

use super::{
    outlook::{CLASSES, Class, Outlook, class},
    word::Past,
};

/// How much better a page must be than the one that makes room, besides the cost: rates are
/// measured, and those of equal classes differ by chance.
const MARGIN: f32 = 0.2;

/// What is worth an exchange.
pub(super) struct Exchange {
    wanted: Vec<bool>,
    victims: Vec<bool>,
    good: Vec<bool>,
    /// Pages of each class, in the fast tier and below.
    pages: Vec<[u32; 2]>,
    /// Classes, the best outlook first.
    order: Vec<Class>,
    hits: f32,
}

impl Exchange {
    /// Nothing is.
    pub(super) fn new() -> Self {
        Self {
            wanted: vec![false; CLASSES],
            victims: vec![false; CLASSES],
            good: vec![false; CLASSES],
            pages: vec![[0; 2]; CLASSES],
            order: (0..CLASSES).collect(),
            hits: 0.0,
        }
    }

    /// Finds out anew. A move costs what `cost` turns with a sample are worth; the fast tier has
    /// so many pages free.
    pub(super) fn set(
        &mut self,
        pasts: impl Iterator<Item = (Past, [u32; 2])>,
        outlook: &Outlook,
        cost: f32,
        free: u32,
    ) {
        self.pages.fill([0; 2]);
        for (past, [near, far]) in pasts {
            let pages = &mut self.pages[class(past)];
            pages[0] += near;
            pages[1] += far;
        }
        let of = |class: &Class| outlook.of(*class);
        self.order.sort_unstable_by(|a, b| of(b).total_cmp(&of(a)).then(a.cmp(b)));
        let all = self.pages.iter().enumerate();
        self.hits = all.map(|(class, [near, far])| outlook.rate(class) * (near + far) as f32).sum();
        let (floor, ceiling) = self.matched(outlook, cost, free);
        let near = self.pages.iter().enumerate();
        let (sum, pages) = near.fold((0.0, 0.0), |(sum, pages), (class, [near, _])| {
            (sum + outlook.of(class) * *near as f32, pages + *near as f32)
        });
        for class in 0..CLASSES {
            self.wanted[class] = outlook.of(class) >= floor;
            self.victims[class] = outlook.of(class) <= ceiling;
            self.good[class] = outlook.of(class) * pages >= sum;
        }
    }

    /// The floor and the ceiling.
    fn matched(&self, outlook: &Outlook, cost: f32, free: u32) -> (f32, f32) {
        let (mut floor, mut ceiling) = (f32::INFINITY, f32::NEG_INFINITY);
        let mut room = free;
        let mut worst = self.order.iter().rev().map(|&class| (class, self.pages[class][0]));
        let mut victims = (0, 0);
        for &class in &self.order {
            let mut left = self.pages[class][1];
            let best = outlook.of(class);
            while left > 0 {
                let into_room = left.min(room);
                if into_room > 0 {
                    if best <= cost {
                        return (floor, ceiling);
                    }
                    room -= into_room;
                    left -= into_room;
                    floor = best;
                    continue;
                }
                while victims.1 == 0 {
                    let Some(next) = worst.next() else { return (floor, ceiling) };
                    victims = next;
                }
                let theirs = outlook.of(victims.0);
                if best - theirs <= 2.0 * cost + MARGIN * theirs {
                    return (floor, ceiling);
                }
                let both = left.min(victims.1);
                left -= both;
                victims.1 -= both;
                floor = best;
                ceiling = theirs;
            }
        }
        (floor, ceiling)
    }

    /// Whether pages below of this class should be promoted.
    pub(super) fn is_wanted(&self, class: Class) -> bool {
        self.wanted[class]
    }

    /// Whether pages of the fast tier of this class should make room for those.
    pub(super) fn is_victim(&self, class: Class) -> bool {
        self.victims[class]
    }

    /// Whether pages of this class are better than the average one of the fast tier.
    pub(super) fn is_good(&self, class: Class) -> bool {
        self.good[class]
    }

    /// Whether no page is wanted.
    pub(super) fn is_idle(&self) -> bool {
        !self.wanted.contains(&true)
    }

    /// Pages that are sampled in a turn.
    pub(super) fn hits(&self) -> f32 {
        self.hits
    }

    /// Bytes in use.
    pub(super) fn bytes(&self) -> u64 {
        let flags = self.wanted.capacity() + self.victims.capacity() + self.good.capacity();
        let classes = self.pages.capacity() * size_of::<[u32; 2]>()
            + self.order.capacity() * size_of::<Class>();
        (flags + classes) as u64
    }
}
