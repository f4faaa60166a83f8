//! The limits: a plain copy, and a move that takes no care.

use std::{io, os::fd::AsFd, time::Instant};

use memtide_sys::{
    AddrRange, Arena, HugePages, Populate, Prot, Sharing,
    memfd::{self, Pages},
};
use memtide_units::PAGEBLOCK_BYTES;

const BLOCK: usize = PAGEBLOCK_BYTES as usize;
const SHARED: (Sharing, Populate, HugePages) = (Sharing::Shared, Populate::Now, HugePages::Default);

/// Two files full of memory, of which one is mapped at a third place.
#[derive(Debug)]
pub struct Limits {
    files: [std::os::fd::OwnedFd; 2],
    views: [Arena; 2],
    target: Arena,
    blocks: usize,
}

impl Limits {
    /// Prepares `blocks` blocks of each.
    ///
    /// # Errors
    /// The kernel's: not enough memory, or huge pages.
    pub fn new(blocks: usize, pages: Pages) -> io::Result<Self> {
        let bytes = blocks * BLOCK;
        let make = || memfd::create("memtide-bench", bytes as u64, pages);
        let files = [make()?, make()?];
        let view = |file: &std::os::fd::OwnedFd| -> io::Result<Arena> {
            let arena = Arena::reserve_exactly(bytes)?;
            arena.map_file(arena.range(), file.as_fd(), 0, Prot::READ_WRITE, SHARED)?;
            arena.zero_fill(arena.range())?;
            Ok(arena)
        };
        let views = [view(&files[0])?, view(&files[1])?];
        let target = Arena::reserve_exactly(bytes)?;
        target.map_file(target.range(), files[0].as_fd(), 0, Prot::READ_WRITE, SHARED)?;
        Ok(Self { files, views, target, blocks })
    }

    /// Bytes a second of a non-temporal copy from one to the other.
    ///
    /// # Errors
    /// The kernel's.
    pub fn plain_copy(&self) -> io::Result<f64> {
        let start = Instant::now();
        for block in 0..self.blocks {
            let offset = block * BLOCK;
            let to = AddrRange::new(self.views[1].base() + offset, BLOCK);
            let from = AddrRange::new(self.views[0].base() + offset, BLOCK);
            self.views[1].copy_from(to, &self.views[0], from)?;
        }
        Ok(self.rate(start))
    }

    /// Bytes a second of moving what is mapped at the third place from one file to the other:
    /// map the destination with its pages, copy, replace the mapping. Nothing is protected: a
    /// writer would lose writes.
    ///
    /// # Errors
    /// The kernel's.
    pub fn naive_move(&self) -> io::Result<f64> {
        let staging = Arena::reserve_exactly(BLOCK)?;
        let start = Instant::now();
        for block in 0..self.blocks {
            let offset = block * BLOCK;
            let file = self.files[1].as_fd();
            let prot = Prot::READ_WRITE;
            staging.map_file(staging.range(), file, offset as u64, prot, SHARED)?;
            let at = AddrRange::new(self.target.base() + offset, BLOCK);
            staging.copy_from(staging.range(), &self.target, at)?;
            self.target.map_file(at, file, offset as u64, prot, SHARED)?;
        }
        let rate = self.rate(start);
        let file = self.files[0].as_fd();
        self.target.map_file(self.target.range(), file, 0, Prot::READ_WRITE, SHARED)?;
        Ok(rate)
    }

    fn rate(&self, start: Instant) -> f64 {
        (self.blocks * BLOCK) as f64 / start.elapsed().as_secs_f64()
    }
}
