//! Static placement: a page stays where it was first touched. What every policy is compared with.

use alloc::vec::Vec;
use core::time::Duration;

use memtide_units::Instant;

use super::{Budget, Move, Page, Policy, Sample, Tier, TierState};

/// Moves nothing and wants to know nothing.
#[derive(Clone, Copy, Debug, Default)]
pub struct StaticPlacement;

impl Policy for StaticPlacement {
    fn name(&self) -> &'static str {
        "static"
    }

    fn sample_period(&self) -> u32 {
        u32::MAX
    }

    fn tick_every(&self) -> Duration {
        Duration::MAX
    }

    fn samples(&mut self, _: &[Sample]) {}

    fn tick(
        &mut self,
        _: Instant,
        _: &[TierState],
        _: &dyn Fn(Page) -> Tier,
        _: Budget,
    ) -> Vec<Move> {
        Vec::new()
    }

    fn metadata_bytes(&self) -> u64 {
        0
    }
}
