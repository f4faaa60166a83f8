//! Weights of the weighted interleave: by hand, or by bandwidth.

use alloc::collections::BTreeMap;

use memtide_units::NodeId;

/// The weights of all nodes, 1 to 255.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Weights {
    by_node: BTreeMap<NodeId, u8>,
    weighting: Weighting,
}

/// Who sets the weights.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Weighting {
    /// They follow the bandwidths.
    #[default]
    Automatic,
    /// They stay as they were written.
    Manual,
}

impl Weights {
    /// The weight of a node; 1 if nothing else is known.
    #[must_use]
    pub fn of(&self, node: NodeId) -> u8 {
        self.by_node.get(&node).copied().unwrap_or(1)
    }

    /// Who sets them.
    #[must_use]
    pub const fn weighting(&self) -> Weighting {
        self.weighting
    }
}
