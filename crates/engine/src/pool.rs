//! The nodes together: from a pageblock to its node, from an order of placement to frames.

use alloc::{
    collections::{BTreeMap, BTreeSet},
    string::String,
    vec::Vec,
};

use memtide_frames::Movability;
use memtide_units::{Extent, NodeId, NodeKind, Pageblock};

use crate::{
    config::{Config, ConfigError, NodeConfig},
    nodes::NodeClass,
    onlining::OnlineZone,
    pageblocks::{BlockState, PageblockState, Pageblocks},
    refusal::Refusal,
};

/// All nodes of an engine.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Pool {
    nodes: Vec<Node>,
    by_first: BTreeMap<Pageblock, usize>,
    placement: Vec<usize>,
}

/// One node.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Node {
    pub(crate) id: NodeId,
    pub(crate) name: String,
    pub(crate) kind: NodeKind,
    /// Of blocks that come online and nobody says otherwise.
    pub(crate) zone: OnlineZone,
    pub(crate) frames: Pageblocks,
}

/// One block of one node.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) struct BlockId {
    pub(crate) node: usize,
    pub(crate) block: u64,
}

impl Node {
    /// Whether it is extended memory to policies: all that is not near, and what is in EXMEM.
    pub(crate) const fn is_extended(&self) -> bool {
        !matches!(self.kind, NodeKind::Near) || matches!(self.zone, OnlineZone::Exmem)
    }
}

impl Pool {
    pub(crate) fn new(config: &Config) -> Result<Self, ConfigError> {
        if config.nodes.is_empty() {
            return Err(ConfigError::NoNodes);
        }
        let mut pool =
            Self { nodes: Vec::new(), by_first: BTreeMap::new(), placement: placement(config)? };
        for node in &config.nodes {
            pool.push(node)?;
        }
        Ok(pool)
    }

    fn push(&mut self, config: &NodeConfig) -> Result<(), ConfigError> {
        let node = config.node;
        if self.index_of(node).is_some() {
            return Err(ConfigError::NodeTwice { node });
        }
        if let NodeClass::Private(permitted) = config.class {
            permitted.check().map_err(|source| ConfigError::Capability { node, source })?;
        }
        let mut frames = Pageblocks::new(config.first, config.pageblocks, config.block_pageblocks)
            .map_err(|source| ConfigError::Layout { node, source })?;
        let last = Pageblock(config.first.0 + (config.pageblocks - 1));
        let below = self.by_first.range(..=last).next_back().map(|(_, &index)| &self.nodes[index]);
        if let Some(other) = below
            && other.frames.first().0 + other.frames.present() > config.first.0
        {
            let (first, other) = (config.first, other.id);
            return Err(ConfigError::Overlap { node, first, other });
        }
        let mut offline = BTreeSet::new();
        for &extent in &config.offline {
            let blocks = frames.blocks_of(extent);
            let blocks = blocks.filter(|blocks| blocks.clone().all(|block| offline.insert(block)));
            blocks.ok_or(ConfigError::Offline { node, extent })?;
        }
        let zones = zones(config, &frames)?;
        for block in (0..frames.blocks()).filter(|block| !offline.contains(block)) {
            frames.online(block, zones.get(&block).copied().unwrap_or(config.zone));
        }
        self.by_first.insert(config.first, self.nodes.len());
        let (name, kind, zone) = (config.name.clone(), config.kind, config.zone);
        self.nodes.push(Node { id: node, name, kind, zone, frames });
        Ok(())
    }

    /// The nodes, in the order of the configuration.
    pub(crate) fn nodes(&self) -> &[Node] {
        &self.nodes
    }

    /// The frames of a node.
    pub(crate) fn frames(&self, node: usize) -> &Pageblocks {
        &self.nodes[node].frames
    }

    fn frames_mut(&mut self, node: usize) -> &mut Pageblocks {
        &mut self.nodes[node].frames
    }

    /// Where in [`Pool::nodes`] a node is.
    pub(crate) fn index_of(&self, id: NodeId) -> Option<usize> {
        self.nodes.iter().position(|node| node.id == id)
    }

    /// The node that has a pageblock.
    pub(crate) fn node_of(&self, pageblock: Pageblock) -> Option<usize> {
        let (_, &index) = self.by_first.range(..=pageblock).next_back()?;
        self.nodes[index].frames.contains(pageblock).then_some(index)
    }

    /// The state of a pageblock, if any node has it.
    pub(crate) fn state(&self, pageblock: Pageblock) -> Option<PageblockState> {
        Some(self.frames(self.node_of(pageblock)?).state(pageblock))
    }

    /// The block of a pageblock that some node has.
    pub(crate) fn block_of(&self, pageblock: Pageblock) -> BlockId {
        let node = self.node_of(pageblock).expect("only checked pageblocks get this far");
        BlockId { node, block: self.frames(node).block_of(pageblock) }
    }

    /// The pageblocks of a block.
    pub(crate) fn span(&self, id: BlockId) -> core::ops::Range<Pageblock> {
        let frames = self.frames(id.node);
        let start = frames.block_start(id.block);
        start..Pageblock(start.0 + frames.block_pageblocks())
    }

    /// Pageblocks in a block.
    pub(crate) fn block_pageblocks(&self, id: BlockId) -> u64 {
        self.frames(id.node).block_pageblocks()
    }

    /// The state of a block.
    pub(crate) fn block_state(&self, id: BlockId) -> BlockState {
        self.frames(id.node).block_state(id.block)
    }

    /// The zone of a block; of one that is offline, that which it was in last.
    pub(crate) fn zone(&self, id: BlockId) -> OnlineZone {
        self.frames(id.node).zone(id.block)
    }

    /// Pageblocks in use in a block.
    pub(crate) fn block_used(&self, id: BlockId) -> u64 {
        self.frames(id.node).block_used(id.block)
    }

    /// Whether a block is in the pool and not being emptied.
    pub(crate) fn is_open(&self, id: BlockId) -> bool {
        self.frames(id.node).block_state(id.block) == BlockState::Online
    }

    /// Whether a node is in the placement.
    pub(crate) fn is_placed(&self, node: usize) -> bool {
        self.placement.contains(&node)
    }

    /// Where requests start: the first node of the placement. (Without one, nothing is reached but
    /// by naming it.)
    pub(crate) fn local(&self) -> NodeId {
        self.nodes[self.placement.first().copied().unwrap_or(0)].id
    }

    /// Pageblocks of a block that can be taken.
    pub(crate) fn available_in(&self, id: BlockId) -> u64 {
        if self.is_open(id) { self.frames(id.node).block_free(id.block) } else { 0 }
    }

    /// The blocks of these nodes that are in the pool.
    pub(crate) fn online_blocks(&self, nodes: &[usize]) -> Vec<BlockId> {
        let mut all = Vec::new();
        for &node in nodes {
            all.extend(self.frames(node).blocks_there().map(|block| BlockId { node, block }));
        }
        all
    }

    /// Takes up to `count` on one node.
    pub(crate) fn take_on(
        &mut self,
        node: usize,
        count: u64,
        after: Option<Pageblock>,
        movability: Movability,
    ) -> Vec<Extent> {
        self.frames_mut(node).take(count, after, movability)
    }

    pub(crate) fn claim(&mut self, pageblock: Pageblock, movability: Movability) {
        let id = self.block_of(pageblock);
        self.frames_mut(id.node).claim(pageblock, movability);
    }

    pub(crate) fn put(&mut self, pageblock: Pageblock) {
        let id = self.block_of(pageblock);
        self.frames_mut(id.node).put(pageblock);
    }

    /// Takes a pageblock out of service for good.
    pub(crate) fn retire(&mut self, pageblock: Pageblock) {
        let id = self.block_of(pageblock);
        self.frames_mut(id.node).retire(pageblock);
    }

    /// Whether a pageblock that some node has is retired.
    pub(crate) fn is_retired(&self, pageblock: Pageblock) -> bool {
        self.frames(self.block_of(pageblock).node).is_retired(pageblock)
    }

    pub(crate) fn isolate(&mut self, id: BlockId) {
        self.frames_mut(id.node).isolate(id.block);
    }

    pub(crate) fn unisolate(&mut self, id: BlockId) {
        self.frames_mut(id.node).unisolate(id.block);
    }

    pub(crate) fn offline(&mut self, id: BlockId) {
        self.frames_mut(id.node).offline(id.block);
    }

    pub(crate) fn online_block(&mut self, id: BlockId, zone: OnlineZone) {
        self.frames_mut(id.node).online(id.block, zone);
    }

    /// The nodes in the order in which they are emptied: those that serve nobody, then the
    /// furthest in placement first.
    pub(crate) fn furthest_first(&self) -> Vec<usize> {
        let unplaced = (0..self.nodes.len()).filter(|node| !self.placement.contains(node));
        unplaced.chain(self.placement.iter().rev().copied()).collect()
    }

    /// Merges pageblocks into extents, none of which leaves its node: files are per node.
    pub(crate) fn extents(&self, pageblocks: impl IntoIterator<Item = Pageblock>) -> Vec<Extent> {
        let runs = Extent::from_blocks(pageblocks);
        let mut extents = Vec::with_capacity(runs.len());
        for run in runs {
            let (mut start, mut left) = (run.start, u64::from(run.count));
            while left > 0 {
                let node = self.node_of(start).expect("only checked pageblocks get this far");
                let frames = self.frames(node);
                let here = left.min(frames.first().0 + frames.present() - start.0);
                let count = u32::try_from(here).expect("a part of a run of 32 bits");
                extents.push(Extent::new(start, count));
                (start, left) = (Pageblock(start.0 + here), left - here);
            }
        }
        extents
    }

    /// The pageblocks of a message: each on some node, and named once. The work is bounded by
    /// the size of the pool, whatever the message says.
    pub(crate) fn check(
        &self,
        extents: &[Extent],
        seen: &mut BTreeSet<Pageblock>,
    ) -> Result<Vec<Pageblock>, Refusal> {
        let mut all = Vec::new();
        for pageblock in extents.iter().flat_map(|extent| extent.iter()) {
            if self.node_of(pageblock).is_none() {
                return Err(Refusal::NoSuchPageblock { pageblock });
            }
            if !seen.insert(pageblock) {
                return Err(Refusal::NamedTwice { pageblock });
            }
            all.push(pageblock);
        }
        Ok(all)
    }

    pub(crate) fn validate(&self) {
        for node in &self.nodes {
            node.frames.validate();
            let is_exmem = node.zone == OnlineZone::Exmem;
            for block in 0..node.frames.blocks() {
                let online = node.frames.block_state(block) != BlockState::Offline;
                let zone = node.frames.zone(block);
                let agrees = (zone == OnlineZone::Exmem) == is_exmem;
                assert!(!online || agrees, "block {block} of a node of {} is in {zone}", node.zone);
            }
        }
    }
}

/// The blocks of a node that have a zone of their own.
fn zones(
    config: &NodeConfig,
    frames: &Pageblocks,
) -> Result<BTreeMap<u64, OnlineZone>, ConfigError> {
    let (node, mut zones) = (config.node, BTreeMap::new());
    for &(extent, zone) in &config.zones {
        let refused = ConfigError::Zone { node, extent, zone };
        if (zone == OnlineZone::Exmem) != (config.zone == OnlineZone::Exmem) {
            return Err(refused);
        }
        for block in frames.blocks_of(extent).ok_or(refused.clone())? {
            if zones.insert(block, zone).is_some() {
                return Err(refused);
            }
        }
    }
    Ok(zones)
}

/// The placement as it is configured, or the public nodes, the nearest kind first.
fn placement(config: &Config) -> Result<Vec<usize>, ConfigError> {
    if config.placement.is_empty() {
        let public = |kind: NodeKind| {
            let nodes = config.nodes.iter().enumerate();
            let of_kind = nodes.filter(move |(_, node)| node.kind == kind);
            of_kind.filter(|(_, node)| node.class == NodeClass::Public).map(|(index, _)| index)
        };
        return Ok(NodeKind::ALL.into_iter().flat_map(public).collect());
    }
    let mut order = Vec::new();
    for &node in &config.placement {
        let index = config.nodes.iter().position(|known| known.node == node);
        let index = index.filter(|&index| config.nodes[index].class == NodeClass::Public);
        match index {
            Some(index) if !order.contains(&index) => order.push(index),
            _ => return Err(ConfigError::Placement { node }),
        }
    }
    Ok(order)
}
