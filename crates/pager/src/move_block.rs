//! The move of one block, step by step.
//!
//! ```text
//! Resting ─protect─► Protected ─copy, swap─► Swapped ─wake, register, enter─► Resting
//!                        │
//!                        └─ in doubt, or a panic: unprotect ─► Resting
//! ```
//!
//! The journal says how far a move has come, so that a panic at any step can be put right: before
//! the swap the move is undone, after it it is finished. Nothing is lost in between: from the
//! protection until the new mapping is in place no thread can write to the block, and the old
//! pageblock keeps its content until the daemon hears of the move.

use std::time::{Duration, Instant};

use memtide_proto::program::Outcome;
use memtide_sys::{AddrRange, Doing, HugePages, Populate, Prot, Sharing, Transfers};
use memtide_units::HoldReason;
use rustix::io::Errno;

use crate::{
    blocks::{Block, Frame},
    inject::Step,
    memory::State,
    moves::Staged,
    nodes::Place,
    pager::Pager,
    space::BlockIndex,
    touch::{parts, uniform_protection},
};

/// Longest that a block stays protected for the sake of a possible direct read.
const GRACE: Duration = Duration::from_millis(2);

/// How far the move under way has come.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Journal {
    /// None is under way.
    #[default]
    Resting,
    /// The block is write-protected; what it was still counts.
    Protected(BlockIndex),
    /// The block is mapped to this frame, but nobody has been woken or told.
    Swapped(BlockIndex, Frame),
}

impl Pager {
    /// Moves one block, or says why not.
    pub(crate) fn move_one(
        &mut self,
        staged: &Staged,
        direct_reads: bool,
        descriptors_before: u64,
    ) -> Outcome {
        let memory = self.memory;
        let mut state = memory.lock_as_pager();
        let Some(block) = state.blocks.block_of(staged.from) else {
            // Moved before a panic, or not behind any block yet.
            let is_there = state.blocks.block_of(staged.to).is_some()
                || self.stock.replace(staged.from, staged.to);
            return if is_there { Outcome::Moved } else { Outcome::Gone };
        };
        if let Some(reason) = held(&state, block) {
            return Outcome::Held(reason);
        }
        if !staged.is_mapped {
            return Outcome::Held(HoldReason::MoveFailed);
        }
        if let Some(freed) = self.give_back_if_empty(&mut state, block) {
            drop(state);
            self.release(&[memtide_units::Extent::new(freed, 1)]);
            return Outcome::Gone;
        }
        match self.move_protected(&mut state, block, staged, direct_reads, descriptors_before) {
            Ok(()) => Outcome::Moved,
            Err(reason) => {
                let _ = self.uffd.unprotect(memory.arena(), self.range_of(block));
                self.journal = Journal::Resting;
                Outcome::Held(reason)
            }
        }
    }

    fn move_protected(
        &mut self,
        state: &mut State,
        block: BlockIndex,
        staged: &Staged,
        direct_reads: bool,
        descriptors_before: u64,
    ) -> Result<(), HoldReason> {
        let range = self.range_of(block);
        self.journal = Journal::Protected(block);
        self.uffd.protect(self.memory.arena(), range).map_err(|_| HoldReason::MoveFailed)?;
        self.inject.pass(Step::Protected);
        self.wait_for_transfers(range, direct_reads, descriptors_before)?;
        self.copy_block(state, block, staged).map_err(|_| HoldReason::MoveFailed)?;
        self.inject.pass(Step::Copied);
        self.swap(state, block, staged).map_err(|_| HoldReason::MoveFailed)?;
        if let Some(frame) = self.nodes.frame(staged.to) {
            self.journal = Journal::Swapped(block, frame);
        }
        self.wakeups.moved(staged.from, range, Instant::now());
        self.inject.pass(Step::Swapped);
        self.finish(state);
        Ok(())
    }

    /// From the swap to the end: wake, register, enter into the table. Doing it twice is harmless.
    pub(crate) fn finish(&mut self, state: &mut State) {
        let Journal::Swapped(block, frame) = self.journal else { return };
        let range = self.range_of(block);
        let _ = self.uffd.wake(range);
        self.inject.pass(Step::Woken);
        // If it cannot be registered it cannot be moved again: protecting it will say so.
        let _ = self.uffd.register_write_protect(self.memory.arena(), range);
        state.blocks.set(block, Block::Mapped(frame));
        self.lock_again(state, block);
        self.journal = Journal::Resting;
        self.inject.pass(Step::Entered);
    }

    /// Puts a move right that a panic interrupted.
    pub(crate) fn recover_move(&mut self) {
        let memory = self.memory;
        match self.journal {
            Journal::Resting => {}
            Journal::Protected(block) => {
                // Without the lock: who holds it may wait for this.
                let _ = self.uffd.unprotect(memory.arena(), self.range_of(block));
                self.journal = Journal::Resting;
            }
            Journal::Swapped(..) => {
                let mut state = memory.lock_as_pager();
                self.finish(&mut state);
            }
        }
    }

    /// Makes sure that no read which began before the protection still writes to the block.
    pub(crate) fn wait_for_transfers(
        &mut self,
        range: AddrRange,
        direct_reads: bool,
        descriptors_before: u64,
    ) -> Result<(), HoldReason> {
        // Something may have been opened since the batch began.
        let count = self.descriptors.count().map_err(|_| HoldReason::DirectRead)?;
        let is_same = count == descriptors_before && !self.memory.inherits_priority();
        let direct_reads = if is_same {
            direct_reads
        } else {
            match self.transfers() {
                Ok(Transfers::None) => direct_reads,
                Ok(Transfers::DirectReads) => true,
                Ok(Transfers::Asynchronous(reason)) => return Err(reason),
                Err(_) => return Err(HoldReason::DirectRead),
            }
        };
        if !direct_reads {
            return Ok(());
        }
        let until = Instant::now() + GRACE;
        let mut threads = std::mem::take(&mut self.scratch.threads);
        let mut result = self.tasks.others(&mut threads).map_err(|_| HoldReason::DirectRead);
        while result.is_ok() && !threads.is_empty() {
            threads.retain(|&thread| self.may_read_into(thread, range));
            if !threads.is_empty() && Instant::now() > until {
                result = Err(HoldReason::DirectRead);
            }
        }
        self.scratch.threads = threads;
        result
    }

    /// Whether a thread may be in a direct read into `range` that began a while ago. A thread on a
    /// processor may be: one looks again until it is seen asleep or in user mode, which its state
    /// does not tell, or the grace is over.
    fn may_read_into(&self, thread: u32, range: AddrRange) -> bool {
        const READ: u64 = libc::SYS_read as u64;
        const PREAD: u64 = libc::SYS_pread64 as u64;
        const READV: u64 = libc::SYS_readv as u64;
        const PREADV: u64 = libc::SYS_preadv as u64;
        const PREADV2: u64 = libc::SYS_preadv2 as u64;
        match self.tasks.doing(thread) {
            Ok(Doing::Gone | Doing::Faulting) => false,
            Ok(Doing::InSyscall { number: READ | PREAD, args }) => {
                let buffer = AddrRange::new(args[1] as usize, args[2] as usize);
                !buffer.intersection(range).is_empty()
            }
            Ok(Doing::InSyscall { number: READV | PREADV | PREADV2, .. }) => true,
            Ok(Doing::InSyscall { .. }) => false,
            Ok(Doing::Running) | Err(_) => true,
        }
    }

    /// Copies what the source holds to the staged destination.
    fn copy_block(
        &mut self,
        state: &State,
        block: BlockIndex,
        staged: &Staged,
    ) -> Result<(), Errno> {
        let mut data = std::mem::take(&mut self.scratch.data);
        let result = self.copy_data(state, block, staged, &mut data);
        self.scratch.data = data;
        result
    }

    fn copy_data(
        &self,
        state: &State,
        block: BlockIndex,
        staged: &Staged,
        data: &mut Vec<(u64, u64)>,
    ) -> Result<(), Errno> {
        let range = self.range_of(block);
        let source = self.nodes.place(staged.from).ok_or(Errno::INVAL)?;
        source.data(data)?;
        for (part, prot) in parts(state, block, range) {
            for &(start, end) in data.iter() {
                let held = AddrRange::new(range.start + start as usize, (end - start) as usize);
                let from = held.intersection(part);
                if from.is_empty() {
                    continue;
                }
                let to = AddrRange::new(staged.range.start + (from.start - range.start), from.len);
                if prot.has(Prot::READ) {
                    self.staging.copy_from(to, self.memory.arena(), from)?;
                } else {
                    let offset = source.offset + (from.start - range.start) as u64;
                    self.staging.read_file(to, source.file, offset)?;
                }
            }
        }
        Ok(())
    }

    /// Puts the staged destination in place of the source, part by part of equal protection. Once
    /// the first part is there the rest follows: each part has the same content in both places.
    pub(crate) fn swap(
        &self,
        state: &State,
        block: BlockIndex,
        staged: &Staged,
    ) -> Result<(), Errno> {
        const TRIES: u32 = 1000;
        let range = self.range_of(block);
        let target = self.nodes.place(staged.to).ok_or(Errno::INVAL)?;
        if target.is_huge() {
            let prot = uniform_protection(state, block).ok_or(Errno::INVAL)?;
            return self.map_part(range, range, &target, prot);
        }
        let mut begun = false;
        for (part, prot) in parts(state, block, range) {
            let mut tries = 0;
            while let Err(errno) = self.swap_part(part, range, staged, &target, prot) {
                if !begun {
                    return Err(errno);
                }
                tries += 1;
                if tries == TRIES {
                    // A block of two pageblocks cannot be left so.
                    std::process::abort();
                }
                std::thread::sleep(Duration::from_millis(1));
            }
            begun = true;
        }
        Ok(())
    }

    fn swap_part(
        &self,
        part: AddrRange,
        range: AddrRange,
        staged: &Staged,
        target: &Place<'_>,
        prot: Prot,
    ) -> Result<(), Errno> {
        let from = AddrRange::new(staged.range.start + (part.start - range.start), part.len);
        if prot != Prot::READ_WRITE {
            self.staging.protect(from, prot)?;
        }
        match self.memory.arena().take_over(part, &self.staging, from) {
            // mmap gets by where mremap wants a few mappings to spare.
            Err(Errno::INVAL | Errno::NOMEM) => self.map_part(part, range, target, prot),
            other => other,
        }
    }

    fn map_part(
        &self,
        part: AddrRange,
        range: AddrRange,
        target: &Place<'_>,
        prot: Prot,
    ) -> Result<(), Errno> {
        let offset = target.offset + (part.start - range.start) as u64;
        let how = (Sharing::Shared, Populate::Now, HugePages::Default);
        self.memory.arena().map_file(part, target.file, offset, prot, how)
    }
}

/// Why a block cannot be moved, as far as our own tables tell.
pub(crate) fn held(state: &State, block: BlockIndex) -> Option<HoldReason> {
    if matches!(state.blocks.get(block), Block::Frozen(_)) {
        Some(HoldReason::SharedWithChild)
    } else if state.space.is_locked(block) {
        Some(HoldReason::MemoryLock)
    } else if state.space.has_foreign(block) {
        Some(HoldReason::ForeignMapping)
    } else {
        None
    }
}
