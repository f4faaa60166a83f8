//! A node becomes faster or slower: its link was renegotiated, or a switch on its way is loaded.
//!
//! Automatic weights follow at once, and so do tiers, which are worked out when they are asked
//! for. Both are about memory that is placed from now on: nothing that lies somewhere is moved for
//! it. (Linux does the same: weights are for new allocations only.)

use memtide_units::{NodeId, NodeKind};

use crate::{
    config::Performance,
    engine::Engine,
    nodes::NodeMask,
    refusal::Refusal,
    tiers::{AdistanceError, DramReference, MemoryTiers, TierNode},
};

impl Engine {
    pub(crate) fn link_changed(
        &mut self,
        node: NodeId,
        performance: Performance,
    ) -> Result<(), Refusal> {
        let index = self.pool.index_of(node).ok_or(Refusal::NoSuchNode { node })?;
        self.performance[index] = performance;
        self.weights.set_performance(node, &performance);
        Ok(())
    }

    /// The tiers of the nodes, by how fast they are now: those whose speed is known, with the near
    /// ones for a measure.
    ///
    /// # Errors
    /// [`AdistanceError`] when no near node's speed is known, or near nodes differ too much.
    pub fn tiers(&self) -> Result<MemoryTiers, AdistanceError> {
        let nodes = || self.pool.nodes().iter().zip(&self.performance);
        let known = |performance: &Performance| *performance != Performance::default();
        let mut reference = DramReference::default();
        let near = || nodes().filter(|(node, _)| node.kind == NodeKind::Near);
        for (node, performance) in near().filter(|(_, performance)| known(performance)) {
            reference.set(node.id, performance)?;
        }
        let mut all = alloc::vec::Vec::new();
        for (node, performance) in nodes().filter(|(_, performance)| known(performance)) {
            let class = self.zonelists.class(node.id).unwrap_or_default();
            let adistance = reference.adistance(performance)?;
            all.push(TierNode { node: node.id, class, adistance });
        }
        let processors: NodeMask = near().map(|(node, _)| node.id).collect();
        // Where nothing else is said a step down may lead anywhere below.
        Ok(MemoryTiers::establish(&all, &processors, |_, _| Some(20)))
    }

    /// The weight of a node for the weighted interleave.
    #[must_use]
    pub fn weight_of(&self, node: NodeId) -> u8 {
        self.weights.of(node)
    }
}
