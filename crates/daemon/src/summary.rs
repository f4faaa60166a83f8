//! What a daemon has seen, for those who ask when it is over.

use memtide_units::ByteSize;

/// What happened from start to end.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Summary {
    /// The nodes, in the order of the configuration.
    pub nodes: Vec<NodeSummary>,
    /// Processes that ever joined.
    pub joined: u64,
    /// Processes that are still there.
    pub remaining: Vec<u32>,
    /// Bytes moved between nodes.
    pub moved: ByteSize,
    /// Bytes that left through give-backs.
    pub returned: ByteSize,
    /// The most ordinary memory that one program used because the pool had none.
    pub overflow_peak: ByteSize,
}

/// What happened on one node.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct NodeSummary {
    /// Its name.
    pub name: String,
    /// Its size.
    pub size: ByteSize,
    /// The most that was leased at once.
    pub leased_peak: ByteSize,
}
