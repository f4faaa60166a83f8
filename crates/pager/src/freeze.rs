//! Freezing for a fork.
//!
//! Before the fork every mapped block is mapped *private* over the same pageblock. From then on
//! nobody writes to the files, and the kernel copies on write for parent and child alike. What is
//! not mapped yet (the stock, orders to move) is given back first, so that the daemon's idea of
//! what the child shares is exact; first touches wait until the fork is over.

use std::{
    os::fd::AsFd,
    time::{Duration, Instant},
};

use memtide_proto::FromProgram;
use memtide_sys::{AddrRange, Prot, Sharing, Transfers, token};
use memtide_units::{Extent, HoldReason};
use rustix::io::Errno;

use crate::{
    blocks::{Block, Frame},
    inject::Step,
    join::random_token,
    mailbox::Reply,
    memory::State,
    pager::{Child, Pager},
    space::{BLOCK, BlockIndex},
    touch::parts,
};

/// A fork that is about to happen.
#[derive(Debug)]
pub struct Fork {
    reply: Reply,
    /// Until when it waits for a grant.
    until: Instant,
    is_announced: bool,
}

impl Fork {
    /// When it waits no longer.
    #[must_use]
    pub const fn until(&self) -> Instant {
        self.until
    }
}

/// Longest that a fork waits for a grant that is on its way.
const GRANT_WAIT: Duration = Duration::from_millis(200);

impl Pager {
    pub(crate) fn fork_begin(&mut self, reply: Reply) {
        let until = Instant::now() + GRANT_WAIT;
        self.fork = Some(Fork { reply, until, is_announced: false });
    }

    /// Freezes once no grant is on its way any more.
    pub(crate) fn try_fork(&mut self) {
        let Some(fork) = &mut self.fork else { return };
        if self.asked && self.link.is_some() && Instant::now() < fork.until {
            return;
        }
        self.forking = true;
        if !fork.is_announced {
            fork.is_announced = true;
            self.refuse_orders(HoldReason::SharedWithChild);
            self.thaws.clear();
            let stock = self.stock.drain();
            self.release(&stock);
            self.announce_child();
        }
        self.freeze_all();
        if let Some(fork) = self.fork.take() {
            fork.reply.give(1);
        }
    }

    /// Makes the child's token and tells the daemon. Without a token (out of descriptors, say) the
    /// daemon cannot know of the child, nor when it is gone: then nothing is thawed any more, and
    /// the child goes on mapping our own token.
    fn announce_child(&mut self) {
        self.children.retain(|child| !token::is_gone(child.file.as_fd()).unwrap_or(false));
        let made = token::create().and_then(|file| Ok((token::map(file.as_fd())?, file)));
        let Ok((map, file)) = made else {
            self.has_unknown_child = true;
            return;
        };
        let token = random_token();
        let memory = self.memory;
        memory.lock_as_pager().tokens.child = Some((token, map));
        if self.tell_with(&FromProgram::ForkBegin { token }, &[file.as_fd()]) {
            self.forks_unheard += 1;
        }
        self.children.push(Child { token, file });
    }

    fn freeze_all(&mut self) {
        let memory = self.memory;
        let mut state = memory.lock_as_pager();
        let mapped: Vec<(BlockIndex, Frame)> = state
            .blocks
            .in_use()
            .filter_map(|(block, now)| match now {
                Block::Mapped(frame) => Some((block, frame)),
                _ => None,
            })
            .collect();
        // What a transfer may write to is not copied.
        let can_copy = matches!(self.descriptors.transfers(), Ok(Transfers::None));
        let mut copied = Vec::new();
        for (block, frame) in mapped {
            let frozen = if frame.is_huge && can_copy {
                copied.push(frame.pageblock);
                self.copy_to_ordinary(&mut state, block)
            } else {
                self.freeze(&mut state, block, frame)
            };
            if let Err(errno) = frozen {
                // Going on would let parent and child see each other's writes.
                let _ = errno;
                std::process::abort();
            }
        }
        drop(state);
        self.release(&Extent::from_blocks(copied));
    }

    fn freeze(&mut self, state: &mut State, block: BlockIndex, frame: Frame) -> Result<(), Errno> {
        self.map_over(state, block, frame.pageblock, Sharing::Private)?;
        state.blocks.set(block, Block::Frozen(frame));
        self.lock_again(state, block);
        self.inject.pass(Step::Frozen);
        Ok(())
    }

    /// Huge pages are not frozen if that can be helped: the kernel could run out of them at a
    /// write, which kills the writer. Their content is copied to ordinary memory instead.
    fn copy_to_ordinary(&mut self, state: &mut State, block: BlockIndex) -> Result<(), Errno> {
        let range = self.range_of(block);
        let arena = self.memory.arena();
        let staged = AddrRange::new(self.staging.range().start, BLOCK);
        self.staging.map_anonymous(staged, Prot::READ_WRITE)?;
        self.uffd.protect(arena, range)?;
        self.staging.read_file(staged, self.process_memory.as_fd(), range.start as u64)?;
        for (part, prot) in parts(state, block, range) {
            let from = AddrRange::new(staged.start + (part.start - range.start), part.len);
            self.staging.protect(from, prot)?;
            arena.take_over(part, &self.staging, from)?;
        }
        state.blocks.set(block, Block::Ordinary);
        self.count_ordinary(state);
        self.uffd.wake(range)
    }

    /// For a program that wants of a block what leased memory cannot do: parts of a huge page with
    /// protections of their own, another mapping over a part, advice that lasts.
    pub(crate) fn make_ordinary(&mut self, block: BlockIndex, reply: &Reply) {
        let memory = self.memory;
        let mut state = memory.lock_as_pager();
        let before = state.blocks.get(block);
        let done = match before {
            Block::Mapped(_) => self.copy_to_ordinary(&mut state, block).is_ok(),
            Block::Frozen(_) => {
                let (arena, range) = (memory.arena(), self.range_of(block));
                self.uffd.register_write_protect(arena, range).is_ok()
                    && self.copy_to_ordinary(&mut state, block).is_ok()
            }
            Block::Reserved => {
                self.settle_ordinary(&mut state, block);
                true
            }
            Block::Ordinary => true,
        };
        drop(state);
        if let (true, Some(frame)) = (done, before.frame()) {
            self.release(&[Extent::new(frame.pageblock, 1)]);
        }
        reply.give(if done { 1 } else { 2 });
    }

    /// The fork is over.
    pub(crate) fn fork_end(&mut self) {
        self.forking = false;
        self.serve_touched();
    }
}
