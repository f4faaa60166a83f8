//! Placing the memory of a running program: every page that is not where it should be is moved, as
//! far as it moves, and of the rest it is said why.
//!
//! Where it should be is a list of *tiers*, each a set of nodes. A page on a node of no tier moves
//! to the first tier that has room; one on a lower tier moves up while a higher one has room; one
//! on the first tier stays. All tiers but the last take only what fits above their watermarks
//! ([`super::room`]): filling them further would push out what others have there. The last takes
//! what the kernel lets in.
//!
//! Nothing is set in the program: it is not stopped, and what it touches first from now on comes
//! from where its own policy says. While it runs, it maps, unmaps, forks and ends; a page that is
//! gone when its turn comes counts for nothing, and a program that ends, ends the work. Pages that
//! other processes map as well (libraries, shared memory, what a fork still shares) stay, unless
//! asked for: moving them is moving others' memory, and needs `CAP_SYS_NICE`.
//!
//! The work goes range by range with a bounded number of addresses in hand, so that a program of
//! terabytes takes no more memory here than a small one. What was held is tried once more at the
//! end: most transfers are over by then. When the deadline comes, the rest is only counted.

use std::{collections::BTreeMap, fmt, time::Instant};

use memtide_sys::numa::{NodeSet, Process, WhichPages};
use memtide_units::{ByteSize, NodeId};

use super::{
    held::Holder,
    nodes::parse_list,
    numa_maps::on_nodes,
    program::{Program, ProgramError},
    room::above_watermarks,
};
use crate::{ReadError, Root};

mod work;

use work::Work;

/// What is to be done.
#[derive(Clone, Debug)]
pub struct Placing {
    /// Where memory should be, the best first; at least one, none of them empty, no node twice.
    pub tiers: Vec<NodeSet>,
    /// Whether pages that others map as well move too.
    pub which: WhichPages,
    /// When to stop, at the latest.
    pub deadline: Option<Instant>,
    /// Whether it is done.
    pub doing: Doing,
}

/// Whether pages are moved, or only counted.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Doing {
    /// They are moved.
    Moving,
    /// They are counted, against the room that there is.
    Counting,
}

/// Why memory stayed where it should not be.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Reason {
    /// Somebody holds it: most likely this.
    Held(Holder),
    /// The kernel does not move this kind of mapping.
    Unmovable,
    /// No node that it should be on has room.
    NoRoom,
    /// The node has no memory any more.
    NodeGone,
    /// The program's cpuset keeps it off the node.
    NotAllowed,
    /// The deadline came first.
    Deadline,
}

impl Reason {
    /// The stable name, as it stands in JSON.
    #[must_use]
    pub const fn code(self) -> &'static str {
        match self {
            Self::Held(Holder::IoUring) => "io-uring",
            Self::Held(Holder::Rdma) => "rdma",
            Self::Held(Holder::DeviceDma) => "device-dma",
            Self::Held(Holder::Pipe) => "pipe",
            Self::Held(Holder::Unknown) => "held",
            Self::Unmovable => "unmovable",
            Self::NoRoom => "no-room",
            Self::NodeGone => "node-gone",
            Self::NotAllowed => "not-allowed",
            Self::Deadline => "deadline",
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Held(Holder::IoUring) => "registered with an io_uring, which holds it",
            Self::Held(Holder::Rdma) => "held, most likely for the RDMA device that it has open",
            Self::Held(Holder::DeviceDma) => {
                "held, most likely for the device that it has open (VFIO, vhost, a GPU)"
            }
            Self::Held(Holder::Pipe) => "held, maybe by a pipe that was given it (vmsplice)",
            Self::Held(Holder::Unknown) => "held: a transfer is under way, or the kernel uses it",
            Self::Unmovable => "the kernel does not move this kind of mapping",
            Self::NoRoom => "the nodes have no room for it",
            Self::NodeGone => "the node has no memory any more",
            Self::NotAllowed => "its cpuset keeps it off the node",
            Self::Deadline => "the deadline came first",
        })
    }
}

/// How the work ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Ended {
    /// Everything was looked at.
    Whole,
    /// The deadline came.
    Deadline,
    /// The program ended meanwhile.
    WithProgram,
    /// The program has become one that may not be touched (it ran a program of other rights).
    NotPermitted,
}

/// What was done.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Placed {
    /// What has moved; when counting, what would.
    pub moved: ByteSize,
    /// What stayed, and why.
    pub stayed: BTreeMap<Reason, ByteSize>,
    /// What is elsewhere and stays because others map it as well.
    pub shared: ByteSize,
    /// The program's memory on each node before.
    pub before: BTreeMap<NodeId, ByteSize>,
    /// And after; nothing if it has ended.
    pub after: BTreeMap<NodeId, ByteSize>,
    /// How it ended.
    pub ended: Ended,
}

/// Why nothing was done.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PlacingError {
    /// A node cannot take anything.
    #[error("{node} has no memory: expected some of the nodes {having}")]
    NoMemory {
        /// Which node.
        node: NodeId,
        /// Nodes that have memory.
        having: Box<NodeSet>,
    },
    /// A node is not for this program.
    #[error("{node} is not for process {pid}: its cpuset allows the nodes {allowed}")]
    NotAllowed {
        /// Which node.
        node: NodeId,
        /// Whose.
        pid: u32,
        /// Which are.
        allowed: Box<NodeSet>,
    },
    /// A node is near and far.
    #[error("{node} is in two lists: expected each node in one")]
    Twice {
        /// Which node.
        node: NodeId,
    },
    /// There is nowhere to go.
    #[error("no nodes: expected at least one list, and at least one node in each")]
    NoNodes,
    /// Shared pages are not ours to move.
    #[error(
        "memory that other programs map as well cannot be moved without CAP_SYS_NICE; run as \
         root, or leave the shared memory where it is"
    )]
    Shared,
    /// The process cannot be looked at.
    #[error(transparent)]
    Program(#[from] ProgramError),
    /// The machine cannot be.
    #[error(transparent)]
    Machine(#[from] ReadError),
    /// The machine says nonsense.
    #[error("/sys/devices/system/node/has_memory")]
    Nodes(#[from] super::nodes::NodeListError),
}

/// Places the memory of a program of this machine. `progress` hears how many bytes of how many have
/// been looked at.
///
/// # Errors
/// [`PlacingError`]; then nothing was changed.
pub fn place(
    program: &Program,
    placing: &Placing,
    progress: impl FnMut(u64, u64),
) -> Result<Placed, PlacingError> {
    let root = Root::live();
    check(&root, program, placing)?;
    let before = on_nodes(&program.numa_maps()?);
    let mappings = program.mappings()?;
    let mover = Process::Other(program.pid());
    let rooms = above_watermarks(&root)?;
    let mut work = Work::new(placing, mover, program.holders(), rooms, before);
    work.all(program, &mappings, progress)?;
    if work.placed.ended != Ended::WithProgram {
        work.placed.after = program.numa_maps().map(|maps| on_nodes(&maps)).unwrap_or_default();
    }
    Ok(work.placed)
}

/// The nodes of this machine that have memory.
///
/// # Errors
/// [`PlacingError::Machine`], [`PlacingError::Nodes`].
pub fn nodes_with_memory(root: &Root) -> Result<NodeSet, PlacingError> {
    let list = root.text("sys/devices/system/node/has_memory")?;
    // A kernel without NUMA has one node, and no such file.
    Ok(parse_list(list.as_deref().unwrap_or("0"))?)
}

fn check(root: &Root, program: &Program, placing: &Placing) -> Result<(), PlacingError> {
    if placing.tiers.is_empty() || placing.tiers.iter().any(NodeSet::is_empty) {
        return Err(PlacingError::NoNodes);
    }
    let having = nodes_with_memory(root)?;
    let allowed = program.allowed_nodes()?.unwrap_or(having);
    let mut seen = NodeSet::EMPTY;
    for tier in &placing.tiers {
        if let Some(node) = tier.intersection(&seen).iter().next() {
            return Err(PlacingError::Twice { node });
        }
        seen = seen.union(tier);
    }
    if let Some(node) = seen.difference(&having).iter().next() {
        return Err(PlacingError::NoMemory { node, having: Box::new(having) });
    }
    if let Some(node) = seen.difference(&allowed).iter().next() {
        let allowed = Box::new(allowed);
        return Err(PlacingError::NotAllowed { node, pid: program.pid(), allowed });
    }
    if placing.which == WhichPages::Shared && !has_sys_nice(root)? {
        return Err(PlacingError::Shared);
    }
    Ok(())
}

/// Whether this process has `CAP_SYS_NICE` (23, `include/uapi/linux/capability.h`) in effect.
fn has_sys_nice(root: &Root) -> Result<bool, PlacingError> {
    let status = root.text("proc/self/status")?.unwrap_or_default();
    let effective = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
    let effective = effective.and_then(|bits| u64::from_str_radix(bits.trim(), 16).ok());
    Ok(effective.is_some_and(|bits| bits & (1 << 23) != 0))
}

#[cfg(test)]
mod tests;
