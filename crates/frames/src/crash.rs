//! For tests: an atomic word that can stop the world at any store.
//!
//! A thread counts what it stores. At the store that it was told to die at, it unwinds, and from
//! then on nothing that it does reaches memory: that is what a kill leaves behind.

use core::sync::atomic::{self, Ordering};
use std::{cell::Cell, thread_local};

/// A word that counts its stores.
#[derive(Debug, Default)]
#[repr(transparent)]
pub struct AtomicU64(atomic::AtomicU64);

thread_local! {
    /// Stores left until the thread dies; `None`: it never does.
    static LEFT: Cell<Option<u64>> = const { Cell::new(None) };
    static DEAD: Cell<bool> = const { Cell::new(false) };
}

/// What a thread unwinds with when it dies.
pub(crate) struct Killed;

/// Runs something that is killed before its store number `stores`. Returns whether it was.
pub(crate) fn killed_before(stores: u64, run: impl FnOnce()) -> bool {
    LEFT.set(Some(stores));
    let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(run));
    LEFT.set(None);
    DEAD.set(false);
    match result {
        Ok(()) => false,
        Err(why) if why.is::<Killed>() => true,
        Err(why) => std::panic::resume_unwind(why),
    }
}

/// Whether the thread was killed, and is unwinding.
pub(crate) fn is_dead() -> bool {
    DEAD.get()
}

/// Whether a store reaches memory.
fn reaches() -> bool {
    if DEAD.get() {
        return false;
    }
    match LEFT.get() {
        None => true,
        Some(0) => {
            DEAD.set(true);
            std::panic::resume_unwind(std::boxed::Box::new(Killed));
        }
        Some(left) => {
            LEFT.set(Some(left - 1));
            true
        }
    }
}

macro_rules! exchange {
    ($($name:ident),*) => {$(
        pub(crate) fn $name(&self, value: u64, order: Ordering) -> u64 {
            if reaches() { self.0.$name(value, order) } else { self.0.load(Ordering::Relaxed) }
        }
    )*};
}

impl AtomicU64 {
    pub(crate) const fn new(value: u64) -> Self {
        Self(atomic::AtomicU64::new(value))
    }

    pub(crate) fn load(&self, order: Ordering) -> u64 {
        self.0.load(order)
    }

    pub(crate) fn store(&self, value: u64, order: Ordering) {
        if reaches() {
            self.0.store(value, order);
        }
    }

    exchange!(swap, fetch_add, fetch_sub, fetch_or, fetch_and);

    pub(crate) fn compare_exchange(
        &self,
        from: u64,
        to: u64,
        success: Ordering,
        failure: Ordering,
    ) -> Result<u64, u64> {
        if reaches() { self.0.compare_exchange(from, to, success, failure) } else { Ok(from) }
    }

    pub(crate) fn compare_exchange_weak(
        &self,
        from: u64,
        to: u64,
        success: Ordering,
        failure: Ordering,
    ) -> Result<u64, u64> {
        self.compare_exchange(from, to, success, failure)
    }

    pub(crate) fn fetch_update(
        &self,
        set: Ordering,
        fetch: Ordering,
        change: impl FnMut(u64) -> Option<u64>,
    ) -> Result<u64, u64> {
        if reaches() { self.0.fetch_update(set, fetch, change) } else { Ok(0) }
    }
}
