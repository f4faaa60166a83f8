//! A daemon is made: the pool, what an earlier daemon left, the socket.

use std::{collections::BTreeMap, os::fd::OwnedFd, sync::Arc, time::Instant};

use memtide_engine::Engine;
use memtide_store::{Store, kernel::Kernel};
use memtide_units::Pageblock;
use rustix::{event::EventfdFlags, io::Errno};

use super::{Daemon, StopHandle, stop::Stop};
use crate::{
    config::{Config, NodeConfig},
    dcd::{self, Dcd},
    explain::Refusals,
    images::Images,
    notice::Notice,
    numa, retire,
    start::{self, BindError},
    state::{self, Left, NodeState, State, StateError},
    summary::{NodeSummary, Summary},
    tokens::Tokens,
    zeroing::Zeroing,
};

/// What a daemon is made of, beside what is empty at first.
struct Parts {
    firsts: Vec<Pageblock>,
    stores: Vec<Store>,
    engine: Engine,
    left: State,
    notices: Vec<Notice>,
    device: Option<Arc<OwnedFd>>,
    listener: OwnedFd,
    stop: Arc<Stop>,
    dcd: Dcd,
}

impl Daemon {
    /// Makes the pool and listens; nobody is served before [`Daemon::run`].
    ///
    /// # Errors
    /// [`BindError`]; nothing is left behind then.
    pub fn bind(config: Config) -> Result<Self, BindError> {
        let firsts = start::first_pageblocks(&config);
        let stores = stores(&config, &firsts);
        let fresh = start::fresh_nodes(&config);
        let Left { state: mut left, forgotten } = left(&config, &fresh)?;
        let until = dcd::takeover::prepare(&config, &mut left, &fresh);
        numa::prepare(&config, &mut left, &fresh)?;
        if left.members.is_empty() {
            // Otherwise they hold some of it already.
            Store::check_all(&stores, &Kernel::this_machine())?;
        }
        let mut engine = Engine::new(start::engine_config(&config, &firsts, &left, until))?;
        retire::take_over(&mut engine, &left);
        let stop = Arc::new(Stop::new(event()?));
        let device = config.grant_userfaultfd.then(start::open_device).flatten().map(Arc::new);
        let listener = start::listen(&config.socket, config.mode)?;
        let mut dcd = Dcd::new(&config, &firsts, &StopHandle(Arc::clone(&stop)))?;
        dcd.take_over(&config, &left);
        let notices = forgotten.into_iter().map(Notice::Forgotten).collect();
        let parts = Parts { firsts, stores, engine, left, notices, device, listener, stop, dcd };
        Ok(Self::of(config, parts))
    }

    fn of(config: Config, parts: Parts) -> Self {
        let Parts { firsts, stores, engine, left, notices, device, listener, stop, dcd } = parts;
        let mut images = Images::default();
        for member in &left.members {
            images.await_member(member.image, member.member);
        }
        let start = Instant::now();
        Self {
            listener_file: start::file_of(&config.socket),
            engine,
            stores,
            firsts,
            images,
            tokens: Tokens::default(),
            zeroing: Zeroing::default(),
            began_with: left.nodes.iter().map(|node| node.online).collect(),
            members: BTreeMap::new(),
            past: BTreeMap::new(),
            refusals: Refusals::default(),
            tenants: BTreeMap::new(),
            tenant_names: config.tenants().into_iter().map(|tenant| tenant.name).collect(),
            guests: BTreeMap::new(),
            requests: BTreeMap::new(),
            look_at_awaited: (!left.members.is_empty()).then_some(start),
            awaited: left.members,
            device,
            summary: summary(&config),
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
            unsaid: notices,
            notices: Box::new(|_| ()),
            config,
        }
    }
}

fn stores(config: &Config, firsts: &[Pageblock]) -> Vec<Store> {
    let nodes = config.nodes.iter().zip(firsts);
    let store = |(node, first): (&NodeConfig, &Pageblock)| {
        let pageblocks = node.size.pageblocks_ceil();
        let backing = start::backing(node.backing);
        numa::placed(Store::new(&node.name, backing, *first, pageblocks), node)
    };
    nodes.map(store).collect()
}

/// What an earlier daemon left, or what there is without one.
fn left(config: &Config, fresh: &[NodeState]) -> Result<Left, StateError> {
    let left = match &config.state {
        Some(path) => state::load(path, fresh)?,
        None => None,
    };
    let nothing = || {
        let nodes = fresh.to_vec();
        let state = State { nodes, next_member: 1, next_image: 1, ..State::default() };
        Left { state, forgotten: Vec::new() }
    };
    Ok(left.unwrap_or_else(nothing))
}

/// What wakes the loop from elsewhere.
fn event() -> Result<OwnedFd, BindError> {
    let flags = EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK;
    let failed = |source: Errno| BindError::System { what: "make an event", source: source.into() };
    rustix::event::eventfd(0, flags).map_err(failed)
}

fn summary(config: &Config) -> Summary {
    let node = |node: &NodeConfig| NodeSummary {
        name: node.name.clone(),
        size: node.size,
        ..NodeSummary::default()
    };
    Summary { nodes: config.nodes.iter().map(node).collect(), ..Summary::default() }
}
