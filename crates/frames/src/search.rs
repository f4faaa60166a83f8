//! Where to take from: the zones in their order, and in each the fullest pageblock that will do.
//!
//! For a single frame the pageblocks that are partly free come first, fuller ones before emptier
//! ones, lower ones before higher ones; so that what is nearly empty becomes empty, and large
//! blocks come into being again. Then a free pageblock is opened.
//!
//! Only when a group of zones has neither, frames are taken from pageblocks of another movability,
//! the emptiest first. If half of it or more is free the whole pageblock changes its movability;
//! otherwise a few frames are borrowed. These are the kernel's rules (`__rmqueue_claim`,
//! `__rmqueue_steal` and `try_to_claim_block` in `mm/page_alloc.c`).

use crate::{
    claim::Claim,
    dedication::is_same_use,
    entry::{GRADES, State},
    frames::{Frames, header},
    layout::FRAMES,
    primitive::Ordering::*,
    request::{Movability, Request},
    zone::{End, Zone, Zones},
};

/// A pageblock to take from.
#[must_use]
pub(crate) struct Found {
    pub(crate) claim: Claim,
    /// It is of another movability: take only what is needed and put it back.
    pub(crate) borrowed: bool,
}

/// Grades in the order in which they are taken from: the nearly full ones, which give little for
/// the trouble, after the half full ones, but before those that may yet become empty.
const FULLEST_FIRST: [u64; GRADES] = [1, 2, 3, 0, 4, 5];

/// How many pageblocks of a list are looked through for a block of frames before a free pageblock
/// is opened instead.
const TRIES: usize = 8;

/// How many are looked through when there is no free pageblock: so a request that is refused costs
/// no more in a large node than in a small one.
const TRIES_MAX: usize = 4096;

impl Frames<'_> {
    /// The zones that may serve a request, in their order.
    pub(crate) fn zones_for(&self, request: &Request) -> impl Iterator<Item = Zone> {
        let groups = Zones::groups(request.movability).into_iter();
        groups.flatten().copied().filter(move |&zone| self.may_serve(zone, request))
    }

    /// Whether a request may land in a zone, which has frames, and may give as many without going
    /// below its reserve.
    #[inline]
    pub(crate) fn may_serve(&self, zone: Zone, request: &Request) -> bool {
        let (id, populated) = (zone.id(), self.header[header::POPULATED].load(Relaxed));
        let frames = request.order.frames();
        populated >> id & 1 != 0
            && request.zones().contains(zone)
            && (populated >> header::WATCHED >> id & 1 == 0
                || self.leaves_reserve(id, frames, request.urgency))
    }

    /// The first zone that may serve a request, if it is NORMAL or MOVABLE and nobody watches it.
    #[inline]
    pub(crate) fn plain_zone(&self, request: &Request) -> Option<u64> {
        let populated = self.header[header::POPULATED].load(Relaxed);
        let ordinary =
            1 << Zone::Normal.id() | 1 << Zone::Movable.id() | 1 << Zone::PreferMovable.id();
        let zone = match populated & ordinary & request.zones().bits() {
            // Bit 1, MOVABLE, comes first; alone, bit 0 is NORMAL.
            zones if zones & 0b010 != 0 => Zone::Movable.id(),
            0b001 => Zone::Normal.id(),
            _ => return None,
        };
        (populated >> header::WATCHED >> zone & 1 == 0).then_some(zone)
    }

    /// A pageblock that has a block as requested, for orders below a pageblock's.
    pub(crate) fn find(&self, request: &Request) -> Option<Found> {
        let (movability, order) = (request.movability, request.order.get());
        let groups = Zones::groups(movability).into_iter();
        groups.flat_map(|group| [(group, false), (group, true)]).find_map(|(group, mix)| {
            let mut zones = group.iter().filter(|&&zone| self.may_serve(zone, request));
            zones.find_map(|&zone| {
                if mix {
                    return self.find_other(zone, movability, order);
                }
                let claim = self.find_own(zone, movability, order)?;
                Some(Found { claim, borrowed: false })
            })
        })
    }

    /// The same without taking from pageblocks of another movability, and leaving so many frames
    /// more in its zone.
    pub(crate) fn find_unmixed(&self, request: &Request, beyond: u64) -> Option<Claim> {
        let (movability, order) = (request.movability, request.order.get());
        let frames = request.order.frames().saturating_add(beyond);
        let leaves = |zone: &Zone| self.leaves_reserve(zone.id(), frames, request.urgency);
        let mut zones = self.zones_for(request).filter(leaves);
        zones.find_map(|zone| self.find_own(zone, movability, order))
    }

    fn find_own(&self, zone: Zone, movability: Movability, order: u8) -> Option<Claim> {
        let (id, end) = (zone.id(), zone.end(movability));
        let listed = |tries| {
            let grades = FULLEST_FIRST.into_iter();
            grades.filter_map(move |grade| self.fitting(id, movability, grade, order, tries)).next()
        };
        listed(TRIES)
            .or_else(|| self.claim_free(id, movability, end))
            .or_else(|| if order > 0 { listed(TRIES_MAX) } else { None })
    }

    /// A listed pageblock with a block of this order, among so many.
    fn fitting(
        &self,
        zone: u64,
        movability: Movability,
        grade: u64,
        order: u8,
        tries: usize,
    ) -> Option<Claim> {
        let end = Zone::from_id(zone).end(movability);
        if order == 0 {
            return self.claim_listed(zone, movability, grade, end);
        }
        let list = self.listed(zone, movability, grade);
        let mut at = match end {
            End::Bottom => list.first_from(0),
            End::Top => list.last_to(self.layout.pageblocks - 1),
        };
        for _ in 0..tries {
            let pb = at?;
            if self.find_block(pb, order).is_some()
                && list.remove(pb)
                && let Some(claim) = self.own(pb)
            {
                if self.find_block(pb, order).is_some() {
                    return Some(claim);
                }
                self.put_back(claim);
            }
            at = match end {
                End::Bottom => list.first_from(pb + 1),
                End::Top => list.last_to(pb.checked_sub(1)?),
            };
        }
        None
    }

    /// A pageblock of another movability.
    fn find_other(&self, zone: Zone, movability: Movability, order: u8) -> Option<Found> {
        let claim = match zone.end(movability) {
            End::Bottom if zone == Zone::PreferMovable => self.lowest_other(movability, order),
            _ => self.emptiest_other(zone, movability, order),
        }?;
        let entry = self.entry(claim.pb).mixed();
        let convert = self.free_in(claim.pb) >= FRAMES / 2;
        let entry = if convert { entry.with_movability(movability) } else { entry };
        self.set_entry(claim.pb, entry);
        let counter = if convert { header::CONVERTED } else { header::BORROWED };
        self.zone_word(zone.id(), counter).fetch_add(1, Relaxed);
        Some(Found { claim, borrowed: !convert })
    }

    fn emptiest_other(&self, zone: Zone, movability: Movability, order: u8) -> Option<Claim> {
        // A channel has one use, so no other kinds than those of that use.
        let suits = |kind: &Movability| !zone.is_exmem() || is_same_use(*kind, movability);
        let kinds = movability.fallbacks().into_iter().filter(suits);
        let mut lists = kinds.flat_map(|kind| (0..GRADES as u64).rev().map(move |g| (kind, g)));
        lists.find_map(|(kind, grade)| self.fitting(zone.id(), kind, grade, order, TRIES_MAX))
    }

    /// In PREFER_MOVABLE what cannot move is confined to the lowest pageblocks: it takes them
    /// whatever their grade.
    fn lowest_other(&self, movability: Movability, order: u8) -> Option<Claim> {
        let zone = Zone::PreferMovable.id();
        let kinds = movability.fallbacks();
        let lists = || kinds.into_iter().flat_map(|k| (0..GRADES as u64).map(move |g| (k, g)));
        let mut at = 0;
        for _ in 0..TRIES_MAX {
            let lowest =
                lists().filter_map(|(k, g)| self.listed(zone, k, g).first_from(at)).min()?;
            let entry = self.entry(lowest);
            if entry.state() == State::Listed && self.find_block(lowest, order).is_some() {
                let list = self.listed(zone, entry.movability(), entry.grade());
                let claim = if list.remove(lowest) { self.own(lowest) } else { None };
                match claim {
                    Some(claim) if self.find_block(claim.pb, order).is_some() => {
                        return Some(claim);
                    }
                    Some(claim) => self.put_back(claim),
                    None => {}
                }
            }
            at = lowest + 1;
        }
        None
    }
}
