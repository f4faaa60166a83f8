//! The world: it has all parties, and chance decides whose step is next and what goes wrong.
//! [`setup`]: how it begins. [`anew`]: other hosts for the same device. [`rest`]: how it ends.

mod anew;
mod rest;
mod setup;

use std::{collections::BTreeMap, time::Duration};

use memtide_cxl::{
    ReturnCode,
    command::{
        HostId, More,
        dynamic_capacity::{GetExtentList, Release},
        fabric_manager::{InitiateRelease, Removal},
    },
    device::{Device, Effect, RegionConfig},
    manager::{
        Command, Config, DeviceName, HostName, Input, Key, Limits, Manager, Notice, Output,
        Request, RequestError, Value,
    },
};
use memtide_engine::dynamic_capacity::{Partition, Splitting};
use memtide_units::{DpaRange, Instant, Random, RequestId};

use crate::{
    agent::{Agent, Did},
    judge::Judge,
    link::{Link, execute},
    operator::{Operator, anything},
};

const BLOCK: u64 = 16 << 20;
const REGION: u64 = 256 << 20;

/// What goes wrong.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Kind {
    /// Nothing.
    Calm,
    /// Commands and replies are lost or repeated, logs are short.
    Lossy,
    /// And everybody crashes.
    Stormy,
}

/// Whether the world tells what happens.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Tells {
    All,
    Nothing,
}

pub struct World {
    /// What goes wrong now.
    kind: Kind,
    /// What went wrong at any time.
    faults: Kind,
    random: Random,
    pub tells: Tells,
    now: Instant,
    device: Device,
    judge: Judge,
    agents: Vec<Agent>,
    names: Vec<HostName>,
    config: Config,
    /// Nothing: it is not running.
    manager: Option<Manager>,
    store: BTreeMap<Key, Value>,
    link: Link,
    /// The device's interrupt, as long as it is under way.
    interrupt: bool,
    operator: Operator,
    /// A host that the manager does not know.
    stranger: Option<HostId>,
    /// A manager has read all, and what it knows by that is durable.
    was_read: bool,
    /// What happened, how often.
    seen: Seen,
}

/// What happened, how often.
pub type Seen = BTreeMap<&'static str, u64>;

impl World {
    pub fn new(seed: u64, kind: Kind) -> Self {
        let mut random = Random::new(seed);
        let setup = setup::device(kind, &mut random);
        let mut device = Device::new(setup.clone()).expect("it makes sense");
        // Perhaps a host that the manager does not know, with something of its own.
        let strangers = u16::from(setup.hosts > 2 && random.below(3) == 0);
        let hosts: Vec<HostId> = (0..setup.hosts - strangers).map(HostId).collect();
        if strangers != 0 {
            let host = HostId(setup.hosts - 1);
            let block = setup.regions[0].block_size;
            setup::give(&mut device, host, DpaRange::new(2 * block, block));
        }
        let limits: BTreeMap<HostId, Limits> =
            hosts.iter().map(|&host| (host, setup::some_limits(&mut random))).collect();
        let mut judge =
            Judge::new(BLOCK, setup.regions.clone(), setup.total_capacity, limits.clone());
        for effect in device.take_effects() {
            judge.see(effect, &device);
        }
        let config = setup::config(&mut random, &limits);
        let names = config.devices[0].hosts.iter().map(|host| host.name.clone()).collect();
        let splitting = match random.below(3) {
            _ if setup.regions.len() > 2 => Splitting::Group,
            0 => Splitting::Group,
            1 => Splitting::Extent,
            _ => Splitting::Block,
        };
        let partition = |region: &RegionConfig| Partition {
            range: DpaRange::new(region.base, region.decode_length),
            length: region.length,
            block_bytes: region.block_size,
        };
        let partitions: Vec<Partition> = setup.regions.iter().map(partition).collect();
        let agent = |&host: &HostId| Agent::new(host, partitions.clone(), splitting, BLOCK);
        Self {
            kind,
            faults: kind,
            tells: Tells::Nothing,
            now: Instant::default(),
            agents: hosts.iter().map(agent).collect(),
            names,
            manager: Some(Manager::new(config.clone()).expect("it makes sense")),
            config,
            random,
            device,
            judge,
            store: BTreeMap::new(),
            link: Link::Down,
            interrupt: false,
            operator: Operator::default(),
            was_read: false,
            seen: Seen::new(),
            stranger: (strangers != 0).then(|| HostId(setup.hosts - 1)),
        }
    }

    fn say(&self, text: impl FnOnce() -> String) {
        if self.tells == Tells::All {
            println!("{:>8} ms  {}", self.now.0.as_millis(), text());
        }
    }

    fn device_name(&self) -> DeviceName {
        self.config.devices[0].name.clone()
    }

    fn count(&mut self, what: &'static str) {
        *self.seen.entry(what).or_default() += 1;
    }

    /// The whole story.
    pub fn run(mut self) -> Seen {
        for _ in 0..300 {
            self.step();
            self.look();
        }
        self.kind = Kind::Calm;
        self.come_to_rest();
        self.agree();
        self.give_all_back();
        self.give_all_out();
        self.seen
    }

    /// One step of somebody.
    fn step(&mut self) {
        self.now = self.now.after(Duration::from_millis(self.random.below(120)));
        if self.random.below(60) == 0 {
            self.now = self.now.after(Duration::from_secs(self.random.below(8)));
        }
        match self.random.below(107) {
            0..=54 => self.move_link(),
            55..=74 => {
                let at = self.random.below(self.agents.len() as u64) as usize;
                let _: Did = self.move_agent(at);
            }
            75..=81 => self.ask_anything(),
            82..=86 => self.sanitize(),
            87..=89 => self.use_less(),
            90..=93 => self.want(),
            94..=96 => self.tell_manager(Input::Tick),
            97..=103 => self.set_up_anew(),
            _ => self.crash_somebody(),
        }
    }

    fn look(&mut self) {
        for effect in self.device.take_effects() {
            self.say(|| format!("  device: {effect:?}"));
            if effect == Effect::ManagerEvent {
                self.interrupt = true;
            }
            self.judge.see(effect, &self.device);
        }
        self.judge.judge(&self.device);
    }

    fn chance(&mut self, from: Kind, one_in: u64) -> bool {
        self.kind >= from && self.random.below(one_in) == 0
    }

    fn move_link(&mut self) {
        let device = self.device_name();
        if self.manager.is_none() {
            self.restore();
            return;
        }
        match std::mem::replace(&mut self.link, Link::Idle) {
            Link::Down => {
                self.tell_manager(Input::DeviceUp { device });
            }
            Link::Idle if self.interrupt => {
                self.interrupt = false;
                self.tell_manager(Input::EventsPending { device });
            }
            Link::Idle => {}
            Link::Asked(command) => {
                if self.chance(Kind::Lossy, 40) {
                    self.break_link();
                    return;
                }
                if let Command::InitiateRelease(release) = &command {
                    let told = self.named_by(release);
                    self.judge.told(&told);
                }
                let reply = execute(&mut self.device, &command);
                self.say(|| format!("device: {command:?} -> {reply:?}"));
                if self.chance(Kind::Lossy, 20) {
                    let again = execute(&mut self.device, &command);
                    self.say(|| format!("device: once more -> {again:?}"));
                }
                self.link = Link::Replied(reply);
            }
            Link::Replied(_) if self.chance(Kind::Lossy, 40) => self.break_link(),
            Link::Replied(reply) => self.tell_manager(Input::Reply { device, reply }),
        }
    }

    /// What a release names.
    fn named_by(&self, release: &InitiateRelease) -> Vec<DpaRange> {
        if release.removal == Removal::Prescriptive {
            return release.extents.iter().map(|extent| extent.range).collect();
        }
        let held = self.device.held(release.host);
        held.filter(|extent| extent.tag == release.tag).map(|extent| extent.range).collect()
    }

    fn break_link(&mut self) {
        self.link = Link::Down;
        let device = self.device_name();
        self.say(|| "link: down".into());
        self.tell_manager(Input::DeviceDown { device });
    }

    fn restore(&mut self) {
        self.say(|| "manager: starts again".into());
        let manager = Manager::restore(self.config.clone(), self.now, self.store.clone());
        self.manager = Some(manager.expect("the configuration is as it was"));
        self.link = Link::Down;
        for at in 0..self.agents.len() {
            if self.agents[at].is_running() {
                self.greet(at);
            }
        }
    }

    fn greet(&mut self, at: usize) {
        let (host, device) = (self.names[at].clone(), self.device_name());
        let used = self.agents[at].used_bytes();
        self.tell_manager(Input::HostUp { host: host.clone() });
        self.tell_manager(Input::HostUses { host, device, used });
    }

    fn tell_manager(&mut self, input: Input) {
        if let Some(mut manager) = self.manager.take() {
            let text = format!("{input:?}");
            let out = manager.handle(self.now, input).expect("the world says what can be");
            if !out.is_empty() {
                self.say(|| format!("manager hears {text}"));
            }
            self.manager = Some(manager);
            self.carry_out(out);
        }
    }

    /// Does what the manager says, in order; it may fall over at any point.
    fn carry_out(&mut self, out: Vec<Output>) {
        for output in out {
            if self.chance(Kind::Stormy, 150) {
                self.say(|| "manager: crashes".into());
                self.manager = None;
                self.link = Link::Down;
                return;
            }
            self.say(|| format!("  manager: {output:?}"));
            match output {
                Output::Journal(records) => {
                    for record in records {
                        match record.value {
                            Some(value) => self.store.insert(record.key, value),
                            None => self.store.remove(&record.key),
                        };
                    }
                }
                Output::Command { command, .. } => {
                    assert_eq!(self.link, Link::Idle, "one command at a time");
                    self.link = Link::Asked(command);
                }
                Output::Answer(report) => self.operator.hear(&report),
                Output::Note { notice, .. } => {
                    match notice {
                        Notice::Withdrawn { .. } => self.count("offers withdrawn"),
                        Notice::Withheld { .. } => self.count("starts with something withheld"),
                        Notice::NoLongerFits { .. } => self.count("offers that fit no longer"),
                        _ => {}
                    }
                    self.was_read |= matches!(notice, Notice::Ready { .. });
                    self.judge_notice(&notice);
                }
                Output::Taken { .. } => {}
            }
        }
    }

    /// Without faults the manager never offers what it should know is not free.
    fn judge_notice(&self, notice: &Notice) {
        assert!(!matches!(notice, Notice::TwoOwners { .. }), "{notice}");
        if let Notice::Refused { command: Command::InitiateAdd(add), code } = notice {
            let is_taken = *code == ReturnCode::INVALID_EXTENT_LIST;
            assert!(self.faults != Kind::Calm || !is_taken, "{add:?} is refused: {code}");
        }
    }

    fn move_agent(&mut self, at: usize) -> Did {
        if self.chance(Kind::Stormy, 80) {
            self.say(|| format!("host {at}: crashes"));
            self.agents[at].crash();
            let host = self.names[at].clone();
            self.tell_manager(Input::HostDown { host });
            return Did::Something;
        }
        let was_running = self.agents[at].is_running();
        let did = self.agents[at].step(&mut self.device, self.now, &mut self.random);
        if did == Did::Something {
            self.say(|| format!("host {at}: a step"));
        }
        if !was_running {
            self.greet(at);
        }
        self.look();
        if let Some(answer) = self.agents[at].answers.pop_front() {
            if !self.chance(Kind::Lossy, 5) {
                let (host, device) = (self.names[at].clone(), self.device_name());
                self.tell_manager(Input::HostAnswer { host, device, answer });
            }
            return Did::Something;
        }
        did
    }

    fn ask_anything(&mut self) {
        let open = self.operator.open();
        if !open.is_empty() && self.random.below(4) == 0 {
            let id = open[self.random.below(open.len() as u64) as usize];
            let request = self.operator.sent[&id].0.clone();
            let _: Result<(), RequestError> = self.ask(id, request);
            return;
        }
        let Some(manager) = &self.manager else { return };
        let status = manager.devices().remove(0);
        let request = anything(&mut self.random, &status, &self.names, BLOCK, &open);
        let id = self.operator.next_id();
        let _: Result<(), RequestError> = self.ask(id, request);
    }

    fn ask(&mut self, id: RequestId, request: Request) -> Result<(), RequestError> {
        let Some(mut manager) = self.manager.take() else { return Ok(()) };
        let before = manager.requests().count();
        self.say(|| format!("operator: {id} {request:?}"));
        let out = manager.request(self.now, id, request.clone());
        match &out {
            Ok(_) => {
                self.operator.sent.entry(id).or_insert((request, None));
            }
            Err(why) => {
                assert_eq!(manager.requests().count(), before, "a refused request is none");
                self.say(|| format!("  refused: {why}"));
                // One that was sent before, lost by a crash before it was durable, and cannot be
                // any more: the operator knows that now.
                self.operator.sent.remove(&id);
            }
        }
        self.manager = Some(manager);
        self.carry_out(out?);
        Ok(())
    }

    fn sanitize(&mut self) {
        let waiting = &mut self.judge.sanitizing;
        if waiting.is_empty() {
            return;
        }
        let at = self.random.below(waiting.len() as u64) as usize;
        let range = waiting.swap_remove(at);
        self.judge.overwritten(range);
        self.device.sanitized(range).expect("the device asked for it");
    }

    /// A host releases all that it has, unasked.
    fn let_go(&mut self, host: HostId) {
        let ask = GetExtentList { count: 1000, start: 0 };
        let held = self.device.extent_list(host, &ask).expect("it has this host").extents;
        let released: Vec<DpaRange> = held.iter().map(|extent| extent.range).collect();
        if !released.is_empty() {
            self.say(|| format!("{host:?}: lets go of {released:?}"));
            let release = Release { more: More::Last, released };
            self.device.release(host, &release).expect("it has that");
        }
    }

    fn use_less(&mut self) {
        if self.random.below(4) == 0
            && let Some(stranger) = self.stranger.filter(|_| self.was_read)
        {
            self.let_go(stranger);
        }
        let at = self.random.below(self.agents.len() as u64) as usize;
        self.agents[at].free_some(self.now, &mut self.random, 2);
        self.tell_uses(at);
    }

    fn tell_uses(&mut self, at: usize) {
        if self.agents[at].is_running() {
            let (host, device) = (self.names[at].clone(), self.device_name());
            let used = self.agents[at].used_bytes();
            self.tell_manager(Input::HostUses { host, device, used });
        }
    }

    fn want(&mut self) {
        let at = self.random.below(self.agents.len() as u64) as usize;
        self.tell_uses(at);
        let bytes = self.random.below(6) * BLOCK;
        let host = self.names[at].clone();
        self.say(|| format!("host {at}: wants {bytes:#x}"));
        self.tell_manager(Input::HostWants { host, bytes });
    }

    fn crash_somebody(&mut self) {
        if !self.chance(Kind::Stormy, 3) {
            return;
        }
        if self.random.below(2) == 0 {
            self.say(|| "manager: is killed".into());
            self.manager = None;
            self.link = Link::Down;
            return;
        }
        let at = self.random.below(self.agents.len() as u64) as usize;
        self.agents[at].crash();
        if self.random.below(3) == 0 {
            // The machine is reset, not just the agent: nothing runs on it any more.
            self.say(|| format!("host {at}: reset"));
            let host = self.agents[at].host;
            self.agents[at].used.clear();
            self.device.reset(host).expect("it has this host");
            if self.random.below(2) == 0 {
                // Whoever starts there lets go of what was left, and nobody asked for that.
                self.let_go(host);
            }
        }
        self.look();
        let host = self.names[at].clone();
        self.tell_manager(Input::HostDown { host });
    }
}
