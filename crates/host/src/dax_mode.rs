//! Giving a dax device to the kernel as memory of a node, or to programs that map it whole.
//!
//! Three things make this more than writing a driver's name:
//!
//! * Taking kmem away from a device whose memory is online succeeds, and leaves memory that cannot
//!   be removed until the next boot (`dev_dax_kmem_remove`). So its blocks go offline first, all
//!   of them.
//! * Taking device_dax away from a device that a program has mapped ends that program
//!   (`kill_dev_dax`). So nobody may have it open.
//! * With `auto_online_blocks` the kernel onlines what appears at once, wherever its policy says.
//!   Where a zone is wanted, that is switched off meanwhile.
//!
//! A driver takes a device that is not of its kind only if it is told the device's name (`new_id`
//! of the dax bus); telling the one driver, the other is told to forget it.

use std::{collections::BTreeSet, time::Duration};

use memtide_units::{ByteSize, NodeId, PhysAddr, PhysRange};

use crate::{
    BlockId, BlockState, MemoryBlock, MemoryBlocks, ReadError, Root, Zone,
    dax::{self, DRIVERS, DaxDevice, DaxMode},
    memory_blocks,
    memory_groups::{MemoryGroups, whole_blocks},
    offline::{self, OfflineError},
    online::{self, How, OnlineError, OnlineWish, Placed, Which, state::Onlining},
    plan::{Action, Condition, Fault, Plan, Refusal, Step},
};

const AUTO_ONLINE: &str = "sys/devices/system/memory/auto_online_blocks";

/// How long blocks may take to appear once kmem is bound: it adds them before it answers.
const APPEAR_WITHIN: Duration = Duration::from_secs(10);

/// What is wanted.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ModeWish {
    /// Which device.
    pub device: String,
    /// What it is to be.
    pub mode: DaxMode,
    /// Where its blocks go, once they are there. Without: wherever the kernel is set up to.
    pub online: Option<How>,
    /// How long each block may take to go offline.
    pub limit: Duration,
}

/// What will be done.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ModeChange {
    /// The writes.
    pub plan: Plan,
    /// What it is now.
    pub from: Option<DaxMode>,
    /// Its size.
    pub size: ByteSize,
    /// Its node.
    pub node: Option<NodeId>,
    /// Blocks that go online, with their zones.
    pub placed: Vec<Placed>,
    /// Blocks that go offline.
    pub leaving: Vec<(BlockId, Option<Zone>)>,
}

/// Why a device stays as it is. Nothing was changed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ModeError {
    /// Something could not be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// No such device.
    #[error("device {name}: no such dax device; expected {}", if known.is_empty() {
        "one, but this machine has none".to_owned()
    } else {
        format!("one of {}", known.join(", "))
    })]
    NoDevice {
        /// The name.
        name: String,
        /// Those that are.
        known: Vec<String>,
    },
    /// Its driver is not there.
    #[error("the driver {driver} is not there: load its module (modprobe {driver})")]
    NoDriver {
        /// Which.
        driver: &'static str,
    },
    /// Programs have it open.
    #[error(
        "{device} is in use: {} it open; expected nobody to, for its memory would vanish under \
         them",
        dax::have(by)
    )]
    InUse {
        /// Which device.
        device: String,
        /// Processes, with their names.
        by: Vec<(u32, String)>,
    },
    /// No node.
    #[error("{device} has no target node: the kernel would not take it (kmem refuses node -1)")]
    NoNode {
        /// Which device.
        device: String,
    },
    /// Not one whole block.
    #[error(
        "no whole memory block of {block_bytes} lies in {device}{}: expected at least one, aligned",
        ranges.iter().map(|range| format!(" {range}")).collect::<String>()
    )]
    NoWholeBlock {
        /// Which device.
        device: String,
        /// Where it is; nothing if that is hidden.
        ranges: Vec<PhysRange>,
        /// The size of a block.
        block_bytes: ByteSize,
    },
    /// A zone makes sense for memory of the kernel's only.
    #[error("an online zone or policy goes with mode system-ram: {device} is to be {mode}")]
    OnlineWithDevdax {
        /// Which device.
        device: String,
        /// What it is to be.
        mode: DaxMode,
    },
    /// A block is on its way out.
    #[error("{block} of {device} is going offline at this moment: try again")]
    GoingOffline {
        /// Which device.
        device: String,
        /// Which block.
        block: BlockId,
    },
    /// Its blocks cannot leave.
    #[error(transparent)]
    Offline(#[from] OfflineError),
    /// Its blocks cannot go where they should.
    #[error(transparent)]
    Online(#[from] OnlineError),
}

/// What it takes.
///
/// # Errors
/// [`ModeError`].
pub fn plan(root: &Root, wish: &ModeWish) -> Result<ModeChange, ModeError> {
    let devices = dax::read(root)?;
    let Some(device) = devices.iter().find(|device| device.name == wish.device) else {
        let known = devices.into_iter().map(|device| device.name).collect();
        return Err(ModeError::NoDevice { name: wish.device.clone(), known });
    };
    let blocks = MemoryBlocks::read(root)?.ok_or(OnlineError::NoHotPlug)?;
    if wish.mode == DaxMode::Devdax && wish.online.is_some() {
        let (device, mode) = (device.name.clone(), wish.mode);
        return Err(ModeError::OnlineWithDevdax { device, mode });
    }
    let mut change = ModeChange {
        plan: Plan::new(),
        from: device.mode,
        size: device.size,
        node: device.target_node,
        placed: Vec::new(),
        leaving: Vec::new(),
    };
    match (wish.mode, device.mode) {
        (DaxMode::SystemRam, Some(DaxMode::SystemRam)) => {
            online_rest(root, device, &blocks, wish.online, &mut change)?;
        }
        (wanted, Some(now)) if wanted == now => {}
        (DaxMode::SystemRam, _) => to_system_ram(root, device, &blocks, wish, &mut change)?,
        (DaxMode::Devdax, _) => to_devdax(root, device, &blocks, wish.limit, &mut change)?,
    }
    Ok(change)
}

/// It is memory of the kernel's already: what of it is offline goes online, if that was asked for.
fn online_rest(
    root: &Root,
    device: &DaxDevice,
    blocks: &MemoryBlocks,
    online: Option<How>,
    change: &mut ModeChange,
) -> Result<(), ModeError> {
    let Some(how) = online else { return Ok(()) };
    let which = Which::Blocks(blocks_of(device, blocks).map(|block| block.id).collect());
    let planned = online::plan(root, &OnlineWish { which, how })?;
    change.plan.append(planned.plan);
    change.placed = planned.placed;
    Ok(())
}

fn to_system_ram(
    root: &Root,
    device: &DaxDevice,
    blocks: &MemoryBlocks,
    wish: &ModeWish,
    change: &mut ModeChange,
) -> Result<(), ModeError> {
    check_driver(root, DaxMode::SystemRam)?;
    let Some(node) = device.target_node else {
        return Err(ModeError::NoNode { device: device.name.clone() });
    };
    let whole: Vec<PhysRange> =
        device.ranges.iter().filter_map(|&range| whole_blocks(range, blocks)).collect();
    if whole.is_empty() {
        return Err(ModeError::NoWholeBlock {
            device: device.name.clone(),
            ranges: device.ranges.clone(),
            block_bytes: ByteSize(blocks.block_bytes),
        });
    }
    check_unused(root, &device.name)?;
    let automatic = match wish.online {
        Some(_) => stop_automatic(root, &mut change.plan)?,
        None => None,
    };
    rebind(&mut change.plan, device, DaxMode::SystemRam);
    if let Some(how) = wish.online {
        let planned = online_new(root, device, blocks, &whole, node, how)?;
        for placed in &planned.placed {
            change.plan.push(Step::without_undo(Action::WaitFor {
                file: format!("{}/{}/state", memory_blocks::FOLDER, placed.block),
                condition: Condition::Exists,
                limit: APPEAR_WITHIN,
            }));
        }
        change.plan.append(planned.plan);
        change.placed = planned.placed;
    }
    resume_automatic(automatic, &mut change.plan);
    Ok(())
}

/// Has the kernel not online anything by itself. Returns what it was set up for, if it did.
fn stop_automatic(root: &Root, plan: &mut Plan) -> Result<Option<String>, ModeError> {
    let automatic = root.text(AUTO_ONLINE)?.filter(|text| text != "offline");
    if let Some(before) = &automatic {
        let off = Action::write(AUTO_ONLINE, "offline");
        plan.push(Step::new(off, Action::write(AUTO_ONLINE, before)));
    }
    Ok(automatic)
}

fn resume_automatic(automatic: Option<String>, plan: &mut Plan) {
    if let Some(before) = automatic {
        let off = Action::write(AUTO_ONLINE, "offline");
        plan.push(Step::new(Action::write(AUTO_ONLINE, before), off));
    }
}

/// Where blocks go that are not there yet.
fn online_new(
    root: &Root,
    device: &DaxDevice,
    blocks: &MemoryBlocks,
    whole: &[PhysRange],
    node: NodeId,
    how: How,
) -> Result<online::OnlinePlan, ModeError> {
    let mut with_new = blocks.clone();
    let mut ids = BTreeSet::new();
    for range in whole {
        let first = range.start().0 / blocks.block_bytes;
        let last = range.last().0 / blocks.block_bytes;
        for number in first..=last {
            let id = BlockId(number);
            let start = PhysAddr(number * blocks.block_bytes);
            let range = PhysRange::from_size(start, blocks.block_bytes).expect("lies in a range");
            let valid_zones = vec![Zone::Normal, Zone::Movable];
            let state = BlockState::Offline;
            let nodes = vec![node];
            with_new.blocks.insert(id, MemoryBlock { id, range, state, valid_zones, nodes });
            ids.insert(id);
        }
    }
    let groups = MemoryGroups::read_as_if(root, &with_new, &device.name)?;
    let mut book = Onlining::of(root, &with_new, &groups).map_err(OnlineError::State)?;
    let wish = OnlineWish { which: Which::Blocks(ids), how };
    Ok(online::plan::plan_with(&mut book, &with_new, &wish)?)
}

fn to_devdax(
    root: &Root,
    device: &DaxDevice,
    blocks: &MemoryBlocks,
    limit: Duration,
    change: &mut ModeChange,
) -> Result<(), ModeError> {
    check_driver(root, DaxMode::Devdax)?;
    let mut of_device: Vec<&MemoryBlock> = blocks_of(device, blocks).collect();
    of_device.sort_by_key(|block| std::cmp::Reverse(block.range.start()));
    // Should kmem have to take it back, its blocks must go where they were, and not by themselves.
    let automatic = stop_automatic(root, &mut change.plan)?;
    for block in of_device {
        match block.state {
            BlockState::Offline => {}
            BlockState::GoingOffline => {
                let device = device.name.clone();
                return Err(ModeError::GoingOffline { device, block: block.id });
            }
            BlockState::Online => {
                change.plan.push(offline::step(block, limit));
                change.leaving.push((block.id, block.zone()));
            }
        }
    }
    offline::check_bound(root, blocks, &change.leaving)?;
    rebind(&mut change.plan, device, DaxMode::Devdax);
    resume_automatic(automatic, &mut change.plan);
    Ok(())
}

/// From one driver to the other.
fn rebind(plan: &mut Plan, device: &DaxDevice, to: DaxMode) {
    let name = || device.name.clone();
    let id = |mode: DaxMode, file: &str| {
        Action::write(format!("{DRIVERS}/{}/{file}", mode.driver()), &device.name)
    };
    let bind = |mode: DaxMode| Action::Bind { bus: "dax", driver: mode.driver(), device: name() };
    let unbind =
        |mode: DaxMode| Action::Unbind { bus: "dax", driver: mode.driver(), device: name() };
    if let Some(from) = device.mode {
        plan.push(Step::new(unbind(from), bind(from)));
        plan.push(Step::new(id(from, "remove_id"), id(from, "new_id")));
    }
    plan.push(Step::new(id(to, "new_id"), id(to, "remove_id")));
    plan.push(Step::new(bind(to), unbind(to)));
}

fn blocks_of<'a>(
    device: &'a DaxDevice,
    blocks: &'a MemoryBlocks,
) -> impl Iterator<Item = &'a MemoryBlock> {
    device.ranges.iter().flat_map(|&range| blocks.within(range))
}

fn check_driver(root: &Root, mode: DaxMode) -> Result<(), ModeError> {
    if root.exists(format!("{DRIVERS}/{}", mode.driver())) {
        Ok(())
    } else {
        Err(ModeError::NoDriver { driver: mode.driver() })
    }
}

fn check_unused(root: &Root, device: &str) -> Result<(), ModeError> {
    let by = dax::users(root, device)?;
    if by.is_empty() { Ok(()) } else { Err(ModeError::InUse { device: device.to_owned(), by }) }
}

impl Refusal for ModeError {
    fn fault(&self) -> Fault {
        match self {
            Self::Read(_) | Self::NoDriver { .. } => Fault::Machine,
            Self::Online(error) => error.fault(),
            Self::Offline(error) => error.fault(),
            _ => Fault::Request,
        }
    }
}
