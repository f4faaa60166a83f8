//! Why memory moved: for which plan, with which numbers.
//!
//! Most of what moves was not asked for by whose it is, so what is kept of that is kept apart from
//! what was decided on their requests ([`crate::decision`]): the last [`MIGRATIONS_MAX`] of every
//! tenant, which drown out no refusal. Only what arrived counts. All that one plan moved of one
//! process from one node to another is one entry, whatever became of the plan meanwhile; and what
//! another plan moves on the same way for such a reason next is added to it. The words are the
//! kernel's (`enum migrate_reason`), where it has one.

use alloc::{collections::VecDeque, format, string::String};
use core::{mem::discriminant, time::Duration};

use memtide_units::{
    ByteSize, Instant, MemberId, NodeId, NodeKind, Pageblock, RequestId, TenantId, TokenId,
};

use crate::{
    engine::Engine,
    request::{Aim, Blocks, WorkId},
};

/// Migrations kept of one tenant.
pub const MIGRATIONS_MAX: usize = 64;

/// What was moved of a process from one node to another, and why.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Migrated {
    /// When the last of it arrived.
    pub at: Instant,
    /// How many plans in a row.
    pub times: u64,
    /// Whose it is.
    pub member: MemberId,
    /// Where it was.
    pub from: NodeId,
    /// Where it is.
    pub to: NodeId,
    /// How much, of all these plans.
    pub pageblocks: u64,
    /// Why; the numbers are those of the last of the plans.
    pub reason: MigrateReason,
    /// The last of the plans.
    plan: u64,
}

/// Why something was moved. Amounts are pageblocks. Exhaustive, so that whoever tells of reasons
/// names them all.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum MigrateReason {
    /// All of its node leaves.
    Evacuation {
        /// For which request.
        request: RequestId,
    },
    /// Its block leaves.
    GiveBack {
        /// For which request.
        request: RequestId,
    },
    /// An operator wants it there.
    MoveTo {
        /// With which request.
        request: RequestId,
    },
    /// The program wants it there (`MR_MEMPOLICY_MBIND`).
    Mbind {
        /// With which request.
        request: RequestId,
    },
    /// It is used, and is to be there by its policy or for those who use it (`MR_NUMA_MISPLACED`).
    Promotion {
        /// How much of its tenant was used and lay wrong, when that was planned.
        misplaced: u64,
    },
    /// It is not used, and somebody lacks memory of its kind (`MR_DEMOTION`): others, or its own
    /// tenant, or its own process for something that it does use.
    Demotion {
        /// For how long it was not, at least.
        idle_for: Duration,
        /// Of which kind.
        kind: NodeKind,
        /// How much was lacking.
        lacking: u64,
        /// To which tenant first.
        lacks: TenantId,
    },
}

impl Migrated {
    /// It in words, with nodes and tenants called so.
    pub fn text(
        &self,
        node: impl Fn(NodeId) -> String,
        tenant: impl Fn(TenantId) -> String,
    ) -> String {
        let (from, to) = (node(self.from), node(self.to));
        let bytes = ByteSize::from_pageblocks(self.pageblocks);
        let mut text = format!("{}: {bytes} moved from {from} to {to}; because ", self.member);
        text.push_str(&self.reason.text(&from, tenant));
        if self.times > 1 {
            text.push_str(&format!(" ({} times)", self.times));
        }
        text
    }
}

impl MigrateReason {
    /// It in words, of what was on this node, with tenants called so.
    pub fn text(&self, from: &str, tenant: impl Fn(TenantId) -> String) -> String {
        let bytes = ByteSize::from_pageblocks;
        match *self {
            Self::Evacuation { .. } => format!("{from} is evacuated"),
            Self::GiveBack { .. } => format!("capacity of {from} is given back"),
            Self::MoveTo { .. } => String::from("an operator asked for it"),
            Self::Mbind { .. } => String::from("the program asked for it"),
            Self::Promotion { misplaced } => format!(
                "it is in use, as {} of its tenant that do not lie where they should",
                bytes(misplaced)
            ),
            Self::Demotion { idle_for, kind, lacking, lacks } => format!(
                "it was idle for {}s, and {} of {kind} memory was lacking, to tenant {} first",
                idle_for.as_secs(),
                bytes(lacking),
                tenant(lacks)
            ),
        }
    }
}

/// Adds to what is kept of a tenant.
fn note(all: &mut VecDeque<Migrated>, new: Migrated) {
    let is_alike = |old: &Migrated| {
        (old.member, old.from, old.to) == (new.member, new.from, new.to)
            && discriminant(&old.reason) == discriminant(&new.reason)
    };
    let last = all.len().checked_sub(1);
    let same_plan = all.iter().rposition(|old| is_alike(old) && old.plan == new.plan);
    let known = same_plan.or(last.filter(|&last| is_alike(&all[last])));
    let known = known.and_then(|at| all.remove(at));
    if known.is_none() && all.len() == MIGRATIONS_MAX {
        all.pop_front();
    }
    let (before, times) = known.map_or((0, 1), |known| {
        (known.pageblocks, known.times + u64::from(known.plan != new.plan))
    });
    all.push_back(Migrated { times, pageblocks: before + new.pageblocks, ..new });
}

impl Engine {
    /// What a work moves things for.
    pub(crate) fn reason_of(&self, work: WorkId) -> MigrateReason {
        let Some(request) = self.works[&work].request else {
            return self.balance.works[&work];
        };
        match &self.requests[&request].aim {
            Aim::GiveBack { blocks: Blocks::All { .. }, .. } => {
                MigrateReason::Evacuation { request }
            }
            Aim::GiveBack { .. } => MigrateReason::GiveBack { request },
            Aim::MoveTo { only: None, .. } => MigrateReason::MoveTo { request },
            Aim::MoveTo { only: Some(_), .. } => MigrateReason::Mbind { request },
        }
    }

    /// Notes that a pageblock of a process has arrived where a work wanted it.
    pub(crate) fn migrated(
        &mut self,
        token: TokenId,
        (from, to): (Pageblock, Pageblock),
        work: WorkId,
        reason: MigrateReason,
    ) {
        let plan = match reason {
            MigrateReason::Evacuation { request }
            | MigrateReason::GiveBack { request }
            | MigrateReason::MoveTo { request }
            | MigrateReason::Mbind { request } => request.0,
            MigrateReason::Promotion { .. } | MigrateReason::Demotion { .. } => work.0,
        };
        let node = |at| self.pool.nodes()[self.pool.block_of(at).node].id;
        let new = Migrated {
            at: self.now,
            times: 1,
            member: self.process(token).member().expect("who answers has joined"),
            from: node(from),
            to: node(to),
            pageblocks: 1,
            reason,
            plan,
        };
        let tenant = self.tenant_of(token);
        note(&mut self.tenant_mut(tenant).migrations, new);
    }

    /// What was moved lately of a tenant, the oldest first. Nothing when there is no such tenant.
    pub fn migrations(&self, tenant: TenantId) -> impl DoubleEndedIterator<Item = &Migrated> {
        let tenant = self.tenants.get(usize::from(tenant.0));
        tenant.into_iter().flat_map(|tenant| &tenant.migrations)
    }
}
