//! Why something was placed where it is, or refused: which rule, which numbers.
//!
//! The engine keeps the last [`DECISIONS_MAX`] decisions of every tenant. Equal ones in a row are
//! kept once, with how often.

use alloc::vec::Vec;

use memtide_units::{Instant, MemberId, NodeId, NodeKind};

/// Decisions kept of one tenant.
pub const DECISIONS_MAX: usize = 64;

/// One decision.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Decision {
    /// When it was last taken.
    pub at: Instant,
    /// How often in a row.
    pub times: u64,
    /// For whom.
    pub member: MemberId,
    /// What was asked for.
    pub asked: Asked,
    /// What came of it.
    pub outcome: Outcome,
    /// What decided that: what stood in the way, in the order in which nodes were tried, and why
    /// they were tried in this order.
    pub rules: Vec<Rule>,
}

/// What was asked for. Amounts are pageblocks.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum Asked {
    /// To have so many now.
    Lease(u64),
    /// To be promised so many more.
    Promise(u64),
}

/// What came of it.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum Outcome {
    /// Placed: how many pageblocks on which node.
    Placed(Vec<(NodeId, u64)>),
    /// Placed, but in part elsewhere than the policy says.
    FellBack(Vec<(NodeId, u64)>),
    /// Placed, in part on special memory, because all else was exhausted.
    Emergency(Vec<(NodeId, u64)>),
    /// Promised.
    Promised,
    /// It waits, until then at most.
    Waits(Instant),
    /// Refused.
    Refused,
    /// Refused after it had waited.
    TimedOut,
}

/// What decided. All but [`Rule::AccessedBy`] stood in the way. Amounts are pageblocks. Exhaustive,
/// so that whoever tells of rules names them all.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Rule {
    /// The tenant may not use this kind.
    NoAccess {
        /// Which.
        node: NodeId,
        /// Its kind.
        kind: NodeKind,
    },
    /// The tenant has its maximum of this kind.
    Maximum {
        /// Which.
        node: NodeId,
        /// Its kind.
        kind: NodeKind,
        /// What it has.
        used: u64,
        /// What it may have.
        max: u64,
    },
    /// What is free is guaranteed to others.
    Guaranteed {
        /// Which.
        node: NodeId,
        /// What is free on nodes of this kind.
        free: u64,
        /// What of it others are sure to get.
        reserved: u64,
    },
    /// What is free is promised to programs that have nothing to fall back on.
    Promised {
        /// Which.
        node: NodeId,
        /// What this tenant could have of it otherwise.
        free: u64,
    },
    /// Others wait for promises.
    Queue {
        /// Of how much.
        before: u64,
    },
    /// Nothing is free.
    Full {
        /// Which.
        node: NodeId,
    },
    /// It is not to move, and what is free lies in zones where all must be able to.
    MovableOnly {
        /// Which.
        node: NodeId,
        /// What was missing in the end, with what it gave.
        asked: u64,
        /// What was free of it then where anything may lie.
        kernel: u64,
        /// What is free of it in the other zones.
        movable: u64,
    },
    /// The node was tried in its turn by what it costs those who access the memory.
    AccessedBy {
        /// Which.
        node: NodeId,
        /// Nanoseconds that an access takes them on average.
        latency_ns: u64,
        /// MiB a second that each of them has at least; 0: not known.
        bandwidth_mib: u64,
    },
    /// The node's memory has not arrived yet, or has left.
    NoCapacity {
        /// Which.
        node: NodeId,
    },
    /// Special memory is used in an emergency only, and this tenant may not even then.
    NoEmergency {
        /// Which.
        node: NodeId,
    },
    /// The node is being evacuated.
    Evacuating {
        /// Which.
        node: NodeId,
    },
    /// The process waits for what it asked for before.
    Earlier {
        /// How many wishes of it wait.
        wishes: u64,
    },
    /// Programs of an earlier engine have not said yet what they hold.
    Recovery {
        /// How many.
        awaited: u64,
    },
    /// Promises are made within too many different sets of nodes already.
    Masks {
        /// How many are counted.
        most: u64,
    },
    /// All that may be promised is promised.
    Promises {
        /// To whom.
        scope: Scope,
        /// What would be promised then, with what is guaranteed to other tenants.
        promised: u64,
        /// What may be.
        most: u64,
    },
}

/// Whose promises are counted.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Scope {
    /// Those of the process: what its policy lets it have.
    Process,
    /// Those of its tenant.
    Tenant,
    /// All those that need the same nodes.
    Pool,
}
