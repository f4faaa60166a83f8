//! Programs join: fresh, as a forked child, or as those that come back ([`crate::returning`]).
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
    HelloProgram, Lineage, NodeInfo, Refused, ToProgram, VERSION,
    program::{Counters, OnFull},
};
use memtide_sys::process;
use memtide_units::{ImageId, MemberId, TokenId};

use crate::{
    credentials::{self, NotKnown},
    daemon::{ConnectionId, Daemon, Member, Role},
    explain,
    images::Files,
    numa::no_files,
    program::{exactly_one, is_gone, refusal, refused, wrong_version},
};

/// Longest name of a program that is kept.
const NAME_MAX: usize = 64;

/// A process that asks to join, as the kernel knows it.
pub(crate) struct Applicant {
    pub(crate) name: String,
    pub(crate) pid: u32,
    pub(crate) started: u64,
    pub(crate) who: Credentials,
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
        let name = cut(hello.name);
        let who = credentials::of(peer, hello.label, &self.config.tenants);
        let who = who.map_err(|why| match why {
            NotKnown::Label(why) => why,
            NotKnown::ControlGroup(why) => {
                self.keep_not_let_in(pid, name.clone(), "control-group", &why);
                why
            }
        })?;
        // What was read of a process number is of this process only if it still has it.
        if !process::is_alive(pid, started) {
            return Err(refused("process", pid, "one that lives until it has joined"));
        }
        let applicant = Applicant { name, pid, started, who };
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
            .and_then(|files| self.bind_files(&files).map(|()| files))
            .map_err(|error| no_files("pool", &error, "memory files for this program"))?;
        let member = self.new_member_name();
        let (pid, started, name) = (applicant.pid, applicant.started, applicant.name.clone());
        let effects = self.join_engine(member, applicant, token, EngineLineage::Fresh)?;
        let image = self.engine.image_of(member).expect("it has just joined");
        self.images.insert(image, files);
        let tenant = self.engine.tenant_of_member(member).expect("it has just joined");
        self.tenants.insert(image, tenant);
        self.share_devices(image);
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
    pub(crate) fn join_engine(
        &mut self,
        member: MemberId,
        applicant: Applicant,
        token: TokenId,
        lineage: EngineLineage,
    ) -> Result<Vec<Effect>, Refused> {
        let Applicant { name, pid, who, .. } = applicant;
        let field = if matches!(lineage, EngineLineage::Returning(_)) { "claims" } else { "token" };
        let (called, who_asks) = (name.clone(), who.clone());
        let input = Input::Join { member, pid, name, token, lineage, who };
        self.decide(input).map_err(|error| match error {
            Refusal::NoTenant { .. } => {
                let why = credentials::no_tenant(&who_asks);
                self.keep_not_let_in(pid, called, "no-tenant", &why);
                why
            }
            error => refusal(field, error),
        })
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

    pub(crate) fn enter(&mut self, id: ConnectionId, name: MemberId, member: Member) {
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

    pub(crate) fn welcome(
        &mut self,
        id: ConnectionId,
        member: MemberId,
        image: ImageId,
        files: bool,
    ) {
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
    pub(crate) fn new(
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
