//! What a core does when its cache cannot serve: it fills the cache, or takes a block that is not
//! cached.
//!
//! Frames are taken ahead of the pageblock that the core already has for this kind of request, or
//! of one that the search finds, under the core's lock. When nothing is found, the core gives up
//! all it has, has the pageblocks of the others put back, and looks once more.

use crate::{
    cache::Core,
    claim::Claim,
    entry::State,
    frames::{Frames, header},
    huge::home_of,
    layout::{PAGEBLOCK_ORDER, WORDS},
    primitive::Ordering::*,
    record::{self, Guard, slot, slot_of},
    request::{Movability, Request},
    watermark::{Crossing, Pressure},
    zone::Zone,
};

/// Frames that are taken ahead at once.
const BATCH: u64 = 32;

impl Core<'_> {
    #[cold]
    #[inline(never)]
    pub(crate) fn take_frame_slow(&mut self, request: &Request, at: usize) -> Option<u64> {
        self.answer_summons();
        loop {
            let mask = self.get(at + slot::MASK);
            if mask == 0 || !request.zones().has(self.get(at + slot::ZONE)) {
                self.refill(request, at)?;
                continue;
            }
            let index = self.pop(at, mask);
            if self.get(record::SUMMONS) & record::CAREFUL == 0 || !self.frames.keep_back(index) {
                return Some(index);
            }
        }
    }

    /// Fills the mask of a slot, which is empty or of a zone that the request may not have.
    fn refill(&mut self, request: &Request, at: usize) -> Option<()> {
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
        let (word, mask) = taken?;
        let zone = self.frames.entry(word / WORDS).zone_id();
        let count = u64::from(mask.count_ones());
        self.set(at + slot::MASK, mask);
        self.set(at + slot::WORD, word + 1);
        self.set(at + slot::ZONE, zone);
        self.set(record::CACHED, self.get(record::CACHED) + count);
        self.frames.account_by(self.record, zone, -(count as i64));
        self.notice(zone);
        Some(())
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
    pub(crate) fn leave_pageblock(&self, at: usize) {
        if let Some(pb) = self.get(at + slot::PAGEBLOCK).checked_sub(1) {
            self.set(at + slot::PAGEBLOCK, 0);
            self.frames.put_back(Claim { pb });
        }
    }

    #[cold]
    #[inline(never)]
    pub(crate) fn take_at_new_home(&self, zone: u64, movability: Movability) -> Option<u64> {
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
    pub(crate) fn take_other(&mut self, request: &Request) -> Option<u64> {
        self.answer_summons();
        let order = request.order.get();
        for last in [false, true] {
            if order >= PAGEBLOCK_ORDER {
                if let Some(pb) = self.frames.find_huge(request, 0) {
                    return Some(self.own_huge(pb, order));
                }
            } else if let Some((index, zone)) = self.take_block(request) {
                self.frames.account_by(self.record, zone, -(1 << order));
                self.notice(zone);
                return Some(index);
            }
            if !last {
                self.drain();
                self.frames.drain_pageblocks(Some(self.record));
            }
        }
        None
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
        let index = self.frames.find_block(found.claim.pb, order);
        let index = index.expect("the search looked for it");
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

    /// A change of some zone's pressure that this core noticed, each once.
    pub fn crossing(&mut self) -> Option<Crossing> {
        let noticed = self.get(record::CROSSING);
        let unread = noticed & ((1 << Zone::COUNT) - 1);
        if unread == 0 {
            return None;
        }
        self.set(record::CROSSING, noticed & !(unread & unread.wrapping_neg()));
        let zone = Zone::from_id(u64::from(unread.trailing_zeros()));
        Some(Crossing { zone, pressure: self.frames.pressure(zone) })
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
        // One bit a zone whether it was not asked for yet; 16 and on two bits a zone: how it stood.
        let at = 16 + 2 * zone;
        if noticed >> at & 3 != pressure {
            self.set(record::CROSSING, noticed & !(3 << at) | pressure << at | 1 << zone);
        }
    }
}

const _: () = assert!(Pressure::BelowMin as u64 <= 3);

impl Frames<'_> {
    /// The pageblock of a core's slot, if it is one that the core has.
    pub(crate) fn core_of(&self, pb: u64) -> Option<u16> {
        let entry = self.entry(pb);
        let link = u16::try_from(entry.link()).ok()?.checked_sub(1)?;
        (entry.state() == State::Owned && link < self.layout.geometry.cores).then_some(link)
    }
}
