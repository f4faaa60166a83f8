//! Which nodes are on one step, and where a step down leads to (mm/memory-tiers.c).
//!
//! Nodes whose abstract distances fall into one chunk form a tier. A cold page goes to the nearest
//! nodes of the next tier below its own, and if those are full, to any that lies further below
//! (`establish_demotion_targets`). A tier of which nothing can take pages is passed over.
//!
//! Up, pages do not go by tiers here but to where their policies, or those who access them, have
//! them ([`super::accessor`]). So it is not asked which tiers are the top (`node_is_toptier`).
//!
//! What takes demoted pages: public nodes, and private ones whose owner permits it
//! ([`Capability::Demotion`]). Never a special node, since nobody named it. What gives them away:
//! all but private nodes whose owner does not permit reclaim.
//!
//! Only nodes that have memory are told of here. When the first memory of a node arrives or the
//! last leaves, tiers are worked out anew.

use alloc::collections::BTreeMap;

use memtide_units::NodeId;

use super::abstract_distance::tier;
use crate::nodes::{Capability, NodeClass, NodeMask};

/// A node that has memory.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct TierNode {
    /// Which.
    pub node: NodeId,
    /// Who reaches it.
    pub class: NodeClass,
    /// How far it is ([`super::DramReference::adistance`]).
    pub adistance: u32,
}

/// The tiers of a machine.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct MemoryTiers {
    tiers: BTreeMap<u32, NodeMask>,
    tier_of: BTreeMap<NodeId, u32>,
    preferred: BTreeMap<NodeId, NodeMask>,
    allowed: BTreeMap<NodeId, NodeMask>,
}

impl MemoryTiers {
    /// The tiers of these nodes; of one that is named twice the last counts. `distance` is as
    /// ACPI's SLIT has it; a node that has none to another, or 255, demotes nothing to it.
    #[must_use]
    pub fn establish(nodes: &[TierNode], distance: impl Fn(NodeId, NodeId) -> Option<u8>) -> Self {
        let nodes: BTreeMap<NodeId, &TierNode> =
            nodes.iter().map(|node| (node.node, node)).collect();
        let mut made = Self::default();
        for (&node, of) in &nodes {
            made.tiers.entry(tier(of.adistance)).or_default().insert(node);
            made.tier_of.insert(node, tier(of.adistance));
        }
        for of in nodes.values().filter(|of| gives(of.class)) {
            made.establish_demotion_targets(of, &nodes, &distance);
        }
        made
    }

    /// The targets of one node.
    fn establish_demotion_targets(
        &mut self,
        of: &TierNode,
        nodes: &BTreeMap<NodeId, &TierNode>,
        distance: impl Fn(NodeId, NodeId) -> Option<u8>,
    ) {
        let reached = |&to: &NodeId| match distance(of.node, to) {
            Some(far) if far < u8::MAX && takes(nodes[&to].class) => Some(far),
            _ => None,
        };
        let mut allowed = NodeMask::default();
        let mut preferred = NodeMask::default();
        for (_, mask) in self.tiers.range(self.tier_of[&of.node] + 1..) {
            let targets: NodeMask = mask.iter().filter(|to| reached(to).is_some()).collect();
            if preferred.is_empty() {
                let nearest = targets.iter().filter_map(|to| reached(&to)).min();
                preferred = targets.iter().filter(|to| reached(to) == nearest).collect();
            }
            allowed = allowed.or(&targets);
        }
        self.preferred.insert(of.node, preferred);
        self.allowed.insert(of.node, allowed);
    }

    /// The tier of a node, if it has memory: lower is better.
    #[must_use]
    pub fn tier_of(&self, node: NodeId) -> Option<u32> {
        self.tier_of.get(&node).copied()
    }

    /// Where cold pages of a node go: one of these (`node_demotion[].preferred`).
    #[must_use]
    pub fn preferred(&self, node: NodeId) -> NodeMask {
        self.preferred.get(&node).cloned().unwrap_or_default()
    }

    /// Where they may go if those are full: anywhere below (`node_get_allowed_targets`).
    #[must_use]
    pub fn allowed(&self, node: NodeId) -> NodeMask {
        self.allowed.get(&node).cloned().unwrap_or_default()
    }
}

fn takes(class: NodeClass) -> bool {
    match class {
        NodeClass::Public => true,
        NodeClass::Special => false,
        NodeClass::Private(capabilities) => capabilities.has(Capability::Demotion),
    }
}

fn gives(class: NodeClass) -> bool {
    match class {
        NodeClass::Public | NodeClass::Special => true,
        NodeClass::Private(capabilities) => capabilities.has(Capability::Reclaim),
    }
}

#[cfg(test)]
mod tests;
