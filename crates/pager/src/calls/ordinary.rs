//! Managed memory without a pager: every block is ordinary. For tests of the calls, alone and in
//! whole programs (the preload library's feature `ordinary-arena`).

use std::sync::atomic::{AtomicI64, Ordering};

use memtide_sys::{Arena, ForkLock, SignalsBlocked};

use super::{Content, Contents, Locked, Managed};
use crate::space::{BlockIndex, Space};

/// Memory of the kernel's, carved from an arena.
#[derive(Debug)]
pub struct OrdinaryMemory {
    arena: Arena,
    space: ForkLock<Space>,
    promised: AtomicI64,
    limit: i64,
}

struct AllOrdinary;

impl Contents for AllOrdinary {
    fn content(&self, _: BlockIndex) -> Content {
        Content::Anonymous
    }
}

impl OrdinaryMemory {
    /// All of `arena`, with promises for `limit` blocks.
    #[must_use]
    pub fn new(arena: Arena, limit: i64) -> Self {
        let space = Space::new(arena.base(), arena.range().len);
        Self { arena, space: ForkLock::new(space), promised: AtomicI64::new(0), limit }
    }

    /// Blocks promised.
    #[must_use]
    pub fn promised(&self) -> i64 {
        self.promised.load(Ordering::Relaxed)
    }

    /// Takes the lock for the length of a fork.
    pub fn hold_across_fork(&self) {
        self.space.hold_across_fork();
    }

    /// Ends [`OrdinaryMemory::hold_across_fork`].
    pub fn release_after_fork(&self) {
        self.space.release_after_fork();
    }
}

impl Managed for OrdinaryMemory {
    fn arena(&self) -> &Arena {
        &self.arena
    }

    fn locked<R>(&self, work: impl FnOnce(Locked<'_>) -> R) -> R {
        let _signals = SignalsBlocked::new();
        let mut space = self.space.lock();
        work(Locked { space: &mut space, contents: &AllOrdinary })
    }

    fn promise(&self, by: i64) -> bool {
        let fits = |promised: i64| {
            let after = promised + by;
            (by < 0 || after <= self.limit).then_some(after)
        };
        self.promised.fetch_update(Ordering::Relaxed, Ordering::Relaxed, fits).is_ok()
    }

    fn post_idle(&self, _: BlockIndex) {}

    fn post_pins(&self, _: BlockIndex) {}

    fn make_ordinary(&self, _: BlockIndex) -> bool {
        true
    }
}
