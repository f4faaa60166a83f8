//! The space seen block by block, as the pager and the promises of the pool see it.

use memtide_sys::AddrRange;

use super::{BLOCK, BlockIndex, Charge, PAGE, Run, Space};

impl Space {
    /// The block that `addr`, which lies in the arena, is in.
    #[must_use]
    pub const fn block_at(&self, addr: usize) -> BlockIndex {
        BlockIndex((addr - self.range().start) / BLOCK)
    }

    /// The addresses of a block.
    #[must_use]
    pub const fn block_range(&self, block: BlockIndex) -> AddrRange {
        AddrRange::new(self.range().start + block.0 * BLOCK, BLOCK)
    }

    /// The blocks that any of `range` lies in, ascending.
    pub fn blocks_of(&self, range: AddrRange) -> impl Iterator<Item = BlockIndex> + use<> {
        let (first, end) = if range.is_empty() {
            (0, 0)
        } else {
            (self.block_at(range.start).0, self.block_at(range.end() - 1).0 + 1)
        };
        (first..end).map(BlockIndex)
    }

    /// The parts of runs that lie in a block, ascending.
    pub fn runs_in(&self, block: BlockIndex) -> impl Iterator<Item = Run> {
        self.runs_within(self.block_range(block))
    }

    /// Number of pages carved out of a block.
    #[must_use]
    pub fn pages_carved(&self, block: BlockIndex) -> usize {
        self.runs_in(block).map(|run| run.range.len / PAGE).sum()
    }

    /// Number of pages in a block that memory is promised for.
    #[must_use]
    pub fn charged_pages(&self, block: BlockIndex) -> usize {
        self.runs_in(block).filter(Run::is_charged).map(|run| run.range.len / PAGE).sum()
    }

    /// Whether any page of a block is locked into memory.
    #[must_use]
    pub fn is_locked(&self, block: BlockIndex) -> bool {
        self.runs_in(block).any(|run| run.is_locked())
    }

    /// Whether something else than private memory lies in a block.
    #[must_use]
    pub fn has_foreign(&self, block: BlockIndex) -> bool {
        self.runs_in(block).any(|run| run.is_foreign())
    }

    /// Number of blocks that any of `range` lies in and that have a page which memory is promised
    /// for (not necessarily in `range`): the promise for these blocks. Takes time by the number
    /// of runs, not of blocks.
    #[must_use]
    pub fn charged_blocks(&self, range: AddrRange) -> usize {
        if range.is_empty() {
            return 0;
        }
        let mut count = 0;
        let mut next = 0;
        for run in self.runs_within(self.blocks_around(range)).filter(Run::is_charged) {
            let first = self.block_at(run.range.start).0.max(next);
            let end = self.block_at(run.range.end() - 1).0 + 1;
            count += end.saturating_sub(first);
            next = next.max(end);
        }
        count
    }

    /// Number of blocks that would need a promise if all that is still [`Charge::Uncharged`] in
    /// `range` became writable.
    #[must_use]
    pub fn blocks_to_charge(&self, range: AddrRange) -> usize {
        let mut count = 0;
        let mut next = 0;
        for run in self.runs_within(range).filter(|run| run.charge == Charge::Uncharged) {
            let first = self.block_at(run.range.start).0.max(next);
            let end = self.block_at(run.range.end() - 1).0 + 1;
            if first < end {
                let start = self.block_range(BlockIndex(first)).start;
                let blocks = AddrRange::new(start, (end - first) * BLOCK);
                count += end - first - self.charged_blocks(blocks);
                next = end;
            }
        }
        count
    }

    /// Number of blocks that any of `range` lies in.
    #[must_use]
    pub fn block_count(&self, range: AddrRange) -> usize {
        self.blocks_around(range).len / BLOCK
    }

    /// `range` rounded out to whole blocks.
    #[must_use]
    pub fn blocks_around(&self, range: AddrRange) -> AddrRange {
        if range.is_empty() {
            return range;
        }
        let first = self.block_range(self.block_at(range.start));
        let last = self.block_range(self.block_at(range.end() - 1));
        AddrRange::between(first.start, last.end())
    }
}
