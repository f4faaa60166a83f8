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
    error::{CoreError, FrameError, GiveError, TakeError},
    frame::Frame,
    frames::Frames,
    layout::{PAGEBLOCK_ORDER, RECORD, WORDS},
    primitive::{AtomicU64, Ordering::*},
    record::{self, Guard, slot, slot_of, slots},
    request::Request,
};

/// Frames that a core caches at most.
pub const CACHE_FRAMES: u64 = 64;

/// The right to use the cache of one core. One thread at a time has it.
pub struct Core<'f> {
    pub(crate) frames: &'f Frames<'f>,
    pub(crate) record: &'f [AtomicU64; RECORD],
    pub(crate) limit: u64,
    pub(crate) number: u16,
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
    pub(crate) fn get(&self, at: usize) -> u64 {
        self.record[at].load(Relaxed)
    }

    #[inline(always)]
    pub(crate) fn set(&self, at: usize, value: u64) {
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
            0 => self.take_frame(&request),
            PAGEBLOCK_ORDER => self.take_pageblock(&request),
            _ => self.take_other(&request),
        };
        let Some(index) = index else {
            return Err(self.frames.refusal(&request));
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
        if order == 0 {
            self.give_frame(index)
        } else {
            self.give_block(index, order)
        }
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

    /// Gives back all that is cached, and the pageblocks it came from.
    pub fn drain(&mut self) {
        self.give_back_masks();
        let _guard = Guard::new(self.record);
        for slot in slots() {
            self.leave_pageblock(slot);
        }
    }

    #[inline(always)]
    fn take_frame(&mut self, request: &Request) -> Option<u64> {
        let at = slot_of(request.movability, request.want);
        let mask = self.get(at + slot::MASK);
        let fits = request.zones().has(self.get(at + slot::ZONE));
        if mask == 0 || !fits || self.get(record::SUMMONS) != 0 {
            return self.take_frame_slow(request, at);
        }
        Some(self.pop(at, mask))
    }

    /// Hands out the lowest frame of a slot's mask, which is not empty.
    #[inline(always)]
    pub(crate) fn pop(&self, at: usize, mask: u64) -> u64 {
        self.set(at + slot::MASK, mask & (mask - 1));
        self.set(record::CACHED, self.get(record::CACHED) - 1);
        let word = self.get(at + slot::WORD);
        self.set(record::ACTIVE, (at + slot::MASK) as u64);
        self.set(record::ACTIVE_WORD, word);
        (word - 1) * 64 + u64::from(mask.trailing_zeros())
    }

    fn take_pageblock(&mut self, request: &Request) -> Option<u64> {
        if self.get(record::SUMMONS) & record::DRAIN == 0
            && let Some(index) = self.take_at_home(request)
        {
            return Some(index);
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
        if order == PAGEBLOCK_ORDER {
            self.give_pageblock(index)
        } else {
            self.give_other(index, order)
        }
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

    pub(crate) fn give_back_slot(&self, at: usize) {
        let mask = self.get(at + slot::MASK);
        if mask != 0 {
            self.set(at + slot::MASK, 0);
            self.set(record::CACHED, self.get(record::CACHED) - u64::from(mask.count_ones()));
            self.release_some(self.get(at + slot::WORD) - 1, mask);
        }
    }

    pub(crate) fn give_back_masks(&self) {
        self.give_back_return();
        slots().for_each(|at| self.give_back_slot(at));
    }

    /// Does what others asked for.
    pub(crate) fn answer_summons(&mut self) {
        if self.get(record::SUMMONS) & record::DRAIN != 0 {
            self.record[record::SUMMONS].fetch_and(!record::DRAIN, AcqRel);
            self.give_back_masks();
        }
        self.be_careful_no_more();
    }

    /// Ends looking at each frame when there is none to retire any more. Only the core itself does:
    /// who notes a frame counts it first and asks then, so one of the two looks last.
    fn be_careful_no_more(&self) {
        let careful = self.get(record::SUMMONS) & record::CAREFUL != 0;
        if careful && self.frames.retiring() == 0 {
            self.record[record::SUMMONS].fetch_and(!record::CAREFUL, SeqCst);
            if self.frames.retiring() != 0 {
                self.record[record::SUMMONS].fetch_or(record::CAREFUL, SeqCst);
            }
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

const _: fn() = || {
    fn sent<T: Send>() {}
    sent::<Core<'_>>();
};
