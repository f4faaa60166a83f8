//! Promises: a program knows in advance that it will get what it is going to need.
//!
//! A program asks for a promise before it hands memory out to itself, so that its `malloc` can
//! fail in time. A process's promise is the larger of what it asked to be promised and what it
//! has. A promise reserves no pageblock. It is given when all that is promised fits:
//!
//! * **process**: its promise, into what its route leads to;
//! * **tenant**: the promises of the tenant, into what it may have of all kinds;
//! * **pool**: the promises of all processes that are bound to the same nodes, or some of them,
//!   into those; and likewise those of everybody into all that is online. A tenant counts with what
//!   is guaranteed to it at least, so that a promise never stands on memory that is sure to go to
//!   somebody else. What is retired, and nodes that are being evacuated, are not there.
//!
//! A tenant that falls back is promised anything, for its programs go on with ordinary memory.
//! Such promises count with what their processes have.
//!
//! A lease gets what its process was promised, and beyond that nothing that others are promised
//! ([`Engine::unpromised`]), except what is guaranteed to its tenant of a kind of node.
//!
//! A promise that does not fit waits as a lease does ([`crate::queue`]). One that would not fit if
//! nobody else were there is refused at once. While a promise waits for others to give back what
//! they were promised, no later one passes it, but within what is guaranteed to its tenant. A
//! promise that waits for its own tenant holds up that tenant only.

use alloc::{collections::BTreeSet, vec::Vec};

use memtide_units::{MemberId, NodeKind, TenantId, TokenId};

use crate::{
    decision::{Rule, Scope},
    engine::Engine,
    process::Process,
    queue::Wish,
    refusal::Refusal,
    tenant::{Access, OnDepletion},
};

/// Which waiting promises a later one has to stay behind.
#[derive(Debug, Default)]
pub(crate) struct Ahead {
    /// Pageblocks of promises that wait for the pool.
    pub(crate) pool: u64,
    /// Tenants with a promise that waits.
    pub(crate) tenants: BTreeSet<TenantId>,
}

impl Engine {
    pub(crate) fn commit(&mut self, member: MemberId, by: i64) -> Result<(), Refusal> {
        let token = self.connected(member)?;
        let change = by.unsigned_abs();
        if by > 0 {
            self.ask(token, Wish::Promise(change));
            return Ok(());
        }
        let process = self.process_mut(token);
        let committed = process.committed.saturating_add(process.unkept);
        if change > committed {
            return Err(Refusal::CommitUnderflow { member, by: change, committed });
        }
        let never_kept = change.min(process.unkept);
        process.unkept -= never_kept;
        process.committed -= change - never_kept;
        Ok(())
    }

    /// Whether a process can be promised so much more now; the rule that forbids it otherwise.
    pub(crate) fn can_promise(&self, token: TokenId, by: u64, ahead: &Ahead) -> Result<(), Rule> {
        let tenant = self.tenant_of(token);
        let process = self.process(token);
        let most = self.reachable(token);
        let own = Rule::Promises { scope: Scope::Process, promised: u64::MAX, most };
        let after = process.committed.checked_add(by).ok_or(own)?.max(process.owned);
        if self.falls_back(tenant) {
            return Ok(());
        }
        fits(Scope::Process, after, most)?;

        let of_tenant =
            self.processes.iter().filter(|&(&other, _)| self.tenant_of(other) == tenant);
        let before: u64 = of_tenant.fold(0, |sum, (_, p)| sum.saturating_add(p.promised()));
        let promised = (before - process.promised()).saturating_add(after);
        fits(Scope::Tenant, promised, self.allowed(tenant))?;
        if ahead.tenants.contains(&tenant) {
            return Err(Rule::Queue { before: ahead.pool });
        }

        let all_nodes: Vec<_> = (0..self.pool.nodes().len()).collect();
        let mut reaches = BTreeSet::from([&all_nodes[..]]);
        let all = self.processes.values().map(|other| &*other.reach);
        reaches.extend(all.filter(|reach| is_within(&process.reach, reach)));
        for reach in reaches {
            let others = self.promised_within(reach, token);
            fits(Scope::Pool, others.saturating_add(after), self.online_on(reach))?;
        }
        let quotas = NodeKind::ALL.map(|kind| self.tenant(tenant).config.quota(kind).min);
        if ahead.pool > 0 && promised > quotas.iter().sum() {
            return Err(Rule::Queue { before: ahead.pool });
        }
        Ok(())
    }

    /// Whether a process could be promised so much more if nobody else were there.
    pub(crate) fn could_promise(&self, token: TokenId, by: u64) -> bool {
        let process = self.process(token);
        let after = process.committed.checked_add(by).map(|after| after.max(process.owned));
        after.is_some_and(|after| after <= self.reachable(token))
    }

    pub(crate) fn falls_back(&self, tenant: TenantId) -> bool {
        matches!(self.tenant(tenant).config.on_depletion, OnDepletion::FallBack)
    }

    /// What there is on these nodes for leases, in use or not.
    fn online_on(&self, nodes: &[usize]) -> u64 {
        let open = nodes.iter().filter(|&&node| !self.is_closed(node));
        let counts = open.map(|&node| self.pool.frames(node).counts());
        counts.map(|counts| counts.present() - counts.offline - counts.retired).sum()
    }

    /// How much a process could have if nobody else were there.
    pub(crate) fn reachable(&self, token: TokenId) -> u64 {
        self.allowed_on(self.tenant_of(token), &self.process(token).reach)
    }

    /// How much a tenant could have if no other were there.
    fn allowed(&self, tenant: TenantId) -> u64 {
        let all: Vec<_> = (0..self.pool.nodes().len()).collect();
        self.allowed_on(tenant, &all)
    }

    fn allowed_on(&self, tenant: TenantId, nodes: &[usize]) -> u64 {
        let allowed = NodeKind::ALL.map(|kind| {
            let quota = self.tenant(tenant).config.quota(kind);
            let of_kind: Vec<_> =
                nodes.iter().copied().filter(|&n| self.pool.nodes()[n].kind == kind).collect();
            match quota.access {
                Access::Allowed => self.online_on(&of_kind).min(quota.max.unwrap_or(u64::MAX)),
                Access::Denied => 0,
            }
        });
        allowed.iter().sum()
    }

    /// What all processes but one that are bound to these nodes are promised; of other tenants at
    /// least what is guaranteed to them there.
    fn promised_within(&self, nodes: &[usize], except: TokenId) -> u64 {
        let own = self.tenant_of(except);
        let mut by_tenant = alloc::vec![0u64; self.tenants.len()];
        for (&token, process) in self.processes.iter().filter(|&(&token, _)| token != except) {
            if is_within(&process.reach, nodes) {
                let tenant = self.tenant_of(token);
                let sum = &mut by_tenant[usize::from(tenant.0)];
                *sum = sum.saturating_add(self.counted(tenant, process));
            }
        }
        let is_there = |kind: &NodeKind| nodes.iter().any(|&n| self.pool.nodes()[n].kind == *kind);
        let sums = self.tenants().zip(by_tenant).map(|((id, tenant), promised)| {
            let kinds = NodeKind::ALL.into_iter().filter(is_there);
            let guaranteed: u64 = kinds.map(|kind| tenant.config.quota(kind).min).sum();
            if id == own { promised } else { promised.max(guaranteed) }
        });
        sums.fold(0, u64::saturating_add)
    }

    /// What a process of a tenant counts with.
    fn counted(&self, tenant: TenantId, process: &Process) -> u64 {
        if self.falls_back(tenant) { process.owned } else { process.promised() }
    }

    /// How much of the placement's nodes a process may have without breaking promises to others,
    /// nor any by what is guaranteed: what it is promised itself, or what they leave.
    pub(crate) fn unpromised(&self, token: TokenId) -> u64 {
        let sums = self.tenants().map(|(id, _)| {
            let guaranteed = NodeKind::ALL.map(|kind| self.tenant(id).unused_guarantee(kind));
            self.open_promises(id, token).max(guaranteed.iter().sum())
        });
        let kept = sums.fold(0, u64::saturating_add);
        let nodes = 0..self.pool.nodes().len();
        let placed = nodes.filter(|&n| self.pool.is_placed(n) && !self.is_closed(n));
        let free: u64 = placed.map(|node| self.pool.frames(node).counts().free).sum();
        let process = self.process(token);
        let own = match self.falls_back(self.tenant_of(token)) {
            true => 0,
            false => process.promised() - process.owned,
        };
        free.saturating_sub(kept).max(own)
    }

    /// The same of one node, so much being left of all: what is guaranteed to its tenant of the
    /// node's kind a process may have in any case.
    pub(crate) fn unpromised_on(&self, node: usize, token: TokenId, unpromised: u64) -> u64 {
        if !self.pool.is_placed(node) {
            return u64::MAX;
        }
        let tenant = self.tenant_of(token);
        let sure = self.tenant(tenant).unused_guarantee(self.pool.nodes()[node].kind);
        let beyond = sure.saturating_sub(self.open_promises(tenant, token));
        unpromised.saturating_add(beyond).max(sure)
    }

    /// What the processes of a tenant but one are promised and do not have.
    fn open_promises(&self, tenant: TenantId, except: TokenId) -> u64 {
        if self.falls_back(tenant) {
            return 0;
        }
        let of_it = self
            .processes
            .iter()
            .filter(|&(&token, _)| token != except && self.tenant_of(token) == tenant);
        of_it.map(|(_, process)| process.promised() - process.owned).fold(0, u64::saturating_add)
    }
}

/// Whether all of these nodes are among those.
fn is_within(nodes: &[usize], among: &[usize]) -> bool {
    nodes.iter().all(|node| among.contains(node))
}

fn fits(scope: Scope, promised: u64, most: u64) -> Result<(), Rule> {
    if promised > most { Err(Rule::Promises { scope, promised, most }) } else { Ok(()) }
}

impl Ahead {
    /// A wish was tried in vain, by this rule.
    pub(crate) fn add(&mut self, tenant: TenantId, wish: &Wish, rules: &[Rule]) {
        let Wish::Promise(by) = *wish else { return };
        self.tenants.insert(tenant);
        if let Some(Rule::Promises { scope: Scope::Pool, .. }) = rules.first() {
            self.pool = self.pool.saturating_add(by);
        }
    }
}
