//! A process's memory goes to a node.
//!
//! The request takes what the process owns elsewhere and what can be moved, lowest first, as much
//! as is wanted and as the node has room for, and orders it to move; when all that is answered it
//! looks again, until it has enough or there is nothing left that it could try.

use alloc::collections::BTreeSet;
use core::time::Duration;

use memtide_units::{ByteSize, MemberId, NodeId, Pageblock, RequestId, TokenId};

use crate::{
    engine::Engine,
    lease::Standing,
    refusal::Refusal,
    request::{Aim, Goal, Prospect, Request, WorkId},
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
        let wanted = match bytes {
            Some(ByteSize(0)) => return Err(Refusal::NoBytes),
            Some(bytes) => bytes.pageblocks_ceil(),
            None => self.owned_elsewhere(token, to).count() as u64,
        };
        let aim = Aim::MoveTo { token, to };
        self.open_request(request, Request::new(aim, wanted, self.now.after(deadline)))
    }

    /// What a process owns on other nodes than this.
    pub(crate) fn owned_elsewhere(
        &self,
        token: TokenId,
        node: usize,
    ) -> impl Iterator<Item = (Pageblock, &crate::lease::Lease)> {
        let held = self.processes.get(&token).into_iter().flat_map(|process| &process.held);
        let elsewhere = held.filter(move |&&pageblock| self.pool.node_of(pageblock) != Some(node));
        elsewhere
            .map(|&pageblock| (pageblock, &self.leases[&pageblock]))
            .filter(move |(_, lease)| lease.owner.token == token)
    }

    pub(crate) fn step_move_to(&mut self, id: RequestId, token: TokenId, to: usize) -> Prospect {
        let Some(process) = self.processes.get(&token) else { return Prospect::Stuck };
        if !process.answers() {
            return Prospect::Stuck;
        }
        let request = &self.requests[&id];
        let work = request.works.first().copied();
        if let Some(work) = work.map(|work| &self.works[&work])
            && (work.in_flight > 0 || work.todo_count() > 0)
        {
            return Prospect::Busy;
        }
        let need = request.wanted - request.done;
        let room = self.room(self.tenant_of(token), to).0;
        let mut may_change = false;
        let mut next = BTreeSet::new();
        for (pageblock, lease) in self.owned_elsewhere(token, to) {
            let leaving = self.emptying.contains_key(&self.pool.block_of(pageblock));
            match self.standing(lease) {
                Standing::Movable if leaving => may_change = true,
                Standing::Movable if request.failed.contains_key(&pageblock) => {}
                Standing::Movable if (next.len() as u64) < need.min(room) => {
                    next.insert(pageblock);
                }
                Standing::Movable => may_change |= self.room_may_come(),
                Standing::Leaving | Standing::Unsettled => may_change = true,
                Standing::Held(..) => {}
            }
        }
        if next.is_empty() {
            return if may_change { Prospect::Waiting } else { Prospect::Stuck };
        }
        self.fill(id, work, token, to, next);
        Prospect::Busy
    }

    fn fill(
        &mut self,
        id: RequestId,
        work: Option<WorkId>,
        token: TokenId,
        to: usize,
        todo: BTreeSet<Pageblock>,
    ) {
        let work = work.unwrap_or_else(|| self.open_work(id, Goal::Fill(to)));
        self.want(work, token, todo);
    }
}
