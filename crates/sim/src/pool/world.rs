//! Time passes between the manager, the device and the hosts, and things go wrong.
//!
//! `told` is what the manager does and hears, `hosts` what hosts do, `end` how it all comes to rest.

mod end;
mod hosts;
mod told;

use core::time::Duration;
use std::collections::VecDeque;

use memtide_cxl::{
    command::HostId,
    device::{Device, Effect},
    manager::{
        Chooser, Command, Config, DeviceConfig, DeviceName, HostConfig, HostName, Input, Reply,
    },
};
use memtide_engine::dynamic_capacity::{self as dc, ChainId, DpaRange, Outcome};
use memtide_units::{Instant, Random};

pub(super) use self::end::REST;
use super::{
    center::{Center, Falls},
    host::{Host, takes},
    judge::{Broken, Judge},
    measure::{Account, Measure, Sample},
    plan::{Faults, Plan},
};
use crate::{
    fabric::{LINK, medium},
    machine::{
        queue::Queue,
        trace::{Tracing, note},
    },
};

/// Event records that the device keeps for each host and for the manager.
const RECORDS: u16 = 256;
/// After so long without a reply a line is given up.
const TIMEOUT: Duration = Duration::from_secs(1);
/// A line is tried again after so long.
const REDIAL: Duration = Duration::from_millis(100);

/// Something that is to happen.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Step {
    /// A host needs something else.
    Need(usize),
    /// A host says what it uses and wants, and looks at its log.
    Say(usize),
    /// A host is interrupted.
    Log(usize),
    /// A host's rules are due.
    HostTick(usize),
    /// 4802h, sent by an agent in this life, and the reply.
    Respond(usize, u64, ChainId, Vec<DpaRange>),
    Responded(usize, u64, ChainId, Outcome),
    /// 4803h.
    Release(usize, Vec<DpaRange>),
    /// What was asked back is empty.
    Emptied(usize, u64, Vec<DpaRange>, u64),
    AgentDies,
    AgentStarts(usize),
    /// A host's words reach the manager.
    Word(Input),
    /// A command reaches the device on this line, and its reply the manager.
    Command(u64, Command),
    Reply(u64, Reply),
    /// Nothing came back to this command.
    Timeout(u64),
    Dial,
    /// The manager is interrupted, or looks without that.
    Interrupt,
    Poll,
    Wake,
    ManagerDies,
    ManagerStarts,
    /// What came back has been overwritten.
    Overwritten(Vec<DpaRange>),
    /// An operator asks for something.
    Ask,
    Sample,
}

/// All parties.
pub(super) struct World<'p> {
    pub(super) plan: &'p Plan,
    faults: Faults,
    pub(super) now: Instant,
    queue: Queue<Step>,
    random: Random,
    device: Device,
    judge: Judge,
    center: Center,
    hosts: Vec<Host>,
    names: Vec<HostName>,
    device_name: DeviceName,
    overwritten_until: Instant,
    pub(super) measure: Measure,
    pub(super) steps: u64,
    /// What happened last, if anybody wants to know.
    pub(super) trace: Option<VecDeque<String>>,
}

/// The number of a moment, as queues have it.
fn nanos(at: Instant) -> u64 {
    u64::try_from(at.0.as_nanos()).unwrap_or(u64::MAX)
}

impl<'p> World<'p> {
    pub(super) fn new(plan: &'p Plan, seed: u64, tracing: Tracing) -> Result<Self, Broken> {
        let count = plan.hosts.len();
        let device = medium::device(plan.capacity, plan.block, count as u16, RECORDS)?;
        let ids = || (0..count as u16).map(HostId);
        let names: Vec<HostName> = ids()
            .map(|host| format!("h{}", host.0).parse().expect("a letter and a number"))
            .collect();
        let device_name: DeviceName = "pool".parse().expect("a word");
        let config = |((name, host), plan): ((&HostName, HostId), &super::plan::HostPlan)| {
            HostConfig { name: name.clone(), host, limits: plan.limits }
        };
        let hosts = names.iter().zip(ids()).zip(&plan.hosts).map(config).collect();
        let name = device_name.clone();
        let devices = vec![DeviceConfig { name, chooser: Chooser::Manager, hosts }];
        let limits = plan.hosts.iter().map(|host| host.limits).collect();
        let accounts = vec![Account::default(); count];
        let mut world = Self {
            plan,
            faults: plan.faults,
            now: Instant::default(),
            queue: Queue::default(),
            // Needs were drawn from the seed itself.
            random: Random::new(!seed),
            device,
            judge: Judge::new(plan.capacity, plan.block, limits),
            center: Center::new(Config { devices, timing: plan.timing })?,
            hosts: ids().map(|id| Host::new(id, plan.capacity, plan.block)).collect(),
            names,
            device_name,
            overwritten_until: Instant::default(),
            measure: Measure { accounts, ..Measure::default() },
            steps: 0,
            trace: (tracing == Tracing::On).then(VecDeque::new),
        };
        world.begin();
        Ok(world)
    }

    fn begin(&mut self) {
        for (at, host) in self.plan.hosts.iter().enumerate() {
            host.needs.iter().for_each(|&(when, _)| self.at(Instant(when), Step::Need(at)));
            self.at(Instant::default(), Step::AgentStarts(at));
        }
        self.at(Instant::default(), Step::Dial);
        self.later(self.plan.say_every, Step::Poll);
        self.at(Instant::default(), Step::Sample);
        self.chance_of(self.faults.agent_dies, Step::AgentDies);
        self.chance_of(self.faults.manager_dies, Step::ManagerDies);
        self.chance_of(self.plan.operator_every, Step::Ask);
    }

    /// Runs it for as long as it is measured, and then until it is at rest.
    pub(super) fn run(&mut self, told: &dyn Fn(u64)) -> Result<(), Broken> {
        let end = Instant(self.plan.duration);
        while let Some((at, step)) = self.queue.pop_until(nanos(end)) {
            self.step(at, step)?;
            told(at / (nanos(end) / 1000).max(1));
        }
        self.now = end;
        self.measure.accounts.iter_mut().for_each(|account| account.end(end));
        self.come_to_rest()
    }

    fn at(&mut self, at: Instant, step: Step) {
        self.queue.push(nanos(at), step);
    }

    fn later(&mut self, after: Duration, step: Step) {
        self.at(self.now.after(after), step);
    }

    /// Something that happens now and then: after so long on average.
    fn chance_of(&mut self, every: Option<Duration>, step: Step) {
        if let Some(every) = every {
            let after = self.below(every * 2).max(Duration::from_nanos(1));
            self.later(after, step);
        }
    }

    fn below(&mut self, time: Duration) -> Duration {
        let most = u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        Duration::from_nanos(self.random.below(most.max(1)))
    }

    /// Whether that happens which happens to so many of a thousand.
    fn happens(&mut self, permille: u64) -> bool {
        permille != 0 && self.random.below(1000) < permille
    }

    /// How long a message takes.
    fn travel(&mut self) -> Duration {
        match self.happens(self.faults.late) {
            true => LINK + self.below(self.faults.late_by),
            false => LINK,
        }
    }

    fn step(&mut self, at: u64, step: Step) -> Result<(), Broken> {
        self.now = Instant(Duration::from_nanos(at));
        self.steps += 1;
        self.tell_of(&step);
        match step {
            Step::Need(_) | Step::Say(_) | Step::Log(_) | Step::HostTick(_) => {
                self.host_step(step)?;
            }
            Step::Respond(..) | Step::Responded(..) | Step::Release(..) | Step::Emptied(..) => {
                self.command_step(step)?;
            }
            Step::AgentDies => {
                self.chance_of(self.faults.agent_dies, Step::AgentDies);
                let at = self.random.below(self.hosts.len() as u64) as usize;
                if self.hosts[at].is_running() {
                    self.agent_dies(at);
                }
            }
            Step::AgentStarts(at) => self.agent_starts(at)?,
            Step::Word(input) => self.tell(input)?,
            Step::Command(line, command) => self.command(line, &command)?,
            Step::Reply(line, reply) => self.reply(line, reply)?,
            Step::Timeout(number) => self.timeout(number)?,
            Step::Dial => self.dial()?,
            Step::Interrupt => self.tell_events()?,
            Step::Poll => {
                self.later(self.plan.say_every, Step::Poll);
                self.tell_events()?;
            }
            Step::Wake => {
                // There are some of earlier plans, too.
                if self.center.wakes_at.is_some_and(|due| nanos(due) <= at) {
                    self.center.wakes_at = None;
                    self.tell(Input::Tick)?;
                }
            }
            Step::ManagerDies => {
                self.chance_of(self.faults.manager_dies, Step::ManagerDies);
                if self.center.manager.is_some() {
                    self.center.falls = Falls::Next;
                }
            }
            Step::ManagerStarts => self.manager_starts()?,
            Step::Overwritten(ranges) => {
                for range in ranges {
                    self.judge.overwritten(range)?;
                    self.device.sanitized(range)?;
                }
            }
            Step::Ask => {
                self.chance_of(self.plan.operator_every, Step::Ask);
                self.ask_anything()?;
            }
            Step::Sample => {
                self.sample();
                self.later(self.plan.sample_every, Step::Sample);
            }
        }
        self.look()?;
        self.judge.judge(&self.device)
    }

    /// Something is worth a line if a check fails.
    fn tell_of(&mut self, what: &impl core::fmt::Debug) {
        if let Some(trace) = &mut self.trace {
            note(trace, format!("{} ns: {what:?}", nanos(self.now)));
        }
    }

    /// What the device has to have done, and what it did to the medium.
    fn look(&mut self) -> Result<(), Broken> {
        let mut released = Vec::new();
        for effect in self.device.take_effects() {
            self.tell_of(&effect);
            self.judge.see(effect)?;
            match effect {
                Effect::HostEvent(host) => self.interrupt(Step::Log(host.0.into())),
                Effect::ManagerEvent => self.interrupt(Step::Interrupt),
                Effect::Gained { host, .. } | Effect::Ended { host, .. } => self.holds(host),
                Effect::Sanitize { range } => released.push(range),
                _ => {}
            }
        }
        if !released.is_empty() {
            let bytes = released.iter().map(|range| range.length).sum();
            let start = self.overwritten_until.max(self.now);
            self.overwritten_until = start.after(takes(bytes, self.plan.copied));
            self.at(self.overwritten_until, Step::Overwritten(released));
        }
        Ok(())
    }

    /// Somebody is interrupted, unless that is lost.
    fn interrupt(&mut self, step: Step) {
        if !self.happens(self.faults.lost) {
            self.measure.count("interrupts");
            self.later(LINK, step);
        }
    }

    /// A host has something else.
    fn holds(&mut self, host: HostId) {
        let at = usize::from(host.0);
        self.hosts[at].has = self.judge.held(host);
        self.account(at);
    }

    /// What a host needs and can use, from now on.
    fn account(&mut self, at: usize) {
        let host = &self.hosts[at];
        self.measure.accounts[at].now(self.now, host.need, host.usable());
    }

    fn sample(&mut self) {
        let mut held_bytes = vec![0; self.plan.groups.len()];
        for (host, plan) in self.hosts.iter().zip(&self.plan.hosts) {
            held_bytes[plan.group] += host.has;
        }
        let needed_bytes = self.hosts.iter().map(|host| host.need).sum();
        let at_ms = u64::try_from(self.now.0.as_millis()).unwrap_or(u64::MAX);
        self.measure.curve.push(Sample { at_ms, needed_bytes, held_bytes });
    }

    /// What changed owners.
    pub(super) const fn moved(&self) -> u64 {
        self.judge.moved
    }

    fn feed(&mut self, at: usize, input: dc::Input) -> Result<(), Broken> {
        let doings = self.hosts[at].hear(self.now, input)?;
        self.carry_out(at, doings);
        Ok(())
    }
}
