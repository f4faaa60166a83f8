//! The work itself: range by range, tier by tier.

use std::{collections::BTreeMap, time::Instant};

use memtide_sys::numa::{NodeSet, PageStatus, WhichPages};
use memtide_units::{ByteSize, NodeId};
use rustix::io::Errno;

use super::{Doing, Ended, Placed, Placing, PlacingError, Reason};
use crate::processes::{
    held::Holders,
    mappings::{Mapping, Migratable},
    pagemap::{MappedBy, Present},
    pages::{Fate, HugePages, Mover, Stays, move_batch},
    program::Program,
};

/// Bytes of addresses that are looked at in one go; a page at least.
const CHUNK: u64 = 512 << 20;
/// Pages that are moved in one go: some milliseconds' worth, so that a deadline is kept.
const BATCH: usize = 1 << 11;
/// Pages that are tried once more, at most: 4 MiB of addresses.
const LATER_MOST: usize = 1 << 19;

/// The work under way.
pub(super) struct Work<'p, M> {
    placing: &'p Placing,
    pub(super) mover: M,
    holders: Holders,
    rooms: BTreeMap<NodeId, ByteSize>,
    /// Nodes that take no more.
    full: NodeSet,
    pub(super) placed: Placed,
    /// Pages that were held, to be tried once more at the end; `None` at the end.
    later: Option<Vec<Pages>>,
    /// How many pages those are.
    later_pages: usize,
}

/// Pages of one mapping that are in the same case.
struct Pages {
    addresses: Vec<usize>,
    page_bytes: u64,
    huge: HugePages,
    /// How many tiers, from the first, they may move to.
    tiers: usize,
}

impl<'p, M: Mover> Work<'p, M> {
    /// Nothing done yet.
    pub(super) fn new(
        placing: &'p Placing,
        mover: M,
        holders: Holders,
        rooms: BTreeMap<NodeId, ByteSize>,
        before: BTreeMap<NodeId, ByteSize>,
    ) -> Self {
        let placed = Placed {
            moved: ByteSize(0),
            stayed: BTreeMap::new(),
            shared: ByteSize(0),
            before,
            after: BTreeMap::new(),
            ended: Ended::Whole,
        };
        let (full, later) = (NodeSet::EMPTY, Some(Vec::new()));
        Self { placing, mover, holders, rooms, full, placed, later, later_pages: 0 }
    }

    /// All mappings, then once more what was held: a transfer may be over.
    pub(super) fn all(
        &mut self,
        program: &Program,
        mappings: &[Mapping],
        mut progress: impl FnMut(u64, u64),
    ) -> Result<(), PlacingError> {
        let pagemap = program.pagemap()?;
        let resident = mappings.iter().fold(0, |sum: u64, map| sum.saturating_add(map.resident));
        let mut done: u64 = 0;
        let of_its_own = |map: &&Mapping| map.resident > 0 && map.migratable != Migratable::Kernel;
        for mapping in mappings.iter().filter(of_its_own) {
            let mut start = mapping.start;
            while start < mapping.end {
                let end = start.saturating_add(CHUNK.max(mapping.page_bytes)).min(mapping.end);
                let Ok(present) = pagemap.present(start..end, mapping.page_bytes) else {
                    self.placed.ended = Ended::WithProgram;
                    return Ok(());
                };
                start = end;
                if present.is_empty() {
                    continue;
                }
                // Another process may have the number by now.
                if !program.is_there() {
                    self.placed.ended = Ended::WithProgram;
                    return Ok(());
                }
                done = done.saturating_add(present.len() as u64 * mapping.page_bytes);
                if let Err(errno) = self.chunk(mapping, &present) {
                    self.placed.ended = ended_by(errno);
                    return Ok(());
                }
                progress(done.min(resident), resident);
            }
        }
        if program.is_there()
            && let Err(errno) = self.once_more()
        {
            self.placed.ended = ended_by(errno);
        }
        Ok(())
    }

    /// What was held is tried again, and told if it still is. There may be no time left.
    pub(super) fn once_more(&mut self) -> Result<(), Errno> {
        for pages in self.later.take().unwrap_or_default() {
            if self.is_late() {
                self.held(&pages);
            } else {
                self.settle(pages)?;
            }
        }
        Ok(())
    }

    pub(super) fn chunk(&mut self, mapping: &Mapping, present: &[Present]) -> Result<(), Errno> {
        let addresses: Vec<usize> = present.iter().map(|page| page.address).collect();
        let places = self.mover.where_are(&addresses)?;
        // By how many tiers are above them: those that are on no tier come last.
        let mut cases: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
        let outside = self.placing.tiers.len();
        for (page, place) in present.iter().zip(places) {
            let PageStatus::On(node) = place else { continue };
            let above = self.placing.tiers.iter().position(|tier| tier.contains(node));
            let above = above.unwrap_or(outside);
            let alone = page.mapped == MappedBy::One;
            if above > 0 && (alone || self.placing.which == WhichPages::Shared) {
                cases.entry(above).or_default().push(page.address);
            } else if above == outside {
                self.placed.shared.0 += mapping.page_bytes;
            }
        }
        for (tiers, addresses) in cases.into_iter().rev() {
            let huge = if mapping.huge > 0 { HugePages::Some } else { HugePages::None };
            for batch in addresses.chunks(BATCH) {
                let (page_bytes, addresses) = (mapping.page_bytes, batch.to_vec());
                let pages = Pages { addresses, page_bytes, huge, tiers };
                if mapping.migratable == Migratable::No {
                    self.stay(&pages, Reason::Unmovable, pages.addresses.len());
                } else if self.is_late() {
                    self.placed.ended = Ended::Deadline;
                    self.stay(&pages, Reason::Deadline, pages.addresses.len());
                } else {
                    self.settle(pages)?;
                }
            }
        }
        Ok(())
    }

    fn is_late(&self) -> bool {
        self.placing.deadline.is_some_and(|deadline| Instant::now() >= deadline)
    }

    /// Moves pages to the first nodes that have room for them.
    fn settle(&mut self, mut pages: Pages) -> Result<(), Errno> {
        let placing = self.placing;
        let mut last = Reason::NoRoom;
        for (index, tier) in placing.tiers[..pages.tiers].iter().enumerate() {
            for node in tier.iter().filter(|&node| !self.full.contains(node)).collect::<Vec<_>>() {
                let fits = self.room(node, index) / pages.page_bytes;
                let fits = usize::try_from(fits).unwrap_or(usize::MAX).min(pages.addresses.len());
                if fits == 0 {
                    continue;
                }
                let later = pages.addresses.split_off(fits);
                let mut again = self.try_node(&pages, node, &mut last)?;
                again.extend(later);
                pages.addresses = again;
            }
        }
        self.stay(&pages, last, pages.addresses.len());
        Ok(())
    }

    /// Moves pages to a node; those come back that it did not take.
    fn try_node(
        &mut self,
        pages: &Pages,
        node: NodeId,
        last: &mut Reason,
    ) -> Result<Vec<usize>, Errno> {
        let fates = match self.placing.doing {
            Doing::Counting => vec![Fate::Moved; pages.addresses.len()],
            Doing::Moving => {
                let which = self.placing.which;
                move_batch(&mut self.mover, &pages.addresses, node, which, pages.huge)?
            }
        };
        let mut again = Vec::new();
        let mut held = Vec::new();
        for (&address, fate) in pages.addresses.iter().zip(fates) {
            match fate {
                Fate::Gone => {}
                Fate::Moved => {
                    self.placed.moved.0 += pages.page_bytes;
                    let room = self.rooms.entry(node).or_default();
                    room.0 = room.0.saturating_sub(pages.page_bytes);
                }
                Fate::Stays(Stays::Shared) => self.placed.shared.0 += pages.page_bytes,
                Fate::Stays(Stays::Unmovable) => self.stay(pages, Reason::Unmovable, 1),
                Fate::Stays(Stays::Held) => held.push(address),
                Fate::Stays(full) => {
                    *last = match full {
                        Stays::NodeGone => Reason::NodeGone,
                        Stays::NotAllowed => Reason::NotAllowed,
                        _ => Reason::NoRoom,
                    };
                    again.push(address);
                }
            }
        }
        let held = Pages { addresses: held, ..*pages };
        match &mut self.later {
            Some(later) if self.later_pages + held.addresses.len() <= LATER_MOST => {
                self.later_pages += held.addresses.len();
                later.push(held);
            }
            _ => self.held(&held),
        }
        if !again.is_empty() {
            self.full = self.full.union(&NodeSet::only(node).unwrap_or_default());
        }
        Ok(again)
    }

    /// These pages stayed, and somebody holds each.
    fn held(&mut self, pages: &Pages) {
        for &address in &pages.addresses {
            let holder = self.holders.of(address as u64, pages.page_bytes);
            self.stay(pages, Reason::Held(holder), 1);
        }
    }

    /// What a node of a tier may take.
    fn room(&self, node: NodeId, tier: usize) -> u64 {
        let last = tier + 1 == self.placing.tiers.len();
        match self.placing.doing {
            Doing::Moving if last => u64::MAX,
            _ => self.rooms.get(&node).map_or(0, |room| room.0),
        }
    }

    /// So many of these pages stayed. Those of a lower tier are not amiss for want of room or time.
    fn stay(&mut self, pages: &Pages, reason: Reason, count: usize) {
        let outside = pages.tiers == self.placing.tiers.len();
        let amiss = outside || matches!(reason, Reason::Held(_));
        if amiss && count > 0 {
            let sum = self.placed.stayed.entry(reason).or_default();
            sum.0 = sum.0.saturating_add(pages.page_bytes.saturating_mul(count as u64));
        }
    }
}

fn ended_by(errno: Errno) -> Ended {
    match errno {
        Errno::PERM => Ended::NotPermitted,
        _ => Ended::WithProgram,
    }
}
