//! Where a request may go, best first.
//!
//! A policy names nodes; the zonelist of the node where the request starts puts them in order
//! (`policy_nodemask` and `policy_zonelist`, mm/mempolicy.c). Local and preferred take the list as
//! it is, bind only what its mask names, preferred-many first what its mask names. The interleaving
//! policies take their nodes by number, as `next_node_in` does. A policy that names no nodes but
//! who accesses the memory has an order of its own ([`Mode::AccessedBy`]).
//!
//! Special and private nodes are in the lists of no other node, so a mask that names one would not
//! reach it. The proposal for coherent devices has a rule for it: if the node where a bind starts
//! is not in the mask and the first node of the mask is a coherent device, the list of that one is
//! used. The same serves private nodes, whose private list is the only one that has them. Linux
//! leaves it at that: of two devices in a mask the second is never used. Whoever names a node
//! means it, so here those that the list does not reach come after those that it does, the nearest
//! first. What Linux's rule gives is always the front part of what is given here.
//!
//! EXMEM narrows every list to one sort of nodes. Whoever asks for it is to fail rather than get
//! near memory, and the other way round; so that goes for falling back and for emergencies too.
//!
//! It is not asked whether a node has room, or any memory at all: that is for whoever walks the
//! list.

use alloc::vec::Vec;

use memtide_units::NodeId;

use super::{Extended, MemPolicy, Mode, accessed_by};
use crate::{
    nodes::{Capability, NodeClass, NodeMask, Zonelists},
    tiers::AccessTable,
};

/// Where a request may go.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Candidates {
    /// What the policy allows, best first. For the interleaving policies: among which it is spread.
    pub policy: Vec<NodeId>,
    /// Where it may go beyond that if the tenant falls back, best first: public nodes that the
    /// policy leaves out. None if the policy names a private node whose owner does not let requests
    /// fall back ([`Capability::Fallback`]).
    pub beyond: Vec<NodeId>,
    /// Special nodes that it may go to in an emergency, when all else is exhausted, the nearest
    /// first; under the same condition.
    pub emergency: Vec<NodeId>,
}

/// Where a request under a policy that starts at `local` may go. The policy makes sense
/// ([`MemPolicy::check`]). Which nodes are extended memory is the pool's to say. Every node is in
/// one list at most; one that cannot be reached from `local`, or by one of those who access the
/// memory, is in none.
#[must_use]
pub fn candidates(
    policy: &MemPolicy,
    local: NodeId,
    zonelists: &Zonelists,
    accessors: &AccessTable,
    is_extended: impl Fn(NodeId) -> bool,
) -> Candidates {
    let nearest = match &policy.mode {
        Mode::AccessedBy(by) => accessors.reached_by(by),
        _ => zonelists.nearest(local).to_vec(),
    };
    let allowed =
        |node: &NodeId| policy.extended.allows(is_extended(*node)) && nearest.contains(node);
    let mut listed = listed(&policy.mode, local, &nearest, zonelists);
    listed.retain(allowed);

    let class = |node: NodeId| zonelists.class(node);
    let rest = |of: NodeClass| {
        let left_out = nearest.iter().copied().filter(|&node| class(node) == Some(of));
        left_out.filter(|node| allowed(node) && !listed.contains(node)).collect()
    };
    let (beyond, emergency) = if policy.mode.stays(zonelists) {
        (Vec::new(), Vec::new())
    } else {
        (rest(NodeClass::Public), rest(NodeClass::Special))
    };
    Candidates { policy: listed, beyond, emergency }
}

/// What a mode allows, best first, of whatever kind; of what is reached.
fn listed(mode: &Mode, local: NodeId, reached: &[NodeId], zonelists: &Zonelists) -> Vec<NodeId> {
    match mode {
        Mode::Local => unnamed(local, zonelists),
        Mode::Preferred(node) => zonelist(*node, zonelists).to_vec(),
        Mode::Bind(mask) => named(mask, start(mask, local, zonelists), local, zonelists),
        Mode::PreferredMany(mask) => {
            let mut nodes = named(mask, local, local, zonelists);
            let others = unnamed(local, zonelists).into_iter();
            nodes.extend(others.filter(|&node| !mask.contains(node)));
            nodes
        }
        Mode::Interleave(mask) | Mode::WeightedInterleave(mask) => mask.iter().collect(),
        Mode::AccessedBy(_) => accessed_by::zonelist(reached, zonelists),
    }
}

/// Where a request goes that names nothing. A private node has no such list: one that starts there
/// goes to the public nodes.
fn unnamed(local: NodeId, zonelists: &Zonelists) -> Vec<NodeId> {
    match zonelists.class(local) {
        Some(NodeClass::Private(_)) => {
            let public = |node: &NodeId| zonelists.class(*node) == Some(NodeClass::Public);
            zonelists.nearest(local).iter().copied().filter(public).collect()
        }
        _ => zonelists.fallback(local).to_vec(),
    }
}

/// The list that has a node that is named.
fn zonelist(node: NodeId, zonelists: &Zonelists) -> &[NodeId] {
    match zonelists.class(node) {
        Some(NodeClass::Private(_)) => zonelists.private(node),
        _ => zonelists.fallback(node),
    }
}

/// The node whose list a bind walks: the local one, unless only the first node of the mask has a
/// list that reaches the mask's nodes.
fn start(mask: &NodeMask, local: NodeId, zonelists: &Zonelists) -> NodeId {
    let hidden = |node: &NodeId| zonelists.class(*node) != Some(NodeClass::Public);
    match mask.first().filter(hidden) {
        Some(first) if !mask.contains(local) => first,
        _ => local,
    }
}

/// The nodes of a mask: those in the list of `start` in its order, then the rest, the nearest
/// first.
fn named(mask: &NodeMask, start: NodeId, local: NodeId, zonelists: &Zonelists) -> Vec<NodeId> {
    let in_mask = |node: &&NodeId| mask.contains(**node);
    let mut nodes: Vec<NodeId> =
        zonelist(start, zonelists).iter().filter(in_mask).copied().collect();
    for node in zonelists.nearest(local).iter().filter(in_mask) {
        if !nodes.contains(node) {
            nodes.push(*node);
        }
    }
    nodes
}

impl Mode {
    /// Whether it names a private node whose owner does not let requests go elsewhere.
    fn stays(&self, zonelists: &Zonelists) -> bool {
        let keeps = |node: NodeId| match zonelists.class(node) {
            Some(NodeClass::Private(capabilities)) => !capabilities.has(Capability::Fallback),
            _ => false,
        };
        // No other mode may name one.
        matches!(self, Self::Bind(mask) if mask.iter().any(keeps))
    }
}

impl Extended {
    /// Whether memory will do that is extended, or is not.
    #[must_use]
    pub const fn allows(self, is_extended: bool) -> bool {
        match self {
            Self::Any => true,
            Self::Only => is_extended,
            Self::Never => !is_extended,
        }
    }
}

#[cfg(test)]
mod tests;
