//! Words that start out zero and cost memory only where they were written.
//!
//! One anonymous mapping without a reservation of swap: a page of it exists from the first write
//! on, reads before that see the kernel's zero page. So what describes a node of 64 TiB may be
//! mapped as a whole on a machine that has a small part of that.
//!
//! Reference: mmap(2).

use core::{fmt, ops::Deref, ptr::NonNull, sync::atomic::AtomicU64};

use rustix::{
    io::Errno,
    mm::{MapFlags, ProtFlags},
};

/// A slice of atomic words, all zero at first, that starts at a page. Unmapped when dropped.
pub struct ZeroedWords {
    first: NonNull<AtomicU64>,
    words: usize,
}

impl ZeroedWords {
    /// Maps so many words.
    ///
    /// # Errors
    /// The kernel's; `ENOMEM` when there are not so many addresses.
    pub fn new(words: usize) -> Result<Self, Errno> {
        let bytes = words.checked_mul(size_of::<AtomicU64>());
        let bytes = bytes.filter(|&bytes| isize::try_from(bytes).is_ok()).ok_or(Errno::NOMEM)?;
        if bytes == 0 {
            return Ok(Self { first: NonNull::dangling(), words });
        }
        // SAFETY: a new mapping at an address that the kernel chooses takes nothing from anybody.
        let start = unsafe {
            rustix::mm::mmap_anonymous(
                core::ptr::null_mut(),
                bytes,
                ProtFlags::READ | ProtFlags::WRITE,
                MapFlags::PRIVATE | MapFlags::NORESERVE,
            )
        }?;
        let first = NonNull::new(start.cast()).ok_or(Errno::NOMEM)?;
        Ok(Self { first, words })
    }
}

impl Deref for ZeroedWords {
    type Target = [AtomicU64];

    fn deref(&self) -> &[AtomicU64] {
        // SAFETY: the mapping holds so many words (or the pointer is dangling and there are none),
        // aligned to a page; zero bytes are an `AtomicU64`; only this value unmaps it, and only
        // once nothing borrows from it.
        unsafe { core::slice::from_raw_parts(self.first.as_ptr(), self.words) }
    }
}

impl Drop for ZeroedWords {
    fn drop(&mut self) {
        if self.words != 0 {
            let bytes = self.words * size_of::<AtomicU64>();
            // SAFETY: the whole mapping that `new` made, which nothing borrows any more. Should
            // the kernel refuse (it splits no mapping here, so it has no reason to), it stays.
            let _ = unsafe { rustix::mm::munmap(self.first.as_ptr().cast(), bytes) };
        }
    }
}

// SAFETY: it owns its mapping as a `Box<[AtomicU64]>` owns its memory, and unmapping works from
// every thread.
unsafe impl Send for ZeroedWords {}
// SAFETY: shared, it only gives out `&[AtomicU64]`.
unsafe impl Sync for ZeroedWords {}

impl fmt::Debug for ZeroedWords {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} words", self.words)
    }
}

#[cfg(test)]
mod tests {
    use core::sync::atomic::Ordering::Relaxed;

    use super::*;

    #[test]
    fn words_are_zero_and_keep_what_is_written() {
        let words = ZeroedWords::new(100_000).unwrap();
        assert_eq!((words.len(), words.as_ptr().addr() % 4096), (100_000, 0));
        assert!(words.iter().all(|word| word.load(Relaxed) == 0));
        std::thread::scope(|scope| {
            scope.spawn(|| words[99_999].store(7, Relaxed));
        });
        assert_eq!(words[99_999].load(Relaxed), 7);
    }

    #[test]
    fn more_than_the_machine_has_can_be_mapped() {
        // 1 TiB of addresses, of which one page is used.
        let words = ZeroedWords::new(1 << 37).unwrap();
        words[1 << 36].store(1, Relaxed);
        assert_eq!(words[(1 << 36) + 1].load(Relaxed), 0);
    }

    #[test]
    fn nothing_and_too_much() {
        assert!(ZeroedWords::new(0).unwrap().is_empty());
        assert_eq!(ZeroedWords::new(usize::MAX).unwrap_err(), Errno::NOMEM);
        assert_eq!(ZeroedWords::new(usize::MAX / 16).unwrap_err(), Errno::NOMEM);
    }
}
