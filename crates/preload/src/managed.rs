//! Whether there is memory to manage.

#[cfg(not(feature = "ordinary-arena"))]
mod kind {
    pub(crate) use memtide_pager::Memory;
    pub(crate) use memtide_pager::fork::{child, parent, prepare};

    pub(crate) fn get() -> Option<&'static Memory> {
        Memory::get()
    }
}

/// An arena without a pager, for tests.
#[cfg(feature = "ordinary-arena")]
mod kind {
    use std::sync::OnceLock;

    use memtide_pager::calls::ordinary::OrdinaryMemory;

    pub(crate) type Memory = OrdinaryMemory;

    static MEMORY: OnceLock<Memory> = OnceLock::new();

    pub(crate) fn get() -> Option<&'static Memory> {
        MEMORY.get()
    }

    /// Reserves an arena that promises `limit` blocks.
    pub(crate) fn install(limit: i64) {
        match memtide_sys::Arena::reserve(1 << 40, 1 << 30) {
            Ok(arena) => drop(MEMORY.set(Memory::new(arena, limit))),
            Err(errno) => eprintln!("memtide: reserving addresses: {errno}"),
        }
    }

    pub(crate) fn prepare() {
        if let Some(memory) = get() {
            memory.hold_across_fork();
        }
    }

    pub(crate) fn parent() {
        if let Some(memory) = get() {
            memory.release_after_fork();
        }
    }

    pub(crate) fn child() {
        parent();
    }
}

pub(crate) use kind::*;
