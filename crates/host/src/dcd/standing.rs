//! What this host has of a device, for a fabric manager that is told of it.
//!
//! A device with dynamic capacity tells its manager what a host accepted and released. QEMU's does
//! not, so whoever serves it can say so himself: what is accepted now, and which offers were
//! answered since the last time. From both follows what became of each offer: what was answered and
//! is not accepted was refused, or is released again.

use std::collections::BTreeSet;

use memtide_engine::dynamic_capacity::{DcExtent, DpaRange};
use memtide_units::{ByteSize, NodeId};

use super::{agent::Agent, mailbox::Commands};
use crate::{MemoryBlocks, Root, nodes::Nodes, notes::Notes};

/// Answers that are remembered until somebody takes them; older ones are forgotten.
const ANSWERED_MAX: usize = 1024;

/// Offers, as far as a manager hears of them.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(super) struct Offers {
    /// Extents of the chain that has not ended.
    chain: Vec<DpaRange>,
    /// Extents that were answered, and nobody has taken.
    answered: Vec<DpaRange>,
}

/// Whether more of a chain follows.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Chain {
    GoesOn,
    Ends,
}

impl Offers {
    /// An extent of a chain, which is answered with its last one.
    pub(super) fn push(&mut self, extent: DpaRange, chain: Chain) {
        self.chain.push(extent);
        if chain == Chain::Ends {
            self.answered.append(&mut self.chain);
            let surplus = self.answered.len().saturating_sub(ANSWERED_MAX);
            self.answered.drain(..surplus);
        }
    }
}

impl<C: Commands> Agent<C> {
    /// What was offered and has been answered since this was asked last.
    pub fn take_answered(&mut self) -> Vec<DpaRange> {
        std::mem::take(&mut self.offers.answered)
    }

    /// What is accepted and not released, ascending: what cannot be taken from the kernel yet is.
    #[must_use]
    pub fn accepted(&self) -> Vec<DcExtent> {
        let groups = self.groups();
        let surfaced = groups.iter().filter(|group| group.surfaced);
        let extents = surfaced.flat_map(|group| {
            let extent = |&range: &DpaRange| DcExtent { range, tag: group.tag, sequence: 0 };
            group.extents.iter().map(extent)
        });
        let stuck = self.stuck.blocks().iter();
        let tag = memtide_engine::dynamic_capacity::Tag::NULL;
        let mut all: Vec<DcExtent> =
            extents.chain(stuck.map(|&range| DcExtent { range, tag, sequence: 0 })).collect();
        all.sort_unstable();
        all
    }

    /// How much of it is in use: what is not free on its nodes, and no more than is online.
    #[must_use]
    pub fn used(&self, root: &Root) -> ByteSize {
        let blocks = MemoryBlocks::read(root).ok().flatten();
        let groups = self.groups();
        let (mut online, mut nodes) = (0_u64, BTreeSet::new());
        for group in &groups {
            let of_group = self.online_of(&group.extents, blocks.as_ref());
            online = online.saturating_add(of_group.bytes.0);
            nodes.extend(of_group.nodes);
        }
        let all = Nodes::read(root, &mut Notes::default());
        let used = |node: &NodeId| {
            let node = all.get(*node)?;
            Some(node.memory?.0.saturating_sub(node.free?.0))
        };
        ByteSize(nodes.iter().filter_map(used).sum::<u64>().min(online))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_chain_is_answered_with_its_last_extent() {
        let mut offers = Offers::default();
        let extent = |at: u64| DpaRange::new(at << 20, 1 << 20);
        offers.push(extent(1), Chain::GoesOn);
        assert_eq!(offers.answered, []);
        offers.push(extent(2), Chain::Ends);
        assert_eq!(offers.answered, [extent(1), extent(2)]);
        for at in 3..2000 {
            offers.push(extent(at), Chain::Ends);
        }
        assert_eq!(offers.answered.len(), ANSWERED_MAX);
        assert_eq!(offers.answered.last(), Some(&extent(1999)));
    }
}
