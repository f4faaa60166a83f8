//! Which blocks are the cheapest to empty: by what is in them.
//!
//! The kernel says of each page what it is (/proc/kpageflags, one word a page,
//! Documentation/admin-guide/mm/pagemap.rst). Free pages cost nothing; pages of programs and of the
//! page cache can be moved; the rest cannot, or not by us. In zone Movable there is no rest, but
//! for pages that somebody pins, which nothing shows: what looks unmovable there is on its way
//! between lists. Of free pages only those of the buddy allocator are marked; those on the lists of
//! processors look like the kernel's, though offlining drains the lists (`zone_pcp_disable`). How
//! many there are /proc/zoneinfo says: a block with no more unmarked pages than that may yet leave.
//! Without the right to read the file (root), the zone is all there is to go by.

use std::cmp::Reverse;

use memtide_units::{ByteSize, PAGE_BYTES, PhysRange};
use serde::Serialize;

use crate::{MemoryBlock, Root, Zone, page_words};

const KPAGEFLAGS: &str = "proc/kpageflags";

/// Bits of `/proc/kpageflags` (include/uapi/linux/kernel-page-flags.h).
mod kpf {
    pub const LRU: u64 = 1 << 5;
    pub const SLAB: u64 = 1 << 7;
    pub const BUDDY: u64 = 1 << 10;
    pub const MMAP: u64 = 1 << 11;
    pub const ANON: u64 = 1 << 12;
    pub const HUGE: u64 = 1 << 17;
    pub const HWPOISON: u64 = 1 << 19;
    pub const NOPAGE: u64 = 1 << 20;
    pub const KSM: u64 = 1 << 21;
    pub const THP: u64 = 1 << 22;
    pub const OFFLINE: u64 = 1 << 23;
    pub const PGTABLE: u64 = 1 << 26;
}

/// What a page is, as far as moving it goes.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
enum Kind {
    Free,
    Movable,
    Hugetlb,
    Slab,
    PageTable,
    Kernel,
    Poisoned,
}

fn kind(flags: u64) -> Option<Kind> {
    let has = |bits| flags & bits != 0;
    Some(if has(kpf::NOPAGE | kpf::OFFLINE) {
        return None;
    } else if has(kpf::HWPOISON) {
        Kind::Poisoned
    } else if has(kpf::BUDDY) {
        Kind::Free
    } else if has(kpf::HUGE) {
        Kind::Hugetlb
    } else if has(kpf::SLAB) {
        Kind::Slab
    } else if has(kpf::PGTABLE) {
        Kind::PageTable
    } else if has(kpf::LRU | kpf::MMAP | kpf::ANON | kpf::KSM | kpf::THP) {
        Kind::Movable
    } else {
        Kind::Kernel
    })
}

/// Bytes of a block by what they are.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize)]
pub struct Contents {
    /// Free.
    pub free: ByteSize,
    /// Of programs, or of the page cache.
    pub movable: ByteSize,
    /// Huge pages of the pool; they move as long as there are free ones elsewhere.
    pub hugetlb: ByteSize,
    /// The kernel's small objects.
    pub slab: ByteSize,
    /// Page tables of programs.
    pub page_tables: ByteSize,
    /// Other memory of the kernel.
    pub kernel: ByteSize,
    /// What of that has no mark at all: it may be free, on the list of a processor.
    #[serde(skip)]
    pub unmarked: ByteSize,
    /// Bad memory.
    pub poisoned: ByteSize,
}

impl Contents {
    /// Of the pages of a range; `None` where they may not be seen.
    #[must_use]
    pub fn of(root: &Root, range: PhysRange) -> Option<Self> {
        let pages = usize::try_from(range.bytes() / u128::from(PAGE_BYTES)).ok()?;
        let file = root.open(KPAGEFLAGS).ok()?;
        let words = page_words::read(&file, range.start().0 / PAGE_BYTES, pages).ok()?;
        if words.is_empty() {
            return None;
        }
        let mut contents = Self::default();
        for word in words {
            contents.count(word);
        }
        Some(contents)
    }

    fn count(&mut self, flags: u64) {
        if flags == 0 {
            self.unmarked.0 += PAGE_BYTES;
        }
        let bytes = match kind(flags) {
            None => return,
            Some(Kind::Free) => &mut self.free,
            Some(Kind::Movable) => &mut self.movable,
            Some(Kind::Hugetlb) => &mut self.hugetlb,
            Some(Kind::Slab) => &mut self.slab,
            Some(Kind::PageTable) => &mut self.page_tables,
            Some(Kind::Kernel) => &mut self.kernel,
            Some(Kind::Poisoned) => &mut self.poisoned,
        };
        bytes.0 += PAGE_BYTES;
    }

    /// What must go elsewhere, and can.
    #[must_use]
    pub const fn to_move(&self) -> ByteSize {
        ByteSize(self.movable.0 + self.hugetlb.0)
    }

    /// What cannot go.
    #[must_use]
    pub const fn unmovable(&self) -> ByteSize {
        ByteSize(self.slab.0 + self.page_tables.0 + self.kernel.0)
    }

    /// Whether what cannot go may all be free, with so much on the lists of processors.
    const fn may_be_free(&self, per_cpu: ByteSize) -> bool {
        self.unmovable().0 == self.unmarked.0 && self.unmarked.0 <= per_cpu.0
    }
}

/// How likely a block is to leave. Ordered: the likeliest first.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Chance {
    /// Nothing is in it.
    Free,
    /// In zone Movable: all in it can be moved, unless pinned.
    Movable,
    /// In a kernel zone, with nothing that must be the kernel's at this moment, or nobody knows.
    Perhaps,
    /// The kernel's own data lies in it.
    None,
}

/// A block that could leave, and what is in it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Candidate {
    /// The block.
    pub block: MemoryBlock,
    /// What is in it, if that may be seen.
    pub contents: Option<Contents>,
    /// How likely it is to leave.
    pub chance: Chance,
}

impl Candidate {
    /// A block, looked into. `per_cpu` is what of its node is free on the lists of processors.
    #[must_use]
    pub fn of(root: &Root, block: &MemoryBlock, per_cpu: ByteSize) -> Self {
        let contents = Contents::of(root, block.range);
        let is_movable = block.zone() == Some(Zone::Movable);
        let chance = match contents {
            Some(contents) if contents.to_move().0 == 0 && contents.unmovable().0 == 0 => {
                Chance::Free
            }
            _ if is_movable => Chance::Movable,
            Some(contents) if !contents.may_be_free(per_cpu) => Chance::None,
            _ => Chance::Perhaps,
        };
        Self { block: block.clone(), contents, chance }
    }

    /// The likeliest first, then those with the least to move, then from the highest address down.
    fn rank(&self) -> (Chance, u64, u64, Reverse<u64>) {
        let contents = self.contents.unwrap_or_default();
        let doubtful = if self.chance == Chance::Perhaps { contents.unmovable().0 } else { 0 };
        (self.chance, doubtful, contents.to_move().0, Reverse(self.block.range.start().0))
    }
}

/// Blocks in the order in which they are best tried.
#[must_use]
pub fn rank(mut candidates: Vec<Candidate>) -> Vec<Candidate> {
    candidates.sort_by_key(Candidate::rank);
    candidates
}

#[cfg(test)]
mod tests {
    use memtide_units::PhysAddr;

    use super::*;
    use crate::{BlockId, BlockState};

    const BLOCK: u64 = 1 << 20;
    const PER_CPU: ByteSize = ByteSize(2 * PAGE_BYTES);

    fn candidate(root: &Root, number: u64, zone: Zone) -> Candidate {
        let range = PhysRange::from_size(PhysAddr(number * BLOCK), BLOCK).unwrap();
        Candidate::of(
            root,
            &MemoryBlock {
                id: BlockId(number),
                range,
                state: BlockState::Online,
                valid_zones: vec![zone],
                nodes: Vec::new(),
            },
            PER_CPU,
        )
    }

    #[test]
    fn free_blocks_go_first_and_the_kernels_last() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("proc")).unwrap();
        let pages = usize::try_from(BLOCK / PAGE_BYTES).unwrap();
        let mut flags = Vec::new();
        // Pages in use in blocks 0 to 4: program's, one program's page, slab, nothing, in between.
        for (count, used) in [(9, kpf::ANON), (1, kpf::LRU), (1, kpf::SLAB), (0, 0), (3, 0)] {
            flags.extend((0..pages).map(|page| if page < count { used } else { kpf::BUDDY }));
        }
        let bytes: Vec<u8> = flags.iter().flat_map(|word| word.to_ne_bytes()).collect();
        std::fs::write(folder.path().join(KPAGEFLAGS), bytes).unwrap();
        let root = Root::new(folder.path());
        let all = [Zone::Movable, Zone::Movable, Zone::Normal, Zone::Normal, Zone::Movable];
        let all = all.iter().enumerate();
        let ranked = rank(all.map(|(at, &zone)| candidate(&root, at as u64, zone)).collect());
        let order: Vec<u64> = ranked.iter().map(|candidate| candidate.block.id.0).collect();
        assert_eq!(order, [3, 4, 1, 0, 2]);
        assert_eq!(ranked[4].chance, Chance::None);
        assert_eq!(ranked[4].contents.unwrap().slab, ByteSize(PAGE_BYTES));
        assert_eq!(ranked[3].contents.unwrap().to_move(), ByteSize(9 * PAGE_BYTES));
    }

    #[test]
    fn free_pages_of_processors_are_not_taken_for_the_kernels() {
        const RESERVED: u64 = 1 << 32;
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("proc")).unwrap();
        let pages = usize::try_from(BLOCK / PAGE_BYTES).unwrap();
        let mut flags = Vec::new();
        // As many as the lists have, none, one more, one that is marked, one page and a slab.
        for used in [&[0, 0][..], &[], &[0, 0, 0], &[RESERVED], &[0, kpf::SLAB]] {
            flags.extend((0..pages).map(|page| used.get(page).copied().unwrap_or(kpf::BUDDY)));
        }
        let bytes: Vec<u8> = flags.iter().flat_map(|word| word.to_ne_bytes()).collect();
        std::fs::write(folder.path().join(KPAGEFLAGS), bytes).unwrap();
        let root = Root::new(folder.path());
        let all: Vec<_> = (0..5).map(|number| candidate(&root, number, Zone::Normal)).collect();
        let chances: Vec<Chance> = all.iter().map(|candidate| candidate.chance).collect();
        use Chance::{Free, None, Perhaps};
        assert_eq!(chances, [Perhaps, Free, None, None, None]);
        // It counts as the kernel's until it has left.
        assert_eq!(all[0].contents.unwrap().kernel, ByteSize(2 * PAGE_BYTES));
        let order: Vec<u64> = rank(all).iter().map(|candidate| candidate.block.id.0).collect();
        assert_eq!(order[..2], [1, 0]);
    }

    #[test]
    fn without_the_right_to_look_the_zone_decides() {
        let folder = tempfile::tempdir().unwrap();
        let root = Root::new(folder.path());
        assert_eq!(candidate(&root, 1, Zone::Movable).chance, Chance::Movable);
        assert_eq!(candidate(&root, 1, Zone::Normal).chance, Chance::Perhaps);
    }

    #[test]
    fn pages_are_told_apart() {
        assert_eq!(kind(kpf::NOPAGE), None);
        assert_eq!(kind(kpf::OFFLINE | kpf::BUDDY), None);
        assert_eq!(kind(kpf::HWPOISON | kpf::ANON), Some(Kind::Poisoned));
        assert_eq!(kind(kpf::HUGE | kpf::MMAP), Some(Kind::Hugetlb));
        assert_eq!(kind(kpf::THP), Some(Kind::Movable));
        assert_eq!(kind(kpf::PGTABLE), Some(Kind::PageTable));
        assert_eq!(kind(0), Some(Kind::Kernel));
    }
}
