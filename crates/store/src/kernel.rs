//! What the kernel offers to make a node of.
//!
//! Everything is read below a root folder, so that tests can make machines of their own.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

/// Figures of the kernel, from files.
#[derive(Clone, Debug)]
pub struct Kernel {
    root: PathBuf,
}

/// The kernel's pool of 2 MiB pages.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct HugePages {
    /// Pages in the pool.
    pub total: u64,
    /// Of them, not in use.
    pub free: u64,
    /// Of them, promised to mappings but not in use yet.
    pub reserved: u64,
    /// Pages that the kernel may add when asked.
    pub overcommit: u64,
    /// Of those, already added.
    pub surplus: u64,
}

impl HugePages {
    /// Pages that could be had now.
    #[must_use]
    pub const fn available(self) -> u64 {
        self.free.saturating_sub(self.reserved) + self.overcommit.saturating_sub(self.surplus)
    }
}

impl Kernel {
    /// This machine's.
    #[must_use]
    pub fn this_machine() -> Self {
        Self::below("/")
    }

    /// The one whose files are below `root`.
    #[must_use]
    pub fn below(root: impl AsRef<Path>) -> Self {
        Self { root: root.as_ref().to_owned() }
    }

    pub(crate) fn read(&self, path: &str) -> io::Result<String> {
        Ok(fs::read_to_string(self.root.join(path))?.trim().to_owned())
    }

    fn number(&self, path: &str) -> io::Result<u64> {
        self.read(path)?.parse().map_err(|_| io::ErrorKind::InvalidData.into())
    }

    /// The pool of 2 MiB pages.
    ///
    /// # Errors
    /// [`io::ErrorKind::NotFound`] when the kernel has none.
    pub fn huge_pages(&self) -> io::Result<HugePages> {
        let figure =
            |name| self.number(&format!("sys/kernel/mm/hugepages/hugepages-2048kB/{name}"));
        Ok(HugePages {
            total: figure("nr_hugepages")?,
            free: figure("free_hugepages")?,
            reserved: figure("resv_hugepages")?,
            overcommit: figure("nr_overcommit_hugepages")?,
            surplus: figure("surplus_hugepages")?,
        })
    }

    /// Which shared memory gets transparent huge pages: `always`, `within_size`, `advise`,
    /// `never`, `deny` or `force`.
    ///
    /// # Errors
    /// [`io::ErrorKind::NotFound`] when the kernel has none.
    pub fn shmem_huge(&self) -> io::Result<String> {
        // The file lists all words, the one in force in brackets.
        let words = self.read("sys/kernel/mm/transparent_hugepage/shmem_enabled")?;
        words
            .split(['[', ']'])
            .nth(1)
            .map(str::to_owned)
            .ok_or_else(|| io::ErrorKind::InvalidData.into())
    }

    /// Bytes of memory that programs could still get.
    ///
    /// # Errors
    /// When /proc is not mounted.
    pub fn memory_available(&self) -> io::Result<u64> {
        let text = self.read("proc/meminfo")?;
        text.lines()
            .find_map(|line| line.strip_prefix("MemAvailable:"))
            .and_then(|rest| rest.trim().strip_suffix("kB"))
            .and_then(|number| number.trim().parse::<u64>().ok())
            .map(|kib| kib * 1024)
            .ok_or_else(|| io::ErrorKind::InvalidData.into())
    }
}
