//! The policies, and why one is refused.
//!
//! What `mpol_new` and `mpol_set_nodemask` (mm/mempolicy.c) refuse is refused here, with the same
//! number. Two things differ, for the better:
//!
//! * Linux drops from a mask whatever is not there, and refuses the policy only if nothing is left.
//!   Here each name must be one of a node, so that a slip of the pen is found at once.
//! * To Linux a node without memory is not there. Here it is: its policy takes effect when
//!   capacity arrives. Which nodes have capacity is therefore not even asked.
//!
//! Private nodes (the proposal of 2026): none but bind may name one, else `EINVAL`; and bind only
//! if its owner lets users place memory. That is `EPERM` here. Its revisions leave such a node out
//! of the mask, which ends as `EINVAL` if nothing else is named; but it is there and the policy is
//! well-formed, and who is told "not permitted" knows whom to ask.

use alloc::vec::Vec;

use memtide_units::{AccessorId, NodeId};

use super::accessed_by;
use crate::{
    nodes::{Capability, NodeClass, NodeMask, Zonelists},
    tiers::AccessTable,
};

/// Accessors that a policy names at most.
pub const ACCESSORS_MAX: usize = 64;

/// Where memory goes.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct MemPolicy {
    /// Which nodes, in which order.
    pub mode: Mode,
    /// Whether extended memory is asked for, or avoided.
    pub extended: Extended,
}

/// Which nodes, in which order.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub enum Mode {
    /// `MPOL_LOCAL`: near the processor that asks, then the order of fallback.
    #[default]
    Local,
    /// `MPOL_BIND`: these and no others.
    Bind(NodeMask),
    /// `MPOL_PREFERRED`: this one, then the order of fallback.
    Preferred(NodeId),
    /// `MPOL_PREFERRED_MANY`: these, then the order of fallback.
    PreferredMany(NodeMask),
    /// `MPOL_INTERLEAVE`: these in turn.
    Interleave(NodeMask),
    /// `MPOL_WEIGHTED_INTERLEAVE`: these in turn, each as often as it weighs.
    WeightedInterleave(NodeMask),
    /// Near those who will access it, whoever asks, then further from them: who, and how often in
    /// proportion to each other; each once, and [`ACCESSORS_MAX`] at most. One that is there with
    /// 0 does not count.
    AccessedBy(Vec<(AccessorId, u64)>),
}

/// Whether extended (EXMEM) memory is asked for: nodes that are not
/// [`memtide_units::NodeKind::Near`], and those in the zone EXMEM
/// ([`crate::onlining::OnlineZone::Exmem`]), whatever their kind.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Extended {
    /// Nothing is said: any.
    #[default]
    Any,
    /// `MPOL_F_ZONE_EXMEM`: only extended memory, else fail.
    Only,
    /// `MPOL_F_ZONE_NOEXMEM`: none of it.
    Never,
}

/// The kernel's number for an error.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[allow(clippy::upper_case_acronyms)]
pub enum Errno {
    /// Invalid argument.
    EINVAL,
    /// Not permitted.
    EPERM,
    /// Out of memory.
    ENOMEM,
    /// Does not exist.
    ENOENT,
    /// Input/output error.
    EIO,
    /// In use.
    EBUSY,
}

/// Why a policy is refused.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PolicyError {
    /// No node named where one is needed.
    #[error("the policy names no node; expected one or more")]
    NoNodes,
    /// A node that is not there.
    #[error("the policy names {node}, which is not there")]
    NoSuchNode {
        /// Which.
        node: NodeId,
    },
    /// A private node in a policy other than bind.
    #[error("the policy names {node}, which is private; expected it in bind only")]
    PrivateNode {
        /// Which.
        node: NodeId,
    },
    /// Nobody named where whoever accesses the memory is.
    #[error("the policy names nobody who accesses the memory; expected one accessor or more")]
    NoAccessors,
    /// Too many of them.
    #[error("the policy names {accessors} accessors of the memory; expected {most} at most")]
    TooManyAccessors {
        /// How many.
        accessors: usize,
        /// [`ACCESSORS_MAX`].
        most: usize,
    },
    /// One of them twice.
    #[error("the policy names {accessor} twice; expected each accessor once")]
    AccessorTwice {
        /// Which.
        accessor: AccessorId,
    },
    /// No node for all who access the memory.
    #[error(
        "the policy is for memory that {accessors} accessors use; expected a node that is not \
         private and that all of them reach"
    )]
    NotReached {
        /// How many.
        accessors: usize,
    },
    /// A private node whose owner does not let users bind to it.
    #[error("the policy binds to {node}, whose owner does not permit user placement")]
    NotPermitted {
        /// Which.
        node: NodeId,
    },
}

impl PolicyError {
    /// The kernel's number for it.
    #[must_use]
    pub const fn errno(&self) -> Errno {
        match self {
            Self::NotPermitted { .. } => Errno::EPERM,
            _ => Errno::EINVAL,
        }
    }
}

impl MemPolicy {
    /// Near the processor, then the order of fallback.
    pub const LOCAL: Self = Self { mode: Mode::Local, extended: Extended::Any };

    /// Whether the policy makes sense on these nodes, which these accessors reach. A node of no
    /// capacity does: the policy takes effect when capacity arrives.
    ///
    /// # Errors
    /// [`PolicyError`].
    pub fn check(&self, zonelists: &Zonelists, accessors: &AccessTable) -> Result<(), PolicyError> {
        match &self.mode {
            Mode::Local => Ok(()),
            Mode::AccessedBy(by) => accessed_by::check(by, zonelists, accessors),
            Mode::Preferred(node) => check_named(*node, zonelists),
            Mode::Bind(mask) => check_mask(mask, |node| check_bound(node, zonelists)),
            Mode::PreferredMany(mask) | Mode::Interleave(mask) | Mode::WeightedInterleave(mask) => {
                check_mask(mask, |node| check_named(node, zonelists))
            }
        }
    }
}

/// `mpol_new`: all modes but local need a node.
fn check_mask(
    mask: &NodeMask,
    check: impl Fn(NodeId) -> Result<(), PolicyError>,
) -> Result<(), PolicyError> {
    if mask.is_empty() {
        return Err(PolicyError::NoNodes);
    }
    mask.iter().try_for_each(check)
}

fn check_named(node: NodeId, zonelists: &Zonelists) -> Result<(), PolicyError> {
    match zonelists.class(node) {
        None => Err(PolicyError::NoSuchNode { node }),
        Some(NodeClass::Private(_)) => Err(PolicyError::PrivateNode { node }),
        Some(NodeClass::Public | NodeClass::Special) => Ok(()),
    }
}

fn check_bound(node: NodeId, zonelists: &Zonelists) -> Result<(), PolicyError> {
    match zonelists.class(node) {
        Some(NodeClass::Private(capabilities)) if capabilities.has(Capability::UserNuma) => Ok(()),
        Some(NodeClass::Private(_)) => Err(PolicyError::NotPermitted { node }),
        _ => check_named(node, zonelists),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nodes::Capabilities;

    const USER: Capabilities = Capabilities::NONE.with(Capability::UserNuma);

    /// 0 public, 1 special, 2 private, 3 private and open to users; 4 is not there.
    fn zonelists() -> Zonelists {
        let nodes = [
            (NodeId(0), NodeClass::Public),
            (NodeId(1), NodeClass::Special),
            (NodeId(2), NodeClass::Private(Capabilities::NONE)),
            (NodeId(3), NodeClass::Private(USER)),
        ];
        Zonelists::build(&nodes, |a, b| Some(if a == b { 10 } else { 20 })).unwrap()
    }

    fn mask(nodes: &[u16]) -> NodeMask {
        nodes.iter().map(|&node| NodeId(node)).collect()
    }

    fn check(mode: Mode) -> Result<(), PolicyError> {
        let policy = MemPolicy { mode, extended: Extended::Any };
        policy.check(&zonelists(), &AccessTable::default())
    }

    const WITH_MASK: [fn(NodeMask) -> Mode; 4] =
        [Mode::Bind, Mode::PreferredMany, Mode::Interleave, Mode::WeightedInterleave];

    #[test]
    fn an_empty_mask_is_einval() {
        for mode in WITH_MASK {
            let error = check(mode(mask(&[]))).unwrap_err();
            assert_eq!((error, error.errno()), (PolicyError::NoNodes, Errno::EINVAL));
        }
        assert_eq!(check(Mode::Local), Ok(()));
    }

    #[test]
    fn a_node_that_is_not_there_is_einval() {
        let error = PolicyError::NoSuchNode { node: NodeId(4) };
        assert_eq!(error.errno(), Errno::EINVAL);
        for mode in WITH_MASK {
            assert_eq!(check(mode(mask(&[0, 4]))), Err(error));
        }
        assert_eq!(check(Mode::Preferred(NodeId(4))), Err(error));
    }

    #[test]
    fn a_private_node_in_other_than_bind_is_einval() {
        for node in [2, 3] {
            let error = PolicyError::PrivateNode { node: NodeId(node) };
            assert_eq!(error.errno(), Errno::EINVAL);
            for mode in &WITH_MASK[1..] {
                assert_eq!(check(mode(mask(&[0, node]))), Err(error));
            }
            assert_eq!(check(Mode::Preferred(NodeId(node))), Err(error));
        }
    }

    #[test]
    fn bind_to_a_private_node_needs_user_numa() {
        assert_eq!(check(Mode::Bind(mask(&[0, 3]))), Ok(()));
        let error = check(Mode::Bind(mask(&[2, 3]))).unwrap_err();
        assert_eq!(error, PolicyError::NotPermitted { node: NodeId(2) });
        assert_eq!(error.errno(), Errno::EPERM);
    }

    #[test]
    fn special_nodes_may_be_named_in_every_mode() {
        for mode in WITH_MASK {
            assert_eq!(check(mode(mask(&[0, 1]))), Ok(()));
        }
        assert_eq!(check(Mode::Preferred(NodeId(1))), Ok(()));
    }
}
