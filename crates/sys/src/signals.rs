//! Keeping signal handlers away for a moment.
//!
//! A handler that interrupts a thread inside our locks and then calls malloc or mmap would wait
//! for itself.

use std::mem::MaybeUninit;

/// While it lives, the thread that made it takes no signals.
#[derive(Debug)]
pub struct SignalsBlocked {
    before: libc::sigset_t,
    /// Signal masks belong to threads: not `Send`.
    not_send: std::marker::PhantomData<*const ()>,
}

impl SignalsBlocked {
    /// Blocks all signals of the calling thread.
    #[must_use]
    pub fn new() -> Self {
        let mut all = MaybeUninit::<libc::sigset_t>::uninit();
        let mut before = MaybeUninit::<libc::sigset_t>::uninit();
        // SAFETY: `sigfillset` initialises the set; `pthread_sigmask` reads it and initialises
        // `before`. Neither fails for these arguments (pthread_sigmask(3)).
        let before = unsafe {
            libc::sigfillset(all.as_mut_ptr());
            libc::pthread_sigmask(libc::SIG_SETMASK, all.as_ptr(), before.as_mut_ptr());
            before.assume_init()
        };
        Self { before, not_send: std::marker::PhantomData }
    }

    /// Blocks all signals of the calling thread for good.
    pub fn forever() {
        std::mem::forget(Self::new());
    }
}

impl Default for SignalsBlocked {
    fn default() -> Self {
        Self::new()
    }
}

impl Drop for SignalsBlocked {
    fn drop(&mut self) {
        // SAFETY: `before` is a set that the kernel gave us.
        unsafe {
            libc::pthread_sigmask(libc::SIG_SETMASK, &raw const self.before, std::ptr::null_mut());
        }
    }
}
