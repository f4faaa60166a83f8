//! A daemon is made: the pool, what an earlier daemon left, the socket.

use std::{collections::BTreeMap, sync::Arc, time::Instant};

use memtide_engine::Engine;
use memtide_store::{Store, kernel::Kernel};
use rustix::io::Errno;

use super::{Daemon, StopHandle, stop::Stop};
use crate::{
    config::Config,
    dcd::{self, Dcd},
    explain::Refusals,
    images::Images,
    notice::Notice,
    retire,
    start::{self, BindError},
    state::{self, Left, State},
    summary::{NodeSummary, Summary},
    tokens::Tokens,
    zeroing::Zeroing,
};

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
        let nothing = || Left {
            state: State {
                nodes: fresh.clone(),
                next_member: 1,
                next_image: 1,
                ..State::default()
            },
            forgotten: Vec::new(),
        };
        let Left { state: mut left, forgotten } = left.unwrap_or_else(nothing);
        let until = dcd::takeover::prepare(&config, &mut left, &fresh);
        if left.members.is_empty() {
            // Otherwise they hold some of it already.
            Store::check_all(&stores, &Kernel::this_machine())?;
        }
        let mut engine = Engine::new(start::engine_config(&config, &firsts, &left, until))?;
        retire::take_over(&mut engine, &left);
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
        let stop = Arc::new(Stop::new(event));
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
            refusals: Refusals::default(),
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
            unsaid: forgotten.into_iter().map(Notice::Forgotten).collect(),
            notices: Box::new(|_| ()),
            config,
        })
    }
}
