//! The service's loop, and what the manager's outputs become.

mod agents;
mod devices;
mod extents;
mod operators;

use std::{
    collections::{BTreeMap, VecDeque},
    io,
    time::{Duration, Instant, SystemTime},
};

use memtide_cxl::manager::{
    self, Command, ConfigError, DeviceName, HostName, Input, InputError, Key, Manager, Output,
    Record, Report,
};
use memtide_units::RequestId;

use self::{
    devices::{Change, Devices, chain},
    operators::Operator,
};
use super::{
    backend::BackendError,
    config::Config,
    store::{Store, StoreError},
};
use crate::{
    Address,
    channel::Incoming,
    control::FromService,
    frame::FrameError,
    serving::{GuestId, Hub, ListenError, Listener, Stop, StopHandle, hub::FRAMES_A_TURN},
    wire::FromManager,
};

/// The listener that operators come by; agents come by the others.
const CONTROL: usize = 0;

/// How long changes on which nothing rests yet wait for the next that must be durable.
const HOLD: Duration = Duration::from_millis(100);

/// Until a store is tried again that could not be read.
const STORE_PAUSE: Duration = Duration::from_millis(500);

/// Why there is no service.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BindError {
    /// It cannot be set up so.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// What an earlier one kept cannot be had.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Nobody could connect.
    #[error(transparent)]
    Listen(#[from] ListenError),
    /// Something else of the system is missing.
    #[error("cannot make an event")]
    Event(#[source] io::Error),
}

/// Why a service ended before it was told to.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RunError {
    /// Waiting failed.
    #[error("cannot wait for connections")]
    Poll(#[source] io::Error),
    /// What was kept does not fit what is set up.
    #[error(transparent)]
    Config(#[from] ConfigError),
}

/// What is worth a line in a log.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Notice {
    /// A device is connected.
    #[error("device {0}: connected")]
    Connected(DeviceName),
    /// A device cannot be reached; it is tried again.
    #[error("device {device}: {}", chain(error))]
    Unreachable {
        /// Which.
        device: DeviceName,
        /// Why.
        error: BackendError,
    },
    /// A device is no longer connected; it is tried again.
    #[error("device {device}: disconnected: {}", chain(error))]
    Disconnected {
        /// Which.
        device: DeviceName,
        /// Why.
        error: BackendError,
    },
    /// What the manager has to say of a device.
    #[error("device {device}: {notice}")]
    Device {
        /// Which.
        device: DeviceName,
        /// What.
        notice: manager::Notice,
    },
    /// A host's agent is connected, or no longer.
    #[error("host {host}: its agent {what}")]
    Agent {
        /// Which.
        host: HostName,
        /// What it did.
        what: &'static str,
    },
    /// An agent said something that makes no sense; it is ignored.
    #[error("host {host}: {why}; ignored")]
    Ignored {
        /// Whose.
        host: HostName,
        /// Why it makes none.
        why: String,
    },
    /// Somebody was not welcomed.
    #[error("refused a connection: {0}")]
    Refused(String),
    /// What came was no message; the connection is ended.
    #[error("{who} sent what is no message: {error}; its connection is ended")]
    Garbage {
        /// Who.
        who: String,
        /// What was wrong.
        error: FrameError,
    },
    /// A message that does not belong there; the connection is ended.
    #[error("{who} sent a message that does not belong there; its connection is ended")]
    Misplaced {
        /// Who.
        who: String,
    },
    /// Something cannot be kept.
    #[error("{}", chain(.0))]
    Store(StoreError),
    /// A request is answered.
    #[error("request {}: {}", .0.id.0, summary(.0))]
    Answered(Box<Report>),
    /// Nobody can connect for a moment.
    #[error("cannot accept connections: {0}")]
    CannotAccept(io::Error),
}

/// A report in a line.
fn summary(report: &Report) -> String {
    let Report { asked, returned, held, accepted, refused, pending, missing, .. } = report;
    format!(
        "{:?}: asked {asked}, returned {returned}, held {held}, accepted {accepted}, refused \
         {refused}, pending {pending}, missing {missing} bytes",
        report.state
    )
}

/// Time as the manager counts it: since 1970 when the service starts, and steadily from there.
struct Clock {
    wall: Duration,
    start: Instant,
}

impl Clock {
    fn start() -> Self {
        let wall = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        Self { wall, start: Instant::now() }
    }

    fn now(&self) -> memtide_units::Instant {
        memtide_units::Instant(self.wall + self.start.elapsed())
    }

    /// Nothing if it is too far away to be counted.
    fn at(&self, at: memtide_units::Instant) -> Option<Instant> {
        self.start.checked_add(at.0.saturating_sub(self.wall))
    }
}

/// A manager's service, bound to its sockets.
pub struct Service {
    config: Config,
    manager: Manager,
    store: Store,
    hub: Hub,
    devices: Devices,
    /// The agents that have introduced themselves: both ways.
    agents: BTreeMap<GuestId, HostName>,
    agent_of: BTreeMap<HostName, GuestId>,
    operators: BTreeMap<GuestId, Operator>,
    /// Who is told of a request.
    askers: BTreeMap<RequestId, GuestId>,
    inputs: VecDeque<Input>,
    clock: Clock,
    /// The store could neither be written nor read: when that is tried again. Until then nothing is
    /// asked of devices, and nothing is accepted.
    suspended: Option<Instant>,
    /// When what the store holds becomes durable at the latest.
    settle_by: Option<Instant>,
    /// How often it went back to what is durable.
    started_over: u64,
    /// Something may look different, and watchers have not been told.
    changed: bool,
    told_watchers: Instant,
    notices: Box<dyn FnMut(Notice) + Send>,
}

impl std::fmt::Debug for Service {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Service").field("config", &self.config).finish_non_exhaustive()
    }
}

impl Service {
    /// Takes up what an earlier service kept, and listens; nobody is served before
    /// [`Service::run`].
    ///
    /// # Errors
    /// [`BindError`]; nothing is left behind then but an empty store.
    pub fn bind(config: Config) -> Result<Self, BindError> {
        let store = Store::open(&config.store)?;
        Self::with_store(config, store)
    }

    fn with_store(config: Config, mut store: Store) -> Result<Self, BindError> {
        let addresses = config.addresses.iter();
        let connectors = addresses.map(|(name, address)| (name.clone(), address.connector()));
        let devices = Devices::new(connectors.collect());
        let clock = Clock::start();
        let manager = Manager::restore(config.manager.clone(), clock.now(), store.load()?)?;
        let mut listeners = vec![Listener::bind(&Address::Unix(config.socket.clone()))?];
        for address in &config.agents {
            listeners.push(Listener::bind(address)?);
        }
        let stop = Stop::new().map_err(BindError::Event)?;
        Ok(Self {
            config,
            manager,
            store,
            hub: Hub::new(listeners, stop),
            devices,
            agents: BTreeMap::new(),
            agent_of: BTreeMap::new(),
            operators: BTreeMap::new(),
            askers: BTreeMap::new(),
            inputs: VecDeque::new(),
            clock,
            suspended: None,
            settle_by: None,
            started_over: 0,
            changed: false,
            told_watchers: Instant::now(),
            notices: Box::new(|_| ()),
        })
    }

    /// Who is told what is worth a line in a log.
    pub fn on_notice(&mut self, notices: impl FnMut(Notice) + Send + 'static) {
        self.notices = Box::new(notices);
    }

    /// What ends it from elsewhere.
    #[must_use]
    pub fn stop_handle(&self) -> StopHandle {
        self.hub.stop().handle()
    }

    /// Where it listens: first for operators, then for agents.
    pub fn addresses(&self) -> impl Iterator<Item = &Address> {
        self.hub.listeners().map(Listener::address)
    }

    /// Serves until told to stop. Devices and hosts go on with what they have.
    ///
    /// # Errors
    /// [`RunError`], when it cannot go on.
    pub fn run(&mut self) -> Result<(), RunError> {
        while !self.hub.stop().is_told() {
            let until = self.due();
            let others = self.devices.descriptors();
            let ready = self.hub.wait(&others, until).map_err(RunError::Poll)?;
            if let Some(error) = ready.accept_error {
                self.notice(Notice::CannotAccept(error));
            }
            for id in ready.guests {
                self.serve(id)?;
            }
            self.forget_gone();
            match self.suspended {
                Some(again) if again <= Instant::now() => self.start_over()?,
                Some(_) => {}
                None => self.manage()?,
            }
            self.tell_watchers();
        }
        Ok(())
    }

    fn manage(&mut self) -> Result<(), RunError> {
        for (device, change) in self.devices.changes(Instant::now()) {
            self.hear(device, change);
        }
        self.pass_time();
        while let Some(input) = self.inputs.pop_front() {
            // What devices say is never wrong in this sense, and agents are answered there.
            if let Err(error) = self.input(input)? {
                debug_assert!(matches!(error, InputError::NotAsked { .. }), "{error}");
            }
        }
        if self.settle_by.is_some_and(|by| by <= Instant::now()) {
            self.settle()?;
        }
        Ok(())
    }

    /// Makes durable what is held; otherwise starts over, and says that what rests on it is not to
    /// be done.
    fn settle(&mut self) -> Result<bool, RunError> {
        self.settle_by = None;
        match self.store.settle() {
            Ok(()) => Ok(true),
            Err(error) => {
                self.notice(Notice::Store(error));
                self.start_over()?;
                Ok(false)
            }
        }
    }

    fn due(&self) -> Option<Instant> {
        if self.suspended.is_some() {
            return [self.suspended, self.watchers_due()].into_iter().flatten().min();
        }
        let manager = self.manager.next_deadline().and_then(|at| self.clock.at(at));
        let due = [manager, self.devices.due(), self.watchers_due(), self.settle_by];
        due.into_iter().flatten().min()
    }

    fn pass_time(&mut self) {
        let now = self.clock.now();
        if self.manager.next_deadline().is_some_and(|at| at <= now) {
            self.inputs.push_back(Input::Tick);
        }
    }

    fn serve(&mut self, id: GuestId) -> Result<(), RunError> {
        for _ in 0..FRAMES_A_TURN {
            match self.hub.receive(id) {
                Incoming::Frame(body) => match self.hub.came_by(id) {
                    Some((CONTROL, _)) => self.operator_says(id, &body)?,
                    Some(_) => self.agent_says(id, &body)?,
                    None => return Ok(()),
                },
                Incoming::Nothing | Incoming::Closed => return Ok(()),
                Incoming::Garbage(error) => self.garbage(id, error),
            }
        }
        Ok(())
    }

    fn hear(&mut self, device: DeviceName, change: Change) {
        self.changed = true;
        let input = match change {
            Change::Up => {
                self.notice(Notice::Connected(device.clone()));
                self.recall_agents(&device);
                Input::DeviceUp { device }
            }
            Change::Down(error) => {
                self.notice(Notice::Disconnected { device: device.clone(), error });
                Input::DeviceDown { device }
            }
            Change::Unreachable(error) => {
                return self.notice(Notice::Unreachable { device, error });
            }
            Change::Reply(reply) => Input::Reply { device, reply },
            Change::EventsPending => Input::EventsPending { device },
        };
        self.inputs.push_back(input);
    }

    /// Lets the manager hear something, and carries out what it decides. The inner error is the
    /// input's: then nothing changed. While the store cannot be read nobody hears anything: all who
    /// speak have been disconnected.
    fn input(&mut self, input: Input) -> Result<Result<(), InputError>, RunError> {
        if self.suspended.is_some() {
            return Ok(Ok(()));
        }
        match self.manager.handle(self.clock.now(), input) {
            Ok(outputs) => {
                self.changed = true;
                self.carry_out(outputs)?;
                Ok(Ok(()))
            }
            Err(error) => Ok(Err(error)),
        }
    }

    /// In this order, and nothing after what could not be made durable. The journal becomes durable
    /// when something comes that rests on it, however much later, and in any case after a while.
    fn carry_out(&mut self, outputs: Vec<Output>) -> Result<(), RunError> {
        for output in outputs {
            if rests_on_journal(&output) && !self.settle()? {
                return Ok(());
            }
            match output {
                Output::Journal(records) => {
                    // A device does not say again who had something.
                    let is_urgent = records.iter().any(is_never_said_again);
                    self.store.hold(records);
                    if is_urgent {
                        if !self.settle()? {
                            return Ok(());
                        }
                    } else {
                        self.settle_by.get_or_insert_with(|| Instant::now() + HOLD);
                    }
                }
                Output::Command { device, command } => {
                    if let Err(change) = self.devices.begin(&device, &command) {
                        self.hear(device, change);
                    }
                }
                Output::Answer(report) => self.answer(report),
                Output::Taken { host, device, extents } => {
                    let agent = self.agent_of.get(&host);
                    if let (Some(id), Some(serial)) = (agent, self.devices.serial(&device)) {
                        self.hub.send(*id, &FromManager::Taken { serial, extents }, None);
                    }
                }
                Output::Note { device, notice } => self.notice(Notice::Device { device, notice }),
            }
        }
        Ok(())
    }

    fn answer(&mut self, report: Report) {
        let id = report.id;
        self.notice(Notice::Answered(Box::new(report.clone())));
        let asker = match report.state {
            manager::State::Open => self.askers.get(&id).copied(),
            manager::State::Ended(_) => self.askers.remove(&id),
        };
        if let Some(asker) = asker {
            self.hub.send(asker, &FromService::Report(report), None);
        }
    }

    /// Goes on from what is durable, as a successor would: what this manager knows besides may be
    /// what could not be kept.
    fn start_over(&mut self) -> Result<(), RunError> {
        self.started_over += 1;
        self.inputs.clear();
        self.store.forget_held();
        self.settle_by = None;
        self.devices.disconnect_all(Instant::now());
        // They come again and say everything anew.
        for (id, host) in std::mem::take(&mut self.agents) {
            self.hub.end(id);
            self.agent_of.remove(&host);
        }
        self.changed = true;
        match self.store.load() {
            Ok(kept) => {
                let config = self.config.manager.clone();
                self.manager = Manager::restore(config, self.clock.now(), kept)?;
                self.suspended = None;
                self.answer_what_ended();
            }
            Err(error) => {
                if self.suspended.is_none() {
                    self.notice(Notice::Store(error));
                }
                self.suspended = Some(Instant::now() + STORE_PAUSE);
            }
        }
        Ok(())
    }

    /// What ended in what is durable is not answered by a restored manager.
    fn answer_what_ended(&mut self) {
        for (id, asker) in self.askers.clone() {
            match self.manager.report(id) {
                Some(report) if report.state == manager::State::Open => {}
                Some(report) => self.answer(report),
                None => {
                    self.askers.remove(&id);
                    self.hub.end(asker);
                }
            }
        }
    }

    fn forget_gone(&mut self) {
        let hub = &self.hub;
        self.operators.retain(|id, _| hub.has(*id));
        self.askers.retain(|_, id| hub.has(*id));
        let gone: Vec<_> = self.agents.keys().copied().filter(|id| !hub.has(*id)).collect();
        for id in gone {
            let host = self.agents.remove(&id).expect("it was just there");
            self.agent_of.remove(&host);
            self.notice(Notice::Agent { host: host.clone(), what: "disconnected" });
            self.inputs.push_back(Input::HostDown { host });
        }
    }

    fn notice(&mut self, notice: Notice) {
        (self.notices)(notice);
    }

    fn who(&self, id: GuestId) -> String {
        match (self.agents.get(&id), self.operators.contains_key(&id)) {
            (Some(host), _) => format!("the agent of {host}"),
            (None, true) => "an operator".to_owned(),
            (None, false) => "a stranger".to_owned(),
        }
    }

    fn garbage(&mut self, id: GuestId, error: FrameError) {
        let who = self.who(id);
        self.notice(Notice::Garbage { who, error });
        self.hub.end(id);
    }

    fn misplaced(&mut self, id: GuestId) {
        let who = self.who(id);
        self.notice(Notice::Misplaced { who });
        self.hub.end(id);
    }
}

/// Whether a device that is read anew would not tell this: whose data is in what is free.
const fn is_never_said_again(record: &Record) -> bool {
    matches!(record, Record { key: Key::Unsanitized(..), value: Some(_) })
}

/// Whether something must not be done before what was journalled before it is durable. Reading does
/// not rest on it: what is journalled of what a device says is only what it will say again, or is
/// durable at once ([`is_never_said_again`]). Nor
/// does clearing its log: whoever starts again reads everything, and not the log.
const fn rests_on_journal(output: &Output) -> bool {
    match output {
        Output::Journal(_) | Output::Note { .. } => false,
        Output::Answer(_) | Output::Taken { .. } => true,
        Output::Command { command, .. } => match command {
            Command::GetEventRecords(_)
            | Command::ClearEventRecords(_)
            | Command::GetInfo(_)
            | Command::GetHostConfiguration(_)
            | Command::GetHostExtents(_)
            | Command::ListTags(_) => false,
            Command::SetConfiguration(_)
            | Command::InitiateAdd(_)
            | Command::InitiateRelease(_)
            | Command::AddReference(_)
            | Command::RemoveReference(_) => true,
        },
    }
}

#[cfg(test)]
mod tests;
