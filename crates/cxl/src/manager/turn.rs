//! A device's turn: the next command, if none is in flight.
//!
//! Reading comes first, so that everything after it rests on what the device says now. Then what
//! became of offers; then requests, the oldest first; and whatever changes by that has its turn.

use alloc::vec::Vec;
use core::time::Duration;

use memtide_units::RequestId;

use super::{
    device::{InFlight, Link, Seen},
    entry::Entry,
    exchange::Command,
    output::{Notice, Output},
    request::Request,
    state::Manager,
};

impl Manager {
    pub(super) fn send(&mut self, on: usize, flight: InFlight, command: Command) {
        let device = &mut self.devices[on];
        assert!(device.in_flight.is_none(), "a device is told one thing at a time");
        device.in_flight = Some(flight);
        let device = device.name.clone();
        self.out.push(Output::Command { device, command });
    }

    /// Gives a device its next command.
    pub(super) fn turn(&mut self, on: usize) {
        while self.may_send(on) {
            if let Some((flight, command)) = self.next_reading(on) {
                return self.send(on, flight, command);
            }
            self.is_read(on);
            if let Some((flight, command)) = self.look_at_offers(on) {
                return self.send(on, flight, command);
            }
            if !self.devices[on].is_ready() {
                continue;
            }
            self.tell_answers(on);
            if let Some((flight, command)) = self.next_configuring(on) {
                return self.send(on, flight, command);
            }
            self.look_at_overdue(on);
            if !self.devices[on].is_ready() {
                continue;
            }
            if let Some((flight, command)) = self.next_withdrawing(on) {
                return self.send(on, flight, command);
            }
            self.balance(on);
            match self.next_doing(on) {
                Some((flight, command)) => return self.send(on, flight, command),
                None if self.devices[on].is_ready() => return,
                None => {}
            }
        }
    }

    fn may_send(&self, on: usize) -> bool {
        let device = &self.devices[on];
        device.link == Link::Up && device.in_flight.is_none() && device.quiet_until <= self.now
    }

    /// All is read.
    fn is_read(&mut self, on: usize) {
        if self.devices[on].seen == Seen::Now {
            return;
        }
        let device = &mut self.devices[on];
        device.seen = Seen::Now;
        let notice = Notice::Ready {
            hosts: device.info.as_ref().map_or(0, |info| info.hosts),
            regions: device.regions.len(),
            capacity: device.capacity(),
        };
        self.note(on, notice);
        self.look_for_two_owners(on);
        self.forget_lost_promises(on);
        self.tell_withheld(on);
    }

    /// The next command for a request, the oldest first.
    fn next_doing(&mut self, on: usize) -> Option<(InFlight, Command)> {
        let open = self.requests.iter().filter(|(_, entry)| entry.is_open() && entry.on == on);
        let mut open: Vec<(Duration, RequestId)> =
            open.map(|(&id, entry)| (entry.record.since, id)).collect();
        open.sort_unstable();
        open.into_iter().find_map(|(_, id)| self.step(on, id))
    }

    fn step(&mut self, on: usize, id: RequestId) -> Option<(InFlight, Command)> {
        match self.requests.get(&id).filter(|entry| entry.is_open()).map(Entry::kind)? {
            Kind::Add => self.step_add(on, id),
            Kind::Release => self.step_release(on, id),
            Kind::Move => self.step_promised(on, id).or_else(|| self.step_release(on, id)),
            Kind::Reference => self.step_reference(on, id),
            Kind::AtOnce => None,
        }
    }
}

/// How a request goes on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Kind {
    Add,
    Release,
    Move,
    Reference,
    AtOnce,
}

impl Entry {
    const fn kind(&self) -> Kind {
        match self.record.request {
            Request::Add { .. } => Kind::Add,
            Request::Release { .. } => Kind::Release,
            Request::Move { .. } => Kind::Move,
            Request::AddReference { .. } | Request::RemoveReference { .. } => Kind::Reference,
            Request::SetLimits { .. } | Request::Cancel { .. } => Kind::AtOnce,
        }
    }
}
