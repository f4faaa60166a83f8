//! `/proc/PID/pagemap`: which pages of a range are in memory, and whether others map them.
//!
//! Eight bytes for each page of the address space. Bits as Documentation/admin-guide/mm/pagemap.rst
//! has them: 63 present, 56 mapped once in the whole system, 0 to 54 the frame number, which is
//! zero without `CAP_SYS_ADMIN`.

use std::{fs::File, io, ops::Range};

use crate::page_words;

/// The page map of a process.
#[derive(Debug)]
pub struct Pagemap(File);

/// A page that is in memory.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Present {
    /// Its address.
    pub address: usize,
    /// Who maps it.
    pub mapped: MappedBy,
}

/// Who maps a page.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum MappedBy {
    /// This mapping alone.
    One,
    /// Others as well: another process, or the same one at another address.
    Several,
}

const PRESENT: u64 = 1 << 63;
const MAPPED_ONCE: u64 = 1 << 56;
const FRAME: u64 = (1 << 55) - 1;
const SMALLEST_PAGE: u64 = 4096;

impl Pagemap {
    /// Of an open `pagemap`.
    #[must_use]
    pub fn of(file: File) -> Self {
        Self(file)
    }

    /// The pages of `page_bytes` (a power of two from 4096) in the range that are in memory. The
    /// range is of such pages.
    ///
    /// # Errors
    /// The kernel's. A process that has ended has no pages.
    pub fn present(&self, range: Range<u64>, page_bytes: u64) -> io::Result<Vec<Present>> {
        let entries = self.entries(&range)?;
        let step = usize::try_from(page_bytes / SMALLEST_PAGE).unwrap_or(usize::MAX).max(1);
        Ok(entries
            .enumerate()
            .step_by(step)
            .filter(|(_, entry)| entry & PRESENT != 0)
            .filter_map(|(page, entry)| {
                let address = usize::try_from(range.start).ok()? + page * SMALLEST_PAGE as usize;
                let once = entry & MAPPED_ONCE != 0;
                let mapped = if once { MappedBy::One } else { MappedBy::Several };
                Some(Present { address, mapped })
            })
            .collect())
    }

    /// Address and frame number of each page of 4 KiB in the range that is in memory; none where
    /// frame numbers may not be seen.
    ///
    /// # Errors
    /// As [`Pagemap::present`].
    pub fn frames(&self, range: Range<u64>) -> io::Result<Vec<(u64, u64)>> {
        let entries = self.entries(&range)?.zip(range.step_by(SMALLEST_PAGE as usize));
        let there = entries.filter(|(entry, _)| entry & PRESENT != 0 && entry & FRAME != 0);
        Ok(there.map(|(entry, address)| (address, entry & FRAME)).collect())
    }

    /// An entry for each page of 4 KiB, up to where the map ends.
    fn entries(&self, range: &Range<u64>) -> io::Result<impl Iterator<Item = u64> + use<>> {
        let pages = range.end.saturating_sub(range.start) / SMALLEST_PAGE;
        let length = usize::try_from(pages).map_err(|_| io::ErrorKind::InvalidInput)?;
        let words = page_words::read(&self.0, range.start / SMALLEST_PAGE, length)?;
        Ok(words.into_iter())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(entries: &[u64]) -> Pagemap {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("pagemap");
        let bytes: Vec<u8> = entries.iter().flat_map(|entry| entry.to_ne_bytes()).collect();
        std::fs::write(&path, bytes).unwrap();
        Pagemap::of(File::open(path).unwrap())
    }

    #[test]
    fn pages_in_memory_are_found_with_who_maps_them() {
        let map = file(&[0, 1 << 63, 1 << 62, 1 << 63 | 1 << 56, 1 << 56]);
        let found = map.present(0x1000..0x5000, 4096).unwrap();
        assert_eq!(
            found,
            [
                Present { address: 0x1000, mapped: MappedBy::Several },
                Present { address: 0x3000, mapped: MappedBy::One },
            ]
        );
        // Where it ends, there are no pages.
        assert_eq!(map.present(0x4000..0x9000, 4096).unwrap(), []);
    }

    #[test]
    fn frames_are_those_of_pages_in_memory_that_may_be_seen() {
        let map = file(&[PRESENT | 7, 0, 1 << 62 | 5, PRESENT | MAPPED_ONCE | 9, PRESENT]);
        assert_eq!(map.frames(0..64 << 12).unwrap(), [(0, 7), (3 << 12, 9)]);
        assert_eq!(map.frames(1 << 12..3 << 12).unwrap(), []);
    }

    #[test]
    fn a_large_page_counts_once() {
        let map = file(&[1 << 63; 1024]);
        let found = map.present(0..4 << 20, 2 << 20).unwrap();
        let addresses: Vec<usize> = found.iter().map(|page| page.address).collect();
        assert_eq!(addresses, [0, 2 << 20]);
    }

    #[test]
    fn pages_of_this_process_are_there_once_touched() {
        let memory = vec![1u8; 4 << 20];
        let start = (memory.as_ptr().addr() as u64).next_multiple_of(4096);
        let map = Pagemap::of(File::open("/proc/self/pagemap").unwrap());
        let found = map.present(start..start + (3 << 20), 4096).unwrap();
        assert_eq!(found.len(), (3 << 20) / 4096);
        assert!(found.iter().all(|page| page.mapped == MappedBy::One));
    }
}
