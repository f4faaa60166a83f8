//! Weights by bandwidth, as close as it takes.
//!
//! One round of turns takes as long as the node takes that is the last to finish: the largest of
//! weight / bandwidth. All weights together divided by that is what a scan gets out of the nodes;
//! it cannot be more than the sum of the bandwidths. Small weights make for short turns, but round
//! the shares. So: of all weights that reach 99 % of what 255 allows, the smallest.
//!
//! To find them, think of a round that takes as long as some node needs for some weight; then every
//! other node has the largest weight that it can finish by then. The best weights are among
//! those, for with any others some node could have one more without holding up the round.

use alloc::{collections::BTreeMap, vec::Vec};

use memtide_units::NodeId;

use super::reduce_interleave_weights::reduced;

/// Short turns may cost so many hundredths of the throughput.
const GIVEN_UP_PERCENT: u128 = 1;

/// The smallest weights of 1 to 255 that bring a scan to 99 % of the throughput that any such
/// weights reach. Bandwidths are in any one unit. A node of unknown bandwidth (0) has weight 1 and
/// counts for nothing.
///
/// It looks at 255 × (different bandwidths) choices of weights.
#[must_use]
pub fn proportional_weights(bandwidths: &[(NodeId, u32)]) -> BTreeMap<NodeId, u8> {
    let known: Vec<u32> = bandwidths.iter().map(|node| node.1).filter(|&known| known > 0).collect();
    let mut distinct = known.clone();
    distinct.sort_unstable();
    distinct.dedup();
    let rounds = || {
        let lengths =
            distinct.iter().flat_map(|&bandwidth| (1..=255).map(move |weight| (weight, bandwidth)));
        lengths.map(|(weight, bandwidth)| Round::within(&known, weight, bandwidth))
    };
    let Some(best) = rounds().reduce(|best, round| if round.beats(&best) { round } else { best })
    else {
        return bandwidths.iter().map(|&(node, _)| (node, 1)).collect();
    };
    let enough = rounds().filter(|round| round.is_near(&best)).min_by_key(|round| round.sum);
    let chosen = enough.unwrap_or(best);
    reduced(bandwidths.iter().map(|&(node, bandwidth)| (node, chosen.weight(bandwidth))).collect())
}

/// A round of turns: no node takes longer than `of` / `bandwidth`, unless its weight is 1.
#[derive(Clone, Copy)]
struct Round {
    of: u32,
    bandwidth: u32,
    sum: u64,
    /// How long the last node takes: a weight, divided by a bandwidth.
    last: (u32, u32),
}

impl Round {
    fn within(known: &[u32], of: u32, bandwidth: u32) -> Self {
        let mut round = Self { of, bandwidth, sum: 0, last: (0, 1) };
        for &bandwidth in known {
            let weight = u32::from(round.weight(bandwidth));
            round.sum += u64::from(weight);
            let longer = u64::from(weight) * u64::from(round.last.1)
                > u64::from(round.last.0) * u64::from(bandwidth);
            if longer {
                round.last = (weight, bandwidth);
            }
        }
        round
    }

    /// The largest weight that a node of so much bandwidth finishes within the round.
    fn weight(&self, bandwidth: u32) -> u8 {
        let fits = u64::from(self.of) * u64::from(bandwidth) / u64::from(self.bandwidth);
        fits.clamp(1, 255) as u8
    }

    /// What a scan gets, as a fraction.
    fn throughput(&self) -> (u128, u128) {
        (u128::from(self.sum) * u128::from(self.last.1), u128::from(self.last.0))
    }

    fn beats(&self, other: &Self) -> bool {
        let (mine, theirs) = (self.throughput(), other.throughput());
        mine.0 * theirs.1 > theirs.0 * mine.1
    }

    fn is_near(&self, best: &Self) -> bool {
        let (mine, theirs) = (self.throughput(), best.throughput());
        mine.0 * theirs.1 * 100 >= theirs.0 * mine.1 * (100 - GIVEN_UP_PERCENT)
    }
}
