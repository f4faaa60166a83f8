//! The programs of a host: what they have, and how they answer.

use std::collections::{BTreeMap, BTreeSet};

use memtide_engine::{Input, Lineage, MoveOutcome, tenant::Credentials};
use memtide_units::{Extent, HoldReason, Instant, MemberId, Pageblock, TokenId};

/// Why they pin.
pub(super) const PIN: HoldReason = HoldReason::Rdma;

/// One program.
#[derive(Clone, Debug)]
pub(super) struct Program {
    pub(super) member: MemberId,
    pub(super) held: BTreeSet<Pageblock>,
    pub(super) pinned: BTreeSet<Pageblock>,
    /// It copies until then.
    pub(super) busy_until: Instant,
}

/// All of them.
#[derive(Clone, Debug, Default)]
pub(super) struct Programs(pub(super) BTreeMap<MemberId, Program>);

impl Programs {
    /// One more, and how it joins.
    pub(super) fn start(&mut self, number: u64) -> Input {
        let member = MemberId(number);
        let (held, pinned) = (BTreeSet::new(), BTreeSet::new());
        self.0.insert(member, Program { member, held, pinned, busy_until: Instant::default() });
        Input::Join {
            member,
            pid: 1000 + u32::try_from(number).expect("few programs"),
            name: format!("program-{number}"),
            token: TokenId(number),
            lineage: Lineage::Fresh,
            who: Credentials::default(),
        }
    }

    pub(super) fn get(&mut self, member: MemberId) -> &mut Program {
        self.0.get_mut(&member).expect("members are programs")
    }

    /// Who has a pageblock.
    pub(super) fn owner(&self, pageblock: Pageblock) -> Option<MemberId> {
        let owner = self.0.values().find(|program| program.held.contains(&pageblock));
        owner.map(|program| program.member)
    }
}

impl Program {
    /// It has copied what it was ordered to.
    pub(super) fn moved(&mut self, pairs: &[(Pageblock, Pageblock)]) -> Vec<MoveOutcome> {
        let mut outcomes = Vec::new();
        for (from, to) in pairs {
            outcomes.push(if self.held.remove(from) {
                self.held.insert(*to);
                MoveOutcome::Moved
            } else {
                MoveOutcome::Gone
            });
        }
        outcomes
    }

    /// It no longer has these. Those of them that it had.
    pub(super) fn lose(&mut self, extents: &[Extent]) -> u64 {
        let mut lost = 0;
        for pageblock in extents.iter().flat_map(|extent| extent.iter()) {
            lost += u64::from(self.held.remove(&pageblock));
            self.pinned.remove(&pageblock);
        }
        lost
    }
}
