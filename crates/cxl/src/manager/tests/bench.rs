//! A manager, a device of four blocks of 256 MiB for each of two regions, and three hosts.

use alloc::{collections::BTreeMap, format, vec, vec::Vec};
use core::time::Duration;

use memtide_units::{DpaRange, Instant, RequestId, Tag};

use crate::{
    ReturnCode,
    command::{
        HostId, More, Sanitize,
        dynamic_capacity::{AddResponse, GetExtentList, Release},
        events::{Clear, ClearEventRecords, EventLog, GetEventRecords},
    },
    device::{self, Device, RegionConfig, SanitizeControl, Sharing},
    manager::*,
};

pub(crate) const GIB: u64 = 1 << 30;
pub(crate) const BLOCK: u64 = 256 << 20;

/// What a host makes of an offer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Answers {
    All,
    FirstExtent,
    Nothing,
    Never,
}

/// What becomes of the next command.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Fate {
    Done,
    Lost,
    ReplyLost,
}

pub(crate) struct Bench {
    pub(crate) manager: Manager,
    pub(crate) device: Device,
    pub(crate) now: Instant,
    pub(crate) config: Config,
    pub(crate) store: BTreeMap<Key, Value>,
    pub(crate) answers: [Answers; 3],
    /// What the device does not do, whatever it is in fact.
    pub(crate) refuses: fn(&Command) -> Option<ReturnCode>,
    /// What happened, in order.
    pub(crate) out: Vec<Output>,
    setup: device::Config,
    next_id: u64,
    commands: Vec<Command>,
}

fn region(number: u64, sharing: Sharing, sanitize: Sanitize) -> RegionConfig {
    RegionConfig {
        base: number * GIB,
        decode_length: GIB,
        length: GIB,
        block_size: BLOCK,
        block_sizes: BLOCK,
        dsmad_handle: 0,
        sharing,
        sanitize,
        sanitize_control: SanitizeControl::Fixed,
    }
}

/// The region that every bench has.
pub(crate) fn first_region() -> RegionConfig {
    region(0, Sharing::Exclusive, Sanitize::OnRelease)
}

impl Bench {
    /// Two exclusive regions, hosts without limits.
    pub(crate) fn new() -> Self {
        Self::with([Limits::default(); 3], Sharing::Exclusive, Sanitize::OnRelease)
    }

    pub(crate) fn with(limits: [Limits; 3], second: Sharing, sanitize: Sanitize) -> Self {
        let setup = device::Config {
            serial: 7,
            hosts: 3,
            regions: vec![
                region(0, Sharing::Exclusive, sanitize),
                region(1, second, Sanitize::OnRelease),
            ],
            total_capacity: 2 * GIB,
            limits: device::Limits::default(),
        };
        let host = |(number, limits): (u16, Limits)| HostConfig {
            name: format!("h{number}").parse().expect("a name"),
            host: HostId(number),
            limits,
        };
        let hosts = (0..).zip(limits).map(host).collect();
        let name = "d".parse().expect("a name");
        let devices = vec![DeviceConfig { name, chooser: Chooser::Manager, hosts }];
        let config = Config { devices, timing: Timing::default() };
        let mut bench = Self {
            manager: Manager::new(config.clone()).expect("it makes sense"),
            device: Device::new(setup.clone()).expect("it makes sense"),
            setup,
            now: Instant::default(),
            config,
            store: BTreeMap::new(),
            answers: [Answers::All; 3],
            refuses: |_| None,
            out: Vec::new(),
            next_id: 0,
            commands: Vec::new(),
        };
        bench.tell(Input::DeviceUp { device: bench.name() });
        bench.run();
        bench
    }

    pub(crate) fn name(&self) -> DeviceName {
        self.config.devices[0].name.clone()
    }

    pub(crate) fn host(&self, number: u64) -> HostName {
        format!("h{number}").parse().expect("a name")
    }

    pub(crate) fn place(&self, number: u64) -> Place {
        Place { host: self.host(number), device: None, region: None }
    }

    pub(crate) fn add(&self, host: u64, size: u64, rest: Rest) -> Request {
        let (tag, policy) = (Tag::NULL, Policy::Free);
        Request::Add { to: self.place(host), size, tag, policy, rest, deadline: None }
    }

    pub(crate) fn release(&self, host: u64, size: u64, forcing: Forcing, rest: Rest) -> Request {
        let deadline = Some(Duration::from_secs(5));
        Request::Release { from: self.place(host), what: What::Size(size), forcing, rest, deadline }
    }

    pub(crate) fn tell(&mut self, input: Input) {
        let out = self.manager.handle(self.now, input).expect("the test says what can be");
        self.take(out);
    }

    pub(crate) fn take_command(&mut self) -> Option<Command> {
        self.commands.pop()
    }

    /// The command that is under way.
    pub(crate) fn next_command(&self) -> Option<&Command> {
        self.commands.last()
    }

    pub(crate) fn take_all(&mut self, out: Vec<Output>) {
        self.take(out);
    }

    /// What comes out; what has to last comes before everything else.
    fn take(&mut self, out: Vec<Output>) {
        for (at, output) in out.into_iter().enumerate() {
            match &output {
                Output::Journal(records) => {
                    assert_eq!(at, 0, "first what lasts, then what rests on it");
                    for record in records.clone() {
                        match record.value {
                            Some(value) => self.store.insert(record.key, value),
                            None => self.store.remove(&record.key),
                        };
                    }
                }
                Output::Command { command, .. } => self.commands.push(command.clone()),
                _ => {}
            }
            self.out.push(output);
        }
    }

    /// Asks, and has everything done that can be.
    pub(crate) fn ask(&mut self, request: Request) -> Result<Report, RequestError> {
        self.next_id += 1;
        let id = RequestId(self.next_id);
        self.ask_as(id, request)
    }

    pub(crate) fn ask_as(
        &mut self,
        id: RequestId,
        request: Request,
    ) -> Result<Report, RequestError> {
        let out = self.manager.request(self.now, id, request)?;
        self.take(out);
        self.run();
        Ok(self.report(id))
    }

    pub(crate) fn report(&self, id: RequestId) -> Report {
        self.manager.report(id).expect("it is known")
    }

    /// Passes time, and has everything done that can be.
    pub(crate) fn wait(&mut self, seconds: u64) {
        let until = self.now.after(Duration::from_secs(seconds));
        while let Some(next) = self.manager.next_deadline().filter(|&next| next <= until) {
            self.now = next;
            self.tell(Input::Tick);
            self.run();
        }
        self.now = until;
        self.tell(Input::Tick);
        self.run();
    }

    /// One command, if there is one.
    pub(crate) fn step(&mut self, fate: Fate) -> Option<Command> {
        let command = self.commands.pop()?;
        assert!(self.commands.is_empty(), "one command at a time");
        let device = self.name();
        let done = |device: &mut Device| match (self.refuses)(&command) {
            Some(code) => Err(code),
            None => execute(device, &command),
        };
        let reply = (fate != Fate::Lost).then(|| done(&mut self.device));
        match (reply, fate) {
            (Some(reply), Fate::Done) => self.tell(Input::Reply { device, reply }),
            _ => {
                self.tell(Input::DeviceDown { device: device.clone() });
                self.tell(Input::DeviceUp { device });
            }
        }
        Some(command)
    }

    /// Everything that can be done without time passing. All commands that were given.
    pub(crate) fn run(&mut self) -> Vec<Command> {
        let mut given = Vec::new();
        for _ in 0..2000 {
            if let Some(command) = self.step(Fate::Done) {
                given.push(command);
                continue;
            }
            if !self.hosts_answer() {
                return given;
            }
        }
        panic!("it does not come to rest: {:?}", given.last());
    }

    /// One that is set up as the device was, and of which nobody has anything.
    pub(crate) fn another_device(&self) -> Device {
        Device::new(self.setup.clone()).expect("there is one already")
    }

    /// The device's records for the manager are lost.
    pub(crate) fn forget_records(&mut self) {
        let log = EventLog::DynamicCapacity;
        let read = Command::GetEventRecords(GetEventRecords { log });
        let Ok(Response::EventRecords(records)) = execute(&mut self.device, &read) else {
            panic!("it has a log")
        };
        let handles = records.records.iter().map(|record| record.handle).collect();
        let clear = ClearEventRecords { log, what: Clear::Handles(handles) };
        let done = execute(&mut self.device, &Command::ClearEventRecords(clear));
        assert_eq!(done, Ok(Response::Done), "there were some");
    }

    /// A host accepts all that it is offered, and the device's interrupt is lost.
    pub(crate) fn accepts_without_a_word(&mut self, host: u16) {
        let oldest = self.device.offers(HostId(host)).next().expect("it is offered something");
        let accepted = oldest.iter().map(|extent| extent.range).collect();
        let answer = AddResponse { more: More::Last, accepted };
        self.device.add_response(HostId(host), &answer).expect("it is offered");
        self.device.take_effects();
    }

    /// Hosts answer what they were offered; whether one did.
    fn hosts_answer(&mut self) -> bool {
        let mut did = false;
        for host in 0..3_u16 {
            let offers: Vec<Vec<DpaRange>> = self
                .device
                .offers(HostId(host))
                .map(|offer| offer.iter().map(|extent| extent.range).collect())
                .collect();
            for offer in offers {
                let accepted = match self.answers[usize::from(host)] {
                    Answers::All => offer,
                    Answers::FirstExtent => offer[..1].to_vec(),
                    Answers::Nothing => Vec::new(),
                    Answers::Never => continue,
                };
                let answer = AddResponse { more: More::Last, accepted };
                self.device.add_response(HostId(host), &answer).expect("it is offered");
                did = true;
            }
        }
        let sanitizing: Vec<DpaRange> = self.device.sanitizing().collect();
        for range in sanitizing {
            self.device.sanitized(range).expect("it waits for that");
        }
        self.notice(did)
    }

    fn notice(&mut self, did: bool) -> bool {
        let effects = self.device.take_effects();
        let notified = effects.contains(&device::Effect::ManagerEvent);
        if notified {
            self.tell(Input::EventsPending { device: self.name() });
        }
        did || notified
    }

    /// A host gives back.
    pub(crate) fn give(&mut self, host: u16, range: DpaRange) {
        let release = Release { more: More::Last, released: vec![range] };
        self.device.release(HostId(host), &release).expect("it has that");
        self.run();
    }

    pub(crate) fn held(&self, host: u16) -> Vec<DpaRange> {
        let ask = GetExtentList { count: 100, start: 0 };
        let list = self.device.extent_list(HostId(host), &ask).expect("it has this host");
        list.extents.iter().map(|extent| extent.range).collect()
    }

    pub(crate) fn held_bytes(&self, host: u16) -> u64 {
        self.held(host).iter().map(|range| range.length).sum()
    }

    pub(crate) fn restart(&mut self) {
        self.commands.clear();
        let manager = Manager::restore(self.config.clone(), self.now, self.store.clone());
        self.manager = manager.expect("it is set up as before");
        self.tell(Input::DeviceUp { device: self.name() });
        self.run();
    }

    /// Answers of a request, in order.
    pub(crate) fn answers_to(&self, id: RequestId) -> Vec<Report> {
        let reports = self.out.iter().filter_map(|output| match output {
            Output::Answer(report) if report.id == id => Some(report.clone()),
            _ => None,
        });
        reports.collect()
    }
}

/// The device does what it is told, in bytes.
pub(crate) fn execute(device: &mut Device, command: &Command) -> Reply {
    let reply = device.manager(command.opcode(), &command.to_bytes());
    command.reply(reply.code, &reply.payload).expect("what the device says can be read")
}
