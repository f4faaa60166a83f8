//! Whether there is memory to manage.

#[cfg(not(feature = "stand-in"))]
mod kind {
    pub(crate) use memtide_pager::Memory;
    pub(crate) use memtide_pager::fork::{child, parent, prepare, settle};

    pub(crate) fn get() -> Option<&'static Memory> {
        Memory::get()
    }

    /// Whether any content was ever lost with its device.
    #[inline]
    pub(crate) fn has_lost() -> bool {
        get().is_some_and(Memory::has_lost)
    }
}

/// An arena without a pager, for tests.
#[cfg(feature = "stand-in")]
mod kind {
    use std::sync::{
        OnceLock,
        atomic::{AtomicBool, Ordering},
    };

    use memtide_pager::calls::{
        Content,
        stand_in::{Promising, StandIn},
    };
    use memtide_sys::{Arena, memfd};

    pub(crate) type Memory = StandIn;

    static MEMORY: OnceLock<Memory> = OnceLock::new();
    static HAS_LOST: AtomicBool = AtomicBool::new(false);

    pub(crate) fn get() -> Option<&'static Memory> {
        MEMORY.get()
    }

    /// Reserves an arena after a text like `shared`, `anonymous:64` or `shared:64:300:1`: the sort
    /// of content, how many blocks are promised at most, how many of a thousand promises are
    /// refused all the same, and the seed that says which. `after-loss` is anonymous memory of
    /// which some was lost once, and none is now; `after-loss-shared` a shared file of that kind,
    /// as a device's memory is.
    pub(crate) fn install(how: &str) -> Result<(), String> {
        let mut parts = how.split(':');
        let sort = parts.next().unwrap_or_default();
        HAS_LOST.store(sort.starts_with("after-loss"), Ordering::Relaxed);
        let content = match sort {
            "anonymous" | "after-loss" => Content::Anonymous,
            "shared" | "after-loss-shared" => Content::Shared,
            "huge" => Content::SharedHuge,
            "frozen" => Content::Frozen,
            other => return Err(format!("unknown content {other}")),
        };
        let mut number = |otherwise: u64| match parts.next() {
            Some(text) => text.parse().map_err(|error| format!("{text}: {error}")),
            None => Ok(otherwise),
        };
        let limit = i64::try_from(number(9_999_999)?).map_err(|error| format!("limit: {error}"))?;
        let promising = Promising { limit, refused: number(0)?, seed: number(0)? };
        let failed = |errno| format!("stand-in: {errno}");
        let arena = Arena::reserve(1 << 40, 1 << 30).map_err(failed)?;
        let file = memfd::create("stand-in", arena.range().len as u64, memfd::Pages::Small)
            .map_err(|error| format!("stand-in: {error}"))?;
        let memory = Memory::new(arena, promising, content, file).map_err(failed)?;
        MEMORY.set(memory).map_err(|_| "installed twice".to_owned())?;
        // SAFETY: `check` is a function of this library, which is never unloaded.
        unsafe { libc::atexit(check) };
        Ok(())
    }

    /// At the end of the program, what is promised must be what is charged.
    extern "C" fn check() {
        if let Some((promised, charged)) = get().map(Memory::promised_and_charged)
            && promised != charged
        {
            eprintln!("memtide: {promised} blocks are promised, {charged} are charged");
            // SAFETY: ends the process.
            unsafe { libc::_exit(99) };
        }
    }

    /// There is no device to lose, but the allocator can be made to believe it.
    pub(crate) fn has_lost() -> bool {
        HAS_LOST.load(Ordering::Relaxed)
    }

    /// There is no pager to wait for.
    pub(crate) const fn settle() {}

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
