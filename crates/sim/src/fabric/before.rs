//! What happens before the manager asks for everything back: memory is used, and the fabric does
//! what it should not.

use std::collections::{BTreeMap, BTreeSet};

use memtide_engine::{
    Input,
    dynamic_capacity::{DcExtent, DpaRange, Tag},
};
use memtide_units::{Extent, MemberId, PAGEBLOCK_BYTES, Pageblock};
use serde::{Deserialize, Serialize};

use super::{
    FabricError,
    device::Record,
    programs::PIN,
    world::{World, pageblocks},
};

/// Pageblocks that a program leases at once.
const LEASE_MAX: u32 = 512;

/// What goes wrong with the fabric.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Fault {
    /// A chain that never ends.
    EndlessChain,
    /// An extent that the host has is offered again.
    Duplicate,
    /// An extent that overlaps one is offered.
    Overlap,
    /// An extent in which memory is pinned is taken by force.
    ForcedRelease,
}

impl World<'_> {
    /// The programs take all there is, in turns of one run, pin some runs, and release the rest
    /// but for what they use.
    pub(super) fn use_all(&mut self) -> Result<(), FabricError> {
        for number in 1..=self.plan.programs {
            let join = self.programs.start(number);
            self.engine(join)?;
        }
        let run = pageblocks(self.plan.run);
        let granted = pageblocks(self.plan.granted);
        let mut leased = 0;
        while leased < granted {
            let turn = leased / run % self.plan.programs;
            let count = run.min(granted - leased).min(u64::from(LEASE_MAX));
            let count = u32::try_from(count).expect("a small number");
            let member = MemberId(1 + turn);
            self.engine(Input::Lease { member, count, after: None, policy: None })?;
            leased += u64::from(count);
        }
        let held = self.programs.0.values().flat_map(|program| &program.held);
        let mut far: Vec<Pageblock> = held.copied().filter(|at| self.is_far(*at)).collect();
        far.sort_unstable();
        let mut runs: Vec<Vec<Pageblock>> =
            far.chunks(run as usize).map(<[Pageblock]>::to_vec).collect();
        self.random.shuffle(&mut runs);
        let rest = runs.split_off((pageblocks(self.plan.pinned) / run) as usize);
        for pageblock in runs.into_iter().flatten() {
            self.pin(pageblock)?;
        }
        let mut rest: Vec<Pageblock> = rest.into_iter().flatten().collect();
        self.random.shuffle(&mut rest);
        let used = granted * self.plan.used_percent / 100;
        let used = used.saturating_sub(pageblocks(self.plan.pinned));
        let spare = rest.split_off(rest.len().min(used as usize));
        self.release(spare)
    }

    fn is_far(&self, pageblock: Pageblock) -> bool {
        pageblock.0 >= pageblocks(self.plan.near)
    }

    fn pin(&mut self, pageblock: Pageblock) -> Result<(), FabricError> {
        let member = self.programs.owner(pageblock).expect("all of it is leased");
        self.programs.get(member).pinned.insert(pageblock);
        let extents = vec![Extent::new(pageblock, 1)];
        self.engine(Input::Pin { member, extents, reason: PIN })
    }

    fn release(&mut self, pageblocks: Vec<Pageblock>) -> Result<(), FabricError> {
        let mut of: BTreeMap<MemberId, BTreeSet<Pageblock>> = BTreeMap::new();
        let owners: BTreeMap<Pageblock, MemberId> = self
            .programs
            .0
            .values()
            .flat_map(|program| program.held.iter().map(|&held| (held, program.member)))
            .collect();
        for pageblock in pageblocks {
            of.entry(owners[&pageblock]).or_default().insert(pageblock);
        }
        for (member, pageblocks) in of {
            let extents = Extent::from_blocks(pageblocks);
            self.programs.get(member).lose(&extents);
            self.engine(Input::Release { member, extents })?;
        }
        Ok(())
    }

    /// What the fabric does wrong, one thing after the other.
    pub(super) fn misbehave(&mut self) -> Result<(), FabricError> {
        for &fault in &self.plan.faults {
            let held = self.device.held(0);
            let Some(&(range, tag)) = held.first() else { return Ok(()) };
            let extent = DcExtent { range, tag, sequence: 0 };
            let records = match fault {
                Fault::EndlessChain => {
                    let (range, tag) = (self.device.free(self.plan.extent, 1), self.manager.tag());
                    let offer = range.first().map(|&range| DcExtent { range, tag, ..extent });
                    let records = offer.map(|offer| self.device.offer(0, &[offer]));
                    let records = records.unwrap_or_default().into_iter();
                    records.map(Record::followed).collect()
                }
                Fault::Duplicate => self.device.offer(0, &[extent]),
                Fault::Overlap => {
                    let range = DpaRange::new(range.start, range.length * 2);
                    let tag = self.manager.tag();
                    self.device.offer(0, &[DcExtent { range, tag, ..extent }])
                }
                Fault::ForcedRelease => {
                    let pinned = self.programs.0.values().find_map(|p| p.pinned.first().copied());
                    let in_use = pinned.and_then(|at| self.extent_of(&held, at));
                    in_use
                        .map(|(range, tag)| self.device.force(0, range, tag))
                        .into_iter()
                        .collect()
                }
            };
            self.send(0, records);
            self.settle()?;
        }
        Ok(())
    }

    /// The extent that is a pageblock's memory.
    fn extent_of(&self, held: &[(DpaRange, Tag)], at: Pageblock) -> Option<(DpaRange, Tag)> {
        let offset = at.0.checked_sub(pageblocks(self.plan.near))?;
        let memory = DpaRange::new(offset * PAGEBLOCK_BYTES, PAGEBLOCK_BYTES);
        held.iter().copied().find(|(range, _)| range.contains(memory))
    }
}
