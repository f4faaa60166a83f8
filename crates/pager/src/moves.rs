//! Orders to move, in batches.
//!
//! A batch is looked at as a whole before (may anything write to the program's memory behind our
//! back?) and after (does anybody sleep on a futex in what was moved?); its destinations are
//! mapped and populated ahead. The moves themselves are one by one: [`crate::move_block`].

use std::time::{Duration, Instant};

use memtide_proto::{FromProgram, program::Outcome};
use memtide_sys::{AddrRange, Populate, Prot, Sharing, Transfers};
use memtide_units::{HoldReason, MoveId, PAGEBLOCK_BYTES, Pageblock};

use rustix::io::Errno;

use crate::{inject::Step, pager::Pager, space::BLOCK};

/// Blocks moved between two looks at faults and messages.
pub const BATCH: usize = 8;
/// Mappings that are left to the program when vm.max_map_count comes near.
const MAPPINGS_SPARED: u64 = 1000;

/// How often the mappings are counted, at most; counting looks at every block.
const COUNT_EVERY: Duration = Duration::from_millis(100);

fn nanoseconds(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

/// An order of the daemon's, as far as it is not carried out yet.
#[derive(Debug)]
pub struct Order {
    /// Its name.
    pub id: MoveId,
    /// From where to where; the first `done` are done.
    pub pairs: Vec<(Pageblock, Pageblock)>,
    /// Pairs whose outcome has been told.
    pub done: usize,
}

/// A destination that has been mapped and populated ahead.
#[derive(Clone, Copy, Debug)]
pub struct Staged {
    /// From where.
    pub from: Pageblock,
    /// To where.
    pub to: Pageblock,
    /// The destination's place in the staging range.
    pub range: AddrRange,
    /// Whether it is mapped there.
    pub is_mapped: bool,
}

impl Pager {
    /// Carries out a batch of the oldest order.
    pub(crate) fn move_some(&mut self) {
        let Some(order) = self.orders.front() else { return };
        // Counted before they are looked at: what is opened in between shows.
        let descriptors_before = self.descriptors.count().unwrap_or(0);
        let id = order.id;
        let end = (order.done + BATCH).min(order.pairs.len());
        let pairs = order.pairs[order.done..end].to_vec();
        let outcomes = match self.held_as_a_whole() {
            Ok(direct_reads) => self.move_batch(&pairs, direct_reads, descriptors_before),
            Err(reason) => self.refused(&pairs, reason),
        };
        // The order may have gone with the daemon that gave it.
        if let Some(order) = self.orders.front_mut().filter(|order| order.id == id) {
            order.done = end;
            if end == order.pairs.len() {
                self.orders.pop_front();
            }
            self.tell(&FromProgram::Moved { id, outcomes });
        }
    }

    /// Why nothing of this program can be moved now; otherwise whether direct reads are possible.
    fn held_as_a_whole(&mut self) -> Result<bool, HoldReason> {
        self.count_mappings();
        if self.counters.mappings + MAPPINGS_SPARED > self.counters.mappings_max {
            return Err(HoldReason::MapCount);
        }
        if !self.can_see_threads() {
            return Err(HoldReason::MoveFailed);
        }
        match self.transfers() {
            Ok(Transfers::None) => Ok(false),
            Ok(Transfers::DirectReads) => Ok(true),
            Ok(Transfers::Asynchronous(reason)) => {
                self.pin_all(Some(reason));
                Err(reason)
            }
            // What cannot be looked at may be anything.
            Err(_) => Err(HoldReason::DirectRead),
        }
    }

    /// What could change the program's memory, or wait in it, without its page tables.
    pub(crate) fn transfers(&self) -> Result<Transfers, Errno> {
        if self.memory.inherits_priority() {
            return Ok(Transfers::Asynchronous(HoldReason::PriorityInheritance));
        }
        self.descriptors.transfers()
    }

    /// Whether what threads are doing can be seen. A program that has dropped privileges may have
    /// hidden it from itself; then nobody could be woken after a move.
    fn can_see_threads(&mut self) -> bool {
        let mut threads = std::mem::take(&mut self.scratch.threads);
        let seen = self.tasks.others(&mut threads).is_ok()
            && threads.first().is_none_or(|&thread| self.tasks.doing(thread).is_ok());
        self.scratch.threads = threads;
        seen
    }

    fn move_batch(
        &mut self,
        pairs: &[(Pageblock, Pageblock)],
        direct_reads: bool,
        descriptors_before: u64,
    ) -> Vec<Outcome> {
        let begin = Instant::now();
        let staged: Vec<Staged> =
            pairs.iter().enumerate().map(|(slot, pair)| self.stage(slot, *pair)).collect();
        let populated = Instant::now();
        let mut outcomes = Vec::with_capacity(pairs.len());
        for staged in &staged {
            outcomes.push(self.move_one(staged, direct_reads, descriptors_before));
        }
        self.counters.populating_ns += nanoseconds(populated - begin);
        self.counters.moving_ns += nanoseconds(populated.elapsed());
        self.wakeups.scan_now(&self.tasks, &self.nodes, &self.alias, &mut self.scratch.threads);
        self.unstage();
        self.counters.moved_pageblocks +=
            outcomes.iter().filter(|outcome| **outcome == Outcome::Moved).count() as u64;
        outcomes
    }

    /// Maps a destination into the staging range and puts pages under what the source holds.
    fn stage(&mut self, slot: usize, (from, to): (Pageblock, Pageblock)) -> Staged {
        let range = AddrRange::new(self.staging.range().start + slot * BLOCK, BLOCK);
        let mut staged = Staged { from, to, range, is_mapped: false };
        let (Some(source), Some(target)) = (self.nodes.place(from), self.nodes.place(to)) else {
            return staged;
        };
        let mut data = std::mem::take(&mut self.scratch.data);
        // A move that a panic ended may have left something in its destination.
        let in_use = self.memory.lock_as_pager().blocks.block_of(to).is_some();
        let is_clean = in_use
            || target.is_huge()
            || target.data(&mut data).is_ok_and(|()| data.is_empty())
            || target.punch().is_ok();
        if !is_clean {
            self.scratch.data = data;
            return staged;
        }
        let whole = source.data(&mut data).is_ok_and(|()| data == [(0, PAGEBLOCK_BYTES)]);
        let populate = if whole { Populate::Now } else { Populate::OnTouch };
        let how = (Sharing::Shared, populate, target.huge_pages());
        let prot = Prot::READ_WRITE;
        staged.is_mapped =
            self.staging.map_file(range, target.file, target.offset, prot, how).is_ok();
        if staged.is_mapped && !whole {
            for &(start, end) in &data {
                let part = AddrRange::new(range.start + start as usize, (end - start) as usize);
                // Not populated ahead means populated by the copy.
                let _ = self.staging.populate(part);
            }
        }
        self.scratch.data = data;
        self.inject.pass(Step::Populated);
        staged
    }

    /// Drops what is left of the staged mappings.
    pub(crate) fn unstage(&self) {
        let range = AddrRange::new(self.staging.range().start, BATCH * BLOCK);
        // A failure leaves mappings that the next batch replaces.
        let _ = self.staging.reserve_again(range);
    }

    /// The outcomes of pairs that are refused. What was moved before a panic kept it from being
    /// told has been moved all the same.
    fn refused(&self, pairs: &[(Pageblock, Pageblock)], reason: HoldReason) -> Vec<Outcome> {
        let state = self.memory.lock_as_pager();
        let is_there = |to| state.blocks.block_of(to).is_some() || self.stock.contains(to);
        pairs
            .iter()
            .map(|&(_, to)| if is_there(to) { Outcome::Moved } else { Outcome::Held(reason) })
            .collect()
    }

    /// All orders are off: each pair not moved yet stays, for this reason.
    pub(crate) fn refuse_orders(&mut self, reason: HoldReason) {
        for order in std::mem::take(&mut self.orders) {
            for part in order.pairs[order.done..].chunks(memtide_proto::codec::MAX_LIST) {
                let outcomes = self.refused(part, reason);
                self.tell(&FromProgram::Moved { id: order.id, outcomes });
            }
        }
    }

    /// Counts the mappings anew, if that was not done a moment ago.
    pub(crate) fn count_mappings(&mut self) {
        let now = Instant::now();
        if now >= self.count_mappings_at {
            self.counters.mappings = self.mappings();
            self.count_mappings_at = now + COUNT_EVERY;
        }
    }

    /// Mappings that the arena takes, as far as our own tables tell.
    fn mappings(&self) -> u64 {
        let state = self.memory.lock_as_pager();
        let mut mappings = 1 + state.space.iter().count() as u64;
        let mut before = None;
        for (block, now) in state.blocks.in_use() {
            let follows = before.is_some_and(|(index, frame): (usize, Pageblock)| {
                index + 1 == block.0
                    && now.frame().map(|frame| frame.pageblock) == frame.checked_add(1)
            });
            if !follows {
                mappings += 2;
            }
            before = now.frame().map(|frame| (block.0, frame.pageblock));
        }
        mappings
    }
}
