//! What a give-back will try, and in which order: seen before anything is changed.

use std::collections::BTreeSet;

use memtide_units::{ByteSize, NodeId, PAGE_BYTES};

use super::{
    GiveBackError, GiveBackWish,
    rank::{self, Candidate, Chance},
};
use crate::{
    BlockId, BlockState, MemoryBlock, MemoryBlocks, Notes, Root,
    plan::{Action, Plan, Step},
    processes::Bound,
    zones::{self, ZonePages},
};

/// What will be tried.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Foreseen {
    /// Blocks that may leave, in the order in which they are tried.
    pub tried: Vec<Candidate>,
    /// Blocks with the kernel's own data, which are not tried.
    pub hopeless: Vec<Candidate>,
    /// The size of a block.
    pub block_bytes: ByteSize,
    /// So many blocks are to leave.
    pub wanted: u64,
    /// So many may at most: all of the node's, or all but the last.
    pub at_most: u64,
    /// For whom the last one stays.
    pub bound: Vec<Bound>,
}

impl Foreseen {
    /// Looks into the blocks of a node.
    ///
    /// # Errors
    /// [`GiveBackError`], for what makes no sense.
    pub fn read(root: &Root, wish: &GiveBackWish) -> Result<Self, GiveBackError> {
        Self::read_of(root, wish, |_| true)
    }

    /// Looks into these blocks of a node; the others stay.
    ///
    /// # Errors
    /// [`GiveBackError`], for what makes no sense.
    pub fn read_of(
        root: &Root,
        wish: &GiveBackWish,
        is_wanted: impl Fn(BlockId) -> bool,
    ) -> Result<Self, GiveBackError> {
        let blocks = MemoryBlocks::read(root)?.ok_or(GiveBackError::NoHotPlug)?;
        check(&blocks, wish)?;
        let wanted = wish.bytes.0.div_ceil(blocks.block_bytes);
        let online: Vec<&MemoryBlock> =
            blocks.of_node(wish.node).filter(|block| block.state == BlockState::Online).collect();
        let count = online.len() as u64;
        let bound = if wanted < count { Vec::new() } else { Bound::of_node(root, wish.node) };
        let at_most = if bound.is_empty() { wanted } else { count.saturating_sub(1) };
        let per_cpu = per_cpu(root, wish.node);
        let of_block = |block: &MemoryBlock| Candidate::of(root, block, per_cpu);
        let online = online.into_iter().filter(|block| is_wanted(block.id));
        let candidates = online.map(of_block).collect();
        let (tried, hopeless) = rank::rank(candidates)
            .into_iter()
            .partition(|candidate| candidate.chance != Chance::None);
        let block_bytes = ByteSize(blocks.block_bytes);
        Ok(Self { tried, hopeless, block_bytes, wanted, at_most, bound })
    }

    /// The blocks that leave if all goes well.
    #[must_use]
    pub fn leaving(&self) -> &[Candidate] {
        self.tried.split_at(self.split()).0
    }

    /// Those that are tried where one of them stays.
    #[must_use]
    pub fn next(&self) -> &[Candidate] {
        self.tried.split_at(self.split()).1
    }

    /// The size of so many blocks.
    #[must_use]
    pub const fn bytes(&self, blocks: u64) -> ByteSize {
        ByteSize(blocks.saturating_mul(self.block_bytes.0))
    }

    fn split(&self) -> usize {
        let leaving = usize::try_from(self.wanted.min(self.at_most)).unwrap_or(usize::MAX);
        leaving.min(self.tried.len())
    }

    /// The writes, if all goes well. Programs' pages are moved before each, by no write.
    #[must_use]
    pub fn plan(&self) -> Plan {
        let mut plan = Plan::new();
        for candidate in self.leaving() {
            let state = candidate.block.attribute("state");
            let away = Action::write(state, BlockState::Offline.name());
            plan.push(Step::without_undo(away));
        }
        plan
    }
}

/// What of a node is free on the lists of processors, as far as that can be read.
fn per_cpu(root: &Root, node: NodeId) -> ByteSize {
    let zones = zones::read(root, &mut Notes::new());
    let pages = zones.iter().filter(|zone| zone.node == node.0).map(ZonePages::per_cpu);
    ByteSize(pages.fold(0, u64::saturating_add).saturating_mul(PAGE_BYTES))
}

fn check(blocks: &MemoryBlocks, wish: &GiveBackWish) -> Result<(), GiveBackError> {
    if wish.bytes.0 == 0 {
        return Err(GiveBackError::Nothing);
    }
    if blocks.of_node(wish.node).next().is_none() {
        let nodes = blocks.blocks.values().flat_map(|block| block.nodes.iter().copied());
        let known: BTreeSet<NodeId> = nodes.collect();
        return Err(GiveBackError::NoNode { node: wish.node, known: known.into_iter().collect() });
    }
    Ok(())
}
