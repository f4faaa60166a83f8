//! The end: no more faults, everything comes to rest, all agree, and all of it comes back.

use std::{collections::BTreeSet, time::Duration};

use memtide_cxl::{
    command::{HostId, fabric_manager::HostRegion},
    manager::{
        DeviceStatus, Forcing, Former, Input, Key, Limits, Manager, Place, Policy, Request,
        RequestError, Rest, Value, What,
    },
};
use memtide_units::{DpaRange, Tag};

use super::{BLOCK, Kind, World};
use crate::{
    agent::{Agent, Did, Programs},
    link::Link,
};

impl World {
    /// No more faults, until nothing happens any more but time, for a good while.
    pub(super) fn come_to_rest(&mut self) {
        self.say(|| "no more faults".into());
        for id in self.operator.open() {
            let request = self.operator.sent[&id].0.clone();
            self.run_until_idle();
            let _: Result<(), RequestError> = self.ask(id, request);
        }
        let until = self.now.after(Duration::from_secs(60));
        while self.now < until {
            self.run_until_idle();
            let agents = self.agents.iter().filter_map(Agent::next_deadline);
            let manager = self.manager.as_ref().and_then(Manager::next_deadline);
            let next = agents.chain(manager).filter(|&at| at > self.now).min();
            self.now = next.unwrap_or(until);
            self.tell_manager(Input::Tick);
        }
        self.run_until_idle();
    }

    fn run_until_idle(&mut self) {
        for _ in 0..20_000 {
            let mut did = Did::Nothing;
            let is_moving = self.manager.is_none() || self.link != Link::Idle || self.interrupt;
            if is_moving {
                self.move_link();
                did = Did::Something;
            }
            for at in 0..self.agents.len() {
                if self.move_agent(at) == Did::Something {
                    did = Did::Something;
                }
            }
            while !self.judge.sanitizing.is_empty() {
                self.sanitize();
                did = Did::Something;
            }
            self.look();
            if did == Did::Nothing {
                return;
            }
        }
        panic!("it does not come to rest");
    }

    /// Nothing is kept for a host that it never had. (Where messages are lost, that is not known.)
    fn nothing_is_withheld_in_vain(&self) {
        if self.faults != Kind::Calm {
            return;
        }
        for (key, value) in &self.store {
            let (Key::Unsanitized(_, former), Value::Extents(extents)) = (key, value) else {
                continue;
            };
            for block in extents.iter().flat_map(|&range| self.judge.blocks(range)) {
                let had = self.judge.had(HostId(former.host), block);
                assert!(had, "{former:?} never had {block:#x}");
            }
        }
    }

    /// Every request has ended that does not stand; device, hosts and manager say the same.
    pub(super) fn agree(&self) {
        let manager = self.manager.as_ref().expect("it runs");
        self.device.validate();
        for id in self.operator.open() {
            let request = &self.operator.sent[&id].0;
            let stands = matches!(
                request,
                Request::Add { rest: Rest::Stand, .. }
                    | Request::Release { rest: Rest::Stand, .. }
                    | Request::Move { rest: Rest::Stand, .. }
            );
            assert!(stands, "{id} {request:?} has no answer: {:?}", manager.report(id));
        }
        let status = manager.devices().remove(0);
        for host in &status.hosts {
            let held = self.judge.held(host.host);
            assert_eq!(host.held, held, "{:?}", host.host);
            assert_eq!(self.device.offers(host.host).count(), 0, "{:?} answers", host.host);
            assert_eq!(host.pending, 0, "{:?}: nothing is offered", host.host);
        }
        let again = Manager::restore(self.config.clone(), self.now, self.store.clone());
        let again = again.expect("the configuration is as it was");
        let known: Vec<_> = manager.requests().map(|(id, what, _)| (id, what.clone())).collect();
        let durable: Vec<_> = again.requests().map(|(id, what, _)| (id, what.clone())).collect();
        assert_eq!(known, durable, "what is known is durable");
        self.nothing_is_withheld_in_vain();
    }

    /// Nothing is wanted any more: all of it comes back.
    pub(super) fn give_all_back(&mut self) {
        for at in 0..self.agents.len() {
            let host = self.names[at].clone();
            self.tell_manager(Input::HostWants { host, bytes: 0 });
            self.agents[at].programs = Programs::Ended;
            self.agents[at].free_some(self.now, &mut self.random, 1);
        }
        for request in self.operator.open() {
            let id = self.operator.next_id();
            self.ask(id, Request::Cancel { request }).expect("it is open");
        }
        self.come_to_rest();
        assert_eq!(self.operator.open(), [], "every request has ended");
        self.unreference();
        for at in 0..self.names.len() {
            self.release_all_of(at);
        }
        self.come_to_rest();
        self.agree();
        assert_eq!(self.operator.open(), [], "every request has ended");
        for agent in &self.agents {
            assert_eq!(self.judge.held(agent.host), 0, "{:?} has given all back", agent.host);
        }
        let status = self.manager.as_ref().expect("it runs").devices().remove(0);
        let strange: u64 = status.hosts.iter().map(|host| host.held).sum();
        assert_eq!(status.free, status.capacity.min(addresses(&status) - strange), "all is free");
    }

    /// All that came back can be given out again, to one host and to another.
    pub(super) fn give_all_out(&mut self) {
        // What only one of them may get is anybody's once it had it and was asked for it.
        for at in 0..self.names.len() {
            for (region, extents) in self.kept_for(at) {
                self.count("hosts with something of their own");
                self.add(at, Policy::Prescriptive(extents), Tag::NULL, 0, region);
            }
            self.release_all_of(at);
            self.run_until_idle();
        }
        let mut left = (0..self.names.len()).flat_map(|at| self.kept_for(at));
        assert_eq!(left.next(), None, "all of that was overwritten");
        for at in 0..2 {
            let given = self.give_all_to(at);
            assert_eq!(given, self.to_be_had(), "{:?} gets all that there is", self.names[at]);
            self.release_all_of(at);
            self.come_to_rest();
        }
        self.agree();
    }

    /// What only this host may get, by region.
    fn kept_for(&self, at: usize) -> Vec<(u8, Vec<DpaRange>)> {
        let host = &self.config.devices[0].hosts[at];
        let former = Former { host: host.host.0, name: Some(host.name.clone()) };
        let key = Key::Unsanitized(self.device_name(), former);
        let Some(Value::Extents(extents)) = self.store.get(&key) else { return Vec::new() };
        let status = self.manager.as_ref().expect("it runs").devices().remove(0);
        let in_region = |(number, region): (u8, &HostRegion)| {
            let block = region.block_size;
            let starts = (region.base..region.base + region.length).step_by(block as usize);
            let blocks = starts.map(|start| DpaRange::new(start, block));
            let kept = blocks.filter(|block| extents.iter().any(|range| range.overlaps(*block)));
            (number, kept.collect::<Vec<_>>())
        };
        let regions = (0..).zip(&status.regions).map(in_region);
        regions.filter(|(_, kept)| !kept.is_empty()).collect()
    }

    /// What is free and not kept for somebody who is not there.
    fn to_be_had(&self) -> u64 {
        let status = self.manager.as_ref().expect("it runs").devices().remove(0);
        let known = |host: HostId| self.config.devices[0].hosts.iter().any(|it| it.host == host);
        let strange = status.hosts.iter().filter(|host| !known(host.host));
        let strange = strange.flat_map(|host| &host.extents).map(|extent| extent.range);
        let strange: BTreeSet<u64> = strange.flat_map(|range| self.judge.blocks(range)).collect();
        let mut kept = BTreeSet::new();
        for (key, value) in &self.store {
            if let (Key::Unsanitized(_, former), Value::Extents(extents)) = (key, value)
                && !self.is_set_up(former)
            {
                kept.extend(extents.iter().flat_map(|&range| self.judge.blocks(range)));
            }
        }
        let mut left = status.capacity - strange.len() as u64 * BLOCK;
        let nobodys: BTreeSet<u64> = kept.union(&strange).copied().collect();
        // In the order in which all is asked for: what is left may be less than a block.
        let gives = |region: &HostRegion| {
            let all = self.judge.blocks(DpaRange::new(region.base, region.length));
            let free = all.filter(|block| !nobodys.contains(block)).count() as u64 * BLOCK;
            let given = free.min(left) / region.block_size * region.block_size;
            left -= given;
            given
        };
        status.regions.iter().rev().map(gives).sum()
    }

    fn is_set_up(&self, former: &Former) -> bool {
        let mut hosts = self.config.devices[0].hosts.iter();
        hosts.any(|host| host.host.0 == former.host && Some(&host.name) == former.name.as_ref())
    }

    /// Asks for all that there is, for one host; how much that is.
    fn give_all_to(&mut self, at: usize) -> u64 {
        let status = self.manager.as_ref().expect("it runs").devices().remove(0);
        let mut sharable_first: Vec<(u8, &HostRegion)> = (0..).zip(&status.regions).collect();
        sharable_first.reverse();
        let before = self.judge.held(self.agents[at].host);
        assert_eq!(before, 0, "it gave all back");
        for (number, region) in sharable_first {
            let tag = match self.judge.is_sharable(region.base) {
                true => Tag([100 + number; 16]),
                false => Tag::NULL,
            };
            self.add(at, Policy::Free, tag, region.length, number);
        }
        self.count("times that all was given out");
        self.judge.held(self.agents[at].host)
    }

    fn add(&mut self, at: usize, policy: Policy, tag: Tag, size: u64, region: u8) {
        let to = Place { host: self.names[at].clone(), device: None, region: Some(region) };
        let (rest, deadline) = (Rest::Drop, None);
        let id = self.operator.next_id();
        let request = Request::Add { to, size, tag, policy, rest, deadline };
        self.ask(id, request).expect("it could be");
        self.run_until_idle();
    }

    fn unreference(&mut self) {
        let status = self.manager.as_ref().expect("it runs").devices().remove(0);
        for tag in status.tags.iter().filter(|info| info.referenced) {
            let (id, device) = (self.operator.next_id(), self.device_name());
            let request = Request::RemoveReference { device, tag: tag.tag };
            self.ask(id, request).expect("it is kept");
            self.run_until_idle();
        }
    }

    fn release_all_of(&mut self, at: usize) {
        let place = Place { host: self.names[at].clone(), device: None, region: None };
        let limits = Limits::default();
        let id = self.operator.next_id();
        let host = self.agents[at].host;
        self.judge.limits.insert(host, limits);
        self.ask(id, Request::SetLimits { of: place.clone(), limits }).expect("fewer promises");
        let held = self.judge.held(host);
        if held == 0 {
            return;
        }
        let id = self.operator.next_id();
        let request = Request::Release {
            from: place,
            what: What::Size(held),
            forcing: Forcing::Never,
            rest: Rest::Stand,
            deadline: None,
        };
        self.ask(id, request).expect("it has so much");
    }
}

fn addresses(status: &DeviceStatus) -> u64 {
    status.regions.iter().map(|region| region.length).sum()
}
