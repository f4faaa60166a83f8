//! Memory that is gone: its device was taken away, or took it back by force, or it is bad.
//!
//! What was in it cannot be had back, and what is behind it now is somebody else's or nobody's. A
//! program that goes on as if nothing had happened would compute with rubbish. So a lost block is
//! mapped to a file with nothing in it: the kernel answers a touch with SIGBUS, as it does for
//! memory that fails, and a line on the program's standard error says why.
//!
//! What is lost are the pages that the program had in the block, marked so in the space
//! ([`Kind::Lost`]), page by page; what it had not is a reservation like any other, and so is no
//! trap for a later mapping. The program may catch the signal and go on without the content.
//! It gives that up, and has fresh memory, by what discards content anywhere:
//!
//! * `munmap`, and `mremap` to a smaller size: what is mapped there later is fresh;
//! * `mmap` with `MAP_FIXED`, and `mremap` of something else with `MREMAP_FIXED`, over it;
//! * `madvise` with `MADV_DONTNEED`, `MADV_FREE` or `MADV_DONTNEED_LOCKED`;
//! * malloc and its relatives: what they hand out is fresh as far as its pages are its own
//!   ([`crate::calls::Calls::freshen`]). A small piece may share a page with another that is lost.
//!
//! Of any part: the rest stays lost. `mprotect`, other advice and locks end nothing; moving or
//! growing it by `mremap` is refused. What is fresh is ordinary memory until nothing is left of
//! the block: then it goes back to the pool, and the next touch has a pageblock.
//!
//! Orders are off: they were given for a pool that had this memory, and the daemon gives new ones.

use std::{
    io::Write,
    os::fd::{AsFd, OwnedFd},
};

use memtide_proto::FromProgram;
use memtide_sys::{
    HugePages, Populate, Prot, Sharing,
    memfd::{self, Pages},
};
use memtide_units::{ByteSize, Extent, HoldReason, PAGEBLOCK_BYTES, Pageblock};
use rustix::{
    fs::{Mode, OFlags},
    io::Errno,
};

use crate::{
    blocks::Block,
    memory::State,
    pager::Pager,
    space::{BlockIndex, Charge, Kind, Run},
    touch::{parts, union_of_protections},
};

impl Pager {
    /// Maps nothing of these any more, and says so. What cannot be unmapped is not said to be let
    /// go, so that nobody else is given it.
    pub(crate) fn lost(&mut self, extents: &[Extent]) {
        self.refuse_orders(HoldReason::MoveFailed);
        let lost = extents.iter().flat_map(|extent| extent.iter());
        // Before anything is: whoever hands out memory after this looks at it first.
        self.memory.set_lost();
        let void = memfd::create("memtide-lost", 0, Pages::Small).ok();
        let (gone, stays): (Vec<Pageblock>, Vec<Pageblock>) =
            lost.partition(|&pageblock| self.lose(pageblock, void.as_ref()).is_ok());
        let bytes = ByteSize(gone.len() as u64 * PAGEBLOCK_BYTES);
        if !gone.is_empty() {
            say(&format!(
                "{bytes} of memory are lost, and what was in them: bad, or without a device"
            ));
        }
        if !stays.is_empty() {
            say(&format!("{} pageblocks of lost memory could not be unmapped", stays.len()));
        }
        let gone = Extent::from_blocks(gone);
        self.tell_extents(&gone, |extents| FromProgram::LetGo { extents });
    }

    fn lose(&mut self, pageblock: Pageblock, void: Option<&OwnedFd>) -> Result<(), Errno> {
        let memory = self.memory;
        let mut state = memory.lock_as_pager();
        if let Some(block) = state.blocks.block_of(pageblock) {
            self.map_void(&mut state, block, void.ok_or(Errno::NFILE)?)?;
            // Nothing of the pool is behind it; the program may do with the addresses as it likes.
            state.blocks.set(block, Block::Ordinary);
            self.count_ordinary(&state);
            let _ = self.uffd.wake(self.range_of(block));
        }
        drop(state);
        self.stock.forget(pageblock);
        self.told_pins.forget(pageblock);
        self.thaws.retain(|&other| other != pageblock);
        Ok(())
    }

    /// Maps nothing where the program has something, and the reservation where it has nothing.
    fn map_void(&self, state: &mut State, block: BlockIndex, void: &OwnedFd) -> Result<(), Errno> {
        let arena = self.memory.arena();
        let range = self.range_of(block);
        let base = union_of_protections(state, block);
        let how = (Sharing::Shared, Populate::OnTouch, HugePages::Default);
        // As a whole first: a huge page can be replaced only so, and nobody must find a hole.
        arena.map_file(range, void.as_fd(), 0, base, how)?;
        let all: Vec<_> = parts(state, block, range).collect();
        for (part, prot) in all {
            if state.space.is_free(part) {
                if arena.reserve_again(part).is_err() {
                    // No mapping to spare: nobody is to have these pages, or they would be a trap.
                    let nobodys = Run::private(part, Prot::NONE, Charge::Exempt);
                    state.space.carve(nobodys);
                }
            } else if prot != base {
                // What fails here is lost all the same, if with another signal.
                let _ = arena.protect(part, prot);
            }
        }
        state.space.change(range, |run| run.kind = Kind::Lost);
        Ok(())
    }
}

/// A line on the program's standard error: the pager's own table of descriptors has none.
fn say(text: &str) {
    let flags = OFlags::WRONLY | OFlags::APPEND | OFlags::NOCTTY | OFlags::NONBLOCK;
    let flags = flags | OFlags::CLOEXEC;
    if let Ok(file) = rustix::fs::open("/proc/self/fd/2", flags, Mode::empty()) {
        // Who does not read does not hear.
        let _ = std::fs::File::from(file).write_all(format!("memtide: {text}\n").as_bytes());
    }
}
