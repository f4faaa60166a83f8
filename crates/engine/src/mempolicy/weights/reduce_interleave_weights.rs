//! Weights by bandwidth as Linux has them.

use alloc::collections::BTreeMap;

use memtide_units::NodeId;

/// To Linux the weights of all nodes add up to so much, before they are reduced (`weightiness`).
pub const WEIGHTINESS: u64 = 32;

/// `reduce_interleave_weights` (mm/mempolicy.c): each node's share of [`WEIGHTINESS`], rounded
/// down, 1 at least, divided by what all have in common. Bandwidths are in any one unit; 0 is not
/// known.
///
/// Small weights take turns often, which is what Linux wants. The price is that shares are rounded
/// to the thirty-second: of nodes of 60 to 1 the slow one still gets every thirty-second page, and
/// holds up a scan to half of what all could do together. [`super::proportional_weights`] does
/// better.
#[must_use]
pub fn reduce_interleave_weights(bandwidths: &[(NodeId, u32)]) -> BTreeMap<NodeId, u8> {
    let sum: u64 = bandwidths.iter().map(|&(_, bandwidth)| u64::from(bandwidth)).sum();
    let weight = |bandwidth: u32| match (WEIGHTINESS * u64::from(bandwidth)).checked_div(sum) {
        // At most the weightiness.
        Some(share) if share > 0 => share as u8,
        _ => 1,
    };
    let weights = bandwidths.iter().map(|&(node, bandwidth)| (node, weight(bandwidth)));
    reduced(weights.collect())
}

/// 1:2 is strictly better than 16:32.
pub(super) fn reduced(mut weights: BTreeMap<NodeId, u8>) -> BTreeMap<NodeId, u8> {
    let common = weights.values().copied().fold(0, gcd);
    weights.values_mut().for_each(|weight| *weight /= common);
    weights
}

const fn gcd(a: u8, b: u8) -> u8 {
    if b == 0 { a } else { gcd(b, a % b) }
}
