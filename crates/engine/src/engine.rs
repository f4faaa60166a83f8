//! The state, and the way an input takes through it.
//!
//! [`Engine::handle`] checks an input and applies it (one function per kind of input, in the
//! modules named after what they are about), then lets everything that waits go on as far as it
//! can: blocks that became empty leave, requests start and end, orders go out. Handlers check
//! first and change after; that a refused input changed nothing is theirs to keep.

use alloc::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    vec::Vec,
};

use memtide_units::{
    ImageId, Instant, MemberId, MoveId, NodeId, NodeKind, Pageblock, RequestId, TenantId, TokenId,
};

use crate::{
    config::{Config, ConfigError, Limits, Performance},
    device::Device,
    effect::Effect,
    input::Input,
    lease::{Lease, Residue, Share, Standing},
    mempolicy::Weights,
    moves::Order,
    nodes::{LOCAL_DISTANCE, Zonelists},
    outbox::Outbox,
    pageblocks::MOVABLE,
    parts::parts_of_kind,
    place::Route,
    pool::{BlockId, Pool},
    process::{Image, Link, Process, Waiting},
    quota::Tenant,
    rebalance::Balance,
    recovery::Recovery,
    refusal::Refusal,
    request::{Request, Work, WorkId},
    sums::Sums,
    tenant::{self, Migration, OnDepletion},
    tiers::{Access, AccessTable},
    want::Unmet,
    wishes::Queue,
};

/// The rulebook and all it knows.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Engine {
    pub(crate) pool: Pool,
    pub(crate) zonelists: Zonelists,
    pub(crate) weights: Weights,
    /// By their names.
    pub(crate) tenants: Vec<Tenant>,
    /// The nodes on which nothing is placed until memory is put back.
    pub(crate) evacuating: BTreeSet<usize>,
    /// What processes are promised and have.
    pub(crate) sums: Sums,
    /// Who waits for memory.
    pub(crate) queue: Queue,
    /// What was not given for want of room.
    pub(crate) unmet: Unmet,
    pub(crate) limits: Limits,
    pub(crate) now: Instant,
    pub(crate) next_image: u64,
    pub(crate) next_order: u64,
    pub(crate) next_work: u64,
    pub(crate) images: BTreeMap<ImageId, Image>,
    pub(crate) processes: BTreeMap<TokenId, Process>,
    pub(crate) members: BTreeMap<MemberId, TokenId>,
    pub(crate) leases: BTreeMap<Pageblock, Lease>,
    pub(crate) zeroing: BTreeMap<Pageblock, Residue>,
    /// Who disconnected when, of those that are not gone.
    pub(crate) ending: BTreeSet<(Instant, TokenId)>,
    /// Who stalls when.
    pub(crate) waiting: BTreeSet<(Instant, TokenId)>,
    pub(crate) orders: BTreeMap<MoveId, Order>,
    pub(crate) recovery: Option<Recovery>,
    pub(crate) requests: BTreeMap<RequestId, Request>,
    pub(crate) works: BTreeMap<WorkId, Work>,
    /// Of whom something is to be ordered to move, and for which works.
    pub(crate) wanted: BTreeSet<(TokenId, WorkId)>,
    /// The isolated blocks and who empties them.
    pub(crate) emptying: BTreeMap<BlockId, WorkId>,
    /// Isolated blocks in which something changed; empty between inputs.
    pub(crate) touched: BTreeSet<BlockId>,
    pub(crate) moved: u64,
    /// Empty between inputs.
    pub(crate) out: Outbox,
    /// What the store is zeroing in vain, for it was lost since; whose it was.
    pub(crate) void_zeros: BTreeMap<Pageblock, ImageId>,
    /// The devices that are not in use, by node.
    pub(crate) devices: BTreeMap<usize, Device>,
    /// How fast the nodes are, in their order.
    pub(crate) performance: Vec<Performance>,
    pub(crate) balance: Balance,
    pub(crate) accessors: AccessTable,
}

impl Engine {
    /// An engine over these nodes.
    ///
    /// # Errors
    /// [`ConfigError`] says what in the configuration makes no sense.
    pub fn new(config: Config) -> Result<Self, ConfigError> {
        check_limits(&config.limits)?;
        let pool = Pool::new(&config)?;
        let zonelists = zonelists(&config, &pool)?;
        let performance: Vec<_> =
            config.nodes.iter().map(|node| (node.node, node.performance)).collect();
        let known = |&&(node, _): &&(NodeId, u8)| pool.index_of(node).is_none();
        if let Some(&(node, _)) = config.weights.iter().find(known) {
            return Err(ConfigError::NoSuchNode { field: "weights", node });
        }
        let unknown = |access: &&Access| pool.index_of(access.node).is_none();
        if let Some(&Access { node, .. }) = config.accessors.iter().find(unknown) {
            return Err(ConfigError::NoSuchNode { field: "accessors", node });
        }
        let accessors = AccessTable::new(&config.accessors)?;
        tenant::check(&config, &zonelists, &accessors)?;
        let weights = Weights::new(config.weighting, &config.weights, &performance)?;
        let sums = sums(&config);
        let tenant = |tenant: tenant::TenantConfig| {
            let route = Route::new(tenant.policy.clone(), &zonelists, &accessors, &pool);
            Tenant::new(tenant, Arc::new(route))
        };
        Ok(Self {
            tenants: config.tenants.into_iter().map(tenant).collect(),
            pool,
            zonelists,
            weights,
            evacuating: BTreeSet::new(),
            sums,
            queue: Queue::default(),
            unmet: Unmet::default(),
            limits: config.limits,
            now: Instant::default(),
            next_image: config.next_image.0,
            next_order: 1,
            next_work: 1,
            images: BTreeMap::new(),
            processes: BTreeMap::new(),
            members: BTreeMap::new(),
            leases: BTreeMap::new(),
            zeroing: BTreeMap::new(),
            ending: BTreeSet::new(),
            waiting: BTreeSet::new(),
            orders: BTreeMap::new(),
            recovery: Recovery::new(config.awaited),
            requests: BTreeMap::new(),
            works: BTreeMap::new(),
            wanted: BTreeSet::new(),
            emptying: BTreeMap::new(),
            touched: BTreeSet::new(),
            moved: 0,
            out: Outbox::default(),
            void_zeros: BTreeMap::new(),
            devices: BTreeMap::new(),
            performance: performance.into_iter().map(|(_, performance)| performance).collect(),
            balance: Balance::default(),
            accessors,
        })
    }

    /// Something happened at this time; what is to be done about it. A time before that of an
    /// earlier input counts as that one's.
    ///
    /// # Errors
    /// [`Refusal`] when the input makes no sense; then nothing changed.
    pub fn handle(&mut self, now: Instant, input: Input) -> Result<Vec<Effect>, Refusal> {
        let before = self.now;
        self.now = before.max(now);
        // These only take room away: nothing that waits can go on because of them.
        let quiet = matches!(
            input,
            Input::Lease { .. } | Input::Commit { .. } | Input::Accessed { .. } | Input::Tick
        );
        if let Err(refusal) = self.apply(input) {
            self.now = before;
            return Err(refusal);
        }
        self.advance(quiet);
        Ok(core::mem::take(&mut self.out).into_effects(&self.pool))
    }

    fn apply(&mut self, input: Input) -> Result<(), Refusal> {
        match input {
            Input::Join { member, pid, name, token, lineage, who } => {
                self.join(member, pid, name, token, lineage, who)
            }
            Input::AwaitedGone { member } => self.awaited_gone(member),
            Input::Left { member } => self.left(member),
            Input::TokenGone { token } => self.token_gone(token),
            Input::Commit { member, by } => self.commit(member, by),
            Input::Lease { member, count, after, policy } => {
                self.lease(member, count, after, policy)
            }
            Input::SetPolicy { member, policy } => self.set_policy(member, policy),
            Input::Mbind { request, member, extents, policy, deadline } => {
                self.mbind(request, member, &extents, policy, deadline)
            }
            Input::Accessed { accessor, extents } => self.accessed(accessor, &extents),
            Input::Poison { pageblock } => self.poison(pageblock),
            Input::Lost { extents } => self.lost(&extents),
            Input::LetGo { member, extents } => self.let_go(member, &extents),
            Input::LinkChanged { node, performance } => self.link_changed(node, performance),
            Input::Online { extents } => self.online_extents(&extents),
            Input::GiveBackExtents { request, extents, deadline } => {
                self.give_back_extents(request, &extents, deadline)
            }
            Input::Evacuate { request, node, deadline } => self.evacuate(request, node, deadline),
            Input::DeviceSaved { node } => self.device_saved(node),
            Input::DeviceRestored { node } => self.device_restored(node),
            Input::Release { member, extents } => self.release(member, &extents),
            Input::Pin { member, extents, reason } => self.pin(member, &extents, reason),
            Input::Unpin { member, extents, reason } => self.unpin(member, &extents, reason),
            Input::ForkBegin { member, token } => self.fork_begin(member, token),
            Input::Moved { member, id, outcomes } => self.moved(member, id, &outcomes),
            Input::Thawed { member, extents } => self.thawed(member, &extents),
            Input::Zeroed { image, extents } => self.zeroed(image, &extents),
            Input::GiveBack { request, bytes, from, deadline } => {
                self.give_back(request, bytes, from, deadline)
            }
            Input::Add { bytes, to, zone } => self.add(bytes, to, zone),
            Input::MoveTo { request, member, to, bytes, deadline } => {
                self.move_to(request, member, to, bytes, deadline)
            }
            Input::Tick => Ok(()),
        }
    }

    /// Lets everything that waits go on as far as it can.
    fn advance(&mut self, quiet: bool) {
        let stalled = self.mark_stalled();
        let recovered = self.end_recovery_if_due();
        self.serve_queue();
        let due = self.requests.values().any(|request| request.deadline <= self.now);
        let balanced = self.balance_if_due();
        if quiet && !stalled && !recovered && !due && !balanced && self.touched.is_empty() {
            return;
        }
        loop {
            self.review_touched();
            for id in self.requests.keys().copied().collect::<Vec<_>>() {
                self.step(id);
            }
            let starved = self.order_moves();
            if !self.relieve(&starved) && self.touched.is_empty() {
                break;
            }
        }
        self.end_balance_works();
        self.tell_progress();
        // Blocks may have been opened again.
        self.serve_queue();
    }

    /// The next time at which something happens by itself: [`Input::Tick`] is due then.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Instant> {
        let stall = self.waiting.first().map(|&(at, _)| at);
        let recovery = self.recovery.as_ref().map(|recovery| recovery.until);
        let requests = self.requests.values().map(|request| request.deadline);
        let queue = self.queue_deadline();
        requests.chain(stall).chain(recovery).chain(queue).chain(self.balance.at).min()
    }

    /// The process of a member.
    pub(crate) fn token_of(&self, member: MemberId) -> Result<TokenId, Refusal> {
        self.members.get(&member).copied().ok_or(Refusal::NoSuchMember { member })
    }

    /// The process of a member that is connected.
    pub(crate) fn connected(&self, member: MemberId) -> Result<TokenId, Refusal> {
        let token = self.token_of(member)?;
        match self.process(token).link {
            Link::Connected(_) => Ok(token),
            _ => Err(Refusal::NotConnected { member }),
        }
    }

    pub(crate) fn process(&self, token: TokenId) -> &Process {
        self.processes.get(&token).expect("tokens in the books have a process")
    }

    pub(crate) fn process_mut(&mut self, token: TokenId) -> &mut Process {
        self.processes.get_mut(&token).expect("tokens in the books have a process")
    }

    pub(crate) fn image_mut(&mut self, image: ImageId) -> &mut Image {
        self.images.get_mut(&image).expect("whoever holds something has an image")
    }

    /// Notes that something about a pageblock changed that matters to who empties its block.
    pub(crate) fn touch(&mut self, pageblock: Pageblock) {
        let block = self.pool.block_of(pageblock);
        if self.emptying.contains_key(&block) {
            self.touched.insert(block);
        }
    }

    /// The same, for all that a process has a stake in.
    pub(crate) fn touch_all(&mut self, token: TokenId) {
        if self.emptying.is_empty() {
            return;
        }
        for block in self.emptying.keys().copied().collect::<Vec<_>>() {
            if self.process(token).held.range(self.pool.span(block)).next().is_some() {
                self.touched.insert(block);
            }
        }
    }

    /// What a leased pageblock lets one do with it.
    pub(crate) fn standing(&self, lease: &Lease) -> Standing {
        use memtide_units::HoldReason::{Inherited, NoMigration, NotResponding, SharedWithChild};
        if let Some((token, reason)) = lease.pinned() {
            return Standing::Held(token, reason);
        }
        let token = lease.owner.token;
        if self.tenant(self.images[&lease.image].tenant).config.migration == Migration::Never {
            return Standing::Held(token, NoMigration);
        }
        let owner = self.process(token);
        let connected = matches!(owner.link, Link::Connected(_));
        if lease.share == Share::Shared && (connected || !lease.others.is_empty()) {
            return Standing::Held(token, SharedWithChild);
        }
        if !connected {
            return Standing::Held(token, Inherited);
        }
        if owner.waiting == Waiting::Stalled {
            return Standing::Held(token, NotResponding);
        }
        match (lease.share, lease.flight) {
            (Share::Own, None) => Standing::Movable,
            (Share::Own, Some(flight)) if flight.end == crate::lease::End::Source => {
                Standing::Leaving
            }
            _ => Standing::Unsettled,
        }
    }
}

fn check_limits(limits: &Limits) -> Result<(), ConfigError> {
    let order = limits.pairs_per_order_max;
    let least = [
        ("pairs_per_order_max", order, 1),
        ("pairs_in_flight_max", limits.pairs_in_flight_max, order),
        ("requests_max", limits.requests_max, 1),
        ("leases_queued_max", limits.leases_queued_max, 1),
    ];
    match least.into_iter().find(|&(_, value, least)| value < least) {
        Some((limit, value, least)) => Err(ConfigError::Limit { limit, value, least }),
        None => Ok(()),
    }
}

/// Sums of nothing yet.
fn sums(config: &Config) -> Sums {
    let kinds = || config.nodes.iter().map(|node| node.kind);
    let parts = |kind, movability| parts_of_kind(kinds(), kind, movability).collect();
    let tenants = (0..).map(TenantId).zip(&config.tenants);
    let strict = tenants.filter(|(_, tenant)| tenant.on_depletion != OnDepletion::FallBack);
    let strict = strict.map(|(id, _)| id).collect();
    let of_tenant = |tenant: &tenant::TenantConfig| {
        let (quotas, movability) = (tenant.quotas.clone(), tenant.movability());
        let guaranteed = quotas.into_iter().filter(|(_, quota)| quota.min > 0);
        guaranteed.map(move |(kind, _)| (kind, movability))
    };
    let guaranteed = config.tenants.iter().flat_map(of_tenant);
    let guaranteed = guaranteed.map(|(kind, movability)| parts(kind, movability)).collect();
    let is_limited = |kind: &NodeKind| {
        let mut quotas = config.tenants.iter().map(|tenant| tenant.quota(*kind));
        quotas.any(|quota| quota.min > 0 || quota.max.is_some())
    };
    let limited = NodeKind::ALL.into_iter().filter(is_limited);
    Sums::new(guaranteed, limited.map(|kind| parts(kind, MOVABLE)).collect(), strict)
}

/// The order of fallback among the nodes, by the distances as configured or by placement.
fn zonelists(config: &Config, pool: &Pool) -> Result<Zonelists, ConfigError> {
    let named = config.distances.iter().flat_map(|&(from, to, _)| [from, to]);
    if let Some(node) = { named }.find(|&node| pool.index_of(node).is_none()) {
        return Err(ConfigError::NoSuchNode { field: "distances", node });
    }
    let nodes: Vec<_> = config.nodes.iter().map(|node| (node.node, node.class)).collect();
    let given = |from, to| {
        let mut given = config.distances.iter();
        given.find(|&&(a, b, _)| (a, b) == (from, to)).map(|&(_, _, distance)| distance)
    };
    // `furthest_first` has what is outside the placement in front, and the placement backwards.
    let order = pool.furthest_first();
    let by_place = |to: NodeId| {
        let place = order.iter().rev().position(|&node| pool.nodes()[node].id == to)?;
        Some(u8::try_from(place + 11).unwrap_or(u8::MAX - 1))
    };
    let distance = |from: NodeId, to: NodeId| match given(from, to) {
        None if from == to => Some(LOCAL_DISTANCE),
        None if config.distances.is_empty() => by_place(to),
        distance => distance,
    };
    Ok(Zonelists::build(&nodes, distance)?)
}
