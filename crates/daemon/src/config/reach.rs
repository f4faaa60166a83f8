//! Which nodes a tenant can get anything of: by its policy, its quotas, and what it falls back on.
//!
//! The answer is the engine's own ([`candidates`]), asked before there is an engine: a tenant that
//! can get nothing, and a minimum that lies where its tenant never gets, are mistakes that a
//! reader of the file should hear of, not the first program that is refused.

use std::collections::BTreeSet;

use memtide_engine::{
    mempolicy::{MemPolicy, Mode, candidates::candidates},
    nodes::{NodeClass, Zonelists},
    tenant::{Access, Emergency, Migration, OnDepletion},
    tiers::AccessTable,
};
use memtide_proto::program::OnFull;
use memtide_units::{NodeId, NodeKind, OnlineZone};

use super::{
    TenantConfig,
    accessors::{self, AccessorConfig},
    nodes::NodeConfig,
};
use crate::daemon::node_id;

/// What a file says of the pool itself, as far as tenants depend on it.
pub(super) struct PoolRules<'a> {
    pub(super) nodes: &'a [NodeConfig],
    /// Empty: public nodes, near ones first.
    pub(super) placement: &'a [usize],
    pub(super) on_full: OnFull,
    pub(super) accessors: &'a [AccessorConfig],
    /// The same, as the engine has them.
    pub(super) table: AccessTable,
}

impl<'a> PoolRules<'a> {
    /// Of a pool whose nodes and accessors are checked.
    pub(super) fn new(
        nodes: &'a [NodeConfig],
        accessors: &'a [AccessorConfig],
        placement: &'a [usize],
        on_full: OnFull,
    ) -> Self {
        Self { nodes, placement, on_full, accessors, table: accessors::table(accessors) }
    }

    /// The order of fallback between the nodes, as far as policies depend on it: who is there, and
    /// of which class.
    pub(super) fn zonelists(&self) -> Option<Zonelists> {
        let classes = self.nodes.iter().enumerate();
        let classes: Vec<_> = classes.map(|(index, node)| (node_id(index), node.class)).collect();
        Zonelists::build(&classes, |from, to| Some(if from == to { 10 } else { 20 })).ok()
    }

    /// The nodes that a tenant can get anything of; who is never moved gets nothing where only what
    /// can move may lie. Its policy makes sense
    /// ([`MemPolicy::check`]).
    pub(super) fn reach(&self, tenant: &TenantConfig, zonelists: &Zonelists) -> BTreeSet<usize> {
        let index = |node: NodeId| usize::from(node.0);
        let kind = |node: NodeId| self.nodes[index(node)].kind;
        let local = node_id(self.placement.first().copied().unwrap_or_else(|| self.first_public()));
        let is_extended = |node| {
            kind(node) != NodeKind::Near || self.nodes[index(node)].zone == OnlineZone::Exmem
        };
        let found = candidates(&tenant.policy, local, zonelists, &self.table, is_extended);
        let mut all = found.policy;
        let falls_back = match tenant.on_depletion {
            Some(what) => what == OnDepletion::FallBack,
            None => self.on_full == OnFull::Fallback,
        };
        if falls_back {
            all.extend(found.beyond);
        }
        all.retain(|&node| self.is_placed(node) || self.names(&tenant.policy, node));
        if tenant.emergency == Emergency::On {
            all.extend(found.emergency);
        }
        let allowed = |node: &NodeId| {
            let quota = tenant.quotas.get(&kind(*node));
            let never_moves = tenant.migration == Migration::Never;
            let promised = self.nodes[index(*node)].zone.is_movable_only();
            !(never_moves && promised) && quota.is_none_or(|quota| quota.access == Access::Allowed)
        };
        all.into_iter().filter(allowed).map(index).collect()
    }

    fn is_placed(&self, node: NodeId) -> bool {
        let node = usize::from(node.0);
        match self.placement {
            [] => self.nodes[node].class == NodeClass::Public,
            placement => placement.contains(&node),
        }
    }

    /// Where requests start without a placement.
    fn first_public(&self) -> usize {
        let public = self.nodes.iter().enumerate().filter(|(_, n)| n.class == NodeClass::Public);
        public.min_by_key(|(index, node)| (node.kind, *index)).map_or(0, |(index, _)| index)
    }

    /// Whether a policy names a node. Whoever says that a device works on memory means the device's
    /// own.
    fn names(&self, policy: &MemPolicy, node: NodeId) -> bool {
        match &policy.mode {
            Mode::Local => false,
            Mode::Preferred(one) => *one == node,
            Mode::Bind(mask)
            | Mode::PreferredMany(mask)
            | Mode::Interleave(mask)
            | Mode::WeightedInterleave(mask) => mask.contains(node),
            Mode::AccessedBy(_) => self.nodes[usize::from(node.0)].class == NodeClass::Special,
        }
    }
}
