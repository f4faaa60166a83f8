//! Where a request may go, best first.

use alloc::vec::Vec;

use memtide_units::{NodeId, NodeKind};

use super::MemPolicy;
use crate::nodes::Zonelists;

/// Where a request may go.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Candidates {
    /// What the policy allows, best first. For the interleaving policies: among which it is spread.
    pub policy: Vec<NodeId>,
    /// Where it may go beyond that if the tenant falls back, best first: public nodes that the
    /// policy leaves out.
    pub beyond: Vec<NodeId>,
    /// Special nodes that it may go to in an emergency, when all else is exhausted.
    pub emergency: Vec<NodeId>,
}

/// Where a request under a policy that starts at `local` may go. The policy makes sense
/// ([`MemPolicy::check`]). Every node is in one list at most.
#[must_use]
pub fn candidates(
    policy: &MemPolicy,
    local: NodeId,
    zonelists: &Zonelists,
    kind: impl Fn(NodeId) -> NodeKind,
) -> Candidates {
    let _ = (policy, local, zonelists, kind);
    Candidates::default()
}
