//! A byte a page, in huge pages where the kernel has them.
//!
//! The map of 1 TiB in pages of 4 KiB takes 256 MiB and is looked at all over. In small pages
//! every look walks the processor's page table before it reads: that, not the reading, is what it
//! would wait for. So huge pages are asked for (`MADV_HUGEPAGE`, madvise(2)); where there are none
//! the same bytes lie in small ones. An allocator gives no such memory by itself.

use std::ops::{Deref, DerefMut};

use memmap2::{Advice, MmapMut};

/// A byte a page, all zero at first.
#[derive(Debug)]
pub struct PageMap(MmapMut);

impl PageMap {
    /// For `pages` pages.
    ///
    /// # Panics
    /// Where there is no memory for it, as when a vector cannot be allocated.
    #[must_use]
    pub fn new(pages: u32) -> Self {
        let map = MmapMut::map_anon(pages as usize).expect("memory for a byte a page");
        // A kernel without huge pages refuses, and nothing else is different then.
        let _ = map.advise(Advice::HugePage);
        Self(map)
    }
}

impl Clone for PageMap {
    fn clone(&self) -> Self {
        let mut copy = Self::new(self.len() as u32);
        copy.copy_from_slice(self);
        copy
    }
}

impl Deref for PageMap {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.0
    }
}

impl DerefMut for PageMap {
    fn deref_mut(&mut self) -> &mut [u8] {
        &mut self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_copy_is_the_same_and_its_own() {
        for pages in [0, 1, 4095, 4097, 3 << 20] {
            let mut map = PageMap::new(pages);
            assert!(map.iter().all(|&byte| byte == 0));
            map.iter_mut().step_by(7).for_each(|byte| *byte = 3);
            let copy = map.clone();
            map.fill(1);
            assert_eq!(copy.len(), pages as usize);
            let is_as_before = |(at, &byte): (usize, &u8)| byte == u8::from(at % 7 == 0) * 3;
            assert!(copy.iter().enumerate().all(is_as_before), "{pages} pages");
        }
    }
}
