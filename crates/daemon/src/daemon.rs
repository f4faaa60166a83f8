//! The daemon: the engine over real memory, behind a socket.
//!
//! One thread, one loop: wait for something to happen, let the engine decide, carry out what it
//! decides. With nothing to do the loop sleeps without end. What a packet may do is checked in
//! `program` and `control`; how decisions are carried out is in `effects`. Here: `bind` makes a
//! daemon, `guests` are those who are connected, `later` is what goes from one daemon to the next,
//! `stop` ends it.

mod bind;
mod guests;
mod later;
mod stop;

use std::{
    collections::BTreeMap,
    fs, io,
    os::fd::OwnedFd,
    sync::{Arc, atomic::Ordering},
    time::{Duration, Instant},
};

use memtide_engine::{self as engine, Engine};
use memtide_proto::{MAX_PACKET_BYTES, program::Counters};
use memtide_store::Store;
use memtide_units::{ByteSize, ImageId, MemberId, NodeId, Pageblock, RequestId, TenantId, TokenId};

use self::stop::Stop;
pub use self::stop::StopHandle;
use crate::{
    config::Config,
    connection::Connection,
    dcd::Dcd,
    explain::{Past, Refusals},
    images::Images,
    notice::Notice,
    returning::Claiming,
    start,
    state::{self, StateError},
    summary::Summary,
    tokens::Tokens,
    zeroing::Zeroing,
};

/// How often is looked whether those that are awaited still live.
const RECOVERY_LOOK: Duration = Duration::from_millis(100);

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
    /// Of each node what [`state::NodeState::online`] says.
    pub(crate) began_with: Vec<Option<ByteSize>>,
    pub(crate) members: BTreeMap<MemberId, Member>,
    /// Processes that have ended, and of which decisions are still known.
    pub(crate) past: BTreeMap<MemberId, Past>,
    /// What was refused lately.
    pub(crate) refusals: Refusals,
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
    /// What came up before anybody could listen.
    unsaid: Vec<Notice>,
    notices: Box<dyn FnMut(Notice) + Send>,
}

impl Daemon {
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
        for notice in std::mem::take(&mut self.unsaid) {
            self.notice(notice);
        }
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

    fn take_figures(&mut self) {
        for (summary, node) in self.summary.nodes.iter_mut().zip(self.engine.node_status()) {
            summary.leased_peak = summary.leased_peak.max(node.leased);
        }
    }

    fn finish(&mut self) {
        self.summary.moved = ByteSize::from_pageblocks(self.engine.moved_pageblocks());
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
                .filter(|node| !self.is_told_by_others(*node))
                .all(|node| self.engine.offline(node_id(node)).is_empty())
            && (0..self.stores.len()).all(|node| self.engine.retired(node_id(node)).is_empty())
            && (0..self.stores.len()).all(|node| self.is_device(node) || self.is_in_own_zone(node));
        if let (Some(path), true) = (&self.config.state, nothing_left) {
            let _ = fs::remove_file(path);
        }
    }
}

impl Daemon {
    /// Whether all that is online of a node is in the zone that it is configured with.
    fn is_in_own_zone(&self, node: usize) -> bool {
        let own = self.config.nodes[node].zone;
        self.engine.zones(node_id(node)).iter().all(|&(_, zone)| zone == own)
    }
}

/// The engine's name for the node at this position.
pub(crate) fn node_id(index: usize) -> NodeId {
    NodeId(u16::try_from(index).expect("a pool has few nodes"))
}
