//! Taking and giving without a core of one's own, and what cores do for each other when memory is
//! short.

use memtide_units::Order;

use crate::{
    bits::ones,
    claim::Claim,
    error::{GiveError, TakeError},
    frame::Frame,
    frames::{Frames, header},
    layout::{PAGEBLOCK_ORDER, RECORD},
    primitive::{AtomicU64, Ordering::*, seq_cst_in_model, spin},
    record::{self, Guard, slot, slots},
    request::Request,
    zone::Zone,
};

/// How often a single frame is looked for before it is refused.
const TURNS: u32 = 64;

impl<'m> Frames<'m> {
    /// Takes a block without a core's cache.
    ///
    /// # Errors
    /// [`TakeError`] when there is none where the request may land.
    pub fn take<'f>(&'f self, request: Request) -> Result<Frame<'f>, TakeError> {
        let order = request.order.get();
        let index = self.take_index(&request).or_else(|| {
            self.drain_pageblocks(None);
            // What is free may be on its way from one place to another in the hands of others.
            let mut turns = if order == 0 { TURNS } else { 1 };
            loop {
                let index = self.take_index(&request);
                turns -= 1;
                if index.is_some() || turns == 0 {
                    return index;
                }
                spin();
            }
        });
        let index = index.ok_or_else(|| self.refusal(&request))?;
        if let Some(descriptors) = self.descriptors {
            descriptors.taken(index, request.movability);
        }
        Ok(Frame::new(self, index, order))
    }

    /// Takes a block of whole pageblocks from this zone and no other.
    ///
    /// Who keeps books of its own by zone needs to know which zone it takes from before it does.
    ///
    /// # Errors
    /// [`TakeError`] when there is none in the zone, or the request may not land there.
    ///
    /// # Panics
    /// When the request is for less than a pageblock.
    pub fn take_in<'f>(&'f self, zone: Zone, request: Request) -> Result<Frame<'f>, TakeError> {
        let order = request.order.get();
        assert!(order >= PAGEBLOCK_ORDER, "zones are chosen for whole pageblocks");
        let found = || self.may_serve(zone, &request).then(|| self.huge_in(zone, &request))?;
        let found = found().or_else(|| {
            self.drain_pageblocks(None);
            found()
        });
        let refused = || refusal_of(request.order, self.free_frames(zone.id()));
        let index = self.make_found(found.ok_or_else(refused)?, order);
        if let Some(descriptors) = self.descriptors {
            descriptors.taken(index, request.movability);
        }
        Ok(Frame::new(self, index, order))
    }

    /// Makes a block of free pageblocks that were found for it.
    fn make_found(&self, pb: u64, order: u8) -> u64 {
        self.make_huge(pb, order);
        self.account(self.entry(pb).zone_id(), -(1 << order));
        pb * crate::layout::FRAMES
    }

    fn take_index(&self, request: &Request) -> Option<u64> {
        let order = request.order.get();
        if order >= PAGEBLOCK_ORDER {
            return Some(self.make_found(self.find_huge(request, 0)?, order));
        }
        let claim = self.find(request)?.claim;
        let index = self.find_block(claim.pb, order).expect("the search looked for it");
        let zone = self.entry(claim.pb).zone_id();
        self.mark_block(&claim, index, order);
        self.put_back(claim);
        self.account(zone, -(1 << order));
        Some(index)
    }

    /// Gives a block back without a core's cache. Dropping it does the same.
    ///
    /// # Errors
    /// [`GiveError`] with the block when it is of another node.
    pub fn give<'f>(&self, frame: Frame<'f>) -> Result<(), GiveError<'f>> {
        if !self.is_same(frame.home()) {
            return Err(GiveError { frame, node: self.span() });
        }
        drop(frame);
        Ok(())
    }

    pub(crate) fn release(&self, index: u64, order: u8) {
        #[cfg(all(test, not(loom)))]
        if crate::crash::is_dead() {
            // Who was killed drops nothing.
            return;
        }
        let (zone, count) = self.release_any(index, order);
        self.account(zone, count as i64);
    }

    /// Releases a block. Returns its zone, and how many of its frames are free now.
    #[inline(always)]
    pub(crate) fn release_any(&self, index: u64, order: u8) -> (u64, u64) {
        if self.is_retiring() {
            return self.release_carefully(index, order);
        }
        let zone = if order < PAGEBLOCK_ORDER {
            self.release_block(index, order)
        } else {
            self.release_huge(index, order)
        };
        seq_cst_in_model();
        if self.is_retiring() {
            self.retire_late(index, 1 << order);
        }
        (zone, 1 << order)
    }

    /// Releases single frames of one word.
    #[inline]
    pub(crate) fn release_frames(&self, word: u64, mask: u64) -> (u64, u64) {
        if self.is_retiring() {
            return self.release_frames_carefully(word, mask);
        }
        let zone = self.release_some(word, mask);
        seq_cst_in_model();
        if self.is_retiring() {
            self.retire_late(word * 64, 64);
        }
        (zone, ones(mask))
    }

    /// Whether frames that somebody has are to be retired. Looked at before and after each
    /// release: who notes such a frame counts it first, then tries to take it, and so one of the
    /// two finds the other.
    #[inline(always)]
    pub(crate) fn is_retiring(&self) -> bool {
        self.header[header::RETIRING].load(SeqCst) != 0
    }

    /// Free pageblocks for a block of order 9 or more, leaving so many frames more in their zone.
    pub(crate) fn find_huge(&self, request: &Request, beyond: u64) -> Option<u64> {
        let frames = request.order.frames().saturating_add(beyond);
        let leaves =
            |zone: &Zone| beyond == 0 || self.leaves_reserve(zone.id(), frames, request.urgency);
        self.zones_for(request).filter(leaves).find_map(|zone| self.huge_in(zone, request))
    }

    /// The same in one zone.
    fn huge_in(&self, zone: Zone, request: &Request) -> Option<u64> {
        let (order, movability) = (request.order.get(), request.movability);
        if order > PAGEBLOCK_ORDER {
            return self.claim_run(zone.id(), movability, order);
        }
        Some(self.claim_free(zone.id(), movability, zone.end(movability))?.pb)
    }

    /// Single frames of a pageblock that some core has, though it did not ask for them: all else
    /// is taken. `but` is the record of the core that asks.
    pub(crate) fn take_from_cores(
        &self,
        request: &Request,
        most: u64,
        but: Option<&[AtomicU64; RECORD]>,
    ) -> Option<(u64, u64)> {
        self.drain_pageblocks(but);
        let claim = self.find(request)?.claim;
        let taken = self.take_some(claim.pb, most);
        self.put_back(claim);
        taken
    }

    /// Puts back the pageblocks of all cores but one, and asks them to give back what they cache.
    pub(crate) fn drain_pageblocks(&self, but: Option<&[AtomicU64; RECORD]>) {
        for core in 0..self.layout.geometry.cores {
            let record = self.record(core);
            if but.is_some_and(|but| core::ptr::eq(but, record)) {
                continue;
            }
            self.take_away_pageblocks(record, |_| true);
            self.summon(core, record::DRAIN);
        }
    }

    /// Puts back those of a core's pageblocks.
    pub(crate) fn take_away_pageblocks(
        &self,
        record: &[AtomicU64; RECORD],
        which: impl Fn(u64) -> bool,
    ) {
        let _guard = Guard::new(record);
        for at in slots() {
            let place = &record[at + slot::PAGEBLOCK];
            if let Some(pb) = place.load(Relaxed).checked_sub(1)
                && which(pb)
            {
                place.store(0, Relaxed);
                self.put_back(Claim { pb });
            }
        }
    }

    /// Tells a core to do something in its next call, if somebody has it.
    pub(crate) fn summon(&self, core: u16, what: u64) {
        self.record(core)[record::SUMMONS].fetch_or(what, SeqCst);
    }

    /// Why a request found nothing.
    #[cold]
    pub(crate) fn refusal(&self, request: &Request) -> TakeError {
        let zones = Zone::all().filter(|&zone| request.zones().contains(zone));
        let free = zones.map(|zone| self.free_frames(zone.id())).sum();
        refusal_of(request.order, free)
    }
}

/// Why there is no block of this order where so many frames are free.
const fn refusal_of(order: Order, free: u64) -> TakeError {
    if free < order.frames() {
        TakeError::Exhausted { order, free }
    } else {
        TakeError::NoBlock { order, free }
    }
}
