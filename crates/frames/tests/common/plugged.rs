//! The part of the walk that changes what there is: blocks that come and go, frames that are bad,
//! cores, watermarks.

use memtide_frames::{
    CoreError, Dedication, FrameRange, Movability, Pfn, PlugError, Retirement, TakeAtError,
    WatermarkError, Watermarks, Zone,
};

use super::{
    model::Cell,
    op::Units,
    shape::{CORES, PAGEBLOCK},
    walk::Walk,
};

impl Walk<'_> {
    // ---- Frames that are bad ----

    pub fn exclude(&mut self, range: FrameRange) {
        let movability = Movability::Movable;
        let attempt = |walk: &Self| walk.frames.exclude(range);
        if self.name((range, None, movability), attempt).is_some() {
            let name = self.model.take(range.start.0, range.frames, movability);
            self.model.held.remove(&name);
            self.model.set(range.start.0..range.start.0 + range.frames, Cell::Hole);
        }
    }

    pub fn retire(&mut self, pfn: Pfn) {
        let (range, node) = (FrameRange::new(pfn, 1), self.frames.span());
        let cell = self.model.cell(pfn.0);
        let before = matches!(cell, Some(Cell::Retired | Cell::Hole));
        let expected = match cell {
            None => Err(TakeAtError::Foreign { range, node }),
            Some(Cell::Absent) => Err(TakeAtError::Busy { range, busy: pfn }),
            _ if before || self.model.noted.contains(&pfn.0) => Ok(Retirement::Before),
            Some(Cell::Taken(_)) => Ok(Retirement::WhenGivenBack),
            _ => Ok(Retirement::Done),
        };
        if matches!(expected, Err(_) | Ok(Retirement::Before)) {
            assert_eq!(self.refused(|walk| walk.frames.retire(pfn)), expected);
            return;
        }
        let result = self.frames.retire(pfn);
        // It goes with what its channel is dedicated to, which may be because of a cache.
        let zone = self.model.pageblock(pfn.0).zone.unwrap();
        let movability = match self.frames.dedication(zone) {
            Dedication::Unmovable => Movability::Unmovable,
            _ => Movability::Movable,
        };
        self.model.dedicate(pfn.0..pfn.0 + 1, movability);
        if result == Ok(Retirement::Done) {
            self.model.set(pfn.0..pfn.0 + 1, Cell::Retired);
        } else {
            self.model.noted.insert(pfn.0);
        }
        if self.settled || result == Ok(Retirement::Done) {
            assert_eq!(result, expected);
        } else {
            // Perhaps a core caches it.
            assert_eq!(result, Ok(Retirement::WhenGivenBack));
        }
    }

    // ---- Cores, blocks of the pool, watermarks ----

    pub fn open(&mut self, core: u8, limit: u8) {
        let core = u16::from(core) % (CORES + 1);
        let result = self.frames.core_with_cache(core, limit.into());
        match self.cores.get_mut(usize::from(core)) {
            None => {
                let expected = CoreError::NoSuchCore { core, cores: CORES };
                assert_eq!(result.err(), Some(expected));
            }
            Some(Some(_)) => assert_eq!(result.err(), Some(CoreError::InUse { core })),
            Some(none) => *none = Some(result.unwrap()),
        }
    }

    pub fn range(&self, units: Units) -> FrameRange {
        let FrameRange { start, frames } = self.model.span();
        let whole = |n: u16, count: u8, unit: u64| {
            let at = u64::from(n) % (frames / unit);
            FrameRange::new(Pfn(start.0 + at * unit), u64::from(count) * unit)
        };
        match units {
            Units::Blocks(n, count) => whole(n, count, self.model.geometry.block_frames),
            Units::Pageblocks(n, count) => whole(n, count, PAGEBLOCK),
            Units::Frames(place, frames) => FrameRange::new(self.pfn(place), frames.into()),
        }
    }

    pub fn plug(
        &mut self,
        expected: Result<(), PlugError>,
        attempt: impl FnOnce(&mut Self) -> Result<(), PlugError>,
    ) {
        let result = match expected {
            Ok(()) => attempt(self),
            Err(_) => self.refused(attempt),
        };
        assert_eq!(without_found(result), without_found(expected));
    }

    pub fn remove(&mut self, range: FrameRange) {
        let mut result = self.frames.remove(range);
        if result.is_err() && !self.settled {
            self.settle();
            result = self.frames.remove(range);
        }
        match self.model.removable(range) {
            Ok(pageblocks) => {
                result.unwrap();
                self.model.remove(pageblocks);
            }
            Err(expected) => {
                let again = self.refused(|walk| walk.frames.remove(range));
                assert_eq!(without_found(again), without_found(Err(expected)));
                assert_eq!(result, again);
            }
        }
    }

    pub fn set_watermarks(&mut self, zone: Zone, min: u64, low: u64, high: u64) {
        let marks = Watermarks { min, low, high };
        if min <= low && low <= high {
            self.frames.set_watermarks(zone, marks).unwrap();
            self.model.marks.insert(zone, marks);
        } else {
            let result = self.refused(|walk| walk.frames.set_watermarks(zone, marks));
            assert_eq!(result, Err(WatermarkError { min, low, high }));
        }
    }
}

/// A refusal but for what was found, where that is a matter of what cores cache.
fn without_found(result: Result<(), PlugError>) -> Result<(), PlugError> {
    match result {
        Err(PlugError::State { range, at, found: "isolated and in use", expected }) => {
            Err(PlugError::State { range, at, found: "isolated", expected })
        }
        other => other,
    }
}
