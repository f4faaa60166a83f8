//! Sources of memory, and what each processor pays to reach them.
//!
//! A source is where memory comes from: firmware's map at boot, a CXL region, another dax device
//! (high-bandwidth memory, persistent memory), a virtio-mem device. Its node is the node of its
//! blocks, or, while it has none, the one that its dax device would join. What firmware reported
//! is what remains of a node's blocks when the others are taken out.
//!
//! Costs are of nodes: the distance of SLIT, and HMAT's latency and bandwidth if the processor's
//! node is among the initiators that the kernel names.

use memtide_units::{ByteSize, NodeId, PhysRange};
use serde::Serialize;

use super::{online_within, way};
use crate::{
    BlockState, MemoryBlocks,
    access::Performance,
    cxl::{Cxl, Region},
    dax::DaxDevice,
    nodes::{Node, Nodes},
    virtio_mem::VirtioMem,
};

/// One source of memory.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct Memory {
    /// What it is.
    #[serde(flatten)]
    pub source: Source,
    /// The node that it belongs to, or would.
    pub node: Option<NodeId>,
    /// All of it.
    pub size: Option<ByteSize>,
    /// Of this, what is online: the kernel's to give to programs. Unknown where the source's
    /// addresses are: then its blocks count as what firmware reported.
    pub online: Option<ByteSize>,
    /// Who reaches it, at which cost: each node with processors.
    pub from: Vec<Reach>,
}

/// What a source is.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum Source {
    /// Memory that firmware reported at boot, or that came as DIMMs.
    Ram,
    /// A CXL region.
    Region {
        /// Its name.
        name: String,
        /// Its dax device, if there is one.
        dax: Option<String>,
        /// The way to each device that takes part.
        ways: Vec<way::Way>,
    },
    /// A dax device of something else.
    Dax {
        /// Its name.
        name: String,
    },
    /// A virtio-mem device.
    VirtioMem {
        /// Its name.
        name: String,
    },
}

/// What a processor node pays.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Reach {
    /// The node with the processors.
    pub node: NodeId,
    /// By SLIT: 10 is local.
    pub distance: Option<u32>,
    /// By HMAT.
    #[serde(flatten)]
    pub performance: Performance,
}

/// All sources: what firmware reported, by node; then regions, dax devices, virtio-mem devices.
pub(super) fn join(
    nodes: &Nodes,
    blocks: Option<&MemoryBlocks>,
    cxl: &Cxl,
    devices: &[DaxDevice],
    virtio_mem: &[VirtioMem],
) -> Vec<Memory> {
    let mut others = Vec::new();
    let mut taken: Vec<PhysRange> = Vec::new();
    for region in &cxl.regions {
        others.push(of_region(nodes, blocks, cxl, region, devices));
        taken.extend(region.range());
    }
    for device in devices.iter().filter(|device| region_of(cxl, device).is_none()) {
        others.push(of_dax(nodes, blocks, device));
        taken.extend(&device.ranges);
    }
    for device in virtio_mem {
        others.push(of_virtio_mem(nodes, blocks, device));
        taken.extend(device.range());
    }
    let mut memories = ram(nodes, blocks, &taken);
    memories.append(&mut others);
    memories
}

fn of_region(
    nodes: &Nodes,
    blocks: Option<&MemoryBlocks>,
    cxl: &Cxl,
    region: &Region,
    devices: &[DaxDevice],
) -> Memory {
    let is_of = |device: &&DaxDevice| device.parent.as_deref() == Some(region.name.as_str());
    let device = devices.iter().find(is_of);
    let ranges: Vec<PhysRange> = region.range().into_iter().collect();
    let (there, online) = placed(blocks, &ranges);
    let node = there.or_else(|| device.and_then(|device| device.target_node));
    Memory {
        source: Source::Region {
            name: region.name.clone(),
            dax: device.map(|device| device.name.clone()),
            ways: way::ways(cxl, region),
        },
        node,
        size: region.size,
        online,
        from: reach(nodes, node),
    }
}

fn of_dax(nodes: &Nodes, blocks: Option<&MemoryBlocks>, device: &DaxDevice) -> Memory {
    let (there, online) = placed(blocks, &device.ranges);
    let node = there.or(device.target_node);
    Memory {
        source: Source::Dax { name: device.name.clone() },
        node,
        size: Some(device.size),
        online,
        from: reach(nodes, node),
    }
}

fn of_virtio_mem(nodes: &Nodes, blocks: Option<&MemoryBlocks>, device: &VirtioMem) -> Memory {
    let ranges: Vec<PhysRange> = device.range().into_iter().collect();
    let (node, online) = placed(blocks, &ranges);
    Memory {
        source: Source::VirtioMem { name: device.name.clone() },
        node,
        size: device.size,
        online,
        from: reach(nodes, node),
    }
}

/// Memory that no device of ours provides, by node.
fn ram(nodes: &Nodes, blocks: Option<&MemoryBlocks>, taken: &[PhysRange]) -> Vec<Memory> {
    let mut memories = Vec::new();
    for node in &nodes.online {
        let (size, online) = match blocks {
            Some(blocks) => own_blocks(blocks, node.node, taken),
            // Without blocks nothing can come or go: all of it was there at boot.
            None => (node.memory.unwrap_or_default(), node.memory.unwrap_or_default()),
        };
        if size.0 > 0 {
            memories.push(Memory {
                source: Source::Ram,
                node: Some(node.node),
                size: Some(size),
                online: Some(online),
                from: reach(nodes, Some(node.node)),
            });
        }
    }
    memories
}

/// Blocks of a node outside of what is taken: all, and those that are online.
fn own_blocks(blocks: &MemoryBlocks, node: NodeId, taken: &[PhysRange]) -> (ByteSize, ByteSize) {
    let own = blocks.of_node(node).filter(|block| {
        block.nodes.first() == Some(&node) && !taken.iter().any(|range| range.overlaps(block.range))
    });
    let (mut all, mut online) = (0u64, 0u64);
    for block in own {
        all = all.saturating_add(blocks.block_bytes);
        if block.state != BlockState::Offline {
            online = online.saturating_add(blocks.block_bytes);
        }
    }
    (ByteSize(all), ByteSize(online))
}

/// The node of the blocks in some ranges, and how much of them is online.
fn placed(
    blocks: Option<&MemoryBlocks>,
    ranges: &[PhysRange],
) -> (Option<NodeId>, Option<ByteSize>) {
    let Some(blocks) = blocks.filter(|_| !ranges.is_empty()) else { return (None, None) };
    let mut inside = ranges.iter().flat_map(|&range| blocks.within(range));
    let node = inside.find_map(|block| block.nodes.first().copied());
    let online = ranges.iter().map(|&range| online_within(blocks, range));
    (node, Some(ByteSize(online.fold(0, u64::saturating_add))))
}

/// The region that provides a dax device.
fn region_of<'a>(cxl: &'a Cxl, device: &DaxDevice) -> Option<&'a Region> {
    cxl.region(device.parent.as_deref()?)
}

/// What each node with processors pays to reach `node`, if that is online.
fn reach(nodes: &Nodes, node: Option<NodeId>) -> Vec<Reach> {
    let Some(target) = node.and_then(|node| nodes.get(node)) else { return Vec::new() };
    let processors = nodes.online.iter().filter(|node| !node.cpus.is_empty());
    processors
        .map(|from| Reach {
            node: from.node,
            distance: distance(from, target.node),
            performance: performance(target, from.node),
        })
        .collect()
}

fn distance(from: &Node, to: NodeId) -> Option<u32> {
    from.distances.iter().find(|distance| distance.to == to).map(|distance| distance.distance)
}

/// Of the lowest class of access that names the node. Of CXL memory the kernel works out what the
/// nearest processors pay, and names nobody (`cxl_region_update_coordinates`): class 1 then.
fn performance(target: &Node, from: NodeId) -> Performance {
    let named = target.access.iter().find(|class| class.initiators.contains(&from));
    let unnamed =
        || target.access.iter().find(|class| class.class == 1 && class.initiators.is_empty());
    named.or_else(unnamed).map(|class| class.performance).unwrap_or_default()
}
