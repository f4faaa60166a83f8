//! The order of fallback, as `build_zonelists` (mm/page_alloc.c) makes it, with the rules for
//! special and private nodes.
//!
//! A request starts at a node, and where that has no room it goes to the next best one. Which that
//! is depends on nothing but distance and class, so it is worked out once, for every node to start
//! from. There is a list for each way to ask:
//!
//! | starts at | FALLBACK | NOFALLBACK | private list |
//! |---|---|---|---|
//! | public | itself, the other public nodes by distance | itself | – |
//! | special | itself, the public nodes by distance | itself | – |
//! | private | – | – | itself; with [`Capability::Fallback`] then the public nodes |
//!
//! So special memory is in nobody's way: no request comes to it that did not start there, and a
//! special node never falls back to another. Private memory is not even reached by whoever asks
//! for this node alone (`__GFP_THISNODE`, the NOFALLBACK list): only its private list has it.
//!
//! The order among nodes is that of `find_next_best_node`: by distance; at the same distance those
//! that come after the node before those that come before it, so that not everybody overflows to
//! the first node. Linux goes on to prefer, at a distance that differs by one at most, nodes
//! without processors and nodes that fewer others overflow to first. Both are left out: what the
//! first tells apart is told by the distance itself here, and the second makes the order of one
//! node depend on which others were looked at before it.

use alloc::{collections::BTreeMap, vec::Vec};

use memtide_units::NodeId;

use super::{Capability, NodeClass, class::CapabilityError};

/// Distance of a node to itself (`LOCAL_DISTANCE`).
pub const LOCAL_DISTANCE: u8 = 10;

/// Distance of a node that cannot be reached.
pub const UNREACHABLE: u8 = 255;

/// Why there are no zonelists.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ZonelistError {
    /// A distance is missing, or not one.
    #[error(
        "the distance from {from} to {to} is {}; expected 10 to itself, 11 to 254 to others, \
         or 255 for unreachable",
        Shown(*distance)
    )]
    Distance {
        /// From.
        from: NodeId,
        /// To.
        to: NodeId,
        /// What was there.
        distance: Option<u8>,
    },
    /// Two nodes of one name.
    #[error("{node} is there twice")]
    NodeTwice {
        /// Which.
        node: NodeId,
    },
    /// What the owner of a private node permits makes no sense.
    #[error("{node}: {source}")]
    Capabilities {
        /// Which.
        node: NodeId,
        /// Why.
        source: CapabilityError,
    },
}

/// A distance in a message.
struct Shown(Option<u8>);

impl core::fmt::Display for Shown {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self.0 {
            Some(distance) => write!(f, "{distance}"),
            None => f.write_str("missing"),
        }
    }
}

/// For every node, where a request that starts there may go.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Zonelists {
    lists: BTreeMap<NodeId, Lists>,
    classes: BTreeMap<NodeId, NodeClass>,
    distances: BTreeMap<(NodeId, NodeId), u8>,
}

#[derive(Clone, PartialEq, Eq, Debug, Default)]
struct Lists {
    nearest: Vec<NodeId>,
    fallback: Vec<NodeId>,
    nofallback: Vec<NodeId>,
    private: Vec<NodeId>,
}

impl Zonelists {
    /// The lists of these nodes. `distance(from, to)` is as ACPI's SLIT has it: 10 to itself, more
    /// to others, 255 for unreachable: such a node is in no list of the other. Equally distant
    /// nodes come in the order of `nodes`, those after the node itself first.
    ///
    /// # Errors
    /// [`ZonelistError`].
    pub fn build(
        nodes: &[(NodeId, NodeClass)],
        distance: impl Fn(NodeId, NodeId) -> Option<u8>,
    ) -> Result<Self, ZonelistError> {
        let mut zonelists = Self::default();
        for &(node, class) in nodes {
            if zonelists.classes.insert(node, class).is_some() {
                return Err(ZonelistError::NodeTwice { node });
            }
            if let NodeClass::Private(capabilities) = class {
                let check = capabilities.check();
                check.map_err(|source| ZonelistError::Capabilities { node, source })?;
            }
        }
        for (place, &(node, class)) in nodes.iter().enumerate() {
            let nearest = by_distance(nodes, place, &distance)?;
            for &to in &nearest {
                zonelists.distances.extend(distance(node, to).map(|far| ((node, to), far)));
            }
            let lists = Lists::build(node, class, nearest, &zonelists.classes);
            zonelists.lists.insert(node, lists);
        }
        Ok(zonelists)
    }

    /// `ZONELIST_FALLBACK` of a node: where a request that starts there may go, best first. Empty
    /// for a private node.
    #[must_use]
    pub fn fallback(&self, node: NodeId) -> &[NodeId] {
        self.lists.get(&node).map_or(&[], |lists| &lists.fallback)
    }

    /// `ZONELIST_NOFALLBACK` of a node: itself. Empty for a private node.
    #[must_use]
    pub fn nofallback(&self, node: NodeId) -> &[NodeId] {
        self.lists.get(&node).map_or(&[], |lists| &lists.nofallback)
    }

    /// The private zonelist of a private node: itself, then what its FALLBACK capability adds.
    #[must_use]
    pub fn private(&self, node: NodeId) -> &[NodeId] {
        self.lists.get(&node).map_or(&[], |lists| &lists.private)
    }

    /// All nodes that can be reached from a node, whatever their class: itself, then the nearest
    /// first.
    #[must_use]
    pub fn nearest(&self, node: NodeId) -> &[NodeId] {
        self.lists.get(&node).map_or(&[], |lists| &lists.nearest)
    }

    /// How far one node is from another that can be reached from it.
    #[must_use]
    pub fn distance(&self, from: NodeId, to: NodeId) -> Option<u8> {
        self.distances.get(&(from, to)).copied()
    }

    /// The class of a node, if there is one of this name.
    #[must_use]
    pub fn class(&self, node: NodeId) -> Option<NodeClass> {
        self.classes.get(&node).copied()
    }
}

impl Lists {
    fn build(
        node: NodeId,
        class: NodeClass,
        nearest: Vec<NodeId>,
        classes: &BTreeMap<NodeId, NodeClass>,
    ) -> Self {
        let public = |at: &NodeId| *at != node && classes.get(at) == Some(&NodeClass::Public);
        let with_public = || core::iter::once(node).chain(nearest.iter().copied().filter(public));
        match class {
            NodeClass::Public | NodeClass::Special => Self {
                fallback: with_public().collect(),
                nofallback: alloc::vec![node],
                private: Vec::new(),
                nearest,
            },
            NodeClass::Private(capabilities) => {
                let falls_back = capabilities.has(Capability::Fallback);
                let count = if falls_back { usize::MAX } else { 1 };
                Self { private: with_public().take(count).collect(), nearest, ..Self::default() }
            }
        }
    }
}

/// All that can be reached from the node at a place, as `find_next_best_node` finds them.
fn by_distance(
    nodes: &[(NodeId, NodeClass)],
    place: usize,
    distance: impl Fn(NodeId, NodeId) -> Option<u8>,
) -> Result<Vec<NodeId>, ZonelistError> {
    let from = nodes[place].0;
    let mut order = Vec::with_capacity(nodes.len());
    for (at, &(to, _)) in nodes.iter().enumerate() {
        let far = distance(from, to);
        match far {
            Some(LOCAL_DISTANCE) if at == place => order.push((LOCAL_DISTANCE, false, at)),
            Some(UNREACHABLE) if at != place => {}
            Some(far) if at != place && far > LOCAL_DISTANCE => order.push((far, at < place, at)),
            _ => return Err(ZonelistError::Distance { from, to, distance: far }),
        }
    }
    order.sort_unstable();
    Ok(order.into_iter().map(|(_, _, at)| nodes[at].0).collect())
}

#[cfg(test)]
mod tests;
