//! Memory near those who will access it, whoever asks for it.
//!
//! `MPOL_LOCAL` is near the processor that asks, which serves a program that uses itself what it
//! asks for. A buffer for a device is asked for by a processor and used by the device, and what is
//! near for the one is far for the other. So a request may say who will access the memory, and how
//! often in proportion to each other ([`Mode::AccessedBy`]). Nodes then come in the order of what
//! an access costs those ([`AccessTable`]): the mean of their latencies, of equal ones the larger
//! bandwidth, then the number.
//!
//! Linux begins an allocation for a device at the device's own node (`dev_to_node`) and goes on
//! along the zonelist of that node. So it is here: the node that costs them least is theirs, be it
//! public or special, and the candidates are those of its FALLBACK list, itself and the public
//! nodes ([`crate::nodes::Zonelists`]). Special memory so goes to who says that its device works on
//! it, and to no other without being named. Private memory is nobody's but by being bound to. Any
//! other special node takes it in an emergency only, as always, in the same order.
//!
//! What one of them cannot reach is no place for the memory: such a node is a candidate in no leg
//! of the route, nor for moves away from a node. Nodes outside the placement are none either; a
//! special one is in no placement, and counts as named.
//!
//! Which nodes are candidates is settled when the policy is set. Their order is worked out whenever
//! it matters ([`Engine::as_now`]), for links become faster and slower meanwhile
//! ([`crate::Input::LinkChanged`]). Promises are counted on the nodes that can be reached, not on
//! their order, and so stay as they are.
//!
//! All other policies mean what they say: who will access the memory changes nothing in where it
//! is placed. (What several are seen to access may follow them later, along its route:
//! `crate::heat`.)

use alloc::{borrow::Cow, collections::BTreeSet, vec::Vec};

use memtide_units::{AccessorId, NodeId};

use super::{Mode, PolicyError, policy::ACCESSORS_MAX};
use crate::{
    decision::Rule,
    engine::Engine,
    nodes::{NodeClass, Zonelists},
    place::Route,
    tiers::{AccessTable, Cost},
};

/// Whether there is a place for memory that these access.
pub(super) fn check(
    by: &[(AccessorId, u64)],
    zonelists: &Zonelists,
    accessors: &AccessTable,
) -> Result<(), PolicyError> {
    if by.len() > ACCESSORS_MAX {
        let (accessors, most) = (by.len(), ACCESSORS_MAX);
        return Err(PolicyError::TooManyAccessors { accessors, most });
    }
    let mut known = BTreeSet::new();
    if let Some(&(accessor, _)) = by.iter().find(|&&(accessor, _)| !known.insert(accessor)) {
        return Err(PolicyError::AccessorTwice { accessor });
    }
    let count = by.iter().filter(|&&(_, times)| times > 0).count();
    if count == 0 {
        return Err(PolicyError::NoAccessors);
    }
    if zonelist(&accessors.reached_by(by), zonelists).is_empty() {
        return Err(PolicyError::NotReached { accessors: count });
    }
    Ok(())
}

/// The FALLBACK list of the node that is theirs, of the nodes that they reach and in their order:
/// the best first.
pub(super) fn zonelist(reached: &[NodeId], zonelists: &Zonelists) -> Vec<NodeId> {
    let class = |node: NodeId| zonelists.class(node);
    let is_start = |class| matches!(class, Some(NodeClass::Public | NodeClass::Special));
    let start = reached.iter().copied().find(|&node| is_start(class(node)));
    let is_listed = |&node: &NodeId| class(node) == Some(NodeClass::Public) || Some(node) == start;
    reached.iter().copied().filter(is_listed).collect()
}

impl Engine {
    /// A route with its nodes in the order in which they are tried now.
    pub(crate) fn as_now<'a>(&self, route: &'a Route) -> Cow<'a, Route> {
        let Mode::AccessedBy(by) = &route.policy.mode else { return Cow::Borrowed(route) };
        let rank = |&node: &usize| self.accessors.rank(by, self.pool.nodes()[node].id);
        let mut now = route.clone();
        now.nodes.sort_by_cached_key(rank);
        now.emergency.sort_by_cached_key(rank);
        Cow::Owned(now)
    }

    /// What decided when a node of a route is tried, if that is what it costs.
    pub(crate) fn cost_of(&self, route: &Route, node: usize) -> Option<Rule> {
        let Mode::AccessedBy(by) = &route.policy.mode else { return None };
        let node = self.pool.nodes()[node].id;
        let Cost { latency_ns, bandwidth_mib } = self.accessors.cost(by, node)?;
        Some(Rule::AccessedBy { node, latency_ns, bandwidth_mib })
    }
}

#[cfg(test)]
mod tests;
