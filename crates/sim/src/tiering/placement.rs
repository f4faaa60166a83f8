//! Where every page lies: one byte a page.
//!
//! The two lowest bits are the tier; the next two the tier that it was first put into, so that
//! one look at the byte tells what an access costs and what it would have cost had nothing been
//! moved. A run of visits is counted block by block and without a branch for any of them.

use memtide_engine::tiering::{Page, Tier};

use super::{machine::TIERS_MAX, page_map::PageMap};

/// A visit is the number of a page; this bit of it says that it writes.
pub const WRITE: u32 = 1 << 31;

/// Visits that are counted at once: as many as a byte can count, for whatever unit of vectors
/// the processor has.
const BLOCK: usize = u8::MAX as usize;
const TIER_BITS: u8 = 0b11;
/// Of a byte that was looked up for a visit that writes.
const WRITE_BIT: u8 = 1 << 7;
/// From [`WRITE`] to it.
const WRITE_SHIFT: u32 = 24;
const FIRST_SHIFT: u32 = 2;

/// Where every page lies.
#[derive(Clone, Debug)]
pub struct Placement {
    of: PageMap,
    used: [u32; TIERS_MAX],
    capacity: [u32; TIERS_MAX],
}

/// How many visits of a run went where.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Counted {
    /// To each tier.
    pub visits: [u64; TIERS_MAX],
    /// Of them, writes.
    pub writes: [u64; TIERS_MAX],
    /// Visits that would have gone to the fastest tier had nothing been moved.
    pub first_near: u64,
}

impl Placement {
    /// Puts `pages` pages where `place` says, asked in their order with the free pages of each
    /// tier. A tier that is full is passed over for the next one with room, from the fastest.
    /// The capacities hold all pages together.
    pub fn new(
        pages: u32,
        capacity: [u32; TIERS_MAX],
        mut place: impl FnMut(Page, &[u32; TIERS_MAX]) -> Tier,
    ) -> Self {
        let mut free = capacity;
        let mut of = PageMap::new(pages);
        for (page, byte) in of.iter_mut().enumerate() {
            let page = page as Page;
            let mut tier = usize::from(place(page, &free));
            if free.get(tier).is_none_or(|&free| free == 0) {
                let room = free.iter().position(|&free| free > 0);
                tier = room.expect("the capacities hold all pages");
            }
            free[tier] -= 1;
            *byte = (tier | tier << FIRST_SHIFT) as u8;
        }
        let used = std::array::from_fn(|tier| capacity[tier] - free[tier]);
        Self { of, used, capacity }
    }

    /// The tier of a page.
    #[must_use]
    pub fn tier(&self, page: Page) -> Tier {
        self.of[page as usize] & TIER_BITS
    }

    /// Pages of a tier that are free.
    #[must_use]
    pub const fn free(&self, tier: usize) -> u32 {
        self.capacity[tier] - self.used[tier]
    }

    /// Pages that fit into a tier.
    #[must_use]
    pub const fn capacity(&self, tier: usize) -> u32 {
        self.capacity[tier]
    }

    /// Moves a page, and says where it lay. `None` when it is there already, the tier is full, or
    /// there is no such page or tier: then nothing changed.
    pub fn shift(&mut self, page: Page, to: Tier) -> Option<Tier> {
        let byte = self.of.get_mut(page as usize)?;
        let from = *byte & TIER_BITS;
        let room = self.capacity.get(usize::from(to))? > &self.used[usize::from(to)];
        if from == to || !room {
            return None;
        }
        *byte = *byte & !TIER_BITS | to;
        self.used[usize::from(from)] -= 1;
        self.used[usize::from(to)] += 1;
        Some(from)
    }

    /// Counts a run of visits.
    #[must_use]
    pub fn count(&self, run: &[u32]) -> Counted {
        let mut counted = Counted::default();
        let mut bytes = [0; BLOCK];
        for visits in run.chunks(BLOCK) {
            // First all bytes, and nothing else: so many misses are under way at once.
            let bytes = &mut bytes[..visits.len()];
            for (byte, visit) in bytes.iter_mut().zip(visits) {
                *byte =
                    self.of[(visit & !WRITE) as usize] | (visit >> WRITE_SHIFT) as u8 & WRITE_BIT;
            }
            for tier in 0..TIERS_MAX {
                let here = tier as u8;
                counted.visits[tier] += u64::from(alike(bytes, TIER_BITS, here));
                let write = WRITE_BIT | here;
                counted.writes[tier] += u64::from(alike(bytes, WRITE_BIT | TIER_BITS, write));
            }
            counted.first_near += u64::from(alike(bytes, TIER_BITS << FIRST_SHIFT, 0));
        }
        counted
    }

    /// Whether the counts of used pages are those of the map.
    #[must_use]
    pub fn is_sound(&self) -> bool {
        let mut used = [0; TIERS_MAX];
        self.of.iter().for_each(|byte| used[usize::from(byte & TIER_BITS)] += 1);
        used == self.used && used.iter().zip(self.capacity).all(|(&used, most)| used <= most)
    }
}

/// How many of a block's bytes have these bits.
fn alike(bytes: &[u8], of: u8, bits: u8) -> u8 {
    bytes.iter().map(|byte| u8::from(byte & of == bits)).sum()
}

#[cfg(test)]
mod tests {
    use memtide_units::Random;

    use super::*;

    fn random_placement(random: &mut Random, pages: u32) -> Placement {
        let capacity = [pages / 2, pages / 4, pages / 4, pages];
        Placement::new(pages, capacity, |_, _| random.below(5) as Tier)
    }

    #[test]
    fn a_full_tier_is_passed_over() {
        let mut asked = Vec::new();
        let placement = Placement::new(6, [2, 1, 3, 0], |page, free| {
            asked.push((page, *free));
            if page < 3 { 1 } else { 9 }
        });
        let tiers: Vec<Tier> = (0..6).map(|page| placement.tier(page)).collect();
        assert_eq!(tiers, [1, 0, 0, 2, 2, 2]);
        assert_eq!(asked[4], (4, [0, 0, 2, 0]));
        assert!(placement.is_sound());
    }

    #[test]
    fn a_refused_move_changes_nothing() {
        let mut placement = Placement::new(4, [2, 3, 0, 0], |_, _| 0);
        for (page, to) in [(0, 0), (2, 0), (4, 1), (0, 2), (0, 7)] {
            assert_eq!(placement.shift(page, to), None, "{page} to {to}");
        }
        assert_eq!(placement.shift(0, 1), Some(0));
        assert_eq!(placement.shift(2, 0), Some(1));
        assert_eq!([placement.free(0), placement.free(1)], [0, 1]);
        assert!(placement.is_sound());
    }

    /// Against one visit at a time, after random moves.
    #[test]
    fn counts_are_those_of_a_naive_count() {
        for seed in 0..20 {
            let mut random = Random::new(seed);
            let pages = 64 + random.below(500) as u32;
            let mut placement = random_placement(&mut random, pages);
            let first: Vec<Tier> = (0..pages).map(|page| placement.tier(page)).collect();
            for _ in 0..200 {
                let page = random.below(u64::from(pages) + 2) as u32;
                let _ = placement.shift(page, random.below(5) as Tier);
            }
            assert!(placement.is_sound(), "seed {seed}");
            let length = random.below(5000);
            let visit = |_| random.below(u64::from(pages)) as u32 | (random.next() as u32 & WRITE);
            let run: Vec<u32> = (0..length).map(visit).collect();
            let mut naive = Counted::default();
            for visit in &run {
                let page = visit & !WRITE;
                let tier = usize::from(placement.tier(page));
                naive.visits[tier] += 1;
                naive.writes[tier] += u64::from(visit & WRITE != 0);
                naive.first_near += u64::from(first[page as usize] == 0);
            }
            assert_eq!(placement.count(&run), naive, "seed {seed}");
        }
    }
}
