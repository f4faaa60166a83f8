//! Balancing: a host that wants memory gets it, first of what is free, then of those that can give.
//!
//! **Who gets.** Of several that want, each is given its part by weight, the one that has least for
//! its weight first. What is free is given as far as limits and guarantees allow.
//!
//! **Who gives.** A host whose agent says what it uses, that wants nothing itself, and has more
//! than it uses and is guaranteed; the one that has most for its weight first. It keeps an eighth
//! of what it uses, one block at least, so that the next allocation does not have it want at once.
//!
//! **Why it comes to rest.** Nobody gives what it uses, so what was given and is used stays. A host
//! that got is not asked to give for a while, and one that gave is not given of others'
//! ([`Timing`]'s `settle`): what each says of itself has to follow first. As long is a host left
//! alone that did not take what it was offered, or that could not be offered what was there for it.
//!
//! [`Timing`]: super::Timing

use alloc::vec::Vec;
use core::cmp::Reverse;

use memtide_units::{RequestId, Tag};

use super::{
    device::Port,
    entry::{Entry, FIRST_OWN_ID, MAX_OPEN},
    journal::Origin,
    request::{Place, Policy, Request, Rest},
    state::{Agent, Manager},
};
use crate::command::HostId;

impl Manager {
    /// Makes requests of the manager's own for hosts that want memory.
    pub(super) fn balance(&mut self, on: usize) {
        let wanters = self.wanters(on);
        let weights: u64 = wanters.iter().map(|&(host, _)| self.weight(on, host)).sum();
        for (host, wants) in wanters {
            let free = self.free(on);
            let budget = self.share(on, host, &free).budget;
            // By weight, of what there is for all of them; at least a block, so that it ends.
            let part = u128::from(budget) * u128::from(self.weight(on, host));
            let part = u64::try_from(part / u128::from(weights.max(1))).unwrap_or(budget);
            let block = self.block(on);
            let bytes = wants.min(budget).min(part.max(block)) / block * block;
            if bytes != 0 && self.make_own(on, None, host, bytes) == Made::Yes {
                continue;
            }
            if bytes == 0 && self.now >= self.devices[on].ports[&host].gave_until {
                self.ask_others(on, host, wants);
            }
        }
    }

    /// Hosts that want more than is on its way to them, the least provided first.
    fn wanters(&self, on: usize) -> Vec<(HostId, u64)> {
        let ports = self.devices[on].ports.iter();
        let mut wanters: Vec<(HostId, u64)> = ports
            .filter_map(|(&host, port)| {
                let wants = self.wants(port).saturating_sub(self.on_its_way(port));
                let is_idle = self.own_requests(on, host).next().is_none();
                let may = is_idle && port.takes_offers() && port.declined_until <= self.now;
                (wants != 0 && may).then_some((host, wants))
            })
            .collect();
        wanters.sort_by_key(|&(host, _)| (self.provided(on, host), host));
        wanters
    }

    fn wants(&self, port: &Port) -> u64 {
        match self.agents.get(&port.name) {
            Some(&Agent::There { wants }) => wants,
            Some(Agent::Gone) | None => 0,
        }
    }

    /// Bytes that requests are bringing to a host, on any device.
    fn on_its_way(&self, port: &Port) -> u64 {
        let entries = self.requests.values().filter(|entry| entry.is_open());
        let its = entries.filter(|entry| {
            let to = entry.to.and_then(|to| self.devices[entry.on].ports.get(&to));
            to.is_some_and(|to| to.name == port.name)
        });
        let left = its.map(|entry| {
            let report = &entry.record.report;
            report.asked.saturating_sub(report.accepted).saturating_sub(report.refused)
        });
        left.fold(0, u64::saturating_add)
    }

    fn own_requests(&self, on: usize, host: HostId) -> impl Iterator<Item = &Entry> {
        self.requests.values().filter(move |entry| {
            let is_own = entry.record.origin == Origin::Balance;
            let is_its = entry.to == Some(host) || entry.from == Some(host);
            entry.is_open() && is_own && entry.on == on && is_its
        })
    }

    /// What was offered to a host of the manager's own accord was not all taken, or not to be had.
    pub(super) fn declined(&mut self, on: usize, host: HostId) {
        self.devices[on].port_mut(host).declined_until = self.now.after(self.timing.settle);
    }

    fn weight(&self, on: usize, host: HostId) -> u64 {
        u64::from(self.devices[on].ports[&host].limits().weight)
    }

    /// How much a host has for its weight.
    fn provided(&self, on: usize, host: HostId) -> u64 {
        self.coming_to(on, host, None) / self.weight(on, host)
    }

    fn block(&self, on: usize) -> u64 {
        let regions = self.devices[on].regions.iter();
        regions.map(|region| region.block_size).max().unwrap_or(1)
    }

    /// What a host can give without noticing, if it said what it uses.
    fn spare(&self, on: usize, host: HostId) -> u64 {
        let device = &self.devices[on];
        let port = &device.ports[&host];
        let block = self.block(on);
        let Some(used) = port.used else { return 0 };
        let is_asked = self.asked_of(on, host).bytes() != 0;
        let wants = self.wants(port) != 0 || port.offer.is_some();
        if wants || is_asked || self.now < port.got_until.max(port.gave_until) {
            return 0;
        }
        let held = device.held_bytes(host);
        let keeps = used.saturating_add((used / 8).max(block)).max(port.limits().minimum);
        held.saturating_sub(keeps) / block * block
    }

    /// Has those that can give to a host do so, those with most for their weight first.
    fn ask_others(&mut self, on: usize, to: HostId, wants: u64) {
        let others = self.devices[on].ports.keys().copied().filter(|&host| host != to);
        let mut others: Vec<(HostId, u64)> = others
            .map(|host| (host, self.spare(on, host)))
            .filter(|&(_, spare)| spare != 0)
            .collect();
        others.sort_by_key(|&(host, _)| (Reverse(self.provided(on, host)), host));
        let mut left = wants.min(self.room(on, to, None)) / self.block(on) * self.block(on);
        for (from, spare) in others {
            let bytes = spare.min(left);
            if bytes != 0 && self.make_own(on, Some(from), to, bytes) == Made::Yes {
                left -= bytes;
                let until = self.now.after(self.timing.settle);
                self.devices[on].port_mut(from).gave_until = until;
                self.devices[on].port_mut(to).got_until = until;
            }
        }
    }

    fn make_own(&mut self, on: usize, from: Option<HostId>, to: HostId, size: u64) -> Made {
        let device = &self.devices[on];
        let place = |host: HostId| Place {
            host: device.ports[&host].name.clone(),
            device: Some(device.name.clone()),
            region: None,
        };
        let (rest, deadline) = (Rest::Drop, None);
        let request = match from {
            Some(from) => {
                let to = device.ports[&to].name.clone();
                Request::Move { from: place(from), to, size, rest, deadline }
            }
            None => Request::Add {
                to: place(to),
                size,
                tag: Tag::NULL,
                policy: Policy::Free,
                rest,
                deadline,
            },
        };
        let last = self.requests.keys().next_back().map_or(0, |id| id.0);
        let id = RequestId(last.saturating_add(1).max(FIRST_OWN_ID));
        let open = self.requests.values().filter(|entry| entry.is_open()).count();
        // Half of all places are left to operators.
        if open >= MAX_OPEN / 2 || self.requests.contains_key(&id) {
            return Made::No;
        }
        let Ok(mut entry) = self.check(self.now, id, request) else { return Made::No };
        entry.record.origin = Origin::Balance;
        if from.is_none() {
            let until = self.now.after(self.timing.settle);
            self.devices[on].port_mut(to).got_until = until;
        }
        self.enter(id, entry);
        Made::Yes
    }
}

/// Whether a request was made.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Made {
    Yes,
    No,
}
