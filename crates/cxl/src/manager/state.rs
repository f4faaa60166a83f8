//! The state, and the way an input takes through it.
//!
//! An input changes what is known; what time has made due is done; then every device takes its
//! turn: it gets the next command if none is in flight. Whatever changed of what lasts is put
//! before all else that comes out ([`Manager::finish`]).

use alloc::{
    collections::{BTreeMap, BTreeSet},
    string::ToString,
    vec::Vec,
};

use memtide_units::{Instant, RequestId};

use super::{
    config::{Config, ConfigError, MAX_DEVICES, MAX_HOSTS, Timing},
    device::Device,
    entry::{Entry, FIRST_OWN_ID},
    input::{Input, InputError},
    journal::{Key, Record, Value},
    name::{DeviceName, HostName},
    output::{Notice, Output},
    report::Report,
    request::{Request, RequestError},
};

/// The manager of some devices.
#[derive(Clone, Debug)]
pub struct Manager {
    pub(super) timing: Timing,
    pub(super) now: Instant,
    /// By name. Their places never change.
    pub(super) devices: Vec<Device>,
    pub(super) agents: BTreeMap<HostName, Agent>,
    pub(super) requests: BTreeMap<RequestId, Entry>,
    /// What lasts and is not durable yet.
    pub(super) changed: BTreeSet<Key>,
    /// Empty between inputs, but for what a restart brings.
    pub(super) out: Vec<Output>,
}

/// What a host says of itself.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Agent {
    Gone,
    There { wants: u64 },
}

impl Manager {
    /// A manager that knows of nothing but how it is set up.
    ///
    /// # Errors
    /// [`ConfigError`] says what is wrong.
    pub fn new(config: Config) -> Result<Self, ConfigError> {
        config.check()?;
        let mut devices = config.devices;
        devices.sort_by(|one, other| one.name.cmp(&other.name));
        let hosts = devices.iter().flat_map(|device| &device.hosts);
        let agents = hosts.map(|host| (host.name.clone(), Agent::Gone)).collect();
        Ok(Self {
            timing: config.timing,
            now: Instant::default(),
            devices: devices.into_iter().map(Device::new).collect(),
            agents,
            requests: BTreeMap::new(),
            changed: BTreeSet::new(),
            out: Vec::new(),
        })
    }

    /// A manager that goes on where another one was cut off; `journal` is all that was durable.
    /// Time goes on from the same origin; what a clock that was set back calls the future counts as
    /// of `now`. What belongs to hosts or devices that are no longer set up is ended: the answers
    /// come with the first input.
    ///
    /// # Errors
    /// [`ConfigError`] says what is wrong.
    pub fn restore(
        config: Config,
        now: Instant,
        journal: impl IntoIterator<Item = (Key, Value)>,
    ) -> Result<Self, ConfigError> {
        let mut manager = Self::new(config)?;
        manager.now = now;
        let journal: BTreeMap<Key, Value> = journal.into_iter().collect();
        for (key, value) in journal {
            manager.recall(key, value);
        }
        Ok(manager)
    }

    /// An operator asks for something. The same id again with the same request changes nothing, and
    /// is answered once more if it was answered. Ids from 2^63 on are the manager's own.
    ///
    /// # Errors
    /// [`RequestError`]; then nothing changed.
    pub fn request(
        &mut self,
        now: Instant,
        id: RequestId,
        request: Request,
    ) -> Result<Vec<Output>, RequestError> {
        if let Some(known) = self.requests.get(&id) {
            if known.record.request != request {
                return Err(RequestError::IdTaken { id });
            }
            if known.is_answered() {
                let report = self.report_of(known);
                self.out.push(Output::Answer(report));
            }
            return Ok(self.finish());
        }
        if id.0 >= FIRST_OWN_ID {
            return Err(RequestError::IdTaken { id });
        }
        let entry = self.check(now, id, request)?;
        self.now = self.now.max(now);
        self.enter(id, entry);
        self.go_on();
        Ok(self.finish())
    }

    /// Something happened at this time; what is to be done about it, in this order. A time before
    /// that of an earlier input counts as that one's.
    ///
    /// # Errors
    /// [`InputError`] when the caller says what cannot be; then nothing changed.
    pub fn handle(&mut self, now: Instant, input: Input) -> Result<Vec<Output>, InputError> {
        self.apply(now, input)?;
        self.go_on();
        Ok(self.finish())
    }

    fn apply(&mut self, now: Instant, input: Input) -> Result<(), InputError> {
        match input {
            Input::DeviceUp { device } => {
                let on = self.device(&device)?;
                self.pass(now);
                self.connect(on);
            }
            Input::DeviceDown { device } => {
                let on = self.device(&device)?;
                self.pass(now);
                self.disconnect(on);
            }
            Input::Reply { device, reply } => {
                let on = self.device(&device)?;
                let flight = self.devices[on].in_flight.take();
                let Some(flight) = flight else { return Err(InputError::NotAsked { device }) };
                self.pass(now);
                self.replied(on, flight, reply);
            }
            Input::EventsPending { device } => {
                let on = self.device(&device)?;
                self.pass(now);
                self.devices[on].events = super::device::Events::Pending;
            }
            Input::HostUp { host } => {
                self.hear(now, &host)?;
                self.agents.insert(host, Agent::There { wants: 0 });
            }
            Input::HostDown { host } => {
                self.hear(now, &host)?;
                self.agents.insert(host.clone(), Agent::Gone);
                self.forget_words(&host);
            }
            Input::HostAnswer { host, device, answer } => {
                self.host_answered(now, &host, &device, answer)?;
            }
            Input::HostUses { host, device, used } => {
                let on = self.device(&device)?;
                self.hear(now, &host)?;
                if let Some(id) = self.devices[on].host_id(&host) {
                    self.devices[on].port_mut(id).used = Some(used);
                }
            }
            Input::HostWants { host, bytes } => {
                self.hear(now, &host)?;
                self.agents.insert(host, Agent::There { wants: bytes });
            }
            Input::Tick => self.pass(now),
        }
        Ok(())
    }

    fn pass(&mut self, now: Instant) {
        self.now = self.now.max(now);
    }

    fn hear(&mut self, now: Instant, host: &HostName) -> Result<(), InputError> {
        if !self.agents.contains_key(host) {
            return Err(InputError::NoSuchHost { host: host.clone() });
        }
        self.pass(now);
        Ok(())
    }

    fn device(&self, name: &DeviceName) -> Result<usize, InputError> {
        let at = self.devices.binary_search_by(|device| device.name.cmp(name));
        at.map_err(|_| InputError::NoSuchDevice { device: name.clone() })
    }

    /// What a host said of itself does not hold any more.
    fn forget_words(&mut self, host: &HostName) {
        for device in &mut self.devices {
            for port in device.ports.values_mut().filter(|port| port.name == *host) {
                port.answer = None;
                port.used = None;
            }
        }
    }

    /// What is due, then a turn for each device, then what hosts want.
    fn go_on(&mut self) {
        self.let_pass();
        for on in 0..self.devices.len() {
            self.turn(on);
        }
    }

    /// What comes out: first what has to last.
    fn finish(&mut self) -> Vec<Output> {
        self.forget_ended();
        let changed = core::mem::take(&mut self.changed);
        let records: Vec<Record> =
            changed.into_iter().map(|key| Record { value: self.value_of(&key), key }).collect();
        let mut out = core::mem::take(&mut self.out);
        if !records.is_empty() {
            out.insert(0, Output::Journal(records));
        }
        out
    }

    /// The next time at which something happens by itself: [`Input::Tick`] is due then.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Instant> {
        let entries = self.requests.values().filter(|entry| entry.is_open());
        let entries = entries.flat_map(|entry| {
            let pauses = [entry.pace.ask, entry.pace.offer].map(|pause| Some(pause.next));
            pauses.into_iter().chain([self.answer_due(entry)])
        });
        let devices = self.devices.iter().flat_map(|device| {
            let avoid = device.avoid.iter().map(|&(_, until)| until);
            let ports = device
                .ports
                .values()
                .flat_map(|port| [port.got_until, port.gave_until, port.declined_until]);
            let offers = device.ports.values().filter_map(|port| port.offer.as_ref());
            let dues = offers.map(|offer| offer.due);
            avoid.chain(ports).chain(dues).chain([device.quiet_until])
        });
        entries.flatten().chain(devices).filter(|&at| at > self.now).min()
    }

    /// What has become of a request, if it is known.
    #[must_use]
    pub fn report(&self, id: RequestId) -> Option<Report> {
        self.requests.get(&id).map(|entry| self.report_of(entry))
    }

    /// All requests that are known, with what was asked, by id.
    pub fn requests(&self) -> impl Iterator<Item = (RequestId, &Request, Report)> {
        let entries = self.requests.iter();
        entries.map(|(&id, entry)| (id, &entry.record.request, self.report_of(entry)))
    }

    pub(super) fn note(&mut self, on: usize, notice: Notice) {
        let device = self.devices[on].name.clone();
        self.out.push(Output::Note { device, notice });
    }
}

impl Config {
    fn check(&self) -> Result<(), ConfigError> {
        let too_many = |what, count, most| match count > most {
            true => Err(ConfigError::TooMany { what, count, most }),
            false => Ok(()),
        };
        self.timing.check()?;
        too_many("devices", self.devices.len(), MAX_DEVICES)?;
        let mut names = BTreeSet::new();
        for device in &self.devices {
            if !names.insert(&device.name) {
                return Err(ConfigError::Twice { what: "device", name: device.name.to_string() });
            }
            too_many("hosts of a device", device.hosts.len(), MAX_HOSTS)?;
            let (mut hosts, mut numbers) = (BTreeSet::new(), BTreeSet::new());
            for host in &device.hosts {
                if !hosts.insert(&host.name) {
                    return Err(ConfigError::Twice { what: "host", name: host.name.to_string() });
                }
                if !numbers.insert(host.host) {
                    return Err(ConfigError::Twice { what: "number", name: host.host.to_string() });
                }
                let check = host.limits.check();
                check.map_err(|source| ConfigError::Limits { host: host.name.clone(), source })?;
            }
        }
        Ok(())
    }
}

impl Timing {
    fn check(&self) -> Result<(), ConfigError> {
        let fields = [
            ("patience", self.patience),
            ("retry_first", self.retry_first),
            ("retry_most", self.retry_most),
            ("settle", self.settle),
        ];
        match fields.into_iter().find(|(_, time)| time.is_zero()) {
            Some((field, _)) => Err(ConfigError::Zero { field }),
            None => Ok(()),
        }
    }
}
