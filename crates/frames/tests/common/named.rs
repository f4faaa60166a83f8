//! The model's answers about what is named: ranges of frames, blocks of the pool.

use std::ops::Range;

use memtide_frames::{FrameRange, Movability, Order, PlugError, Zone};

use super::{
    model::{Cell, Model, may_hold},
    shape::PAGEBLOCK,
};

/// What should become of taking what is named, when no core caches anything.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Named {
    /// It is not of the node.
    Foreign,
    /// It is empty, or not aligned.
    Unaligned,
    /// It is taken.
    Free,
    /// It is refused, for one of these reasons.
    Refused {
        /// A zone does not hold what was asked for.
        zone: bool,
        /// Something is not free.
        busy: bool,
    },
}

impl Model {
    /// The aligned blocks that a range is made of, each of one zone.
    pub fn blocks(&self, start: u64, frames: u64) -> Vec<(u64, u64)> {
        let (mut at, end) = (start, start + frames);
        let mut blocks = Vec::new();
        while at < end {
            let sizes = (0..=Order::MAX.get()).rev().map(|order| 1 << order);
            let mut sizes = sizes.filter(|&size: &u64| {
                at.is_multiple_of(size) && at + size <= end && self.is_of_one_zone(at, size)
            });
            let size = sizes.next().unwrap();
            blocks.push((at, size));
            at += size;
        }
        blocks
    }

    fn is_of_one_zone(&self, start: u64, frames: u64) -> bool {
        let zone = self.pageblock(start).zone;
        let mut parts = (start..start + frames).step_by(PAGEBLOCK as usize);
        parts.all(|pfn| self.pageblock(pfn).zone == zone)
    }

    /// What should become of taking a range; or a block, if it must be aligned.
    pub fn named(&self, range: FrameRange, block: Option<Order>, movability: Movability) -> Named {
        let FrameRange { start, frames } = range;
        if frames == 0 {
            return Named::Unaligned;
        }
        let last = start.0.checked_add(frames - 1);
        if self.cell(start.0).is_none() || last.and_then(|last| self.cell(last)).is_none() {
            return Named::Foreign;
        }
        if block.is_some_and(|order| !start.is_aligned(order)) {
            return Named::Unaligned;
        }
        let blocks = match block {
            Some(_) => vec![(start.0, frames)],
            None => self.blocks(start.0, frames),
        };
        for (at, frames) in blocks {
            let busy = !self.is_free(at..at + frames);
            let mut parts = (at..at + frames).step_by(PAGEBLOCK as usize);
            let apart = !self.is_of_one_zone(at, frames);
            let zone = apart
                || parts.any(|pfn| {
                    self.pageblock(pfn).zone.is_some_and(|zone| {
                        !may_hold(zone, movability) || self.is_closed_to(zone, movability)
                    })
                });
            if zone || busy {
                return Named::Refused { zone, busy };
            }
        }
        Named::Free
    }

    fn units(&self, range: FrameRange, unit: u64) -> Option<Range<usize>> {
        let offset = range.start.0.checked_sub(self.geometry.first.0)?;
        let end = offset.checked_add(range.frames)?;
        let whole = offset.is_multiple_of(unit) && range.frames.is_multiple_of(unit);
        let inside = range.frames > 0 && end <= self.geometry.frames;
        let pageblocks = (offset / PAGEBLOCK) as usize..(end / PAGEBLOCK) as usize;
        (whole && inside).then_some(pageblocks)
    }

    /// The pageblocks of units of the node, each of which fulfils a condition. Otherwise the
    /// error there should be: without what was found instead, see [`same`].
    fn each(
        &self,
        range: FrameRange,
        unit: u64,
        expected: &'static str,
        fulfils: impl Fn(usize) -> bool,
    ) -> Result<Range<usize>, PlugError> {
        let Some(mut pageblocks) = self.units(range, unit) else {
            return Err(PlugError::Range { range, unit, node: self.span() });
        };
        let all = pageblocks.clone();
        match pageblocks.find(|&pb| !fulfils(pb)) {
            None => Ok(all),
            Some(pb) => {
                let at = memtide_frames::Pfn(self.frames_of(pb).start);
                let found = match self.pageblocks[pb] {
                    pageblock if pageblock.zone.is_none() => "absent",
                    pageblock if !pageblock.isolated => "in the pool",
                    _ if self.is_vacant(pb) => "isolated",
                    _ => "isolated and in use",
                };
                Err(PlugError::State { range, at, found, expected })
            }
        }
    }

    /// Whether nothing of a pageblock is taken but what is out of service. (That cannot be told
    /// from what will be out of service, as long as any frame of the node will be.)
    fn is_vacant(&self, pb: usize) -> bool {
        self.frames_of(pb).all(|pfn| match self.cell(pfn).unwrap() {
            Cell::Absent | Cell::Taken(_) => false,
            Cell::Free | Cell::Hole => true,
            Cell::Retired => self.noted.is_empty(),
        })
    }

    pub fn add(&mut self, range: FrameRange, zone: Zone) -> Result<(), PlugError> {
        let unit = self.geometry.block_frames;
        let is_absent = |pb: usize| self.pageblocks[pb].zone.is_none();
        for pb in self.each(range, unit, "absent", is_absent)? {
            self.pageblocks[pb].zone = Some(zone);
            self.set(self.frames_of(pb), Cell::Free);
        }
        Ok(())
    }

    pub fn isolate(&mut self, range: FrameRange) -> Result<(), PlugError> {
        let is_present = |pb: usize| self.pageblocks[pb].zone.is_some();
        self.each(range, PAGEBLOCK, "in the pool", is_present)?;
        let is_in_pool = |pb: usize| !self.pageblocks[pb].isolated;
        for pb in self.each(range, PAGEBLOCK, "in the pool", is_in_pool)? {
            self.pageblocks[pb].isolated = true;
        }
        Ok(())
    }

    pub fn unisolate(&mut self, range: FrameRange) -> Result<(), PlugError> {
        let is_isolated = |pb: usize| self.pageblocks[pb].isolated;
        for pb in self.each(range, PAGEBLOCK, "isolated", is_isolated)? {
            self.pageblocks[pb].isolated = false;
        }
        Ok(())
    }

    /// What removing should say, when no core caches anything.
    pub fn removable(&self, range: FrameRange) -> Result<Range<usize>, PlugError> {
        let unit = self.geometry.block_frames;
        self.each(range, unit, "isolated", |pb| self.pageblocks[pb].isolated)?;
        self.each(range, unit, "isolated and empty", |pb| self.is_vacant(pb))
    }

    pub fn remove(&mut self, pageblocks: Range<usize>) {
        for pb in pageblocks {
            self.set(self.frames_of(pb), Cell::Absent);
            self.pageblocks[pb].zone = None;
            self.pageblocks[pb].isolated = false;
        }
        self.settle();
    }
}
