//! Processes come and go.
//!
//! A process joins as an image of its own, as a forked child that its parent announced, or as
//! one that was there before (see [`crate::recovery`]). Its connection may go before it does: it
//! may have closed it, or its pager may have died; its memory stays until its token is gone, for
//! only that proves that nothing maps the memory any more. A process that disconnected and holds
//! nothing is of no interest. A token may also go first: then the process is dead, whatever its
//! connection looks like.
//!
//! A fresh program belongs to the first tenant whose description fits it, its forked children to
//! the same, whoever they become. A program that returns is asked anew who it is, unless a process
//! of its image is there already: an image has one tenant.

use alloc::string::String;

use memtide_units::{ImageId, MemberId, TenantId, TokenId};

use crate::{
    engine::Engine,
    input::Lineage,
    lease::Share,
    process::{Image, Link, Process, Waiting},
    refusal::Refusal,
    tenant::Credentials,
};

impl Engine {
    pub(crate) fn join(
        &mut self,
        member: MemberId,
        pid: u32,
        name: String,
        token: TokenId,
        lineage: Lineage,
        who: Credentials,
    ) -> Result<(), Refusal> {
        match lineage {
            Lineage::Fresh => self.join_fresh(member, pid, name, token, &who),
            Lineage::Child(announced) => {
                if announced != token {
                    return Err(Refusal::TokenMismatch { token, expected: announced });
                }
                self.join_child(member, pid, name, token)
            }
            Lineage::Returning(claims) => {
                if claims.member != member {
                    return Err(Refusal::NoSuchMember { member: claims.member });
                }
                self.join_returning(claims, pid, name, token, &who)
            }
        }
    }

    fn join_fresh(
        &mut self,
        member: MemberId,
        pid: u32,
        name: String,
        token: TokenId,
        who: &Credentials,
    ) -> Result<(), Refusal> {
        self.check_name(member)?;
        if self.processes.contains_key(&token) {
            return Err(Refusal::TokenTaken { token });
        }
        let tenant = self.tenant_for(who)?;
        while self.images.contains_key(&ImageId(self.next_image)) {
            self.next_image = self.next_image.wrapping_add(1);
        }
        let image = ImageId(self.next_image);
        self.next_image = self.next_image.wrapping_add(1);
        let link = Link::Connected(member);
        let route = self.tenant(tenant).route.clone();
        self.add_process(token, Process::new(image, link, pid, name, route), tenant);
        Ok(())
    }

    fn join_child(
        &mut self,
        member: MemberId,
        pid: u32,
        name: String,
        token: TokenId,
    ) -> Result<(), Refusal> {
        self.check_name(member)?;
        let child = self.processes.get_mut(&token).ok_or(Refusal::NoSuchToken { token })?;
        if child.link != Link::Unborn {
            return Err(Refusal::TokenTaken { token });
        }
        child.link = Link::Connected(member);
        child.pid = pid;
        child.name = name;
        self.members.insert(member, token);
        self.tell_losses(token);
        self.settle_all(token);
        Ok(())
    }

    /// Whether a member name is new.
    pub(crate) fn check_name(&self, member: MemberId) -> Result<(), Refusal> {
        let awaited = self.recovery.as_ref().is_some_and(|r| r.awaited.contains(&member));
        if awaited || self.members.contains_key(&member) {
            return Err(Refusal::MemberTaken { member });
        }
        Ok(())
    }

    /// Enters a process, and its image, as this tenant's, if that is new.
    pub(crate) fn add_process(&mut self, token: TokenId, process: Process, tenant: TenantId) {
        let image = self.images.entry(process.image).or_insert_with(|| Image {
            tenant,
            processes: 0,
            pageblocks: 0,
            pid: process.pid,
            name: process.name.clone(),
        });
        image.processes += 1;
        if let Some(member) = process.member() {
            self.members.insert(member, token);
        }
        let route = process.route.clone();
        let before = self.processes.insert(token, process);
        assert!(before.is_none(), "{token} names two processes");
        self.count_in(token);
        self.set_route(token, route);
    }

    pub(crate) fn left(&mut self, member: MemberId) -> Result<(), Refusal> {
        let token = self.connected(member)?;
        self.disconnect(token, member);
        let process = self.process(token);
        if process.held.is_empty() && process.lost.is_empty() {
            self.remove_process(token);
            self.out.forgotten.push(token);
        }
        Ok(())
    }

    pub(crate) fn token_gone(&mut self, token: TokenId) -> Result<(), Refusal> {
        let process = self.processes.get(&token).ok_or(Refusal::NoSuchToken { token })?;
        if let Link::Connected(member) = process.link {
            self.disconnect(token, member);
        }
        for pageblock in self.process(token).held.iter().copied().collect::<alloc::vec::Vec<_>>() {
            self.drop_stake(pageblock, token);
        }
        self.remove_process(token);
        Ok(())
    }

    /// Nothing that was asked of it will be answered, nothing that it asked for has a receiver.
    fn disconnect(&mut self, token: TokenId, member: MemberId) {
        // First of all, so that nothing more is told to it.
        let now = self.now;
        let process = self.process_mut(token);
        process.link = Link::Disconnected(member);
        process.left_at = Some(now);
        self.ending.insert((now, token));
        self.queue.forget(token);
        self.forget_unmet(token);
        self.cancel_orders(token);
        let process = self.processes.get_mut(&token).expect("the caller found it");
        if process.thawing > 0 {
            process.thawing = 0;
            for pageblock in &process.held {
                let lease = self.leases.get_mut(pageblock).expect("held pageblocks are leased");
                if lease.share == Share::Thawing {
                    lease.share = Share::Shared;
                }
            }
        }
        self.rearm(token);
        self.touch_all(token);
    }

    /// Takes a process that has no stake in anything off the books.
    fn remove_process(&mut self, token: TokenId) {
        self.count_out(token);
        let process = self.processes.remove(&token).expect("the caller found it");
        assert!(process.held.is_empty() && process.in_flight == 0, "{token} still holds something");
        assert_eq!(process.waiting, Waiting::No, "{token} still owes an answer");
        if let Some(member) = process.member() {
            self.members.remove(&member);
        }
        if let Some(left_at) = process.left_at {
            self.ending.remove(&(left_at, token));
        }
        self.image_mut(process.image).processes -= 1;
        self.end_image_if_empty(process.image);
    }

    pub(crate) fn end_image_if_empty(&mut self, image: ImageId) {
        let record = &self.images[&image];
        if record.processes == 0 && record.pageblocks == 0 {
            self.images.remove(&image);
            self.out.images_gone.push(image);
        }
    }

    /// Starts, goes on with, or ends waiting for a process, after what it owes has changed
    /// without an answer from it.
    pub(crate) fn rearm(&mut self, token: TokenId) {
        let process = self.process(token);
        let owes = process.in_flight > 0 || process.thawing > 0;
        match process.waiting {
            Waiting::No if owes => self.heard_of(token),
            Waiting::Until(_) | Waiting::Stalled if !owes => self.heard_of(token),
            _ => {}
        }
    }

    /// A process has answered something: its time starts anew, if it owes more.
    pub(crate) fn heard_of(&mut self, token: TokenId) {
        let at = self.now.after(self.limits.stall_after);
        let process = self.processes.get_mut(&token).expect("the caller found it");
        if let Waiting::Until(at) = process.waiting {
            self.waiting.remove(&(at, token));
        }
        process.waiting = Waiting::No;
        if process.in_flight > 0 || process.thawing > 0 {
            process.waiting = Waiting::Until(at);
            self.waiting.insert((at, token));
        }
    }

    /// Finds who has not answered for too long; says whether there is anybody new.
    pub(crate) fn mark_stalled(&mut self) -> bool {
        let mut any = false;
        while let Some(&(at, token)) = self.waiting.first()
            && at <= self.now
        {
            self.waiting.pop_first();
            self.process_mut(token).waiting = Waiting::Stalled;
            self.touch_all(token);
            any = true;
        }
        any
    }
}
