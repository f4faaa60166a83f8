//! The policies, and why one is refused.

use memtide_units::NodeId;

use crate::nodes::{NodeMask, Zonelists};

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
}

/// Whether extended (EXMEM) memory is asked for: nodes that are not [`memtide_units::NodeKind::Near`].
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

    /// Whether the policy makes sense on these nodes. A node of no capacity does: the policy takes
    /// effect when capacity arrives.
    ///
    /// # Errors
    /// [`PolicyError`].
    pub fn check(&self, zonelists: &Zonelists) -> Result<(), PolicyError> {
        let _ = zonelists;
        Ok(())
    }
}
