//! No migration: a page stays where it was placed when it was first touched.
//!
//! This is Linux without demotion and without NUMA balancing: the fast tier fills first, what
//! comes later lies below. It costs nothing, and no policy may lose much against it.

use alloc::vec::Vec;
use core::time::Duration;

use memtide_units::Instant;

use super::{Budget, Move, Page, Policy, Sample, Tier, TierState};

/// The policy `static`.
pub(super) struct Static;

impl Policy for Static {
    fn name(&self) -> &'static str {
        "static"
    }

    fn sample_period(&self) -> u32 {
        u32::MAX
    }

    fn tick_every(&self) -> Duration {
        Duration::from_secs(1)
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
