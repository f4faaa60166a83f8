//! An engine that takes over from an earlier one.
//!
//! Programs run on while there is no engine. A new one knows, from what the earlier one left,
//! which processes are out there, but not what they hold: they say so when they return. Until
//! all have, or are known to be gone, or the time is up, nothing is taken from the pool: leases
//! queue, requests wait, and nothing is thawed, for whoever shares a pageblock may not have
//! returned yet.
//!
//! What a returning process claims is checked against what others have claimed: within an image
//! two processes may share a pageblock if both say so; everything else is a conflict, and the
//! process is refused. For a child it names that has not returned itself an unborn one is entered
//! that shares all it shares; when that child returns, it says what it really shares.
//!
//! What processes share and the last that returned has given up stays *orphaned* while others are
//! awaited: one of them may share it too, and zeroing it would destroy its content.
//!
//! What a process claims and is offline, or retired, it has lost, perhaps before this engine was
//! there, and it is told so. So nothing is put back while processes are awaited.
//!
//! A process whose connection was lost may return to the same engine. What it holds is then what
//! it claims: a grant that it never got, or a release that never came through, is made up for.
//! It can have no more than the books say that it has, or lost; so who is not awaited is refused
//! with a claim to anything else, and a stranger with any claim. The same goes for what it says it
//! is promised: more than in the books is a new promise, which is given if it fits now. Of an
//! awaited process's promise so much is kept as it could have if nobody else were there. What is
//! not kept is remembered only so that the process can give it up without being wrong.
//! That a process belongs to the image it names is for the caller to check. Its policy is not known
//! any more: it starts with its tenant's.

use alloc::{
    collections::{BTreeMap, BTreeSet},
    string::String,
    vec::Vec,
};

use memtide_units::{ImageId, Instant, MemberId, Pageblock, TenantId, TokenId};

use crate::{
    config::Awaited,
    engine::Engine,
    input::Claims,
    lease::Share,
    loss::Loss,
    process::{Link, Process},
    refusal::Refusal,
    tenant::Credentials,
};

/// Who is awaited, and what waits for them.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Recovery {
    pub(crate) awaited: BTreeSet<MemberId>,
    pub(crate) until: Instant,
    /// Shared pageblocks that nobody who returned holds any more.
    pub(crate) orphans: BTreeMap<Pageblock, ImageId>,
}

impl Recovery {
    pub(crate) fn new(awaited: Awaited) -> Option<Self> {
        let Awaited { members, until } = awaited;
        let awaited: BTreeSet<_> = members.into_iter().collect();
        (!awaited.is_empty()).then_some(Self { awaited, until, orphans: BTreeMap::new() })
    }
}

impl Engine {
    /// How many processes of an earlier engine have neither returned nor are known to be gone.
    /// Nothing is taken from the pool before this is 0.
    #[must_use]
    pub fn awaiting(&self) -> usize {
        self.recovery.as_ref().map_or(0, |recovery| recovery.awaited.len())
    }

    pub(crate) fn awaited_gone(&mut self, member: MemberId) -> Result<(), Refusal> {
        let recovery = self.recovery.as_mut();
        if recovery.is_some_and(|recovery| recovery.awaited.remove(&member)) {
            return Ok(());
        }
        Err(Refusal::NotAwaited { member })
    }

    /// Ends recovery if it is time; says whether it did.
    pub(crate) fn end_recovery_if_due(&mut self) -> bool {
        let now = self.now;
        let over = |recovery: &mut Recovery| recovery.awaited.is_empty() || recovery.until <= now;
        let Some(recovery) = self.recovery.take_if(over) else { return false };
        for pageblock in self.leases.keys().copied().collect::<Vec<_>>() {
            self.settle(pageblock);
        }
        for (pageblock, image) in recovery.orphans {
            self.zero(pageblock, image, None);
        }
        self.start_waiting();
        true
    }

    pub(crate) fn join_returning(
        &mut self,
        claims: Claims,
        pid: u32,
        name: String,
        token: TokenId,
        who: &Credentials,
    ) -> Result<(), Refusal> {
        self.check_identity(&claims, token)?;
        let tenant = match self.images.get(&claims.image) {
            Some(image) => image.tenant,
            None => self.tenant_for(who)?,
        };
        let mut seen = BTreeSet::new();
        let mut leased = self.pool.check(&claims.leased, &mut seen)?;
        let mut shared = self.pool.check(&claims.shared, &mut seen)?;
        let is_awaited = self.is_awaited(claims.member);
        if !is_awaited {
            self.check_known(&seen, claims.member, token)?;
        }
        let mut lost = self.take_lost(&mut leased);
        let lost_shared = self.take_lost(&mut shared);
        lost.extend(&lost_shared);
        for &pageblock in &leased {
            self.check_claim(pageblock, &claims, token, Share::Own)?;
        }
        for &pageblock in &shared {
            self.check_claim(pageblock, &claims, token, Share::Shared)?;
        }
        self.check_children(&claims, token)?;

        // Nothing is refused from here on.
        self.enter_returning(&claims, pid, name, token, tenant);
        for pageblock in self.process(token).held.iter().copied().collect::<Vec<_>>() {
            if !seen.contains(&pageblock) {
                self.drop_stake(pageblock, token);
            }
        }
        for pageblock in leased {
            self.adopt(pageblock, token, Share::Own);
        }
        for &pageblock in &shared {
            self.adopt(pageblock, token, Share::Shared);
        }
        for child in claims.children {
            if !self.processes.contains_key(&child) {
                let parent = self.process(token);
                let (pid, name) = (parent.pid, parent.name.clone());
                let route = parent.route.clone();
                let unborn = Process::new(claims.image, Link::Unborn, pid, name, route);
                self.add_process(child, unborn, tenant);
                for &pageblock in &shared {
                    self.add_stake(pageblock, child);
                }
                self.process_mut(child).lost = lost_shared.iter().copied().collect();
            }
        }
        self.process_mut(token).lost = lost.into_iter().collect();
        self.renew_promise(token, claims.committed, is_awaited);
        self.tell_losses(token);
        self.settle_all(token);
        self.touch_all(token);
        Ok(())
    }

    /// A process that has what it claims says that it is promised so much.
    fn renew_promise(&mut self, token: TokenId, claimed: u64, is_awaited: bool) {
        let known = self.process(token).committed;
        let more = claimed.saturating_sub(known);
        let fits = |engine: &Self| {
            engine.recovery.is_none() && engine.can_promise(token, more, &engine.ahead()).is_ok()
        };
        let kept = if self.falls_back(self.tenant_of(token)) || more == 0 {
            claimed
        } else if is_awaited {
            if self.is_countable(token) { claimed.min(self.reachable(token)) } else { 0 }
        } else if fits(self) {
            claimed
        } else {
            known
        };
        self.recount(token, |process| {
            process.committed = kept;
            process.unkept = claimed - kept;
        });
    }

    /// Whether a process of an earlier engine has neither returned nor is known to be gone.
    pub(crate) fn is_awaited(&self, member: MemberId) -> bool {
        self.recovery.as_ref().is_some_and(|recovery| recovery.awaited.contains(&member))
    }

    /// Whether the books have a process hold all that it claims, or know that it lost it.
    fn check_known(
        &self,
        claimed: &BTreeSet<Pageblock>,
        member: MemberId,
        token: TokenId,
    ) -> Result<(), Refusal> {
        let process = self.processes.get(&token);
        let is_known = |at: &Pageblock| {
            process.is_some_and(|known| known.held.contains(at) || known.lost.contains_key(at))
        };
        match claimed.iter().find(|at| !is_known(at)) {
            Some(&pageblock) => Err(Refusal::NotHeld { member, pageblock }),
            None => Ok(()),
        }
    }

    /// Takes out of what a returning process claims what is lost to it.
    fn take_lost(&self, claimed: &mut Vec<Pageblock>) -> Vec<(Pageblock, Loss)> {
        let mut lost = Vec::new();
        claimed.retain(|&pageblock| {
            let loss = self.loss_of_claim(pageblock);
            lost.extend(loss.map(|loss| (pageblock, loss)));
            loss.is_none()
        });
        lost
    }

    fn check_identity(&self, claims: &Claims, token: TokenId) -> Result<(), Refusal> {
        let Claims { member, image, .. } = *claims;
        if let Some(&known) = self.members.get(&member) {
            if matches!(self.process(known).link, Link::Connected(_)) {
                return Err(Refusal::MemberTaken { member });
            }
            if known != token {
                return Err(Refusal::TokenMismatch { token, expected: known });
            }
        } else if let Some(process) = self.processes.get(&token)
            && process.link != Link::Unborn
        {
            return Err(Refusal::TokenTaken { token });
        }
        match self.processes.get(&token) {
            Some(process) if process.image != image => {
                Err(Refusal::ImageMismatch { image, expected: process.image })
            }
            _ => Ok(()),
        }
    }

    fn check_claim(
        &self,
        pageblock: Pageblock,
        claims: &Claims,
        token: TokenId,
        share: Share,
    ) -> Result<(), Refusal> {
        let conflict = |by| Refusal::ClaimConflict { pageblock, image: claims.image, by };
        if let Some(residue) = self.zeroing.get(&pageblock) {
            return Err(conflict(residue.image));
        }
        if let Some(&by) = self.recovery.as_ref().and_then(|r| r.orphans.get(&pageblock)) {
            let shared = by == claims.image && share == Share::Shared;
            return if shared { Ok(()) } else { Err(conflict(by)) };
        }
        let Some(lease) = self.leases.get(&pageblock) else { return Ok(()) };
        let alone = lease.others.is_empty() && lease.owner.token == token;
        let both_share = share == Share::Shared && lease.share == Share::Shared;
        if lease.image == claims.image && (alone || both_share) {
            return Ok(());
        }
        Err(conflict(lease.image))
    }

    fn check_children(&self, claims: &Claims, token: TokenId) -> Result<(), Refusal> {
        let mut seen = BTreeSet::from([token]);
        for &child in &claims.children {
            let other = self.processes.get(&child);
            if !seen.insert(child) || other.is_some_and(|p| p.image != claims.image) {
                return Err(Refusal::TokenTaken { token: child });
            }
        }
        Ok(())
    }

    /// Enters a returning process, or the one it has been here.
    fn enter_returning(
        &mut self,
        claims: &Claims,
        pid: u32,
        name: String,
        token: TokenId,
        tenant: TenantId,
    ) {
        let link = Link::Connected(claims.member);
        if self.processes.contains_key(&token) {
            let process = self.process_mut(token);
            let left_at = process.left_at.take();
            process.link = link;
            process.pid = pid;
            process.name = name;
            if let Some(left_at) = left_at {
                self.ending.remove(&(left_at, token));
            }
            self.members.insert(claims.member, token);
        } else {
            let route = self.tenant(tenant).route.clone();
            self.add_process(token, Process::new(claims.image, link, pid, name, route), tenant);
        }
        if let Some(recovery) = &mut self.recovery {
            recovery.awaited.remove(&claims.member);
        }
    }

    /// Gives a process what it claims and may have.
    fn adopt(&mut self, pageblock: Pageblock, token: TokenId, share: Share) {
        let Some(lease) = self.leases.get_mut(&pageblock) else {
            let orphans = self.recovery.as_mut().map(|recovery| &mut recovery.orphans);
            match orphans.and_then(|orphans| orphans.remove(&pageblock)) {
                // It is counted anew with the lease.
                Some(image) => self.uncharge(image, pageblock),
                None => {
                    let movability = self.movability(self.tenant_of(token));
                    self.pool.claim(pageblock, movability);
                }
            }
            self.add_lease(pageblock, token, share);
            return;
        };
        if lease.stake_mut(token).is_none() {
            self.add_stake(pageblock, token);
        } else {
            if lease.owner.token == token && lease.share == Share::Thawing {
                self.process_mut(token).thawing -= 1;
            }
            let alone = self.leases[&pageblock].others.is_empty();
            let lease = self.leases.get_mut(&pageblock).expect("just seen");
            lease.share = if alone { share } else { Share::Shared };
        }
        self.touch(pageblock);
    }
}
