//! An image's file on one node: pageblocks at fixed places, and holes where there is nothing.

use std::{
    io,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
};

use memtide_sys::memfd::{self, FileIdentity};
use memtide_units::{ByteSize, Extent, PAGEBLOCK_BYTES, Pageblock};

/// An image's file on one node.
#[derive(Debug)]
pub struct NodeFile {
    pub(crate) fd: OwnedFd,
    pub(crate) identity: FileIdentity,
    pub(crate) first: Pageblock,
    pub(crate) pageblocks: u64,
    pub(crate) shared: bool,
}

impl NodeFile {
    /// Whether other images have the same file, or will.
    #[must_use]
    pub const fn is_shared(&self) -> bool {
        self.shared
    }

    /// The same file once more.
    ///
    /// # Errors
    /// Those of fcntl(2).
    pub fn try_clone(&self) -> io::Result<Self> {
        let Self { identity, first, pageblocks, shared, .. } = *self;
        Ok(Self { fd: self.fd.try_clone()?, identity, first, pageblocks, shared })
    }

    /// Which file it is.
    #[must_use]
    pub const fn identity(&self) -> FileIdentity {
        self.identity
    }

    /// Frees what backs these pageblocks: they are zero for whoever looks next.
    ///
    /// # Errors
    /// Those of fallocate(2).
    ///
    /// # Panics
    /// If the node does not have these pageblocks: the engine never asks for that.
    pub fn zero(&self, extent: Extent) -> io::Result<()> {
        let start = extent.start.0.checked_sub(self.first.0).expect("a pageblock of this node");
        let count = u64::from(extent.count);
        assert!(
            start.checked_add(count).is_some_and(|end| end <= self.pageblocks),
            "{extent} is not in this node"
        );
        if count > 0 {
            let (offset, length) = (start * PAGEBLOCK_BYTES, count * PAGEBLOCK_BYTES);
            memfd::punch_hole(self.fd.as_fd(), offset, length)?;
        }
        Ok(())
    }

    /// Frees everything but these runs, which are ascending and do not overlap.
    ///
    /// # Errors
    /// Those of fallocate(2).
    pub fn zero_all_but(&self, kept: &[Extent]) -> io::Result<()> {
        let end = self.first.0 + self.pageblocks;
        let mut next = self.first.0;
        for run in kept {
            let (start, stop) = (run.start.0.clamp(next, end), run.start.0 + u64::from(run.count));
            self.zero_span(next, start)?;
            next = stop.clamp(next, end);
        }
        self.zero_span(next, end)
    }

    fn zero_span(&self, start: u64, end: u64) -> io::Result<()> {
        if start < end {
            let offset = (start - self.first.0) * PAGEBLOCK_BYTES;
            memfd::punch_hole(self.fd.as_fd(), offset, (end - start) * PAGEBLOCK_BYTES)?;
        }
        Ok(())
    }

    /// Memory that the file uses.
    ///
    /// # Errors
    /// Those of fstat(2).
    pub fn allocated(&self) -> io::Result<ByteSize> {
        Ok(ByteSize(memfd::allocated_bytes(self.fd.as_fd())?))
    }
}

impl AsFd for NodeFile {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::FileExt};

    use super::*;
    use crate::store::{Backing, Store};

    const FIRST: Pageblock = Pageblock(100);

    fn file() -> NodeFile {
        Store::new("far", Backing::Memfd, FIRST, 8).create_file().unwrap()
    }

    fn write(file: &NodeFile, pageblock: u64) {
        let file = fs::File::from(file.fd.try_clone().unwrap());
        file.write_at(b"x", (pageblock - FIRST.0) * PAGEBLOCK_BYTES).unwrap();
    }

    #[test]
    fn what_is_zeroed_uses_no_memory() {
        let file = file();
        write(&file, 101);
        write(&file, 107);
        assert_eq!(file.allocated().unwrap(), ByteSize(8192));
        file.zero(Extent::new(Pageblock(107), 1)).unwrap();
        assert_eq!(file.allocated().unwrap(), ByteSize(4096));
        file.zero(Extent::new(FIRST, 8)).unwrap();
        assert_eq!(file.allocated().unwrap(), ByteSize(0));
    }

    #[test]
    #[should_panic(expected = "is not in this node")]
    fn what_is_not_there_cannot_be_zeroed() {
        let file = file();
        let _ = file.zero(Extent::new(Pageblock(107), 2));
    }

    #[test]
    fn all_but_what_is_kept_goes() {
        let file = file();
        for pageblock in 100..108 {
            write(&file, pageblock);
        }
        file.zero_all_but(&[Extent::new(Pageblock(101), 2), Extent::new(Pageblock(107), 1)])
            .unwrap();
        assert_eq!(file.allocated().unwrap(), ByteSize(3 * 4096));
        file.zero_all_but(&[]).unwrap();
        assert_eq!(file.allocated().unwrap(), ByteSize(0));
    }
}
