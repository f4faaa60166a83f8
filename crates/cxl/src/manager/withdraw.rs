//! Offers that come to nothing: nobody answers them, or the device they were made of is another.
//!
//! **Nobody answers.** An offer that a host has not answered when its time is over ([`Offer::due`])
//! is withdrawn: taken by force (5605h, forced), which reaches what is offered as well as what is
//! held (CXL 3.1, 7.6.7.6.6 with 9.13.3.3). Its bytes are free then; the device keeps the dead offer
//! until the host answers it, which is refused, and logs that. Until that record the host is offered
//! nothing else: a record that a host took nothing is about the last offer to it, and it would pile
//! up offers that it does not answer. A new connection, lost records, or a new start of this manager
//! end that wait, for the device may be another one by then; a record of the dead offer is still
//! taken for what it is.
//!
//! The device cannot be told to take only what is not accepted. A host that accepts between the
//! manager's last look and the command loses what it accepted, as by any force. So that look is the
//! last thing before the command: what is due is [`Standing::Overdue`] first, the log and the host's
//! extents are read, and only what is not answered then is withdrawn; whenever that is put off, it
//! begins anew. And nothing is withdrawn at once: a host has as long as its request has, and never
//! less than `retry_first`; after a cancellation, as long as `patience` from when it was offered.
//!
//! A device that refuses the command, because it does not do that (QEMU's does not), keeps the
//! offer: it is tried again later. One that says that there is no such offer has lost it.
//!
//! **It does not fit.** What was offered is looked for when everything was read. If the device has
//! become smaller, or is set up another way, or another host has some of it, then what the journal
//! calls offered cannot be: it is over, and the request's answer says that
//! ([`Ending::NoLongerFits`]) unless it gets something elsewhere.

use alloc::vec::Vec;

use memtide_units::{DcExtent, Instant, RequestId, Tag};

use super::{
    device::{
        Attempt, Device, Events, InFlight, Offer, Silence, Standing, Subject, Withdrawn, range_of,
    },
    entry::Entry,
    exchange::Command,
    journal::{Key, OfferRecord, Origin},
    output::Notice,
    ranges::{Ranges, bytes_of},
    report::Ending,
    request::{Policy, Request, Rest},
    state::Manager,
};
use crate::{
    ReturnCode,
    command::{
        HostId, Sanitize,
        fabric_manager::{Force, InitiateRelease, Removal},
    },
};

impl Manager {
    /// Until when a host has time for an offer that is made now.
    pub(super) fn offer_due(&self, entry: &Entry) -> Instant {
        let (own, least) = match entry.rest() {
            Rest::Drop => (self.time_of(entry), self.timing.retry_first),
            Rest::Stand => (self.time_of(entry), self.timing.patience),
        };
        own.max(self.now.after(least))
    }

    /// A request is over: what it offered need not wait for that long.
    pub(super) fn hasten(&mut self, id: RequestId) {
        let patience = self.timing.patience;
        let ports = self.devices.iter_mut().flat_map(|device| device.ports.values_mut());
        let offers = ports.filter_map(|port| port.offer.as_mut());
        for offer in offers.filter(|offer| offer.record.request == id) {
            offer.due = offer.due.min(offer.since.after(patience));
        }
    }

    /// Looks once more at the offers whose time is over: they may have been answered just now.
    pub(super) fn look_at_overdue(&mut self, on: usize) {
        let now = self.now;
        let mut due = Vec::new();
        for (&host, port) in &mut self.devices[on].ports {
            let pending = port.offer.as_mut().filter(|offer| offer.standing == Standing::Pending);
            if let Some(offer) = pending.filter(|offer| offer.due <= now) {
                offer.standing = Standing::Overdue;
                due.push(host);
            }
        }
        for host in due {
            self.devices[on].events = Events::Pending;
            self.read_again(on, Subject::Extents(host));
        }
    }

    /// The device is told nothing for a while: what was looked at is not what there is after that.
    pub(super) fn be_quiet(&mut self, on: usize, until: Instant) {
        let device = &mut self.devices[on];
        device.quiet_until = until;
        let offers = device.ports.values_mut().filter_map(|port| port.offer.as_mut());
        for offer in offers.filter(|offer| offer.standing == Standing::Overdue) {
            offer.standing = Standing::Pending;
        }
    }

    /// The command that withdraws an offer that is still not answered, if there is one.
    pub(super) fn next_withdrawing(&mut self, on: usize) -> Option<(InFlight, Command)> {
        let device = &self.devices[on];
        let mut ports = device.ports.iter();
        let (host, record) = ports.find_map(|(&host, port)| {
            let offer = port.offer.as_ref()?;
            (offer.standing == Standing::Overdue).then_some((host, &offer.record))
        })?;
        let named = record.extents.iter();
        let named = named.map(|&range| DcExtent { range, tag: record.tag, sequence: 0 });
        let by_tag = record.extents.is_empty();
        let command = InitiateRelease {
            host,
            removal: if by_tag { Removal::TagBased } else { Removal::Prescriptive },
            force: Force::Take,
            // If it was accepted just now, it may have been written.
            sanitize: Sanitize::OnRelease,
            length: if by_tag { record.bytes } else { 0 },
            tag: if by_tag { record.tag } else { Tag::NULL },
            extents: named.collect(),
        };
        Some((InFlight::Withdraw(host), Command::InitiateRelease(command)))
    }

    /// The device's reply to that.
    pub(super) fn withdraw_replied(&mut self, on: usize, host: HostId, error: Option<ReturnCode>) {
        let later = self.now.after(self.timing.retry_most);
        self.read_all_again(on);
        // The host may have answered just now: that record is about this offer, not a dead one.
        self.devices[on].events = Events::Pending;
        let port = self.devices[on].port_mut(host);
        let Some(offer) = &mut port.offer else { return };
        let is_unknown = if offer.record.extents.is_empty() {
            ReturnCode::INVALID_INPUT
        } else {
            ReturnCode::INVALID_EXTENT_LIST
        };
        match error {
            None => {
                offer.standing = Standing::Withdrawn(Silence::Certain);
                let extents = offer.record.extents.clone();
                extents.into_iter().for_each(|range| port.told_to_sanitize.insert(range));
            }
            Some(code) if code == is_unknown => {
                offer.standing = Standing::Withdrawn(Silence::Doubtful);
            }
            Some(code) => {
                (offer.standing, offer.due) = (Standing::Pending, later);
                let (host, bytes) = (port.name.clone(), port.pending());
                self.note(on, Notice::NotWithdrawn { host, bytes, code });
            }
        }
    }

    /// An offer is withdrawn, and nothing of it was accepted.
    pub(super) fn withdrawn(&mut self, on: usize, host: HostId, silence: Silence) {
        let Some(record) = self.over(on, host) else { return };
        let device = self.devices[on].name.clone();
        let port = self.devices[on].port_mut(host);
        let name = port.name.clone();
        port.withdrawn = Some(Withdrawn { record: record.clone(), silence });
        self.changed.insert(Key::Withdrawn(device, name.clone()));
        self.note(on, Notice::Withdrawn { host: name, bytes: record.bytes });
        self.came_to_nothing(on, host, &record, None);
    }

    /// What was offered cannot be: it does not fit the device, or another host has it.
    pub(super) fn no_longer_fits(&mut self, on: usize, host: HostId) {
        let Some(record) = self.over(on, host) else { return };
        let name = self.devices[on].ports[&host].name.clone();
        self.note(on, Notice::NoLongerFits { host: name, bytes: record.bytes });
        self.came_to_nothing(on, host, &record, Some(Ending::NoLongerFits));
        let Some(entry) = self.requests.get(&record.request) else { return };
        let names_it = matches!(
            entry.record.request,
            Request::Add { policy: Policy::Prescriptive(_) | Policy::Shared, .. }
        );
        if names_it && entry.is_open() {
            // No other bytes will do.
            self.end(record.request, Ending::NoLongerFits);
        }
    }

    /// What an offer was of is nobody's again.
    fn came_to_nothing(
        &mut self,
        on: usize,
        host: HostId,
        record: &OfferRecord,
        why: Option<Ending>,
    ) {
        let (now, most) = (self.now, self.timing.retry_most);
        let Some(entry) = self.requests.get_mut(&record.request) else { return };
        let report = &mut entry.record.report;
        report.pending -= record.bytes;
        match entry.record.request {
            // These bytes and no others were promised.
            Request::Move { .. } => report.refused += record.bytes,
            _ => report.missing += record.bytes,
        }
        entry.pace.ending = why.or(entry.pace.ending);
        entry.pace.offer.back_off(now, most);
        let (is_own, is_late) = (entry.record.origin == Origin::Balance, self.is_late_at(record));
        if is_own {
            self.declined(on, host);
        }
        if is_late {
            self.settle(record.request);
        }
    }

    /// Whether the time of an offer's request is over, and it is not.
    fn is_late_at(&self, record: &OfferRecord) -> bool {
        let entry = self.requests.get(&record.request);
        entry.is_some_and(|entry| entry.is_open() && self.is_late(entry))
    }

    /// A record that a host took nothing: whether it is about an offer that was withdrawn.
    pub(super) fn is_answer_to_dead(&mut self, on: usize, host: HostId, extent: DcExtent) -> bool {
        let device = self.devices[on].name.clone();
        let Some(port) = self.devices[on].ports.get_mut(&host) else { return false };
        let Some(Withdrawn { record, silence }) = &port.withdrawn else { return false };
        let is_named = match record.extents.first() {
            Some(first) => first.start == extent.range.start,
            None => record.tag == extent.tag,
        };
        let is_unnamed = extent.range.start == 0 && extent.tag.is_null();
        let is_its = is_named || (is_unnamed && *silence == Silence::Certain);
        if extent.range.length != 0 || !is_its {
            return false;
        }
        let is_doubtful = *silence == Silence::Doubtful;
        port.withdrawn = None;
        self.changed.insert(Key::Withdrawn(device, port.name.clone()));
        if let Some(offer) = port.offer.as_mut().filter(|_| is_doubtful)
            && offer.is_answered_by(extent)
        {
            // It may as well be about this one: the device is asked.
            match offer.standing {
                Standing::Pending | Standing::Overdue | Standing::InDoubt(_) => offer.doubt(),
                Standing::Withdrawn(_) => offer.standing = Standing::Withdrawn(Silence::Doubtful),
                Standing::Sent(_) | Standing::Answered => {}
            }
        }
        true
    }

    /// What was promised to a move, and others had and was not overwritten when it came, is never
    /// clean: it is not kept for that move.
    pub(super) fn forget_unclean_promises(&mut self, on: usize, id: RequestId, to: HostId) {
        let promised = &self.requests[&id].record.promised;
        let clean = self.clean_of(on, to, promised);
        let unclean = bytes_of(promised) - bytes_of(&clean);
        if unclean == 0 {
            return;
        }
        let record = &mut self.requests.get_mut(&id).expect("it was just there").record;
        record.promised = clean;
        record.report.refused += unclean;
        self.changed.insert(Key::Request(id));
        self.end_if_done(id);
    }

    /// What was promised to a move and lies in no region any more is nobody's to give.
    pub(super) fn forget_lost_promises(&mut self, on: usize) {
        let regions: Ranges = self.devices[on].regions.iter().map(range_of).collect();
        let mut lost = Vec::new();
        for (&id, entry) in &mut self.requests {
            if !entry.is_open() || entry.on != on || entry.record.promised.is_empty() {
                continue;
            }
            let promised = &mut entry.record.promised;
            let before = bytes_of(promised);
            *promised = promised.iter().flat_map(|&range| regions.common(range)).collect();
            let gone = before - bytes_of(promised);
            if gone != 0 {
                entry.record.report.refused += gone;
                entry.pace.ending = Some(Ending::NoLongerFits);
                lost.push(id);
            }
        }
        for id in lost {
            self.changed.insert(Key::Request(id));
            self.end_if_done(id);
        }
    }
}

impl Device {
    /// Whether an offer can be one of this device: whole blocks of one region.
    pub(super) fn fits(&self, record: &OfferRecord) -> bool {
        let region = self.regions.get(usize::from(record.region));
        region.is_some_and(|region| {
            let is_block = |bytes: u64| bytes.is_multiple_of(region.block_size);
            is_block(record.bytes)
                && record.bytes <= region.length
                && record.extents.iter().all(|&extent| {
                    range_of(region).contains(extent) && extent.is_aligned(region.block_size)
                })
        })
    }

    /// What was withdrawn may be of another device by now.
    pub(super) fn doubt_withdrawn(&mut self) {
        for port in self.ports.values_mut() {
            if let Some(withdrawn) = &mut port.withdrawn {
                withdrawn.silence = Silence::Doubtful;
            }
            let about_to_be = port.offer.as_mut().map(|offer| &mut offer.standing);
            if let Some(Standing::Withdrawn(silence)) = about_to_be {
                *silence = Silence::Doubtful;
            }
        }
    }
}

impl Offer {
    /// One that is about to be made.
    pub(super) const fn new(
        record: OfferRecord,
        since: Instant,
        due: Instant,
        touched: Ranges,
    ) -> Self {
        Self { record, standing: Standing::Sent(Attempt::First), since, due, touched }
    }
}
