//! Memory that is gone without a word: a link was lost, a device removed by surprise, an extent
//! taken back by force.
//!
//! It is whole blocks that go. They are offline at once, whatever was in them:
//!
//! * Every lease ends, and each of its holders is told ([`crate::Effect::Lost`]).
//! * What was being zeroed there needs no zeroing; the store discards it
//!   ([`crate::Effect::Offlined`]).
//! * What an order was to move there, or from there, is settled as [`crate::moves`] says.
//! * Give-backs that were emptying the blocks, or wanted these very ones, have them.
//!
//! Everything else stays as it is. The blocks come back ([`crate::Input::Add`],
//! [`crate::Input::Online`]) once all who lost something in them have let go of it
//! ([`crate::loss`]).

use alloc::{collections::BTreeSet, vec::Vec};

use memtide_units::{Extent, Pageblock};

use crate::{
    device::DeviceEvent,
    engine::Engine,
    loss::Loss,
    pageblocks::{BlockState, PageblockState},
    pool::BlockId,
    refusal::Refusal,
};

impl Engine {
    /// Blocks that are gone already may be named again.
    pub(crate) fn lost(&mut self, extents: &[Extent]) -> Result<(), Refusal> {
        let all = self.blocks_of(extents, "there", |_| true)?;
        let there = all.into_iter();
        let there = there.filter(|&block| self.pool.block_state(block) != BlockState::Offline);
        let there: Vec<_> = there.collect();
        for &block in &there {
            self.lose_block(block);
        }
        for node in there.iter().map(|block| block.node).collect::<BTreeSet<_>>() {
            if self.pool.online_blocks(&[node]).is_empty() {
                self.tell_device(node, DeviceEvent::Gone);
            }
        }
        Ok(())
    }

    fn lose_block(&mut self, block: BlockId) {
        let span = self.pool.span(block);
        for pageblock in (span.start.0..span.end.0).map(Pageblock) {
            if self.pool.state(pageblock) == Some(PageblockState::Used) {
                self.end_use(pageblock, Loss::Gone);
                self.pool.put(pageblock);
            }
        }
        match self.emptying.get(&block).copied() {
            Some(work) => self.review(block, work),
            None => {
                self.pool.isolate(block);
                self.take_offline(block);
            }
        }
        assert_eq!(self.pool.block_state(block), BlockState::Offline);
    }

    /// Takes a block offline that is isolated and empty.
    pub(crate) fn take_offline(&mut self, block: BlockId) {
        self.pool.offline(block);
        let span = self.pool.span(block);
        let offlined = self.out.offlined.entry(block.node).or_default();
        offlined.extend((span.start.0..span.end.0).map(Pageblock));
    }

    /// The blocks that these extents are made of, if each is whole blocks of one node in a state
    /// that is expected.
    pub(crate) fn blocks_of(
        &self,
        extents: &[Extent],
        expected: &'static str,
        fits: impl Fn(BlockId) -> bool,
    ) -> Result<BTreeSet<BlockId>, Refusal> {
        let mut all = BTreeSet::new();
        for &extent in extents {
            let refusal = Refusal::NotBlocks { extent, expected };
            let node = self.pool.node_of(extent.start).ok_or(refusal)?;
            let blocks = self.pool.frames(node).blocks_of(extent).ok_or(refusal)?;
            for block in blocks.map(|block| BlockId { node, block }) {
                if !fits(block) {
                    return Err(refusal);
                }
                all.insert(block);
            }
        }
        Ok(all)
    }
}
