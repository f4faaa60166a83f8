//! Which share of the accesses the fast tier should have (Vuppalapati, Agarwal: "Tiered Memory
//! Management: Access Latency is the Key!", SOSP 2024, algorithm 2).
//!
//! A tier that is busy is slow, and the fast one can become slower than the others. Then the
//! accesses should be shared out, so that an access costs the same wherever it goes. The share
//! at which that is so lies between two marks: a share at which the fast tier was cheaper is a
//! lower mark, one at which it was dearer an upper one, and the middle is tried next. When the
//! marks meet while the costs still differ, the load has changed, and the mark that proved wrong is
//! reset.

/// Difference of the costs that is none, as a part of the cost of the fast tier.
const DEAD_BAND: f64 = 0.05;
/// The distance at which the marks meet.
const MEET: f64 = 0.01;

/// The search for the share.
pub(super) struct Balance {
    low: f64,
    high: f64,
}

impl Balance {
    /// All shares are possible.
    pub(super) fn new() -> Self {
        Self { low: 0.0, high: 1.0 }
    }

    /// By how much the share of the fast tier should change from `share`, when an access to it
    /// costs `near` and one to the others `far`.
    pub(super) fn shift(&mut self, share: f64, near: f64, far: f64) -> f64 {
        let difference = far - near;
        if difference.max(-difference) < DEAD_BAND * near {
            return 0.0;
        }
        if difference > 0.0 {
            self.low = share;
        } else {
            self.high = share;
        }
        if self.high < self.low + MEET {
            if difference > 0.0 {
                self.high = 1.0;
            } else {
                self.low = 0.0;
            }
        }
        (self.low + self.high) / 2.0 - share
    }
}

/// The share of the accesses that went to the first of the tiers, and what one of the others cost
/// on average; none when there were no accesses.
pub(super) fn measured(
    tiers: &[super::TierState],
    cost: impl Fn(&super::TierState) -> f64,
) -> Option<(f64, f64)> {
    let (near, others) = tiers.split_first()?;
    let below: u64 = others.iter().map(|tier| tier.accesses).sum();
    let sum = near.accesses + below;
    if sum == 0 {
        return None;
    }
    let share = near.accesses as f64 / sum as f64;
    if below == 0 {
        return Some((share, cost(others.first()?)));
    }
    let costs = others.iter().map(|tier| cost(tier) * tier.accesses as f64);
    Some((share, costs.sum::<f64>() / below as f64))
}
