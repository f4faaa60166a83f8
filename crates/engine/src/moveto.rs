//! A process's memory goes to a node.
//!
//! The request takes what the process owns elsewhere and what can be moved, lowest first, as much
//! as is wanted and as the node has room for, and orders it to move; when all that is answered it
//! looks again, until it has enough or there is nothing left that it could try.

use alloc::{collections::BTreeSet, vec, vec::Vec};
use core::time::Duration;

use memtide_units::{ByteSize, MemberId, NodeId, Pageblock, RequestId};

use crate::{
    engine::Engine,
    lease::{Lease, Standing},
    refusal::Refusal,
    request::{Aim, Goal, Prospect, Request},
};

impl Engine {
    pub(crate) fn move_to(
        &mut self,
        request: RequestId,
        member: MemberId,
        node: NodeId,
        bytes: Option<ByteSize>,
        deadline: Duration,
    ) -> Result<(), Refusal> {
        let token = self.token_of(member)?;
        let to = self.pool.index_of(node).ok_or(Refusal::NoSuchNode { node })?;
        let aim = Aim::MoveTo { token, to: vec![to], only: None };
        let wanted = match bytes {
            Some(ByteSize(0)) => return Err(Refusal::NoBytes),
            Some(bytes) => bytes.pageblocks_ceil(),
            None => self.still_elsewhere(&aim).count() as u64,
        };
        self.open_request(request, Request::new(aim, wanted, self.now.after(deadline)))?;
        // What is there already belongs there from now on.
        let held = &self.process(token).held;
        let right = held.iter().filter(|&&at| {
            self.leases[&at].owner.token == token && self.pool.block_of(at).node == to
        });
        self.set_home(right.copied().collect::<Vec<_>>(), None);
        Ok(())
    }

    /// What of a process's memory is to move and lies on other nodes still: what it owns, or, of
    /// what was named, what it holds.
    pub(crate) fn still_elsewhere<'a>(
        &'a self,
        aim: &'a Aim,
    ) -> impl Iterator<Item = (Pageblock, &'a Lease)> {
        let (token, to, only) = match aim {
            Aim::MoveTo { token, to, only } => (Some(*token), &to[..], only.as_ref()),
            Aim::GiveBack { .. } => (None, &[][..], None),
        };
        let process = token.and_then(|token| self.processes.get(&token));
        let held = process.into_iter().flat_map(|process| &process.held);
        let named = held.filter(move |&at| only.is_none_or(|only| only.contains(at)));
        let elsewhere = named.filter(move |&&at| !to.contains(&self.pool.block_of(at).node));
        let leases = elsewhere.map(|&pageblock| (pageblock, &self.leases[&pageblock]));
        leases.filter(move |(_, lease)| only.is_some() || Some(lease.owner.token) == token)
    }

    pub(crate) fn step_move_to(&mut self, id: RequestId) -> Prospect {
        let request = &self.requests[&id];
        let Aim::MoveTo { token, ref to, .. } = request.aim else {
            unreachable!("only a move is about a process")
        };
        let Some(process) = self.processes.get(&token) else { return Prospect::Stuck };
        if !process.answers() {
            return Prospect::Stuck;
        }
        let work = request.works.first().copied();
        if let Some(work) = work.map(|work| &self.works[&work])
            && (work.in_flight > 0 || work.todo_count() > 0)
        {
            return Prospect::Busy;
        }
        let need = request.wanted - request.done;
        let all: Vec<_> = self.still_elsewhere(&request.aim).map(|(at, _)| at).collect();
        let rooms = to.iter().map(|&node| (node, self.room_to_fill(token, node, &all)));
        let (node, room) = { rooms }.find(|&(_, room)| room > 0).unwrap_or_default();
        let mut may_change = false;
        let mut lacks_room = false;
        let mut next = BTreeSet::new();
        for (pageblock, lease) in self.still_elsewhere(&request.aim) {
            let leaving = self.emptying.contains_key(&self.pool.block_of(pageblock));
            match self.standing(lease) {
                Standing::Movable if leaving => may_change = true,
                Standing::Movable if request.failed.contains_key(&pageblock) => {}
                Standing::Movable if (next.len() as u64) < need.min(room) => {
                    next.insert(pageblock);
                }
                Standing::Movable => lacks_room = true,
                Standing::Leaving | Standing::Unsettled => may_change = true,
                Standing::Held(..) => {}
            }
        }
        if next.is_empty() {
            may_change |= lacks_room && self.room_may_come();
            return if may_change { Prospect::Waiting } else { Prospect::Stuck };
        }
        if let Some(work) = work {
            self.close_work(work);
        }
        let work = self.open_work(Some(id), Goal::Fill(node));
        self.want(work, token, next);
        Prospect::Busy
    }
}
