//! What a tenant may have of a kind of node, and what it is sure to have.
//!
//! A guarantee has two sides. Nobody else is given what would be missing: who gets something
//! beyond its own guarantee leaves so much that all others can still get theirs. And it is had:
//! while there is room for all that is guaranteed and not used, who is below its minimum gets what
//! it asks for up to there, at once, whatever other tenants hold or are promised. There may be less
//! room than that only because capacity has left, which quotas cannot forbid. What a tenant has
//! promised to one of its processes, that one gets, and no other.
//!
//! Who is never moved has no use for what is free where all must be able to move. So of a kind two
//! things have to be there: what is guaranteed to all in sum, and what is guaranteed to those in
//! sum where anything may lie.

use memtide_engine::tenant::{Access, Migration};
use memtide_units::NodeKind;

use super::{Checked, Oracle};
use crate::machine::plan::Plan;

impl Oracle {
    fn nodes_of(&self, kind: NodeKind) -> impl Iterator<Item = usize> {
        (0..self.kinds.len()).filter(move |&node| self.kinds[node] == kind)
    }

    /// Pageblocks of a kind that a tenant has mapped.
    pub fn used_of_kind(&self, tenant: usize, kind: NodeKind) -> u64 {
        self.nodes_of(kind).map(|node| self.used[tenant][node]).sum()
    }

    /// The same with what was left behind and is not zeroed, and what is being moved there.
    fn charged_of_kind(&self, tenant: usize, kind: NodeKind) -> u64 {
        self.nodes_of(kind).map(|node| self.charged[tenant][node]).sum()
    }

    /// What a tenant is sure to get of a kind beside what it has.
    fn unused_guarantee(&self, plan: &Plan, tenant: usize, kind: NodeKind) -> u64 {
        let min = plan.tenants[tenant].quota(kind).min;
        min.saturating_sub(self.charged_of_kind(tenant, kind))
    }

    /// Pageblocks of a node that nobody has, and that are zero.
    pub fn free(&self, plan: &Plan, node: usize) -> u64 {
        let away: u64 = self.away[node].iter().sum();
        plan.nodes[node].pageblocks - away - self.in_use[node]
    }

    /// Whether nothing has left.
    pub fn is_whole(&self) -> bool {
        self.away.iter().all(|away| *away == [0; 2])
    }

    /// Whether a tenant that just got something stays within what it may have.
    pub fn quota(&self, plan: &Plan, tenant: usize) -> Checked<()> {
        for kind in NodeKind::ALL {
            let (quota, used) = (plan.tenants[tenant].quota(kind), self.used_of_kind(tenant, kind));
            let most = match quota.access {
                Access::Denied => 0,
                Access::Allowed => quota.max.unwrap_or(u64::MAX),
            };
            if used > most {
                let name = &plan.tenants[tenant].name;
                return Err(format!(
                    "quota: tenant {name:?} has {used} pageblocks of {kind} memory; at most {most}"
                ));
            }
        }
        Ok(())
    }

    /// Whether others can still get what they are sure to, after a tenant got something of a kind.
    pub fn guarantees(&self, plan: &Plan, tenant: usize, kind: NodeKind) -> Checked<()> {
        if self.charged_of_kind(tenant, kind) <= plan.tenants[tenant].quota(kind).min {
            return Ok(());
        }
        let free: u64 = self.nodes_of(kind).map(|node| self.free(plan, node)).sum();
        let others = (0..self.used.len()).filter(|&other| other != tenant);
        let sure: u64 = others.map(|other| self.unused_guarantee(plan, other, kind)).sum();
        if sure > free {
            let name = &plan.tenants[tenant].name;
            return Err(format!(
                "guarantee: tenant {name:?} got {kind} memory; others are sure to get {sure} \
                 pageblocks more, and {free} are free"
            ));
        }
        Ok(())
    }

    /// What those are sure to get of a kind who are never moved, but for one tenant.
    fn sure_of_never(&self, plan: &Plan, kind: NodeKind, but: Option<usize>) -> u64 {
        let stays = |&one: &usize| plan.tenants[one].migration == Migration::Never;
        let all = (0..self.used.len()).filter(|&one| Some(one) != but).filter(stays);
        all.map(|one| self.unused_guarantee(plan, one, kind)).sum()
    }

    /// The same as [`Oracle::guarantees`] for those who are never moved, after a tenant got
    /// something of a kind where anything may lie.
    pub fn guarantees_of_never(&self, plan: &Plan, tenant: usize, kind: NodeKind) -> Checked<()> {
        if self.charged_of_kind(tenant, kind) <= plan.tenants[tenant].quota(kind).min {
            return Ok(());
        }
        let free: u64 = self.nodes_of(kind).map(|node| self.free_for_never(plan, node)).sum();
        let sure = self.sure_of_never(plan, kind, Some(tenant));
        if sure > free {
            let name = &plan.tenants[tenant].name;
            return Err(format!(
                "guarantee: tenant {name:?} got {kind} memory; others that are never moved are \
                 sure to get {sure} pageblocks more, and {free} are free where those may lie"
            ));
        }
        Ok(())
    }

    /// Whether all that is guaranteed could be had of the memory that is there.
    pub fn can_all_be_met(&self, plan: &Plan) -> bool {
        NodeKind::ALL.into_iter().all(|kind| {
            let never = plan.tenants.iter().filter(|one| one.migration == Migration::Never);
            let sure: u64 = never.map(|one| one.quota(kind).min).sum();
            sure <= self.nodes_of(kind).map(|node| self.there_for_never(plan, node)).sum()
        })
    }

    /// Whether a tenant that was not given all one of its processes asked for had its guarantee,
    /// less what its others are `promised` of the kind, as far as these nodes, where nothing stands
    /// in the way, have room for it.
    ///
    /// The promises are taken off whole, though some of them could be met by other kinds and need
    /// none of this one. How much could is a flow of all that is promised over all nodes, with what
    /// all tenants have and may have for bounds: the engine's own rule, and books that worked it
    /// out would make its mistakes again. What is certainly too much is not taken off: promises
    /// that bind nobody, and those of processes that can be given nothing of the kind.
    pub fn had_its_own(
        &self,
        plan: &Plan,
        tenant: usize,
        nodes: &[usize],
        promised: impl Fn(NodeKind) -> u64,
    ) -> Checked<()> {
        for kind in NodeKind::ALL {
            let own = self.unused_guarantee(plan, tenant, kind).saturating_sub(promised(kind));
            let here = nodes.iter().filter(|&&node| self.kinds[node] == kind);
            let (mut free, mut for_never) = (0, 0);
            for &node in here {
                free += self.free(plan, node);
                for_never += self.free_for_never(plan, node);
            }
            let stays = plan.tenants[tenant].migration == Migration::Never;
            let usable = if stays { for_never } else { free };
            if own == 0 || usable == 0 {
                continue;
            }
            let all = 0..self.used.len();
            let sure: u64 = all.map(|tenant| self.unused_guarantee(plan, tenant, kind)).sum();
            let is_room = !stays || for_never >= self.sure_of_never(plan, kind, None);
            if free >= sure && is_room {
                let name = &plan.tenants[tenant].name;
                return Err(format!(
                    "guarantee: tenant {name:?} is not given {kind} memory; it is sure to get \
                     {own} pageblocks more, all are sure to get {sure}, and {free} are free"
                ));
            }
        }
        Ok(())
    }
}
