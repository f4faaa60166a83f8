//! The manager is set up anew: a host is another machine, with another name, or one that it did not
//! know becomes one of its hosts. Or a host just starts again, and has nothing any more.
//!
//! That is done when nothing is under way: what was offered to a host that is another one now,
//! nobody could tell from what it is offered by its new name.

use memtide_cxl::{
    command::HostId,
    manager::{DeviceState, HostConfig, HostName, Input, Key, Limits, Value},
};

use super::{World, setup};
use crate::{agent::Agent, link::Link};

impl World {
    /// It is stopped and started as another one, if nothing is under way.
    pub(super) fn set_up_anew(&mut self) {
        if self.is_anything_under_way() {
            return;
        }
        let at = self.random.below(self.agents.len() as u64) as usize;
        match self.stranger {
            _ if self.random.below(2) == 0 => return self.start_again(at),
            Some(host) => self.know(host),
            None => self.replace(at),
        }
        self.judge.manager_is_another();
        self.manager = None;
        self.link = Link::Down;
    }

    fn is_anything_under_way(&self) -> bool {
        let Some(manager) = &self.manager else { return true };
        let is_asked = |value: &Value| match value {
            Value::Request(record) => !record.asked_back.is_empty(),
            _ => false,
        };
        let is_offer = |key: &Key| matches!(key, Key::Offer(..) | Key::Withdrawn(..));
        self.interrupt
            || self.link != Link::Idle
            || manager.devices()[0].state != DeviceState::Ready
            || self.store.iter().any(|(key, value)| is_offer(key) || is_asked(value))
            || self.device.hosts().any(|host| self.device.offers(host).next().is_some())
    }

    /// A host is the same machine, which starts again and lets go of what it had.
    fn start_again(&mut self, at: usize) {
        self.count("hosts that let go");
        self.say(|| format!("host {at}: starts again"));
        self.reset(at);
        self.let_go(self.agents[at].host);
        let host = self.names[at].clone();
        self.tell_manager(Input::HostDown { host });
    }

    /// Nothing runs on a host any more, and its log and shares are gone; what it has otherwise stays.
    fn reset(&mut self, at: usize) {
        self.agents[at].crash();
        self.agents[at].used.clear();
        self.device.reset(self.agents[at].host).expect("it has this host");
    }

    /// A host is another machine from now on.
    fn replace(&mut self, at: usize) {
        self.count("hosts replaced");
        let count = self.seen["hosts replaced"];
        let host = self.agents[at].host;
        let name = format!("h{}x{count}", host.0).parse().expect("a name");
        self.say(|| format!("host {at}: is another one, {name}"));
        self.reset(at);
        if self.random.below(2) == 0 {
            self.let_go(host);
        }
        self.judge.is_another(host);
        self.names[at] = name;
        self.config.devices[0].hosts[at].name = self.names[at].clone();
    }

    /// A host that the manager does not know is one of its hosts from now on.
    fn know(&mut self, host: HostId) {
        self.count("strangers set up");
        self.say(|| format!("{host:?}: is set up"));
        let limits = setup::some_limits(&mut self.random);
        let limits = Limits { minimum: 0, ..limits };
        let name: HostName = format!("h{}", host.0).parse().expect("a name");
        let first = &self.agents[0].config;
        let (partitions, splitting) = (first.partitions.clone(), first.splitting);
        self.agents.push(Agent::new(host, partitions, splitting, super::BLOCK));
        self.config.devices[0].hosts.push(HostConfig { name: name.clone(), host, limits });
        self.names.push(name);
        self.judge.limits.insert(host, limits);
        self.judge.is_another(host);
        self.stranger = None;
    }
}
