//! The machine as the onlining rules see it.
//!
//! The rules are the engine's (`memtide_engine::onlining`), and so is the book that they look at.
//! Here it is filled from what the kernel shows, so that what they decide is what the kernel would:
//!
//! * What is there since boot counts by the pages that are really present (/proc/zoneinfo), less
//!   what was plugged into kernel zones since: `present_early_pages` itself is not shown.
//! * Blocks that are online are replayed into the zones that they are in.

use std::collections::BTreeMap;

use memtide_engine::onlining::{
    GroupId, GroupKind, Memory, OnlineError as Refused, OnlinePolicy, OnlineType, OnlineZone,
};
use memtide_units::{FrameRange, NodeId, PAGE_BYTES, Pfn, PhysRange};

use crate::{
    BlockId, BlockState, MemoryBlock, MemoryBlocks, Notes, ReadError, Root, Zone,
    memory_groups::{MemoryGroupKind, MemoryGroups},
    zones,
};

/// The book, and which of its groups blocks belong to.
#[derive(Clone, Debug)]
pub struct Onlining {
    memory: Memory,
    group_of: BTreeMap<BlockId, GroupId>,
}

/// Why the book could not be filled, or a block not be entered.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StateError {
    /// Something could not be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// What was read contradicts itself.
    #[error("{block} does not go with the memory that the kernel shows besides it")]
    Contradiction {
        /// Which block.
        block: BlockId,
        /// What the rules say.
        source: Refused,
    },
}

impl Onlining {
    /// From the machine.
    ///
    /// # Errors
    /// [`StateError`].
    pub fn read(root: &Root, blocks: &MemoryBlocks) -> Result<Self, StateError> {
        Self::of(root, blocks, &MemoryGroups::read(root, blocks)?)
    }

    /// From blocks and groups that are read already, or supposed.
    ///
    /// # Errors
    /// [`StateError`].
    pub fn of(
        root: &Root,
        blocks: &MemoryBlocks,
        groups: &MemoryGroups,
    ) -> Result<Self, StateError> {
        let zones = KernelPages::of_nodes(root)?;
        let mut book = Self { memory: Memory::new(), group_of: BTreeMap::new() };
        let nodes = blocks.blocks.values().flat_map(|block| block.nodes.iter().copied());
        nodes.chain(zones.keys().copied()).for_each(|node| {
            book.memory.add_node(node);
        });
        book.add_groups(groups, blocks)?;
        book.boot(blocks, groups, &zones)?;
        let early = |block: &MemoryBlock| groups.early.contains(&block.id);
        let online = blocks.blocks.values().filter(|block| block.state == BlockState::Online);
        for block in online {
            match block.zone() {
                Some(Zone::Movable) => book.replay(block, OnlineType::OnlineMovable)?,
                _ if early(block) => {}
                _ => book.replay(block, OnlineType::OnlineKernel)?,
            }
        }
        Ok(book)
    }

    /// Which zone a block goes to, and enters it there.
    ///
    /// # Errors
    /// [`StateError::Contradiction`] for a block that is online already, or of no node.
    pub fn online(
        &mut self,
        block: &MemoryBlock,
        policy: OnlinePolicy,
        kind: OnlineType,
    ) -> Result<OnlineZone, StateError> {
        let group = self.group_of.get(&block.id).copied();
        let node = block.node().unwrap_or(NodeId(u16::MAX));
        let entered = self.memory.online(policy, kind, node, group, frames(block.range));
        entered.map_err(|source| StateError::Contradiction { block: block.id, source })
    }

    fn replay(&mut self, block: &MemoryBlock, kind: OnlineType) -> Result<(), StateError> {
        // An explicit kind goes before any policy.
        let policy = OnlinePolicy::ContigZones { otherwise: OnlineZone::Kernel };
        self.online(block, policy, kind).map(|_| ())
    }

    fn add_groups(
        &mut self,
        groups: &MemoryGroups,
        blocks: &MemoryBlocks,
    ) -> Result<(), StateError> {
        let block_pages = blocks.block_bytes / PAGE_BYTES;
        let mut ids = Vec::new();
        for (index, group) in groups.groups.iter().enumerate() {
            let kind = match group.kind {
                MemoryGroupKind::Static { bytes } => {
                    GroupKind::Static { max_pages: bytes.0 / PAGE_BYTES }
                }
                MemoryGroupKind::Dynamic => GroupKind::Dynamic { unit_pages: block_pages },
            };
            let Some(node) = group.node else {
                ids.push(None);
                continue;
            };
            self.memory.add_node(node);
            let id = self.memory.add_group(node, kind).map_err(|source| {
                let of_it = groups.of_block.iter().find(|&(_, &of)| of == index);
                let block = of_it.map_or(BlockId(0), |(&block, _)| block);
                StateError::Contradiction { block, source }
            })?;
            ids.push(Some(id));
        }
        let of_block = groups.of_block.iter();
        self.group_of = of_block.filter_map(|(&block, &of)| Some((block, ids[of]?))).collect();
        Ok(())
    }

    /// What is there since boot, in kernel zones. A block may have holes: of each node's pages
    /// those are left out that are not present, at its start, where holes are.
    fn boot(
        &mut self,
        blocks: &MemoryBlocks,
        groups: &MemoryGroups,
        zones: &BTreeMap<NodeId, KernelPages>,
    ) -> Result<(), StateError> {
        let block_pages = blocks.block_bytes / PAGE_BYTES;
        let in_kernel_zone = |block: &&MemoryBlock| {
            block.state != BlockState::Offline && block.zone() != Some(Zone::Movable)
        };
        let mut at_boot: BTreeMap<NodeId, Vec<&MemoryBlock>> = BTreeMap::new();
        let mut plugged: BTreeMap<NodeId, u64> = BTreeMap::new();
        for block in blocks.blocks.values().filter(in_kernel_zone) {
            let Some(&node) = block.nodes.first() else { continue };
            if groups.early.contains(&block.id) {
                at_boot.entry(node).or_default().push(block);
            } else {
                *plugged.entry(node).or_default() += block_pages;
            }
        }
        for (node, blocks) in at_boot {
            let KernelPages { present, mut cma } = zones.get(&node).copied().unwrap_or_default();
            let present = present.saturating_sub(plugged.get(&node).copied().unwrap_or(0));
            let mut holes = (blocks.len() as u64 * block_pages).saturating_sub(present);
            for block in blocks {
                let missing = holes.min(block_pages);
                holes -= missing;
                let all = frames(block.range);
                let range = FrameRange::new(Pfn(all.start.0 + missing), all.frames - missing);
                if range.frames == 0 {
                    continue;
                }
                let of_cma = cma.min(range.frames);
                cma -= of_cma;
                let entered = self.memory.boot(node, range, of_cma);
                entered.map_err(|source| StateError::Contradiction { block: block.id, source })?;
            }
        }
        Ok(())
    }
}

/// Pages of a node's kernel zones.
#[derive(Clone, Copy, Default)]
struct KernelPages {
    present: u64,
    /// Of the contiguous memory allocator.
    cma: u64,
}

impl KernelPages {
    /// Of each node that has any pages.
    fn of_nodes(root: &Root) -> Result<BTreeMap<NodeId, Self>, ReadError> {
        let mut notes = Notes::new();
        let mut nodes: BTreeMap<NodeId, Self> = BTreeMap::new();
        for pages in zones::read(root, &mut notes) {
            let sums = nodes.entry(NodeId(pages.node)).or_default();
            if Zone::of(&pages.name).is_some_and(Zone::is_kernel) {
                let zone = pages.zone(PAGE_BYTES);
                sums.present = sums.present.saturating_add(zone.present.0 / PAGE_BYTES);
                sums.cma = sums.cma.saturating_add(zone.cma.0 / PAGE_BYTES);
            }
        }
        notes.into_result().map(|()| nodes)
    }
}

/// The frames of a block's range, which is a whole number of them.
fn frames(range: PhysRange) -> FrameRange {
    let bytes = u64::try_from(range.bytes()).expect("a block is smaller than all memory");
    FrameRange::new(Pfn(range.start().0 / PAGE_BYTES), bytes / PAGE_BYTES)
}
