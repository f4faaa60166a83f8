//! Splitting a block into its halves, and joining two halves.

use crate::{
    claim::Claim,
    entry::State,
    frame::Frame,
    frames::{Bitmap, Frames},
    layout::{FRAMES, PAGEBLOCK_ORDER},
    primitive::{Ordering::*, spin},
};

impl<'f> Frame<'f> {
    /// The two halves of the block, the lower first. A single frame has none and comes back.
    ///
    /// # Errors
    /// The frame, when it is of order 0.
    pub fn split(self) -> Result<(Frame<'f>, Frame<'f>), Frame<'f>> {
        let (home, index, order) = (self.home(), self.index(), self.exponent());
        if order == 0 {
            return Err(self);
        }
        self.forget();
        let half = index + (1 << (order - 1));
        if order > PAGEBLOCK_ORDER {
            home.make_huge(index / FRAMES, order - 1);
            home.make_huge(half / FRAMES, order - 1);
        } else {
            if order == PAGEBLOCK_ORDER {
                home.shatter(index / FRAMES);
                home.join(index, order);
            }
            home.word(Bitmap::Tail, half / 64).fetch_and(!(1 << (half % 64)), AcqRel);
        }
        if let Some(descriptors) = home.descriptors {
            descriptors.copy(index, half);
        }
        Ok((Frame::new(home, index, order - 1), Frame::new(home, half, order - 1)))
    }

    /// The block that this one and the other are the halves of.
    ///
    /// # Errors
    /// Both, when they are not the halves of one block of order 18 or less of the same node, or
    /// they would make a pageblock part of which is retired, or which still serves a reservation.
    pub fn merge(self, other: Frame<'f>) -> Result<Frame<'f>, (Frame<'f>, Frame<'f>)> {
        let (home, order) = (self.home(), self.exponent());
        let (low, high) = if self.index() < other.index() {
            (self.index(), other.index())
        } else {
            (other.index(), self.index())
        };
        let halves = home.is_same(other.home())
            && order == other.exponent()
            && order < memtide_units::Order::MAX.get()
            && low.is_multiple_of(2 << order)
            && high == low + (1 << order)
            && home.entry(low / FRAMES).zone_id() == home.entry(high / FRAMES).zone_id();
        if !halves {
            return Err((self, other));
        }
        if order + 1 == PAGEBLOCK_ORDER {
            if !home.gather(low / FRAMES) {
                return Err((self, other));
            }
        } else if order < PAGEBLOCK_ORDER {
            home.word(Bitmap::Tail, high / 64).fetch_or(1 << (high % 64), AcqRel);
        } else {
            home.make_huge(low / FRAMES, order + 1);
        }
        self.forget();
        other.forget();
        Ok(Frame::new(home, low, order + 1))
    }
}

impl Frames<'_> {
    /// Makes single frames, all of them taken, of a pageblock that the caller holds as part of a
    /// larger block.
    pub(crate) fn shatter(&self, pb: u64) {
        for word in self.words_of(Bitmap::Taken, pb) {
            word.fetch_or(!0, AcqRel);
        }
        let entry = self.entry(pb);
        self.set_entry(pb, entry.into(State::Owned));
        // All of it is the caller's, so nothing can have been freed.
        let again = self.mark_full(Claim { pb });
        assert!(again.is_none(), "frames of pageblock {pb} were freed by another than the owner");
    }

    /// Makes one block of single frames that the caller holds, all within a pageblock.
    pub(crate) fn join(&self, index: u64, order: u8) {
        for at in index + 1..index + (1 << order) {
            self.word(Bitmap::Tail, at / 64).fetch_or(1 << (at % 64), AcqRel);
        }
    }

    /// Makes a block of order 9 of a pageblock, all of whose frames the caller holds.
    fn gather(&self, pb: u64) -> bool {
        let retired = self.words_of(Bitmap::Retired, pb).iter().any(|w| w.load(Acquire) != 0);
        if retired {
            return false;
        }
        // Nothing is free in it, so it is full, set aside, with a core, or on its way.
        loop {
            let entry = self.entry(pb);
            match entry.state() {
                State::Full | State::Isolated
                    if self.exchange_entry(pb, entry, entry.into(State::Owned)) =>
                {
                    break;
                }
                State::Owned => {
                    if let Some(core) = self.core_of(pb) {
                        self.take_away_pageblocks(self.record(core), |had| had == pb);
                    }
                }
                // It serves a reservation, for as long as that lives.
                State::Reserved => return false,
                _ => {}
            }
            spin();
        }
        for bitmap in [Bitmap::Tail, Bitmap::Taken] {
            self.words_of(bitmap, pb).iter().for_each(|word| word.store(0, Release));
        }
        self.make_huge(pb, PAGEBLOCK_ORDER);
        true
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use std::vec::Vec;

    use memtide_units::{Order, Pfn};

    use crate::{
        Frames, Geometry, Layout, Movability, Request, Zone, layout::FRAMES, primitive::AtomicU64,
    };

    /// Waiting for the pageblock would be waiting for the caller.
    #[test]
    fn halves_of_a_pageblock_that_is_reserved_are_not_merged() {
        let node = Geometry { first: Pfn(0), frames: FRAMES, block_frames: FRAMES, cores: 0 };
        let words = Layout::new(node).unwrap().words() + Layout::WORDS_SPARE;
        let words: Vec<AtomicU64> = (0..words).map(|_| AtomicU64::new(0)).collect();
        let frames = Frames::new(node, &words).unwrap();
        frames.add(frames.span(), Zone::Normal).unwrap();
        let half = Request::new(Order::new(8).unwrap(), Movability::Movable);
        let mut room = frames.reserve(half, 2).unwrap();
        let (low, high) = (room.acquire().unwrap(), room.acquire().unwrap());
        let (low, high) = low.merge(high).unwrap_err();
        room.forfeit();
        assert_eq!(low.merge(high).unwrap().order(), Order::PAGEBLOCK);
        frames.validate();
    }
}
