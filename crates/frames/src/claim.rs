//! Owning a pageblock: taking it out of wherever it stands, and putting it back where it belongs.
//!
//! Only the owner of a pageblock takes frames out of it and changes its entry; anybody may free
//! frames in it at any time. So two things can go wrong, and each is met in the same way, by both
//! parties first writing and then looking at what the other wrote:
//!
//! * The owner finds every frame taken and marks the pageblock *Full*, while somebody frees one.
//!   The owner looks again after marking; who frees looks for the mark after freeing. Whoever
//!   sees the other's writing takes the mark off, by an exchange, and owns the pageblock.
//! * The owner lists the pageblock as partly free, while somebody frees its last frame. Both look
//!   whether it is wholly free now; who takes it out of the list owns it and moves it.
//!
//! In the same way an isolated pageblock is kept out of circulation: who isolates first writes the
//! mark and then takes the pageblock out of its index; who puts it there looks for the mark after.

use crate::{
    entry::{Entry, GRADES, State, grade_of},
    frames::{Bitmap, Frames},
    layout::FRAMES,
    primitive::{Ordering::*, seq_cst_in_model},
    request::Movability,
    zone::End,
};

/// The right to a pageblock: to take frames out of it, and to say what it is next.
#[derive(Debug)]
#[must_use = "a pageblock that is owned must be put back"]
pub(crate) struct Claim {
    pub(crate) pb: u64,
}

impl<'m> Frames<'m> {
    /// Frames of a pageblock that are not taken.
    pub(crate) fn free_in(&self, pb: u64) -> u64 {
        let words = self.words_of(Bitmap::Taken, pb).iter();
        words.map(|word| u64::from(word.load(SeqCst).count_zeros())).sum()
    }

    /// Whether no frame of a pageblock is taken.
    pub(crate) fn is_whole(&self, pb: u64) -> bool {
        self.words_of(Bitmap::Taken, pb).iter().all(|word| word.load(SeqCst) == 0)
    }

    fn is_full(&self, pb: u64) -> bool {
        self.words_of(Bitmap::Taken, pb).iter().all(|word| word.load(SeqCst) == !0)
    }

    /// Takes a listed pageblock, from this end of the list. Isolated ones are put aside.
    pub(crate) fn claim_listed(
        &self,
        zone: u64,
        movability: Movability,
        grade: u64,
        end: End,
    ) -> Option<Claim> {
        let list = self.listed(zone, movability, grade);
        loop {
            let pb = match end {
                End::Bottom => list.take_first_from(0)?,
                End::Top => list.take_last_to(self.layout.pageblocks - 1)?,
            };
            if let Some(claim) = self.own(pb) {
                return Some(claim);
            }
        }
    }

    /// Owns a pageblock that the caller has just taken out of an index, unless it is isolated.
    #[inline]
    pub(crate) fn own(&self, pb: u64) -> Option<Claim> {
        let claim = Claim { pb };
        seq_cst_in_model();
        if self.is_isolated(pb) {
            self.set_aside(claim);
            return None;
        }
        let entry = self.entry(pb);
        debug_assert!(matches!(entry.state(), State::Listed | State::Free), "{entry:?} of {pb}");
        self.set_entry(pb, entry.into(State::Owned));
        Some(claim)
    }

    /// Puts a pageblock where it belongs by what is free in it.
    pub(crate) fn put_back(&self, claim: Claim) {
        let mut claim = claim;
        loop {
            let free = self.free_in(claim.pb);
            if free == FRAMES {
                return self.put_free(claim);
            }
            let again = if free == 0 { self.mark_full(claim) } else { self.list(claim, free) };
            match again {
                Some(changed) => claim = changed,
                None => return,
            }
        }
    }

    /// Lists a pageblock. It is the caller's again if its last frame was freed meanwhile.
    fn list(&self, claim: Claim, free: u64) -> Option<Claim> {
        let pb = claim.pb;
        let grade = grade_of(free);
        let entry = self.entry(pb).into(State::Listed).with_grade(grade);
        self.publish_entry(pb, entry);
        let list = self.listed(entry.zone_id(), entry.movability(), grade);
        list.put(pb);
        seq_cst_in_model();
        if self.is_isolated(pb) {
            if list.remove(pb) {
                self.set_aside(Claim { pb });
            }
            return None;
        }
        (self.is_whole(pb) && list.remove(pb)).then_some(Claim { pb })
    }

    /// Notes that every frame is taken. The pageblock is the caller's again if one was freed
    /// meanwhile.
    pub(crate) fn mark_full(&self, claim: Claim) -> Option<Claim> {
        let pb = claim.pb;
        let before = self.entry(pb);
        let full = before.into(State::Full);
        self.publish_entry(pb, full);
        seq_cst_in_model();
        let isolated = self.is_isolated(pb);
        if isolated || !self.is_full(pb) {
            let owned = before.into(State::Owned);
            if self.exchange_entry(pb, full, owned) {
                if !isolated {
                    return Some(Claim { pb });
                }
                self.set_aside(Claim { pb });
            }
        }
        None
    }

    /// Puts a pageblock, no frame of which is taken, among the free ones.
    #[inline(always)]
    pub(crate) fn put_free(&self, claim: Claim) {
        let pb = claim.pb;
        let before = self.entry(pb);
        let zone = before.zone_id();
        if before.is_dedicated() {
            self.undedicate(zone);
        }
        self.set_entry(pb, before.into(State::Free).unmixed().with_dedicated(0));
        self.free(zone).put(pb);
        seq_cst_in_model();
        if self.is_any_isolated() && self.withdraw(zone, pb) {
            return;
        }
        self.note_run(zone, pb);
    }

    /// Sets a free pageblock aside if it is isolated.
    #[cold]
    #[inline(never)]
    pub(crate) fn withdraw(&self, zone: u64, pb: u64) -> bool {
        let isolated = self.is_isolated(pb);
        if isolated && self.free(zone).remove(pb) {
            self.set_aside(Claim { pb });
        }
        isolated
    }

    /// Keeps a pageblock that is isolated out of every index.
    #[cold]
    #[inline(never)]
    pub(crate) fn set_aside(&self, claim: Claim) {
        let entry = self.entry(claim.pb);
        self.publish_entry(claim.pb, entry.into(State::Isolated));
        seq_cst_in_model();
        // The isolation may have ended before the word was written; or its last frame was freed,
        // and a channel is to know that.
        let unused = entry.is_dedicated() && self.is_whole(claim.pb);
        if unused || !self.is_isolated(claim.pb) {
            self.recirculate(claim.pb);
        }
    }

    /// Puts a pageblock that was set aside back into circulation.
    pub(crate) fn recirculate(&self, pb: u64) {
        let entry = self.entry(pb);
        if entry.state() == State::Isolated
            && self.exchange_entry(pb, entry, entry.into(State::Owned))
        {
            self.put_back(Claim { pb });
        }
    }

    /// What freeing frames of a pageblock may have changed: it was full, is wholly free, or has
    /// another grade.
    #[inline]
    pub(crate) fn freed(&self, pb: u64, before: u64, after: u64, sample: bool) {
        if before == !0 {
            self.freed_first(pb);
        }
        if after == 0 && self.is_whole(pb) {
            self.freed_last(pb);
        } else if sample {
            self.regrade(pb);
        }
    }

    #[cold]
    fn freed_first(&self, pb: u64) {
        seq_cst_in_model();
        let entry = self.entry(pb);
        if entry.state() == State::Full && self.exchange_entry(pb, entry, entry.into(State::Owned))
        {
            self.put_back(Claim { pb });
        }
    }

    #[cold]
    fn freed_last(&self, pb: u64) {
        seq_cst_in_model();
        let entry = self.entry(pb);
        // What is set aside stands in no list, but must not keep its channel dedicated.
        let aside = entry.state() == State::Isolated && entry.is_dedicated();
        if aside && self.exchange_entry(pb, entry, entry.into(State::Owned)) {
            return self.put_back(Claim { pb });
        }
        self.take_off_list(pb, |_| true);
    }

    /// Moves a pageblock to the list of its grade if it stands in another.
    fn regrade(&self, pb: u64) {
        self.take_off_list(pb, |entry| grade_of(self.free_in(pb)) != entry.grade());
    }

    fn take_off_list(&self, pb: u64, wrong: impl Fn(Entry) -> bool) {
        let entry = self.entry(pb);
        if entry.state() != State::Listed || !wrong(entry) {
            return;
        }
        debug_assert!(entry.grade() < GRADES as u64);
        let list = self.listed(entry.zone_id(), entry.movability(), entry.grade());
        if list.remove(pb) {
            self.put_back(Claim { pb });
        }
    }
}
