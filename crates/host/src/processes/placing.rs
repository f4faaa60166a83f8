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
//! terabytes takes no more memory here than a small one. When the deadline comes, the rest is only
//! counted.

use std::{collections::BTreeMap, fmt, time::Instant};

use memtide_sys::numa::{NodeSet, PageStatus, Process, WhichPages};
use memtide_units::{ByteSize, NodeId};
use rustix::io::Errno;

use super::{
    held::{Holder, Holders},
    mappings::{Mapping, Migratable},
    nodes::parse_list,
    numa_maps::on_nodes,
    pagemap::MappedBy,
    pages::{Fate, HugePages, Mover, Stays, move_batch},
    program::{Program, ProgramError},
    room::above_watermarks,
};
use crate::{ReadError, Root};

/// Bytes of addresses that are looked at in one go; a page at least.
const CHUNK: u64 = 64 << 20;
/// Pages that are moved in one go: some milliseconds' worth, so that a deadline is kept.
const BATCH: usize = 1 << 11;

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
    let zoneinfo = root.text("proc/zoneinfo")?.unwrap_or_default();
    let mut work = Work {
        placing,
        mover: Process::Other(program.pid()),
        holders: program.holders(),
        rooms: above_watermarks(&zoneinfo),
        full: NodeSet::EMPTY,
        placed: Placed {
            moved: ByteSize(0),
            stayed: BTreeMap::new(),
            shared: ByteSize(0),
            before,
            after: BTreeMap::new(),
            ended: Ended::Whole,
        },
    };
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

/// The work under way.
struct Work<'p, M> {
    placing: &'p Placing,
    mover: M,
    holders: Holders,
    rooms: BTreeMap<NodeId, ByteSize>,
    /// Nodes that take no more.
    full: NodeSet,
    placed: Placed,
}

/// Pages of one mapping that are in the same case.
struct Pages {
    addresses: Vec<usize>,
    page_bytes: u64,
    huge: HugePages,
    /// How many tiers, from the first, they may move to.
    tiers: usize,
}

impl<M: Mover> Work<'_, M> {
    fn all(
        &mut self,
        program: &Program,
        mappings: &[Mapping],
        mut progress: impl FnMut(u64, u64),
    ) -> Result<(), PlacingError> {
        let pagemap = program.pagemap()?;
        let resident = mappings.iter().fold(0, |sum: u64, map| sum.saturating_add(map.resident));
        let mut done: u64 = 0;
        let of_its_own = |map: &&Mapping| map.resident > 0 && map.migratable != Migratable::Kernel;
        for mapping in mappings.iter().filter(of_its_own) {
            let mut start = mapping.start;
            while start < mapping.end {
                let end = start.saturating_add(CHUNK.max(mapping.page_bytes)).min(mapping.end);
                // Another process may have the number by now.
                let there = program.is_there();
                let present = pagemap.present(start..end, mapping.page_bytes);
                let (true, Ok(present)) = (there, present) else {
                    self.placed.ended = Ended::WithProgram;
                    return Ok(());
                };
                done = done.saturating_add(present.len() as u64 * mapping.page_bytes);
                if let Err(errno) = self.chunk(mapping, &present) {
                    self.placed.ended = match errno {
                        Errno::PERM => Ended::NotPermitted,
                        _ => Ended::WithProgram,
                    };
                    return Ok(());
                }
                progress(done.min(resident), resident);
                start = end;
            }
        }
        Ok(())
    }

    fn chunk(
        &mut self,
        mapping: &Mapping,
        present: &[super::pagemap::Present],
    ) -> Result<(), Errno> {
        let addresses: Vec<usize> = present.iter().map(|page| page.address).collect();
        let places = self.mover.where_are(&addresses)?;
        // By how many tiers are above them: those that are on no tier come last.
        let mut cases: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
        let outside = self.placing.tiers.len();
        for (page, place) in present.iter().zip(places) {
            let PageStatus::On(node) = place else { continue };
            let above = self.placing.tiers.iter().position(|tier| tier.contains(node));
            let above = above.unwrap_or(outside);
            let alone = page.mapped == MappedBy::One;
            if above > 0 && (alone || self.placing.which == WhichPages::Shared) {
                cases.entry(above).or_default().push(page.address);
            } else if above == outside {
                self.placed.shared.0 += mapping.page_bytes;
            }
        }
        for (tiers, addresses) in cases.into_iter().rev() {
            let huge = if mapping.huge > 0 { HugePages::Some } else { HugePages::None };
            for batch in addresses.chunks(BATCH) {
                let (page_bytes, addresses) = (mapping.page_bytes, batch.to_vec());
                let pages = Pages { addresses, page_bytes, huge, tiers };
                if mapping.migratable == Migratable::No {
                    self.stay(&pages, Reason::Unmovable, pages.addresses.len());
                } else if self.is_late() {
                    self.placed.ended = Ended::Deadline;
                    self.stay(&pages, Reason::Deadline, pages.addresses.len());
                } else {
                    self.settle(pages)?;
                }
            }
        }
        Ok(())
    }

    fn is_late(&self) -> bool {
        self.placing.deadline.is_some_and(|deadline| Instant::now() >= deadline)
    }

    /// Moves pages to the first nodes that have room for them.
    fn settle(&mut self, mut pages: Pages) -> Result<(), Errno> {
        let placing = self.placing;
        let mut last = Reason::NoRoom;
        for (index, tier) in placing.tiers[..pages.tiers].iter().enumerate() {
            for node in tier.iter().filter(|&node| !self.full.contains(node)).collect::<Vec<_>>() {
                let fits = self.room(node, index) / pages.page_bytes;
                let fits = usize::try_from(fits).unwrap_or(usize::MAX).min(pages.addresses.len());
                if fits == 0 {
                    continue;
                }
                let later = pages.addresses.split_off(fits);
                let mut again = self.try_node(&pages, node, &mut last)?;
                again.extend(later);
                pages.addresses = again;
            }
        }
        self.stay(&pages, last, pages.addresses.len());
        Ok(())
    }

    /// Moves pages to a node; those come back that it did not take.
    fn try_node(
        &mut self,
        pages: &Pages,
        node: NodeId,
        last: &mut Reason,
    ) -> Result<Vec<usize>, Errno> {
        let fates = match self.placing.doing {
            Doing::Counting => vec![Fate::Moved; pages.addresses.len()],
            Doing::Moving => {
                let which = self.placing.which;
                move_batch(&mut self.mover, &pages.addresses, node, which, pages.huge)?
            }
        };
        let mut again = Vec::new();
        for (&address, fate) in pages.addresses.iter().zip(fates) {
            match fate {
                Fate::Gone => {}
                Fate::Moved => {
                    self.placed.moved.0 += pages.page_bytes;
                    let room = self.rooms.entry(node).or_default();
                    room.0 = room.0.saturating_sub(pages.page_bytes);
                }
                Fate::Stays(Stays::Shared) => self.placed.shared.0 += pages.page_bytes,
                Fate::Stays(Stays::Unmovable) => self.stay(pages, Reason::Unmovable, 1),
                Fate::Stays(Stays::Held) => {
                    let holder = self.holders.of(address as u64, pages.page_bytes);
                    self.stay(pages, Reason::Held(holder), 1);
                }
                Fate::Stays(full) => {
                    *last = match full {
                        Stays::NodeGone => Reason::NodeGone,
                        Stays::NotAllowed => Reason::NotAllowed,
                        _ => Reason::NoRoom,
                    };
                    again.push(address);
                }
            }
        }
        if !again.is_empty() {
            self.full = self.full.union(&NodeSet::only(node).unwrap_or_default());
        }
        Ok(again)
    }

    /// What a node of a tier may take.
    fn room(&self, node: NodeId, tier: usize) -> u64 {
        let last = tier + 1 == self.placing.tiers.len();
        match self.placing.doing {
            Doing::Moving if last => u64::MAX,
            _ => self.rooms.get(&node).map_or(0, |room| room.0),
        }
    }

    /// So many of these pages stayed. Those of a lower tier are not amiss for want of room or time.
    fn stay(&mut self, pages: &Pages, reason: Reason, count: usize) {
        let outside = pages.tiers == self.placing.tiers.len();
        let amiss = outside || matches!(reason, Reason::Held(_));
        if amiss && count > 0 {
            let sum = self.placed.stayed.entry(reason).or_default();
            sum.0 = sum.0.saturating_add(pages.page_bytes.saturating_mul(count as u64));
        }
    }
}

#[cfg(test)]
mod tests;
