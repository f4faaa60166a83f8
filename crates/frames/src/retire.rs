//! Frames out of service: poisoned ones, and holes.
//!
//! A frame that is free is retired at once. One that somebody has is noted, and does not come back
//! into circulation when it is given back: as long as there are such frames, every release and
//! every frame that a core hands out of its cache is looked at.
//!
//! A frame out of service counts as in use for the channel of extended memory that it is of: that
//! keeps its use until the block is removed.

use memtide_units::{FrameRange, Order, Pfn};

use crate::{
    bits::ones,
    claim::Claim,
    entry::State,
    error::TakeAtError,
    frame::Frame,
    frames::{Bitmap, Frames, header, pageblocks_in},
    layout::{FRAMES, PAGEBLOCK_ORDER, WORDS},
    primitive::{Ordering::*, seq_cst_in_model, spin},
    record,
    request::Movability,
};

/// What became of a frame that was to be retired.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Retirement {
    /// It is out of service.
    Done,
    /// Somebody has it. It is out of service when it is given back.
    WhenGivenBack,
    /// It was retired, or noted, before.
    Before,
}

impl<'m> Frames<'m> {
    /// Takes a frame out of service, because its memory is bad.
    ///
    /// # Errors
    /// [`TakeAtError::Foreign`] when there is no such frame, [`TakeAtError::Busy`] when it is not
    /// in the pool.
    pub fn retire(&self, pfn: Pfn) -> Result<Retirement, TakeAtError> {
        let range = FrameRange::new(pfn, 1);
        let index = self.index(pfn).ok_or(TakeAtError::Foreign { range, node: self.span() })?;
        if self.entry(index / FRAMES).state() == State::Absent {
            return Err(TakeAtError::Busy { range, busy: pfn });
        }
        // First the note, then the attempt to take it: whoever gives it back meanwhile looks for
        // the note before and after.
        self.header[header::RETIRING].fetch_add(1, SeqCst);
        if self.set_retired(index) {
            self.count_noted_less(1);
            return Ok(Retirement::Before);
        }
        if !self.outlasts_removal(index) {
            self.count_noted_less(1);
            return Err(TakeAtError::Busy { range, busy: pfn });
        }
        for core in 0..self.layout.geometry.cores {
            self.summon(core, record::CAREFUL);
        }
        let done = self.retire_free(index);
        if let Some(descriptors) = self.descriptors {
            descriptors.poison(index);
        }
        Ok(if done { Retirement::Done } else { Retirement::WhenGivenBack })
    }

    /// Frames out of service.
    #[must_use]
    pub fn retired(&self) -> u64 {
        self.header[header::RETIRED].load(Acquire)
    }

    /// Frames that will be out of service once they are given back.
    #[must_use]
    pub fn retiring(&self) -> u64 {
        self.header[header::RETIRING].load(SeqCst)
    }

    /// Declares frames that are free to be a hole: they are not there.
    ///
    /// # Errors
    /// [`TakeAtError`] when one of them is not free; then nothing has changed.
    pub fn exclude(&self, range: FrameRange) -> Result<(), TakeAtError> {
        let run = self.take_range(range, Movability::Movable)?;
        for frame in run.into_frames() {
            let (index, order) = (frame.index(), frame.exponent());
            frame.forget();
            self.exclude_block(index, order);
        }
        Ok(())
    }

    fn exclude_block(&self, index: u64, order: u8) {
        let zone = self.entry(index / FRAMES).zone_id();
        self.depopulate(zone, 1 << order);
        if order >= PAGEBLOCK_ORDER {
            for pb in index / FRAMES..index / FRAMES + pageblocks_in(order) {
                self.shatter(pb);
                self.join(pb * FRAMES, PAGEBLOCK_ORDER);
                self.make_holes(pb * FRAMES, FRAMES);
            }
        } else {
            self.make_holes(index, 1 << order);
        }
    }

    /// Makes holes of the frames of a block: each is either one or not, also to who recovers the
    /// node if the caller dies.
    fn make_holes(&self, index: u64, frames: u64) {
        let hold = |at: u64| {
            self.word(Bitmap::Held, at / 64).fetch_or(1 << (at % 64), AcqRel);
        };
        // What continues a block is a hole once it is held.
        for at in (index + 1..index + frames).rev() {
            hold(at);
            self.retire_hole(at);
        }
        // Its first is held before it is a tail, for as a tail it would belong to the block before
        // it. In between it looks held by its number, and only the note says that it is not.
        let note = &self.header[header::EXCLUDING];
        while note.compare_exchange(0, index + 1, AcqRel, Relaxed).is_err() {
            spin();
        }
        hold(index);
        self.word(Bitmap::Tail, index / 64).fetch_or(1 << (index % 64), AcqRel);
        note.store(0, Release);
        self.retire_hole(index);
    }

    /// Marks a hole. Somebody may have noted it as bad before; it is not given back any more.
    fn retire_hole(&self, index: u64) {
        if self.set_retired(index) {
            self.count_noted_less(1);
        }
    }

    fn set_retired(&self, index: u64) -> bool {
        let bit = 1 << (index % 64);
        self.word(Bitmap::Retired, index / 64).fetch_or(bit, SeqCst) & bit != 0
    }

    /// Waits until nobody is about to remove the pageblock of a frame that was noted. False if it
    /// was removed, and the note with it.
    ///
    /// Who removes owns the pageblock first and looks for notes then; so either that party sees
    /// the note, and leaves the pageblock alone, or this one sees the owner.
    fn outlasts_removal(&self, index: u64) -> bool {
        let pb = index / FRAMES;
        loop {
            seq_cst_in_model();
            let entry = self.entry(pb);
            match entry.state() {
                State::Absent => {
                    // It may have come after the others were wiped out.
                    let bit = 1 << (index % 64);
                    self.word(Bitmap::Retired, index / 64).fetch_and(!bit, SeqCst);
                    return false;
                }
                State::Owned if self.is_isolated(pb) && self.core_of(pb).is_none() => spin(),
                _ if self.entry(pb) == entry => return self.bit(Bitmap::Retired, index),
                _ => {}
            }
        }
    }

    /// Retires a frame if it is free. The caller has no core's lock: this may wait for one.
    fn retire_free(&self, index: u64) -> bool {
        let take = |movability| self.take_at(self.pfn(index), Order::FRAME, movability);
        loop {
            let taken = match take(Movability::Movable) {
                // A channel that is dedicated to what cannot move.
                Err(TakeAtError::Zone { .. }) => take(Movability::Unmovable),
                taken => taken,
            };
            if let Ok(frame) = taken {
                frame.forget();
                self.count_retired(1);
                return true;
            }
            // Nobody would look for the note again if a free frame were left behind.
            if !self.is_underway(index) {
                return false;
            }
            spin();
        }
    }

    /// Whether a frame is free, and its pageblock on its way from one place to another.
    fn is_underway(&self, index: u64) -> bool {
        let (state, taken) = (self.entry(index / FRAMES).state(), self.bit(Bitmap::Taken, index));
        let apart = [State::Absent, State::Head, State::Tail, State::Reserved].contains(&state);
        !taken && !apart
    }

    /// Counts frames that were noted and are out of service now.
    fn count_retired(&self, frames: u64) {
        self.header[header::RETIRED].fetch_add(frames, AcqRel);
        self.count_noted_less(frames);
    }

    /// Counts notes that are no more, or are more than notes now.
    fn count_noted_less(&self, frames: u64) {
        self.header[header::RETIRING].fetch_sub(frames, SeqCst);
    }

    /// Whether a frame that a core is about to hand out is to be retired. Then it is.
    #[cold]
    pub(crate) fn keep_back(&self, index: u64) -> bool {
        let noted = self.bit(Bitmap::Retired, index);
        if noted {
            self.count_retired(1);
        }
        noted
    }

    /// Releases single frames of one word, but not those that are to be retired.
    #[cold]
    pub(crate) fn release_frames_carefully(&self, word: u64, mask: u64) -> (u64, u64) {
        let zone = self.entry(word / WORDS).zone_id();
        let bad = self.word(Bitmap::Retired, word).load(SeqCst) & mask;
        let good = mask & !bad;
        if bad != 0 {
            self.count_retired(ones(bad));
        }
        if good != 0 {
            self.release_some(word, good);
            seq_cst_in_model();
            self.retire_late(word * 64, 64);
        }
        (zone, ones(good))
    }

    /// Retires what was noted after a release looked for notes, and before it had released.
    #[cold]
    pub(crate) fn retire_late(&self, index: u64, frames: u64) {
        for word in index / 64..(index + frames).div_ceil(64) {
            let noted = self.word(Bitmap::Retired, word).load(SeqCst);
            let mut late = noted & !self.word(Bitmap::Taken, word).load(SeqCst);
            while late != 0 {
                self.retire_free(word * 64 + u64::from(late.trailing_zeros()));
                late &= late - 1;
            }
        }
    }

    /// Releases a block, but not those of its frames that are to be retired.
    #[cold]
    pub(crate) fn release_carefully(&self, index: u64, order: u8) -> (u64, u64) {
        let zone = self.entry(index / FRAMES).zone_id();
        let mut released = 0;
        if order >= PAGEBLOCK_ORDER {
            for pb in index / FRAMES..index / FRAMES + pageblocks_in(order) {
                let words = self.words_of(Bitmap::Retired, pb);
                if words.iter().all(|word| word.load(SeqCst) == 0) {
                    self.put_free(Claim { pb });
                    seq_cst_in_model();
                    self.retire_late(pb * FRAMES, FRAMES);
                    released += FRAMES;
                } else {
                    self.shatter(pb);
                    released += self.release_each(pb * FRAMES, FRAMES);
                }
            }
        } else {
            let clear =
                |at: u64| self.word(Bitmap::Tail, at / 64).fetch_and(!(1 << (at % 64)), AcqRel);
            for at in index + 1..index + (1 << order) {
                clear(at);
            }
            released = self.release_each(index, 1 << order);
        }
        (zone, released)
    }

    /// Releases single frames that may fill several words.
    fn release_each(&self, index: u64, frames: u64) -> u64 {
        let mut released = 0;
        let mut at = index;
        while at < index + frames {
            let here = (index + frames - at).min(64 - at % 64);
            let mask = (!0 >> (64 - here)) << (at % 64);
            released += self.release_frames_carefully(at / 64, mask).1;
            at += here;
        }
        released
    }
}

impl Frame<'_> {
    /// Whether any of its frames is to be retired when the block is given back.
    #[must_use]
    pub fn is_poisoned(&self) -> bool {
        let frames = self.index()..self.index() + (1 << self.exponent());
        self.home().retiring() != 0
            && frames.into_iter().any(|at| self.home().bit(Bitmap::Retired, at))
    }
}
