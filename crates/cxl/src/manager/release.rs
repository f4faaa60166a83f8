//! Asking back: the same bytes again and again, with growing pauses, until they come, are taken, or
//! are no longer wanted.

use alloc::vec::Vec;

use memtide_units::{DcExtent, Instant, RequestId, Tag};

use super::{
    check::MAX_EXTENTS,
    device::{InFlight, Subject},
    entry::{Entry, Told},
    exchange::Command,
    input::{HostAnswer, InputError, MAX_HOLDERS},
    journal::Key,
    name::{DeviceName, HostName},
    output::{Notice, Output},
    ranges::{Ranges, bytes_of},
    report::Ending,
    request::{Forcing, Request, What},
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
    /// The next command for what is asked back, if there is one.
    pub(super) fn step_release(&mut self, on: usize, id: RequestId) -> Option<(InFlight, Command)> {
        self.end_if_done(id);
        let entry = &self.requests[&id];
        if !entry.is_open() || entry.record.asked_back.is_empty() {
            return None;
        }
        let force = self.force_of(entry);
        let is_late = force == Force::Take && entry.told == Told::Asked && self.is_late(entry);
        if entry.pace.ask.next > self.now && !is_late {
            return None;
        }
        let host = entry.from.expect("what is asked back is asked of a host");
        let extents = self.next_part(on, host, entry);
        if extents.is_empty() {
            let (now, most) = (self.now, self.timing.retry_most);
            let entry = self.requests.get_mut(&id).expect("it is there");
            entry.pace.cursor = 0;
            entry.pace.ask.back_off(now, most);
            return None;
        }
        let command = self.release_command(on, host, entry, force, &extents);
        self.asked(id, &extents, force);
        let flight = InFlight::Release { request: id, host, extents, force };
        Some((flight, Command::InitiateRelease(command)))
    }

    fn force_of(&self, entry: &Entry) -> Force {
        match entry.forcing() {
            Forcing::AtOnce => Force::Take,
            Forcing::AtDeadline if self.is_late(entry) => Force::Take,
            Forcing::AtDeadline | Forcing::Never => Force::Ask,
        }
    }

    /// What is asked back from the cursor on, as extents that the host has or is offered.
    fn next_part(&self, on: usize, host: HostId, entry: &Entry) -> Vec<DcExtent> {
        let asked: Ranges = entry.record.asked_back.iter().copied().collect();
        let part = |extent: &DcExtent| {
            let common = asked.common(extent.range);
            let extent = *extent;
            common.into_iter().map(move |range| DcExtent { range, ..extent }).collect::<Vec<_>>()
        };
        let mut parts: Vec<DcExtent> =
            self.devices[on].held_by(host).iter().flat_map(part).collect();
        parts.retain(|extent| extent.range.start >= entry.pace.cursor);
        parts.sort_unstable();
        parts.truncate(MAX_EXTENTS);
        parts
    }

    fn release_command(
        &self,
        on: usize,
        host: HostId,
        entry: &Entry,
        force: Force,
        extents: &[DcExtent],
    ) -> InitiateRelease {
        let does = self.devices[on].info.as_ref().map_or(0, |info| info.release_policies);
        let tag = match entry.record.request {
            Request::Release { what: What::Tag(tag), .. }
                if does >> Removal::TagBased as u16 & 1 == 1 =>
            {
                Some(tag)
            }
            _ => None,
        };
        let held = self.devices[on].held_by(host).iter();
        let lengths = held.filter(|extent| Some(extent.tag) == tag).map(|e| e.range.length);
        InitiateRelease {
            host,
            removal: if tag.is_some() { Removal::TagBased } else { Removal::Prescriptive },
            force,
            sanitize: Sanitize::OnRelease,
            length: lengths.fold(0, u64::saturating_add),
            tag: tag.unwrap_or(Tag::NULL),
            extents: if tag.is_some() { Vec::new() } else { extents.to_vec() },
        }
    }

    /// A part goes out: the next begins behind it, and after the last one there is a pause.
    fn asked(&mut self, id: RequestId, extents: &[DcExtent], force: Force) {
        let (now, most) = (self.now, self.timing.retry_most);
        let entry = self.requests.get_mut(&id).expect("it is there");
        match extents.last().filter(|_| extents.len() == MAX_EXTENTS) {
            Some(last) => entry.pace.cursor = last.range.start.saturating_add(1),
            None => {
                entry.pace.cursor = 0;
                entry.pace.ask.back_off(now, most);
            }
        }
        if entry.told == Told::Nothing || (force == Force::Take && entry.told == Told::Asked) {
            entry.told = if force == Force::Take { Told::HostAnswered } else { Told::Asked };
        }
    }

    /// The device's reply to a release.
    pub(super) fn release_replied(
        &mut self,
        on: usize,
        id: RequestId,
        host: HostId,
        extents: Vec<DcExtent>,
        force: Force,
        error: Option<ReturnCode>,
    ) {
        if let Some(code) = error {
            self.read_again(on, Subject::Extents(host));
            if let Some(entry) = self.requests.get_mut(&id) {
                entry.pace.ending = Some(Ending::Refused(code.0));
                let command = self.release_command(on, host, &self.requests[&id], force, &extents);
                let command = Command::InitiateRelease(command);
                self.note(on, Notice::Refused { command, code });
            }
            return;
        }
        if let Some(port) = self.devices[on].ports.get_mut(&host) {
            extents.iter().for_each(|extent| port.told_to_sanitize.insert(extent.range));
        }
        if force == Force::Take {
            self.read_again(on, Subject::Extents(host));
            if let Some(port) = self.devices[on].ports.get(&host) {
                let (host, device) = (port.name.clone(), self.devices[on].name.clone());
                self.out.push(Output::Taken { host, device, extents });
            }
        }
    }

    /// A host has this and nothing else: what of what it was asked for came back?
    pub(super) fn came_back(&mut self, on: usize, host: HostId, held: &Ranges) {
        for (&id, entry) in &mut self.requests {
            if !entry.is_open() || entry.on != on || entry.from != Some(host) {
                continue;
            }
            let mut gone: Ranges = entry.record.asked_back.iter().copied().collect();
            held.iter().for_each(|range| gone.remove(range));
            if gone.is_empty() {
                continue;
            }
            let mut left: Ranges = entry.record.asked_back.iter().copied().collect();
            gone.iter().for_each(|range| left.remove(range));
            entry.record.asked_back = left.to_vec();
            entry.record.report.returned += gone.bytes();
            if matches!(entry.record.request, Request::Move { .. }) {
                entry.record.promised.extend(gone.iter());
            }
            self.changed.insert(Key::Request(id));
        }
    }

    /// A host says what stays, and why. It is told to the operator once the device agrees.
    pub(super) fn host_answered(
        &mut self,
        now: Instant,
        host: &HostName,
        device: &DeviceName,
        mut answer: HostAnswer,
    ) -> Result<(), InputError> {
        let HostAnswer { asked, released, remaining, .. } = answer;
        if released.checked_add(remaining) != Some(asked) {
            return Err(InputError::Answer { host: host.clone(), asked, released, remaining });
        }
        let on = self.devices.iter().position(|known| known.name == *device);
        let on = on.ok_or_else(|| InputError::NoSuchDevice { device: device.clone() })?;
        let id = self.devices[on].host_id(host);
        let id = id.ok_or_else(|| InputError::NoSuchHost { host: host.clone() })?;
        self.now = self.now.max(now);
        answer.holders.truncate(MAX_HOLDERS);
        self.devices[on].port_mut(id).answer = Some(answer);
        for entry in self.requests.values_mut() {
            let is_its = entry.is_open() && entry.on == on && entry.from == Some(id);
            if is_its && entry.told == Told::Asked {
                entry.told = Told::HostAnswered;
            }
        }
        // What it released may not have been seen.
        if self.devices[on].info.is_some() {
            self.read_again(on, Subject::Extents(id));
        }
        Ok(())
    }

    /// All is read: those whose host has answered have their answer, if it fits what the device
    /// says. A host that answered an older request says of less.
    pub(super) fn tell_answers(&mut self, on: usize) {
        let hosts: Vec<HostId> = self.devices[on].ports.keys().copied().collect();
        for host in hosts {
            let waiting = self.requests.iter().filter(|(_, entry)| {
                entry.is_open()
                    && entry.on == on
                    && entry.from == Some(host)
                    && entry.told == Told::HostAnswered
            });
            let waiting: Vec<RequestId> = waiting.map(|(&id, _)| id).collect();
            let said = self.devices[on].ports[&host].answer.as_ref().map(|a| a.remaining);
            for id in waiting {
                let entry = &self.requests[&id];
                let held = bytes_of(&entry.record.asked_back);
                let taken = self.force_of(entry) == Force::Take;
                let agrees = said.is_some_and(|remaining| remaining >= held);
                match (held, taken, agrees) {
                    // What came is about to be given to another, or it is over.
                    (0, ..) => {}
                    (_, true, _) => self.settle(id),
                    (_, false, true) if entry.forcing() == Forcing::Never => self.settle(id),
                    (_, false, _) => {
                        let entry = self.requests.get_mut(&id).expect("it is there");
                        entry.told = Told::Asked;
                    }
                }
            }
        }
    }
}
