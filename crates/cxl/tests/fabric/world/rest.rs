//! The end: no more faults, everything comes to rest, all agree, and all of it comes back.

use std::time::Duration;

use memtide_cxl::manager::{
    DeviceStatus, Forcing, Input, Limits, Manager, Place, Request, RequestError, Rest, What,
};

use super::World;
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
    }

    /// Nothing is wanted any more: all of it comes back, and can be given out again.
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
