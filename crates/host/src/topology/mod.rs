//! Everything about a machine's memory, joined: who is near what, and by which way.
//!
//! The kernel shows nodes, blocks, dax devices, regions and CXL ports each in a folder of its own.
//! Joined here, by physical address where root may see them, by name where not:
//! * [`memories`]: each source of memory (what firmware reported, a CXL region, another dax
//!   device, a virtio-mem device) with its node, and what it costs each processor node to reach it;
//! * [`way`]: of a region, the decoders and ports on the way to each device that takes part;
//! * [`blocks`]: memory blocks, counted by node and zone.
//!
//! What could not be read is in [`Topology::notes`], in words; the rest is true all the same.

pub mod blocks;
pub mod memories;
pub mod way;

use memtide_units::{ByteSize, NodeId, PhysRange};
use serde::Serialize;

use crate::{
    MemoryBlocks, Notes, Root,
    attributes::is_word,
    cxl::Cxl,
    dax::{self, DaxDevice},
    nodes::Nodes,
    tiers::{self, Tier},
    virtio_mem::{self, VirtioMem},
};

pub use blocks::{Blocks, NodeBlocks, ZoneBlocks};
pub use memories::{Memory, Reach, Source};
pub use way::{Hop, Way};

/// A machine's memory.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct Topology {
    /// NUMA nodes.
    pub nodes: Nodes,
    /// Memory tiers, the fastest first.
    pub tiers: Vec<Tier>,
    /// Memory blocks, where the kernel can hot-plug memory.
    pub blocks: Option<Blocks>,
    /// CXL devices.
    pub cxl: Cxl,
    /// Dax devices.
    pub dax: Vec<Dax>,
    /// virtio-mem devices.
    pub virtio_mem: Vec<VirtioMem>,
    /// Each source of memory, and the way to it.
    pub memories: Vec<Memory>,
    /// What could not be read.
    pub notes: Vec<String>,
}

/// A dax device.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Dax {
    /// `daxX.Y`.
    pub name: String,
    /// Who provides it: a CXL region, a range that firmware set aside (`hmem.1`).
    pub parent: Option<String>,
    /// Its size.
    pub size: ByteSize,
    /// What mappings of it must be aligned to.
    pub align: ByteSize,
    /// `devdax`, `system-ram`; none without a driver.
    pub mode: Option<&'static str>,
    /// The node that its memory belongs to, or would.
    pub target_node: Option<NodeId>,
}

impl Dax {
    fn of(device: &DaxDevice) -> Self {
        Self {
            name: device.name.clone(),
            parent: device.parent.clone().filter(|parent| is_word(parent)),
            size: device.size,
            align: device.align,
            mode: device.mode.map(dax::DaxMode::name),
            target_node: device.target_node,
        }
    }
}

impl Topology {
    /// The topology of a machine.
    #[must_use]
    pub fn read(root: &Root) -> Self {
        let mut notes = Notes::new();
        let nodes = Nodes::read(root, &mut notes);
        let tiers = tiers::read(root, &mut notes);
        let memory_blocks = notes.keep(MemoryBlocks::read(root));
        let cxl = Cxl::read(root, &mut notes);
        let mut devices = notes.keep_list(dax::read(root));
        devices.retain(|device| is_word(&device.name));
        let virtio_mem = virtio_mem::read(root, &mut notes);
        let memories = memories::join(&nodes, memory_blocks.as_ref(), &cxl, &devices, &virtio_mem);
        let blocks = memory_blocks.map(|read| Blocks::read(root, &read, &devices, &mut notes));
        Self {
            nodes,
            tiers,
            blocks,
            cxl,
            dax: devices.iter().map(Dax::of).collect(),
            virtio_mem,
            memories,
            notes: notes.lines(),
        }
    }

    /// The tier that a node is in.
    #[must_use]
    pub fn tier_of(&self, node: NodeId) -> Option<u32> {
        self.tiers.iter().find(|tier| tier.nodes.contains(&node)).map(|tier| tier.tier)
    }
}

/// How much of `range` the online blocks among `blocks` fill.
fn online_within(blocks: &MemoryBlocks, range: PhysRange) -> u64 {
    let online = blocks.within(range).filter(|block| block.state == crate::BlockState::Online);
    (online.count() as u64).saturating_mul(blocks.block_bytes)
}
