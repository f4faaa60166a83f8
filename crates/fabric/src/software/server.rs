//! The server's loop: connections, commands, interrupts, and the making of holes.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    io,
    time::{Instant, SystemTime},
};

use memtide_cxl::{
    DecodeError, Opcode,
    cci::{Kind, Message, TooLong},
    command::HostId,
    device::{Device, Effect, Refusal},
};
use memtide_units::DpaRange;

use super::{
    config::{Config, ConfigError},
    memory::{Memory, MemoryError},
};
use crate::{
    Address,
    channel::Incoming,
    frame::{self, FrameError},
    serving::{GuestId, Hub, ListenError, Listener, Stop, StopHandle, hub::FRAMES_A_TURN},
    wire::{FromFabric, Hello, MAX_FRAME_BYTES, Role, ToFabric, VERSION, Welcome},
};

/// Bytes that are emptied before connections have their turn.
const EMPTY_A_TURN: u64 = 128 << 20;

/// Why there is no fabric.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BindError {
    /// It cannot be made so.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// No memory files.
    #[error(transparent)]
    Memory(#[from] MemoryError),
    /// Nobody could connect.
    #[error(transparent)]
    Listen(#[from] ListenError),
    /// Something else of the system is missing.
    #[error("cannot make an event")]
    Event(#[source] io::Error),
}

/// Why a fabric ended before it was told to.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RunError {
    /// Waiting failed.
    #[error("cannot wait for connections")]
    Poll(#[source] io::Error),
    /// What is to be handed on cannot be emptied.
    #[error(transparent)]
    Memory(#[from] MemoryError),
}

/// What is worth a line in a log.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Notice {
    /// Somebody was welcomed.
    #[error("{} connected", name(*.0))]
    Connected(Role),
    /// A newer connection took the place of an older one.
    #[error("{} connected again; its older connection is ended", name(*.0))]
    Replaced(Role),
    /// Somebody is gone.
    #[error("{} disconnected", name(*.0))]
    Disconnected(Role),
    /// Somebody was not welcomed.
    #[error("refused a connection: {0}")]
    Refused(String),
    /// What came was no message; the connection is ended.
    #[error("{} sent what is no message: {error}; its connection is ended",
            role.map_or_else(|| "a stranger".to_owned(), name))]
    Garbage {
        /// Who, if he had said.
        role: Option<Role>,
        /// What was wrong.
        error: GarbageError,
    },
    /// A command was not done.
    #[error("{}: {opcode} refused, {}: {why}", name(*role), why.code())]
    Declined {
        /// Whose.
        role: Role,
        /// Which.
        opcode: Opcode,
        /// Why.
        why: Box<Refusal>,
    },
    /// Nobody can connect for a moment.
    #[error("cannot accept connections: {0}")]
    CannotAccept(io::Error),
}

/// What is wrong with what came.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum GarbageError {
    /// No frame, or no message in it.
    #[error(transparent)]
    Frame(#[from] FrameError),
    /// No CCI message.
    #[error(transparent)]
    Message(#[from] DecodeError),
    /// A message that does not belong there.
    #[error("{what}; expected {expected}")]
    Misplaced {
        /// What it is.
        what: &'static str,
        /// What belongs there.
        expected: &'static str,
    },
    /// An answer that no message can carry.
    #[error(transparent)]
    Answer(#[from] TooLong),
}

fn name(role: Role) -> String {
    match role {
        Role::Host(host) => format!("host {host}"),
        Role::Manager => "the manager".to_owned(),
    }
}

/// What is left to do with memory, in order.
#[derive(Debug)]
enum Job {
    /// Empty this.
    Empty { host: HostId, range: DpaRange },
    /// All before it is empty: tell the device.
    Emptied { range: DpaRange },
}

/// A fabric, bound to its sockets.
pub struct Fabric {
    config: Config,
    device: Device,
    memory: Memory,
    hub: Hub,
    /// Who is who: both ways.
    roles: BTreeMap<GuestId, Role>,
    guests: BTreeMap<RoleKey, GuestId>,
    /// Whom to interrupt once what was sent before is on its way.
    owed: BTreeSet<GuestId>,
    jobs: VecDeque<Job>,
    notices: Box<dyn FnMut(Notice) + Send>,
}

/// A role, ordered: hosts by number, the manager before them.
type RoleKey = Option<u16>;

const fn key(role: Role) -> RoleKey {
    match role {
        Role::Host(host) => Some(host),
        Role::Manager => None,
    }
}

impl std::fmt::Debug for Fabric {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Fabric").field("config", &self.config).finish_non_exhaustive()
    }
}

impl Fabric {
    /// Makes the device and listens; nobody is served before [`Fabric::run`].
    ///
    /// # Errors
    /// [`BindError`]; nothing is left behind then.
    pub fn bind(config: Config, addresses: &[Address]) -> Result<Self, BindError> {
        let device = config.device()?;
        let device = Device::new(device).map_err(ConfigError::from)?;
        let memory = Memory::new(&config.name, config.hosts, config.capacity.0)?;
        let listeners = addresses.iter().map(Listener::bind).collect::<Result<_, _>>()?;
        let stop = Stop::new().map_err(BindError::Event)?;
        Ok(Self {
            config,
            device,
            memory,
            hub: Hub::new(listeners, stop),
            roles: BTreeMap::new(),
            guests: BTreeMap::new(),
            owed: BTreeSet::new(),
            jobs: VecDeque::new(),
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

    /// Where it listens.
    pub fn addresses(&self) -> impl Iterator<Item = &Address> {
        self.hub.listeners().map(Listener::address)
    }

    /// Serves until told to stop.
    ///
    /// # Errors
    /// [`RunError`], when it cannot go on.
    pub fn run(&mut self) -> Result<(), RunError> {
        while !self.hub.stop().is_told() {
            let until = (!self.jobs.is_empty()).then(Instant::now);
            let ready = self.hub.wait(&[], until).map_err(RunError::Poll)?;
            if let Some(error) = ready.accept_error {
                (self.notices)(Notice::CannotAccept(error));
            }
            for id in ready.guests {
                self.serve(id)?;
            }
            self.forget_gone();
            // Before the emptying: nobody gets what is not empty, and making it so takes time.
            self.interrupt_owed();
            self.work(EMPTY_A_TURN)?;
        }
        Ok(())
    }

    fn serve(&mut self, id: GuestId) -> Result<(), RunError> {
        for _ in 0..FRAMES_A_TURN {
            match self.hub.receive(id) {
                Incoming::Frame(body) => {
                    if let Err(error) = self.frame(id, &body)? {
                        self.garbage(id, error);
                    }
                }
                Incoming::Nothing | Incoming::Closed => return Ok(()),
                Incoming::Garbage(error) => self.garbage(id, error.into()),
            }
        }
        Ok(())
    }

    /// The inner error is the connection's, the outer one the fabric's.
    fn frame(&mut self, id: GuestId, body: &[u8]) -> Result<Result<(), GarbageError>, RunError> {
        let message = match frame::decode(body) {
            Ok(message) => message,
            Err(error) => return Ok(Err(error.into())),
        };
        let misplaced = |what, expected| Ok(Err(GarbageError::Misplaced { what, expected }));
        match (message, self.roles.get(&id)) {
            (ToFabric::Hello(hello), None) => {
                self.hello(id, hello);
                Ok(Ok(()))
            }
            (ToFabric::Command(bytes), Some(role)) => self.command(id, *role, &bytes),
            (ToFabric::Hello(_), Some(_)) => misplaced("a second hello", "a command"),
            (ToFabric::Command(_), None) => misplaced("a command", "a hello before it"),
        }
    }

    fn hello(&mut self, id: GuestId, Hello { version, role }: Hello) {
        let hosts = self.config.hosts;
        if version != VERSION {
            return self.refuse(id, format!("version {version}; expected {VERSION}"));
        }
        if let Role::Host(host) = role
            && host >= hosts
        {
            return self.refuse(id, format!("host {host}; expected 0 to {}", hosts - 1));
        }
        let memory = match role {
            Role::Host(host) if self.came_by_unix(id) => match self.memory.share(HostId(host)) {
                Ok(file) => Some(file),
                Err(error) => return self.refuse(id, error.to_string()),
            },
            _ => None,
        };
        let welcome = Welcome {
            version: VERSION,
            device: self.config.name.clone(),
            serial: self.device.serial(),
            capacity: self.config.capacity.0,
            hosts,
        };
        self.hub.introduced(id, MAX_FRAME_BYTES);
        self.hub.send(id, &FromFabric::Welcome(welcome), memory);
        self.roles.insert(id, role);
        match self.guests.insert(key(role), id) {
            Some(older) => {
                self.hub.end(older);
                self.roles.remove(&older);
                (self.notices)(Notice::Replaced(role));
            }
            None => (self.notices)(Notice::Connected(role)),
        }
    }

    fn came_by_unix(&self, id: GuestId) -> bool {
        matches!(self.hub.came_by(id), Some((_, Address::Unix(_))))
    }

    fn refuse(&mut self, id: GuestId, why: String) {
        self.hub.send(id, &FromFabric::Refused(why.clone()), None);
        self.hub.close(id);
        (self.notices)(Notice::Refused(why));
    }

    fn command(
        &mut self,
        id: GuestId,
        role: Role,
        bytes: &[u8],
    ) -> Result<Result<(), GarbageError>, RunError> {
        let request = match Message::decode(bytes) {
            Ok(request) if request.kind == Kind::Request => request,
            Ok(_) => {
                let (what, expected) = ("a CCI response", "a request");
                return Ok(Err(GarbageError::Misplaced { what, expected }));
            }
            Err(error) => return Ok(Err(error.into())),
        };
        if request.opcode == Opcode::INITIATE_DC_ADD {
            // What was released before is to be had now, not a moment later.
            self.work(u64::MAX)?;
        }
        self.device.set_time(nanoseconds_since_1970());
        let opcode = request.opcode;
        let mut reply = match role {
            Role::Host(host) => self.device.host(HostId(host), opcode, &request.payload),
            Role::Manager => self.device.manager(opcode, &request.payload),
        };
        if let Some(why) = reply.refusal.take() {
            (self.notices)(Notice::Declined { role, opcode, why: Box::new(why) });
        }
        // What a host gains is empty before it hears that it has it.
        self.take_effects()?;
        Ok(match reply.into_message(&request).encode() {
            Ok(bytes) => {
                self.hub.send(id, &FromFabric::Reply(bytes), None);
                Ok(())
            }
            Err(error) => Err(error.into()),
        })
    }

    fn take_effects(&mut self) -> Result<(), RunError> {
        for effect in self.device.take_effects() {
            match effect {
                Effect::HostEvent(host) => self.interrupt(Role::Host(host.0)),
                Effect::ManagerEvent => self.interrupt(Role::Manager),
                Effect::Gained { host, range } => {
                    // Nothing that is still to be emptied may be emptied after this.
                    self.work(u64::MAX)?;
                    self.memory.empty(host, range)?;
                }
                Effect::Ended { host, range } => self.jobs.push_back(Job::Empty { host, range }),
                Effect::Sanitize { range } => self.jobs.push_back(Job::Emptied { range }),
                _ => {}
            }
        }
        Ok(())
    }

    /// Empties up to so many bytes of what waits for it.
    fn work(&mut self, mut bytes: u64) -> Result<(), RunError> {
        while bytes > 0 {
            match self.jobs.front_mut() {
                Some(Job::Empty { host, range }) => {
                    let length = range.length.min(bytes);
                    self.memory.empty(*host, DpaRange::new(range.start, length))?;
                    bytes -= length;
                    *range = DpaRange::new(range.start + length, range.length - length);
                    if range.length == 0 {
                        self.jobs.pop_front();
                    }
                }
                Some(Job::Emptied { range }) => {
                    self.device.sanitized(*range).expect("the device waits for it");
                    self.jobs.pop_front();
                }
                None => return Ok(()),
            }
        }
        Ok(())
    }

    fn interrupt(&mut self, role: Role) {
        if let Some(id) = self.guests.get(&key(role)) {
            self.owed.insert(*id);
        }
    }

    fn interrupt_owed(&mut self) {
        let hub = &mut self.hub;
        self.owed.retain(|id| {
            let waits = hub.has(*id) && !hub.is_idle(*id);
            if !waits {
                hub.send(*id, &FromFabric::EventsPending, None);
            }
            waits
        });
    }

    fn garbage(&mut self, id: GuestId, error: GarbageError) {
        let role = self.roles.get(&id).copied();
        (self.notices)(Notice::Garbage { role, error });
        self.hub.end(id);
    }

    fn forget_gone(&mut self) {
        let gone: Vec<_> = self.roles.keys().copied().filter(|id| !self.hub.has(*id)).collect();
        for id in gone {
            let role = self.roles.remove(&id).expect("it was just there");
            self.guests.remove(&key(role));
            (self.notices)(Notice::Disconnected(role));
        }
    }
}

fn nanoseconds_since_1970() -> u64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_nanos()).unwrap_or(0)
}
