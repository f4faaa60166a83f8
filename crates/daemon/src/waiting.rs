//! Requests that wait for memory that is on its way back.
//!
//! A program that ended a moment ago may still be counted, and what it had is zeroed before it is
//! free. Who asks for memory just then is not refused at once: the request waits, and is tried
//! again as memory comes back, for at most [`PATIENCE`]. What the same program asks for later
//! waits behind it, so that answers keep their order.

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

use memtide_engine::{Effect, Input, Refusal};
use memtide_proto::ToProgram;
use memtide_units::{MemberId, Pageblock};

use crate::{
    daemon::{ConnectionId, Daemon, Role},
    program::refusal,
};

/// Longest that a request waits.
const PATIENCE: Duration = Duration::from_secs(1);
/// Who disconnected longer ago than this is not about to end.
const ENDING: Duration = Duration::from_secs(5);
/// Most requests of one connection that wait; beyond, all are answered as things are.
const WAITING_MAX: usize = 4096;

/// What a program asks for.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Wish {
    /// A promise of this many pageblocks more.
    Commit(i64),
    /// This many pageblocks, the first to follow this one.
    Lease(u32, Option<Pageblock>),
}

/// The requests of one connection that wait.
#[derive(Debug, Default)]
pub(crate) struct Waiting {
    wishes: VecDeque<(Wish, Instant)>,
}

impl Waiting {
    /// Until when the first waits.
    pub(crate) fn until(&self) -> Option<Instant> {
        self.wishes.front().map(|(_, until)| *until)
    }
}

impl Daemon {
    /// A program wants something: it gets it now, or waits for its answer.
    pub(crate) fn wish(&mut self, id: ConnectionId, member: MemberId, wish: Wish, now: Instant) {
        let guest = self.guests.get_mut(&id).expect("it has just spoken");
        guest.waiting.wishes.push_back((wish, now + PATIENCE));
        match guest.waiting.wishes.len() {
            1 => self.serve_wishes(id, member, |_| true),
            count if count > WAITING_MAX => self.end_waiting(id, member),
            _ => {}
        }
    }

    /// All that waits of a program is answered, as things are now.
    pub(crate) fn end_waiting(&mut self, id: ConnectionId, member: MemberId) {
        self.serve_wishes(id, member, |_| false);
    }

    /// Tries again what waits, and answers what has waited long enough. Called once a turn, when
    /// all that has come has been heard: who ended in this turn counts.
    pub(crate) fn serve_waiting(&mut self, now: Instant) {
        let waiting = |(&id, guest): (&ConnectionId, &crate::daemon::Guest)| match guest.role {
            Role::Program(member) => guest.waiting.until().map(|_| (id, member)),
            _ => None,
        };
        let waiting: Vec<_> = self.guests.iter().filter_map(waiting).collect();
        if waiting.is_empty() {
            return;
        }
        let is_coming = self.is_memory_coming(now);
        for (id, member) in waiting {
            self.serve_wishes(id, member, |until| is_coming && now < until);
        }
    }

    /// When the first that waits is to be answered.
    pub(crate) fn waiting_until(&self) -> Option<Instant> {
        self.guests.values().filter_map(|guest| guest.waiting.until()).min()
    }

    /// Whether memory of programs that have ended is on its way back.
    fn is_memory_coming(&self, now: Instant) -> bool {
        let is_ending = |guest: &crate::daemon::Guest| {
            matches!(guest.role, Role::Program(_)) && guest.connection.is_over()
        };
        let since = now.checked_sub(ENDING);
        !self.zeroing.is_empty()
            || self.tokens.any_left_since(since)
            || self.guests.values().any(is_ending)
    }

    /// Grants what waits, in order, as far as there is something to grant; what there is nothing
    /// for is refused unless it may wait on.
    fn serve_wishes(
        &mut self,
        id: ConnectionId,
        member: MemberId,
        may_wait: impl Fn(Instant) -> bool,
    ) {
        while let Some(guest) = self.guests.get(&id)
            && let Some(&(wish, until)) = guest.waiting.wishes.front()
        {
            let granted = match self.try_wish(id, member, wish) {
                Ok(granted) => granted,
                Err(error) => {
                    let field = match wish {
                        Wish::Commit(_) => "commit",
                        Wish::Lease(..) => "lease",
                    };
                    self.forget_wishes(id);
                    return self.refuse(id, &refusal(field, error));
                }
            };
            if !granted {
                if may_wait(until) {
                    return;
                }
                match wish {
                    Wish::Commit(_) => self.send(id, &ToProgram::Commit { granted: false }),
                    Wish::Lease(..) => self.send(id, &ToProgram::Grant { extents: Vec::new() }),
                }
            }
            if let Some(guest) = self.guests.get_mut(&id) {
                guest.waiting.wishes.pop_front();
            }
        }
    }

    fn forget_wishes(&mut self, id: ConnectionId) {
        if let Some(guest) = self.guests.get_mut(&id) {
            guest.waiting.wishes.clear();
        }
    }

    /// Whether there was something to grant; if so, it has been answered, or the engine does that
    /// when it knows what there is.
    fn try_wish(
        &mut self,
        id: ConnectionId,
        member: MemberId,
        wish: Wish,
    ) -> Result<bool, Refusal> {
        match wish {
            Wish::Commit(by) => {
                let mut effects = self.decide(Input::Commit { member, by })?;
                let before = effects.len();
                effects.retain(|effect| !matches!(effect, Effect::Promise { granted: false, .. }));
                let granted = effects.len() == before;
                self.carry_out_all(effects);
                if by <= 0 {
                    self.send(id, &ToProgram::Commit { granted: true });
                }
                return Ok(granted);
            }
            Wish::Lease(count, after) => {
                let mut effects =
                    self.decide(Input::Lease { member, count, after, policy: None })?;
                let before = effects.len();
                effects.retain(|effect| !is_empty_grant(effect, member));
                let granted = effects.len() == before;
                self.carry_out_all(effects);
                return Ok(granted);
            }
        }
    }
}

fn is_empty_grant(effect: &Effect, to: MemberId) -> bool {
    matches!(effect, Effect::Grant { member, extents } if *member == to && extents.is_empty())
}
