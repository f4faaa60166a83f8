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

#[cfg(test)]
mod tests {
    use super::Balance;

    #[test]
    fn no_shift_within_5_percent() {
        assert_eq!(Balance::new().shift(0.4, 100.0, 104.9), 0.0);
        assert!(Balance::new().shift(0.4, 100.0, 105.1) > 0.0);
        assert!(Balance::new().shift(0.4, 100.0, 94.9) < 0.0);
    }

    #[test]
    fn the_share_is_found_by_halving_and_found_again() {
        let mut balance = Balance::new();
        // The fast tier costs as much as its share of this makes it; the other 200.
        let mut share = 0.1;
        for (slope, balanced) in [(400.0, 0.5), (250.0, 0.8), (1000.0, 0.2)] {
            for _ in 0..40 {
                share += balance.shift(share, slope * share, 200.0);
                assert!((0.0..=1.0).contains(&share));
            }
            assert!((share - balanced).abs() < 0.04 * balanced, "{share}, not {balanced}");
        }
    }
}
