//! Memory that is gone: its device was taken away, or took it back by force, or it is bad.
//!
//! What was in it cannot be had back, and what is behind it now is somebody else's or nobody's. A
//! program that goes on as if nothing had happened would compute with rubbish. So a lost block is
//! mapped to a file with nothing in it: the kernel answers a touch with SIGBUS, as it does for
//! memory that fails, and a line on the program's standard error says why. The program may catch
//! the signal and unmap the range, which then is like any other.
//!
//! Orders are off: they were given for a pool that had this memory, and the daemon gives new ones.

use std::{
    io::Write,
    os::fd::{AsFd, OwnedFd},
};

use memtide_proto::FromProgram;
use memtide_sys::{
    HugePages, Populate, Sharing,
    memfd::{self, Pages},
};
use memtide_units::{ByteSize, Extent, HoldReason, PAGEBLOCK_BYTES, Pageblock};
use rustix::{
    fs::{Mode, OFlags},
    io::Errno,
};

use crate::{blocks::Block, memory::State, pager::Pager, space::BlockIndex, touch::parts};

impl Pager {
    /// Maps nothing of these any more, and says so. What cannot be unmapped is not said to be let
    /// go, so that nobody else is given it.
    pub(crate) fn lost(&mut self, extents: &[Extent]) {
        self.refuse_orders(HoldReason::MoveFailed);
        let lost = extents.iter().flat_map(|extent| extent.iter());
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
            self.map_void(&state, block, void.ok_or(Errno::NFILE)?)?;
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

    fn map_void(&self, state: &State, block: BlockIndex, void: &OwnedFd) -> Result<(), Errno> {
        let arena = self.memory.arena();
        let range = self.range_of(block);
        for (part, prot) in parts(state, block, range) {
            let how = (Sharing::Shared, Populate::OnTouch, HugePages::Default);
            arena.map_file(part, void.as_fd(), 0, prot, how)?;
        }
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
