//! What an engine is made from: nodes, the order of placement, policy, limits, and what an
//! earlier engine left behind.

use alloc::{string::String, vec::Vec};
use core::time::Duration;

use crate::{
    mempolicy::{WeightError, Weighting},
    nodes::{CapabilityError, NodeClass, ZonelistError},
    onlining::OnlineZone,
    tenant::{TenantConfig, TenantError},
    tiers::{Access, accessor::AccessError},
};
use memtide_units::{ByteSize, Extent, ImageId, Instant, MemberId, NodeId, NodeKind, Pageblock};

/// Everything that an engine is told once.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Config {
    /// The nodes.
    pub nodes: Vec<NodeConfig>,
    /// From which nodes leases and the destinations of moves come; requests start at the first.
    /// Public nodes. One that is not named is not used for either, except when a policy or a
    /// [`crate::Input::MoveTo`] names it. Empty: all public nodes, the near ones first, then the
    /// far ones, each in the order of `nodes`.
    pub placement: Vec<NodeId>,
    /// Distances from one node to another, as ACPI's SLIT has them: 10 to itself, more to others,
    /// 255 for unreachable. They decide in which order nodes are tried. Empty: the further down
    /// `placement` a node is, the further away it is from all others.
    pub distances: Vec<(NodeId, NodeId, u8)>,
    /// The weights of the weighted interleave: by bandwidth, or as in `weights`.
    pub weighting: Weighting,
    /// Weights of nodes by hand, 1 to 255.
    pub weights: Vec<(NodeId, u8)>,
    /// What processors and devices have to the nodes. Where memory lies that more than one of them
    /// accesses follows this, and where it is placed under [`crate::mempolicy::Mode::AccessedBy`];
    /// empty: nothing is known, the first does not, and there is none of the second.
    pub accessors: Vec<Access>,
    /// Who may have what. Of several that fit a program, the first counts.
    pub tenants: Vec<TenantConfig>,
    /// How much of anything.
    pub limits: Limits,
    /// The first image name to give to a fresh program; an earlier engine used those below.
    pub next_image: ImageId,
    /// Processes of an earlier engine.
    pub awaited: Awaited,
}

impl Config {
    /// Nodes, and for all else what is usual: near first, promises count, nobody is awaited.
    #[must_use]
    pub fn new(nodes: Vec<NodeConfig>) -> Self {
        Self {
            nodes,
            placement: Vec::new(),
            distances: Vec::new(),
            weighting: Weighting::Automatic,
            weights: Vec::new(),
            accessors: Vec::new(),
            tenants: alloc::vec![TenantConfig::everybody("everybody")],
            limits: Limits::default(),
            next_image: ImageId(1),
            awaited: Awaited::default(),
        }
    }
}

/// One node.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct NodeConfig {
    /// Its name in the engine.
    pub node: NodeId,
    /// Its name for people.
    pub name: String,
    /// Near, far, or of a device: what quotas are about.
    pub kind: NodeKind,
    /// Who reaches it.
    pub class: NodeClass,
    /// How fast it is.
    pub performance: Performance,
    /// Its first pageblock; the spans of two nodes must not overlap, but may touch.
    pub first: Pageblock,
    /// Its pageblocks: a whole number of blocks.
    pub pageblocks: u64,
    /// Pageblocks in a block, the unit of hot-plug: a power of two.
    pub block_pageblocks: u64,
    /// Whole blocks that are offline from the start.
    pub offline: Vec<Extent>,
    /// The zone of its blocks: of those that are there at the start, and of those that come later
    /// unless it is said otherwise. Where it is [`OnlineZone::Exmem`], all are in that.
    pub zone: OnlineZone,
    /// Whole blocks that are in another zone at the start, as an earlier engine had them
    /// ([`crate::Engine::zones`]). What of them is offline is none the less.
    pub zones: Vec<(Extent, OnlineZone)>,
}

impl NodeConfig {
    /// A public node of blocks of one pageblock, all online where anything may lie, nothing known
    /// of its speed.
    #[must_use]
    pub fn new(
        node: NodeId,
        name: &str,
        kind: NodeKind,
        first: Pageblock,
        pageblocks: u64,
    ) -> Self {
        Self {
            node,
            name: String::from(name),
            kind,
            class: NodeClass::Public,
            performance: Performance::default(),
            first,
            pageblocks,
            block_pageblocks: 1,
            offline: Vec::new(),
            zone: OnlineZone::default(),
            zones: Vec::new(),
        }
    }
}

/// How fast a node is, as the processors near it see it (HMAT, CDAT). 0: not known.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Performance {
    /// Nanoseconds to read.
    pub read_latency_ns: u32,
    /// Nanoseconds to write.
    pub write_latency_ns: u32,
    /// MiB a second, reading.
    pub read_bandwidth_mib: u32,
    /// MiB a second, writing.
    pub write_bandwidth_mib: u32,
}

/// How much of anything.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Limits {
    /// Most pairs in one order to move.
    pub pairs_per_order_max: u32,
    /// Most pairs that one process has not answered yet, over all its orders.
    pub pairs_in_flight_max: u32,
    /// How long a process may leave orders unanswered, without answering any, before it counts
    /// as not responding.
    pub stall_after: Duration,
    /// Most give-backs and moves at once; and as many hints of programs ([`crate::Input::Mbind`]),
    /// of one process a quarter of them.
    pub requests_max: u32,
    /// Most leases and promises that wait.
    pub leases_queued_max: u32,
    /// How long a request waits for memory that is on its way back, whatever its tenant says.
    pub patience: Duration,
    /// Memory that nobody accessed for so long is idle.
    pub idle_after: Duration,
    /// Memory that was moved for the sake of balance stays where it is for so long.
    pub settle_for: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            pairs_per_order_max: 32,
            pairs_in_flight_max: 64,
            stall_after: Duration::from_secs(5),
            requests_max: 64,
            leases_queued_max: 4096,
            patience: Duration::from_secs(1),
            idle_after: Duration::from_secs(10),
            settle_for: Duration::from_secs(10),
        }
    }
}

/// Processes of an earlier engine that are expected to come back and say what they hold. Until
/// all have, or are gone, or the time is up, nothing is taken from the pool.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Awaited {
    /// Who.
    pub members: Vec<MemberId>,
    /// Until when. Whoever has not returned then loses what it holds: it must be known to be gone,
    /// for a process of the same image may be given the same pageblocks of the same file. A
    /// caller that finds out about deaths ([`crate::Input::AwaitedGone`]) does best to say
    /// `Instant(Duration::MAX)`.
    pub until: Instant,
}

/// Why a span and a block size do not make a node.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LayoutError {
    /// A block of no, or not a power of two, pageblocks.
    #[error("a block of {block_pageblocks} pageblocks; expected a power of two")]
    BlockSize {
        /// Pageblocks in a block.
        block_pageblocks: u64,
    },
    /// No pageblocks, or not a whole number of blocks.
    #[error(
        "a node of {pageblocks} pageblocks; expected one or more whole blocks of {block_pageblocks}"
    )]
    Size {
        /// Pageblocks in the node.
        pageblocks: u64,
        /// Pageblocks in a block.
        block_pageblocks: u64,
    },
    /// There is no memory for what describes the node.
    #[error("{size} of memory that describe a node of {pageblocks} pageblocks cannot be had")]
    Memory {
        /// Pageblocks in the node.
        pageblocks: u64,
        /// How much memory it takes.
        size: ByteSize,
    },
    /// More pageblocks than a node may have, or frames of them would have no number.
    #[error(
        "a node of {pageblocks} pageblocks from {first}; expected 2^26 at most, below number 2^55"
    )]
    Span {
        /// The first pageblock.
        first: Pageblock,
        /// Pageblocks in the node.
        pageblocks: u64,
    },
}

/// Why a configuration is none.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// No node at all.
    #[error("no nodes; expected one or more")]
    NoNodes,
    /// Two nodes of one name.
    #[error("{node} is there twice")]
    NodeTwice {
        /// The name.
        node: NodeId,
    },
    /// The numbers of a node do not fit together.
    #[error("{node}: {source}")]
    Layout {
        /// Which.
        node: NodeId,
        /// How.
        source: LayoutError,
    },
    /// Two nodes claim the same pageblock.
    #[error("{node} starts at {first}, inside {other}")]
    Overlap {
        /// The second.
        node: NodeId,
        /// Where it starts.
        first: Pageblock,
        /// The first.
        other: NodeId,
    },
    /// The placement names a node that is not there, or one twice, or one that is not public.
    #[error("placement names {node}, which is not there, not public, or named twice")]
    Placement {
        /// Which.
        node: NodeId,
    },
    /// An offline extent is not made of whole blocks of its node, or there twice.
    #[error("{node}: offline {extent} is not made of whole blocks of it, each named once")]
    Offline {
        /// Which node.
        node: NodeId,
        /// Which extent.
        extent: Extent,
    },
    /// Blocks with a zone of their own that are not whole, named twice, or in EXMEM where the node
    /// is not, or the other way round.
    #[error(
        "{node}: {extent} in zone {zone}; expected whole blocks of it, each named once, and all \
         or none of it in exmem"
    )]
    Zone {
        /// Which node.
        node: NodeId,
        /// Which extent.
        extent: Extent,
        /// Which zone.
        zone: OnlineZone,
    },
    /// A limit of zero, or more pairs in an order than in flight.
    #[error("{limit} is {value}; expected at least {least}")]
    Limit {
        /// Which.
        limit: &'static str,
        /// Its value.
        value: u32,
        /// The least allowed.
        least: u32,
    },
    /// A distance is missing, or not one.
    #[error(transparent)]
    Distance(#[from] ZonelistError),
    /// A weight of a node makes no sense.
    #[error(transparent)]
    Weight(#[from] WeightError),
    /// What the owner of a private node permits does not fit together.
    #[error("{node}: {source}")]
    Capability {
        /// Which node.
        node: NodeId,
        /// What.
        source: CapabilityError,
    },
    /// What an accessor has to a node makes no sense.
    #[error(transparent)]
    Access(#[from] AccessError),
    /// Distances, weights or accessors of a node that is not there.
    #[error("{field} names {node}, which is not there")]
    NoSuchNode {
        /// Which field.
        field: &'static str,
        /// Which node.
        node: NodeId,
    },
    /// No tenants, or too many.
    #[error("{tenants} tenants; expected 1 to {most}")]
    Tenants {
        /// How many there are.
        tenants: usize,
        /// How many there may be.
        most: usize,
    },
    /// Two tenants of one name.
    #[error("tenant {name:?} is there twice")]
    TenantTwice {
        /// The name.
        name: String,
    },
    /// Something of a tenant makes no sense.
    #[error("tenant {name:?}: {source}")]
    Tenant {
        /// Its name.
        name: String,
        /// What.
        source: TenantError,
    },
    /// More is guaranteed than there is.
    #[error("{guaranteed} pageblocks of {kind} memory are guaranteed; expected {present} at most")]
    Guarantees {
        /// Of which kind.
        kind: NodeKind,
        /// What is guaranteed to all tenants together.
        guaranteed: u64,
        /// What there is.
        present: u64,
    },
    /// More is guaranteed to who is never moved than there is where that may lie.
    #[error(
        "{guaranteed} pageblocks of {kind} memory are guaranteed to tenants that are never moved; \
         expected {present} at most, which is what lies outside of zones for what can move"
    )]
    GuaranteesNeverMoved {
        /// Of which kind.
        kind: NodeKind,
        /// What is guaranteed to all such tenants together.
        guaranteed: u64,
        /// What nodes have whose zone is neither MOVABLE nor EXMEM.
        present: u64,
    },
}
