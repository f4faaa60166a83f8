//! Reserve, acquire, forfeit: room that is kept until a plan is carried out.
//!
//! A plan that needs many blocks (the destinations of a thousand moves) must not find out half-way
//! that somebody else took the rest. It reserves room for all of them first, acquires them one by
//! one, in an order that depends on nothing else, and forfeits what it did not need.
//!
//! A reservation owns whole pageblocks, chained through their entries, so it takes no memory
//! besides. What is free in them counts as free until it is acquired, but nobody else gets it;
//! reserving costs no more than taking one block of each of these pageblocks would.
//! It does not take from pageblocks of another movability, so one that is refused changes nothing.
//!
//! A pageblock that is isolated later still serves the reservation that had it before: the room
//! was promised.

use memtide_units::Order;

use crate::{
    bits::{WORD_ORDER, run_starts},
    claim::Claim,
    entry::State,
    error::TakeError,
    frame::Frame,
    frames::{Bitmap, Frames, pageblocks_in},
    layout::{FRAMES, PAGEBLOCK_ORDER},
    primitive::Ordering::*,
    request::Request,
};

/// Room for some blocks of one order. What is not acquired goes back when it is dropped.
#[must_use = "a reservation that is dropped is forfeited"]
pub struct Reservation<'f> {
    home: &'f Frames<'f>,
    request: Request,
    /// The first pageblock of the chain plus one.
    first: u64,
    left: u64,
}

impl<'m> Frames<'m> {
    /// Reserves room for `count` blocks as requested, all or nothing.
    ///
    /// # Errors
    /// [`TakeError`] when there is not that much where the request may land.
    pub fn reserve<'f>(
        &'f self,
        request: Request,
        count: u64,
    ) -> Result<Reservation<'f>, TakeError> {
        let order = request.order.get();
        let mut room = Reservation { home: self, request, first: 0, left: 0 };
        // The last of the chain: it serves first what was found first.
        let mut last = 0;
        let mut drained = false;
        while room.left < count {
            let Some((pb, blocks)) = self.find_room(&request, room.left) else {
                if drained {
                    return Err(self.refusal(&request));
                }
                drained = true;
                self.drain_pageblocks(None);
                continue;
            };
            if order < PAGEBLOCK_ORDER {
                self.set_entry(pb, self.entry(pb).into(State::Reserved));
            } else {
                for pb in pb..pb + pageblocks_in(order) {
                    self.set_entry(pb, self.entry(pb).into(State::Reserved));
                }
            }
            if last == 0 {
                room.first = pb + 1;
            } else {
                self.set_entry(last - 1, self.entry(last - 1).with_link(pb + 1));
            }
            last = pb + 1;
            room.left += blocks;
        }
        room.left = count;
        Ok(room)
    }

    /// A pageblock (or the first of several) that the caller owns now, and how many blocks as
    /// requested it has room for.
    fn find_room(&self, request: &Request, reserved: u64) -> Option<(u64, u64)> {
        // What is reserved counts as free until it is acquired, but not towards the watermarks.
        let beyond = reserved.saturating_mul(request.order.frames());
        if request.order.get() >= PAGEBLOCK_ORDER {
            return Some((self.find_huge(request, beyond)?, 1));
        }
        let pb = self.find_unmixed(request, beyond)?.pb;
        Some((pb, self.blocks_free(pb, request.order.get())))
    }

    /// How many free aligned blocks of an order a pageblock has.
    pub(crate) fn blocks_free(&self, pb: u64, order: u8) -> u64 {
        let words = self.words_of(Bitmap::Taken, pb);
        if order > WORD_ORDER {
            let groups = words.chunks_exact(1 << (order - WORD_ORDER));
            return groups.filter(|group| group.iter().all(|word| word.load(Acquire) == 0)).count()
                as u64;
        }
        let starts = words.iter().map(|word| run_starts(!word.load(Acquire), order));
        starts.map(|starts| u64::from(starts.count_ones())).sum()
    }
}

impl<'f> Reservation<'f> {
    /// The order of its blocks.
    #[must_use]
    pub const fn order(&self) -> Order {
        self.request.order
    }

    /// How many blocks may still be acquired.
    #[must_use]
    pub const fn left(&self) -> u64 {
        self.left
    }

    /// Takes one of the blocks that were reserved: always the lowest of the pageblock that was
    /// found first. `None` when all have been.
    pub fn acquire(&mut self) -> Option<Frame<'f>> {
        self.left = self.left.checked_sub(1)?;
        let (home, order) = (self.home, self.request.order.get());
        let (index, zone) = if order >= PAGEBLOCK_ORDER {
            let pb = self.first - 1;
            let entry = home.entry(pb);
            self.first = entry.link();
            home.make_huge(pb, order);
            (pb * FRAMES, entry.zone_id())
        } else {
            self.acquire_block(order)
        };
        home.account(zone, -(1 << order));
        if let Some(descriptors) = home.descriptors {
            descriptors.taken(index, self.request.movability);
        }
        Some(Frame::new(home, index, order))
    }

    fn acquire_block(&mut self, order: u8) -> (u64, u64) {
        loop {
            let pb = self.first.checked_sub(1).expect("room for all that is left");
            if let Some(index) = self.home.find_block(pb, order) {
                self.home.mark_block(&Claim { pb }, index, order);
                return (index, self.home.entry(pb).zone_id());
            }
            self.leave_first();
        }
    }

    /// Puts back the first pageblock of the chain, or the first run of them.
    fn leave_first(&mut self) {
        let (home, order) = (self.home, self.request.order.get());
        let pb = self.first - 1;
        self.first = home.entry(pb).link();
        let pageblocks = if order < PAGEBLOCK_ORDER { 1 } else { pageblocks_in(order) };
        for pb in pb..pb + pageblocks {
            home.set_entry(pb, home.entry(pb).into(State::Owned));
            home.put_back(Claim { pb });
            if home.is_retiring() {
                // While it was reserved nobody could take what is free in it out of service.
                home.retire_late(pb * FRAMES, FRAMES);
            }
        }
    }

    /// Gives up what was not acquired. Dropping it does the same.
    pub fn forfeit(self) {
        drop(self);
    }
}

impl Drop for Reservation<'_> {
    fn drop(&mut self) {
        while self.first != 0 {
            self.leave_first();
        }
    }
}

impl core::fmt::Debug for Reservation<'_> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "room for {} blocks of {}", self.left, self.request.order)
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use std::vec::Vec;

    use memtide_units::Pfn;

    use super::*;
    use crate::{Geometry, Layout, Movability, Zone, primitive::AtomicU64};

    fn words(geometry: Geometry) -> Vec<AtomicU64> {
        let words = Layout::new(geometry).unwrap().words() + Layout::WORDS_SPARE;
        (0..words).map(|_| AtomicU64::new(0)).collect()
    }

    const NODE: Geometry =
        Geometry { first: Pfn(0), frames: 8 * FRAMES, block_frames: FRAMES, cores: 1 };

    #[test]
    fn what_is_reserved_is_there_whatever_others_take() {
        let words = words(NODE);
        let frames = Frames::new(NODE, &words).unwrap();
        frames.add(frames.span(), Zone::Normal).unwrap();
        let single = Request::new(Order::FRAME, Movability::Movable);
        for order in [0, 3, 8, 9, 10] {
            let request = Request::new(Order::new(order).unwrap(), Movability::Movable);
            let count = (3 * FRAMES) >> order.min(9);
            let count = if order > 9 { 2 } else { count };
            let mut room = frames.reserve(request, count).unwrap();
            let mut others = Vec::new();
            while let Ok(frame) = frames.take(single) {
                others.push(frame);
            }
            let mut mine = Vec::new();
            while let Some(frame) = room.acquire() {
                assert!(frame.pfn().is_aligned(request.order), "{frame:?}");
                mine.push(frame);
            }
            assert_eq!(mine.len() as u64, count);
            let taken = others.len() as u64 + (count << order);
            assert_eq!(taken + frames.free_frames(0), NODE.frames, "order {order}");
            drop((room, mine, others));
            assert_eq!(frames.free_frames(0), NODE.frames);
            drop(frames.take(Request::new(Order::new(12).unwrap(), Movability::Movable)).unwrap());
        }
    }

    #[test]
    fn what_is_forfeited_is_there_for_others() {
        let words = words(NODE);
        let frames = Frames::new(NODE, &words).unwrap();
        frames.add(frames.span(), Zone::Normal).unwrap();
        let single = Request::new(Order::FRAME, Movability::Movable);
        let held = frames.take(single).unwrap();
        let mut room = frames.reserve(single, 600).unwrap();
        let one = room.acquire().unwrap();
        assert_eq!(one.pfn(), Pfn(1), "the pageblock in use comes first");
        assert!(frames.reserve(single, NODE.frames).is_err());
        room.forfeit();
        drop((one, held));
        let all = Request::new(Order::new(12).unwrap(), Movability::Movable);
        assert_eq!(frames.take(all).unwrap().pfn(), Pfn(0));
    }
}
