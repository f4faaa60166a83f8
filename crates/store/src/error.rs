//! What can be wrong with stores and their files.

use std::io;

use memtide_units::ByteSize;

/// Why a store cannot be had, or a file not be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// The kernel's pool has too few huge pages.
    #[error(
        "{needed} huge pages of 2 MiB are needed, {available} are available; run: sysctl -w \
         vm.nr_hugepages={suggested}"
    )]
    TooFewHugePages {
        /// How many it takes.
        needed: u64,
        /// How many there are.
        available: u64,
        /// The setting that would do.
        suggested: u64,
    },
    /// The kernel makes no transparent huge pages for shared memory.
    #[error(
        "transparent huge pages for shared memory are set to {setting:?}; run: echo advise > \
         /sys/kernel/mm/transparent_hugepage/shmem_enabled"
    )]
    NoTransparentHugePages {
        /// How they are set.
        setting: String,
    },
    /// The kernel knows no such pages.
    #[error("this kernel has no {what}")]
    Unsupported {
        /// What it lacks.
        what: &'static str,
        /// How that showed.
        source: io::Error,
    },
    /// The file that a returning process brought is not one of this node.
    #[error("the file is not a memory file of {size}, sealed as this program makes them")]
    ForeignFile {
        /// The size that was expected.
        size: ByteSize,
    },
    /// The NUMA node that a node is to lie on has no memory.
    #[error("numa of node {node} is {numa}, which has no memory; expected one of {known}")]
    NoNumaMemory {
        /// The node.
        node: String,
        /// The NUMA node.
        numa: u16,
        /// Those that have memory.
        known: String,
    },
    /// There is no such NUMA node, and will be none.
    #[error(
        "numa of node {node} is {numa}, which there is not; expected one that this kernel may \
         have: {possible}"
    )]
    NoNumaNode {
        /// The node.
        node: String,
        /// The NUMA node.
        numa: u16,
        /// Those that there may be.
        possible: String,
    },
    /// The daemon may not have memory of that NUMA node.
    #[error(
        "numa of node {node} is {numa}, of which this daemon's cpuset lets it have none; expected \
         one of {allowed}"
    )]
    NumaNotAllowed {
        /// The node.
        node: String,
        /// The NUMA node.
        numa: u16,
        /// Those of the cpuset.
        allowed: String,
    },
    /// The NUMA node does not bear what is to lie there.
    #[error(
        "nodes {nodes}: {needed} are more than NUMA node {numa} has to give now; expected at most \
         {usable}"
    )]
    NumaTooSmall {
        /// The nodes of the pool that lie there.
        nodes: String,
        /// The NUMA node.
        numa: u16,
        /// What they are to have.
        needed: ByteSize,
        /// What there is.
        usable: ByteSize,
    },
    /// A memory file is to take its pages from where there is no memory any more.
    #[error(
        "a memory file of node {node} cannot be bound to NUMA node {numa}, which has no memory \
         that this daemon may use"
    )]
    NumaMemoryGone {
        /// The node.
        node: String,
        /// The NUMA node.
        numa: u16,
    },
    /// A memory file does not take its pages from where it should.
    #[error("a memory file of node {node} cannot be bound to NUMA node {numa}")]
    Bind {
        /// The node.
        node: String,
        /// The NUMA node.
        numa: u16,
        /// Why not.
        source: io::Error,
    },
    /// A system call failed.
    #[error("{what}")]
    Io {
        /// While doing what.
        what: &'static str,
        /// How.
        source: io::Error,
    },
}
