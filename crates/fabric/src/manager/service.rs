//! The service's loop: who is heard, and what the manager is told of it.

mod agents;
mod devices;
mod durable;
mod extents;
mod notice;
mod operators;

use std::{
    collections::{BTreeMap, VecDeque},
    io,
    time::{Duration, Instant, SystemTime},
};

use memtide_cxl::manager::{
    self, ConfigError, DeviceName, HostName, Input, InputError, Manager, Report,
};
use memtide_units::RequestId;

pub use self::notice::Notice;
use self::{
    devices::{Change, Devices},
    operators::Operator,
};
use super::{
    config::Config,
    store::{Store, StoreError},
};
use crate::{
    Address,
    channel::Incoming,
    control::FromService,
    frame::FrameError,
    serving::{GuestId, Hub, ListenError, Listener, Stop, StopHandle, hub::FRAMES_A_TURN},
};

/// The listener that operators come by; agents come by the others.
const CONTROL: usize = 0;

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
        self.ask_to_look();
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

#[cfg(test)]
mod tests;
