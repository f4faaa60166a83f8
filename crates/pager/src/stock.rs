//! Leased pageblocks that are behind no block yet.
//!
//! First touches come in bursts. Asking the daemon for one pageblock at a time would cost each a
//! round trip, so the pager asks for as many as were wanted in the last moments, at most
//! [`Stock::MAX`], and gives back what nobody wanted for a while.

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

use memtide_units::{Extent, Pageblock};

/// Leased pageblocks that wait for a first touch.
#[derive(Debug)]
pub struct Stock {
    pageblocks: VecDeque<Pageblock>,
    last_taken: Instant,
    /// First touches in the current burst.
    burst: u32,
}

impl Stock {
    /// Most pageblocks that are asked for at once.
    pub const MAX: u32 = 16;
    /// What is not wanted for so long goes back.
    pub const KEEP: Duration = Duration::from_millis(250);
    /// First touches further apart than this are not one burst.
    const BURST: Duration = Duration::from_millis(5);

    /// An empty stock.
    #[must_use]
    pub fn new(now: Instant) -> Self {
        Self { pageblocks: VecDeque::new(), last_taken: now, burst: 0 }
    }

    /// Takes a pageblock for a first touch at `now`: `wanted` if it is there.
    pub fn take(&mut self, wanted: Option<Pageblock>, now: Instant) -> Option<Pageblock> {
        self.burst = if now.duration_since(self.last_taken) < Self::BURST {
            self.burst.saturating_add(1)
        } else {
            0
        };
        self.last_taken = now;
        let at = wanted
            .and_then(|wanted| self.pageblocks.iter().position(|&p| p == wanted))
            .unwrap_or(0);
        self.pageblocks.remove(at)
    }

    /// How many to ask for when a first touch found nothing: grows with the burst.
    #[must_use]
    pub fn to_ask(&self) -> u32 {
        (1 + self.burst).next_power_of_two().min(Self::MAX)
    }

    /// Puts leased pageblocks into the stock.
    pub fn put(&mut self, extents: &[Extent]) {
        self.pageblocks.extend(extents.iter().flat_map(|extent| extent.iter()));
    }

    /// Whether a pageblock lies in the stock; replaces it by `by` if so.
    pub fn replace(&mut self, pageblock: Pageblock, by: Pageblock) -> bool {
        match self.pageblocks.iter_mut().find(|p| **p == pageblock) {
            Some(found) => {
                *found = by;
                true
            }
            None => false,
        }
    }

    /// Takes a pageblock out that is lost.
    pub fn forget(&mut self, pageblock: Pageblock) {
        self.pageblocks.retain(|&other| other != pageblock);
    }

    /// Whether a pageblock lies in the stock.
    #[must_use]
    pub fn contains(&self, pageblock: Pageblock) -> bool {
        self.pageblocks.contains(&pageblock)
    }

    /// When what is here should go back, if anything is.
    #[must_use]
    pub fn expires(&self) -> Option<Instant> {
        (!self.pageblocks.is_empty()).then(|| self.last_taken + Self::KEEP)
    }

    /// Takes all out.
    pub fn drain(&mut self) -> Vec<Extent> {
        Extent::from_blocks(self.pageblocks.drain(..))
    }

    /// What is here.
    #[must_use]
    pub fn extents(&self) -> Vec<Extent> {
        Extent::from_blocks(self.pageblocks.iter().copied())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_asks_for_more() {
        let start = Instant::now();
        let mut stock = Stock::new(start);
        let mut asked = Vec::new();
        for touch in 0..20 {
            assert_eq!(stock.take(None, start + Duration::from_micros(100 * touch)), None);
            asked.push(stock.to_ask());
        }
        assert_eq!((asked[0], asked[19]), (2, Stock::MAX));
        stock.take(None, start + Duration::from_secs(1));
        assert_eq!(stock.to_ask(), 1);
    }

    #[test]
    fn the_wanted_neighbour_comes_first() {
        let now = Instant::now();
        let mut stock = Stock::new(now);
        stock.put(&[Extent::new(Pageblock(4), 3)]);
        assert_eq!(stock.take(Some(Pageblock(5)), now), Some(Pageblock(5)));
        assert_eq!(stock.take(Some(Pageblock(9)), now), Some(Pageblock(4)));
        assert!(stock.replace(Pageblock(6), Pageblock(60)));
        assert_eq!(stock.drain(), [Extent::new(Pageblock(60), 1)]);
        assert_eq!(stock.expires(), None);
    }
}
