//! Managed memory without a pager: for tests of the calls in whole programs (the preload
//! library's feature `stand-in`).
//!
//! Every time the lock is released the space is validated. The kernel serves faults, and all
//! blocks have the same sort of content from the start. With a file behind them forks do not keep
//! parent and child apart, as they would under a pager. What is promised is decided by
//! [`Promising`].

use std::{
    collections::BTreeSet,
    os::fd::{AsFd, OwnedFd},
    sync::atomic::{AtomicI64, AtomicU64, Ordering},
};

use memtide_sys::{AddrRange, Arena, ForkLock, HugePages, Populate, Prot, Sharing, SignalsBlocked};
use memtide_units::Random;
use rustix::io::Errno;

use super::{Content, Contents, Locked, Managed};
use crate::space::{BLOCK, BlockIndex, Space};

/// Which promises are granted.
#[derive(Clone, Copy, Debug)]
pub struct Promising {
    /// No more blocks than this.
    pub limit: i64,
    /// Of a thousand promises that would fit, so many are refused all the same.
    pub refused: u64,
    /// Which of them.
    pub seed: u64,
}

/// An arena of blocks that all have the same sort of content.
#[derive(Debug)]
pub struct StandIn {
    arena: Arena,
    staging: Arena,
    state: ForkLock<State>,
    promised: AtomicI64,
    promising: Promising,
    /// How many promises have been asked for.
    asked: AtomicU64,
}

#[derive(Debug)]
struct State {
    space: Space,
    contents: Uniform,
}

#[derive(Debug)]
struct Uniform {
    content: Content,
    made_ordinary: BTreeSet<BlockIndex>,
}

impl Contents for Uniform {
    fn content(&self, block: BlockIndex) -> Content {
        match self.made_ordinary.contains(&block) {
            true => Content::Anonymous,
            false => self.content,
        }
    }
}

impl StandIn {
    /// `content` in every block of `arena`. `file` is what the blocks map; it is as large as the
    /// arena.
    ///
    /// # Errors
    /// The kernel's.
    pub fn new(
        arena: Arena,
        promising: Promising,
        content: Content,
        file: OwnedFd,
    ) -> Result<Self, Errno> {
        let sharing = match content {
            Content::Shared | Content::SharedHuge => Some(Sharing::Shared),
            Content::Frozen => Some(Sharing::Private),
            Content::Nothing | Content::Anonymous => None,
        };
        if let Some(sharing) = sharing {
            let how = (sharing, Populate::OnTouch, HugePages::Default);
            arena.map_file(arena.range(), file.as_fd(), 0, Prot::NONE, how)?;
        }
        let space = Space::new(arena.base(), arena.range().len);
        let contents = Uniform { content, made_ordinary: BTreeSet::new() };
        Ok(Self {
            arena,
            staging: Arena::reserve_exactly(BLOCK)?,
            state: ForkLock::new(State { space, contents }),
            promised: AtomicI64::new(0),
            promising,
            asked: AtomicU64::new(0),
        })
    }

    /// Takes the lock for the length of a fork.
    pub fn hold_across_fork(&self) {
        self.state.hold_across_fork();
    }

    /// Ends [`StandIn::hold_across_fork`].
    pub fn release_after_fork(&self) {
        self.state.release_after_fork();
    }

    /// Blocks promised, and blocks that are charged: the same whenever no call is under way.
    #[must_use]
    pub fn promised_and_charged(&self) -> (i64, i64) {
        self.locked(|locked| {
            let charged = locked.space.charged_blocks(locked.space.range());
            let charged = i64::try_from(charged).unwrap_or(i64::MAX);
            (self.promised.load(Ordering::Relaxed), charged)
        })
    }

    fn copy_to_ordinary(&self, state: &State, block: BlockIndex) -> Result<(), Errno> {
        let range = state.space.block_range(block);
        let staged = self.staging.range();
        self.staging.map_anonymous(staged, Prot::READ_WRITE)?;
        self.arena.protect(range, Prot::READ_WRITE)?;
        self.staging.copy_from(staged, &self.arena, range)?;
        self.arena.map_anonymous(range, Prot::READ_WRITE)?;
        self.arena.copy_from(range, &self.staging, staged)?;
        let mut at = range.start;
        for run in state.space.runs_in(block) {
            self.arena.protect(AddrRange::between(at, run.range.start), Prot::NONE)?;
            self.arena.protect(run.range, run.prot)?;
            at = run.range.end();
        }
        self.arena.protect(AddrRange::between(at, range.end()), Prot::NONE)
    }
}

impl Managed for StandIn {
    fn arena(&self) -> &Arena {
        &self.arena
    }

    fn locked<R>(&self, work: impl FnOnce(Locked<'_>) -> R) -> R {
        let _signals = SignalsBlocked::new();
        let mut state = self.state.lock();
        let State { space, contents } = &mut *state;
        let result = work(Locked { space, contents });
        space.validate();
        result
    }

    fn promise(&self, by: i64) -> bool {
        let Promising { limit, refused, seed } = self.promising;
        if by > 0 && refused > 0 {
            let asked = self.asked.fetch_add(1, Ordering::Relaxed);
            if Random::new(seed.wrapping_add(asked)).below(1000) < refused {
                return false;
            }
        }
        let fits = |promised: i64| {
            let after = promised + by;
            (by < 0 || after <= limit).then_some(after)
        };
        self.promised.fetch_update(Ordering::Relaxed, Ordering::Relaxed, fits).is_ok()
    }

    fn post_idle(&self, _: BlockIndex) {}

    fn post_pins(&self, _: BlockIndex) {}

    fn make_ordinary(&self, block: BlockIndex) -> bool {
        let _signals = SignalsBlocked::new();
        let mut state = self.state.lock();
        if state.contents.content(block) == Content::Anonymous {
            return true;
        }
        if self.copy_to_ordinary(&state, block).is_err() {
            return false;
        }
        state.contents.made_ordinary.insert(block)
    }
}
