//! Memory that is broken.
//!
//! A pageblock with an error that cannot be corrected is never used again: neither handed out, nor
//! moved to, nor zeroed. Whoever had it is told ([`crate::Effect::Poisoned`]) and has it no more;
//! what an order was to move there, or from there, is settled as [`crate::moves`] says. It is in
//! nobody's way: its block can be emptied, leave and come back, and it is out of service still.
//!
//! An engine that takes over must be told again of all that is retired ([`Engine::retired`]),
//! best before anybody returns.

use alloc::vec::Vec;

use memtide_units::{Extent, NodeId, Pageblock};

use crate::{engine::Engine, loss::Loss, pageblocks::PageblockState, refusal::Refusal};

impl Engine {
    /// The retired pageblocks of a node, wherever their blocks are. Nothing when there is no such
    /// node.
    #[must_use]
    pub fn retired(&self, node: NodeId) -> Vec<Extent> {
        let Some(node) = self.pool.index_of(node) else { return Vec::new() };
        self.pool.extents(self.pool.frames(node).retired().iter().copied())
    }

    /// That the same pageblock is bad is often said more than once.
    pub(crate) fn poison(&mut self, pageblock: Pageblock) -> Result<(), Refusal> {
        let state = self.pool.state(pageblock).ok_or(Refusal::NoSuchPageblock { pageblock })?;
        if self.pool.is_retired(pageblock) {
            return Ok(());
        }
        if state == PageblockState::Used {
            self.end_use(pageblock, Loss::Poisoned);
        }
        self.pool.retire(pageblock);
        self.touch(pageblock);
        Ok(())
    }
}
