//! Where a lease goes.
//!
//! A lease has a policy: its own, else its process's, else its tenant's. The policy makes a
//! [`Route`]: nodes in the order in which they are tried. It starts at the *local* node, which is
//! the first of the placement. (Programs are not asked on which processor they run: their pages
//! are shared by threads that run anywhere. Who knows better says it, with
//! [`Mode::AccessedBy`].) Three legs, each tried when the one before has no more room:
//!
//! 1. **policy**: the nodes that the policy allows.
//! 2. **beyond**: public nodes that it leaves out, if the tenant falls back on depletion.
//! 3. **emergency**: special nodes, when all public nodes have been tried in vain and the tenant
//!    may do that, but never a node that is being evacuated.
//!
//! A node outside the placement is on no route unless its policy names it. Where the policy says
//! who accesses the memory, the nodes of a route are tried in the order of what they cost those at
//! that moment ([`Engine::as_now`]). How much of a node is taken is a matter of quotas
//! ([`Engine::room`]). The interleaving policies spread over the nodes of the first leg instead of
//! filling one after the other; whose turn it is stays with the process.
//!
//! What then is missing is not granted; the caller lets the process wait for it
//! ([`crate::queue`]), or it goes on with ordinary memory. Every node that had less room than was
//! wanted leaves the [`Rule`] that made it so.
//!
//! Memory that is promised to a program without anything to fall back on is not lent to others
//! ([`crate::promise`]).
//!
//! What was leased with a policy of its own keeps it, wherever it goes and whatever policy its
//! process has meanwhile (as a range does in Linux that was bound by mbind(2)). What has to leave a
//! node goes along the same route ([`crate::migration_target`]).

use alloc::{collections::BTreeMap, sync::Arc, vec::Vec};

use memtide_units::{Extent, MemberId, NodeId, Pageblock, TenantId, TokenId};

use crate::{
    decision::Rule,
    engine::Engine,
    lease::{Lease, Share},
    mempolicy::{MemPolicy, Mode, PolicyError, Turn, candidates},
    nodes::{NodeClass, Zonelists},
    parts::parts_of,
    pool::Pool,
    refusal::Refusal,
    tenant::{Access, Emergency, OnDepletion},
    tiers::AccessTable,
};

/// Nodes, by their place in the pool, in the order in which they are tried.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Route {
    pub(crate) policy: MemPolicy,
    /// What the policy allows.
    pub(crate) nodes: Vec<usize>,
    /// Public nodes of the placement that it leaves out.
    pub(crate) beyond: Vec<usize>,
    /// Special nodes that it leaves out.
    pub(crate) emergency: Vec<usize>,
}

/// What came of a placement.
#[derive(Debug, Default)]
pub(crate) struct Placed {
    pub(crate) extents: Vec<Extent>,
    /// How much is on which node, in the order it was taken.
    pub(crate) shares: Vec<(NodeId, u64)>,
    pub(crate) count: u64,
    /// Pageblocks on nodes that the policy leaves out.
    pub(crate) beyond: u64,
    /// Pageblocks on special nodes, in an emergency.
    pub(crate) emergency: u64,
    pub(crate) rules: Vec<Rule>,
}

/// What has yet to be placed, and what has been.
struct Draft {
    token: TokenId,
    tenant: TenantId,
    left: u64,
    after: Option<Pageblock>,
    placed: Placed,
}

impl Route {
    /// Where a policy leads. It makes sense ([`MemPolicy::check`]).
    pub(crate) fn new(
        policy: MemPolicy,
        zonelists: &Zonelists,
        accessors: &AccessTable,
        pool: &Pool,
    ) -> Self {
        let index = |node: NodeId| pool.index_of(node).expect("zonelists are of the pool's nodes");
        let is_extended = |node: NodeId| pool.nodes()[index(node)].is_extended();
        let found = candidates(&policy, pool.local(), zonelists, accessors, is_extended);
        let named = |node: NodeId| match &policy.mode {
            Mode::Local => false,
            Mode::Preferred(one) => *one == node,
            Mode::Bind(mask)
            | Mode::PreferredMany(mask)
            | Mode::Interleave(mask)
            | Mode::WeightedInterleave(mask) => mask.contains(node),
            // Whoever says that a device works on it means the device's memory.
            Mode::AccessedBy(_) => zonelists.class(node) == Some(NodeClass::Special),
        };
        let placed = |node: &NodeId| pool.is_placed(index(*node)) || named(*node);
        let all = |nodes: Vec<NodeId>| nodes.into_iter().filter(placed).map(index).collect();
        let nodes = all(found.policy);
        let beyond = all(found.beyond);
        let emergency = found.emergency.into_iter().map(index).collect();
        Self { policy, nodes, beyond, emergency }
    }
}

impl Engine {
    pub(crate) fn set_policy(
        &mut self,
        member: MemberId,
        policy: Option<MemPolicy>,
    ) -> Result<(), Refusal> {
        let token = self.connected(member)?;
        let route = match policy {
            Some(policy) => self.route(policy)?,
            None => self.tenant(self.tenant_of(token)).route.clone(),
        };
        self.set_route(token, route);
        self.process_mut(token).turn = Turn::default();
        Ok(())
    }

    /// From now on what a process leases goes along this route.
    pub(crate) fn set_route(&mut self, token: TokenId, route: Arc<Route>) {
        let reach = self.reach_in_parts(self.tenant_of(token), &route).into();
        self.process_mut(token).route = route;
        self.change_reach(token, reach);
    }

    /// The nodes that a process of a tenant may be given anything of along a route, in their order
    /// in the pool.
    pub(crate) fn reach(&self, tenant: TenantId, route: &Route) -> Vec<usize> {
        let is_allowed = |&node: &usize| {
            let kind = self.pool.nodes()[node].kind;
            self.tenant(tenant).config.quota(kind).access == Access::Allowed
        };
        let mut reach: Vec<_> = self.legs(tenant, route).filter(is_allowed).collect();
        reach.sort_unstable();
        reach
    }

    /// The same in parts of nodes: of who is never moved, those where anything may lie.
    pub(crate) fn reach_in_parts(&self, tenant: TenantId, route: &Route) -> Vec<usize> {
        let movability = self.movability(tenant);
        let nodes = self.reach(tenant, route).into_iter();
        nodes.flat_map(|node| parts_of(node, movability)).collect()
    }

    /// Whether a policy makes sense on this machine: a lease, or a process, may then have it.
    ///
    /// # Errors
    /// [`PolicyError`].
    pub fn check_policy(&self, policy: &MemPolicy) -> Result<(), PolicyError> {
        policy.check(&self.zonelists, &self.accessors)
    }

    /// Where a policy leads, if it makes sense.
    pub(crate) fn route(&self, policy: MemPolicy) -> Result<Arc<Route>, Refusal> {
        self.check_policy(&policy)?;
        Ok(Arc::new(Route::new(policy, &self.zonelists, &self.accessors, &self.pool)))
    }

    /// Takes up to `count` pageblocks along a route and leases them to a process.
    pub(crate) fn place(
        &mut self,
        token: TokenId,
        count: u64,
        after: Option<Pageblock>,
        route: &Arc<Route>,
    ) -> Placed {
        let tenant = self.tenant_of(token);
        let placed = Placed::default();
        let mut draft = Draft { token, tenant, left: count, after, placed };
        let now = self.as_now(route);
        match route.policy.mode {
            Mode::Interleave(_) | Mode::WeightedInterleave(_) => {
                self.spread_over(&mut draft, route);
            }
            _ => self.take_along(&mut draft, &now, &now.nodes),
        }
        self.take_along(&mut draft, route, self.beyond(tenant, route));
        let inside = draft.placed.count;
        let special = self.emergency(tenant, &now);
        self.take_along(&mut draft, &now, special);
        if draft.left > 0 && special.is_empty() && self.all_tried(tenant, route) {
            let nodes = route.emergency.iter().map(|&node| self.pool.nodes()[node].id);
            draft.placed.rules.extend(nodes.map(|node| Rule::NoEmergency { node }));
        }
        draft.placed.emergency = draft.placed.count - inside;
        self.note_routes(token, &draft.placed, route);
        let outside = |node: &usize| !route.nodes.contains(node);
        let shares = draft.placed.shares.iter();
        let shares = shares.map(|&(id, count)| (self.pool.index_of(id), count));
        let beyond = shares.filter(|(node, _)| node.as_ref().is_some_and(outside));
        draft.placed.beyond = beyond.map(|(_, count)| count).sum();
        draft.placed
    }

    /// Notes of what was placed its own policy, if it has one, and where it should be instead, if
    /// elsewhere.
    fn note_routes(&mut self, token: TokenId, placed: &Placed, route: &Arc<Route>) {
        let own = (!Arc::ptr_eq(route, &self.process(token).route)).then_some(route);
        let now = self.as_now(route);
        for pageblock in placed.extents.iter().flat_map(|extent| extent.iter()) {
            let nodes = self.pool.nodes();
            let home = now.home_of(self.pool.block_of(pageblock).node, |node| nodes[node].kind);
            let lease = self.leases.get_mut(&pageblock).expect("just leased");
            lease.heat.home = home;
            lease.route = own.cloned();
        }
    }

    /// The route that a lease keeps to: its own, else its owner's.
    pub(crate) fn route_of<'a>(&'a self, lease: &'a Lease) -> &'a Arc<Route> {
        lease.route.as_ref().unwrap_or_else(|| &self.process(lease.owner.token).route)
    }

    /// The second leg of a route, for this tenant.
    fn beyond<'a>(&self, tenant: TenantId, route: &'a Route) -> &'a [usize] {
        match self.tenant(tenant).config.on_depletion {
            OnDepletion::FallBack => &route.beyond,
            _ => &[],
        }
    }

    /// The third leg of a route, for this tenant: only where all public nodes are tried before.
    pub(crate) fn emergency<'a>(&self, tenant: TenantId, route: &'a Route) -> &'a [usize] {
        match self.tenant(tenant).config.emergency {
            Emergency::On if self.all_tried(tenant, route) => &route.emergency,
            _ => &[],
        }
    }

    /// Whether the first two legs have every public node.
    fn all_tried(&self, tenant: TenantId, route: &Route) -> bool {
        self.beyond(tenant, route).len() == route.beyond.len()
    }

    /// All that a tenant may be given along a route, leg by leg.
    pub(crate) fn legs<'a>(
        &self,
        tenant: TenantId,
        route: &'a Route,
    ) -> impl Iterator<Item = usize> + use<'a> {
        let beyond = self.beyond(tenant, route);
        let emergency = self.emergency(tenant, route);
        route.nodes.iter().chain(beyond).chain(emergency).copied()
    }

    /// Takes from one node of a route after the other.
    fn take_along(&mut self, draft: &mut Draft, route: &Route, nodes: &[usize]) {
        for &node in nodes {
            if draft.left == 0 {
                return;
            }
            draft.placed.rules.extend(self.cost_of(route, node));
            self.take_from(draft, node, draft.left);
            self.note_shortage(draft, node);
        }
    }

    /// Takes from all of them in turn. Nodes of one kind share their quota, so what is planned may
    /// be more than can be had: what is missing then is planned anew.
    fn spread_over(&mut self, draft: &mut Draft, route: &Route) {
        let nodes: Vec<_> = route.nodes.iter().map(|&node| self.pool.nodes()[node].id).collect();
        let is_weighted = matches!(route.policy.mode, Mode::WeightedInterleave(_));
        loop {
            let before = self.process(draft.token).turn;
            let mut turn = before;
            let room = |id: NodeId| {
                let node = self.pool.index_of(id).expect("a node of the route");
                self.room_in(draft, node).0
            };
            let weights = is_weighted.then_some(&self.weights);
            let runs = turn.spread(&nodes, weights, draft.left, room);
            let left = draft.left;
            let mut taken: BTreeMap<NodeId, u64> = BTreeMap::new();
            let mut is_cut = false;
            for (id, count) in runs {
                let node = self.pool.index_of(id).expect("a node of the route");
                let before = draft.left;
                self.take_from(draft, node, count);
                *taken.entry(id).or_default() += before - draft.left;
                is_cut |= before - draft.left < count;
            }
            if is_cut {
                // The turn goes on by what was taken: as if there had been no more room.
                turn = before;
                let room = |id: NodeId| taken.get(&id).copied().unwrap_or(0);
                let weights = is_weighted.then_some(&self.weights);
                turn.spread(&nodes, weights, left - draft.left, room);
            }
            self.process_mut(draft.token).turn = turn;
            if draft.left == 0 || draft.left == left {
                break;
            }
        }
        for &node in &route.nodes {
            self.note_shortage(draft, node);
        }
    }

    /// How much of a node is left for what is being placed, and why no more.
    fn room_in(&self, draft: &Draft, node: usize) -> (u64, Rule) {
        let (room, rule) = self.room(draft.tenant, node);
        let unpromised = self.unpromised_on(node, draft.token);
        if room > unpromised {
            let node = self.pool.nodes()[node].id;
            return (unpromised, Rule::Promised { node, free: room });
        }
        (room, rule)
    }

    fn note_shortage(&self, draft: &mut Draft, node: usize) {
        if draft.left > 0 {
            let rule = match self.room_in(draft, node).1 {
                Rule::Full { .. } => self.full(draft, node),
                rule => rule,
            };
            draft.placed.rules.push(rule);
        }
    }

    /// Why a node has no more for what is being placed: nothing is free, or nothing where it may
    /// lie.
    fn full(&self, draft: &Draft, node: usize) -> Rule {
        let movability = self.movability(draft.tenant);
        let (id, frames) = (self.pool.nodes()[node].id, self.pool.frames(node));
        let movable = frames.counts().free - frames.free_for(movability);
        if movable == 0 {
            return Rule::Full { node: id };
        }
        let here = draft.placed.shares.iter().find(|&&(at, _)| at == id);
        let kernel = here.map_or(0, |&(_, count)| count);
        Rule::MovableOnly { node: id, asked: draft.left + kernel, kernel, movable }
    }

    /// Leases what there is on a node, `most` at most.
    fn take_from(&mut self, draft: &mut Draft, node: usize, most: u64) {
        let (room, _) = self.room_in(draft, node);
        let movability = self.movability(draft.tenant);
        let taken = self.pool.take_on(node, most.min(room), draft.after, movability);
        let count: u64 = taken.iter().map(|extent| u64::from(extent.count)).sum();
        if count == 0 {
            return;
        }
        for pageblock in taken.iter().flat_map(|extent| extent.iter()) {
            self.add_lease(pageblock, draft.token, Share::Own);
        }
        draft.left -= count;
        let placed = &mut draft.placed;
        placed.count += count;
        placed.extents.extend(taken);
        let id = self.pool.nodes()[node].id;
        match placed.shares.iter_mut().find(|(other, _)| *other == id) {
            Some((_, share)) => *share += count,
            None => placed.shares.push((id, count)),
        }
    }
}
