//! 4802h: a host answers its oldest offer (CXL 3.1, 8.2.9.9.9.3).
//!
//! What is wrong with an answer is looked for in this order: the list itself (Invalid Extent
//! List, Invalid Physical Address for what lies in no region); that nothing is offered (Invalid
//! Input, also for an empty answer); that the offer is dead (Invalid Physical Address, unless the
//! answer is empty); then each range: accepted before, or offered to nobody (Invalid Physical
//! Address), of a later offer (Invalid Input: out of order), not an extent as it was offered
//! (Invalid Extent List). "A subset of the original extents" is read as whole extents. Last, that
//! it has a part of a sharable tag (Invalid Extent List).
//!
//! A refused answer leaves the offer as it is, to be answered again; a dead offer is gone once its
//! host was told that it is dead.

use alloc::vec::Vec;

use memtide_units::{DcExtent, DpaRange};

use super::{
    Device, Effect, Refusal,
    host::{Chain, Offer, OfferState},
};
use crate::Opcode;
use crate::command::{
    HostId, More, Sanitize, dynamic_capacity::AddResponse, events::DynamicCapacityEventKind,
};

impl Device {
    /// Answers the oldest offer of a host, or a part of it.
    ///
    /// # Errors
    /// See the module; nothing has changed, but that the rest of a chain is refused, too, and
    /// that a dead offer is gone.
    pub fn add_response(&mut self, host: HostId, request: &AddResponse) -> Result<(), Refusal> {
        let host = self.known(host)?;
        self.hosts[host].release.interrupt();
        let told = core::mem::take(&mut self.hosts[host].answer);
        let (answer, next) = self.next_answer(host, told, request);
        self.hosts[host].answer = next;
        if let Some(ranges) = answer? {
            self.accept(host, &ranges);
        }
        Ok(())
    }

    /// What is accepted, once it is complete; and what is remembered for the next part.
    fn next_answer(
        &mut self,
        host: usize,
        told: Chain,
        request: &AddResponse,
    ) -> (Result<Option<Vec<DpaRange>>, Refusal>, Chain) {
        let complete = self.chained(told, Opcode::ADD_DC_RESPONSE, &request.accepted);
        let checked = complete.and_then(|ranges| {
            self.check_answer(host, &ranges, request.more)?;
            Ok(ranges)
        });
        match (checked, request.more) {
            (Ok(ranges), More::Last) => (Ok(Some(ranges)), Chain::Idle),
            (Ok(ranges), More::Follows) => (Ok(None), Chain::Open(ranges)),
            (Err(why), more) => {
                if why == Refusal::Dead {
                    self.bury(host);
                }
                (Err(why), if more == More::Last { Chain::Idle } else { Chain::Broken })
            }
        }
    }

    fn check_answer(&self, host: usize, ranges: &[DpaRange], more: More) -> Result<(), Refusal> {
        self.well_formed(ranges, |range| Refusal::NoAddress { range })?;
        let held = &self.hosts[host].held;
        let before = ranges.iter().find(|&&range| !held.parts(range).is_empty());
        if let Some(&range) = before {
            return Err(Refusal::AcceptedBefore { range });
        }
        let mut offers = self.hosts[host].offers.iter();
        let oldest = offers.next().ok_or(Refusal::NothingOffered)?;
        if oldest.state == OfferState::Dead {
            return if ranges.is_empty() { Ok(()) } else { Err(Refusal::Dead) };
        }
        let later: Vec<&DcExtent> = offers.flat_map(|offer| &offer.extents).collect();
        for &range in ranges {
            if oldest.extents.iter().any(|extent| extent.range == range) {
                continue;
            }
            let overlaps = |extent: &DcExtent| extent.range.overlaps(range);
            return Err(if oldest.extents.iter().any(overlaps) {
                Refusal::NotTheExtent { range }
            } else if later.into_iter().any(overlaps) {
                Refusal::OutOfOrder { range }
            } else {
                Refusal::NotOffered { range }
            });
        }
        if more == More::Last { self.check_whole(oldest, ranges) } else { Ok(()) }
    }

    /// All of each sharable tag, or none.
    fn check_whole(&self, offer: &Offer, ranges: &[DpaRange]) -> Result<(), Refusal> {
        for tag in self.shared_tags(&offer.extents) {
            let mut of_tag = offer.extents.iter().filter(|extent| extent.tag == tag);
            let accepted = of_tag.clone().filter(|extent| ranges.contains(&extent.range)).count();
            if accepted != 0 && of_tag.any(|extent| !ranges.contains(&extent.range)) {
                return Err(Refusal::PartOfTag { tag });
            }
        }
        Ok(())
    }

    /// Ends the oldest offer: what is in `ranges` is the host's, the rest is not.
    fn accept(&mut self, host: usize, ranges: &[DpaRange]) {
        let offer = self.hosts[host].offers.pop_front().expect("the answer was checked against it");
        if offer.state == OfferState::Dead {
            self.tell_refused(host, &offer);
            return;
        }
        let (accepted, refused): (Vec<DcExtent>, Vec<DcExtent>) =
            offer.extents.iter().partition(|extent| ranges.contains(&extent.range));
        for &extent in &accepted {
            self.hosts[host].held.insert(extent);
            self.effects.push(Effect::Gained { host: HostId(host as u16), range: extent.range });
        }
        for tag in self.shared_tags(&accepted) {
            self.now_held(tag, host);
        }
        self.withdraw(host, &refused, Sanitize::Never);
        if accepted.is_empty() {
            self.tell_refused(host, &offer);
        } else {
            self.hosts[host].list_changed();
            self.tell_manager(host, DynamicCapacityEventKind::AddResponse, &accepted);
        }
        self.tags_changed();
    }

    /// Drops a dead offer whose host was told that it is dead.
    fn bury(&mut self, host: usize) {
        let offer = self.hosts[host].offers.pop_front().expect("it was found to be dead");
        self.tell_refused(host, &offer);
    }

    /// Tells the manager that a host took nothing of an offer: an extent of no length, with the
    /// address and tag of the first that was offered.
    pub(super) fn tell_refused(&mut self, host: usize, offer: &Offer) {
        let first = offer.extents[0];
        let nothing = DcExtent { range: DpaRange::new(first.range.start, 0), ..first };
        self.tell_manager(host, DynamicCapacityEventKind::AddResponse, &[nothing]);
    }
}
