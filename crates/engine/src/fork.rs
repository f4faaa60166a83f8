//! Sharing after a fork, and its end.
//!
//! A fork makes an unborn child that has a stake in everything its parent has a stake in. The
//! child is named by its token; it may join later and then is a process like any other, it may
//! fork, it may outlive its parent. When only one stake is left in a pageblock, its owner is told
//! to map it shared again ([`crate::Effect::Thaw`]), if it is there to be told; a child that has
//! not joined is told when it joins. Until the owner says that it has, the pageblock stays where
//! it is. See [`crate::lease`] for the states.
//!
//! A pair of an order that is not answered when the fork comes is shared at both ends: which of
//! the two the child maps is known only when the answer comes. Then the other end is free, for
//! its pager has settled the matter before it forked.

use alloc::{collections::BTreeSet, vec::Vec};

use memtide_units::{Extent, MemberId, Pageblock, TokenId};

use crate::{
    engine::Engine,
    lease::{Pins, Share, Stake},
    process::{Link, Process},
    refusal::Refusal,
};

impl Engine {
    pub(crate) fn fork_begin(&mut self, member: MemberId, child: TokenId) -> Result<(), Refusal> {
        let parent = self.connected(member)?;
        if self.processes.contains_key(&child) {
            return Err(Refusal::TokenTaken { token: child });
        }
        let process = self.process(parent);
        let (image, pid, name) = (process.image, process.pid, process.name.clone());
        let route = process.route.clone();
        let held: Vec<_> = process.held.iter().copied().collect();
        let lost = process.lost.clone();
        let unborn = Process::new(image, Link::Unborn, pid, name, route);
        self.add_process(child, unborn, self.tenant_of(parent));
        self.process_mut(child).lost = lost;
        for pageblock in held {
            self.add_stake(pageblock, child);
        }
        self.rearm(parent);
        Ok(())
    }

    /// One more process shares a pageblock.
    pub(crate) fn add_stake(&mut self, pageblock: Pageblock, token: TokenId) {
        let lease = self.leases.get_mut(&pageblock).expect("the caller found it leased");
        if lease.share == Share::Thawing {
            let owner = self.processes.get_mut(&lease.owner.token);
            owner.expect("owners have a process").thawing -= 1;
        }
        lease.share = Share::Shared;
        lease.others.push(Stake { token, pins: Pins::NONE });
        let new = self.process_mut(token).held.insert(pageblock);
        assert!(new, "{token} has two stakes in {pageblock}");
        self.touch(pageblock);
    }

    /// One process less has a pageblock; the last takes the lease with it.
    pub(crate) fn drop_stake(&mut self, pageblock: Pageblock, token: TokenId) {
        let lease = self.leases.get_mut(&pageblock).expect("held pageblocks are leased");
        let had = self.processes.get_mut(&token).expect("holders have a process");
        assert!(had.held.remove(&pageblock), "{token} has no stake in {pageblock}");
        if lease.owner.token != token {
            lease.others.retain(|stake| stake.token != token);
            self.settle(pageblock);
            self.touch(pageblock);
            return;
        }
        if lease.share == Share::Thawing {
            had.thawing -= 1;
        }
        self.recount(token, |process| process.owned -= 1);
        let lease = self.leases.get_mut(&pageblock).expect("held pageblocks are leased");
        if lease.others.is_empty() {
            let (image, share, flight) = (lease.image, lease.share, lease.flight);
            self.leases.remove(&pageblock);
            match &mut self.recovery {
                Some(recovery) if share == Share::Shared => {
                    recovery.orphans.insert(pageblock, image);
                }
                _ => self.zero(pageblock, image, flight.map(|flight| flight.order)),
            }
        } else {
            lease.owner = lease.others.remove(0);
            let heir = lease.owner.token;
            self.recount(heir, |process| process.owned += 1);
            self.settle(pageblock);
        }
        self.rearm(token);
        self.touch(pageblock);
    }

    /// Nobody has a pageblock any more, and the order it was in is answered.
    pub(crate) fn drop_lease(&mut self, pageblock: Pageblock) {
        let lease = self.leases.get_mut(&pageblock).expect("the caller found it leased");
        lease.flight = None;
        if lease.share == Share::Thawing {
            let owner = self.processes.get_mut(&lease.owner.token);
            owner.expect("owners have a process").thawing -= 1;
        }
        // So that nobody is told to thaw what goes away the next moment.
        lease.share = Share::Own;
        let holders: Vec<_> = lease.stakes().map(|stake| stake.token).collect();
        for token in holders {
            self.drop_stake(pageblock, token);
        }
    }

    /// Has a pageblock thawed that is one process's alone, if that can be told.
    pub(crate) fn settle(&mut self, pageblock: Pageblock) {
        let lease = self.leases.get_mut(&pageblock).expect("the caller found it leased");
        let settled = lease.share != Share::Shared || !lease.others.is_empty();
        if settled || lease.flight.is_some() || self.recovery.is_some() {
            return;
        }
        let token = lease.owner.token;
        let owner = self.processes.get_mut(&token).expect("owners have a process");
        if let Link::Connected(member) = owner.link {
            lease.share = Share::Thawing;
            owner.thawing += 1;
            self.out.thaw.entry(member).or_default().push(pageblock);
            self.rearm(token);
            self.touch(pageblock);
        }
    }

    /// The same, for all that a process has a stake in.
    pub(crate) fn settle_all(&mut self, token: TokenId) {
        for pageblock in self.process(token).held.iter().copied().collect::<Vec<_>>() {
            self.settle(pageblock);
        }
    }

    pub(crate) fn thawed(&mut self, member: MemberId, extents: &[Extent]) -> Result<(), Refusal> {
        let token = self.connected(member)?;
        let pageblocks = self.check_held(member, token, extents)?;
        for &pageblock in &pageblocks {
            let lease = self.leases.get_mut(&pageblock).expect("held pageblocks are leased");
            // Shared with yet another child meanwhile: the acknowledgement is void.
            if lease.share == Share::Thawing {
                lease.share = Share::Own;
                self.process_mut(token).thawing -= 1;
                self.touch(pageblock);
            }
        }
        if !pageblocks.is_empty() {
            self.heard_of(token);
        }
        Ok(())
    }

    /// The pageblocks of a message that are the member's to speak of, less those that it lost and
    /// may not know of.
    pub(crate) fn check_held(
        &self,
        member: MemberId,
        token: TokenId,
        extents: &[Extent],
    ) -> Result<Vec<Pageblock>, Refusal> {
        let mut pageblocks = self.pool.check(extents, &mut BTreeSet::new())?;
        let Process { held, lost, .. } = self.process(token);
        pageblocks.retain(|pageblock| !lost.contains_key(pageblock));
        match pageblocks.iter().find(|pageblock| !held.contains(pageblock)) {
            Some(&pageblock) => Err(Refusal::NotHeld { member, pageblock }),
            None => Ok(pageblocks),
        }
    }
}
