//! GUPS with a hot set: some of the pages get most of the visits. It may move.

use memtide_units::Random;

use super::{Stream, Writes};
use crate::tiering::scatter::Scatter;

/// The hot set is so many neighbouring ranks, and ranks are scattered over the pages. A phase
/// later it is the next so many ranks: no page of the one before, as long as there are others.
pub struct HotSet {
    pages: u64,
    hot_pages: u64,
    /// Of 2^16 visits, so many are to the hot set.
    hot_visits: u32,
    scatter: Scatter,
    writes: Writes,
    random: Random,
}

impl HotSet {
    pub fn new(
        pages: u32,
        hot_pages_percent: u32,
        hot_visits_percent: u32,
        writes: Writes,
        seed: u64,
    ) -> Self {
        let hot_pages = (u64::from(pages) * u64::from(hot_pages_percent) / 100).max(1);
        let hot_visits = (hot_visits_percent << 16) / 100;
        let scatter = Scatter::new(pages);
        let pages = u64::from(pages);
        Self { pages, hot_pages, hot_visits, scatter, writes, random: Random::new(seed) }
    }
}

impl Stream for HotSet {
    fn fill(&mut self, phase: u64, into: &mut [u32]) {
        let first = (phase % self.pages) * self.hot_pages % self.pages;
        for visit in into {
            let random = self.random.next();
            let hot = u32::from((random >> 16) as u16) < self.hot_visits;
            let [among, from] = if hot { [self.hot_pages, first] } else { [self.pages, 0] };
            let rank = from + (((random >> 32) * among) >> 32);
            let rank = if rank >= self.pages { rank - self.pages } else { rank };
            *visit = self.scatter.page(rank as u32) | self.writes.bit(random);
        }
    }
}
