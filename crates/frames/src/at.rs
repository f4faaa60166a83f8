//! Taking what is named: a block at a given frame, a range of frames.

use core::mem;

use memtide_units::{FrameRange, Order, Pfn};

use crate::{
    claim::Claim,
    entry::State,
    error::TakeAtError,
    frame::Frame,
    frames::{Bitmap, Frames, pageblocks_in},
    layout::{FRAMES, PAGEBLOCK_ORDER},
    primitive::spin,
    request::Movability,
    zone::Zone,
};

/// How often a pageblock that is on its way from one place to another is looked at again.
const TURNS: u32 = 1 << 10;

impl<'m> Frames<'m> {
    /// Takes the block of this order that starts at this frame. Unlike [`Frames::take`] it takes
    /// device memory too, and frames of isolated pageblocks: whoever names a frame knows why.
    ///
    /// # Errors
    /// [`TakeAtError`] when it is not free, or may not hold this movability.
    pub fn take_at<'f>(
        &'f self,
        pfn: Pfn,
        order: Order,
        movability: Movability,
    ) -> Result<Frame<'f>, TakeAtError> {
        let range = FrameRange::new(pfn, order.frames());
        let index = self.check(range)?;
        if !pfn.is_aligned(order) {
            return Err(TakeAtError::Unaligned { range });
        }
        self.take_index_at(range, index, order.get(), movability)?;
        if let Some(descriptors) = self.descriptors {
            descriptors.taken(index, movability);
        }
        Ok(Frame::new(self, index, order.get()))
    }

    /// Takes a range of frames of any length, all or nothing.
    ///
    /// # Errors
    /// [`TakeAtError`] when part of it is not free, or may not hold this movability.
    /// [`crate::Plan`] says what would have to move.
    pub fn take_range<'f>(
        &'f self,
        range: FrameRange,
        movability: Movability,
    ) -> Result<Run<'f>, TakeAtError> {
        let index = self.check(range)?;
        let mut run = Run { home: self, index, frames: 0 };
        for (at, order) in self.blocks(index, range.frames) {
            self.take_index_at(range, at, order, movability)?;
            run.frames += 1 << order;
            if let Some(descriptors) = self.descriptors {
                descriptors.taken(at, movability);
            }
        }
        Ok(run)
    }

    fn check(&self, range: FrameRange) -> Result<u64, TakeAtError> {
        if range.frames == 0 {
            return Err(TakeAtError::Unaligned { range });
        }
        let last = range.start.checked_add(range.frames - 1).and_then(|last| self.index(last));
        let index = last.and_then(|_| self.index(range.start));
        index.ok_or(TakeAtError::Foreign { range, node: self.span() })
    }

    fn take_index_at(
        &self,
        range: FrameRange,
        index: u64,
        order: u8,
        movability: Movability,
    ) -> Result<(), TakeAtError> {
        // Its zone is certain only once the pageblock is owned.
        let zone = if order < PAGEBLOCK_ORDER {
            self.take_block_at(range, index, order, movability)?
        } else {
            self.take_huge_at(range, index, order, movability)?
        };
        self.account(zone.id(), -(1 << order));
        Ok(())
    }

    fn take_block_at(
        &self,
        range: FrameRange,
        index: u64,
        order: u8,
        movability: Movability,
    ) -> Result<Zone, TakeAtError> {
        let busy = TakeAtError::Busy { range, busy: self.pfn(index) };
        let claim = self.seize(index / FRAMES, movability).map_err(|why| why.of(range, busy))?;
        let entry = self.entry(claim.pb);
        let result = if !self.serves(entry.zone(), movability) {
            Err(TakeAtError::Zone { range, zone: entry.zone() })
        } else if let Some(busy) = self.first_taken(index, 1 << order) {
            Err(TakeAtError::Busy { range, busy: self.pfn(busy) })
        } else {
            if self.is_whole(claim.pb) {
                self.set_entry(claim.pb, entry.with_movability(movability));
            } else if entry.movability() != movability {
                self.set_entry(claim.pb, entry.mixed());
            }
            self.mark_block(&claim, index, order);
            Ok(entry.zone())
        };
        self.put_back(claim);
        result
    }

    /// The first of these frames that is taken, by the bitmap.
    fn first_taken(&self, index: u64, frames: u64) -> Option<u64> {
        (index..index + frames).find(|&at| self.bit(Bitmap::Taken, at))
    }

    fn take_huge_at(
        &self,
        range: FrameRange,
        index: u64,
        order: u8,
        movability: Movability,
    ) -> Result<Zone, TakeAtError> {
        let first = index / FRAMES;
        let mut zone = None;
        for pb in first..first + pageblocks_in(order) {
            let busy = |at| TakeAtError::Busy { range, busy: self.pfn(at) };
            let refused = match self.seize(pb, movability) {
                Ok(claim) => {
                    let entry = self.entry(claim.pb);
                    let whole = self.is_whole(pb);
                    let taken = if whole { None } else { self.first_taken(pb * FRAMES, FRAMES) };
                    let suits = self.serves(entry.zone(), movability);
                    if taken.is_none() && suits && *zone.get_or_insert(entry.zone()) == entry.zone()
                    {
                        self.set_entry(claim.pb, entry.with_movability(movability));
                        continue;
                    }
                    self.put_back(claim);
                    taken.map_or(TakeAtError::Zone { range, zone: entry.zone() }, busy)
                }
                Err(why) => why.of(range, busy(pb * FRAMES)),
            };
            (first..pb).for_each(|pb| self.put_back(Claim { pb }));
            return Err(refused);
        }
        self.make_huge(first, order);
        Ok(self.entry(first).zone())
    }

    /// Owns a pageblock wherever it stands, if some of it may be free.
    pub(crate) fn seize(&self, pb: u64, movability: Movability) -> Result<Claim, Unseized> {
        for _ in 0..TURNS {
            let entry = self.entry(pb);
            let zone = entry.zone_id();
            match entry.state() {
                State::Free => {
                    let exmem = entry.zone().is_exmem();
                    if exmem && !self.dedicate(zone, movability) {
                        return Err(Unseized::Dedicated(entry.zone()));
                    }
                    if self.free(zone).remove(pb) {
                        // Its entry as it is now, not as it was at the first look.
                        let entry = self.entry(pb);
                        let owned = entry.into(State::Owned).with_dedicated(u64::from(exmem));
                        self.set_entry(pb, owned);
                        return Ok(Claim { pb });
                    }
                    if exmem {
                        self.undedicate(zone);
                    }
                }
                State::Listed => {
                    let list = self.listed(zone, entry.movability(), entry.grade());
                    if list.remove(pb) {
                        self.set_entry(pb, self.entry(pb).into(State::Owned));
                        return Ok(Claim { pb });
                    }
                }
                State::Isolated => {
                    // It may have been free when it was set aside.
                    let exmem = entry.zone().is_exmem() && !entry.is_dedicated();
                    if exmem && !self.dedicate(zone, movability) {
                        return Err(Unseized::Dedicated(entry.zone()));
                    }
                    let owned = entry.into(State::Owned);
                    let owned = if exmem { owned.with_dedicated(1) } else { owned };
                    if self.exchange_entry(pb, entry, owned) {
                        return Ok(Claim { pb });
                    }
                    if exmem {
                        self.undedicate(zone);
                    }
                }
                State::Owned => {
                    if let Some(core) = self.core_of(pb) {
                        self.take_away_pageblocks(self.record(core), |had| had == pb);
                    }
                }
                State::Full | State::Absent | State::Head | State::Tail | State::Reserved => {
                    return Err(Unseized::Busy);
                }
            }
            spin();
        }
        Err(Unseized::Busy)
    }
}

/// Why a pageblock could not be owned.
pub(crate) enum Unseized {
    Busy,
    Dedicated(Zone),
}

impl Unseized {
    fn of(&self, range: FrameRange, busy: TakeAtError) -> TakeAtError {
        match *self {
            Self::Busy => busy,
            Self::Dedicated(zone) => TakeAtError::Zone { range, zone },
        }
    }
}

impl<'m> Frames<'m> {
    /// The largest aligned blocks that a range is made of, each within one zone. (The zones of
    /// what is owned do not change, so the blocks of a run are the same whenever they are asked.)
    pub(crate) fn blocks(
        &self,
        index: u64,
        frames: u64,
    ) -> impl Iterator<Item = (u64, u8)> + use<'_, 'm> {
        let end = index + frames;
        let mut at = index;
        core::iter::from_fn(move || {
            let fits = (end - at).checked_ilog2()?;
            let mut order = fits.min(at.trailing_zeros()).min(u32::from(Order::MAX.get())) as u8;
            while order > PAGEBLOCK_ORDER && !self.is_of_one_zone(at / FRAMES, order) {
                order -= 1;
            }
            let block = (at, order);
            at += 1 << order;
            Some(block)
        })
    }

    fn is_of_one_zone(&self, pb: u64, order: u8) -> bool {
        let zone = self.entry(pb).zone_id();
        (pb..pb + pageblocks_in(order)).all(|pb| self.entry(pb).zone_id() == zone)
    }
}

/// A contiguous run of frames, owned. One that is dropped goes back to its node.
#[must_use = "a run that is dropped goes back to its node"]
pub struct Run<'f> {
    home: &'f Frames<'f>,
    index: u64,
    frames: u64,
}

impl<'f> Run<'f> {
    /// Its frames.
    #[must_use]
    pub const fn range(&self) -> FrameRange {
        FrameRange::new(self.home.pfn(self.index), self.frames)
    }

    /// The same as aligned blocks, the largest possible, in ascending order.
    pub fn into_frames(self) -> impl Iterator<Item = Frame<'f>> {
        let (home, index, frames) = (self.home, self.index, self.frames);
        mem::forget(self);
        Frame::all(home, index, frames)
    }
}

impl Drop for Run<'_> {
    fn drop(&mut self) {
        let blocks = self.home.blocks(self.index, self.frames);
        blocks.for_each(|(at, order)| self.home.release(at, order));
    }
}

impl core::fmt::Debug for Run<'_> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "{}", self.range())
    }
}
