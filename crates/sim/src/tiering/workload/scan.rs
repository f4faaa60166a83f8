//! Sequential scans, alone and beside a zipf.

use memtide_units::Random;

use super::{Stream, Writes, zipf::Ranks};
use crate::tiering::scatter::Scatter;

/// Page after page.
pub struct Scan {
    pages: u32,
    next: u32,
    writes: Writes,
    random: Random,
}

impl Scan {
    pub const fn new(pages: u32, writes: Writes, seed: u64) -> Self {
        Self { pages, next: 0, writes, random: Random::new(seed) }
    }
}

impl Stream for Scan {
    fn fill(&mut self, _phase: u64, into: &mut [u32]) {
        for visit in into {
            *visit = self.next | self.writes.bit(self.random.next());
            self.next = if self.next + 1 == self.pages { 0 } else { self.next + 1 };
        }
    }
}

/// A scan of everything, and a program that has favourites.
pub struct ScanAndHot {
    scan: Scan,
    /// Of 2^16 visits, so many are the scan's.
    scan_visits: u32,
    ranks: Ranks,
    scatter: Scatter,
    random: Random,
}

impl ScanAndHot {
    pub fn new(pages: u32, scan_percent: u32, writes: Writes, seed: u64) -> Self {
        Self {
            scan: Scan::new(pages, writes, seed),
            scan_visits: (scan_percent << 16) / 100,
            ranks: Ranks::new(pages, 0.99),
            scatter: Scatter::new(pages),
            random: Random::new(!seed),
        }
    }
}

impl Stream for ScanAndHot {
    fn fill(&mut self, _phase: u64, into: &mut [u32]) {
        let Self { scan, scan_visits, ranks, scatter, random } = self;
        for visit in into {
            let choice = scan.random.next();
            let favourite = scatter.page(ranks.rank(random.next()));
            let scans = u32::from((choice >> 16) as u16) < *scan_visits;
            let page = if scans { scan.next } else { favourite };
            let next = scan.next + u32::from(scans);
            scan.next = if next == scan.pages { 0 } else { next };
            *visit = page | scan.writes.bit(choice);
        }
    }
}
