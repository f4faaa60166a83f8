//! Spreading over nodes in turn.
//!
//! As `interleave_nodes` and `weighted_interleave_nodes` (mm/mempolicy.c) do it: nodes take turns
//! in the order of their numbers, a turn is as long as the node weighs, and where the last request
//! stopped the next goes on. A node that is not in the mask any more loses the rest of its turn.
//!
//! A large request does not go round and round: whole rounds are taken at once, each node its share
//! of all of them in one run, as `alloc_pages_bulk_weighted_interleave` does it. Whoever wants the
//! fine grain asks for a round at a time, or for one; the turn goes on either way, and the sums are
//! the same.
//!
//! Where Linux takes a page from a node without room by that node's own order of fallback, the
//! turn passes on here: what is to be spread is spread over those that have room.

use alloc::vec::Vec;

use memtide_units::NodeId;

use super::Weights;

/// Where an interleaving policy goes on: the node whose turn it is, and how much of its turn is
/// left (`il_prev` and `il_weight` of a Linux task).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Turn {
    node: Option<NodeId>,
    left: u8,
}

/// A node that takes part.
#[derive(Clone, Copy)]
struct Share {
    node: NodeId,
    weight: u8,
    room: u64,
}

impl Turn {
    /// Spreads `count` over these nodes, each as often in turn as it weighs; `None` weighs all the
    /// same. A node takes no more than `room(node)`; what it has no room for goes on to the next.
    /// Returns runs in the order they are to be taken; fewer than `count` when there is no room.
    /// Whole rounds are one run for each node: how many runs there are depends on the nodes, not
    /// on the count. The turn moves on by what is returned: a caller that takes less of it keeps
    /// a copy from before.
    pub fn spread(
        &mut self,
        nodes: &[NodeId],
        weights: Option<&Weights>,
        count: u64,
        room: impl Fn(NodeId) -> u64,
    ) -> Vec<(NodeId, u64)> {
        let weight = |node| weights.map_or(1, |weights| weights.of(node));
        let mut shares: Vec<Share> = nodes
            .iter()
            .map(|&node| Share { node, weight: weight(node), room: room(node) })
            .filter(|share| share.room > 0)
            .collect();
        shares.sort_unstable_by_key(|share| share.node);
        shares.dedup_by_key(|share| share.node);

        let mut runs = Vec::new();
        let mut left = count;
        self.rest(&mut shares, &mut left, &mut runs);
        // Each time round somebody's room is exhausted, or it was the last time.
        while left > 0 && !shares.is_empty() {
            self.rounds(&mut shares, &mut left, &mut runs);
            self.round(&mut shares, &mut left, &mut runs);
        }
        runs
    }

    /// The rest of the turn of the node whose turn it is.
    fn rest(&mut self, shares: &mut Vec<Share>, left: &mut u64, runs: &mut Vec<(NodeId, u64)>) {
        let Some(at) = shares.iter().position(|share| Some(share.node) == self.node) else {
            return;
        };
        let taken = u64::from(self.left).min(*left).min(shares[at].room);
        self.take(&mut shares[at], taken, runs);
        // No more than a weight.
        self.left -= taken as u8;
        *left -= taken;
        shares.retain(|share| share.room > 0);
    }

    /// As many whole rounds as all have room for.
    fn rounds(&mut self, shares: &mut [Share], left: &mut u64, runs: &mut Vec<(NodeId, u64)>) {
        let round: u64 = shares.iter().map(|share| u64::from(share.weight)).sum();
        let fits = shares.iter().map(|share| share.room / u64::from(share.weight)).min();
        let rounds = (*left / round).min(fits.unwrap_or(0));
        if rounds == 0 {
            return;
        }
        let first = self.next(shares);
        shares.rotate_left(first);
        for share in shares.iter_mut() {
            self.take(share, rounds * u64::from(share.weight), runs);
        }
        shares.sort_unstable_by_key(|share| share.node);
        self.left = 0;
        *left -= rounds * round;
    }

    /// One round, or what is left of the count: a turn for everybody that has room.
    fn round(&mut self, shares: &mut Vec<Share>, left: &mut u64, runs: &mut Vec<(NodeId, u64)>) {
        shares.retain(|share| share.room > 0);
        for _ in 0..shares.len() {
            if *left == 0 {
                return;
            }
            let next = self.next(shares);
            let share = &mut shares[next];
            let taken = u64::from(share.weight).min(*left).min(share.room);
            self.take(share, taken, runs);
            self.left = share.weight - taken as u8;
            *left -= taken;
        }
        shares.retain(|share| share.room > 0);
    }

    /// `next_node_in`: whose turn comes after the one that had it last.
    fn next(&self, shares: &[Share]) -> usize {
        let last = self.node.map_or(0, |node| shares.partition_point(|share| share.node <= node));
        if last == shares.len() { 0 } else { last }
    }

    fn take(&mut self, share: &mut Share, count: u64, runs: &mut Vec<(NodeId, u64)>) {
        if count == 0 {
            return;
        }
        self.node = Some(share.node);
        share.room -= count;
        match runs.last_mut() {
            Some((node, length)) if *node == share.node => *length += count,
            _ => runs.push((share.node, count)),
        }
    }
}

#[cfg(test)]
mod tests;
