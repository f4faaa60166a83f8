//! What programs say.
//!
//! A packet that makes no sense ends the connection that it came over, with a reason, and
//! changes nothing else. Who a program is, the kernel says; what it holds, the engine knows.

use std::{
    os::fd::{AsFd, OwnedFd},
    time::Instant,
};

use memtide_engine::{Input, MoveOutcome, Refusal};
use memtide_proto::{FromProgram, Hello, Refused, ToProgram, VERSION, decode, program::Outcome};
use memtide_units::{ByteSize, MemberId, Pageblock, TokenId};

use crate::{
    daemon::{ConnectionId, Daemon, Member, Role},
    notice::Notice,
};

/// Most tokens of children that one process may have outstanding.
pub(crate) const CHILDREN_MAX: usize = 4096;

pub(crate) fn refused(field: &str, value: impl ToString, expected: impl ToString) -> Refused {
    Refused { field: field.to_owned(), value: value.to_string(), expected: expected.to_string() }
}

/// What the engine refuses, as a program hears it.
pub(crate) fn refusal(field: &str, refusal: Refusal) -> Refused {
    refused(field, refusal, "what this process holds, and messages in order")
}

impl Daemon {
    /// A connection sent what makes no sense: it is told so if that is possible, and closed.
    pub(crate) fn garbage(&mut self, id: ConnectionId, what: &str) {
        let why = refused("packet", what, "a message of this protocol");
        self.refuse(id, &why);
    }

    pub(crate) fn refuse(&mut self, id: ConnectionId, why: &Refused) {
        let Some(guest) = self.guests.get_mut(&id) else { return };
        let pid = guest.connection.peer().pid;
        match guest.role {
            Role::Control => {
                guest.connection.send(&memtide_proto::ControlReply::Refused(why.clone()), vec![]);
            }
            _ => guest.connection.send(&ToProgram::Refused(why.clone()), vec![]),
        }
        guest.connection.close();
        if !matches!(guest.role, Role::Control) {
            self.notice(Notice::Garbage { pid, what: why.to_string() });
        }
    }

    /// The first packet of a connection.
    pub(crate) fn greeting(
        &mut self,
        id: ConnectionId,
        packet: &[u8],
        fds: Vec<OwnedFd>,
        now: Instant,
    ) {
        match decode::<Hello>(packet) {
            Ok(Hello::Control { version, request }) => {
                let guest = self.guests.get_mut(&id).expect("it has just spoken");
                guest.role = Role::Control;
                if version == VERSION {
                    self.control(id, request);
                } else {
                    self.refuse(id, &wrong_version(version));
                }
            }
            Ok(Hello::Program(hello)) => {
                if let Err(why) = self.join(id, hello, fds, now) {
                    self.refuse(id, &why);
                }
            }
            Err(error) => self.garbage(id, &error.to_string()),
        }
    }

    /// A packet of a program that has joined.
    pub(crate) fn program_packet(
        &mut self,
        id: ConnectionId,
        member: MemberId,
        packet: &[u8],
        fds: Vec<OwnedFd>,
        now: Instant,
    ) {
        let message = match decode::<FromProgram>(packet) {
            Ok(message) => message,
            Err(error) => return self.garbage(id, &error.to_string()),
        };
        if !fds.is_empty() && !matches!(message, FromProgram::ForkBegin { .. }) {
            return self.garbage(id, "descriptors beside a message that has none");
        }
        if let Err(why) = self.program_message(id, member, message, fds, now) {
            self.refuse(id, &why);
        }
    }

    fn program_message(
        &mut self,
        id: ConnectionId,
        member: MemberId,
        message: FromProgram,
        fds: Vec<OwnedFd>,
        now: Instant,
    ) -> Result<(), Refused> {
        match message {
            FromProgram::Claim { .. } => {
                Err(refused("message", "a claim", "claims only from a returning process"))
            }
            FromProgram::Commit { by: 0 } => Err(refused("commit", 0, "more or fewer pageblocks")),
            FromProgram::Commit { by } => self
                .ask_engine(Input::Commit { member, by })
                .map_err(|error| refusal("commit", error)),
            FromProgram::Lease { count, after } => self.lease(member, count, after),
            FromProgram::Release { extents } => self
                .ask_engine(Input::Release { member, extents })
                .map_err(|error| refusal("release", error)),
            FromProgram::Pin { extents, reason } => {
                let pageblocks = extents.iter().map(|extent| u64::from(extent.count)).sum();
                self.ask_engine(Input::Pin { member, extents, reason })
                    .map_err(|error| self.pin_refused(member, pageblocks, error))
            }
            FromProgram::Unpin { extents, reason } => self
                .ask_engine(Input::Unpin { member, extents, reason })
                .map_err(|error| refusal("unpin", error)),
            FromProgram::ForkBegin { token } => self.fork_begin(id, member, token, fds, now),
            FromProgram::Moved { id, outcomes } => {
                let outcomes = outcomes.into_iter().map(outcome).collect();
                self.ask_engine(Input::Moved { member, id, outcomes })
                    .map_err(|error| refusal("moved", error))
            }
            FromProgram::Thawed { extents } => self
                .ask_engine(Input::Thawed { member, extents })
                .map_err(|error| refusal("thawed", error)),
            FromProgram::LetGo { extents } => self
                .ask_engine(Input::LetGo { member, extents })
                .map_err(|error| refusal("let go", error)),
            FromProgram::Counters(counters) => {
                let peak = &mut self.summary.overflow_peak;
                *peak = (*peak).max(ByteSize(counters.overflow_bytes));
                if let Some(member) = self.members.get_mut(&member) {
                    member.counters = counters;
                }
                Ok(())
            }
        }
    }

    fn lease(
        &mut self,
        member: MemberId,
        count: u32,
        after: Option<Pageblock>,
    ) -> Result<(), Refused> {
        let max = u32::try_from(memtide_proto::codec::MAX_LIST).unwrap_or(u32::MAX);
        if count == 0 || count > max {
            return Err(refused("lease", count, format!("1 to {max} pageblocks")));
        }
        self.ask_engine(Input::Lease { member, count, after, policy: None })
            .map_err(|error| refusal("lease", error))
    }

    fn fork_begin(
        &mut self,
        id: ConnectionId,
        member: MemberId,
        token: TokenId,
        fds: Vec<OwnedFd>,
        now: Instant,
    ) -> Result<(), Refused> {
        let [file] = exactly_one(fds)?;
        // A child may have come and gone by now. Its parent has frozen its memory all the same and
        // waits to be told to thaw it, which it is once the token has been looked at.
        is_gone(&file)?;
        let Member { pid, started, .. } = self.members[&member];
        if self.tokens.children_of(pid) >= CHILDREN_MAX {
            self.keep_too_many_children(member);
            let expected = format!("at most {CHILDREN_MAX} children at once");
            return Err(refused("fork", CHILDREN_MAX + 1, expected));
        }
        self.ask_engine(Input::ForkBegin { member, token })
            .map_err(|error| refusal("fork", error))?;
        self.tokens.add_child(token, file, pid, started, now);
        self.send(id, &ToProgram::ForkReady);
        Ok(())
    }

    /// A program's connection has ended.
    pub(crate) fn program_left(&mut self, member: MemberId, now: Instant) {
        if let Some(known) = self.members.get_mut(&member) {
            known.connection = None;
            let token = known.token;
            self.tokens.set_connected(token, false, now);
        }
        self.tell_engine(Input::Left { member });
    }
}

fn outcome(outcome: Outcome) -> MoveOutcome {
    match outcome {
        Outcome::Moved => MoveOutcome::Moved,
        Outcome::Gone => MoveOutcome::Gone,
        Outcome::Held(reason) => MoveOutcome::Held(reason),
    }
}

pub(crate) fn wrong_version(version: u32) -> Refused {
    refused("version", version, format!("{VERSION}: the daemon and the program differ"))
}

pub(crate) fn exactly_one(fds: Vec<OwnedFd>) -> Result<[OwnedFd; 1], Refused> {
    <[OwnedFd; 1]>::try_from(fds).map_err(|fds| refused("descriptors", fds.len(), "one, a token"))
}

/// Whether nobody maps a token; an error if it is none.
pub(crate) fn is_gone(file: &OwnedFd) -> Result<bool, Refused> {
    memtide_sys::token::is_gone(file.as_fd())
        .map_err(|_| refused("token", "some other file", "a memory file that can be sealed"))
}
