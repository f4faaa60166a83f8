//! The counts of a node's pageblocks agree with its allocator.

use alloc::vec::Vec;

use memtide_units::{Order, PAGES_PER_PAGEBLOCK, Pageblock};

use super::{BlockState, Counts, Pageblocks, pfn, usize_from, zones::frames_zone};
use crate::onlining::OnlineZone;

impl Pageblocks {
    /// Recounts what is kept twice.
    ///
    /// # Panics
    /// When something does not add up.
    pub(crate) fn validate(&self) {
        let frames = self.frames();
        frames.validate();
        assert_eq!(*frames.layout(), self.layout);
        let mut all = [Counts::default(); OnlineZone::ALL.len()];
        let mut offline = 0;
        for block in 0..self.blocks() {
            let start = self.block_start(block).0;
            let inside = (start..start + self.block_pageblocks).map(Pageblock);
            let is_used = |pageblock: &Pageblock| frames.is_held(pfn(*pageblock), Order::PAGEBLOCK);
            let used = inside.filter(is_used).count() as u64;
            assert_eq!(used, self.block_used(block), "used pageblocks of block {block}");
            let zone = self.zone(block);
            let counts = &mut all[zone as usize];
            counts.used += used;
            let span = Pageblock(start)..Pageblock(start + self.block_pageblocks);
            let retired = self.retired.range(span).count() as u64;
            assert_eq!(retired, self.blocks[usize_from(block)].retired, "retired of {block}");
            let unused = self.block_pageblocks - used - retired;
            match self.block_state(block) {
                BlockState::Offline => offline += self.block_pageblocks,
                BlockState::Isolated => counts.isolated += unused,
                BlockState::Online => counts.free += unused,
            }
            let is_offline = self.block_state(block) == BlockState::Offline;
            assert!(!is_offline || used == 0, "block {block} is offline");
            counts.retired += if is_offline { 0 } else { retired };
            let theirs = (!is_offline).then(|| frames_zone(zone));
            let mut of_block = (start..start + self.block_pageblocks).map(Pageblock);
            let agrees = of_block.all(|at| frames.zone_of(pfn(at)) == theirs);
            assert!(agrees, "block {block} is in {zone}, which the allocator does not know");
        }
        assert!(self.retired.iter().all(|&pageblock| self.contains(pageblock)));
        self.validate_away();
        assert_eq!((all, offline), (self.in_zone, self.offline));
        let counts = self.counts();
        assert_eq!(counts.present(), self.present);
        let theirs = frames.counts();
        let theirs = [theirs.free, theirs.used, theirs.retired, theirs.offline, theirs.span];
        let free = counts.free + counts.isolated;
        let ours = [free, counts.used, counts.retired, counts.offline, self.present];
        assert_eq!(theirs, ours.map(|pageblocks| pageblocks * PAGES_PER_PAGEBLOCK));
        for zone in OnlineZone::ALL {
            let ours = self.counts_in(zone).present() * PAGES_PER_PAGEBLOCK;
            assert_eq!(frames.present(frames_zone(zone)), ours, "what is in {zone}");
        }
    }

    fn validate_away(&self) {
        let is_away = |block: &u64| self.block_state(*block) == BlockState::Offline;
        let (away, there): (Vec<u64>, Vec<u64>) = (0..self.blocks()).partition(is_away);
        assert!(self.away.runs().flatten().eq(away), "which blocks are offline");
        assert!(self.blocks_there().eq(there), "which blocks are in the pool");
        let runs: Vec<_> = self.away.runs().collect();
        assert!(runs.windows(2).all(|pair| pair[0].end < pair[1].start), "runs that touch");
    }
}
