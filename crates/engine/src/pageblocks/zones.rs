//! The zones of a node's blocks.
//!
//! A block comes into a zone when it comes online, and is in that zone until it is offline. What
//! may lie where, and which zone is tried first, is the allocator's rule
//! ([`memtide_frames::Zone`]); here it is asked zone by zone, because the engine counts what is
//! free by whom it is free for:
//!
//! | zone | what never moves | what can move |
//! |---|---|---|
//! | kernel (NORMAL) | tried first | tried third |
//! | prefer-movable | tried last, from its bottom | tried second, from its top |
//! | movable | never | tried first |
//! | exmem | never | the only zone of its node |
//!
//! What can move goes to the next zone only when the one before has nothing free: so as little as
//! possible lies where what never moves could. In PREFER_MOVABLE pageblocks are taken one by one,
//! for what is there of the other kind is confined to the lowest only if the highest are taken, not
//! those that happen to be in one piece.
//!
//! EXMEM is one channel, dedicated to what can move, and never shares a node with another zone: a
//! policy that asks for extended memory, or avoids it, chooses nodes. What asks for nothing special
//! gets EXMEM as its node's turn comes.

use memtide_frames::{Channel, Movability, Zone};
use memtide_units::{Extent, Order, PAGES_PER_PAGEBLOCK, Pageblock};

use alloc::vec::Vec;
use core::ops::Range;

use super::{Counts, Pageblocks, usize_from};
use crate::onlining::OnlineZone;

/// What can move: what most programs lease.
pub(crate) const MOVABLE: Movability = Movability::Movable;
/// What stays where it is placed.
pub(crate) const UNMOVABLE: Movability = Movability::Unmovable;

/// The allocator's zone.
pub(super) const fn frames_zone(zone: OnlineZone) -> Zone {
    match zone {
        OnlineZone::Kernel => Zone::Normal,
        OnlineZone::Movable => Zone::Movable,
        OnlineZone::PreferMovable => Zone::PreferMovable,
        OnlineZone::Exmem => Zone::Exmem(Channel::new(0).expect("a node has at least one")),
    }
}

/// The zones for this movability, in the order in which they are tried.
const fn zones_for(movability: Movability) -> &'static [OnlineZone] {
    use OnlineZone::{Exmem, Kernel, Movable, PreferMovable};
    match movability {
        Movability::Movable => &[Movable, PreferMovable, Kernel, Exmem],
        _ => &[Kernel, PreferMovable],
    }
}

impl Pageblocks {
    /// How many pageblocks of the blocks in a zone are in which state. None of them is offline.
    pub(crate) const fn counts_in(&self, zone: OnlineZone) -> Counts {
        self.in_zone[zone as usize]
    }

    /// The counts of the zone of a block.
    pub(super) fn counts_of(&mut self, block: u64) -> &mut Counts {
        &mut self.in_zone[self.zone(block) as usize]
    }

    /// The zone of a block; of one that is offline, that which it was in last.
    pub(crate) fn zone(&self, block: u64) -> OnlineZone {
        self.blocks[usize_from(block)].zone
    }

    /// What of the node is in the pool, by zone, as runs. This is asked whenever a process comes or
    /// goes: a node of one zone, as most are, is not walked block by block.
    pub(crate) fn zone_extents(&self) -> Vec<(Extent, OnlineZone)> {
        let mut there = OnlineZone::ALL.into_iter().filter(|&z| self.counts_in(z).present() > 0);
        let mut runs: Vec<(Range<u64>, OnlineZone)> = Vec::new();
        match (there.next(), there.next()) {
            (Some(only), None) => {
                let gaps = self.away.gaps(self.blocks()).filter(|run| !run.is_empty());
                runs.extend(gaps.map(|run| (run, only)));
            }
            _ => {
                for block in self.blocks_there() {
                    let zone = self.zone(block);
                    match runs.last_mut() {
                        Some((run, of)) if run.end == block && *of == zone => run.end += 1,
                        _ => runs.push((block..block + 1, zone)),
                    }
                }
                runs.sort_by_key(|&(_, zone)| zone);
            }
        }
        runs.into_iter().map(|(run, zone)| (self.extent(run), zone)).collect()
    }

    /// What is free for this movability.
    pub(crate) fn free_for(&self, movability: Movability) -> u64 {
        zones_for(movability).iter().map(|&zone| self.counts_in(zone).free).sum()
    }

    /// Takes up to `count` free pageblocks, zone by zone.
    pub(crate) fn take(
        &mut self,
        count: u64,
        after: Option<Pageblock>,
        movability: Movability,
    ) -> Vec<Extent> {
        let mut left = count;
        let mut taken = Vec::new();
        for &zone in zones_for(movability) {
            let here = left.min(self.counts_in(zone).free);
            if here == 0 {
                continue;
            }
            let runs = match zone {
                OnlineZone::PreferMovable => self.take_singly(zone, here, movability),
                _ => self.take_runs(zone, here, after, movability),
            };
            self.count_taken(&runs);
            taken.extend(runs);
            left -= here;
        }
        taken
    }

    /// Takes pageblocks one by one, from the end of the zone where these belong.
    fn take_singly(&self, zone: OnlineZone, count: u64, movability: Movability) -> Vec<Extent> {
        let frames = self.frames();
        let request = memtide_frames::Request::new(Order::PAGEBLOCK, movability);
        let one = |_| {
            let frame = frames.take_in(frames_zone(zone), request);
            let (pfn, _) = frame.expect("as many are free as are taken").into_number();
            Pageblock(pfn.0 / PAGES_PER_PAGEBLOCK)
        };
        let mut taken: Vec<Pageblock> = (0..count).map(one).collect();
        taken.sort_unstable();
        Extent::from_blocks(taken)
    }

    fn count_taken(&mut self, taken: &[Extent]) {
        for pageblock in taken.iter().flat_map(|run| run.iter()) {
            let block = self.block_of(pageblock);
            self.blocks[usize_from(block)].used += 1;
            let counts = self.counts_of(block);
            counts.free -= 1;
            counts.used += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The order here is the allocator's, and has every zone where it lets them lie.
    #[test]
    fn every_zone_that_holds_a_movability_is_tried_for_it() {
        for movability in [MOVABLE, UNMOVABLE] {
            for zone in OnlineZone::ALL {
                // EXMEM could hold what never moves; here it is dedicated to what can.
                let holds = match zone {
                    OnlineZone::Exmem => movability == MOVABLE,
                    _ => frames_zone(zone).holds(movability),
                };
                assert_eq!(zones_for(movability).contains(&zone), holds, "{zone}");
                assert_eq!(holds, movability == MOVABLE || !zone.is_movable_only(), "{zone}");
            }
        }
    }
}
