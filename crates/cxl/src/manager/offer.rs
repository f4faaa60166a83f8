//! Offers: made, lost, found again, answered.
//!
//! A host has one offer at a time. It is durable before it is sent, so that whoever restores this
//! manager looks for it: as accepted (5603h), as pending (5608h, if it has a tag), or else by making
//! it once more. Making it once more is no second offer: a device that has it refuses. What is not
//! answered at all is [withdrawn](super::withdraw).

use alloc::vec::Vec;

use memtide_units::{DcExtent, DpaRange, RequestId, Tag};

use super::{
    check::MAX_EXTENTS,
    choose::Shape,
    device::{Attempt, Device, InFlight, Offer, Standing, is_sharable, range_of},
    entry::Pause,
    exchange::Command,
    journal::{Key, OfferRecord, Origin},
    output::Notice,
    ranges::{Ranges, bytes_of},
    report::Ending,
    request::{Policy, Request, Rest},
    state::{Agent, Manager},
};
use crate::{
    ReturnCode,
    command::{
        HostId,
        fabric_manager::{InitiateAdd, Selection, TagInfo},
    },
};

/// What an addition can do next.
enum Next {
    /// Offer this.
    Offer { region: u8, extents: Vec<DpaRange>, bytes: u64, selection: Selection },
    /// Nothing before something changes.
    Wait,
    /// There is nothing to be had now.
    Nothing,
}

impl Manager {
    /// The next command for an addition, if there is one.
    pub(super) fn step_add(&mut self, on: usize, id: RequestId) -> Option<(InFlight, Command)> {
        self.end_if_done(id);
        if !self.requests[&id].is_open() {
            return None;
        }
        let entry = &self.requests[&id];
        let to = entry.to.expect("an addition names a host");
        let report = &entry.record.report;
        if !self.devices[on].ports[&to].takes_offers() {
            return None;
        }
        if report.missing == 0 && entry.rest() == Rest::Drop {
            self.settle(id);
            return None;
        }
        if entry.pace.offer.next > self.now {
            return None;
        }
        let Request::Add { tag, .. } = entry.record.request else { return None };
        if !tag.is_null() && report.accepted != 0 {
            // The rest would need the same name, and that is taken.
            self.end(id, Ending::Partly);
            return None;
        }
        if entry.rest() == Rest::Stand {
            self.want_refused_again(id);
        }
        match self.next_of_add(on, to, id) {
            Next::Offer { region, extents, bytes, selection } => {
                let entry = self.requests.get_mut(&id).expect("it is there");
                entry.record.report.missing -= bytes;
                let record = OfferRecord { request: id, tag, bytes, extents, region };
                Some(self.make_offer(on, to, record, selection))
            }
            Next::Wait => None,
            Next::Nothing => {
                self.settle(id);
                None
            }
        }
    }

    /// What the host did not want is wanted of it again.
    fn want_refused_again(&mut self, id: RequestId) {
        let report = &mut self.requests.get_mut(&id).expect("it is there").record.report;
        report.missing += core::mem::take(&mut report.refused);
    }

    fn next_of_add(&self, on: usize, to: HostId, id: RequestId) -> Next {
        let entry = &self.requests[&id];
        let device = &self.devices[on];
        let Request::Add { to: place, tag, policy, .. } = &entry.record.request else {
            return Next::Wait;
        };
        let (bytes, region) = (entry.record.report.missing, place.region);
        if bytes == 0 {
            return Next::Nothing;
        }
        if device.is_choosing() {
            return Next::Wait;
        }
        let (selection, _) = device.selection(policy, *tag, region);
        let shape = match policy {
            Policy::Contiguous => Shape::OnePiece,
            Policy::Free if tag.is_null() => Shape::Some,
            _ => Shape::All,
        };
        match policy {
            Policy::Prescriptive(extents) => {
                // What it got already is held: the rest is what is left of it.
                let mut extents = device.not_held_by(to, extents);
                if bytes != bytes_of(&extents) {
                    return Next::Nothing;
                }
                extents.truncate(MAX_EXTENTS);
                let bytes = bytes_of(&extents);
                if !self.may_offer(on, to, &extents) {
                    return Next::Nothing;
                }
                let region = device.region_of(extents[0].start).map_or(0, |(number, _)| number);
                Next::Offer { region, extents, bytes, selection }
            }
            Policy::Shared => {
                let extents = device.extents_of(*tag);
                let Some(first) = extents.first() else { return Next::Nothing };
                if bytes_of(&extents) > self.room(on, to, None) || bytes_of(&extents) > bytes {
                    return Next::Nothing;
                }
                let region = device.region_of(first.start).map_or(0, |(number, _)| number);
                Next::Offer { region, extents, bytes, selection }
            }
            Policy::Free | Policy::Contiguous => {
                let Some((region, extents)) = self.choose(on, to, region, bytes, *tag, shape)
                else {
                    return Next::Nothing;
                };
                let bytes = bytes_of(&extents);
                // The device chooses: these are only proof that it can.
                let chosen = selection == Selection::Prescriptive;
                let extents = if chosen { extents } else { Vec::new() };
                Next::Offer { region, extents, bytes, selection }
            }
        }
    }

    /// The next command for what a move has been promised.
    pub(super) fn step_promised(
        &mut self,
        on: usize,
        id: RequestId,
    ) -> Option<(InFlight, Command)> {
        let to = self.requests[&id].to.expect("a move names two hosts");
        self.forget_unclean_promises(on, id, to);
        let entry = &self.requests[&id];
        let device = &self.devices[on];
        let is_waiting = !device.ports[&to].takes_offers()
            || device.is_choosing()
            || entry.pace.offer.next > self.now;
        if is_waiting || entry.record.promised.is_empty() {
            return None;
        }
        let clean = self.clean_of(on, to, &entry.record.promised);
        let (region, known) = device.region_of(clean.first()?.start)?;
        let clean: Ranges = clean.into_iter().collect();
        let extents: Vec<DpaRange> =
            clean.common(range_of(known)).into_iter().take(MAX_EXTENTS).collect();
        let bytes = bytes_of(&extents);
        let record = &mut self.requests.get_mut(&id).expect("it is there").record;
        let mut left: Ranges = record.promised.iter().copied().collect();
        extents.iter().for_each(|&range| left.remove(range));
        record.promised = left.to_vec();
        let record = OfferRecord { request: id, tag: Tag::NULL, bytes, extents, region };
        Some(self.make_offer(on, to, record, Selection::Prescriptive))
    }

    fn make_offer(
        &mut self,
        on: usize,
        to: HostId,
        record: OfferRecord,
        selection: Selection,
    ) -> (InFlight, Command) {
        let id = record.request;
        let due = self.offer_due(&self.requests[&id]);
        let entry = self.requests.get_mut(&id).expect("an offer is for a request");
        entry.record.report.pending += record.bytes;
        let now = self.now;
        let touched = self.touch(on, to, &record.extents);
        let command = self.devices[on].command_of(to, &record, selection);
        let device = &mut self.devices[on];
        let name = device.name.clone();
        let port = device.port_mut(to);
        port.offer = Some(Offer::new(record, now, due, touched));
        let host = port.name.clone();
        self.changed.insert(Key::Request(id));
        self.changed.insert(Key::Offer(name, host));
        (InFlight::Offer(to), Command::InitiateAdd(command))
    }

    /// The device's reply to an offer.
    pub(super) fn offer_replied(&mut self, on: usize, to: HostId, error: Option<ReturnCode>) {
        let offer = self.devices[on].port_mut(to).offer.as_mut();
        let Some(offer) = offer else { return };
        let Standing::Sent(attempt) = offer.standing else { return };
        match (attempt, error) {
            (_, None) => offer.standing = Standing::Pending,
            (Attempt::First, Some(code)) => self.offer_not_made(on, to, code),
            // No room for it: so it is not there.
            (_, Some(code @ ReturnCode::RESOURCES_EXHAUSTED)) => self.offer_not_made(on, to, code),
            (_, Some(code)) => {
                // The device has it already, or somebody else does: what it says next tells.
                offer.standing = Standing::InDoubt(Attempt::Refused(code));
                self.read_all_again(on);
                self.devices[on].events = super::device::Events::Pending;
            }
        }
    }

    /// The device did not make the offer, and has not made it before.
    pub(super) fn offer_not_made(&mut self, on: usize, to: HostId, code: ReturnCode) {
        let later = self.now.after(self.timing.retry_first);
        let again = matches!(code, ReturnCode::RETRY_REQUIRED | ReturnCode::BUSY);
        let Some(offer) = self.devices[on].port_mut(to).offer.as_mut() else { return };
        if again && offer.standing != Standing::Sent(Attempt::First) {
            offer.doubt();
            self.be_quiet(on, later);
            return;
        }
        let record = offer.record.clone();
        let touched = core::mem::take(&mut offer.touched);
        let selection = self.selection_of(&record);
        self.over(on, to);
        self.untouch(on, to, &touched);
        if !again {
            self.offer_refused(on, to, &record, selection, code);
        }
        let most = self.timing.retry_most;
        let now = self.now;
        let Some(entry) = self.requests.get_mut(&record.request) else { return };
        let report = &mut entry.record.report;
        report.pending -= record.bytes;
        if again {
            entry.pace.offer.next = later;
        }
        if matches!(entry.record.request, Request::Move { .. }) {
            // These bytes and no others were promised.
            match again && entry.is_open() {
                true => entry.record.promised.extend(record.extents),
                false => entry.record.report.refused += record.bytes,
            }
            return;
        }
        report.missing += record.bytes;
        if again {
            return;
        }
        entry.pace.ending = Some(Ending::Refused(code.0));
        let has_others = selection == Selection::Prescriptive
            && !matches!(
                entry.record.request,
                Request::Add { policy: Policy::Prescriptive(_), .. }
            )
            && code != ReturnCode::RESOURCES_EXHAUSTED;
        if !has_others {
            entry.pace.offer.back_off(now, most);
            if entry.is_open() {
                self.settle(record.request);
            }
        }
    }

    /// Somebody else has these bytes, or the device cannot remember more.
    fn offer_refused(
        &mut self,
        on: usize,
        to: HostId,
        record: &OfferRecord,
        selection: Selection,
        code: ReturnCode,
    ) {
        if code != ReturnCode::RESOURCES_EXHAUSTED && selection == Selection::Prescriptive {
            let until = self.now.after(self.timing.retry_most);
            let avoid = record.extents.iter().map(|&range| (range, until));
            self.devices[on].avoid.extend(avoid);
        }
        self.read_all_again(on);
        let command = Command::InitiateAdd(self.devices[on].command_of(to, record, selection));
        self.note(on, Notice::Refused { command, code });
    }

    /// Records were lost: any offer may have been answered.
    pub(super) fn doubt_all(&mut self, on: usize) {
        self.devices[on].doubt_withdrawn();
        for port in self.devices[on].ports.values_mut() {
            let Some(offer) = &mut port.offer else { continue };
            match offer.waits() {
                true => offer.doubt(),
                // What it answered may be known in part.
                false => offer.touched = Ranges::default(),
            }
        }
    }

    /// What has become of offers, now that all is read; perhaps one that is made once more.
    pub(super) fn look_at_offers(&mut self, on: usize) -> Option<(InFlight, Command)> {
        let hosts: Vec<HostId> = self.devices[on].ports.keys().copied().collect();
        hosts.into_iter().find_map(|host| self.look_at_offer(on, host))
    }

    fn look_at_offer(&mut self, on: usize, host: HostId) -> Option<(InFlight, Command)> {
        let device = &self.devices[on];
        let offer = device.ports[&host].offer.as_ref()?;
        let taken = device.taken_of(host, &offer.record);
        if taken != 0 || offer.standing == Standing::Answered {
            self.conclude(on, host, taken);
            return None;
        }
        if let Standing::Withdrawn(silence) = offer.standing {
            self.withdrawn(on, host, silence);
            return None;
        }
        let Standing::InDoubt(attempt) = offer.standing else { return None };
        let record = offer.record.clone();
        let is_pending = device.is_pending(host, record.tag);
        let (elsewhere, fits) = (self.is_elsewhere(on, host, &record), device.fits(&record));
        match (attempt, is_pending) {
            (_, Some(true)) => self.stand(on, host, Standing::Pending),
            // Somebody has it who did not get it from this manager, or it is nowhere.
            _ if elsewhere || !fits => self.no_longer_fits(on, host),
            (Attempt::Refused(code), Some(false)) => {
                // Neither the host nor the device has it: the refusal means what it says.
                self.stand(on, host, Standing::Sent(Attempt::First));
                self.offer_not_made(on, host, code);
            }
            (Attempt::Refused(_), None) => self.stand(on, host, Standing::Pending),
            // Whose data is there may have become known since.
            _ if !self.is_clean(on, host, &record) => self.no_longer_fits(on, host),
            (Attempt::First | Attempt::Again, _) => {
                self.touch(on, host, &record.extents);
                self.stand(on, host, Standing::Sent(Attempt::Again));
                let selection = self.selection_of(&record);
                let command = self.devices[on].command_of(host, &record, selection);
                return Some((InFlight::Offer(host), Command::InitiateAdd(command)));
            }
        }
        None
    }

    fn stand(&mut self, on: usize, host: HostId, standing: Standing) {
        if let Some(offer) = &mut self.devices[on].port_mut(host).offer {
            offer.standing = standing;
        }
    }

    /// Whether another host has what was offered to this one, and not to share it.
    fn is_elsewhere(&self, on: usize, host: HostId, record: &OfferRecord) -> bool {
        let is_shared = self.selection_of(record) == Selection::EnableSharedAccess;
        let others = self.devices[on].held.iter().filter(|&(&other, _)| other != host);
        let mut held = others.flat_map(|(_, held)| held).map(|extent| extent.range);
        !is_shared && held.any(|held| record.extents.iter().any(|range| range.overlaps(held)))
    }

    /// Whether a host that is offered this once more finds no data of others there.
    fn is_clean(&self, on: usize, host: HostId, record: &OfferRecord) -> bool {
        if self.selection_of(record) == Selection::EnableSharedAccess {
            return true;
        }
        if record.extents.is_empty() {
            let device = &self.devices[on];
            let region = device.regions.get(usize::from(record.region));
            return region.is_some_and(|region| device.is_clean_region(region));
        }
        bytes_of(&self.clean_of(on, host, &record.extents)) == bytes_of(&record.extents)
    }

    fn selection_of(&self, record: &OfferRecord) -> Selection {
        match self.requests.get(&record.request).map(|entry| &entry.record.request) {
            Some(Request::Add { policy, .. }) if record.extents.is_empty() => policy.by_device(),
            Some(Request::Add { policy: Policy::Shared, .. }) => Selection::EnableSharedAccess,
            _ => Selection::Prescriptive,
        }
    }

    /// A host has answered its offer: it took so much.
    fn conclude(&mut self, on: usize, host: HostId, taken: u64) {
        let (now, most, first) = (self.now, self.timing.retry_most, self.timing.retry_first);
        let offer = self.devices[on].port_mut(host).offer.as_mut();
        let touched = offer.map(|offer| core::mem::take(&mut offer.touched)).unwrap_or_default();
        if taken == 0 {
            self.untouch(on, host, &touched);
        }
        let Some(record) = self.over(on, host) else { return };
        let taken = taken.min(record.bytes);
        let name = self.devices[on].ports[&host].name.clone();
        if let Some(Agent::There { wants }) = self.agents.get_mut(&name) {
            *wants = wants.saturating_sub(taken);
        }
        let Some(entry) = self.requests.get_mut(&record.request) else { return };
        let report = &mut entry.record.report;
        report.pending -= record.bytes;
        report.accepted += taken;
        report.refused += record.bytes - taken;
        if taken == record.bytes {
            entry.pace.offer = Pause::new(now, first);
            return;
        }
        entry.pace.offer.back_off(now, most);
        if entry.record.origin == Origin::Balance {
            self.declined(on, host);
        }
    }

    /// There is no offer to a host any more.
    pub(super) fn over(&mut self, on: usize, host: HostId) -> Option<OfferRecord> {
        let device = self.devices[on].name.clone();
        let port = self.devices[on].port_mut(host);
        let record = port.offer.take()?.record;
        self.changed.insert(Key::Offer(device, port.name.clone()));
        self.changed.insert(Key::Request(record.request));
        Some(record)
    }
}

impl Device {
    /// The command for an offer.
    fn command_of(&self, host: HostId, record: &OfferRecord, selection: Selection) -> InitiateAdd {
        let region = self.regions.get(usize::from(record.region));
        let shares = region.is_some_and(is_sharable);
        let named = if selection == Selection::Prescriptive { &record.extents[..] } else { &[] };
        let extents = (1..).zip(named).map(|(place, &range)| DcExtent {
            range,
            tag: record.tag,
            sequence: if shares { place } else { 0 },
        });
        InitiateAdd {
            host,
            selection,
            region: record.region,
            length: record.bytes,
            tag: record.tag,
            extents: extents.collect(),
        }
    }

    /// What a host does not have of some extents, in their order.
    fn not_held_by(&self, host: HostId, extents: &[DpaRange]) -> Vec<DpaRange> {
        let left = |&extent: &DpaRange| {
            let mut left = Ranges::from_iter([extent]);
            self.held_by(host).iter().for_each(|held| left.remove(held.range));
            left.to_vec()
        };
        extents.iter().flat_map(left).collect()
    }

    /// Bytes of an offer that the host has.
    fn taken_of(&self, host: HostId, record: &OfferRecord) -> u64 {
        let held = self.held_by(host).iter();
        if record.extents.is_empty() {
            let held = held.filter(|extent| extent.tag == record.tag);
            return held.fold(0, |sum, extent| sum.saturating_add(extent.range.length));
        }
        // By place: there are devices that forget tags (QEMU's).
        let held: Ranges = held.map(|extent| extent.range).collect();
        record.extents.iter().map(|&range| bytes_of(&held.common(range))).sum()
    }

    /// Whether a host has been offered a tag; nothing: the device does not say.
    fn is_pending(&self, host: HostId, tag: Tag) -> Option<bool> {
        let tags = self.tags.as_ref().filter(|_| !tag.is_null())?;
        let (byte, bit) = (usize::from(host.0 / 8), host.0 % 8);
        let has = |info: &TagInfo| info.pending.get(byte).is_some_and(|bits| bits >> bit & 1 == 1);
        Some(tags.iter().any(|info| info.tag == tag && has(info)))
    }
}
