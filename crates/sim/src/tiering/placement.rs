//! Where every page lies: one byte a page.
//!
//! The two lowest bits are the tier; the next two the tier that it was first put into, so that
//! one look at the byte tells what an access costs and what it would have cost had nothing been
//! moved. A run of visits is counted without a branch: each adds to one of four lanes of 16 bits.

use memtide_engine::tiering::{Page, Tier};

use super::machine::TIERS_MAX;

/// Visits of a run at most: a lane holds them.
pub const RUN_MAX: usize = 1 << 15;
/// A visit is the number of a page; this bit of it says that it writes.
pub const WRITE: u32 = 1 << 31;

const TIER_BITS: u8 = 0b11;
const FIRST_SHIFT: u32 = 2;

/// Where every page lies.
#[derive(Clone, Debug)]
pub struct Placement {
    of: Vec<u8>,
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
        let of = (0..pages).map(|page| {
            let mut tier = usize::from(place(page, &free));
            if free.get(tier).is_none_or(|&free| free == 0) {
                let room = free.iter().position(|&free| free > 0);
                tier = room.expect("the capacities hold all pages");
            }
            free[tier] -= 1;
            (tier | tier << FIRST_SHIFT) as u8
        });
        let of = of.collect();
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

    /// Counts a run of [`RUN_MAX`] visits at most.
    #[must_use]
    pub fn count(&self, run: &[u32]) -> Counted {
        assert!(run.len() <= RUN_MAX, "a lane holds {RUN_MAX} visits");
        let (mut visits, mut writes, mut first) = (0_u64, 0_u64, 0_u64);
        for &visit in run {
            let byte = self.of[(visit & !WRITE) as usize];
            let tier = u32::from(byte & TIER_BITS) * 16;
            visits += 1 << tier;
            writes += u64::from(visit >> 31) << tier;
            first += u64::from(byte >> FIRST_SHIFT == 0);
        }
        let lanes = |sum: u64| std::array::from_fn(|lane| sum >> (16 * lane) & 0xffff);
        Counted { visits: lanes(visits), writes: lanes(writes), first_near: first }
    }

    /// Whether the counts of used pages are those of the map.
    #[must_use]
    pub fn is_sound(&self) -> bool {
        let mut used = [0; TIERS_MAX];
        self.of.iter().for_each(|byte| used[usize::from(byte & TIER_BITS)] += 1);
        used == self.used && used.iter().zip(self.capacity).all(|(&used, most)| used <= most)
    }
}
