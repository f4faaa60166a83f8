//! Memory goes from who holds it idle to who had to do without.
//!
//! One program holds scarce memory and does not use it; another, which does use its own, had to
//! fall back, or waits with [`crate::tenant::OnDepletion::Reclaim`]. That is found out, and put
//! right: first what is hot goes where it should be (its *home*), as far as there is room; for the
//! rest, what is idle is moved out of the way, to where its owner may have it and a step down first
//! ([`crate::demotion`]), but never what a tenant is guaranteed. What was moved out has a home it
//! is not in, and if it gets hot it is like any other that fell back: it comes back when there is
//! room, or something else is idle.
//!
//! Nothing ping-pongs:
//! * what is to be moved for balance, whatever comes of it, is left alone from then on for
//!   [`crate::Limits::settle_for`];
//! * only what is idle makes way, only for what is hot, and nothing is both. So once as many are
//!   hot as there is room for, or all the hot are home, there is nothing more to do.
//!
//! The owner of a private node has a say: what is idle is moved out only with
//! [`Capability::Reclaim`], what is used is taken from there only with
//! [`Capability::NumaBalancing`], and nothing is moved in without [`Capability::Demotion`].
//! Programs that name the node, and operators, need none of these.
//!
//! A round moves no more than a process may have in flight; what of it was not even ordered when
//! the next one comes is given up. The engine looks while there is anything hot that is not home,
//! or somebody waits, a few times in [`crate::Limits::idle_after`]; otherwise it does not look, and
//! nothing is due.

use alloc::{collections::BTreeMap, vec::Vec};
use core::time::Duration;

use memtide_units::{Instant, NodeKind, Pageblock, TenantId, TokenId};

use crate::{
    engine::Engine,
    lease::{Lease, Standing},
    mempolicy::Mode,
    migrate_reason::MigrateReason,
    nodes::{Capability, NodeClass},
    place::Route,
    request::{Goal, WorkId},
};

/// Looks in the time after which something is idle.
const LOOKS: u32 = 8;

/// What is under way for the sake of balance.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(crate) struct Balance {
    /// When to look next.
    pub(crate) at: Option<Instant>,
    /// What is moved for it, and why.
    pub(crate) works: BTreeMap<WorkId, MigrateReason>,
}

/// Whether something comes to where it should be, or makes way on nodes of a kind.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
enum Way {
    Home,
    Out(NodeKind),
}

/// Who goes where in one round.
#[derive(Default)]
struct Plan {
    /// Pageblocks, by where they go and whose they are.
    moves: BTreeMap<(Way, usize, TokenId), Vec<Pageblock>>,
    /// What of each tenant is used and not where it should be.
    misplaced: BTreeMap<TenantId, u64>,
    /// What is lacking of each kind, and the first tenant that lacks it.
    lacking: BTreeMap<NodeKind, (u64, TenantId)>,
}

impl Route {
    /// Where what lies on this node should be, if it should be elsewhere: a node of the kind that
    /// the policy has first. What is spread over several is right on any of them.
    pub(crate) fn home_of(&self, node: usize, kind: impl Fn(usize) -> NodeKind) -> Option<usize> {
        let &first = self.nodes.first()?;
        let right = match self.policy.mode {
            Mode::Interleave(_) | Mode::WeightedInterleave(_) | Mode::Bind(_) => {
                self.nodes.contains(&node)
            }
            _ => kind(first) == kind(node),
        };
        (!right).then_some(first)
    }

    /// Where what had to leave one node for another should be, if elsewhere: back where it was if
    /// the policy has that first, or spreads over both.
    pub(crate) fn home_after(
        &self,
        left: usize,
        here: usize,
        kind: impl Fn(usize) -> NodeKind,
    ) -> Option<usize> {
        if kind(left) == kind(here) {
            return None;
        }
        let place = |node| self.nodes.iter().position(|&other| other == node);
        let spreads = matches!(self.policy.mode, Mode::Interleave(_) | Mode::WeightedInterleave(_));
        let came_first = match (place(left), place(here)) {
            (Some(left), Some(here)) => left < here || spreads,
            (left, _) => left.is_some(),
        };
        if came_first { Some(left) } else { self.home_of(here, kind) }
    }
}

impl Engine {
    /// Has the engine look soon, unless it will anyway.
    pub(crate) fn look_for_balance(&mut self) {
        let every = (self.limits.idle_after / LOOKS).max(Duration::from_millis(1));
        let at = self.now.after(every);
        self.balance.at.get_or_insert(at);
    }

    /// Looks, if it is time. Says whether it was.
    pub(crate) fn balance_if_due(&mut self) -> bool {
        // While processes are awaited nothing is placed, and so nothing is missing.
        let waits = self.recovery.is_none() && !self.shortage().is_empty();
        if waits {
            self.look_for_balance();
        }
        if self.balance.at.is_none_or(|at| at > self.now) {
            return false;
        }
        self.balance.at = None;
        if self.recovery.is_some() {
            return false;
        }
        let hot = self.hot_and_away();
        if !hot.is_empty() || waits {
            self.look_for_balance();
        }
        for work in core::mem::take(&mut self.balance.works).into_keys() {
            self.close_work(work);
        }
        let plan = self.plan_balance(hot);
        let until = self.now.after(self.limits.settle_for);
        for (&(way, node, token), pageblocks) in &plan.moves {
            let reason = self.reason_for_balance(&plan, way, token, pageblocks);
            for pageblock in pageblocks {
                let lease = self.leases.get_mut(pageblock).expect("the plan is of leases");
                lease.heat.settled_until = until;
            }
            let work = self.open_work(None, Goal::Fill(node));
            self.balance.works.insert(work, reason);
            self.want(work, token, pageblocks.iter().copied());
        }
        true
    }

    fn reason_for_balance(
        &self,
        plan: &Plan,
        way: Way,
        token: TokenId,
        pageblocks: &[Pageblock],
    ) -> MigrateReason {
        match way {
            Way::Home => {
                MigrateReason::Promotion { misplaced: plan.misplaced[&self.tenant_of(token)] }
            }
            Way::Out(kind) => {
                let idle = |at| self.now.0.saturating_sub(self.leases[at].heat.since.0);
                let idle_for = pageblocks.iter().map(idle).min().unwrap_or_default();
                let (lacking, lacks) = plan.lacking[&kind];
                MigrateReason::Demotion { idle_for, kind, lacking, lacks }
            }
        }
    }

    /// Ends what is done.
    pub(crate) fn end_balance_works(&mut self) {
        for work in self.balance.works.keys().copied().collect::<Vec<_>>() {
            let of = &self.works[&work];
            if of.in_flight == 0 && of.todo_count() == 0 {
                self.close_work(work);
                self.balance.works.remove(&work);
            }
        }
    }

    /// What is used and not where it should be, the most used first.
    fn hot_and_away(&self) -> Vec<(Pageblock, usize)> {
        let within = self.limits.idle_after;
        let hot = self.leases.iter().filter_map(|(&pageblock, lease)| {
            let heat = &lease.heat;
            let count: u64 = heat.counts.values().map(|&count| u64::from(count)).sum();
            let home = heat.home.filter(|_| heat.is_hot(self.now, within))?;
            let here = self.pool.block_of(pageblock).node;
            self.may_follow_use(here, home).then_some(())?;
            Some((core::cmp::Reverse(count), pageblock, home))
        });
        let mut hot: Vec<_> = hot.collect();
        hot.sort_unstable();
        hot.into_iter().map(|(_, pageblock, home)| (pageblock, home)).collect()
    }

    /// Whether the owner of a node permits something; of one that is not private, all is.
    pub(crate) fn permits(&self, node: usize, capability: Capability) -> bool {
        match self.zonelists.class(self.pool.nodes()[node].id) {
            Some(NodeClass::Private(capabilities)) => capabilities.has(capability),
            _ => true,
        }
    }

    /// Whether what is used on one node may be brought to another for that.
    pub(crate) fn may_follow_use(&self, from: usize, to: usize) -> bool {
        let is_permitted =
            self.permits(from, Capability::NumaBalancing) && self.permits(to, Capability::Demotion);
        from == to || is_permitted
    }

    /// Whether balance may move a pageblock now.
    fn may_balance(&self, pageblock: Pageblock, lease: &Lease) -> bool {
        let leaving = self.emptying.contains_key(&self.pool.block_of(pageblock));
        self.standing(lease) == Standing::Movable
            && !leaving
            && lease.heat.settled_until <= self.now
    }

    fn plan_balance(&self, hot: Vec<(Pageblock, usize)>) -> Plan {
        let mut left = u64::from(self.limits.pairs_in_flight_max);
        // What others wait for is not filled up.
        let mut plan = Plan { lacking: self.lacking(), ..Plan::default() };
        for (pageblock, _) in &hot {
            let tenant = self.tenant_of(self.leases[pageblock].owner.token);
            *plan.misplaced.entry(tenant).or_default() += 1;
        }
        let mut room: BTreeMap<(TokenId, usize, usize), u64> = BTreeMap::new();
        let mut filled: BTreeMap<usize, u64> = BTreeMap::new();
        let mut charged: BTreeMap<(TenantId, usize), u64> = BTreeMap::new();
        for (pageblock, home) in hot {
            let lease = &self.leases[&pageblock];
            let token = lease.owner.token;
            let tenant = self.tenant_of(token);
            if left == 0 {
                break;
            }
            if !self.may_balance(pageblock, lease) || self.is_closed(home) {
                continue;
            }
            let kind = self.pool.nodes()[home].kind;
            let more = charged.entry((tenant, kind as usize)).or_default();
            if !self.may_have_more(tenant, kind, *more) {
                continue;
            }
            *more += 1;
            // What guarantees and promises leave of a node differs by who comes from where; what is
            // taken is gone for all.
            let key = (token, self.part_of(pageblock), home);
            let room =
                room.entry(key).or_insert_with(|| self.room_to_fill(token, home, &[pageblock]));
            let filled = filled.entry(home).or_default();
            if *room > *filled {
                *filled += 1;
                left -= 1;
                plan.moves.entry((Way::Home, home, token)).or_default().push(pageblock);
            } else {
                plan.lacking.entry(kind).or_insert((0, tenant)).0 += 1;
            }
        }
        for (kind, (count, _)) in plan.lacking.clone() {
            self.plan_out(kind, count.min(left), &mut left, &mut plan);
        }
        plan
    }

    /// Whether a tenant's own limits let it have so much more of a kind, and one.
    fn may_have_more(&self, tenant: TenantId, kind: NodeKind, more: u64) -> bool {
        let tenant = self.tenant(tenant);
        let quota = tenant.config.quota(kind);
        let most = quota.max.unwrap_or(u64::MAX);
        quota.access == crate::tenant::Access::Allowed && tenant.used[kind as usize] + more < most
    }

    /// Moves out what is idle, the longest idle first.
    fn plan_out(&self, kind: NodeKind, count: u64, left: &mut u64, plan: &mut Plan) {
        let mut idle: Vec<_> = self.idle_leases(kind).collect();
        idle.retain(|(pageblock, lease)| {
            let here = self.pool.block_of(*pageblock).node;
            self.permits(here, Capability::Reclaim) && self.may_balance(*pageblock, lease)
        });
        idle.sort_by_key(|(pageblock, lease)| (lease.heat.since, *pageblock));
        let mut spare: BTreeMap<TenantId, u64> = BTreeMap::new();
        let mut taken: BTreeMap<usize, u64> = BTreeMap::new();
        // Where near nodes differ too much to say what is further, policies alone decide.
        let tiers = self.tiers().ok();
        let mut count = count;
        for (pageblock, lease) in idle {
            let token = lease.owner.token;
            let tenant = self.tenant_of(token);
            let spare = spare.entry(tenant).or_insert_with(|| self.above_guarantee(tenant, kind));
            if count == 0 || *left == 0 {
                return;
            }
            let target = self.demotion_target(pageblock, lease, kind, tiers.as_ref(), &taken);
            let Some(to) = target.filter(|_| *spare > 0) else {
                continue;
            };
            *taken.entry(to).or_default() += 1;
            *spare -= 1;
            (count, *left) = (count - 1, *left - 1);
            plan.moves.entry((Way::Out(kind), to, token)).or_default().push(pageblock);
        }
    }
}
