//! Hot-plug: blocks that come, are emptied, and go.
//!
//! ```text
//!            add                isolate                    remove, when empty
//!  absent ─────────► in the pool ─────────► isolated ─────────────────────────► absent
//!                         ▲                    │ unisolate
//!                         └────────────────────┘
//! ```
//!
//! A call that begins after [`Frames::isolate`] has returned hands out nothing of the isolated
//! pageblocks, except to whoever names a frame of them, and from reservations made before. (One
//! that was under way may still return with a frame: what is in a block is settled once
//! [`Frames::remove`] succeeds.) What is free in them stays where it is, what is given back stays;
//! what cores have cached of them comes back with the core's next call.

use memtide_units::FrameRange;

use crate::{
    claim::Claim,
    entry::{Entry, LEAVING, State},
    error::PlugError,
    frames::{Bitmap, Frames, header},
    layout::{FRAMES, WORDS},
    primitive::{Ordering::*, seq_cst_in_model},
    record,
    request::Movability,
    zone::Zone,
};

impl<'m> Frames<'m> {
    /// Adds whole blocks to a zone. All their frames are free.
    ///
    /// # Errors
    /// [`PlugError`] when they are not whole blocks of the node, or one is in the pool already.
    pub fn add(&self, range: FrameRange, zone: Zone) -> Result<(), PlugError> {
        let pageblocks = self.units(range, self.layout.geometry.block_frames)?;
        let owned = Entry::new(State::Owned, zone, Movability::Movable);
        for pb in pageblocks.clone() {
            if !self.exchange_entry(pb, Entry::ABSENT, owned) {
                (pageblocks.start..pb).for_each(|pb| self.set_entry(pb, Entry::ABSENT));
                return Err(self.wrong_state(range, pb, "absent"));
            }
        }
        self.zone_word(zone.id(), header::PRESENT).fetch_add(range.frames, SeqCst);
        self.header[header::POPULATED].fetch_or(1 << zone.id(), SeqCst);
        self.account(zone.id(), range.frames as i64);
        pageblocks.for_each(|pb| self.put_free(Claim { pb }));
        Ok(())
    }

    /// Hands out nothing of these pageblocks any more.
    ///
    /// # Errors
    /// [`PlugError`] when they are not whole pageblocks of the node, or one is not in the pool or
    /// isolated already.
    pub fn isolate(&self, range: FrameRange) -> Result<(), PlugError> {
        let pageblocks = self.units(range, FRAMES)?;
        for pb in pageblocks.clone() {
            if self.entry(pb).state() == State::Absent {
                return Err(self.wrong_state(range, pb, "in the pool"));
            }
        }
        self.header[header::ISOLATED].fetch_add(range.frames / FRAMES, SeqCst);
        for pb in pageblocks.clone() {
            let bit = 1 << (pb % 64);
            if self.isolated[(pb / 64) as usize].fetch_or(bit, SeqCst) & bit != 0 {
                let error = self.wrong_state(range, pb, "in the pool");
                // Those before are counted out by who takes their marks off.
                self.header[header::ISOLATED].fetch_sub(pageblocks.end - pb, SeqCst);
                self.unmark(pageblocks.start..pb);
                return Err(error);
            }
        }
        seq_cst_in_model();
        // One may have been removed since it was looked at; a mark on it would outlive that.
        if let Some(pb) = pageblocks.clone().find(|&pb| self.entry(pb).state() == State::Absent) {
            let error = self.wrong_state(range, pb, "in the pool");
            self.unmark(pageblocks);
            return Err(error);
        }
        for core in 0..self.layout.geometry.cores {
            self.take_away_pageblocks(self.record(core), |pb| pageblocks.contains(&pb));
            self.summon(core, record::DRAIN);
        }
        pageblocks.for_each(|pb| self.take_out(pb));
        Ok(())
    }

    /// Takes an isolated pageblock out of wherever it would be found. One that is on its way
    /// there is set aside by whoever puts it there.
    fn take_out(&self, pb: u64) {
        let entry = self.entry(pb);
        let zone = entry.zone_id();
        // Whatever the entry says: who puts the pageblock there writes it without ordering it
        // before its look at the mark. But of its insertion and this removal one comes first, and
        // either finds what the other did.
        let ours = self.free(zone).remove(pb)
            || match entry.state() {
                State::Listed => self.listed(zone, entry.movability(), entry.grade()).remove(pb),
                State::Full => self.exchange_entry(pb, entry, entry.into(State::Owned)),
                _ => false,
            };
        if ours {
            // This looks at the mark again: the isolation may have ended by now.
            self.set_aside(Claim { pb });
        }
    }

    /// Puts isolated pageblocks back into circulation.
    ///
    /// # Errors
    /// [`PlugError`] when one of them is not isolated.
    pub fn unisolate(&self, range: FrameRange) -> Result<(), PlugError> {
        let pageblocks = self.units(range, FRAMES)?;
        self.check_isolated(range, pageblocks.clone())?;
        self.unmark(pageblocks);
        Ok(())
    }

    /// Takes the marks off, and puts back what was set aside. Counts only the marks that were
    /// there: another may take them off at the same time.
    fn unmark(&self, pageblocks: core::ops::Range<u64>) {
        let mut marks = 0;
        for pb in pageblocks.clone() {
            let word = &self.isolated[(pb / 64) as usize];
            marks += word.fetch_and(!(1 << (pb % 64)), SeqCst) >> (pb % 64) & 1;
        }
        seq_cst_in_model();
        pageblocks.for_each(|pb| self.recirculate(pb));
        self.header[header::ISOLATED].fetch_sub(marks, SeqCst);
    }

    fn check_isolated(
        &self,
        range: FrameRange,
        mut pageblocks: core::ops::Range<u64>,
    ) -> Result<(), PlugError> {
        match pageblocks.find(|&pb| !self.is_isolated(pb)) {
            Some(pb) => Err(self.wrong_state(range, pb, "isolated")),
            None => Ok(()),
        }
    }

    /// Removes isolated blocks in which nothing is taken but retired frames.
    ///
    /// # Errors
    /// [`PlugError`] when they are not whole blocks, or not isolated, or not empty; then nothing
    /// has changed.
    pub fn remove(&self, range: FrameRange) -> Result<(), PlugError> {
        let pageblocks = self.units(range, self.layout.geometry.block_frames)?;
        self.check_isolated(range, pageblocks.clone())?;
        for pb in pageblocks.clone() {
            let entry = self.entry(pb);
            let ours = entry.state() == State::Isolated
                && self.exchange_entry(pb, entry, entry.into(State::Owned));
            // Not before: while nobody owned it, frames of it could be taken by their names.
            seq_cst_in_model();
            if ours && self.is_vacant(pb) {
                continue;
            }
            let end = pb + u64::from(ours);
            (pageblocks.start..end).for_each(|pb| self.set_aside(Claim { pb }));
            return Err(self.wrong_state(range, pb, "isolated and empty"));
        }
        pageblocks.clone().for_each(|pb| self.erase(pb));
        self.unmark(pageblocks);
        Ok(())
    }

    /// Whether nothing of a pageblock is taken but what is retired.
    pub(crate) fn is_vacant(&self, pb: u64) -> bool {
        let mut noted = 0;
        for n in 0..WORDS as usize {
            let load = |bitmap| self.words_of(bitmap, pb)[n].load(SeqCst);
            let retired = load(Bitmap::Retired);
            if load(Bitmap::Taken) & !retired != 0 {
                return false;
            }
            noted |= retired & !(load(Bitmap::Held) & load(Bitmap::Tail));
        }
        // A frame that is noted but not out of service yet looks like one that is. Who notes one
        // counts first.
        noted == 0 || self.header[header::RETIRING].load(SeqCst) == 0
    }

    /// Makes a pageblock absent, and all that describes it zero.
    fn erase(&self, pb: u64) {
        let zone = self.entry(pb).zone_id();
        let count = |what: fn(u64, u64) -> u64| -> u64 {
            let words =
                self.words_of(Bitmap::Taken, pb).iter().zip(self.words_of(Bitmap::Held, pb));
            let ones = words.map(|(taken, held)| what(taken.load(Acquire), held.load(Acquire)));
            ones.map(|word| u64::from(word.count_ones())).sum()
        };
        // From here on recovery takes the pageblock for absent. Half of what is retired in it is
        // worse than nothing.
        self.publish_entry(pb, self.entry(pb).into(State::Owned).with_link(LEAVING));
        // By what is taken, for all of that is out of service. Notes may come that came too late.
        let holes = count(|taken, held| taken & held);
        let bad = count(|taken, held| taken & !held);
        for bitmap in [Bitmap::Held, Bitmap::Tail, Bitmap::Retired, Bitmap::Taken] {
            self.words_of(bitmap, pb).iter().for_each(|word| word.store(0, Release));
        }
        if self.entry(pb).is_dedicated() {
            self.undedicate(zone);
        }
        self.header[header::RETIRED].fetch_sub(bad, AcqRel);
        self.depopulate(zone, FRAMES - holes);
        self.account(zone, -((FRAMES - holes - bad) as i64));
        self.publish_entry(pb, Entry::ABSENT);
    }

    /// Counts frames of a zone that are not there any more.
    pub(crate) fn depopulate(&self, zone: u64, frames: u64) {
        let present = self.zone_word(zone, header::PRESENT);
        if present.fetch_sub(frames, SeqCst) == frames {
            let populated = &self.header[header::POPULATED];
            populated.fetch_and(!(1 << zone), SeqCst);
            seq_cst_in_model();
            // Others may have been added meanwhile.
            if present.load(SeqCst) != 0 {
                populated.fetch_or(1 << zone, SeqCst);
            }
        }
    }

    /// The pageblocks of a range that must be whole units.
    fn units(&self, range: FrameRange, unit: u64) -> Result<core::ops::Range<u64>, PlugError> {
        let offset = range.start.0.wrapping_sub(self.span().start.0);
        let whole = offset.is_multiple_of(unit) && range.frames.is_multiple_of(unit);
        let pageblocks = self.pageblocks_of(range).filter(|_| whole);
        pageblocks.ok_or(PlugError::Range { range, unit, node: self.span() })
    }

    fn wrong_state(&self, range: FrameRange, pb: u64, expected: &'static str) -> PlugError {
        let found = match self.entry(pb).state() {
            State::Absent => "absent",
            _ if !self.is_isolated(pb) => "in the pool",
            _ if self.is_vacant(pb) && self.entry(pb).state() == State::Isolated => "isolated",
            _ => "isolated and in use",
        };
        PlugError::State { range, at: self.pfn(pb * FRAMES), found, expected }
    }
}
