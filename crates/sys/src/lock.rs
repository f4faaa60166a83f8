//! A lock that survives fork.
//!
//! What a lock protects must be whole in a forked child, although the thread that might hold it
//! does not exist there. [`ForkLock::hold_across_fork`] takes the lock for the forking thread and
//! keeps it until [`ForkLock::release_after_fork`] in the parent and in the child.
//!
//! The lock is a futex word with three states (free, held, held with waiters: Drepper, "Futexes
//! are tricky", mutex2), private to the process, allocates nothing, and takes no signal mask:
//! callers that can be interrupted by a signal handler that would take it again block signals.

use std::{
    cell::UnsafeCell,
    ops::{Deref, DerefMut},
    sync::atomic::{AtomicBool, AtomicU32, Ordering},
};

use rustix::thread::futex;

const FREE: u32 = 0;
const HELD: u32 = 1;
const WAITED_FOR: u32 = 2;

/// Mutual exclusion around a `T`.
#[derive(Debug, Default)]
pub struct ForkLock<T> {
    word: AtomicU32,
    across_fork: AtomicBool,
    value: UnsafeCell<T>,
}

// SAFETY: the lock hands out at most one reference to the value at a time, so sharing the lock
// only ever sends the value from thread to thread.
unsafe impl<T: Send> Sync for ForkLock<T> {}

/// The right to use what the lock protects.
#[derive(Debug)]
pub struct ForkLockGuard<'a, T>(&'a ForkLock<T>);

impl<T> ForkLock<T> {
    /// A free lock around `value`.
    pub const fn new(value: T) -> Self {
        Self {
            word: AtomicU32::new(FREE),
            across_fork: AtomicBool::new(false),
            value: UnsafeCell::new(value),
        }
    }

    /// Waits for the lock.
    pub fn lock(&self) -> ForkLockGuard<'_, T> {
        self.acquire();
        ForkLockGuard(self)
    }

    fn acquire(&self) {
        // Acquire pairs with the Release in `release`: what the last holder wrote is seen.
        if self.word.compare_exchange(FREE, HELD, Ordering::Acquire, Ordering::Relaxed).is_ok() {
            return;
        }
        while self.word.swap(WAITED_FOR, Ordering::Acquire) != FREE {
            // Any error means: look again.
            let _ = futex::wait(&self.word, futex::Flags::PRIVATE, WAITED_FOR, None);
        }
    }

    fn release(&self) {
        if self.word.swap(FREE, Ordering::Release) == WAITED_FOR {
            let _ = futex::wake(&self.word, futex::Flags::PRIVATE, 1);
        }
    }

    /// Takes the lock for this thread until [`ForkLock::release_after_fork`].
    pub fn hold_across_fork(&self) {
        self.acquire();
        self.across_fork.store(true, Ordering::Relaxed);
    }

    /// Gives back what [`ForkLock::hold_across_fork`] took, in the parent as in the child.
    ///
    /// # Panics
    /// When it was not taken so: releasing somebody else's hold would not be safe.
    pub fn release_after_fork(&self) {
        assert!(
            self.across_fork.swap(false, Ordering::Relaxed),
            "the lock is not held across a fork"
        );
        self.release();
    }
}

impl<T> Deref for ForkLockGuard<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        // SAFETY: a guard exists only while its thread holds the lock.
        unsafe { &*self.0.value.get() }
    }
}

impl<T> DerefMut for ForkLockGuard<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        // SAFETY: a guard exists only while its thread holds the lock, and it is borrowed mutably.
        unsafe { &mut *self.0.value.get() }
    }
}

impl<T> Drop for ForkLockGuard<'_, T> {
    fn drop(&mut self) {
        self.0.release();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{sync::Arc, thread};

    #[test]
    fn counts_of_many_threads_add_up() {
        let lock = Arc::new(ForkLock::new(0u64));
        let threads: Vec<_> = (0..4)
            .map(|_| {
                let lock = Arc::clone(&lock);
                thread::spawn(move || {
                    for _ in 0..20_000 {
                        *lock.lock() += 1;
                    }
                })
            })
            .collect();
        for thread in threads {
            thread.join().unwrap();
        }
        assert_eq!(*lock.lock(), 80_000);
    }

    #[test]
    #[should_panic(expected = "not held across a fork")]
    fn nobody_releases_what_is_not_held() {
        let lock = ForkLock::new(());
        let _guard = lock.lock();
        lock.release_after_fork();
    }
}
