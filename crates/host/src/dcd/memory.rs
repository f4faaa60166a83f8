//! Extents as memory of the kernel's: a dax device for each memory block, given to `kmem`.
//!
//! ```text
//!  nothing ──map──▶ a dax device ──bind──▶ a block, offline ──online──▶ memory, zone Movable
//!     ▲                                          │  ▲                        │
//!     └──────── unmap, delete ◀── unbind ────────┘  └────── give back ───────┘
//! ```
//!
//! A device of its own for each block, because the kernel takes memory away from `kmem` a device at
//! a time: so 97 blocks of an extent of 100 can be gone for good while 3 are still in use. Offline
//! blocks of a device that stays could be put online again by anybody, with nothing behind them.
//!
//! What there is stands in sysfs, device by device, and so survives whoever made it: a step that
//! was done is not done again, and one that was not follows.
//!
//! The device that the kernel puts over all of the region by default is made empty first. One empty
//! device always stays: it tells where the region begins ([`super::dax_region`]).

use std::collections::BTreeSet;

use memtide_units::{ByteSize, PhysAddr, PhysRange};

use super::{dax_region::DaxRegion, error::DcdError};
use crate::{
    BlockId, BlockState, MemoryBlocks, Root, Zone,
    dax::{self, DaxDevice, DaxMode},
    memory_blocks,
    plan::{self, Action, Condition, Kernel, Plan, Step},
};

/// How long a block may take to appear once kmem is bound: it adds it before it answers.
const APPEAR_WITHIN: std::time::Duration = std::time::Duration::from_secs(10);

/// The memory of one region.
#[derive(Clone, Debug)]
pub struct Memory {
    region: DaxRegion,
    block_bytes: u64,
}

/// A block of the region that has a dax device.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Piece {
    /// Its dax device.
    pub device: String,
    /// Its addresses: those of the block.
    pub range: PhysRange,
    /// Whether it is memory of the kernel's, and in use.
    pub state: PieceState,
}

/// What has become of a piece.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum PieceState {
    /// A dax device without kmem.
    Unbound,
    /// Not in use.
    Offline,
    /// In use.
    Online,
}

impl Memory {
    /// The memory of a region.
    ///
    /// # Errors
    /// [`DcdError::NoHotPlug`], and what cannot be read.
    pub fn new(root: &Root, region: DaxRegion) -> Result<Self, DcdError> {
        let blocks = MemoryBlocks::read(root)?.ok_or(DcdError::NoHotPlug)?;
        Ok(Self { region, block_bytes: blocks.block_bytes })
    }

    /// The size of a block.
    #[must_use]
    pub const fn block_bytes(&self) -> u64 {
        self.block_bytes
    }

    /// The region.
    #[must_use]
    pub const fn region(&self) -> &DaxRegion {
        &self.region
    }

    /// Takes away the device that the kernel puts over all of the region, unless that is done.
    /// Nothing of it may be online.
    ///
    /// # Errors
    /// [`DcdError::WholeRegionOnline`]; nothing has changed then.
    pub fn clear(&self, kernel: &mut impl Kernel) -> Result<(), DcdError> {
        for device in self.region.devices(kernel.root())? {
            if device.ranges.iter().all(|range| range.bytes() <= u128::from(self.block_bytes)) {
                continue;
            }
            let online = self.online_of(kernel.root(), &device)?;
            if !online.is_empty() {
                let blocks = memory_blocks::list(online);
                return Err(DcdError::WholeRegionOnline { device: device.name, blocks });
            }
            let range = self.region.range;
            self.run(kernel, range, &self.empty(&device))?;
        }
        Ok(())
    }

    fn online_of(&self, root: &Root, device: &DaxDevice) -> Result<BTreeSet<BlockId>, DcdError> {
        let blocks = MemoryBlocks::read(root)?.ok_or(DcdError::NoHotPlug)?;
        let of_device = device.ranges.iter().flat_map(|&range| blocks.within(range));
        let online = of_device.filter(|block| block.state != BlockState::Offline);
        Ok(online.map(|block| block.id).collect())
    }

    /// All pieces, by address.
    ///
    /// # Errors
    /// What cannot be read.
    pub fn pieces(&self, root: &Root) -> Result<Vec<Piece>, DcdError> {
        let blocks = MemoryBlocks::read(root)?.ok_or(DcdError::NoHotPlug)?;
        let mut pieces: Vec<Piece> = self
            .region
            .devices(root)?
            .into_iter()
            .filter_map(|device| {
                let [range] = device.ranges[..] else { return None };
                let state = match (device.mode, blocks.within(range).next()) {
                    (Some(DaxMode::SystemRam), Some(block))
                        if block.state != BlockState::Offline =>
                    {
                        PieceState::Online
                    }
                    (Some(DaxMode::SystemRam), _) => PieceState::Offline,
                    _ => PieceState::Unbound,
                };
                Some(Piece { device: device.name, range, state })
            })
            .collect();
        pieces.sort_by_key(|piece| piece.range.start());
        Ok(pieces)
    }

    /// Puts memory there, block by block, into zone Movable; what is there already stays. If a
    /// block fails, those that this call made are taken away again.
    ///
    /// # Errors
    /// [`DcdError`].
    pub fn add(&self, kernel: &mut impl Kernel, range: PhysRange) -> Result<(), DcdError> {
        let mut made = Vec::new();
        let before = self.pieces(kernel.root())?;
        for block in self.blocks_in(range) {
            let there = before.iter().find(|piece| piece.range == block).cloned();
            if there.as_ref().is_some_and(|piece| piece.state == PieceState::Online) {
                continue;
            }
            if let Err(error) = self.add_block(kernel, block, there) {
                for &made in made.iter().rev() {
                    // As far as that goes; the error is about what failed first.
                    let _ = self.take_offline(kernel, made);
                    let _ = self.remove(kernel, made);
                }
                return Err(error);
            }
            made.push(block);
        }
        Ok(())
    }

    fn add_block(
        &self,
        kernel: &mut impl Kernel,
        range: PhysRange,
        there: Option<Piece>,
    ) -> Result<(), DcdError> {
        let mut plan = Plan::new();
        let device = match there {
            Some(piece) => piece.device,
            None => {
                let device = self.empty_device(kernel)?;
                let attribute = |name: &str| format!("{}/{device}/{name}", dax::DEVICES);
                let value = format!("{:x}-{:x}", range.start().0, range.last().0);
                plan.push(Step::new(
                    Action::write(attribute("mapping"), value),
                    Action::write(attribute("size"), "0"),
                ));
                device
            }
        };
        let kmem = DaxMode::SystemRam.driver();
        plan.push(Step::new(
            Action::Bind { bus: "dax", driver: kmem, device: device.clone() },
            Action::Unbind { bus: "dax", driver: kmem, device },
        ));
        let block = BlockId(range.start().0 / self.block_bytes);
        let file = format!("{}/{block}/state", memory_blocks::FOLDER);
        plan.push(Step::without_undo(Action::WaitFor {
            file: file.clone(),
            condition: Condition::Exists,
            limit: APPEAR_WITHIN,
        }));
        self.run(kernel, range, &plan)?;
        self.run(kernel, range, &self.online(kernel.root(), block, &file)?)
    }

    /// Wherever the kernel has put the block by itself, it is to be in zone Movable.
    fn online(&self, root: &Root, block: BlockId, file: &str) -> Result<Plan, DcdError> {
        let blocks = MemoryBlocks::read(root)?.ok_or(DcdError::NoHotPlug)?;
        let found = blocks.blocks.get(&block);
        let mut plan = Plan::new();
        let is_online = found.is_some_and(|block| block.state == BlockState::Online);
        if is_online && found.and_then(|block| block.zone()) == Some(Zone::Movable) {
            return Ok(plan);
        }
        let offline = || Action::write(file, BlockState::Offline.name());
        if is_online {
            plan.push(Step::without_undo(offline()));
        }
        plan.push(Step::new(Action::write(file, "online_movable"), offline()));
        Ok(plan)
    }

    /// A device of the region without memory, besides the one that always stays.
    fn empty_device(&self, kernel: &mut impl Kernel) -> Result<String, DcdError> {
        let empty = |kernel: &mut _| -> Result<Vec<String>, DcdError> {
            let devices = self.region.devices(Kernel::root(kernel))?;
            let empty = devices.into_iter().filter(|it| it.size.0 == 0 && it.mode.is_none());
            Ok(empty.map(|device| device.name).collect())
        };
        if empty(kernel)?.len() < 2 {
            let mut plan = Plan::new();
            plan.push(Step::without_undo(Action::write(self.region.attribute("create"), "1")));
            self.run(kernel, self.region.range, &plan)?;
        }
        let found = empty(kernel)?.pop();
        let none = std::io::Error::other("the kernel made no dax device");
        found.ok_or_else(|| DcdError::Memory { range: self.region.range, source: Box::new(none) })
    }

    /// Takes memory away whose blocks are offline. What is not there is gone already.
    ///
    /// # Errors
    /// [`DcdError`]: above all, that a block is in use.
    pub fn remove(&self, kernel: &mut impl Kernel, range: PhysRange) -> Result<(), DcdError> {
        let devices = self.region.devices(kernel.root())?;
        let seed = kernel.root().text(self.region.attribute("seed"))?;
        for device in &devices {
            let [of_device] = device.ranges[..] else { continue };
            if !range.contains(of_device) {
                continue;
            }
            if !self.online_of(kernel.root(), device)?.is_empty() {
                let source = Box::new(std::io::Error::other("it is online: expected it offline"));
                return Err(DcdError::Memory { range: of_device, source });
            }
            let mut plan = self.empty(device);
            if seed.as_deref() != Some(device.name.as_str()) {
                let delete = Action::write(self.region.attribute("delete"), &device.name);
                plan.push(Step::without_undo(delete));
            }
            self.run(kernel, of_device, &plan)?;
        }
        Ok(())
    }

    /// Takes a block offline that nobody can have used yet.
    fn take_offline(&self, kernel: &mut impl Kernel, range: PhysRange) -> Result<(), DcdError> {
        let block = BlockId(range.start().0 / self.block_bytes);
        let mut plan = Plan::new();
        let file = format!("{}/{block}/state", memory_blocks::FOLDER);
        plan.push(Step::without_undo(Action::write(file, BlockState::Offline.name())));
        self.run(kernel, range, &plan)
    }

    /// A device without driver and memory.
    fn empty(&self, device: &DaxDevice) -> Plan {
        let mut plan = Plan::new();
        if let Some(mode) = device.mode {
            let (driver, name) = (mode.driver(), device.name.clone());
            let unbind = Action::Unbind { bus: "dax", driver, device: name };
            plan.push(Step::without_undo(unbind));
        }
        plan.push(Step::without_undo(Action::write(device.attribute("size"), "0")));
        plan
    }

    fn run(&self, kernel: &mut impl Kernel, range: PhysRange, plan: &Plan) -> Result<(), DcdError> {
        let passed = plan::run(kernel, plan, &mut |_, _| {});
        passed.map(drop).map_err(|source| DcdError::Memory { range, source })
    }

    /// The blocks of a range, which begins and ends where blocks do.
    pub fn blocks_in(&self, range: PhysRange) -> impl Iterator<Item = PhysRange> + use<> {
        let (first, each) = (range.start().0, self.block_bytes);
        let count = u64::try_from(range.bytes() / u128::from(each)).unwrap_or(u64::MAX);
        let block = move |number| PhysRange::from_size(PhysAddr(first + number * each), each);
        (0..count).map_while(block)
    }

    /// The number of the block that begins there.
    #[must_use]
    pub fn block_of(&self, range: PhysRange) -> BlockId {
        BlockId(range.start().0 / self.block_bytes)
    }

    /// How much of a range is online, and in which blocks, as far as that can be read.
    #[must_use]
    pub fn online_in(&self, root: &Root, range: PhysRange) -> (ByteSize, String) {
        let blocks = MemoryBlocks::read(root).ok().flatten();
        let within = blocks.iter().flat_map(|blocks| blocks.within(range));
        let online = within.filter(|block| block.state != BlockState::Offline);
        let online: Vec<BlockId> = online.map(|block| block.id).collect();
        let bytes = ByteSize(self.block_bytes.saturating_mul(online.len() as u64));
        (bytes, memory_blocks::list(online))
    }
}
