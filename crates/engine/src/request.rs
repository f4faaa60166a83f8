//! Requests that take time: what they have in common.
//!
//! A request owns *works*. The works of a give-back each empty one isolated block; the one work
//! of a move fills a node. A work knows which pageblocks have yet to be ordered to move; whoever
//! moves them, in which order, is no business of the request ([`crate::moves`]).
//!
//! After every input each request is stepped: it starts what it can ([`crate::giveback`],
//! [`crate::moveto`]) and ends when it has all it wanted, when nothing more can come of it, or
//! when its time is up. What ends a request leaves no trace of it but orders under way: blocks
//! that could not be emptied are opened again.
//!
//! There may be so many requests of operators ([`crate::Limits::requests_max`]), and as many hints
//! of programs ([`crate::mbind`]) beside them, a quarter of those of one process: no program uses
//! up what operators need, or all that programs may have.

use alloc::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    vec::Vec,
};

use memtide_units::{ByteSize, HoldReason, Instant, Pageblock, RequestId, TokenId};

use crate::{engine::Engine, lease::Standing, pool::BlockId, refusal::Refusal};

/// The name of a work; later works have higher ones.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) struct WorkId(pub(crate) u64);

/// A request that is not answered yet.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Request {
    pub(crate) aim: Aim,
    /// Pageblocks.
    pub(crate) wanted: u64,
    /// Pageblocks.
    pub(crate) done: u64,
    /// Pageblocks of the blocks that are being emptied for it.
    pub(crate) emptying: u64,
    /// What of `done` the operator knows.
    pub(crate) told: u64,
    pub(crate) deadline: Instant,
    pub(crate) works: BTreeSet<WorkId>,
    /// What stayed although ordered to move.
    pub(crate) failed: BTreeMap<Pageblock, HoldReason>,
}

/// What a request is for.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Aim {
    GiveBack {
        /// From which nodes, in this order.
        nodes: Vec<usize>,
        /// Which blocks of them.
        blocks: Blocks,
        /// Blocks to try, the cheapest first.
        ranked: VecDeque<BlockId>,
        /// Blocks that were tried in vain.
        tried: BTreeSet<BlockId>,
        /// Those of them that were opened again to make room for others; they are not tried again.
        sacrificed: BTreeSet<BlockId>,
    },
    MoveTo {
        /// Whose memory.
        token: TokenId,
        /// To which nodes, the best first.
        to: Vec<usize>,
        /// Which of it; all, when absent.
        only: Option<BTreeSet<Pageblock>>,
    },
}

/// Which blocks a give-back wants.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Blocks {
    /// Any, the cheapest first.
    Any,
    /// These very blocks.
    These {
        /// Those that are not gone.
        left: BTreeSet<BlockId>,
    },
    /// All of a node, once the state of its device is saved.
    All {
        /// The node.
        node: usize,
        /// Those that are not gone.
        left: BTreeSet<BlockId>,
    },
}

impl Blocks {
    /// Those that are wanted and not gone; none when any will do.
    pub(crate) const fn left(&self) -> Option<&BTreeSet<BlockId>> {
        match self {
            Self::Any => None,
            Self::These { left } | Self::All { left, .. } => Some(left),
        }
    }

    pub(crate) const fn left_mut(&mut self) -> Option<&mut BTreeSet<BlockId>> {
        match self {
            Self::Any => None,
            Self::These { left } | Self::All { left, .. } => Some(left),
        }
    }
}

impl Aim {
    /// The process whose hint it is; none, if it is an operator's.
    pub(crate) const fn hint_of(&self) -> Option<TokenId> {
        match *self {
            Self::MoveTo { token, only: Some(_), .. } => Some(token),
            _ => None,
        }
    }

    pub(crate) fn give_back(nodes: Vec<usize>, blocks: Blocks) -> Self {
        let (ranked, tried, sacrificed) = (VecDeque::new(), BTreeSet::new(), BTreeSet::new());
        Self::GiveBack { nodes, blocks, ranked, tried, sacrificed }
    }
}

/// A part of a request that is under way.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Work {
    /// None: it is for balance ([`crate::rebalance`]).
    pub(crate) request: Option<RequestId>,
    pub(crate) goal: Goal,
    /// What is to be ordered to move, by owner. Entries may be out of date. [`Engine::wanted`]
    /// says which owners there are.
    pub(crate) todo: BTreeMap<TokenId, BTreeSet<Pageblock>>,
    /// Pairs ordered for it and not answered.
    pub(crate) in_flight: u64,
}

/// What a work is for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Goal {
    /// Nothing is left in this block.
    Empty(BlockId),
    /// More of a process's memory is on this node.
    Fill(usize),
}

/// What may become of a request.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Prospect {
    /// Something is under way.
    Busy,
    /// Nothing is under way, but things may change by themselves.
    Waiting,
    /// Nothing more can be done.
    Stuck,
}

/// How the emptying of a block ends.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Emptied {
    /// It is empty, and leaves.
    Whole,
    /// Something in it stays for now.
    Stays,
    /// Others need the room that it has when it is open.
    Sacrificed,
}

/// Why a request ends.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Ending {
    /// It has all it wanted.
    Whole,
    /// Nothing more can be done.
    Stuck,
    /// Its time is up.
    CutOff,
}

impl Request {
    pub(crate) const fn new(aim: Aim, wanted: u64, deadline: Instant) -> Self {
        Self {
            aim,
            wanted,
            done: 0,
            emptying: 0,
            told: 0,
            deadline,
            works: BTreeSet::new(),
            failed: BTreeMap::new(),
        }
    }
}

impl Work {
    /// Pageblocks to be ordered to move.
    pub(crate) fn todo_count(&self) -> u64 {
        self.todo.values().map(|todo| todo.len() as u64).sum()
    }
}

impl Engine {
    /// Enters a request.
    pub(crate) fn open_request(&mut self, id: RequestId, request: Request) -> Result<(), Refusal> {
        if self.requests.contains_key(&id) {
            return Err(Refusal::RequestTaken { request: id });
        }
        self.check_count(request.aim.hint_of())?;
        self.requests.insert(id, request);
        Ok(())
    }

    pub(crate) fn open_work(&mut self, request: Option<RequestId>, goal: Goal) -> WorkId {
        let id = WorkId(self.next_work);
        self.next_work += 1;
        self.works.insert(id, Work { request, goal, todo: BTreeMap::new(), in_flight: 0 });
        if let Some(request) = request {
            let request = self.requests.get_mut(&request).expect("the caller found it");
            request.works.insert(id);
        }
        id
    }

    /// Ends a work; says what it was for. Its orders under way go on for nobody.
    pub(crate) fn close_work(&mut self, id: WorkId) -> Goal {
        let work = self.works.remove(&id).expect("the caller found it");
        for token in work.todo.into_keys() {
            self.wanted.remove(&(token, id));
        }
        if let Some(request) = work.request {
            let request = self.requests.get_mut(&request);
            request.expect("requests outlive their works").works.remove(&id);
        }
        work.goal
    }

    /// Puts pageblocks on the list of what is to be ordered to move.
    pub(crate) fn want(
        &mut self,
        id: WorkId,
        token: TokenId,
        pageblocks: impl IntoIterator<Item = Pageblock>,
    ) {
        let work = self.works.get_mut(&id).expect("the caller found it");
        work.todo.entry(token).or_default().extend(pageblocks);
        self.wanted.insert((token, id));
    }

    /// Takes pageblocks off it.
    pub(crate) fn unwant(&mut self, id: WorkId, token: TokenId, pageblocks: &[Pageblock]) {
        let work = self.works.get_mut(&id).expect("the caller found it");
        if let Some(todo) = work.todo.get_mut(&token) {
            for pageblock in pageblocks {
                todo.remove(pageblock);
            }
            if todo.is_empty() {
                work.todo.remove(&token);
                self.wanted.remove(&(token, id));
            }
        }
    }

    /// Lets a request go on as far as it can.
    pub(crate) fn step(&mut self, id: RequestId) {
        self.count_gone(id);
        let request = &self.requests[&id];
        let due = request.deadline <= self.now;
        let prospect = match request.aim {
            _ if self.recovery.is_some() => Prospect::Waiting,
            Aim::GiveBack { .. } => self.step_give_back(id),
            Aim::MoveTo { .. } => self.step_move_to(id),
        };
        let request = &self.requests[&id];
        if request.done >= request.wanted {
            self.end_request(id, Ending::Whole);
        } else if prospect == Prospect::Stuck {
            self.end_request(id, Ending::Stuck);
        } else if due {
            self.end_request(id, Ending::CutOff);
        }
    }

    fn end_request(&mut self, id: RequestId, ending: Ending) {
        let report = self.report(id, ending);
        for work in self.requests[&id].works.iter().copied().collect::<Vec<_>>() {
            if let Goal::Empty(block) = self.close_work(work) {
                self.emptying.remove(&block);
                self.touched.remove(&block);
                self.pool.unisolate(block);
            }
        }
        self.requests.remove(&id);
        self.out.answers.push((id, report));
    }

    pub(crate) fn tell_progress(&mut self) {
        for (&id, request) in &mut self.requests {
            if request.told != request.done {
                request.told = request.done;
                let bytes = ByteSize::from_pageblocks;
                self.out.progress.push((id, bytes(request.done), bytes(request.wanted)));
            }
        }
    }

    /// Looks at isolated blocks in which something changed.
    pub(crate) fn review_touched(&mut self) {
        while let Some(block) = self.touched.pop_first() {
            if let Some(&work) = self.emptying.get(&block) {
                self.review(block, work);
            }
        }
    }

    /// Takes an isolated block offline if it is empty, opens it again if it will not be.
    pub(crate) fn review(&mut self, block: BlockId, id: WorkId) {
        if self.pool.block_used(block) == 0 {
            self.close_work_for(block, id, Emptied::Whole);
            return;
        }
        let request = self.works[&id].request.expect("blocks are emptied for requests");
        let failed = &self.requests[&request].failed;
        let stays = self.leased_in(self.pool.span(block)).any(|(pageblock, lease)| {
            match self.standing(lease) {
                Standing::Movable => failed.contains_key(&pageblock),
                Standing::Leaving => false,
                Standing::Unsettled | Standing::Held(..) => true,
            }
        });
        if stays {
            self.close_work_for(block, id, Emptied::Stays);
            return;
        }
        // Normally all there already; a process that came back may have claimed more.
        let movable = self.movable_in(self.pool.span(block));
        for (pageblock, token) in movable {
            self.want(id, token, [pageblock]);
        }
    }

    fn close_work_for(&mut self, block: BlockId, id: WorkId, emptied: Emptied) {
        let request = self.works[&id].request.expect("blocks are emptied for requests");
        self.close_work(id);
        self.emptying.remove(&block);
        let request = self.requests.get_mut(&request).expect("requests outlive their works");
        request.emptying -= self.pool.block_pageblocks(block);
        if emptied == Emptied::Whole {
            request.done += self.pool.block_pageblocks(block);
            if let Aim::GiveBack { blocks, .. } = &mut request.aim
                && let Some(left) = blocks.left_mut()
            {
                left.remove(&block);
            }
            self.take_offline(block);
        } else {
            if let Aim::GiveBack { tried, sacrificed, .. } = &mut request.aim {
                tried.insert(block);
                if emptied == Emptied::Sacrificed {
                    sacrificed.insert(block);
                }
            }
            self.pool.unisolate(block);
        }
    }

    /// When works lack room and none will come by itself, gives one of them up: opening its
    /// block makes room for the others. The last is the one that costs most. Says whether it
    /// did.
    pub(crate) fn relieve(&mut self, starved: &[WorkId]) -> bool {
        let Some(&last) = starved.last() else { return false };
        if self.room_may_come() {
            return false;
        }
        match self.works[&last].goal {
            Goal::Empty(block) => self.close_work_for(block, last, Emptied::Sacrificed),
            Goal::Fill(_) => {
                for (token, todo) in self.works[&last].todo.clone() {
                    self.unwant(last, token, &todo.into_iter().collect::<Vec<_>>());
                }
            }
        }
        true
    }
}
