//! When pages go down: before allocation is in need.
//!
//! If cold pages leave a tier only when allocation finds it full, every burst of new pages lands in
//! the tier below, though new pages are the hot ones. TPP (Maruf and others, ASPLOS 2023) parts the
//! two: demotion keeps more free than allocation insists on, so that there is room for what is new
//! and for what is promoted. A promoted page is known to be hot, and goes up as long as there is
//! any room at all.

/// Demotion keeps one page in so many free.
const KEPT_FREE: u64 = 50;

/// How much of a tier is to be free. In pages of whatever size.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct TierWatermarks {
    /// New pages leave so much free.
    pub allocation: u64,
    /// Cold pages are demoted until so much is free.
    pub demotion: u64,
}

impl TierWatermarks {
    /// TPP's, of a tier of so many pages whose allocation watermark is `high`: 2 % of it (rounded
    /// up), or twice `high` if that is more; all of it at most.
    #[must_use]
    pub fn tpp(pages: u64, high: u64) -> Self {
        let demotion = pages.div_ceil(KEPT_FREE).max(high.saturating_mul(2));
        Self { allocation: high.min(pages), demotion: demotion.min(pages) }
    }

    /// Pages to demote where so many are free.
    #[must_use]
    pub const fn to_demote(&self, free: u64) -> u64 {
        self.demotion.saturating_sub(free)
    }

    /// New pages that may be placed where so many are free. Promoted ones may take all of them.
    #[must_use]
    pub const fn to_allocate(&self, free: u64) -> u64 {
        free.saturating_sub(self.allocation)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tpp_demotes_below_the_larger_of_2_percent_and_twice_high() {
        let marks = TierWatermarks::tpp(10_000, 50);
        assert_eq!(marks, TierWatermarks { allocation: 50, demotion: 200 });
        assert_eq!(TierWatermarks::tpp(10_000, 150).demotion, 300);
        assert_eq!(TierWatermarks::tpp(10_001, 0).demotion, 201);
        assert_eq!(TierWatermarks::tpp(100, 80), TierWatermarks { allocation: 80, demotion: 100 });
        assert_eq!(TierWatermarks::tpp(10, u64::MAX).allocation, 10);
    }

    #[test]
    fn demotion_starts_while_allocation_still_has_room() {
        let marks = TierWatermarks::tpp(10_000, 50);
        assert_eq!((marks.to_demote(200), marks.to_allocate(200)), (0, 150));
        assert_eq!((marks.to_demote(120), marks.to_allocate(120)), (80, 70));
        // Nothing new any more, but what is hot may still come.
        assert_eq!((marks.to_demote(30), marks.to_allocate(30)), (170, 0));
    }
}
