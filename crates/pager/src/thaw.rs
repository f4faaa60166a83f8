//! Thawing after a fork: the pageblock is ours alone again.
//!
//! The block is protected, the pages that were copied on write (they are anonymous now) are
//! copied into the pageblock, and the pageblock is mapped shared in their place. It is a move whose
//! destination holds most of the content already.

use std::{
    os::fd::AsFd,
    time::{Duration, Instant},
};

use memtide_proto::FromProgram;
use memtide_sys::{AddrRange, PageState, Populate, Prot, Sharing, Transfers};
use memtide_units::{Extent, HoldReason, Pageblock};
use rustix::io::Errno;

use crate::{
    blocks::{Block, Frame},
    inject::Step,
    memory::State,
    move_block::Journal,
    moves::{BATCH, Staged},
    pager::Pager,
    space::{BLOCK, BlockIndex},
    touch::parts,
};

const PAGE: usize = 4096;
/// When something was in the way of thawing, try again after this time.
const THAW_AGAIN: Duration = Duration::from_millis(500);

/// Where a pageblock to thaw was found.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Found {
    /// Behind a block; it is mapped shared now.
    Behind,
    /// Behind none.
    Nowhere,
}

impl Pager {
    /// Thaws a few blocks.
    pub(crate) fn thaw_some(&mut self) {
        if self.thaws.is_empty() || self.thaw_at.is_some() {
            return;
        }
        let count = self.descriptors.count().unwrap_or(0);
        let transfers = self.transfers().unwrap_or(Transfers::DirectReads);
        let batch: Vec<Pageblock> = self.thaws.iter().copied().take(BATCH).collect();
        let mut done = Vec::new();
        let mut held = Vec::new();
        let mut unknown = Vec::new();
        for &pageblock in &batch {
            match self.thaw(pageblock, transfers, count) {
                Ok(Found::Behind) => done.push(pageblock),
                Ok(Found::Nowhere) => unknown.push(pageblock),
                Err(_) => held.push(pageblock),
            }
        }
        self.unstage();
        // Only now: a panic on the way must not lose any of them.
        self.thaws.drain(..batch.len());
        let extents = Extent::from_blocks(done);
        self.tell_extents(&extents, |extents| FromProgram::Thawed { extents });
        // Given back while it was frozen, or inherited but never mapped here.
        self.release(&Extent::from_blocks(unknown));
        if !held.is_empty() {
            // They stay frozen, which is correct; try again in a while.
            self.thaws.extend(held);
            self.thaw_at = Some(Instant::now() + THAW_AGAIN);
        }
    }

    fn thaw(
        &mut self,
        pageblock: Pageblock,
        transfers: Transfers,
        descriptors_before: u64,
    ) -> Result<Found, HoldReason> {
        let memory = self.memory;
        let mut state = memory.lock_as_pager();
        let Some(block) = state.blocks.block_of(pageblock) else { return Ok(Found::Nowhere) };
        let Block::Frozen(frame) = state.blocks.get(block) else { return Ok(Found::Behind) };
        let direct_reads = match transfers {
            Transfers::None => false,
            Transfers::DirectReads => true,
            Transfers::Asynchronous(reason) => return Err(reason),
        };
        let range = self.range_of(block);
        let mut before = std::mem::take(&mut self.scratch.pages_before);
        let mut after = std::mem::take(&mut self.scratch.pages);
        let result = (|| {
            self.uffd
                .register_write_protect(memory.arena(), range)
                .map_err(|_| HoldReason::MoveFailed)?;
            self.journal = Journal::Protected(block);
            self.pagemap.read(range, &mut before).map_err(|_| HoldReason::MoveFailed)?;
            self.uffd.protect(memory.arena(), range).map_err(|_| HoldReason::MoveFailed)?;
            self.wait_for_transfers(range, direct_reads, descriptors_before)?;
            self.pagemap.read(range, &mut after).map_err(|_| HoldReason::MoveFailed)?;
            self.thaw_protected(&state, block, frame, &before, &after)
                .map_err(|_| HoldReason::MoveFailed)
        })();
        self.scratch.pages_before = before;
        self.scratch.pages = after;
        if let Err(reason) = result {
            let _ = self.uffd.unprotect(memory.arena(), range);
            let _ = self.uffd.unregister(memory.arena(), range);
            self.journal = Journal::Resting;
            return Err(reason);
        }
        self.inject.pass(Step::Thawed);
        self.finish(&mut state);
        Ok(Found::Behind)
    }

    fn thaw_protected(
        &mut self,
        state: &State,
        block: BlockIndex,
        frame: Frame,
        before: &[PageState],
        after: &[PageState],
    ) -> Result<(), Errno> {
        let range = self.range_of(block);
        let slot = AddrRange::new(self.staging.range().start, BLOCK);
        let place = self.nodes.place(frame.pageblock).ok_or(Errno::INVAL)?;
        let how = (Sharing::Shared, Populate::OnTouch, place.huge_pages());
        self.staging.map_file(slot, place.file, place.offset, Prot::READ_WRITE, how)?;
        for (part, prot) in parts(state, block, range) {
            let first = (part.start - range.start) / PAGE;
            let last = first + part.len / PAGE;
            let mut page = first;
            while page < last {
                if !is_own_copy(before[page], after[page]) {
                    page += 1;
                    continue;
                }
                let end = (page..last).find(|&p| !is_own_copy(before[p], after[p])).unwrap_or(last);
                let offset = page * PAGE;
                let length = (end - page) * PAGE;
                let from = AddrRange::new(range.start + offset, length);
                let to = AddrRange::new(slot.start + offset, length);
                if prot.has(Prot::READ) {
                    self.staging.copy_from(to, self.memory.arena(), from)?;
                } else {
                    self.staging.read_file(to, self.process_memory.as_fd(), from.start as u64)?;
                }
                page = end;
            }
        }
        // Reads through the new mapping must not fault page by page.
        let _ = self.populate_data(slot, frame.pageblock);
        let staged =
            Staged { from: frame.pageblock, to: frame.pageblock, range: slot, is_mapped: true };
        self.swap(state, block, &staged)?;
        self.journal = Journal::Swapped(block, frame);
        Ok(())
    }

    /// Puts page-table entries under what a staged pageblock holds.
    fn populate_data(&mut self, slot: AddrRange, pageblock: Pageblock) -> Result<(), Errno> {
        let place = self.nodes.place(pageblock).ok_or(Errno::INVAL)?;
        let mut data = std::mem::take(&mut self.scratch.data);
        let result = place.data(&mut data).and_then(|()| {
            data.iter().try_for_each(|&(start, end)| {
                let part = AddrRange::new(slot.start + start as usize, (end - start) as usize);
                self.staging.populate(part)
            })
        });
        self.scratch.data = data;
        result
    }
}

/// Whether a page is the process's own copy. After protecting, an entry that looks swapped may be
/// the mark of protection on nothing: then there was nothing before either.
fn is_own_copy(before: PageState, after: PageState) -> bool {
    after.is_anonymous() || !after.is_present() && !before.is_empty()
}
