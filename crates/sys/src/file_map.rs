//! Files mapped into an arena: the leased memory itself.
//!
//! `mmap(MAP_FIXED)` and `mremap(MREMAP_FIXED)` replace what was mapped before atomically: a
//! thread that touches the range meanwhile sees the old mapping or the new one, or waits. Neither
//! wakes threads that wait in a userfaultfd of the old mapping; callers do.

use std::os::fd::{AsFd, BorrowedFd};

use rustix::{
    io::Errno,
    mm::{Advice, MapFlags, MremapFlags, ProtFlags},
};

use crate::{AddrRange, Arena, Prot};

/// Who sees writes to a file mapping.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Sharing {
    /// The file, and all who map it.
    Shared,
    /// Only this process: the kernel copies a page at the first write to it.
    Private,
}

/// Whether pages are put under a mapping at once.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Populate {
    /// At once.
    Now,
    /// When they are touched.
    OnTouch,
}

/// Whether transparent huge pages are wanted under a mapping.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum HugePages {
    /// Whatever is the default.
    Default,
    /// Where the kernel finds them.
    Wanted,
}

impl Arena {
    /// Maps `file` from byte `offset` over `range`, replacing what was there.
    ///
    /// # Errors
    /// The kernel's; `EINVAL` for a range outside the arena.
    pub fn map_file(
        &self,
        range: AddrRange,
        file: BorrowedFd<'_>,
        offset: u64,
        prot: Prot,
        (sharing, populate, huge): (Sharing, Populate, HugePages),
    ) -> Result<(), Errno> {
        if !self.contains_range(range) {
            return Err(Errno::INVAL);
        }
        let mut flags = MapFlags::FIXED;
        flags |= match sharing {
            Sharing::Shared => MapFlags::SHARED,
            Sharing::Private => MapFlags::PRIVATE | MapFlags::NORESERVE,
        };
        if populate == Populate::Now && huge == HugePages::Default {
            flags |= MapFlags::POPULATE;
        }
        let prot_flags = ProtFlags::from_bits_retain(prot.bits());
        // SAFETY: the range belongs to the arena, whose owner decides what is mapped there; no
        // Rust object lives in an arena.
        unsafe { rustix::mm::mmap(range.as_ptr(), range.len, prot_flags, flags, file, offset)? };
        if huge == HugePages::Wanted {
            // SAFETY: advice about the mapping just made. Where it cannot be followed nothing
            // is lost, so its result does not matter.
            let _ =
                unsafe { rustix::mm::madvise(range.as_ptr(), range.len, Advice::LinuxHugepage) };
            if populate == Populate::Now {
                self.populate(range)?;
            }
        }
        Ok(())
    }

    /// Puts writable pages under `range`.
    ///
    /// # Errors
    /// The kernel's; `EINVAL` for a range outside the arena.
    pub fn populate(&self, range: AddrRange) -> Result<(), Errno> {
        if !self.contains_range(range) {
            return Err(Errno::INVAL);
        }
        // SAFETY: populating changes no content.
        unsafe { rustix::mm::madvise(range.as_ptr(), range.len, Advice::LinuxPopulateWrite) }
    }

    /// Moves the mapping of `from` in `staging`, with its page tables, over `to` in this arena.
    /// What is left at `from` is still mapped to the same file but has no pages.
    ///
    /// # Errors
    /// The kernel's (`EINVAL`: this sort of mapping cannot be moved so); `EINVAL` for ranges
    /// outside their arenas or of different lengths. Nothing changed then.
    pub fn take_over(&self, to: AddrRange, staging: &Arena, from: AddrRange) -> Result<(), Errno> {
        if !self.contains_range(to) || !staging.contains_range(from) || from.len != to.len {
            return Err(Errno::INVAL);
        }
        let flags = MremapFlags::MAYMOVE | MremapFlags::DONTUNMAP;
        // SAFETY: both ranges belong to arenas, whose owners decide what is mapped there; no Rust
        // object lives in an arena. MREMAP_FIXED is implied by `mremap_fixed`.
        unsafe {
            rustix::mm::mremap_fixed(from.as_ptr(), from.len, to.len, flags, to.as_ptr())?;
        }
        Ok(())
    }
}

impl Arena {
    /// Reads `file` from byte `offset` into `to`, whole.
    ///
    /// # Errors
    /// The kernel's; `EINVAL` for a range outside the arena; `EIO` when the file ends early.
    pub fn read_file(&self, to: AddrRange, file: BorrowedFd<'_>, offset: u64) -> Result<(), Errno> {
        use std::os::fd::AsRawFd;
        if !self.contains_range(to) {
            return Err(Errno::INVAL);
        }
        let mut done = 0;
        while done < to.len {
            let at = i64::try_from(offset + done as u64).map_err(|_| Errno::INVAL)?;
            // SAFETY: the kernel writes to memory of the arena, where no Rust object lives.
            let got = unsafe {
                let target = (to.start + done) as *mut core::ffi::c_void;
                libc::pread(file.as_raw_fd(), target, to.len - done, at)
            };
            match got {
                0 => return Err(Errno::IO),
                got if got > 0 => done += got.unsigned_abs(),
                _ => match std::io::Error::last_os_error().raw_os_error() {
                    Some(libc::EINTR) => {}
                    code => return Err(Errno::from_raw_os_error(code.unwrap_or(libc::EIO))),
                },
            }
        }
        Ok(())
    }
}

/// This process's memory as a file: readable whatever its protection.
#[derive(Debug)]
pub struct ProcessMemory(std::os::fd::OwnedFd);

impl ProcessMemory {
    /// Opens it.
    ///
    /// # Errors
    /// The kernel's.
    pub fn open() -> Result<Self, Errno> {
        use rustix::fs::{Mode, OFlags};
        let flags = OFlags::RDONLY | OFlags::CLOEXEC;
        rustix::fs::open("/proc/self/mem", flags, Mode::empty()).map(Self)
    }
}

impl AsFd for ProcessMemory {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}
