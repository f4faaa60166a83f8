//! The daemon: the engine over real memory, behind a socket.
//!
//! One thread, one loop: wait for something to happen, let the engine decide, carry out what it
//! decides. With nothing to do the loop sleeps without end. What a packet may do is checked in
//! `program` and `control`; how decisions are carried out is in
//! `effects`.

use std::{
    collections::BTreeMap,
    fs, io,
    os::fd::{AsFd, OwnedFd},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use memtide_engine::{self as engine, Engine};
use memtide_proto::{MAX_PACKET_BYTES, program::Counters};
use memtide_store::{Store, kernel::Kernel};
use memtide_sys::{process, socket};
use memtide_units::{ImageId, MemberId, NodeId, Pageblock, RequestId, TenantId, TokenId};
use rustix::{
    event::{PollFd, PollFlags, Timespec},
    io::Errno,
};

use crate::{
    config::Config,
    connection::{Connection, Incoming},
    dcd::{self, Dcd},
    explain::Past,
    images::Images,
    notice::Notice,
    returning::Claiming,
    start::{self, BindError},
    state::{self, State, StateError},
    summary::{NodeSummary, Summary},
    tokens::Tokens,
    zeroing::Zeroing,
};

/// How long a connection may take to introduce itself.
const GREETING: Duration = Duration::from_secs(10);
/// How often is looked whether those that are awaited still live.
const RECOVERY_LOOK: Duration = Duration::from_millis(100);
/// After failing to accept a connection.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// Most packets taken from one connection before the others have their turn.
const PACKETS_A_TURN: usize = 64;

/// Why a daemon ended before it was told to.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RunError {
    /// Waiting failed.
    #[error("cannot wait for events")]
    Poll(#[source] io::Error),
    /// What a later daemon must know cannot be kept.
    #[error(transparent)]
    State(#[from] StateError),
}

/// What another thread may tell a daemon.
#[derive(Debug)]
struct Stop {
    event: OwnedFd,
    now: AtomicBool,
    when_idle: AtomicBool,
}

/// Ends a daemon from another thread.
#[derive(Clone, Debug)]
pub struct StopHandle(Arc<Stop>);

impl StopHandle {
    /// Lets the daemon finish what it is doing and end.
    pub fn stop(&self) {
        self.0.now.store(true, Ordering::SeqCst);
        self.wake();
    }

    /// Lets the daemon end as soon as no process is left.
    pub fn stop_when_idle(&self) {
        self.0.when_idle.store(true, Ordering::SeqCst);
        self.wake();
    }

    pub(crate) fn wake(&self) {
        // An eventfd takes at least one event; then it is readable, which is all that is needed.
        let _ = rustix::io::write(&self.0.event, &1u64.to_ne_bytes());
    }
}

/// The name of a connection.
pub(crate) type ConnectionId = u64;

/// What a connection is for.
#[derive(Debug)]
pub(crate) enum Role {
    /// It has not said.
    Greeting {
        /// Until when it has to.
        until: Instant,
    },
    /// A returning program that is telling what it holds.
    Claiming(Box<Claiming>),
    /// A program.
    Program(MemberId),
    /// The command line.
    Control,
}

/// A connection and what it is for.
#[derive(Debug)]
pub(crate) struct Guest {
    pub(crate) connection: Connection,
    pub(crate) role: Role,
}

/// A process, as far as the engine does not know it.
#[derive(Debug)]
pub(crate) struct Member {
    pub(crate) connection: Option<ConnectionId>,
    pub(crate) token: TokenId,
    pub(crate) image: ImageId,
    pub(crate) pid: u32,
    pub(crate) name: String,
    pub(crate) started: u64,
    pub(crate) counters: Counters,
}

/// A daemon, bound to its socket.
pub struct Daemon {
    pub(crate) config: Config,
    pub(crate) engine: Engine,
    pub(crate) stores: Vec<Store>,
    pub(crate) firsts: Vec<Pageblock>,
    pub(crate) images: Images,
    pub(crate) tokens: Tokens,
    pub(crate) zeroing: Zeroing,
    pub(crate) dcd: Dcd,
    pub(crate) members: BTreeMap<MemberId, Member>,
    /// Processes that have ended, and of which decisions are still known.
    pub(crate) past: BTreeMap<MemberId, Past>,
    /// The tenants of the images.
    pub(crate) tenants: BTreeMap<ImageId, TenantId>,
    /// The names of the tenants, in the order in which the engine numbers them.
    pub(crate) tenant_names: Vec<String>,
    pub(crate) guests: BTreeMap<ConnectionId, Guest>,
    pub(crate) requests: BTreeMap<RequestId, ConnectionId>,
    pub(crate) awaited: Vec<state::MemberState>,
    pub(crate) device: Option<Arc<OwnedFd>>,
    pub(crate) summary: Summary,
    pub(crate) state_changed: bool,
    pub(crate) stopping: bool,
    pub(crate) next_member: u64,
    pub(crate) next_request: u64,
    next_connection: ConnectionId,
    look_at_awaited: Option<Instant>,
    listener: OwnedFd,
    listener_file: Option<(u64, u64)>,
    accept_after: Option<Instant>,
    stop: Arc<Stop>,
    start: Instant,
    notices: Box<dyn FnMut(Notice) + Send>,
}

impl Daemon {
    /// Makes the pool and listens; nobody is served before [`Daemon::run`].
    ///
    /// # Errors
    /// [`BindError`]; nothing is left behind then.
    pub fn bind(config: Config) -> Result<Self, BindError> {
        let firsts = start::first_pageblocks(&config);
        let stores: Vec<Store> = config
            .nodes
            .iter()
            .zip(&firsts)
            .map(|(node, first)| {
                let pageblocks = node.size.pageblocks_ceil();
                Store::new(&node.name, start::backing(node.backing), *first, pageblocks)
            })
            .collect();
        let left = match &config.state {
            Some(path) => state::load(path, &start::fresh_nodes(&config))?,
            None => None,
        };
        let fresh = start::fresh_nodes(&config);
        let mut left = left.unwrap_or_else(|| State {
            nodes: fresh.clone(),
            next_member: 1,
            next_image: 1,
            ..State::default()
        });
        let until = dcd::takeover::prepare(&config, &mut left, &fresh);
        if left.members.is_empty() {
            // Otherwise they hold some of it already.
            Store::check_all(&stores, &Kernel::this_machine())?;
        }
        let engine = Engine::new(start::engine_config(&config, &firsts, &left, until))?;
        let system = |what| move |source: Errno| BindError::System { what, source: source.into() };
        let event = rustix::event::eventfd(
            0,
            rustix::event::EventfdFlags::CLOEXEC | rustix::event::EventfdFlags::NONBLOCK,
        )
        .map_err(system("make an event"))?;
        let device = config.grant_userfaultfd.then(start::open_device).flatten().map(Arc::new);
        let listener = start::listen(&config.socket, config.mode)?;
        let mut images = Images::default();
        for member in &left.members {
            images.await_member(member.image, member.member);
        }
        let stop = Arc::new(Stop {
            event,
            now: AtomicBool::new(false),
            when_idle: AtomicBool::new(false),
        });
        let mut dcd = Dcd::new(&config, &firsts, &StopHandle(Arc::clone(&stop)))?;
        dcd.take_over(&config, &left);
        let start = Instant::now();
        let summary = Summary {
            nodes: config
                .nodes
                .iter()
                .map(|node| NodeSummary {
                    name: node.name.clone(),
                    size: node.size,
                    ..NodeSummary::default()
                })
                .collect(),
            ..Summary::default()
        };
        Ok(Self {
            listener_file: start::file_of(&config.socket),
            engine,
            stores,
            firsts,
            images,
            tokens: Tokens::default(),
            zeroing: Zeroing::default(),
            members: BTreeMap::new(),
            past: BTreeMap::new(),
            tenants: BTreeMap::new(),
            tenant_names: config.tenants().into_iter().map(|tenant| tenant.name).collect(),
            guests: BTreeMap::new(),
            requests: BTreeMap::new(),
            look_at_awaited: (!left.members.is_empty()).then_some(start),
            awaited: left.members,
            device,
            summary,
            state_changed: true,
            stopping: false,
            next_member: left.next_member,
            next_request: 1,
            next_connection: 1,
            listener,
            accept_after: None,
            stop,
            dcd,
            start,
            notices: Box::new(|_| ()),
            config,
        })
    }

    /// Who is told what is worth an operator's attention.
    pub fn on_notice(&mut self, notices: impl FnMut(Notice) + Send + 'static) {
        self.notices = Box::new(notices);
    }

    /// What ends the daemon from elsewhere.
    #[must_use]
    pub fn stop_handle(&self) -> StopHandle {
        StopHandle(Arc::clone(&self.stop))
    }

    /// Ends as soon as no process is left, rather than never.
    pub fn end_when_idle(&mut self) {
        self.stop.when_idle.store(true, Ordering::SeqCst);
    }

    /// How it was configured.
    #[must_use]
    pub const fn config(&self) -> &Config {
        &self.config
    }

    /// Serves until told to stop. Programs run on afterwards, with what they have.
    ///
    /// # Errors
    /// [`RunError`], when it cannot go on.
    pub fn run(&mut self) -> Result<Summary, RunError> {
        let mut buffer = Box::new([0; MAX_PACKET_BYTES]);
        self.keep_state()?;
        while !self.stopping && !self.is_told_to_stop() {
            let ready = self.wait()?;
            let now = Instant::now();
            if ready.stop {
                // Looked at above; the event only wakes.
                let _ = rustix::io::read(&self.stop.event, &mut [0; 8]);
            }
            if ready.accept {
                self.accept(now);
            }
            // Who has gone is heard first: what others ask for may be what it leaves.
            for id in ready.gone {
                self.serve(id, &mut buffer, now);
            }
            self.end_over(now);
            for id in ready.guests {
                self.serve(id, &mut buffer, now);
            }
            self.serve_devices();
            self.pass_time(now);
            self.zero_some();
            self.take_figures();
            self.keep_state()?;
            self.flush_all(now);
        }
        for guest in self.guests.values_mut() {
            guest.connection.flush();
        }
        self.finish();
        Ok(self.summary.clone())
    }

    fn is_told_to_stop(&self) -> bool {
        let introducing =
            |guest: &Guest| matches!(guest.role, Role::Greeting { .. } | Role::Claiming(_));
        let is_idle = || {
            self.tokens.is_empty()
                && self.awaited.is_empty()
                && !self.guests.values().any(introducing)
        };
        self.stop.now.load(Ordering::SeqCst)
            || (self.stop.when_idle.load(Ordering::SeqCst) && is_idle())
    }

    pub(crate) fn notice(&mut self, notice: Notice) {
        (self.notices)(notice);
    }

    /// The time as the engine counts it.
    pub(crate) fn engine_now(&self) -> memtide_units::Instant {
        memtide_units::Instant(self.start.elapsed())
    }

    fn wait(&self) -> Result<Ready, RunError> {
        let mut fds = vec![PollFd::new(&self.stop.event, PollFlags::IN)];
        let listen = if self.accept_after.is_none() { PollFlags::IN } else { PollFlags::empty() };
        fds.push(PollFd::new(&self.listener, listen));
        for guest in self.guests.values() {
            let mut flags = PollFlags::empty();
            flags.set(PollFlags::IN, guest.connection.wants_read());
            flags.set(PollFlags::OUT, guest.connection.wants_write());
            fds.push(PollFd::new(&guest.connection, flags));
        }
        let timeout = self.timeout().map(|wait| Timespec {
            tv_sec: i64::try_from(wait.as_secs()).unwrap_or(i64::MAX),
            tv_nsec: i64::from(wait.subsec_nanos()),
        });
        match rustix::event::poll(&mut fds, timeout.as_ref()) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(errno) => return Err(RunError::Poll(errno.into())),
        }
        let is_ready = |fd: &PollFd<'_>| !fd.revents().is_empty();
        let ready = self.guests.keys().zip(&fds[2..]).filter(|(_, fd)| is_ready(fd));
        let (gone, guests): (Vec<_>, Vec<_>) =
            ready.partition(|(_, fd)| fd.revents().contains(PollFlags::HUP));
        let names =
            |guests: Vec<(&ConnectionId, _)>| guests.into_iter().map(|(id, _)| *id).collect();
        Ok(Ready {
            stop: is_ready(&fds[0]),
            accept: is_ready(&fds[1]),
            gone: names(gone),
            guests: names(guests),
        })
    }

    /// How long nothing needs to be done unless something happens.
    fn timeout(&self) -> Option<Duration> {
        if !self.zeroing.is_empty() {
            return Some(Duration::ZERO);
        }
        let now = Instant::now();
        let engine = self.engine.next_deadline().map(|at| self.start + at.0);
        let greeting = self.guests.values().filter_map(|guest| match guest.role {
            Role::Greeting { until } => Some(until),
            _ => None,
        });
        let devices = self.dcd.next_deadline().map(|at| self.start + at.0);
        [engine, devices, self.tokens.due(), self.look_at_awaited, self.accept_after]
            .into_iter()
            .flatten()
            .chain(greeting)
            .min()
            .map(|at| at.saturating_duration_since(now))
    }

    fn accept(&mut self, now: Instant) {
        loop {
            match socket::accept(self.listener.as_fd()) {
                Ok(fd) => {
                    let Ok(peer) = socket::peer(fd.as_fd()) else { continue };
                    let connection = Connection::new(fd, peer);
                    let role = Role::Greeting { until: now + GREETING };
                    let guest = Guest { connection, role };
                    self.guests.insert(self.next_connection, guest);
                    self.next_connection += 1;
                }
                Err(Errno::AGAIN) => return,
                Err(Errno::INTR | Errno::CONNABORTED) => {}
                Err(errno) => {
                    // Out of descriptors or memory: those who are connected go on.
                    self.notice(Notice::CannotAccept(errno.into()));
                    self.accept_after = Some(now + ACCEPT_PAUSE);
                    return;
                }
            }
        }
    }

    fn serve(&mut self, id: ConnectionId, buffer: &mut [u8; MAX_PACKET_BYTES], now: Instant) {
        for _ in 0..PACKETS_A_TURN {
            let Some(guest) = self.guests.get_mut(&id) else { return };
            if !guest.connection.wants_read() {
                return;
            }
            match guest.connection.receive(buffer) {
                Incoming::Packet(bytes, fds) => self.packet(id, &buffer[..bytes], fds, now),
                Incoming::Nothing => return,
                Incoming::Garbage(error) => return self.garbage(id, &error.to_string()),
                Incoming::Closed => return guest.connection.abort(),
            }
        }
    }

    fn packet(&mut self, id: ConnectionId, packet: &[u8], fds: Vec<OwnedFd>, now: Instant) {
        match self.guests[&id].role {
            Role::Greeting { .. } => self.greeting(id, packet, fds, now),
            Role::Claiming(_) => self.claim_packet(id, packet, fds, now),
            Role::Program(member) => self.program_packet(id, member, packet, fds, now),
            // One request a connection; more is noise.
            Role::Control => self.garbage(id, "a second request on one connection"),
        }
    }

    fn pass_time(&mut self, now: Instant) {
        if self.accept_after.is_some_and(|at| at <= now) {
            self.accept_after = None;
        }
        for guest in self.guests.values_mut() {
            if matches!(guest.role, Role::Greeting { until } if until <= now) {
                guest.connection.abort();
            }
        }
        for token in self.tokens.look(now) {
            self.token_gone(token);
        }
        if self.look_at_awaited.is_some_and(|at| at <= now) {
            self.look_for_awaited();
            let more = self.engine.awaiting() > 0;
            self.look_at_awaited = more.then(|| now + RECOVERY_LOOK);
        }
        if self.engine.next_deadline().is_some_and(|at| at <= self.engine_now()) {
            self.tell_engine(engine::Input::Tick);
        }
    }

    /// Those that are awaited and have died will not come.
    fn look_for_awaited(&mut self) {
        let (alive, gone): (Vec<_>, Vec<_>) =
            std::mem::take(&mut self.awaited).into_iter().partition(|member| member.is_alive());
        self.awaited = alive;
        for gone in gone {
            self.tell_engine(engine::Input::AwaitedGone { member: gone.member });
            self.settle(gone.image, gone.member, Vec::new());
            self.state_changed = true;
        }
    }

    fn flush_all(&mut self, now: Instant) {
        loop {
            for guest in self.guests.values_mut() {
                guest.connection.flush();
            }
            // An end may bring about packets for others.
            if !self.end_over(now) {
                return;
            }
        }
    }

    /// Ends what is over; whether anything was.
    fn end_over(&mut self, now: Instant) -> bool {
        let over = self.guests.iter().filter(|(_, guest)| guest.connection.is_over());
        let over: Vec<_> = over.map(|(id, _)| *id).collect();
        for id in &over {
            self.end(*id, now);
        }
        !over.is_empty()
    }

    fn end(&mut self, id: ConnectionId, now: Instant) {
        let Some(guest) = self.guests.remove(&id) else { return };
        match guest.role {
            Role::Program(member) => self.program_left(member, now),
            Role::Control => self.requests.retain(|_, asker| *asker != id),
            Role::Greeting { .. } | Role::Claiming(_) => {}
        }
    }

    fn take_figures(&mut self) {
        for (summary, node) in self.summary.nodes.iter_mut().zip(self.engine.node_status()) {
            summary.leased_peak = summary.leased_peak.max(node.leased);
        }
    }

    /// Keeps what a later daemon must know, if it has changed. Called before anything is sent
    /// that depends on it.
    fn keep_state(&mut self) -> Result<(), RunError> {
        if !std::mem::take(&mut self.state_changed) {
            return Ok(());
        }
        let Some(path) = &self.config.state else { return Ok(()) };
        let mut nodes = start::fresh_nodes(&self.config);
        for (index, node) in nodes.iter_mut().enumerate() {
            node.offline = self.engine.offline(node_id(index));
        }
        let present = self.members.iter().map(|(id, member)| state::MemberState {
            member: *id,
            image: member.image,
            pid: member.pid,
            started: member.started,
        });
        let state = State {
            format: state::FORMAT,
            boot: process::boot_id().unwrap_or_default(),
            nodes,
            next_member: self.next_member,
            next_image: self.engine.next_image().0,
            members: present.chain(self.awaited.iter().copied()).collect(),
            devices: self.device_states(),
        };
        Ok(state::save(path, &state)?)
    }

    fn finish(&mut self) {
        self.summary.moved =
            memtide_units::ByteSize::from_pageblocks(self.engine.moved_pageblocks());
        self.summary.remaining = self.members.values().map(|member| member.pid).collect();
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        // Only if it is still ours: another daemon may have taken the place.
        if self.listener_file.is_some() && start::file_of(&self.config.socket) == self.listener_file
        {
            let _ = fs::remove_file(&self.config.socket);
        }
        let nothing_left = self.members.is_empty()
            && self.awaited.is_empty()
            && (0..self.stores.len())
                .filter(|node| !self.is_device(*node))
                .all(|node| self.engine.offline(node_id(node)).is_empty());
        if let (Some(path), true) = (&self.config.state, nothing_left) {
            let _ = fs::remove_file(path);
        }
    }
}

/// What happened.
struct Ready {
    stop: bool,
    accept: bool,
    /// Connections that the other end has closed; something may be left to be read.
    gone: Vec<ConnectionId>,
    guests: Vec<ConnectionId>,
}

/// The engine's name for the node at this position.
pub(crate) fn node_id(index: usize) -> NodeId {
    NodeId(u16::try_from(index).expect("a pool has few nodes"))
}
