//! Which pages of this process are there, and which it has copied.
//!
//! Reference: Documentation/admin-guide/mm/pagemap.rst.

use std::os::fd::OwnedFd;

use rustix::{
    fs::{Mode, OFlags},
    io::Errno,
};

use crate::AddrRange;

/// What the page table says of one page.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct PageState(u64);

impl PageState {
    /// A page is in memory.
    #[must_use]
    pub const fn is_present(self) -> bool {
        self.0 & (1 << 63) != 0
    }

    /// A page is in swap; or the entry is a marker (of write protection, for example).
    #[must_use]
    pub const fn is_swapped(self) -> bool {
        self.0 & (1 << 62) != 0
    }

    /// The page is in memory and belongs to a file (or to shared memory).
    #[must_use]
    pub const fn is_file(self) -> bool {
        self.0 & (1 << 61) != 0
    }

    /// The page is in memory and is this process's own copy.
    #[must_use]
    pub const fn is_anonymous(self) -> bool {
        self.is_present() && !self.is_file()
    }

    /// Nothing is there.
    #[must_use]
    pub const fn is_empty(self) -> bool {
        !self.is_present() && !self.is_swapped()
    }
}

/// This process's page map.
#[derive(Debug)]
pub struct Pagemap(OwnedFd);

impl Pagemap {
    /// Opens it.
    ///
    /// # Errors
    /// The kernel's.
    pub fn open() -> Result<Self, Errno> {
        let flags = OFlags::RDONLY | OFlags::CLOEXEC;
        rustix::fs::open("/proc/self/pagemap", flags, Mode::empty()).map(Self)
    }

    /// Reads the state of each page of `range`, replacing what is in `pages`.
    ///
    /// # Errors
    /// The kernel's; `EIO` when the map ends early.
    pub fn read(&self, range: AddrRange, pages: &mut Vec<PageState>) -> Result<(), Errno> {
        pages.clear();
        let mut buffer = [0u8; 4096];
        let total = range.len / 4096;
        while pages.len() < total {
            let want = ((total - pages.len()) * 8).min(buffer.len());
            let offset = ((range.start / 4096 + pages.len()) * 8) as u64;
            let got = rustix::io::pread(&self.0, &mut buffer[..want], offset)?;
            if got < 8 {
                return Err(Errno::IO);
            }
            for entry in buffer[..got].chunks_exact(8) {
                let mut bytes = [0u8; 8];
                bytes.copy_from_slice(entry);
                pages.push(PageState(u64::from_ne_bytes(bytes)));
            }
        }
        Ok(())
    }
}
