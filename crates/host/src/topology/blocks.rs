//! Memory blocks, counted: a large machine has thousands, and what matters is how many of each
//! node are in which zone, and how many are offline.

use std::collections::{BTreeMap, BTreeSet};

use memtide_units::{ByteSize, NodeId};
use serde::{Serialize, Serializer};

use crate::{
    BlockId, BlockState, MemoryBlocks, Notes, Root, attributes::Folder, dax::DaxDevice, firmware,
    memory_groups,
};

/// All blocks of a machine.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Blocks {
    /// The size of each.
    pub block_size: ByteSize,
    /// What happens to blocks that come: `offline`, `online`, `online_kernel`, `online_movable`.
    pub auto_online: Option<String>,
    /// How the kernel chooses a zone: `contig-zones` or `auto-movable`.
    pub online_policy: Option<String>,
    /// For `auto-movable`: at most so much percent of kernel memory may be movable.
    pub auto_movable_ratio: Option<u32>,
    /// Those whose dax device is gone: nothing is behind them any more.
    #[serde(serialize_with = "numbers")]
    pub abandoned: BTreeSet<BlockId>,
    /// By node; those of no node, or of several, are under `null`.
    pub nodes: Vec<NodeBlocks>,
}

/// The blocks of one node.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct NodeBlocks {
    /// Which node.
    pub node: Option<NodeId>,
    /// By state and zone.
    pub zones: Vec<ZoneBlocks>,
}

/// Blocks in one state and zone.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct ZoneBlocks {
    /// `online`, `going-offline`, `offline`.
    pub state: &'static str,
    /// Of what is online the zone; `null` if it is in several.
    pub zone: Option<&'static str>,
    /// How many.
    pub blocks: u64,
    /// How much.
    pub bytes: ByteSize,
}

impl Blocks {
    pub(super) fn read(
        root: &Root,
        blocks: &MemoryBlocks,
        devices: &[DaxDevice],
        notes: &mut Notes,
    ) -> Self {
        let iomem = notes.keep(firmware::iomem(root)).unwrap_or_default();
        let auto_online =
            Folder::new(root, crate::memory_blocks::FOLDER, notes).word("auto_online_blocks");
        let mut folder = Folder::new(root, "sys/module/memory_hotplug/parameters", notes);
        Self {
            block_size: ByteSize(blocks.block_bytes),
            auto_online,
            online_policy: folder.word("online_policy"),
            auto_movable_ratio: folder.small("auto_movable_ratio"),
            abandoned: memory_groups::abandoned_of(devices, &iomem, blocks),
            nodes: count(blocks),
        }
    }

    /// Those of a node.
    #[must_use]
    pub fn of_node(&self, node: NodeId) -> &[ZoneBlocks] {
        let own = self.nodes.iter().find(|blocks| blocks.node == Some(node));
        own.map_or(&[], |blocks| &blocks.zones)
    }
}

fn numbers<S: Serializer>(blocks: &BTreeSet<BlockId>, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_seq(blocks.iter().map(|block| block.0))
}

fn count(blocks: &MemoryBlocks) -> Vec<NodeBlocks> {
    type Key = (BlockState, Option<crate::Zone>);
    let mut nodes: BTreeMap<Option<NodeId>, BTreeMap<Key, u64>> = BTreeMap::new();
    for block in blocks.blocks.values() {
        let key = (block.state, block.zone());
        *nodes.entry(block.node()).or_default().entry(key).or_default() += 1;
    }
    let of_zone = |((state, zone), blocks_there): (Key, u64)| ZoneBlocks {
        state: state.name(),
        zone: zone.map(crate::Zone::name),
        blocks: blocks_there,
        bytes: ByteSize(blocks_there.saturating_mul(blocks.block_bytes)),
    };
    let of_node = |(node, zones): (_, BTreeMap<Key, u64>)| NodeBlocks {
        node,
        zones: zones.into_iter().map(of_zone).collect(),
    };
    nodes.into_iter().map(of_node).collect()
}
