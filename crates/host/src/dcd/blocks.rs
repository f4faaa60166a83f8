//! What is done to the kernel: extents become memory, are emptied, and leave it.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::{Duration, Instant},
};

use memtide_engine::dynamic_capacity::DpaRange;
use memtide_units::{ByteSize, NodeId, PhysRange};

use super::{
    agent::{Agent, Online, Say},
    error::DcdError,
    mailbox::Commands,
    report::Report,
    supply::Supplied,
};
use crate::{
    BlockId, BlockState, MemoryBlocks,
    give_back::{self, GiveBackWish, answer::Answer, vacate},
    plan::Kernel,
};

/// How long is looked for programs that lost memory.
const LOOK_LIMIT: Duration = Duration::from_secs(5);

impl<C: Commands> Agent<C> {
    /// How much of extents is online at this moment, and on which nodes.
    #[must_use]
    pub fn online_of(&self, extents: &[DpaRange], blocks: Option<&MemoryBlocks>) -> Online {
        let of_extents = self.blocks_of(extents);
        let known = of_extents.keys().filter_map(|block| blocks?.blocks.get(block));
        let mut online = Online::default();
        for block in known.filter(|block| block.state == BlockState::Online) {
            online.bytes.0 += self.setup.memory.block_bytes();
            online.nodes.extend(block.nodes.iter().copied());
        }
        online
    }

    /// Takes memory away that nobody uses any more, block by block. A block that the kernel does
    /// not let go of is not given back, and is tried again.
    pub(super) fn withdraw(
        &mut self,
        extents: &[DpaRange],
        kernel: &mut impl Kernel,
        say: Say<'_>,
    ) -> Result<(), DcdError> {
        for block in self.blocks_of(extents).into_values() {
            for range in self.physical(&[block]) {
                match self.setup.memory.remove(kernel, range) {
                    Err(error @ DcdError::Memory { .. }) => {
                        say(Report::Trouble { what: chain(&error) });
                        self.stuck.push(block, Instant::now());
                    }
                    removed => removed?,
                }
            }
        }
        Ok(())
    }

    /// Tries again to take away what stayed, if it is time for that, and releases what went.
    pub(super) fn try_stuck(
        &mut self,
        kernel: &mut impl Kernel,
        say: Say<'_>,
    ) -> Result<(), DcdError> {
        let blocks = self.stuck.take_due(Instant::now());
        if blocks.is_empty() {
            return Ok(());
        }
        self.withdraw(&blocks, kernel, say)?;
        self.stuck.tried();
        self.release(&blocks, say)
    }

    /// Makes memory of extents. Where the kernel refuses, they stay unused, and that is said.
    pub(super) fn add(
        &mut self,
        extents: &[DpaRange],
        kernel: &mut impl Kernel,
        say: Say<'_>,
    ) -> Result<(), DcdError> {
        self.stuck.forget(extents);
        self.supplied.iter_mut().for_each(Supplied::look_soon);
        for range in self.physical(extents) {
            match self.setup.memory.add(kernel, range) {
                Err(error @ DcdError::Memory { .. }) => {
                    say(Report::Trouble { what: chain(&error) });
                }
                added => added?,
            }
        }
        Ok(())
    }

    /// Empties what is asked back, as far as that goes within the deadline; what nobody uses then.
    pub(super) fn reclaim(
        &mut self,
        ranges: &[DpaRange],
        kernel: &mut impl Kernel,
        say: Say<'_>,
    ) -> Result<Vec<DpaRange>, DcdError> {
        let blocks = self.blocks_of(ranges);
        let allowed = self.shrink_pool(&blocks.keys().copied().collect(), kernel, say)?;
        let went = self.give_back(&blocks, allowed.blocks, kernel, say)?;
        let answer = match (allowed.answer, went) {
            (Some(pool), Some(went)) => Some(join(Some(pool), went)),
            (pool, went) => pool.or(went),
        };
        let now = MemoryBlocks::read(kernel.root())?.ok_or(DcdError::NoHotPlug)?;
        let is_free = |block: &BlockId| {
            now.blocks.get(block).is_none_or(|block| block.state == BlockState::Offline)
        };
        let free: Vec<DpaRange> =
            blocks.iter().filter(|(block, _)| is_free(block)).map(|(_, &range)| range).collect();
        let bytes = |ranges: &[DpaRange]| ByteSize(ranges.iter().map(|range| range.length).sum());
        let (asked, can_go) = (bytes(ranges), bytes(&free));
        say(Report::AskedBack { asked, free: can_go, answer });
        Ok(free)
    }

    pub(super) fn give_back(
        &self,
        blocks: &BTreeMap<BlockId, DpaRange>,
        at_most: Option<u64>,
        kernel: &mut impl Kernel,
        say: Say<'_>,
    ) -> Result<Option<Answer>, DcdError> {
        let now = MemoryBlocks::read(kernel.root())?.ok_or(DcdError::NoHotPlug)?;
        let mut of_nodes: BTreeMap<NodeId, u64> = BTreeMap::new();
        for block in blocks.keys().filter_map(|block| now.blocks.get(block)) {
            if let (BlockState::Online, Some(node)) = (block.state, block.node()) {
                *of_nodes.entry(node).or_default() += now.block_bytes;
            }
        }
        let mut said: Option<Answer> = None;
        let mut may_leave = at_most.map_or(u64::MAX, |most| most.saturating_mul(now.block_bytes));
        let mut nodes = BTreeSet::new();
        for (node, bytes) in of_nodes {
            let (bytes, deadline) = (ByteSize(bytes.min(may_leave)), self.setup.deadline);
            may_leave -= bytes.0;
            if bytes.0 == 0 {
                continue;
            }
            nodes.insert(node);
            let wish = GiveBackWish { node, bytes, deadline };
            let is_wanted = |block| blocks.contains_key(&block);
            match give_back::give_back_of(kernel, &wish, is_wanted, &mut |_, _| {}) {
                Ok(answer) => said = Some(join(said, answer)),
                Err(error) => say(Report::Trouble { what: chain(&error) }),
            }
        }
        self.fetch_pool(kernel, &nodes, say);
        Ok(said)
    }

    pub(super) fn lost(&mut self, ranges: Vec<DpaRange>, kernel: &mut impl Kernel, say: Say<'_>) {
        self.supplied.iter_mut().for_each(Supplied::look_soon);
        let node = self.node_of(&ranges, kernel).ok().flatten();
        let end = Instant::now() + LOOK_LIMIT;
        let residents = node.map(|node| vacate::residents(kernel.root(), node, end));
        let programs = residents.into_iter().flatten().map(|resident| {
            format!("{} (pid {})", resident.program.name(), resident.program.pid())
        });
        let programs = programs.collect();
        let blocks = crate::memory_blocks::list(self.blocks_of(&ranges).into_keys());
        say(Report::Lost { ranges, programs, blocks });
    }

    /// Memory of the decoders behind which there is no extent: an agent was killed before it could
    /// take it away. What is in use is not touched.
    pub(super) fn remove_orphans(
        &self,
        kernel: &mut impl Kernel,
        say: Say<'_>,
    ) -> Result<(), DcdError> {
        let held: Vec<PhysRange> =
            self.host.groups().iter().flat_map(|group| self.physical(&group.extents)).collect();
        for piece in self.setup.memory.pieces(kernel.root())? {
            let is_ours = self.setup.spans.iter().any(|span| span.physical().contains(piece.range));
            if !is_ours || held.iter().any(|range| range.contains(piece.range)) {
                continue;
            }
            match self.setup.memory.remove(kernel, piece.range) {
                Ok(()) => say(Report::Note {
                    what: format!("{} had no extent behind it, and is gone", piece.range),
                }),
                Err(error @ DcdError::Memory { .. }) => say(Report::Trouble {
                    what: format!("no extent is behind it any more: {}", chain(&error)),
                }),
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Where extents are; those outside of all decoders are nowhere.
    pub(super) fn physical(&self, extents: &[DpaRange]) -> Vec<PhysRange> {
        let at =
            |range: &DpaRange| self.setup.spans.iter().find_map(|span| span.to_physical(*range));
        extents.iter().filter_map(at).collect()
    }

    /// The blocks of extents, with what of the device each is.
    pub(super) fn blocks_of(&self, extents: &[DpaRange]) -> BTreeMap<BlockId, DpaRange> {
        let memory = &self.setup.memory;
        let blocks = self.physical(extents).into_iter().flat_map(|range| memory.blocks_in(range));
        blocks
            .filter_map(|block| {
                let of_device = self.setup.spans.iter().find_map(|span| span.to_device(block))?;
                Some((memory.block_of(block), of_device))
            })
            .collect()
    }

    pub(super) fn node_of(
        &self,
        extents: &[DpaRange],
        kernel: &mut impl Kernel,
    ) -> Result<Option<NodeId>, DcdError> {
        let blocks = MemoryBlocks::read(kernel.root())?.ok_or(DcdError::NoHotPlug)?;
        let of_extents = self.blocks_of(extents);
        Ok(of_extents.keys().find_map(|block| blocks.blocks.get(block)?.node()))
    }
}

/// Two answers as one.
fn join(said: Option<Answer>, mut answer: Answer) -> Answer {
    let Some(before) = said else { return answer };
    let sum = |a: ByteSize, b: ByteSize| ByteSize(a.0.saturating_add(b.0));
    answer.requested = sum(answer.requested, before.requested);
    answer.returned = sum(answer.returned, before.returned);
    answer.remaining = sum(answer.remaining, before.remaining);
    answer.holders.splice(..0, before.holders);
    answer.blocks.splice(..0, before.blocks);
    answer.ask_again |= before.ask_again;
    answer
}

/// What happened, and why.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    text
}
