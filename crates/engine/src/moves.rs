//! Orders to move pageblocks, and their answers.
//!
//! What shall move waits in [`Work::todo`]. An order takes from there as many pageblocks as the
//! process may have in flight, takes their destinations out of the pool, and leases them to the
//! process at once, so that the process can answer pair by pair in its own time:
//!
//! ```text
//!                  source                        destination
//! ordered          leased, cannot be moved       leased, cannot be released
//! Moved            zeroed, then free             leased
//! Held, Gone       leased (unless released)      zeroed, then free
//! died, left       as every other lease of its   as every other lease of its
//! ```
//!
//! Either end may be lost meanwhile ([`crate::loss`]): it is nobody's then, and the answer decides
//! about the other alone, for only the process knows how far it had come. `Moved` says that all of
//! the content was at the destination: if the source is lost, nothing was; if the destination is,
//! the content was, and the source is zeroed, for the program knows it no more. Otherwise the
//! source stays, if it is not lost itself, and the destination was never used. Nobody waits for
//! more than the answer, and for that no longer than for any other.
//!
//! A process may release a source before it answers (its program freed the memory): the answer
//! is then `Gone`. The source is not free before that, for if the process got it again meanwhile
//! it could not tell what the order is about. A new order goes
//! out only when there is place for a full one, so that answers of one pair each do not lead to
//! orders of one pair each.

use alloc::vec::Vec;
use core::ops::Bound;

use memtide_units::{HoldReason, MemberId, MoveId, Pageblock, TokenId};

use crate::{
    effect::Effect,
    engine::Engine,
    input::MoveOutcome,
    lease::{End, Flight, Pins, Share, Standing},
    migrate_reason::MigrateReason,
    pageblocks::MOVABLE,
    process::{Link, Waiting},
    refusal::Refusal,
    request::{Goal, Work, WorkId},
};

/// An order that is not answered in full.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Order {
    pub(crate) token: TokenId,
    pub(crate) pairs: Vec<Pair>,
    /// How many of the pairs are answered.
    pub(crate) answered: usize,
}

/// From where to where, and for whom.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Pair {
    pub(crate) from: Pageblock,
    pub(crate) to: Pageblock,
    pub(crate) work: WorkId,
    /// The work may be gone when it is answered.
    pub(crate) reason: MigrateReason,
}

/// An order being written.
struct Draft {
    /// Pairs that may still be ordered of the process.
    slots: u64,
    /// The last destination, for the next to follow.
    last: Option<Pageblock>,
    order: Option<(MoveId, Vec<Pair>)>,
}

impl Order {
    pub(crate) fn open(&self) -> &[Pair] {
        &self.pairs[self.answered..]
    }
}

impl Engine {
    pub(crate) fn moved(
        &mut self,
        member: MemberId,
        id: MoveId,
        outcomes: &[MoveOutcome],
    ) -> Result<(), Refusal> {
        let token = self.connected(member)?;
        let no_such = Refusal::NoSuchOrder { order: id, member };
        let order = self.orders.get_mut(&id).filter(|order| order.token == token);
        let order = order.ok_or(no_such)?;
        let left = order.open().len();
        if outcomes.len() > left {
            let outcomes = outcomes.len() as u64;
            return Err(Refusal::TooManyOutcomes { order: id, outcomes, left: left as u64 });
        }
        let pairs = order.open()[..outcomes.len()].to_vec();
        order.answered += outcomes.len();
        if order.open().is_empty() {
            self.orders.remove(&id);
        }
        for (pair, &outcome) in pairs.iter().zip(outcomes) {
            self.process_mut(token).in_flight -= 1;
            self.end_pair(id, token, *pair, outcome);
        }
        if !outcomes.is_empty() {
            self.heard_of(token);
        }
        Ok(())
    }

    fn end_pair(&mut self, id: MoveId, token: TokenId, pair: Pair, outcome: MoveOutcome) {
        let Pair { from, to, work, reason } = pair;
        if let Some(work) = self.works.get_mut(&work) {
            work.in_flight -= 1;
        }
        let source = self.is_end(from, id, End::Source);
        let destination = self.is_end(to, id, End::Destination);
        if !source {
            self.end_order_of_residue(from, id);
        }
        match outcome {
            MoveOutcome::Moved => {
                self.moved += 1;
                let mut pins = Pins::NONE;
                if source {
                    if destination {
                        self.carry_heat(from, to);
                    }
                    let lease = self.leases.get_mut(&from).expect("just seen");
                    if let Some(stake) = lease.stake_mut(token) {
                        pins = stake.pins;
                    }
                    self.drop_lease(from);
                }
                if !destination {
                    return;
                }
                let lease = self.leases.get_mut(&to).expect("just seen");
                lease.flight = None;
                if let Some(stake) = lease.stake_mut(token) {
                    stake.pins.add(pins);
                }
                self.settle(to);
                self.touch(to);
                self.count_moved(work);
                self.migrated(token, (from, to), work, reason);
            }
            MoveOutcome::Gone | MoveOutcome::Held(_) => {
                if destination {
                    self.drop_lease(to);
                }
                if source {
                    self.leases.get_mut(&from).expect("just seen").flight = None;
                    self.settle(from);
                    let reason = match outcome {
                        MoveOutcome::Held(reason) => reason,
                        _ => HoldReason::MoveFailed,
                    };
                    self.note_failed(from, work, reason);
                    self.touch(from);
                }
            }
        }
    }

    /// What is left of a released source waits for its order no more.
    fn end_order_of_residue(&mut self, from: Pageblock, id: MoveId) {
        let residue = self.zeroing.get(&from);
        if residue.is_some_and(|residue| residue.order == Some(id)) {
            self.change_residue(from, |residue| residue.order = None);
        }
    }

    fn is_end(&self, pageblock: Pageblock, order: MoveId, end: End) -> bool {
        let flight = self.leases.get(&pageblock).and_then(|lease| lease.flight);
        flight == Some(Flight { order, end })
    }

    /// A source stays: whoever empties its block must know, and who wanted it moved.
    fn note_failed(&mut self, from: Pageblock, work: WorkId, reason: HoldReason) {
        let emptier = self.emptying.get(&self.pool.block_of(from)).copied();
        for work in [Some(work), emptier].into_iter().flatten() {
            if let Some(work) = self.works.get(&work)
                && let Some(request) = work.request.and_then(|id| self.requests.get_mut(&id))
            {
                request.failed.insert(from, reason);
            }
        }
    }

    fn count_moved(&mut self, work: WorkId) {
        if let Some(work) = self.works.get(&work)
            && matches!(work.goal, Goal::Fill(_))
            && let Some(id) = work.request
        {
            let request = self.requests.get_mut(&id).expect("requests outlive their works");
            request.done += 1;
        }
    }

    /// The process will answer none of its orders: both ends of every pair stay its leases.
    pub(crate) fn cancel_orders(&mut self, token: TokenId) {
        let of_it = self.orders.iter().filter(|(_, order)| order.token == token);
        for id in of_it.map(|(&id, _)| id).collect::<Vec<_>>() {
            let order = self.orders.remove(&id).expect("just seen");
            for &Pair { from, to, work, .. } in order.open() {
                if let Some(work) = self.works.get_mut(&work) {
                    work.in_flight -= 1;
                }
                for (pageblock, end) in [(from, End::Source), (to, End::Destination)] {
                    if self.is_end(pageblock, id, end) {
                        self.leases.get_mut(&pageblock).expect("just seen").flight = None;
                        self.settle(pageblock);
                        self.touch(pageblock);
                    } else {
                        self.end_order_of_residue(pageblock, id);
                    }
                }
            }
        }
        self.process_mut(token).in_flight = 0;
    }

    /// Orders what can be ordered. Returns the works that lack nothing but room, in order.
    pub(crate) fn order_moves(&mut self) -> Vec<WorkId> {
        let mut starved = Vec::new();
        if self.recovery.is_some() {
            return starved;
        }
        let mut next = self.wanted.first().copied();
        while let Some((token, _)) = next {
            self.order_moves_of(token, &mut starved);
            let after = (Bound::Excluded((token, WorkId(u64::MAX))), Bound::Unbounded);
            next = self.wanted.range(after).next().copied();
        }
        starved.sort_unstable();
        starved
    }

    fn order_moves_of(&mut self, token: TokenId, starved: &mut Vec<WorkId>) {
        let mut draft = Draft { slots: self.slots(token), last: None, order: None };
        let mut from = WorkId(0);
        while draft.slots > 0 {
            let rest = (token, from)..=(token, WorkId(u64::MAX));
            let Some(&(_, id)) = self.wanted.range(rest).next() else { break };
            from = WorkId(id.0 + 1);
            let picked = self.pick(id, token, draft.slots);
            let pairs = match self.works[&id].goal {
                Goal::Empty(block) => self.destinations(token, &picked, draft.last, block.node),
                Goal::Fill(node) => {
                    let room = self.room_to_fill(token, node, &picked);
                    let count = room.min(picked.len() as u64);
                    let places = self.pool.take_on(node, count, draft.last, MOVABLE);
                    let places = places.iter().flat_map(|extent| extent.iter());
                    picked.iter().copied().zip(places).collect()
                }
            };
            if pairs.len() < picked.len() {
                starved.push(id);
            }
            let reason = self.reason_of(id);
            for (from, to) in pairs {
                if let Work { goal: Goal::Fill(node), request: Some(_), .. } = self.works[&id] {
                    self.set_home([from], Some(node));
                }
                self.pair_up(token, &mut draft, Pair { from, to, work: id, reason });
            }
        }
        self.send(token, draft.order);
    }

    /// Puts a pair into the order being written for a process, and sends the order when full.
    fn pair_up(&mut self, token: TokenId, draft: &mut Draft, pair: Pair) {
        let Pair { from, to, work, .. } = pair;
        let id = match &draft.order {
            Some((id, _)) => *id,
            None => {
                self.next_order += 1;
                MoveId(self.next_order - 1)
            }
        };
        let pairs = &mut draft.order.get_or_insert((id, Vec::new())).1;
        pairs.push(pair);
        let full = pairs.len() >= self.limits.pairs_per_order_max as usize;
        draft.slots -= 1;
        draft.last = Some(to);

        self.add_lease(to, token, Share::Own);
        for (pageblock, end) in [(from, End::Source), (to, End::Destination)] {
            let lease = self.leases.get_mut(&pageblock).expect("both are leased");
            assert!(lease.flight.is_none(), "{pageblock} is in two orders");
            lease.flight = Some(Flight { order: id, end });
        }
        self.works.get_mut(&work).expect("pairs come from works").in_flight += 1;
        self.unwant(work, token, &[from]);
        self.process_mut(token).in_flight += 1;
        if full {
            self.send(token, draft.order.take());
        }
    }

    fn send(&mut self, token: TokenId, order: Option<(MoveId, Vec<Pair>)>) {
        let Some((id, pairs)) = order else { return };
        let Link::Connected(member) = self.process(token).link else {
            unreachable!("orders go to processes that answer")
        };
        self.rearm(token);
        let told = pairs.iter().map(|pair| (pair.from, pair.to)).collect();
        self.out.moves.push(Effect::Move { member, id, pairs: told });
        self.orders.insert(id, Order { token, pairs, answered: 0 });
    }

    /// How many pairs may be ordered of a process now: none until there is place for a full
    /// order.
    fn slots(&self, token: TokenId) -> u64 {
        let Some(process) = self.processes.get(&token) else { return 0 };
        let place = self.limits.pairs_in_flight_max - process.in_flight;
        if !process.answers() || place < self.limits.pairs_per_order_max {
            return 0;
        }
        u64::from(place)
    }

    /// The first few that shall move; those that cannot any more are dropped on the way.
    fn pick(&mut self, id: WorkId, token: TokenId, count: u64) -> Vec<Pageblock> {
        let mut picked = Vec::new();
        let mut stale = Vec::new();
        if let Some(todo) = self.works[&id].todo.get(&token) {
            for &pageblock in todo {
                if picked.len() as u64 >= count {
                    break;
                }
                let lease = self.leases.get(&pageblock).filter(|l| l.owner.token == token);
                match lease.map(|lease| self.standing(lease)) {
                    Some(Standing::Movable) => picked.push(pageblock),
                    _ => stale.push(pageblock),
                }
            }
        }
        self.unwant(id, token, &stale);
        picked
    }

    /// Whether room may come up by itself: something is being zeroed, or moved by a process that
    /// answers.
    pub(crate) fn room_may_come(&self) -> bool {
        let moving = |process: &crate::process::Process| {
            process.in_flight > 0 && process.waiting != Waiting::Stalled
        };
        !self.zeroing.is_empty() || self.processes.values().any(moving)
    }
}
