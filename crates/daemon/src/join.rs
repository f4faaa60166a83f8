//! Programs join: fresh, as a forked child, or back from an earlier daemon.
//!
//! What can fail is done before the engine hears of it; what the engine refuses leaves nothing
//! behind. What the engine makes of it is carried out last: some of it is for the very process
//! that joins, which hears nothing before its welcome.

use std::{os::fd::OwnedFd, time::Instant};

use memtide_engine::{
    Claims, Effect, Input, Limits, Lineage as EngineLineage, Refusal,
    tenant::{Credentials, OnDepletion},
};
use memtide_proto::{
    FromProgram, HelloProgram, Lineage, NodeInfo, Refused, ToProgram, VERSION, decode,
    program::{Counters, OnFull},
};
use memtide_sys::process;
use memtide_units::{Extent, ImageId, MemberId, TokenId};

use crate::{
    credentials,
    daemon::{ConnectionId, Daemon, Member, Role},
    explain,
    images::Files,
    notice::Notice,
    program::{CHILDREN_MAX, exactly_one, is_gone, refusal, refused, wrong_version},
};

/// Longest name of a program that is kept.
const NAME_MAX: usize = 64;

/// A returning program that is telling what it holds.
#[derive(Debug)]
pub(crate) struct Claiming {
    name: String,
    pid: u32,
    started: u64,
    who: Credentials,
    token: TokenId,
    token_file: Option<OwnedFd>,
    child_files: Vec<OwnedFd>,
    files: Files,
    claims: Claims,
    pageblocks: u64,
}

/// One part of what it holds; see [`FromProgram::Claim`].
struct Claim {
    leased: Vec<Extent>,
    shared: Vec<Extent>,
    children: Vec<TokenId>,
    last: bool,
}

/// A process that asks to join, as the kernel knows it.
struct Applicant {
    name: String,
    pid: u32,
    started: u64,
    who: Credentials,
}

impl Daemon {
    pub(crate) fn join(
        &mut self,
        id: ConnectionId,
        hello: HelloProgram,
        fds: Vec<OwnedFd>,
        now: Instant,
    ) -> Result<(), Refused> {
        if hello.version != VERSION {
            return Err(wrong_version(hello.version));
        }
        let peer = self.guests[&id].connection.peer();
        let pid = peer.pid;
        let started = process::start_time(pid).map_err(|_| {
            refused("process", pid, "one that the daemon can see (a shared PID namespace)")
        })?;
        let who = credentials::of(peer, hello.label)?;
        let applicant = Applicant { name: cut(hello.name), pid, started, who };
        match hello.lineage {
            Lineage::Fresh { token } => self.join_fresh(id, applicant, token, fds),
            Lineage::Child { token } => self.join_child(id, applicant, token, &fds, now),
            Lineage::Returning { token, member, image, committed } => {
                let claims = Claims {
                    member,
                    image,
                    leased: Vec::new(),
                    shared: Vec::new(),
                    children: Vec::new(),
                    committed,
                };
                self.begin_claims(id, applicant, token, claims, fds)
            }
        }
    }

    fn join_fresh(
        &mut self,
        id: ConnectionId,
        applicant: Applicant,
        token: TokenId,
        fds: Vec<OwnedFd>,
    ) -> Result<(), Refused> {
        let [file] = exactly_one(fds)?;
        if is_gone(&file)? {
            // It has executed another program since it said hello, which will speak for itself.
            self.guests.get_mut(&id).expect("it has just spoken").connection.abort();
            return Ok(());
        }
        // Made first: what can fail comes before the engine knows.
        let files = Files::create(&self.stores)
            .map_err(|error| refused("pool", error, "memory files for this program"))?;
        let member = self.new_member_name();
        let (pid, started, name) = (applicant.pid, applicant.started, applicant.name.clone());
        let effects = self.join_engine(member, applicant, token, EngineLineage::Fresh)?;
        let image = self.engine.image_of(member).expect("it has just joined");
        self.images.insert(image, files);
        self.tokens.add_connected(token, file, pid, started);
        self.enter(id, member, Member::new(id, token, image, (pid, name, started)));
        self.welcome(id, member, image, true);
        self.carry_out_all(effects);
        Ok(())
    }

    fn join_child(
        &mut self,
        id: ConnectionId,
        applicant: Applicant,
        token: TokenId,
        fds: &[OwnedFd],
        now: Instant,
    ) -> Result<(), Refused> {
        if !fds.is_empty() {
            return Err(refused("descriptors", fds.len(), "none beside a child's hello"));
        }
        let member = self.new_member_name();
        let (pid, started, name) = (applicant.pid, applicant.started, applicant.name.clone());
        let effects = self.join_engine(member, applicant, token, EngineLineage::Child(token))?;
        let image = self.engine.image_of(member).expect("it has just joined");
        self.tokens.set_connected(token, true, now);
        self.enter(id, member, Member::new(id, token, image, (pid, name, started)));
        self.welcome(id, member, image, true);
        self.carry_out_all(effects);
        Ok(())
    }

    /// Tells the engine; what it makes of it is to be carried out after the welcome.
    fn join_engine(
        &mut self,
        member: MemberId,
        applicant: Applicant,
        token: TokenId,
        lineage: EngineLineage,
    ) -> Result<Vec<Effect>, Refused> {
        let Applicant { name, pid, who, .. } = applicant;
        let field = if matches!(lineage, EngineLineage::Returning(_)) { "claims" } else { "token" };
        let input = Input::Join { member, pid, name, token, lineage, who: who.clone() };
        self.decide(input).map_err(|error| match error {
            Refusal::NoTenant { .. } => credentials::no_tenant(&who),
            error => refusal(field, error),
        })
    }

    fn begin_claims(
        &mut self,
        id: ConnectionId,
        applicant: Applicant,
        token: TokenId,
        claims: Claims,
        mut fds: Vec<OwnedFd>,
    ) -> Result<(), Refused> {
        self.check_returning(&applicant, &claims)?;
        // A child may not have its token's file: its parent had it.
        let without = self.stores.len();
        if fds.len() != without && fds.len() != without + 1 {
            let expected = "a life token and one file per node";
            return Err(refused("descriptors", fds.len(), expected));
        }
        let token_file = (fds.len() > without).then(|| fds.remove(0));
        if let Some(file) = &token_file {
            // A file that tells nothing is of no use.
            is_gone(file)?;
        }
        let files = Files::adopt(&self.stores, fds)
            .and_then(|files| self.images.check(claims.image, &files).map(|()| files))
            .map_err(|error| refused("files", error, "the files that this process was given"))?;
        let Applicant { name, pid, started, who } = applicant;
        let claiming = Claiming {
            name,
            pid,
            started,
            who,
            token,
            token_file,
            child_files: Vec::new(),
            files,
            claims,
            pageblocks: 0,
        };
        let guest = self.guests.get_mut(&id).expect("it has just spoken");
        guest.role = Role::Claiming(Box::new(claiming));
        Ok(())
    }

    /// A name is only for the process that had it.
    fn check_returning(&self, applicant: &Applicant, claims: &Claims) -> Result<(), Refused> {
        let known = self
            .members
            .get(&claims.member)
            .map(|member| (member.pid, member.started, member.image));
        let awaited = self.awaited.iter().find(|awaited| awaited.member == claims.member);
        let owner = known.or(awaited.map(|member| (member.pid, member.started, member.image)));
        match owner {
            Some(owner) if owner != (applicant.pid, applicant.started, claims.image) => {
                Err(refused("member", claims.member, "the name that this process was given"))
            }
            _ => Ok(()),
        }
    }

    /// One more part of what a returning process holds.
    pub(crate) fn claim_packet(
        &mut self,
        id: ConnectionId,
        packet: &[u8],
        fds: Vec<OwnedFd>,
        now: Instant,
    ) {
        let claim = match decode(packet) {
            Ok(FromProgram::Claim { leased, shared, children, last }) => {
                Claim { leased, shared, children, last }
            }
            Ok(_) => return self.garbage(id, "something else before the last claim"),
            Err(error) => return self.garbage(id, &error.to_string()),
        };
        let last = claim.last;
        if let Err(why) = self.add_claim(id, claim, fds) {
            return self.refuse(id, &why);
        }
        if last {
            let guest = self.guests.get_mut(&id).expect("it has just spoken");
            let placeholder = Role::Greeting { until: now };
            let Role::Claiming(claiming) = std::mem::replace(&mut guest.role, placeholder) else {
                unreachable!("it was claiming a moment ago")
            };
            if let Err(why) = self.join_returning(id, *claiming, now) {
                self.refuse(id, &why);
            }
        }
    }

    fn add_claim(
        &mut self,
        id: ConnectionId,
        claim: Claim,
        fds: Vec<OwnedFd>,
    ) -> Result<(), Refused> {
        let Claim { leased, shared, children, .. } = claim;
        if fds.len() != children.len() {
            let expected = format!("the tokens of {} children", children.len());
            return Err(refused("descriptors", fds.len(), expected));
        }
        for file in &fds {
            // A child may be gone by now; a file that tells nothing is another matter.
            is_gone(file)?;
        }
        let pool: u64 = self.config.nodes.iter().map(|node| node.size.pageblocks_ceil()).sum();
        let guest = self.guests.get_mut(&id).expect("it has just spoken");
        let Role::Claiming(claiming) = &mut guest.role else {
            unreachable!("claims are heard from nobody else")
        };
        let new = leased.iter().chain(&shared).map(|extent| u64::from(extent.count).max(1));
        claiming.pageblocks = claiming.pageblocks.saturating_add(new.sum());
        if claiming.pageblocks > pool {
            let expected = "at most the pageblocks of the pool";
            return Err(refused("claims", claiming.pageblocks, expected));
        }
        claiming.claims.leased.extend(leased);
        claiming.claims.shared.extend(shared);
        claiming.claims.children.extend(children);
        claiming.child_files.extend(fds);
        let children = claiming.child_files.len();
        if children > CHILDREN_MAX {
            let expected = format!("at most {CHILDREN_MAX} children at once");
            return Err(refused("children", children, expected));
        }
        Ok(())
    }

    fn join_returning(
        &mut self,
        id: ConnectionId,
        claiming: Claiming,
        now: Instant,
    ) -> Result<(), Refused> {
        let Claiming {
            name, pid, started, who, token, token_file, child_files, files, claims, ..
        } = claiming;
        let (member, image) = (claims.member, claims.image);
        // Others may have come since it said hello.
        self.images
            .check(image, &files)
            .map_err(|error| refused("files", error, "the files that this process was given"))?;
        let children = claims.children.clone();
        let held: Vec<Extent> = claims.leased.iter().chain(&claims.shared).copied().collect();
        let lineage = EngineLineage::Returning(claims);
        self.images.keep(image, files);
        let applicant = Applicant { name: name.clone(), pid, started, who };
        let effects = self.join_engine(member, applicant, token, lineage).inspect_err(|_| {
            if self.members.values().all(|member| member.image != image) {
                self.images.forget_files(image);
            }
        })?;
        match token_file {
            Some(file) => self.tokens.add_connected(token, file, pid, started),
            None => self.tokens.add_without_file(token, pid, started),
        }
        self.tokens.set_connected(token, true, now);
        for (child, file) in children.into_iter().zip(child_files) {
            if !self.tokens.contains(child) {
                self.tokens.add_child(child, file, pid, started, now);
            }
        }
        self.awaited.retain(|awaited| awaited.member != member);
        self.settle(image, member, held);
        self.enter(id, member, Member::new(id, token, image, (pid, name, started)));
        self.welcome(id, member, image, false);
        self.carry_out_all(effects);
        Ok(())
    }

    /// A process of an earlier daemon has come back with these, or is gone.
    pub(crate) fn settle(&mut self, image: ImageId, member: MemberId, held: Vec<Extent>) {
        if let Err(error) = self.images.settle(image, member, held) {
            let extent = Extent::new(memtide_units::Pageblock(0), 0);
            self.notice(Notice::NotZeroed { image, extent, error });
        }
    }

    fn new_member_name(&mut self) -> MemberId {
        loop {
            let member = MemberId(self.next_member);
            self.next_member = self.next_member.wrapping_add(1);
            let awaited = self.awaited.iter().any(|awaited| awaited.member == member);
            if !awaited && !self.members.contains_key(&member) {
                return member;
            }
        }
    }

    fn enter(&mut self, id: ConnectionId, name: MemberId, member: Member) {
        let guest = self.guests.get_mut(&id).expect("it has just spoken");
        guest.role = Role::Program(name);
        let tenant = self.engine.tenant_of_member(name).expect("it has just joined");
        self.tenants.insert(member.image, tenant);
        self.members.insert(name, member);
        self.summary.joined += 1;
        self.state_changed = true;
    }

    /// What a program does when its tenant has no room, and how long its requests may take.
    fn when_full(&self, member: MemberId) -> (OnFull, u64) {
        let what = self.engine.on_depletion_of(member).expect("it has just joined");
        let on_full = match what {
            OnDepletion::FallBack => OnFull::Fallback,
            OnDepletion::Fail | OnDepletion::Wait(_) | OnDepletion::Reclaim(_) => OnFull::Fail,
        };
        let patience = Limits::default().patience.as_millis();
        let patience = u64::try_from(patience).unwrap_or(u64::MAX);
        (on_full, explain::on_depletion(what).1.max(patience))
    }

    fn welcome(&mut self, id: ConnectionId, member: MemberId, image: ImageId, files: bool) {
        let nodes = self.config.nodes.iter().zip(&self.firsts);
        let nodes = nodes
            .map(|(node, first)| NodeInfo {
                name: node.name.clone(),
                kind: node.kind,
                first: *first,
                pageblocks: node.size.pageblocks_ceil(),
                backing: node.backing,
            })
            .collect();
        let mut fds = Vec::new();
        if files {
            fds = self.images.handles(image);
            fds.extend(self.device.clone());
        }
        let userfaultfd = files && self.device.is_some();
        let (on_full, wait_ms) = self.when_full(member);
        let message = ToProgram::Welcome { member, image, nodes, on_full, wait_ms, userfaultfd };
        let guest = self.guests.get_mut(&id).expect("it has just spoken");
        guest.connection.send(&message, fds);
    }
}

impl Member {
    fn new(
        id: ConnectionId,
        token: TokenId,
        image: ImageId,
        (pid, name, started): (u32, String, u64),
    ) -> Self {
        let counters = Counters::default();
        Self { connection: Some(id), token, image, pid, name, started, counters }
    }
}

/// A name without control characters, not too long.
fn cut(name: String) -> String {
    let mut name: String = name.chars().filter(|c| !c.is_control()).collect();
    let mut end = NAME_MAX.min(name.len());
    while !name.is_char_boundary(end) {
        end -= 1;
    }
    name.truncate(end);
    name
}
