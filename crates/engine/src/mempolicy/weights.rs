//! Weights of the weighted interleave: by hand, or by bandwidth.
//!
//! A node of weight 3 gets three pageblocks in turn where one of weight 1 gets one. Spread in
//! proportion to bandwidth, a scan of all of it keeps every node busy to its end; spread in
//! another, the node with too large a share is still busy when the others are done. So weights
//! follow the bandwidths (the smaller of reading and writing, as `mempolicy_set_node_perf` has it),
//! and follow them again whenever one changes: a link that was renegotiated to half its width
//! should get half the memory from now on. Memory that is placed already stays; moving it is not
//! what weights do.
//!
//! Somebody who writes a weight knows better: from then on weights stay as they are
//! ([`Weighting::Manual`]).
//!
//! There are two ways from bandwidths to weights of 1 to 255; see [`reduce_interleave_weights`] and
//! [`proportional_weights`].

use alloc::{collections::BTreeMap, vec::Vec};

use memtide_units::NodeId;

use super::Errno;
use crate::config::Performance;

mod proportional_weights;
mod reduce_interleave_weights;

pub use self::{
    proportional_weights::proportional_weights,
    reduce_interleave_weights::{WEIGHTINESS, reduce_interleave_weights},
};

/// The weights of all nodes, 1 to 255.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Weights {
    by_node: BTreeMap<NodeId, u8>,
    bandwidths: BTreeMap<NodeId, u32>,
    weighting: Weighting,
}

/// Who sets the weights.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Weighting {
    /// They follow the bandwidths, as closely as need be ([`proportional_weights`]).
    #[default]
    Automatic,
    /// They follow the bandwidths as Linux has it ([`reduce_interleave_weights`]).
    AsLinux,
    /// They stay as they were written.
    Manual,
}

/// Why weights are refused. All of them are `EINVAL` to Linux.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum WeightError {
    /// A weight of 0, or a large one.
    #[error("the weight of {node} is {weight}; expected 1 to 255")]
    Range {
        /// Whose.
        node: NodeId,
        /// Which.
        weight: u32,
    },
    /// Two weights for one node.
    #[error("the weight of {node} is there twice")]
    Twice {
        /// Whose.
        node: NodeId,
    },
    /// A weight by hand where weights follow the bandwidths.
    #[error("{node} has a weight by hand, but weights are automatic; expected one or the other")]
    Automatic {
        /// Whose.
        node: NodeId,
    },
}

impl WeightError {
    /// The kernel's number for it.
    #[must_use]
    pub const fn errno(&self) -> Errno {
        Errno::EINVAL
    }
}

impl Weights {
    /// Weights of nodes so fast. `by_hand` is for [`Weighting::Manual`]; a node that it does not
    /// name weighs 1.
    ///
    /// # Errors
    /// [`WeightError`].
    pub fn new(
        weighting: Weighting,
        by_hand: &[(NodeId, u8)],
        performance: &[(NodeId, Performance)],
    ) -> Result<Self, WeightError> {
        let mut weights = Self { weighting, ..Self::default() };
        for (node, performance) in performance {
            weights.bandwidths.insert(*node, bandwidth(performance));
        }
        match (weighting, by_hand.first()) {
            (Weighting::Automatic | Weighting::AsLinux, Some(&(node, _))) => {
                return Err(WeightError::Automatic { node });
            }
            (Weighting::Automatic | Weighting::AsLinux, None) => weights.follow(),
            (Weighting::Manual, _) => {
                for &(node, weight) in by_hand {
                    if weights.by_node.contains_key(&node) {
                        return Err(WeightError::Twice { node });
                    }
                    weights.write(node, u32::from(weight))?;
                }
            }
        }
        Ok(weights)
    }

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

    /// Writes a weight by hand. From then on all stay as they are, those of the other nodes too.
    ///
    /// # Errors
    /// [`WeightError::Range`]; then nothing has changed.
    pub fn write(&mut self, node: NodeId, weight: u32) -> Result<(), WeightError> {
        let valid = u8::try_from(weight).ok().filter(|&weight| weight > 0);
        let Some(valid) = valid else {
            return Err(WeightError::Range { node, weight });
        };
        self.by_node.insert(node, valid);
        self.weighting = Weighting::Manual;
        Ok(())
    }

    /// A node is so fast now (`mempolicy_set_node_perf`).
    pub fn set_performance(&mut self, node: NodeId, performance: &Performance) {
        self.bandwidths.insert(node, bandwidth(performance));
        self.follow();
    }

    fn follow(&mut self) {
        self.by_node = match self.weighting {
            Weighting::Automatic => proportional_weights(&self.bandwidths()),
            Weighting::AsLinux => reduce_interleave_weights(&self.bandwidths()),
            Weighting::Manual => return,
        };
    }

    fn bandwidths(&self) -> Vec<(NodeId, u32)> {
        self.bandwidths.iter().map(|(&node, &bandwidth)| (node, bandwidth)).collect()
    }
}

/// What counts of a node's speed, in MiB a second.
fn bandwidth(performance: &Performance) -> u32 {
    performance.read_bandwidth_mib.min(performance.write_bandwidth_mib)
}

#[cfg(test)]
mod tests;
