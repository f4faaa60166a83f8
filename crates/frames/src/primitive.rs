//! The atomics that the allocator is made of: the machine's, or those of the model checker.
//!
//! Every word of the metadata is an [`AtomicU64`]. A build with `--cfg loom` takes loom's, which
//! try every interleaving; a unit test takes a wrapper (`crash.rs`) that can stop the world
//! at any store.

#[cfg(all(not(loom), not(test)))]
pub use core::sync::atomic::AtomicU64;
pub use core::sync::atomic::Ordering;

#[cfg(all(not(loom), test))]
pub use crate::crash::AtomicU64;
#[cfg(loom)]
pub use loom::sync::atomic::AtomicU64;

/// Loom takes a sequentially consistent access for an acquire-release one, and only its fences
/// are sequentially consistent. Where two parties each write one place and then read the other's
/// (and at least one must see the other), the accesses are `SeqCst`; this restores their meaning
/// in the model and is nothing elsewhere.
#[inline(always)]
pub(crate) fn seq_cst_in_model() {
    #[cfg(loom)]
    loom::sync::atomic::fence(Ordering::SeqCst);
}

/// Stores what is not there already, where nobody else is: memory that is not written to need not
/// be there.
pub(crate) fn settle(word: &AtomicU64, value: u64) {
    if word.load(Ordering::Relaxed) != value {
        word.store(value, Ordering::Relaxed);
    }
}

/// A turn of a loop that waits for another processor.
#[inline(always)]
pub(crate) fn spin() {
    #[cfg(not(loom))]
    core::hint::spin_loop();
    #[cfg(loom)]
    loom::thread::yield_now();
}
