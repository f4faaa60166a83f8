//! First touches: a reserved block gets memory.
//!
//! The thread that touched waits in the kernel until the block is mapped. The pageblock comes
//! from the stock or, by way of the daemon, from the pool. Where the pool has none, or no daemon
//! has answered for [`OVERFLOW_AFTER`], the block becomes ordinary memory: a program is never
//! killed for a shortage, and status counts it.

use std::time::{Duration, Instant};

use memtide_proto::FromProgram;
use memtide_sys::{AddrRange, Fault, ForkLockGuard, OnFault, Populate, Prot, Sharing};
use memtide_units::{Extent, Pageblock};
use rustix::io::Errno;

use crate::{
    blocks::Block,
    inject::Step,
    memory::State,
    pager::Pager,
    space::{BLOCK, BlockIndex},
};

/// With no daemon, or no answer from it, for so long, first touches take ordinary memory. However
/// long a tenant is content to wait for promises, a touch waits no longer: a system call that
/// touches a buffer (read(2)) waits in the kernel, where nothing but a deadly signal reaches the
/// program.
pub const OVERFLOW_AFTER: Duration = Duration::from_secs(2);

impl Pager {
    /// The addresses of a block.
    pub(crate) fn range_of(&self, block: BlockIndex) -> AddrRange {
        AddrRange::new(self.memory.arena().range().start + block.0 * BLOCK, BLOCK)
    }

    fn block_at(&self, address: usize) -> BlockIndex {
        BlockIndex((address - self.memory.arena().range().start) / BLOCK)
    }

    pub(crate) fn serve_fault(&mut self, fault: Fault) {
        let block = self.block_at(fault.address);
        self.inject.pass(Step::Touched);
        let memory = self.memory;
        let state = memory.lock_as_pager();
        match state.blocks.get(block) {
            Block::Reserved if state.space.pages_carved(block) > 0 => self.touch(state, block),
            Block::Mapped(_) | Block::Frozen(_) if fault.write_protected => {
                // No move is under way while we hold the lock; a protection that is left over
                // would be felt for ever.
                let page = AddrRange::new(fault.address, 4096);
                if self.uffd.unprotect(memory.arena(), page).is_err() {
                    let _ = self.uffd.wake(page);
                }
            }
            Block::Ordinary if !fault.write_protected => {
                // It could not be unregistered for want of a mapping.
                let page = AddrRange::new(fault.address, 4096);
                if self.uffd.fill_zero(memory.arena(), page).is_err() {
                    let _ = self.uffd.wake(page);
                }
            }
            _ => {
                // Settled meanwhile, or given back by another thread: let the kernel decide.
                let _ = self.uffd.wake(self.range_of(block));
            }
        }
    }

    fn touch(&mut self, mut state: ForkLockGuard<'static, State>, block: BlockIndex) {
        if self.touched.contains(&block) {
            return;
        }
        // While a fork is under way nothing new may be mapped: the daemon has been told what the
        // child will share.
        if self.forking || self.fork.is_some() {
            self.touched.push_back(block);
            return;
        }
        let wanted = self.neighbour(&state, block);
        match self.stock.take(wanted, Instant::now()) {
            Some(pageblock) => self.settle(&mut state, block, pageblock),
            None => {
                drop(state);
                self.touched.push_back(block);
                self.ask(wanted);
            }
        }
    }

    /// The pageblock that would make one mapping of this block and the one before it.
    fn neighbour(&self, state: &State, block: BlockIndex) -> Option<Pageblock> {
        let before = state.blocks.get(BlockIndex(block.0.checked_sub(1)?));
        before.frame()?.pageblock.checked_add(1)
    }

    fn ask(&mut self, wanted: Option<Pageblock>) {
        if self.asked {
            return;
        }
        let count = self.stock.to_ask().max(u32::try_from(self.touched.len()).unwrap_or(1));
        let after = wanted.and_then(|wanted| wanted.0.checked_sub(1)).map(Pageblock);
        self.asked_at = Instant::now();
        self.asked = self.tell(&FromProgram::Lease { count: count.min(Self::MOST_ASKED), after });
    }

    const MOST_ASKED: u32 = 64;

    /// The daemon's answer to a lease.
    pub(crate) fn granted(&mut self, extents: &[Extent]) {
        self.asked = false;
        self.stock.put(extents);
        if extents.is_empty() {
            self.overflow_touched();
        } else {
            self.serve_touched();
        }
    }

    /// Serves the touches that wait, as far as the stock goes.
    pub(crate) fn serve_touched(&mut self) {
        if self.forking || self.fork.is_some() {
            return;
        }
        let memory = self.memory;
        while let Some(&block) = self.touched.front() {
            let mut state = memory.lock_as_pager();
            if state.blocks.get(block) != Block::Reserved || state.space.pages_carved(block) == 0 {
                let _ = self.uffd.wake(self.range_of(block));
                self.touched.pop_front();
                continue;
            }
            let wanted = self.neighbour(&state, block);
            let Some(pageblock) = self.stock.take(wanted, Instant::now()) else {
                drop(state);
                self.ask(wanted);
                return;
            };
            self.touched.pop_front();
            self.settle(&mut state, block, pageblock);
        }
    }

    /// Maps a leased pageblock behind a reserved block, and wakes who waits for it.
    fn settle(&mut self, state: &mut State, block: BlockIndex, pageblock: Pageblock) {
        match self.map_shared(state, block, pageblock) {
            Ok(()) => {
                if let Some(frame) = self.nodes.frame(pageblock) {
                    state.blocks.set(block, Block::Mapped(frame));
                }
                self.lock_again(state, block);
                let _ = self.uffd.wake(self.range_of(block));
                self.tell_pins_of(state, block);
            }
            Err(_) => {
                self.stock.put(&[Extent::new(pageblock, 1)]);
                self.settle_ordinary(state, block);
            }
        }
    }

    /// Maps a pageblock shared over a block, with the protections of what is carved there, and
    /// registers it.
    pub(crate) fn map_shared(
        &self,
        state: &State,
        block: BlockIndex,
        pageblock: Pageblock,
    ) -> Result<(), Errno> {
        self.map_over(state, block, pageblock, Sharing::Shared)?;
        // What cannot be registered cannot be protected, and so not moved: a move will say so.
        let _ = self.uffd.register_write_protect(self.memory.arena(), self.range_of(block));
        Ok(())
    }

    /// Maps a pageblock over a block, with the protections of what is carved there.
    pub(crate) fn map_over(
        &self,
        state: &State,
        block: BlockIndex,
        pageblock: Pageblock,
        sharing: Sharing,
    ) -> Result<(), Errno> {
        let place = self.nodes.place(pageblock).ok_or(Errno::INVAL)?;
        let range = self.range_of(block);
        let arena = self.memory.arena();
        let how = (sharing, Populate::OnTouch, place.huge_pages());
        if place.is_huge() {
            // A huge page has one protection: what is carved out of the block must agree.
            let prot = uniform_protection(state, block).ok_or(Errno::INVAL)?;
            // A mapping that fails for want of huge pages takes the reservation with it; tried
            // elsewhere first, it has the page in the file's reserve.
            self.alias.map_file(self.alias.range(), place.file, place.offset, prot, how)?;
            let mapped = arena.map_file(range, place.file, place.offset, prot, how);
            let _ = self.alias.reserve_again(self.alias.range());
            return mapped;
        }
        // First all that is allowed anywhere, then less where less is: a thread that writes where
        // it may must not be refused in between.
        let base = union_of_protections(state, block);
        arena.map_file(range, place.file, place.offset, base, how)?;
        for (part, prot) in parts(state, block, range) {
            // Without a mapping to spare a part keeps more than it should have; it must not have
            // less, and what is mapped stays mapped.
            if prot != base {
                let _ = arena.protect(part, prot);
            }
        }
        Ok(())
    }

    /// Locks what the program has locked in a block: a new mapping is not.
    pub(crate) fn lock_again(&self, state: &State, block: BlockIndex) {
        for run in state.space.runs_in(block).filter(|run| run.is_locked()) {
            // What does not fit under RLIMIT_MEMLOCK any more stays unlocked; it does not move.
            let _ = self.memory.arena().lock(run.range, OnFault::Later);
        }
    }

    /// Lets the kernel back a block with ordinary memory.
    pub(crate) fn settle_ordinary(&mut self, state: &mut State, block: BlockIndex) {
        let range = self.range_of(block);
        let arena = self.memory.arena();
        if self.uffd.unregister(arena, range).is_err() {
            // No mapping to spare: fill the page range by hand instead of splitting.
            for page in (range.start..range.end()).step_by(4096).map(|at| AddrRange::new(at, 4096))
            {
                let _ = self.uffd.fill_zero(arena, page);
            }
        }
        for (part, prot) in parts(state, block, range) {
            let _ = arena.protect(part, prot);
        }
        state.blocks.set(block, Block::Ordinary);
        self.count_ordinary(state);
        let _ = self.uffd.wake(range);
    }

    /// All touches that wait get ordinary memory.
    fn overflow_touched(&mut self) {
        if self.forking || self.fork.is_some() {
            return;
        }
        let memory = self.memory;
        while let Some(block) = self.touched.pop_front() {
            let mut state = memory.lock_as_pager();
            if state.blocks.get(block) == Block::Reserved && state.space.pages_carved(block) > 0 {
                self.settle_ordinary(&mut state, block);
            } else {
                let _ = self.uffd.wake(self.range_of(block));
            }
        }
    }

    /// When touches that wait take ordinary memory for want of a daemon.
    pub(crate) fn overflow_at(&self) -> Option<Instant> {
        if self.touched.is_empty() || self.forking || self.fork.is_some() {
            return None;
        }
        waits_until(self.disconnected_since, self.asked.then_some(self.asked_at))
    }

    pub(crate) fn touched_without_daemon(&mut self) {
        self.overflow_touched();
    }

    pub(crate) fn count_ordinary(&mut self, state: &State) {
        self.counters.overflow_bytes = (state.blocks.ordinary() * BLOCK) as u64;
    }
}

/// Until when touches wait with no daemon since, or no answer from it to what was asked then.
fn waits_until(disconnected_since: Option<Instant>, asked_at: Option<Instant>) -> Option<Instant> {
    [disconnected_since, asked_at].into_iter().flatten().min().map(|at| at + OVERFLOW_AFTER)
}

/// The whole of a block in parts of one protection each; what is not carved has none.
pub(crate) fn parts(
    state: &State,
    block: BlockIndex,
    range: AddrRange,
) -> impl Iterator<Item = (AddrRange, Prot)> {
    let mut runs = state.space.runs_in(block).peekable();
    let mut at = range.start;
    let end = range.start + range.len;
    std::iter::from_fn(move || {
        if at >= end {
            return None;
        }
        let part = match runs.peek() {
            Some(run) if run.range.start <= at => {
                let run = runs.next()?;
                (AddrRange::new(at, run.range.start + run.range.len - at), run.prot)
            }
            Some(run) => (AddrRange::new(at, run.range.start - at), Prot::NONE),
            None => (AddrRange::new(at, end - at), Prot::NONE),
        };
        at += part.0.len;
        Some(part)
    })
}

/// All that is allowed anywhere in a block.
pub(crate) fn union_of_protections(state: &State, block: BlockIndex) -> Prot {
    state.space.runs_in(block).fold(Prot::NONE, |union, run| union.with(run.prot))
}

/// The protection of all that is carved out of a block; `None` when parts of it differ.
pub(crate) fn uniform_protection(state: &State, block: BlockIndex) -> Option<Prot> {
    let mut runs = state.space.runs_in(block);
    let first = runs.next()?.prot;
    runs.all(|run| run.prot == first).then_some(first)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_touch_waits_two_seconds_at_most_with_a_daemon_and_without() {
        let (now, second) = (Instant::now(), Duration::from_secs(1));
        assert_eq!(waits_until(None, None), None);
        assert_eq!(waits_until(None, Some(now)), Some(now + 2 * second));
        assert_eq!(waits_until(Some(now), None), Some(now + 2 * second));
        // A new question does not start the wait anew while no daemon is there.
        assert_eq!(waits_until(Some(now), Some(now + second)), Some(now + 2 * second));
    }
}
