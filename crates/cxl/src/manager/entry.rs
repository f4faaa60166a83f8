//! A request, from its first mention to when it is forgotten.
//!
//! ```text
//!   (new) ──▶ open ── all done, nothing more to be had, time, cancelled ──▶ ended ──▶ forgotten
//!               │ ▲                                                    (answered)   (too many)
//!               └─┘ what stands is answered once before, too: what it is so far
//! ```

use alloc::vec::Vec;
use core::time::Duration;

use memtide_units::{Instant, RequestId};

use super::{
    journal::{Key, Origin, RequestRecord},
    output::Output,
    ranges::bytes_of,
    report::{Ending, Report, State},
    request::{Forcing, Request, Rest},
    state::Manager,
};
use crate::command::HostId;

/// Most requests that are open at a time.
pub const MAX_OPEN: usize = 1024;
/// Most that are remembered when they have ended; the oldest are forgotten.
pub const MAX_ENDED: usize = 1024;
/// The first id of the manager's own requests.
pub const FIRST_OWN_ID: u64 = 1 << 63;

/// A request, and how it goes.
#[derive(Clone, Debug)]
pub(super) struct Entry {
    pub(super) record: RequestRecord,
    /// Which device.
    pub(super) on: usize,
    /// From whom.
    pub(super) from: Option<HostId>,
    /// To whom.
    pub(super) to: Option<HostId>,
    pub(super) pace: Pace,
    pub(super) told: Told,
}

/// When things are tried again.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Pace {
    /// Asking back, and references.
    pub(super) ask: Pause,
    /// Offering.
    pub(super) offer: Pause,
    /// What is asked back goes out in several commands: the next one begins here.
    pub(super) cursor: u64,
    /// How it ends if nothing comes of it.
    pub(super) ending: Option<Ending>,
}

/// Pauses that grow.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Pause {
    /// Not before.
    pub(super) next: Instant,
    /// And the time after: so much later.
    pub(super) length: Duration,
}

/// What the operator and the host have said to each other.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Told {
    /// Nothing yet.
    Nothing,
    /// The host has been asked.
    Asked,
    /// It has answered; what it holds is read once more, then the operator is told.
    HostAnswered,
    /// The operator has an answer.
    Operator,
}

impl Pause {
    /// None yet.
    pub(super) const fn new(now: Instant, first: Duration) -> Self {
        Self { next: now, length: first }
    }

    /// Once more, later than the last time.
    pub(super) fn back_off(&mut self, now: Instant, most: Duration) {
        self.next = now.after(self.length);
        self.length = self.length.saturating_mul(2).min(most);
    }
}

impl Pace {
    const fn new(now: Instant, first: Duration) -> Self {
        let pause = Pause::new(now, first);
        Self { ask: pause, offer: pause, cursor: 0, ending: None }
    }

    /// Everything is asked for anew, at this time.
    pub(super) const fn ask_again(&mut self, at: Instant) {
        self.ask.next = at;
        self.cursor = 0;
    }
}

impl Entry {
    pub(super) fn new(record: RequestRecord, on: usize, first: Duration) -> Self {
        let pace = Pace::new(Instant(record.since), first);
        Self { record, on, from: None, to: None, pace, told: Told::Nothing }
    }

    pub(super) fn is_open(&self) -> bool {
        self.record.report.state == State::Open
    }

    /// Whether the same request again is answered at once.
    pub(super) fn is_answered(&self) -> bool {
        !self.is_open() || self.told == Told::Operator
    }

    pub(super) const fn rest(&self) -> Rest {
        match self.record.request {
            Request::Add { rest, .. }
            | Request::Release { rest, .. }
            | Request::Move { rest, .. } => rest,
            _ => Rest::Drop,
        }
    }

    const fn deadline(&self) -> Option<Duration> {
        match self.record.request {
            Request::Add { deadline, .. }
            | Request::Release { deadline, .. }
            | Request::Move { deadline, .. } => deadline,
            _ => None,
        }
    }

    pub(super) const fn forcing(&self) -> Forcing {
        match self.record.request {
            Request::Release { forcing, .. } => forcing,
            _ => Forcing::Never,
        }
    }

    /// Whether what it began is worth some more time: something is to be taken by force, or to be
    /// offered.
    fn lingers(&self) -> bool {
        let record = &self.record;
        match self.forcing() {
            Forcing::AtDeadline | Forcing::AtOnce => !record.asked_back.is_empty(),
            Forcing::Never if matches!(record.request, Request::Move { .. }) => {
                !record.promised.is_empty() || record.report.pending != 0
            }
            // What is offered is answered or withdrawn about now.
            Forcing::Never => record.report.pending != 0 && self.rest() == Rest::Drop,
        }
    }

    /// Bytes that are promised to its receiver, as far as they are not offered.
    pub(super) fn promised_bytes(&self) -> u64 {
        match self.record.request {
            Request::Move { .. } => {
                bytes_of(&self.record.asked_back).saturating_add(bytes_of(&self.record.promised))
            }
            _ => 0,
        }
    }
}

impl Manager {
    /// A new request.
    pub(super) fn enter(&mut self, id: RequestId, entry: Entry) {
        self.changed.insert(Key::Request(id));
        self.requests.insert(id, entry);
        self.do_at_once(id);
    }

    /// What needs no device.
    fn do_at_once(&mut self, id: RequestId) {
        let entry = &self.requests[&id];
        match entry.record.request.clone() {
            Request::Cancel { request } => {
                self.end(request, Ending::Cancelled);
                self.end(id, Ending::Done);
            }
            Request::SetLimits { limits, .. } => {
                let (on, host) = (entry.on, entry.to.expect("checked: it names a host"));
                let device = self.devices[on].name.clone();
                let port = self.devices[on].port_mut(host);
                port.changed = Some(limits);
                self.changed.insert(Key::Limits(device, port.name.clone()));
                self.end(id, Ending::Done);
            }
            _ => {}
        }
    }

    /// When its time is over.
    pub(super) fn time_of(&self, entry: &Entry) -> Instant {
        let time = entry.deadline().unwrap_or(self.timing.patience);
        Instant(entry.record.since).after(time)
    }

    /// When it is answered at the latest, unless it has been.
    pub(super) fn answer_due(&self, entry: &Entry) -> Option<Instant> {
        let due = self.time_of(entry);
        let lingers = entry.lingers() && due <= self.now;
        let due = if lingers { due.after(self.timing.patience) } else { due };
        (entry.told != Told::Operator).then_some(due)
    }

    /// Whether its time has come, answered or not.
    pub(super) fn is_late(&self, entry: &Entry) -> bool {
        self.time_of(entry) <= self.now
    }

    /// What time has made due: answers, and what was avoided.
    pub(super) fn let_pass(&mut self) {
        let now = self.now;
        for device in &mut self.devices {
            device.avoid.retain(|&(_, until)| until > now);
        }
        let is_due =
            |entry: &Entry| entry.is_open() && self.answer_due(entry).is_some_and(|due| due <= now);
        // What is due may be told to wait once more: it is looked at either way.
        let due = self.requests.iter().filter(|(_, entry)| is_due(entry));
        let due: Vec<RequestId> = due.map(|(&id, _)| id).collect();
        for id in due {
            self.settle(id);
        }
    }

    /// There is something to tell the operator: the last answer, unless the request stands.
    pub(super) fn settle(&mut self, id: RequestId) {
        self.end_if_done(id);
        let entry = &self.requests[&id];
        if !entry.is_open() {
            return;
        }
        if self.goes_on(entry) {
            return;
        }
        match entry.rest() {
            Rest::Drop => {
                let nothing =
                    entry.record.report.accepted == 0 && entry.record.report.returned == 0;
                let ending = entry.pace.ending.filter(|_| nothing).unwrap_or(Ending::Partly);
                self.end(id, ending);
            }
            Rest::Stand => self.tell_once(id),
        }
    }

    /// What there is nothing more to do for: all that was added is accepted; all that was asked
    /// back has come, and what of it was promised is answered.
    pub(super) fn end_if_done(&mut self, id: RequestId) {
        let entry = &self.requests[&id];
        let (record, report) = (&entry.record, &entry.record.report);
        let all_came = record.asked_back.is_empty();
        let done = match record.request {
            Request::Add { .. } => (report.accepted == report.asked).then_some(true),
            Request::Release { .. } => all_came.then_some(report.returned == report.asked),
            Request::Move { .. } => {
                let is_given = all_came && record.promised.is_empty() && report.pending == 0;
                is_given.then_some(report.accepted == report.asked)
            }
            _ => None,
        };
        match done.filter(|_| entry.is_open()) {
            Some(true) => self.end(id, Ending::Done),
            Some(false) => self.end(id, Ending::Partly),
            None => {}
        }
    }

    /// Whether the device is about to do what there is to tell of: to take what did not come, or to
    /// offer what came. That may be as much as a patience late.
    fn goes_on(&self, entry: &Entry) -> bool {
        let due = self.answer_due(entry).unwrap_or(self.now);
        let is_up = self.devices[entry.on].link == super::device::Link::Up;
        is_up && entry.lingers() && self.now < due
    }

    /// The answer to what stands, while it does.
    fn tell_once(&mut self, id: RequestId) {
        let report = self.report_of(&self.requests[&id]);
        let entry = self.requests.get_mut(&id).expect("the caller found it");
        if entry.told != Told::Operator {
            entry.told = Told::Operator;
            self.out.push(Output::Answer(report));
        }
    }

    /// It is over. What it asked back and did not get is asked for no more, what it was promised is
    /// free; what it offered stays offered until it is answered or withdrawn.
    pub(super) fn end(&mut self, id: RequestId, ending: Ending) {
        let mut report = self.report_of(&self.requests[&id]);
        let entry = self.requests.get_mut(&id).expect("the caller found it");
        if !entry.is_open() {
            return;
        }
        report.state = State::Ended(ending);
        entry.told = Told::Operator;
        entry.record.report = report.clone();
        entry.record.asked_back.clear();
        entry.record.promised.clear();
        let is_own_addition = entry.record.origin == Origin::Balance && entry.from.is_none();
        let short_of = entry.to.filter(|_| is_own_addition && report.accepted < report.asked);
        let on = entry.on;
        self.changed.insert(Key::Request(id));
        self.out.push(Output::Answer(report));
        self.hasten(id);
        if let Some(host) = short_of {
            self.declined(on, host);
        }
    }

    /// What has become of it: what is kept, and what follows from it.
    pub(super) fn report_of(&self, entry: &Entry) -> Report {
        let mut report = entry.record.report.clone();
        if !entry.is_open() {
            return report;
        }
        report.held = bytes_of(&entry.record.asked_back);
        let port = entry.from.and_then(|from| self.devices[entry.on].ports.get(&from));
        let answer = port.and_then(|port| port.answer.as_ref()).filter(|_| report.held != 0);
        report.holders = answer.map(|answer| answer.holders.clone()).unwrap_or_default();
        report
    }

    /// The oldest that have ended, when there are too many. A request of the manager's own is
    /// nobody's to repeat.
    pub(super) fn forget_ended(&mut self) {
        let ended = self.requests.iter().filter(|(_, entry)| !entry.is_open());
        let mut ended: Vec<(Origin, Duration, RequestId)> =
            ended.map(|(&id, entry)| (entry.record.origin, entry.record.since, id)).collect();
        let own = ended.iter().filter(|(origin, ..)| *origin == Origin::Balance).count();
        if ended.len() <= MAX_ENDED && own <= MAX_ENDED / 8 {
            return;
        }
        ended.sort_unstable_by_key(|&(origin, since, id)| (origin == Origin::Operator, since, id));
        let (own, too_many) =
            (own.saturating_sub(MAX_ENDED / 8), ended.len().saturating_sub(MAX_ENDED));
        for &(.., id) in ended.iter().take(own.max(too_many)) {
            if self.is_offered(id) {
                continue;
            }
            self.requests.remove(&id);
            self.changed.insert(Key::Request(id));
        }
    }

    /// Whether something it offered has no answer yet.
    fn is_offered(&self, id: RequestId) -> bool {
        let ports = self.devices.iter().flat_map(|device| device.ports.values());
        ports.filter_map(|port| port.offer.as_ref()).any(|offer| offer.record.request == id)
    }
}
