//! What happens before the manager asks for everything back: memory is used, and the fabric does
//! what it should not.

use std::collections::{BTreeMap, BTreeSet};

use memtide_cxl::command::fabric_manager::Force;
use memtide_engine::{
    Input,
    dynamic_capacity::{self as dc, DcExtent, DpaRange, More},
};
use memtide_units::{Extent, MemberId, PAGEBLOCK_BYTES, Pageblock};
use serde::{Deserialize, Serialize};

use super::{
    FabricError,
    commands::release,
    medium::MEM,
    programs::PIN,
    world::{HOSTS, World, pageblocks},
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

    /// What the fabric does wrong, one thing after the other. What the specification has no device
    /// do, this one does not either: the host finds records in its log that are not the device's.
    pub(super) fn misbehave(&mut self) -> Result<(), FabricError> {
        for &fault in &self.plan.faults {
            let Some(extent) = self.device.held(HOSTS[0]).next().copied() else { return Ok(()) };
            let offer = |extent, more| dc::Input::Add { device: MEM, extent, more };
            match fault {
                Fault::EndlessChain => {
                    let tag = self.operator.tag();
                    if let Some(&range) = self.operator.free(&self.device, 1).first() {
                        let extent = DcExtent { range, tag, ..extent };
                        self.stray(offer(extent, More::Follows));
                    }
                }
                Fault::Duplicate => self.stray(offer(extent, More::Last)),
                Fault::Overlap => {
                    let range = DpaRange::new(extent.range.start, extent.range.length * 2);
                    let tag = self.operator.tag();
                    self.stray(offer(DcExtent { range, tag, ..extent }, More::Last));
                }
                Fault::ForcedRelease => {
                    let pinned = self.programs.0.values().find_map(|p| p.pinned.first().copied());
                    let in_use = pinned.and_then(|at| self.extent_of(at));
                    let in_use = in_use.into_iter().collect();
                    release(&mut self.device, HOSTS[0], Force::Take, in_use)?;
                }
            }
            self.look();
            self.settle()?;
        }
        Ok(())
    }

    /// The extent that is a pageblock's memory.
    fn extent_of(&self, at: Pageblock) -> Option<DcExtent> {
        let offset = at.0.checked_sub(pageblocks(self.plan.near))?;
        let memory = DpaRange::new(offset * PAGEBLOCK_BYTES, PAGEBLOCK_BYTES);
        self.device.held(HOSTS[0]).copied().find(|extent| extent.range.contains(memory))
    }
}
