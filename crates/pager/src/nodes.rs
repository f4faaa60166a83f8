//! The nodes of the pool, as this process has them: one file each.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use memtide_proto::program::{Backing, NodeInfo};
use memtide_sys::{HugePages, data_ranges, memfd};
use memtide_units::{PAGEBLOCK_BYTES, Pageblock};
use rustix::io::Errno;

use crate::blocks::Frame;

/// A pageblock's place in a file.
#[derive(Clone, Copy, Debug)]
pub struct Place<'a> {
    /// The file.
    pub file: BorrowedFd<'a>,
    /// The first byte.
    pub offset: u64,
    /// What the node is made of.
    pub backing: Backing,
}

impl Place<'_> {
    /// Whether transparent huge pages are wanted.
    #[must_use]
    pub const fn huge_pages(&self) -> HugePages {
        match self.backing {
            Backing::MemfdThp => HugePages::Wanted,
            Backing::Memfd | Backing::Hugetlb | Backing::Dcd => HugePages::Default,
        }
    }

    /// Whether it is one page of 2 MiB.
    #[must_use]
    pub const fn is_huge(&self) -> bool {
        matches!(self.backing, Backing::Hugetlb)
    }

    /// Makes the pageblock empty.
    ///
    /// # Errors
    /// The kernel's.
    pub fn punch(&self) -> Result<(), Errno> {
        memfd::punch_hole(self.file, self.offset, PAGEBLOCK_BYTES)
    }

    /// Which bytes of the pageblock hold data, from its start. Huge pages hold data throughout.
    ///
    /// # Errors
    /// The kernel's.
    pub fn data(&self, ranges: &mut Vec<(u64, u64)>) -> Result<(), Errno> {
        if self.is_huge() {
            ranges.clear();
            ranges.push((0, PAGEBLOCK_BYTES));
            return Ok(());
        }
        data_ranges(self.file, self.offset, self.offset + PAGEBLOCK_BYTES, ranges)?;
        for range in ranges {
            *range = (range.0 - self.offset, range.1 - self.offset);
        }
        Ok(())
    }
}

/// The nodes and their files, in the order in which the daemon named them.
#[derive(Debug, Default)]
pub struct Nodes(Vec<(NodeInfo, OwnedFd)>);

impl Nodes {
    /// Pairs nodes with their files; `None` when the numbers differ.
    #[must_use]
    pub fn new(infos: Vec<NodeInfo>, files: Vec<OwnedFd>) -> Option<Self> {
        (infos.len() == files.len()).then(|| Self(infos.into_iter().zip(files).collect()))
    }

    /// Whether another daemon describes the same nodes.
    #[must_use]
    pub fn are(&self, infos: &[NodeInfo]) -> bool {
        self.0.iter().map(|(info, _)| info).eq(infos)
    }

    /// Takes another file for a node, none of whose pageblocks is in use here.
    pub fn replace(&mut self, node: u16, file: OwnedFd) {
        if let Some((_, before)) = self.0.get_mut(usize::from(node)) {
            *before = file;
        }
    }

    /// Where a pageblock lies; `None` when no node has it.
    #[must_use]
    pub fn place(&self, pageblock: Pageblock) -> Option<Place<'_>> {
        self.0.iter().find_map(|(info, file)| {
            let index = pageblock.0.checked_sub(info.first.0)?;
            (index < info.pageblocks).then(|| Place {
                file: file.as_fd(),
                offset: index * PAGEBLOCK_BYTES,
                backing: info.backing,
            })
        })
    }

    /// A pageblock as it stands behind a block.
    #[must_use]
    pub fn frame(&self, pageblock: Pageblock) -> Option<Frame> {
        self.place(pageblock).map(|place| Frame { pageblock, is_huge: place.is_huge() })
    }

    /// The files, to hand to a new daemon.
    pub fn files(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        self.0.iter().map(|(_, file)| file.as_fd())
    }
}
