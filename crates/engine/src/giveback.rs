//! Capacity leaves a node, and comes back.
//!
//! A give-back wants whole blocks. It ranks those of its nodes by what emptying them costs: free
//! ones cost nothing, others as many moves as they have leased pageblocks; a block in which
//! anything cannot be moved is out of the question. It then isolates as many as it wants, the
//! cheapest first, as long as there is room elsewhere for what is in them; it never isolates more,
//! so that others can go on allocating. When a block turns out not to become empty it is opened
//! again and the next in rank takes its place. When nothing is under way, the blocks are ranked
//! anew, for things may have changed: what kept a block may have let go of it. (What was ordered
//! to move and stayed keeps its block for as long as the request lasts, and a block that was opened
//! to make room for others is not tried again.) If nothing can be started then, and nothing is
//! about to change by itself, the request is answered.
//!
//! A give-back of these very blocks ([`crate::online`]), or of all of a node ([`crate::evacuate`]),
//! is the same, but of no others: what of them is gone, by whatever way, is done. No other block
//! can take the place of one that is shared with a child, and most children go, or start another
//! program, the next moment: so such a request waits for that while it has time.
//!
//! Of equally cheap blocks those go first that are in a zone that is promised to come back: in
//! MOVABLE or EXMEM, then PREFER_MOVABLE; what is left of a kernel zone is of use to those who may
//! lie nowhere else. In one zone the highest leaves first, and the lowest comes back first.

use alloc::vec::Vec;
use core::{cmp::Reverse, time::Duration};

use memtide_units::{ByteSize, HoldReason, NodeId, RequestId};

use crate::{
    engine::Engine,
    lease::Standing,
    onlining::zone_for_pfn_range::Promise,
    pageblocks::BlockState,
    pool::BlockId,
    refusal::Refusal,
    request::{Aim, Blocks, Goal, Prospect, Request},
};

/// What emptying a block takes.
enum Cost {
    /// So many moves.
    Moves(u64),
    /// Something in it will be movable, or gone, by itself.
    LaterMaybe,
    /// Something in it stays.
    Never,
}

impl Engine {
    pub(crate) fn give_back(
        &mut self,
        request: RequestId,
        bytes: ByteSize,
        from: Option<NodeId>,
        deadline: Duration,
    ) -> Result<(), Refusal> {
        let nodes = match from {
            Some(node) => {
                alloc::vec![self.pool.index_of(node).ok_or(Refusal::NoSuchNode { node })?]
            }
            None => self.pool.furthest_first(),
        };
        if bytes.0 == 0 {
            return Err(Refusal::NoBytes);
        }
        let sizes = nodes.iter().map(|&node| self.pool.frames(node).block_pageblocks());
        let block = sizes.max().expect("there is at least one node");
        let wanted = bytes.pageblocks_ceil().div_ceil(block) * block;
        let aim = Aim::give_back(nodes, Blocks::Any);
        self.open_request(request, Request::new(aim, wanted, self.now.after(deadline)))
    }

    /// Counts those of the blocks that a request wants that left by other ways.
    pub(crate) fn count_gone(&mut self, id: RequestId) {
        let request = self.requests.get_mut(&id).expect("the caller found it");
        let Aim::GiveBack { blocks, .. } = &mut request.aim else { return };
        let Some(left) = blocks.left_mut() else { return };
        let (pool, done) = (&self.pool, &mut request.done);
        left.retain(|&block| {
            let gone = pool.block_state(block) == BlockState::Offline;
            *done += if gone { pool.block_pageblocks(block) } else { 0 };
            !gone
        });
    }

    /// Whether the state of a device must be saved first.
    pub(crate) fn awaits_device(&self, blocks: &Blocks) -> Option<usize> {
        match *blocks {
            Blocks::All { node, .. } if self.device(node).is_unsaved() => Some(node),
            _ => None,
        }
    }

    /// Starts as many blocks as are wanted and can be.
    pub(crate) fn step_give_back(&mut self, id: RequestId) -> Prospect {
        if let Aim::GiveBack { blocks, .. } = &self.requests[&id].aim {
            if self.awaits_device(blocks).is_some() {
                return Prospect::Waiting;
            }
            if matches!(blocks, Blocks::All { node, .. } if !self.evacuating.contains(node)) {
                return Prospect::Stuck;
            }
        }
        let mut may_change = false;
        let mut ranked_now = false;
        let mut elsewhere = None;
        loop {
            let request = &self.requests[&id];
            let need = request.wanted - request.done - request.emptying;
            if need == 0 {
                return Prospect::Busy;
            }
            let busy = !request.works.is_empty();
            let Some(block) = self.next_ranked(id) else {
                if busy {
                    return Prospect::Busy;
                }
                if ranked_now {
                    return if may_change { Prospect::Waiting } else { Prospect::Stuck };
                }
                (ranked_now, may_change) = (true, self.rank(id));
                continue;
            };
            let size = self.pool.block_pageblocks(block);
            if size > need || !self.pool.is_open(block) {
                continue;
            }
            match self.cost(id, block) {
                Cost::Moves(moves) => {
                    let known = elsewhere.get_or_insert_with(|| self.elsewhere());
                    if moves == 0 || known.has_room(self, block) {
                        ranked_now = false;
                        elsewhere = None;
                        self.start_emptying(id, block);
                    } else {
                        may_change |= known.may_come(self);
                    }
                }
                Cost::LaterMaybe => may_change = true,
                Cost::Never => {}
            }
        }
    }

    fn next_ranked(&mut self, id: RequestId) -> Option<BlockId> {
        match &mut self.requests.get_mut(&id).expect("the caller found it").aim {
            Aim::GiveBack { ranked, .. } => ranked.pop_front(),
            Aim::MoveTo { .. } => None,
        }
    }

    /// Ranks the blocks that could be started. Says whether there may be more of them later.
    fn rank(&mut self, id: RequestId) -> bool {
        let Aim::GiveBack { nodes, sacrificed, blocks, .. } = &self.requests[&id].aim else {
            unreachable!("only a give-back ranks blocks")
        };
        let mut may_change = false;
        let mut ranks = Vec::new();
        for (place, &node) in nodes.iter().enumerate() {
            for block in self.candidates(node, blocks) {
                if sacrificed.contains(&block) || !self.pool.is_open(block) {
                    // What another give-back is emptying may be opened again.
                    may_change |= self.emptying.contains_key(&block);
                    continue;
                }
                match self.cost(id, block) {
                    Cost::Moves(moves) => {
                        let wait = self.pool.block_used(block);
                        let promise = Promise::of(self.pool.zone(block));
                        let last = Reverse(block.block);
                        ranks.push((place, moves, wait, promise, last, block));
                    }
                    Cost::LaterMaybe => may_change = true,
                    Cost::Never => {}
                }
            }
        }
        ranks.sort_unstable();
        let best = ranks.into_iter().map(|(.., block)| block).collect();
        if let Aim::GiveBack { ranked, .. } =
            &mut self.requests.get_mut(&id).expect("just seen").aim
        {
            *ranked = best;
        }
        may_change
    }

    /// The blocks of a node that a request may want: a node may have many more than it names.
    fn candidates(&self, node: usize, blocks: &Blocks) -> Vec<BlockId> {
        match blocks.left() {
            Some(left) => left.iter().copied().filter(|block| block.node == node).collect(),
            None => self.pool.online_blocks(&[node]),
        }
    }

    fn cost(&self, id: RequestId, block: BlockId) -> Cost {
        if self.pool.block_used(block) == 0 {
            return Cost::Moves(0);
        }
        let Request { failed, aim, .. } = &self.requests[&id];
        let only_these = matches!(aim, Aim::GiveBack { blocks, .. } if blocks.left().is_some());
        let mut moves = 0;
        let mut unsettled = false;
        for (pageblock, lease) in self.leased_in(self.pool.span(block)) {
            match self.standing(lease) {
                Standing::Held(_, HoldReason::SharedWithChild) if only_these => unsettled = true,
                Standing::Held(..) => return Cost::Never,
                Standing::Movable if failed.contains_key(&pageblock) => return Cost::Never,
                Standing::Movable => moves += 1,
                Standing::Unsettled => unsettled = true,
                Standing::Leaving => {}
            }
        }
        if unsettled { Cost::LaterMaybe } else { Cost::Moves(moves) }
    }

    fn start_emptying(&mut self, id: RequestId, block: BlockId) {
        self.pool.isolate(block);
        let work = self.open_work(Some(id), Goal::Empty(block));
        self.emptying.insert(block, work);
        let request = self.requests.get_mut(&id).expect("the caller found it");
        request.emptying += self.pool.block_pageblocks(block);
        self.review(block, work);
    }
}
