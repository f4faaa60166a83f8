//! Promises: a program knows in advance that it will get what it is going to need.
//!
//! A program asks for a promise before it hands memory out to itself, so that its `malloc` can
//! fail in time. A process's promise is the larger of what it asked to be promised and what it
//! has. A promise reserves no pageblock. It is given when all that is promised fits:
//!
//! * **process**: its promise, into what its route leads to;
//! * **tenant**: the promises of the tenant, into what it may have of all kinds;
//! * **pool**: what is promised and not had yet, into what is not leased.
//!
//! The last two are looked at for every set of nodes by itself that a promise can depend on, for
//! who is bound to near memory is not helped by room in far memory. By Hall's theorem, all demands
//! that are bound to some nodes each can be met together when, for every union of those *reaches*,
//! the room on its nodes suffices for all demands that are bound to nodes of it. The unions are the
//! family of [`crate::sums`]. What is guaranteed to a tenant of a kind counts as bound to the nodes
//! of that kind, though the same memory can be promised and guaranteed; so that a promise never
//! stands on memory that is sure to go to somebody else. And a tenant that may have no more of a
//! kind than so much needs the rest from other nodes ([`Engine::need`]), all the more if it is
//! promised some within nodes of that kind. So the family has every reach without the nodes of such
//! kinds, too. Who is never moved reaches a part of a node only, so all of this is counted in parts
//! of nodes ([`crate::parts`]). What is retired, and nodes that are being evacuated, are no room;
//! what is being zeroed is. What is leased is not, whoever has it: nothing is moved to make a
//! promise fit.
//!
//! A tenant that falls back is promised anything, for its programs go on with ordinary memory.
//! Such promises bind nobody.
//!
//! A lease, and a move for balance or on a program's or operator's wish, takes no more of a node
//! than leaves room in every one of these sets ([`Engine::unpromised_on`]): a lease gets what its
//! process was promised, what is guaranteed to its tenant, and what nobody else is promised.
//!
//! This is exact when every policy of a tenant that does not fall back leads, of each kind that the
//! tenant has a minimum or maximum of, to all nodes (those outside the placement, too), or to none,
//! or to nothing else. Then all demands are flows in one network, with bounds on what each tenant
//! has of a kind, and its cuts are these sets. With one node of each kind there are no other
//! policies.
//!
//! A policy that leads to a part of such a kind and to other kinds *crosses* it. Then room in every
//! set is necessary and not sufficient: which nodes of which kind the promises use is no flow any
//! more, and what is missing may show only when two sets are added up. Let near a, near b, and far
//! f have one free pageblock each, and no other node any.
//!
//! * **minimum**: a tenant is guaranteed one near, and promised one of a or f. Another is promised
//!   one of a. So f is needed for the first promise and b for the guarantee. Still a third can be
//!   promised one of b or f: in each set by itself, the first promise is either met by what is
//!   guaranteed or has f.
//! * **maximum**: a tenant may have one near yet. It is promised one of b or far g, and one of a or
//!   f. So b and f are needed. Still another can be promised one of b or f.
//!
//! Leases and wished moves are let pass in the same way. Then a promise that crosses, or another
//! promise or guarantee on nodes that it shares, may have to wait until somebody gives something
//! back.
//!
//! Stronger than promises are an operator who takes capacity away, with the moves that this takes,
//! errors of memory, and a child that keeps after a fork what its parent was promised and let go.
//! Whoever sets a policy that leads to other nodes keeps as much of its promise as fits there.
//!
//! A promise that does not fit waits as a lease does ([`crate::queue`]). One that would not fit if
//! nobody else were there is refused at once. While a promise waits for others to give back what
//! they were promised, no later one passes it, but within what is guaranteed to its tenant. A
//! promise that waits for its own tenant holds up that tenant only.

use alloc::{collections::BTreeSet, vec::Vec};

use memtide_units::{MemberId, NodeKind, TenantId, TokenId};

use crate::{
    decision::{Rule, Scope},
    demand::Room,
    engine::Engine,
    process::Process,
    refusal::Refusal,
    sums::{Parts, UNIONS_MAX},
    tenant::{Access, OnDepletion},
    wishes::Wish,
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
        let process = self.process(token);
        let committed = process.committed.saturating_add(process.unkept);
        if change > committed {
            return Err(Refusal::CommitUnderflow { member, by: change, committed });
        }
        let never_kept = change.min(process.unkept);
        self.recount(token, |process| {
            process.unkept -= never_kept;
            process.committed -= change - never_kept;
        });
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

        let of_tenant = self.sums.of(tenant);
        let before: u128 = of_tenant.map(|(_, sum)| sum.promised).sum();
        let promised = before - u128::from(process.promised()) + u128::from(after);
        let promised = u64::try_from(promised).unwrap_or(u64::MAX);
        fits(Scope::Tenant, promised, self.allowed(tenant))?;
        if ahead.tenants.contains(&tenant) {
            return Err(Rule::Queue { before: ahead.pool });
        }

        self.fits_with(tenant, &process.reach, open(process), after - process.owned)?;
        let quotas = NodeKind::ALL.map(|kind| self.tenant(tenant).config.quota(kind).min);
        if ahead.pool > 0 && promised > quotas.iter().sum() {
            return Err(Rule::Queue { before: ahead.pool });
        }
        Ok(())
    }

    /// Whether a process that reaches these nodes can be promised so much beyond what it has,
    /// instead of so much now.
    fn fits_with(
        &self,
        tenant: TenantId,
        reach: &Parts,
        before: u64,
        after: u64,
    ) -> Result<(), Rule> {
        let family = self.sums.family_with(reach);
        let family = family.ok_or(Rule::Masks { most: UNIONS_MAX as u64 })?;
        if after <= before {
            return Ok(());
        }
        for set in family {
            let now = self.need(tenant, &set, Room::Later, None);
            let then = self.need(tenant, &set, Room::Later, Some((reach, before, after)));
            if then <= now {
                continue;
            }
            let room: u64 = self.open_parts(&set).map(|part| self.free_on(part, Room::Later)).sum();
            fits(Scope::Tenant, then, room)?;
            let promised = then.saturating_add(self.kept_from(tenant, &set, Room::Later));
            fits(Scope::Pool, promised, room)?;
        }
        Ok(())
    }

    /// A process reaches other nodes from now on: it keeps as much of its promise as fits there.
    pub(crate) fn change_reach(&mut self, token: TokenId, reach: Parts) {
        let (tenant, process) = (self.tenant_of(token), self.process(token));
        let (wanted, owned) = (process.committed, process.owned);
        if process.reach == reach {
            return;
        }
        // Counted without any promise until it is known how much fits.
        self.recount(token, |process| {
            process.reach = reach.clone();
            process.committed = 0;
        });
        if wanted == 0 {
            return;
        }
        let fits = |committed: u64| {
            let more = committed.saturating_sub(owned);
            self.falls_back(tenant)
                || more == 0 && self.sums.family_with(&reach).is_some()
                || self.fits_with(tenant, &reach, 0, more).is_ok()
        };
        let (mut kept, mut not) = if fits(wanted) { (wanted, wanted) } else { (0, wanted) };
        while kept + 1 < not {
            let half = kept + (not - kept) / 2;
            if fits(half) { kept = half } else { not = half }
        }
        self.recount(token, |process| {
            process.committed = kept;
            process.unkept = process.unkept.saturating_add(wanted - kept);
        });
    }

    /// Whether a process could be promised so much more if nobody else were there.
    pub(crate) fn could_promise(&self, token: TokenId, by: u64) -> bool {
        let process = self.process(token);
        let after = process.committed.checked_add(by).map(|after| after.max(process.owned));
        after.is_some_and(|after| after <= self.reachable(token))
    }

    /// Whether promises within what a process reaches can be counted.
    pub(crate) fn is_countable(&self, token: TokenId) -> bool {
        self.sums.family_with(&self.process(token).reach).is_some()
    }

    pub(crate) fn falls_back(&self, tenant: TenantId) -> bool {
        matches!(self.tenant(tenant).config.on_depletion, OnDepletion::FallBack)
    }

    /// How much a process could have if nobody else were there.
    pub(crate) fn reachable(&self, token: TokenId) -> u64 {
        self.allowed_on(self.tenant_of(token), &self.process(token).reach)
    }

    /// How much a tenant could have if no other were there.
    fn allowed(&self, tenant: TenantId) -> u64 {
        let all: Vec<_> = self.all_parts().collect();
        self.allowed_on(tenant, &all)
    }

    /// The same on these parts of nodes, as far as it may have any of them.
    fn allowed_on(&self, tenant: TenantId, parts: &[usize]) -> u64 {
        let allowed = NodeKind::ALL.map(|kind| {
            let quota = self.tenant(tenant).config.quota(kind);
            let of_kind = self.parts_for(tenant, kind);
            let of_kind: Vec<_> =
                of_kind.filter(|part| parts.binary_search(part).is_ok()).collect();
            let online = self.open_parts(&of_kind).map(|part| self.usable_in_part(part));
            match quota.access {
                Access::Allowed => online.sum::<u64>().min(quota.max.unwrap_or(u64::MAX)),
                Access::Denied => 0,
            }
        });
        allowed.iter().sum()
    }
}

/// What a process is promised and does not have.
pub(crate) const fn open(process: &Process) -> u64 {
    process.promised() - process.owned
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
