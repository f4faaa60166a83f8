//! A core's cache: single frames taken ahead, and single frames not yet given back.
//!
//! A core takes up to 32 frames of one word of a pageblock at once and hands them out one by one,
//! with plain loads and stores; frames of that word that are given back go where they came from.
//! Frames of other words gather in a mask of their own as long as they are of one word, and leave
//! together. So most calls touch nothing but the core's own record, and a core that frees what
//! another took costs one atomic operation a word. At most 64 frames are cached.
//!
//! Frames that are given back are not handed out again from the cache, except into the word they
//! came from: what is taken always comes from the pageblock that the search chose, so a program
//! that frees at random and takes again packs its memory instead of scattering it.
//!
//! The record can be looked at by all, and the pageblocks taken away under its lock; what is in
//! the masks only the core itself gives back: when it drains, when it is dropped, and in its next
//! call after somebody summoned it.

use core::{cell::Cell, marker::PhantomData};

use memtide_units::{Order, Pfn};

use crate::{
    bits::ones,
    claim::Claim,
    entry::State,
    error::{CoreError, FrameError, GiveError, TakeError},
    frame::Frame,
    frames::{Frames, header},
    huge::home_of,
    layout::{PAGEBLOCK_ORDER, RECORD, WORDS},
    primitive::{AtomicU64, Ordering::*},
    record::{self, Guard, slot, slot_of, slots},
    request::{Movability, Request},
    watermark::{Crossing, Pressure},
    zone::Zone,
};

/// Frames that a core caches at most.
pub const CACHE_FRAMES: u64 = 64;

/// Frames that are taken ahead at once.
const BATCH: u64 = 32;

/// The right to use the cache of one core. One thread at a time has it.
pub struct Core<'f> {
    frames: &'f Frames<'f>,
    record: &'f [AtomicU64; RECORD],
    limit: u64,
    number: u16,
    /// Not to be shared between threads.
    alone: PhantomData<Cell<()>>,
}

impl<'m> Frames<'m> {
    /// The cache of a core.
    ///
    /// # Errors
    /// [`CoreError`] when there is no such core, or somebody has it.
    pub fn core<'f>(&'f self, number: u16) -> Result<Core<'f>, CoreError> {
        self.core_with_cache(number, CACHE_FRAMES)
    }

    /// The same with a cache of `limit` frames, 64 at most. With 0 every frame is taken from and
    /// given back to the bitmaps at once.
    ///
    /// # Errors
    /// As [`Frames::core`].
    pub fn core_with_cache<'f>(&'f self, number: u16, limit: u64) -> Result<Core<'f>, CoreError> {
        let cores = self.layout.geometry.cores;
        if number >= cores {
            return Err(CoreError::NoSuchCore { core: number, cores });
        }
        let record = self.record(number);
        if record[record::IN_USE].swap(1, AcqRel) != 0 {
            return Err(CoreError::InUse { core: number });
        }
        let limit = limit.min(CACHE_FRAMES);
        Ok(Core { frames: self, record, limit, number, alone: PhantomData })
    }
}

impl<'f> Core<'f> {
    #[inline(always)]
    fn get(&self, at: usize) -> u64 {
        self.record[at].load(Relaxed)
    }

    #[inline(always)]
    fn set(&self, at: usize, value: u64) {
        self.record[at].store(value, Relaxed);
    }

    /// The node.
    #[must_use]
    pub const fn frames(&self) -> &'f Frames<'f> {
        self.frames
    }

    /// The number of the core.
    #[must_use]
    pub const fn number(&self) -> u16 {
        self.number
    }

    /// Takes a block.
    ///
    /// # Errors
    /// [`TakeError`] when there is none where the request may land.
    #[inline(always)]
    pub fn take(&mut self, request: Request) -> Result<Frame<'f>, TakeError> {
        let index = match request.order.get() {
            0 => self.take_frame(&request)?,
            PAGEBLOCK_ORDER => self.take_pageblock(&request)?,
            _ => self.take_other(&request)?,
        };
        if let Some(descriptors) = self.frames.descriptors {
            descriptors.taken(index, request.movability);
        }
        Ok(Frame::new(self.frames, index, request.order.get()))
    }

    /// Gives a block back.
    ///
    /// # Errors
    /// [`GiveError`] with the block when it is of another node.
    #[inline(always)]
    pub fn give(&mut self, frame: Frame<'f>) -> Result<(), GiveError<'f>> {
        let home = frame.home();
        if !core::ptr::eq(home, self.frames) && !self.frames.is_same(home) {
            return Err(GiveError { frame, node: self.frames.span() });
        }
        let (index, order) = (frame.index(), frame.exponent());
        frame.forget();
        if order == 0 { self.give_frame(index) } else { self.give_block(index, order) }
        Ok(())
    }

    /// Takes a block and holds it by its number.
    ///
    /// # Errors
    /// As [`Core::take`].
    #[inline]
    pub fn take_number(&mut self, request: Request) -> Result<Pfn, TakeError> {
        self.take(request).map(|frame| frame.into_number().0)
    }

    /// Gives back a block that is held by its number.
    ///
    /// # Errors
    /// [`FrameError`] when nobody holds a block of that order under that number.
    #[inline]
    pub fn give_number(&mut self, pfn: Pfn, order: Order) -> Result<(), FrameError> {
        let frame = self.frames.adopt(pfn, order)?;
        self.give(frame).expect("adopted from this node");
        Ok(())
    }

    /// A change of some zone's pressure that this core noticed, once.
    pub fn crossing(&mut self) -> Option<Crossing> {
        let noticed = self.get(record::CROSSING);
        if noticed >> 8 & 1 == 0 {
            return None;
        }
        self.set(record::CROSSING, noticed & !(1 << 8));
        let zone = Zone::from_id(noticed & 15);
        Some(Crossing { zone, pressure: self.frames.pressure(zone) })
    }

    /// Gives back all that is cached, and the pageblocks it came from.
    pub fn drain(&mut self) {
        self.give_back_masks();
        let _guard = Guard::new(self.record);
        for slot in slots() {
            self.leave_pageblock(slot);
        }
    }

    #[inline(always)]
    fn take_frame(&mut self, request: &Request) -> Result<u64, TakeError> {
        let at = slot_of(request.movability, request.want);
        let mask = self.get(at + slot::MASK);
        let fits = request.zones().has(self.get(at + slot::ZONE));
        if mask == 0 || !fits || self.get(record::SUMMONS) != 0 {
            return self.take_frame_slow(request, at);
        }
        Ok(self.pop(at, mask))
    }

    /// Hands out the lowest frame of a slot's mask, which is not empty.
    #[inline(always)]
    fn pop(&self, at: usize, mask: u64) -> u64 {
        self.set(at + slot::MASK, mask & (mask - 1));
        self.set(record::CACHED, self.get(record::CACHED) - 1);
        let word = self.get(at + slot::WORD);
        self.set(record::ACTIVE, (at + slot::MASK) as u64);
        self.set(record::ACTIVE_WORD, word);
        (word - 1) * 64 + u64::from(mask.trailing_zeros())
    }

    #[cold]
    #[inline(never)]
    fn take_frame_slow(&mut self, request: &Request, at: usize) -> Result<u64, TakeError> {
        self.answer_summons();
        loop {
            let mask = self.get(at + slot::MASK);
            if mask == 0 || !request.zones().has(self.get(at + slot::ZONE)) {
                self.refill(request, at)?;
                continue;
            }
            let index = self.pop(at, mask);
            if self.get(record::SUMMONS) & record::CAREFUL == 0 || !self.frames.keep_back(index) {
                return Ok(index);
            }
        }
    }

    /// Fills the mask of a slot, which is empty or of a zone that the request may not have.
    fn refill(&mut self, request: &Request, at: usize) -> Result<(), TakeError> {
        if self.get(at + slot::MASK) != 0 {
            self.give_back_slot(at);
        }
        if self.limit.max(1) <= self.get(record::CACHED) {
            self.give_back_masks();
        }
        let room = self.limit.max(1) - self.get(record::CACHED);
        let guard = Guard::new(self.record);
        let taken = self.take_ahead(request, at, room.min(BATCH));
        drop(guard);
        let taken = match taken {
            Some(taken) => Some(taken),
            None => {
                self.drain();
                self.frames.take_from_cores(request, 1, Some(self.record))
            }
        };
        let Some((word, mask)) = taken else {
            return Err(self.frames.refusal(request));
        };
        let zone = self.frames.entry(word / WORDS).zone_id();
        let count = u64::from(mask.count_ones());
        self.set(at + slot::MASK, mask);
        self.set(at + slot::WORD, word + 1);
        self.set(at + slot::ZONE, zone);
        self.set(record::CACHED, self.get(record::CACHED) + count);
        self.frames.account_by(self.record, zone, -(count as i64));
        self.notice(zone);
        Ok(())
    }

    /// Takes single frames of the slot's pageblock, or of another that is looked for. The caller
    /// has the lock.
    fn take_ahead(&self, request: &Request, at: usize, most: u64) -> Option<(u64, u64)> {
        while let Some(pb) = self.get(at + slot::PAGEBLOCK).checked_sub(1) {
            let zone = self.frames.entry(pb).zone();
            let fits = request.zones().contains(zone) && self.frames.may_serve(zone, request);
            if !fits {
                self.leave_pageblock(at);
                break;
            }
            if let Some(taken) = self.frames.take_some(pb, most) {
                return Some(taken);
            }
            self.set(at + slot::PAGEBLOCK, 0);
            if let Some(claim) = self.frames.mark_full(Claim { pb }) {
                self.keep_pageblock(at, claim);
            }
        }
        let found = self.frames.find(request)?;
        let pb = found.claim.pb;
        let taken = self.frames.take_some(pb, if found.borrowed { 1 } else { most });
        if found.borrowed {
            self.frames.put_back(found.claim);
        } else {
            self.keep_pageblock(at, found.claim);
        }
        assert!(taken.is_some(), "pageblock {pb} was listed but is full");
        taken
    }

    /// Makes a pageblock the slot's. The caller has the lock.
    fn keep_pageblock(&self, at: usize, claim: Claim) {
        let entry = self.frames.entry(claim.pb);
        self.frames.set_entry(claim.pb, entry.with_link(u64::from(self.number) + 1));
        self.set(at + slot::PAGEBLOCK, claim.pb + 1);
    }

    /// Puts the slot's pageblock back. The caller has the lock.
    fn leave_pageblock(&self, at: usize) {
        if let Some(pb) = self.get(at + slot::PAGEBLOCK).checked_sub(1) {
            self.set(at + slot::PAGEBLOCK, 0);
            self.frames.put_back(Claim { pb });
        }
    }

    fn take_pageblock(&mut self, request: &Request) -> Result<u64, TakeError> {
        if self.get(record::SUMMONS) & record::DRAIN == 0
            && let Some(index) = self.take_at_home(request)
        {
            return Ok(index);
        }
        self.take_other(request)
    }

    /// Takes a pageblock near the last one, if that is where the request is to be served.
    #[inline]
    fn take_at_home(&self, request: &Request) -> Option<u64> {
        let zone = self.frames.plain_zone(request)?;
        let home = self.get(record::HOME);
        let near = (home >> 4).checked_sub(1).filter(|_| home & 15 == zone);
        let pb = near.and_then(|word| self.frames.take_near(zone, word, request.movability));
        let pb = pb.or_else(|| self.take_at_new_home(zone, request.movability))?;
        self.frames.account_by(self.record, zone, -(1 << PAGEBLOCK_ORDER));
        Some(pb * WORDS * 64)
    }

    #[cold]
    #[inline(never)]
    fn take_at_new_home(&self, zone: u64, movability: Movability) -> Option<u64> {
        let word = self.frames.lonely_word(zone, self.number)?;
        self.set(record::HOME, home_of(zone, word));
        self.frames.take_near(zone, word, movability)
    }

    fn own_huge(&self, pb: u64, order: u8) -> u64 {
        self.frames.make_huge(pb, order);
        let zone = self.frames.entry(pb).zone_id();
        self.frames.account_by(self.record, zone, -(1 << order));
        self.notice(zone);
        pb * WORDS * 64
    }

    /// Takes a block of any order but 0.
    #[cold]
    #[inline(never)]
    fn take_other(&mut self, request: &Request) -> Result<u64, TakeError> {
        self.answer_summons();
        let order = request.order.get();
        for last in [false, true] {
            if order >= PAGEBLOCK_ORDER {
                if let Some(pb) = self.frames.find_huge(request) {
                    return Ok(self.own_huge(pb, order));
                }
            } else if let Some((index, zone)) = self.take_block(request) {
                self.frames.account_by(self.record, zone, -(1 << order));
                self.notice(zone);
                return Ok(index);
            }
            if !last {
                self.drain();
                self.frames.drain_pageblocks(Some(self.record));
            }
        }
        Err(self.frames.refusal(request))
    }

    /// Takes a block smaller than a pageblock: of the slot's pageblock, or of another.
    fn take_block(&mut self, request: &Request) -> Option<(u64, u64)> {
        let (at, order) = (slot_of(request.movability, request.want), request.order.get());
        let _guard = Guard::new(self.record);
        if let Some(pb) = self.get(at + slot::PAGEBLOCK).checked_sub(1) {
            let zone = self.frames.entry(pb).zone();
            if request.zones().contains(zone)
                && self.frames.may_serve(zone, request)
                && let Some(index) = self.frames.find_block(pb, order)
            {
                self.frames.mark_block(&Claim { pb }, index, order);
                return Some((index, zone.id()));
            }
        }
        let found = self.frames.find(request)?;
        let index = self.frames.find_block(found.claim.pb, order)?;
        let zone = self.frames.entry(found.claim.pb).zone_id();
        self.frames.mark_block(&found.claim, index, order);
        if found.borrowed {
            self.frames.put_back(found.claim);
        } else {
            self.leave_pageblock(at);
            self.keep_pageblock(at, found.claim);
        }
        Some((index, zone))
    }

    #[inline(always)]
    fn give_frame(&mut self, index: u64) {
        let (word, bit) = (index / 64, 1 << (index % 64));
        let cached = self.get(record::CACHED);
        if self.get(record::SUMMONS) != 0 {
            return self.give_frame_slow(word, bit);
        }
        // To the word it came from, which may have half of the cache; or to those on their way.
        // Only while frames of that word are cached: they keep its pageblock in its zone and its
        // channel's use, and none are once it is isolated.
        let active = self.get(record::ACTIVE_WORD) == word + 1
            && cached < self.limit / 2
            && self.get(self.get(record::ACTIVE) as usize) != 0;
        let to = if active { self.get(record::ACTIVE) as usize } else { record::RETURN + 1 };
        if !active && (self.get(record::RETURN) != word + 1 || cached >= self.limit) {
            return self.give_to_other_word(word, bit);
        }
        debug_assert_eq!(self.get(to) & bit, 0);
        self.set(to, self.get(to) | bit);
        self.set(record::CACHED, cached + 1);
    }

    /// Takes a frame of another word on its way, and gives back those that were.
    #[inline(never)]
    fn give_to_other_word(&self, word: u64, bit: u64) {
        let (before, mask) = (self.get(record::RETURN), self.get(record::RETURN + 1));
        let cached = self.get(record::CACHED) - ones(mask);
        if cached >= self.limit {
            self.give_back_return();
            return self.release_some(word, bit);
        }
        self.set(record::RETURN, word + 1);
        self.set(record::RETURN + 1, bit);
        self.set(record::CACHED, cached + 1);
        if mask != 0 {
            self.release_some(before - 1, mask);
        }
    }

    #[cold]
    #[inline(never)]
    fn give_frame_slow(&mut self, word: u64, bit: u64) {
        self.answer_summons();
        self.give_back_return();
        self.release_some(word, bit);
    }

    fn release_some(&self, word: u64, mask: u64) {
        let (zone, count) = self.frames.release_frames(word, mask);
        self.frames.account_by(self.record, zone, count as i64);
    }

    #[inline]
    fn give_block(&mut self, index: u64, order: u8) {
        if order == PAGEBLOCK_ORDER { self.give_pageblock(index) } else { self.give_other(index, order) }
    }

    #[inline(never)]
    fn give_pageblock(&self, index: u64) {
        let (zone, count) = self.frames.release_any(index, PAGEBLOCK_ORDER);
        self.frames.account_by(self.record, zone, count as i64);
    }

    #[inline(never)]
    fn give_other(&self, index: u64, order: u8) {
        let (zone, count) = self.frames.release_any(index, order);
        self.frames.account_by(self.record, zone, count as i64);
    }

    /// Gives back the mask of frames on their way.
    #[inline]
    fn give_back_return(&self) {
        let mask = self.get(record::RETURN + 1);
        if mask != 0 {
            self.set(record::RETURN + 1, 0);
            self.set(record::CACHED, self.get(record::CACHED) - ones(mask));
            self.release_some(self.get(record::RETURN) - 1, mask);
        }
    }

    fn give_back_slot(&self, at: usize) {
        let mask = self.get(at + slot::MASK);
        if mask != 0 {
            self.set(at + slot::MASK, 0);
            self.set(record::CACHED, self.get(record::CACHED) - u64::from(mask.count_ones()));
            self.release_some(self.get(at + slot::WORD) - 1, mask);
        }
    }

    fn give_back_masks(&self) {
        self.give_back_return();
        slots().for_each(|at| self.give_back_slot(at));
    }

    /// Does what others asked for.
    fn answer_summons(&mut self) {
        if self.get(record::SUMMONS) & record::DRAIN != 0 {
            self.record[record::SUMMONS].fetch_and(!record::DRAIN, AcqRel);
            self.give_back_masks();
        }
    }

    /// Keeps a change of pressure for [`Core::crossing`].
    #[inline]
    fn notice(&self, zone: u64) {
        let populated = self.frames.header[header::POPULATED].load(Relaxed);
        if populated >> header::WATCHED >> zone & 1 != 0 {
            self.notice_slow(zone);
        }
    }

    #[cold]
    fn notice_slow(&self, zone: u64) {
        let pressure = self.frames.pressure(Zone::from_id(zone)) as u64;
        let noticed = self.get(record::CROSSING);
        // Bits 0-3 the zone, 8 whether it was not asked for yet, 16 and on two bits a zone: how
        // it stood.
        let at = 16 + 2 * zone;
        if noticed >> at & 3 != pressure {
            let rest = noticed & !(3 << at) & !0x1ff;
            self.set(record::CROSSING, rest | pressure << at | 1 << 8 | zone);
        }
    }
}

impl Drop for Core<'_> {
    fn drop(&mut self) {
        self.drain();
        self.record[record::SUMMONS].fetch_and(!record::DRAIN, AcqRel);
        self.record[record::IN_USE].store(0, Release);
    }
}

const _: () = assert!(Pressure::BelowMin as u64 <= 3);
const _: fn() = || {
    fn sent<T: Send>() {}
    sent::<Core<'_>>();
};

impl Frames<'_> {
    /// The pageblock of a core's slot, if it is one that the core has.
    pub(crate) fn core_of(&self, pb: u64) -> Option<u16> {
        let entry = self.entry(pb);
        let link = u16::try_from(entry.link()).ok()?.checked_sub(1)?;
        (entry.state() == State::Owned && link < self.layout.geometry.cores).then_some(link)
    }
}
