//! Futexes: private ones for our own code, and waking who sleeps on a word of an arena, whatever
//! mapping they slept through.

use std::sync::atomic::AtomicU32;

use rustix::{
    fs::Timespec,
    io::Errno,
    thread::futex::{self, Flags},
};

use crate::{AddrRange, Arena};

/// Waits until the word is no longer `value`, somebody wakes, or the time is over.
pub fn wait_private(word: &AtomicU32, value: u32, milliseconds: u64) {
    let timeout = Timespec {
        tv_sec: i64::try_from(milliseconds / 1000).unwrap_or(i64::MAX),
        tv_nsec: i64::try_from(milliseconds % 1000 * 1_000_000).unwrap_or(0),
    };
    // Whatever the outcome, the caller looks again.
    let _ = futex::wait(word, Flags::PRIVATE, value, Some(&timeout));
}

/// Wakes all who wait.
pub fn wake_private(word: &AtomicU32) {
    let _ = futex::wake(word, Flags::PRIVATE, u32::MAX >> 1);
}

impl Arena {
    /// Wakes all who wait with a futex that is *not* private on the word at `address`: the kernel
    /// names it by file and offset, so any mapping of the same page will do.
    ///
    /// # Errors
    /// The kernel's; `EINVAL` for an address outside the arena or not a multiple of four.
    pub fn wake_shared_futex(&self, address: usize) -> Result<usize, Errno> {
        if !address.is_multiple_of(4) || !self.contains_range(AddrRange::new(address, 4)) {
            return Err(Errno::INVAL);
        }
        // SAFETY: the address is aligned and inside the arena, where no Rust object lives. The
        // word is used as a name only: FUTEX_WAKE does not read it.
        let word = unsafe { AtomicU32::from_ptr(address as *mut u32) };
        futex::wake(word, Flags::empty(), u32::MAX >> 1)
    }
}
