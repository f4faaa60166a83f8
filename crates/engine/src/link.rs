//! A node becomes faster or slower: its link was renegotiated, or a switch on its way is loaded.
//!
//! Automatic weights follow at once, and so do tiers, which are worked out when something makes
//! way, and what accessors have to the node, in proportion, with the order in which nodes are tried
//! for them. Nothing that lies somewhere is moved for it at once. (Linux does the same: weights are
//! for new allocations only.) What several access may follow later, as it is accessed.

use memtide_units::{NodeId, NodeKind};

use crate::{
    config::Performance,
    engine::Engine,
    refusal::Refusal,
    tiers::{
        AdistanceError, DramReference, MemoryTiers, TierNode,
        abstract_distance::{ADISTANCE_DRAM, ADISTANCE_KMEM},
    },
};

impl Engine {
    pub(crate) fn link_changed(
        &mut self,
        node: NodeId,
        performance: Performance,
    ) -> Result<(), Refusal> {
        let index = self.pool.index_of(node).ok_or(Refusal::NoSuchNode { node })?;
        self.accessors.scale(node, &self.performance[index], &performance);
        self.performance[index] = performance;
        self.weights.set_performance(node, &performance);
        Ok(())
    }

    /// The tiers of the nodes, by how fast they are now, with the near ones for a measure. A node
    /// of which latency or bandwidth is not known, or that there is nothing to compare with, is as
    /// far as the processors' own memory if it is near, else as far as memory that came by dax
    /// ([`ADISTANCE_KMEM`]). Who is next is a matter of the distances as configured.
    ///
    /// # Errors
    /// [`AdistanceError`] when near nodes differ too much.
    pub fn tiers(&self) -> Result<MemoryTiers, AdistanceError> {
        let nodes = || self.pool.nodes().iter().zip(&self.performance);
        let mut reference = DramReference::default();
        let near = || nodes().filter(|(node, _)| node.kind == NodeKind::Near);
        for (node, performance) in near() {
            match reference.set(node.id, performance) {
                Ok(()) | Err(AdistanceError::Unknown { .. }) => {}
                Err(error) => return Err(error),
            }
        }
        let mut all = alloc::vec::Vec::new();
        for (node, performance) in nodes() {
            let class = self.zonelists.class(node.id).unwrap_or_default();
            let adistance = match reference.adistance(performance) {
                Ok(adistance) => adistance,
                Err(_) if node.kind == NodeKind::Near => ADISTANCE_DRAM,
                Err(_) => ADISTANCE_KMEM,
            };
            all.push(TierNode { node: node.id, class, adistance });
        }
        let distance = |from, to| self.zonelists.distance(from, to);
        Ok(MemoryTiers::establish(&all, distance))
    }

    /// The weight of a node for the weighted interleave.
    #[must_use]
    pub fn weight_of(&self, node: NodeId) -> u8 {
        self.weights.of(node)
    }
}
