//! What tenants need of some nodes, and what that leaves of a node to one process.
//!
//! For every set of nodes in the family of [`crate::sums`]: see [`crate::promise`] for why. "Nodes"
//! are parts of nodes here ([`crate::parts`]).

use alloc::vec::Vec;

use memtide_units::{NodeKind, TenantId, TokenId};

use crate::{
    engine::Engine,
    pageblocks::MOVABLE,
    parts::{node_of, parts_of},
    promise::open,
    sums::{Parts, is_within},
};

impl Engine {
    pub(crate) fn open_parts(&self, parts: &[usize]) -> impl Iterator<Item = usize> {
        parts.iter().copied().filter(|&part| !self.is_closed(node_of(part)))
    }

    /// What of a part is leased; the rest of what is in use is being zeroed.
    pub(crate) fn leased_in_part(&self, part: usize) -> u64 {
        let zeroing = self.tenants().map(|(id, _)| self.sums.zeroing_of(id, part));
        self.used_in_part(part) - zeroing.sum::<u64>()
    }

    /// What of a part can be leased.
    pub(crate) fn free_on(&self, part: usize, when: Room) -> u64 {
        match when {
            Room::Now => self.free_in_part(part),
            Room::Later => self.usable_in_part(part) - self.leased_in_part(part),
        }
    }

    /// What a tenant is charged for of a kind.
    fn has(&self, tenant: TenantId, kind: NodeKind, when: Room) -> u64 {
        let used = self.tenant(tenant).used[kind as usize];
        let nodes = self.pool.nodes().iter().enumerate();
        let of_kind = nodes.filter(|(_, node)| node.kind == kind);
        match when {
            Room::Now => used,
            Room::Later => {
                // Of before it was never moved, there may be some in the second part as well.
                let parts = of_kind.flat_map(|(node, _)| parts_of(node, MOVABLE));
                used - parts.map(|part| self.sums.zeroing_of(tenant, part)).sum::<u64>()
            }
        }
    }

    /// Whether these are all parts of a kind that a tenant may have any of, and perhaps others.
    /// Where there is no memory, nothing can be had elsewhere.
    fn has_all_of(&self, tenant: TenantId, parts: &[usize], kind: NodeKind) -> bool {
        let is_here = |part: &usize| parts.binary_search(part).is_ok();
        self.parts_for(tenant, kind).all(|part| is_here(&part) || self.usable_in_part(part) == 0)
    }

    /// What others than this tenant need of these nodes.
    pub(crate) fn kept_from(&self, tenant: TenantId, nodes: &[usize], when: Room) -> u64 {
        let others = self.tenants().filter(|&(other, _)| other != tenant);
        let kept = others.map(|(other, _)| self.need(other, nodes, when, None));
        kept.fold(0, u64::saturating_add)
    }

    /// What a tenant needs of these nodes at least: for one of its [`Demand`]s the most. One
    /// process that reaches so much may be promised something else than it is.
    pub(crate) fn need(
        &self,
        tenant: TenantId,
        nodes: &[usize],
        when: Room,
        but: Option<(&Parts, u64, u64)>,
    ) -> u64 {
        let demands = self.demands(tenant, nodes, when);
        let needs = demands
            .iter()
            .map(|demand| self.needed(tenant, demand, but).saturating_sub(demand.elsewhere));
        needs.max().unwrap_or(0)
    }

    /// What one of a tenant's demands comes to, wherever it may be met.
    fn needed(&self, tenant: TenantId, demand: &Demand, but: Option<(&Parts, u64, u64)>) -> u64 {
        let open = demand.sets().map(|nodes| {
            let open = self.open_in(tenant, nodes);
            match but {
                Some((reach, before, after)) if is_within(reach, nodes) => {
                    (open - before).saturating_add(after)
                }
                _ => open,
            }
        });
        open.fold(demand.sure, u64::saturating_add)
    }

    /// All demands of a tenant for these nodes.
    fn demands(&self, tenant: TenantId, nodes: &[usize], when: Room) -> Vec<Demand> {
        let mut all = alloc::vec![Demand { nodes: nodes.to_vec(), ..Demand::default() }];
        for kind in NodeKind::ALL {
            let min = self.tenant(tenant).config.quota(kind).min;
            if min == 0 || !self.has_all_of(tenant, nodes, kind) {
                continue;
            }
            let sure = min.saturating_sub(self.has(tenant, kind, when));
            for at in 0..all.len() {
                let mut demand = all[at].clone();
                demand.nodes.retain(|&part| self.kind_of_part(part) != kind);
                demand.guaranteed.push(kind);
                demand.sure = demand.sure.saturating_add(sure);
                all.push(demand);
            }
        }
        for kind in NodeKind::ALL {
            let max = self.tenant(tenant).config.quota(kind).max;
            let Some(max) = max.filter(|_| !self.falls_back(tenant)) else { continue };
            let left = max.saturating_sub(self.has(tenant, kind, when));
            for at in 0..all.len() {
                if self.has_all_of(tenant, &all[at].nodes, kind) {
                    continue;
                }
                let mut demand = all[at].clone();
                let is_of_kind = |part: &usize| self.kind_of_part(*part) == kind;
                let is_in =
                    |part: &usize| is_of_kind(part) || all[at].nodes.binary_search(part).is_ok();
                demand.nodes = self.all_parts().filter(is_in).collect();
                demand.inside.push(all[at].nodes.iter().copied().filter(is_of_kind).collect());
                demand.capped.push(kind);
                demand.elsewhere = demand.elsewhere.saturating_add(left);
                all.push(demand);
            }
        }
        all
    }

    /// What the processes of a tenant that are bound to these nodes are promised and do not have.
    pub(crate) fn open_in(&self, tenant: TenantId, nodes: &[usize]) -> u64 {
        if self.falls_back(tenant) {
            return 0;
        }
        let bound = self.sums.of(tenant).filter(|(reach, _)| is_within(reach, nodes));
        bound.map(|(_, sum)| sum.open()).fold(0, u64::saturating_add)
    }

    /// How much of a part a process may have without breaking promises to others, nor any by what
    /// is guaranteed. When it has so much, what is left must suffice for the others still, in every
    /// set of nodes; or as much be missing as before, if something is missing already. Its own
    /// promise gets smaller by what it has, and so does what is guaranteed to its tenant.
    pub(crate) fn unpromised_of_part(&self, part: usize, token: TokenId) -> u64 {
        let process = self.process(token);
        let own = if self.falls_back(self.tenant_of(token)) { 0 } else { open(process) };
        let sets = self.sums.family().map(|set| self.unpromised_in(part, token, set, own));
        sets.min().unwrap_or(u64::MAX)
    }

    /// The same for what it has already and is to come from these parts: where it comes from a set,
    /// that has as much as before.
    pub(crate) fn unpromised_to_part(&self, part: usize, token: TokenId, from: &[usize]) -> u64 {
        let sets = self.sums.family().filter(|set| !is_within(from, set));
        sets.map(|set| self.unpromised_in(part, token, set, 0)).min().unwrap_or(u64::MAX)
    }

    fn unpromised_in(&self, part: usize, token: TokenId, set: &[usize], own: u64) -> u64 {
        let (tenant, reach) = (self.tenant_of(token), &self.process(token).reach);
        let kind = self.kind_of_part(part);
        let is_here = set.binary_search(&part).is_ok();
        let free: u64 = self.open_parts(set).map(|part| self.free_on(part, Room::Now)).sum();
        let beside = free.saturating_sub(self.kept_from(tenant, set, Room::Now));
        let demands = self.demands(tenant, set, Room::Now);
        let needed: Vec<_> =
            demands.iter().map(|demand| self.needed(tenant, demand, None)).collect();
        let need =
            demands.iter().zip(&needed).map(|(d, needed)| needed.saturating_sub(d.elsewhere));
        // What is missing already goes on to be missing.
        let most = beside.max(need.max().unwrap_or(0));
        let rooms = demands.iter().zip(&needed).map(|(demand, &needed)| {
            let owns = demand.sets().filter(|nodes| is_within(reach, nodes)).map(|_| own);
            let is_sure = demand.guaranteed.contains(&kind);
            let sure = if is_sure { self.tenant(tenant).unused_guarantee(kind) } else { 0 };
            let spare = most.saturating_add(demand.elsewhere).saturating_sub(needed);
            let takes = u64::from(is_here) + u64::from(demand.capped.contains(&kind));
            most_within(spare, takes, owns.chain([sure]).collect())
        });
        rooms.min().unwrap_or(u64::MAX)
    }
}

/// The most that takes no more than what is spare, when each takes so many, but one less for every
/// discount as long as it is of that.
fn most_within(spare: u64, takes: u64, mut discounts: Vec<u64>) -> u64 {
    discounts.retain(|&discount| discount > 0);
    discounts.sort_unstable();
    let (mut most, mut spare) = (0_u64, i128::from(spare));
    let mut each = i128::from(takes) - discounts.iter().map(|_| 1_i128).sum::<i128>();
    for discount in discounts {
        let here = i128::from(discount - most);
        if each > 0 && here > spare / each {
            break;
        }
        spare -= each * here;
        most = discount;
        each += 1;
    }
    if each <= 0 {
        return u64::MAX;
    }
    u64::try_from(i128::from(most) + spare / each).unwrap_or(u64::MAX)
}

/// One way to see what a tenant needs of some nodes at least: what is promised within `nodes`, and
/// what is guaranteed beside them, less what may be had elsewhere. Of a kind with a maximum that is
/// what is left of it, less what is promised within the set's own nodes of the kind.
#[derive(Clone, Debug, Default)]
struct Demand {
    /// The nodes, less those of the kinds in `guaranteed`, and all of those in `capped`.
    nodes: Vec<usize>,
    /// Kinds that have all their nodes among these, and count with what is guaranteed.
    guaranteed: Vec<NodeKind>,
    /// What is guaranteed of those and the tenant does not have.
    sure: u64,
    /// Kinds of which the tenant has a maximum.
    capped: Vec<NodeKind>,
    /// What it may still have of those.
    elsewhere: u64,
    /// The nodes of each of those that are among the set's: what is promised within them counts
    /// once more, for it leaves less of the maximum for elsewhere.
    inside: Vec<Vec<usize>>,
}

impl Demand {
    /// What is promised within each of these sets is needed.
    fn sets(&self) -> impl Iterator<Item = &[usize]> {
        core::iter::once(&self.nodes).chain(&self.inside).map(Vec::as_slice)
    }
}

/// When room is looked for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Room {
    /// What is free.
    Now,
    /// What is not leased: it is free, or will be soon.
    Later,
}
