//! Programs come back: from an earlier daemon, or after their connection was lost.
//!
//! A program says first who it was, then in any number of parts what it holds; it is in when the
//! last part has come and the engine agrees. Until then it is nobody, and what it said is forgotten
//! with its connection.

use std::{os::fd::OwnedFd, time::Instant};

use memtide_engine::{Claims, Lineage as EngineLineage, tenant::Credentials};
use memtide_proto::{FromProgram, Refused, decode};
use memtide_units::{Extent, ImageId, MemberId, TokenId};

use crate::{
    daemon::{ConnectionId, Daemon, Member, Role},
    images::Files,
    join::Applicant,
    notice::Notice,
    numa::no_files,
    program::{CHILDREN_MAX, is_gone, refused},
};

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

impl Daemon {
    pub(crate) fn begin_claims(
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
        // Nothing may have been online when they were made.
        self.bind_files(&files).map_err(|error| no_files("files", &error, "files to be bound"))?;
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
            // The next stranger would be given it, too.
            None if claims.member.0 >= self.next_member => {
                Err(refused("member", claims.member, "a name that was given to somebody"))
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
        self.check_files(image, &files)?;
        let children = claims.children.clone();
        self.take_device_files(&files);
        let held: Vec<Extent> = claims.leased.iter().chain(&claims.shared).copied().collect();
        let lineage = EngineLineage::Returning(claims);
        self.images.keep(image, files);
        let applicant = Applicant { name: name.clone(), pid, started, who };
        let effects = self.join_engine(member, applicant, token, lineage).inspect_err(|_| {
            if self.members.values().all(|member| member.image != image) {
                self.images.forget_files(image);
            }
        })?;
        // Only what the engine has adopted stays as it is when nobody is awaited any more.
        self.dcd.claim(&held);
        match token_file {
            Some(file) => self.tokens.add_connected(token, file, pid, started),
            None => self.tokens.add_without_file(token, pid, started),
        }
        self.tokens.set_connected(token, true, now);
        self.add_children(children.into_iter().zip(child_files), (pid, started), now);
        self.awaited.retain(|awaited| awaited.member != member);
        self.settle(image, member, held);
        self.enter(id, member, Member::new(id, token, image, (pid, name, started)));
        self.welcome(id, member, image, false);
        self.carry_out_all(effects);
        self.send_devices(image, id);
        Ok(())
    }

    /// A process that has come back has these children, some of which may be known.
    fn add_children(
        &mut self,
        children: impl Iterator<Item = (TokenId, OwnedFd)>,
        (pid, started): (u32, u64),
        now: Instant,
    ) {
        for (child, file) in children {
            if !self.tokens.contains(child) {
                self.tokens.add_child(child, file, pid, started, now);
            }
        }
    }

    /// Others may have come since it said hello.
    fn check_files(&self, image: ImageId, files: &Files) -> Result<(), Refused> {
        let checked = self.images.check(image, files);
        checked.map_err(|error| refused("files", error, "the files that this process was given"))
    }

    /// A process of an earlier daemon has come back with these, or is gone.
    pub(crate) fn settle(&mut self, image: ImageId, member: MemberId, held: Vec<Extent>) {
        if let Err(error) = self.images.settle(image, member, held) {
            let extent = Extent::new(memtide_units::Pageblock(0), 0);
            self.notice(Notice::NotZeroed { image, extent, error });
        }
    }
}
