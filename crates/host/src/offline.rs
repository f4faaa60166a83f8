//! Taking memory blocks offline, all that were asked for or none.
//!
//! Blocks go from the highest address down, the reverse of how they came. Each write moves what
//! lies in the block away, as the kernel does it, and ends in time: a page that a device has
//! pinned would keep it for ever. When one block cannot leave, those that had left go online
//! again, into the zone that they were in.
//!
//! A node that programs are bound to does not lose its last block: the kernel would kill them
//! ([`Bound`]).
//!
//! Whoever wants as much as can be had, rather than these blocks, wants a give-back
//! ([`crate::give_back`]).

use std::{collections::BTreeSet, time::Duration};

use memtide_units::{ByteSize, NodeId};

use crate::{
    BlockId, BlockState, MemoryBlock, MemoryBlocks, ReadError, Root, Zone,
    plan::{Action, Fault, Plan, Refusal, Step},
    processes::Bound,
};

/// Which blocks.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Which {
    /// These.
    Blocks(BTreeSet<BlockId>),
    /// All of a node.
    Node(NodeId),
}

/// What will be done.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct OfflinePlan {
    /// The writes.
    pub plan: Plan,
    /// Each block that goes offline, in this order, with the zone that it is in.
    pub leaving: Vec<(BlockId, Option<Zone>)>,
    /// Blocks among those asked for that are offline already.
    pub already: Vec<BlockId>,
    /// The size of a block.
    pub block_bytes: ByteSize,
}

/// Why blocks cannot go offline. Nothing was changed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OfflineError {
    /// Something could not be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// No memory blocks.
    #[error("this kernel has no memory blocks (/sys/devices/system/memory): it cannot hot-plug")]
    NoHotPlug,
    /// No such block.
    #[error("there is no {block}: expected one of /sys/devices/system/memory/memory*")]
    NoBlock {
        /// Which.
        block: BlockId,
    },
    /// No block of this node.
    #[error("no memory block belongs to {node}: expected a node with memory")]
    NoNode {
        /// Which.
        node: NodeId,
    },
    /// Programs would be killed.
    #[error(
        "{node} would have no memory left, and the kernel would kill what is bound to it: {}; \
         expected none, or a block of {node} that stays online",
        Bound::names(by)
    )]
    Bound {
        /// Which node.
        node: NodeId,
        /// Programs whose policy allows memory of that node alone.
        by: Vec<Bound>,
    },
    /// Somebody else is at it.
    #[error("{block} is going offline at this moment: expected online or offline; try again")]
    GoingOffline {
        /// Which.
        block: BlockId,
    },
}

/// What it takes. Each block may take `limit`.
///
/// # Errors
/// [`OfflineError`].
pub fn plan(root: &Root, which: &Which, limit: Duration) -> Result<OfflinePlan, OfflineError> {
    let blocks = MemoryBlocks::read(root)?.ok_or(OfflineError::NoHotPlug)?;
    let planned = plan_with(&blocks, which, limit)?;
    check_bound(root, &blocks, &planned.leaving)?;
    Ok(planned)
}

/// No node is left without memory to which programs are bound.
///
/// # Errors
/// [`OfflineError::Bound`].
pub(crate) fn check_bound(
    root: &Root,
    blocks: &MemoryBlocks,
    leaving: &[(BlockId, Option<Zone>)],
) -> Result<(), OfflineError> {
    let ids: BTreeSet<BlockId> = leaving.iter().map(|(block, _)| *block).collect();
    let of_block = |id: &BlockId| blocks.blocks.get(id).into_iter().flat_map(|it| &it.nodes);
    let nodes: BTreeSet<NodeId> = ids.iter().flat_map(of_block).copied().collect();
    for node in nodes {
        let stays =
            |block: &MemoryBlock| block.state == BlockState::Online && !ids.contains(&block.id);
        if blocks.of_node(node).any(stays) {
            continue;
        }
        let by = Bound::of_node(root, node);
        if !by.is_empty() {
            return Err(OfflineError::Bound { node, by });
        }
    }
    Ok(())
}

/// As [`plan`], with blocks that are read already.
///
/// # Errors
/// [`OfflineError`].
pub fn plan_with(
    blocks: &MemoryBlocks,
    which: &Which,
    limit: Duration,
) -> Result<OfflinePlan, OfflineError> {
    let mut chosen: Vec<&MemoryBlock> = match which {
        Which::Blocks(ids) => {
            let find = |&block| blocks.blocks.get(&block).ok_or(OfflineError::NoBlock { block });
            ids.iter().map(find).collect::<Result<_, _>>()?
        }
        Which::Node(node) => blocks.of_node(*node).collect(),
    };
    if let (Which::Node(node), true) = (which, chosen.is_empty()) {
        return Err(OfflineError::NoNode { node: *node });
    }
    chosen.sort_by_key(|block| std::cmp::Reverse(block.range.start()));
    let mut planned = OfflinePlan {
        plan: Plan::new(),
        leaving: Vec::new(),
        already: Vec::new(),
        block_bytes: ByteSize(blocks.block_bytes),
    };
    for block in chosen {
        match block.state {
            BlockState::Offline => planned.already.push(block.id),
            BlockState::GoingOffline => {
                return Err(OfflineError::GoingOffline { block: block.id });
            }
            BlockState::Online => {
                planned.plan.push(step(block, limit));
                planned.leaving.push((block.id, block.zone()));
            }
        }
    }
    Ok(planned)
}

/// Takes a block offline; taken back by onlining it to the zone that it was in.
pub(crate) fn step(block: &MemoryBlock, limit: Duration) -> Step {
    let state = block.attribute("state");
    let back = match block.zone() {
        Some(zone) if zone.is_kernel() => "online_kernel",
        Some(Zone::Movable) => "online_movable",
        _ => "online",
    };
    let away = Action::write_within(&state, BlockState::Offline.name(), limit);
    Step::new(away, Action::write(state, back))
}

impl Refusal for OfflineError {
    fn fault(&self) -> Fault {
        match self {
            Self::Read(_) | Self::NoHotPlug => Fault::Machine,
            _ => Fault::Request,
        }
    }
}
