//! Which blocks go online, in which order, and to which zone.
//!
//! Blocks go online from the lowest address up, as the kernel does it itself when it adds memory.
//! Each decision sees those before it. Nothing is written before all are decided.

use std::collections::BTreeSet;

use memtide_engine::onlining::OnlineZone;
use memtide_units::{ByteSize, NodeId};

use super::{
    policy::How,
    state::{Onlining, StateError},
};
use crate::{
    BlockId, BlockState, MemoryBlock, MemoryBlocks, ReadError, Root, Zone, memory_groups,
    plan::{Action, Fault, Plan, Refusal, Step},
};

/// Which blocks.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Which {
    /// These.
    Blocks(BTreeSet<BlockId>),
    /// All of a node.
    Node(NodeId),
    /// So much, rounded up to whole blocks, of a node or of any.
    Size {
        /// How much.
        bytes: ByteSize,
        /// Of which node; of any without one.
        node: Option<NodeId>,
    },
}

/// What is to go online, and where to.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct OnlineWish {
    /// Which blocks.
    pub which: Which,
    /// To which zone.
    pub how: How,
}

/// A block, and what was decided for it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Placed {
    /// Which.
    pub block: BlockId,
    /// Its node.
    pub node: Option<NodeId>,
    /// Where it goes.
    pub zone: OnlineZone,
    /// Where the kernel would put it at this moment, without those that go before it.
    pub kernel_says: Option<Zone>,
}

/// What will be done.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct OnlinePlan {
    /// The writes.
    pub plan: Plan,
    /// Each block that goes online, in this order.
    pub placed: Vec<Placed>,
    /// Blocks among those asked for that are online already, in their zones.
    pub already: Vec<(BlockId, Option<Zone>)>,
    /// The size of a block.
    pub block_bytes: ByteSize,
}

/// Why blocks cannot go online. Nothing was changed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OnlineError {
    /// Something could not be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// What was read contradicts itself.
    #[error(transparent)]
    State(#[from] StateError),
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
    #[error("no memory block belongs to {node}: expected a node with memory, or some to be added")]
    NoNode {
        /// Which.
        node: NodeId,
    },
    /// Nothing is behind it.
    #[error(
        "the device of {block} was taken out while its memory was online, and nothing is behind \
         {block} any more: expected a block of a device that is there; leave it offline until the \
         next restart"
    )]
    Abandoned {
        /// Which.
        block: BlockId,
    },
    /// It is in another zone.
    #[error(
        "{block} is online in zone {}: expected it to be offline, or in the zone asked for; take \
         it offline first",
        zone.map_or("unknown", Zone::name)
    )]
    OtherZone {
        /// Which.
        block: BlockId,
        /// Where it is.
        zone: Option<Zone>,
    },
    /// It is on its way out.
    #[error("{block} is going offline at this moment: expected online or offline; try again")]
    GoingOffline {
        /// Which.
        block: BlockId,
    },
    /// The kernel names other zones for it.
    #[error("{block} cannot go to the zone {wanted:?}: its valid_zones are {}", names(valid))]
    ZoneNotValid {
        /// Which.
        block: BlockId,
        /// What was asked for or decided.
        wanted: OnlineZone,
        /// What the kernel names.
        valid: Vec<Zone>,
    },
    /// So much is not offline.
    #[error(
        "size {wanted} is more than is offline{}: expected at most {available}",
        node.map(|node| format!(" on {node}")).unwrap_or_default()
    )]
    TooMuch {
        /// How much was asked for.
        wanted: ByteSize,
        /// How much is offline.
        available: ByteSize,
        /// Where.
        node: Option<NodeId>,
    },
    /// Nothing at all.
    #[error("size 0: expected at least one byte")]
    Nothing,
}

fn names(zones: &[Zone]) -> String {
    if zones.is_empty() {
        return "none".to_owned();
    }
    zones.iter().map(|zone| zone.name()).collect::<Vec<_>>().join(", ")
}

/// What it takes.
///
/// # Errors
/// [`OnlineError`].
pub fn plan(root: &Root, wish: &OnlineWish) -> Result<OnlinePlan, OnlineError> {
    let blocks = MemoryBlocks::read(root)?.ok_or(OnlineError::NoHotPlug)?;
    let mut book = Onlining::read(root, &blocks)?;
    let planned = plan_with(&mut book, &blocks, wish)?;
    let abandoned = memory_groups::abandoned(root, &blocks)?;
    match planned.placed.iter().find(|placed| abandoned.contains(&placed.block)) {
        Some(placed) => Err(OnlineError::Abandoned { block: placed.block }),
        None => Ok(planned),
    }
}

/// As [`plan`], with a book that is filled already.
///
/// # Errors
/// [`OnlineError`].
pub fn plan_with(
    book: &mut Onlining,
    blocks: &MemoryBlocks,
    wish: &OnlineWish,
) -> Result<OnlinePlan, OnlineError> {
    let (offline, already) = choose(blocks, &wish.which, wish.how)?;
    let mut planned = OnlinePlan {
        plan: Plan::new(),
        placed: Vec::new(),
        already,
        block_bytes: ByteSize(blocks.block_bytes),
    };
    for block in offline {
        let zone = book.online(block, wish.how.policy(), wish.how.kind())?;
        check_zone(block, zone)?;
        planned.plan.push(step(block, zone));
        planned.placed.push(Placed {
            block: block.id,
            node: block.node(),
            zone,
            kernel_says: block.default_zone(),
        });
    }
    Ok(planned)
}

/// Onlines a block; taken back by taking it offline.
pub(crate) fn step(block: &MemoryBlock, zone: OnlineZone) -> Step {
    let state = block.attribute("state");
    let value = match zone {
        OnlineZone::Movable => "online_movable",
        OnlineZone::Kernel => "online_kernel",
        // No kernel has these: `check_zone` refuses them before.
        OnlineZone::PreferMovable | OnlineZone::Exmem => unreachable!("{block:?} in {zone}"),
    };
    Step::new(Action::write(&state, value), Action::write(state, BlockState::Offline.name()))
}

type Chosen<'a> = (Vec<&'a MemoryBlock>, Vec<(BlockId, Option<Zone>)>);

/// The blocks that are offline, by address, and those that are online already.
fn choose<'a>(
    blocks: &'a MemoryBlocks,
    which: &Which,
    how: How,
) -> Result<Chosen<'a>, OnlineError> {
    let mut chosen: Vec<&MemoryBlock> = match which {
        Which::Blocks(ids) => named(blocks, ids, how)?,
        Which::Node(node) => of_node(blocks, *node)?,
        Which::Size { bytes, node } => return so_much(blocks, *bytes, *node),
    };
    chosen.sort_by_key(|block| block.range.start());
    if let Some(block) = chosen.iter().find(|block| block.state == BlockState::GoingOffline) {
        return Err(OnlineError::GoingOffline { block: block.id });
    }
    let (offline, online): (Vec<_>, Vec<_>) =
        chosen.into_iter().partition(|block| block.state == BlockState::Offline);
    Ok((offline, online.into_iter().map(|block| (block.id, block.zone())).collect()))
}

/// Blocks by name. One that is online in another zone than the one asked for is no mere repetition
/// of the request.
fn named<'a>(
    blocks: &'a MemoryBlocks,
    ids: &BTreeSet<BlockId>,
    how: How,
) -> Result<Vec<&'a MemoryBlock>, OnlineError> {
    let find = |&block| blocks.blocks.get(&block).ok_or(OnlineError::NoBlock { block });
    let found: Vec<&MemoryBlock> = ids.iter().map(find).collect::<Result<_, _>>()?;
    let online = found.iter().filter(|block| block.state == BlockState::Online);
    match online.map(|block| (block.id, block.zone())).find(|&(_, zone)| !how.allows(zone)) {
        Some((block, zone)) => Err(OnlineError::OtherZone { block, zone }),
        None => Ok(found),
    }
}

fn of_node(blocks: &MemoryBlocks, node: NodeId) -> Result<Vec<&MemoryBlock>, OnlineError> {
    let found: Vec<&MemoryBlock> = blocks.of_node(node).collect();
    if found.is_empty() { Err(OnlineError::NoNode { node }) } else { Ok(found) }
}

fn so_much(
    blocks: &MemoryBlocks,
    bytes: ByteSize,
    node: Option<NodeId>,
) -> Result<Chosen<'_>, OnlineError> {
    let of = match node {
        Some(node) => of_node(blocks, node)?,
        None => blocks.blocks.values().collect(),
    };
    let mut offline: Vec<&MemoryBlock> =
        of.into_iter().filter(|block| block.state == BlockState::Offline).collect();
    offline.sort_by_key(|block| block.range.start());
    let count = bytes.0.div_ceil(blocks.block_bytes);
    if count == 0 {
        return Err(OnlineError::Nothing);
    }
    if count > offline.len() as u64 {
        let available = ByteSize((offline.len() as u64).saturating_mul(blocks.block_bytes));
        return Err(OnlineError::TooMuch { wanted: bytes, available, node });
    }
    offline.truncate(usize::try_from(count).expect("not more than there are"));
    Ok((offline, Vec::new()))
}

fn check_zone(block: &MemoryBlock, wanted: OnlineZone) -> Result<(), OnlineError> {
    let fits = |zone: &Zone| match wanted {
        OnlineZone::Movable => *zone == Zone::Movable,
        OnlineZone::Kernel => zone.is_kernel(),
        OnlineZone::PreferMovable | OnlineZone::Exmem => false,
    };
    if block.valid_zones.iter().any(fits) {
        Ok(())
    } else {
        let valid = block.valid_zones.clone();
        Err(OnlineError::ZoneNotValid { block: block.id, wanted, valid })
    }
}

impl Refusal for OnlineError {
    fn fault(&self) -> Fault {
        match self {
            Self::Read(_) | Self::State(_) | Self::NoHotPlug => Fault::Machine,
            _ => Fault::Request,
        }
    }
}
