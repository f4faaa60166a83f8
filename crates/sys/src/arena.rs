//! A range of addresses that is ours, and safe ways to change what is mapped there.
//!
//! An [`Arena`] is one reservation: private, anonymous, `PROT_NONE`, `MAP_NORESERVE`, aligned to
//! 2 MiB, never unmapped. Every method checks that it stays inside, so the worst that a mistake
//! can do is to spoil what the arena holds. No Rust object lives in an arena (the memory belongs
//! to the program around us), which is why these methods are safe although they change memory
//! under addresses: nothing that Rust reasons about is there.
//!
//! What a program thread or the kernel writes meanwhile is seen or not seen, never undefined:
//! all access from here is volatile, by pages or by words.
//!
//! All calls are raw system calls (rustix's `linux_raw`): libc's `mmap` family may be interposed
//! by this very library.
//!
//! References: mmap(2), mprotect(2), madvise(2), mincore(2), mlock2(2).

use core::fmt;

use rustix::{
    io::Errno,
    mm::{Advice, MapFlags, MlockFlags, MprotectFlags, ProtFlags},
};

const PAGE: usize = 4096;
const BLOCK: usize = 2 << 20;

/// A range of addresses, in bytes.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct AddrRange {
    /// First address.
    pub start: usize,
    /// Number of bytes.
    pub len: usize,
}

impl AddrRange {
    /// The range of `len` bytes from `start`.
    #[must_use]
    pub const fn new(start: usize, len: usize) -> Self {
        Self { start, len }
    }

    /// The range from `start` up to, and without, `end`; empty when `end` lies before `start`.
    #[must_use]
    pub const fn between(start: usize, end: usize) -> Self {
        Self { start, len: end.saturating_sub(start) }
    }

    /// One past the last address; saturates, so that a range which wraps fits in no arena.
    #[must_use]
    pub const fn end(self) -> usize {
        self.start.saturating_add(self.len)
    }

    /// Whether there is nothing in it.
    #[must_use]
    pub const fn is_empty(self) -> bool {
        self.len == 0
    }

    /// Whether `addr` lies in it.
    #[must_use]
    pub const fn contains(self, addr: usize) -> bool {
        addr >= self.start && addr - self.start < self.len
    }

    /// Whether all of `other` lies in it.
    #[must_use]
    pub const fn contains_range(self, other: Self) -> bool {
        other.start >= self.start
            && other.start - self.start <= self.len
            && other.len <= self.len - (other.start - self.start)
    }

    /// What both have in common; possibly empty.
    #[must_use]
    pub fn intersection(self, other: Self) -> Self {
        let start = self.start.max(other.start);
        Self::between(start, self.end().min(other.end()).max(start))
    }

    /// Whether start and length are whole pages.
    #[must_use]
    pub const fn is_page_aligned(self) -> bool {
        self.start.is_multiple_of(PAGE) && self.len.is_multiple_of(PAGE)
    }

    /// As system calls want it.
    #[must_use]
    pub fn as_ptr(self) -> *mut core::ffi::c_void {
        core::ptr::with_exposed_provenance_mut(self.start)
    }
}

impl fmt::Debug for AddrRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#x}..{:#x}", self.start, self.end())
    }
}

/// What may be done with memory: a set of read, write and execute, with the kernel's bits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Prot(u32);

impl Prot {
    /// Nothing.
    pub const NONE: Self = Self(0);
    /// Read.
    pub const READ: Self = Self(1);
    /// Write.
    pub const WRITE: Self = Self(2);
    /// Execute.
    pub const EXEC: Self = Self(4);
    /// Read and write.
    pub const READ_WRITE: Self = Self(3);

    /// The set with these `PROT_*` bits; `None` when others are among them (`PROT_GROWSDOWN`,
    /// `PROT_MTE`, …).
    #[must_use]
    pub const fn from_bits(bits: u32) -> Option<Self> {
        if bits & !7 == 0 { Some(Self(bits)) } else { None }
    }

    /// The `PROT_*` bits.
    #[must_use]
    pub const fn bits(self) -> u32 {
        self.0
    }

    /// Whether all of `other` is in the set.
    #[must_use]
    pub const fn has(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// The set with `other` added.
    #[must_use]
    pub const fn with(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

impl fmt::Debug for Prot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let letter = |bit, letter| if self.has(bit) { letter } else { '-' };
        write!(
            f,
            "{}{}{}",
            letter(Self::READ, 'r'),
            letter(Self::WRITE, 'w'),
            letter(Self::EXEC, 'x')
        )
    }
}

/// One reserved range of addresses; lives as long as the process.
#[derive(Debug)]
pub struct Arena {
    range: AddrRange,
}

impl Arena {
    /// Reserves `most` bytes, or a half, a quarter, … of them, but at least `least`; sizes are
    /// rounded up to 2 MiB.
    ///
    /// # Errors
    /// The kernel's, when not even `least` can be had.
    pub fn reserve(most: usize, least: usize) -> Result<Self, Errno> {
        let mut size = most;
        loop {
            match Self::reserve_exactly(size) {
                Err(_) if size / 2 >= least.max(BLOCK) => size /= 2,
                other => return other,
            }
        }
    }

    /// Reserves `size` bytes, rounded up to 2 MiB.
    ///
    /// # Errors
    /// The kernel's; `EINVAL` for nothing or more than there are addresses.
    pub fn reserve_exactly(size: usize) -> Result<Self, Errno> {
        let size = size.checked_next_multiple_of(BLOCK).ok_or(Errno::INVAL)?;
        let span = size.checked_add(BLOCK).ok_or(Errno::INVAL)?;
        if size == 0 {
            return Err(Errno::INVAL);
        }
        let flags = MapFlags::PRIVATE | MapFlags::NORESERVE;
        // SAFETY: without MAP_FIXED the kernel picks addresses that nothing uses.
        let at = unsafe {
            rustix::mm::mmap_anonymous(core::ptr::null_mut(), span, ProtFlags::empty(), flags)?
        };
        let start = at.expose_provenance();
        let aligned = start.next_multiple_of(BLOCK);
        let (before, after) = (aligned - start, start + span - (aligned + size));
        for extra in [AddrRange::new(start, before), AddrRange::new(aligned + size, after)] {
            if !extra.is_empty() {
                // SAFETY: the ends of the range just mapped, which nobody uses.
                unsafe { rustix::mm::munmap(extra.as_ptr(), extra.len)? };
            }
        }
        Ok(Self { range: AddrRange::new(aligned, size) })
    }

    /// All of it.
    #[must_use]
    pub const fn range(&self) -> AddrRange {
        self.range
    }

    /// First address.
    #[must_use]
    pub const fn base(&self) -> usize {
        self.range.start
    }

    /// Whether `addr` lies in it.
    #[must_use]
    pub const fn contains(&self, addr: usize) -> bool {
        self.range.contains(addr)
    }

    /// Whether all of `range` lies in it.
    #[must_use]
    pub const fn contains_range(&self, range: AddrRange) -> bool {
        self.range.contains_range(range)
    }

    /// `range`, if it is made of whole pages of this arena.
    fn pages(&self, range: AddrRange) -> Result<AddrRange, Errno> {
        if self.contains_range(range) && range.is_page_aligned() {
            Ok(range)
        } else {
            Err(Errno::INVAL)
        }
    }

    /// Sets what may be done with `range`.
    ///
    /// # Errors
    /// The kernel's (`ENOMEM`: too many mappings); `EINVAL` outside the arena.
    pub fn protect(&self, range: AddrRange, prot: Prot) -> Result<(), Errno> {
        let range = self.pages(range)?;
        if range.is_empty() {
            return Ok(());
        }
        let prot = MprotectFlags::from_bits_retain(prot.bits());
        // SAFETY: see the module: the range is ours, and no Rust object is in it.
        unsafe { rustix::mm::mprotect(range.as_ptr(), range.len, prot) }
    }

    fn advise(&self, range: AddrRange, advice: Advice) -> Result<(), Errno> {
        let range = self.pages(range)?;
        if range.is_empty() {
            return Ok(());
        }
        // SAFETY: see the module: the range is ours, and no Rust object is in it.
        unsafe { rustix::mm::madvise(range.as_ptr(), range.len, advice) }
    }

    /// Drops the pages of private mappings, locked or not (after `mlockall` even our own are):
    /// anonymous ones read as zero afterwards, those of a file as the file. Shared mappings only
    /// lose their page-table entries.
    ///
    /// # Errors
    /// The kernel's; `EINVAL` outside the arena.
    pub fn discard_anonymous(&self, range: AddrRange) -> Result<(), Errno> {
        self.advise(range, Advice::LinuxDontneedLocked)
    }

    /// Punches what is mapped shared there out of its file: it is free and reads as zero.
    /// With pages of 2 MiB only whole ones are punched, and the rest is silently left.
    ///
    /// # Errors
    /// The kernel's (`EINVAL`, `EACCES`: some of it is locked or not mapped shared and
    /// writable); `EINVAL` outside the arena.
    pub fn punch(&self, range: AddrRange) -> Result<(), Errno> {
        self.advise(range, Advice::LinuxRemove)
    }

    /// Sets all bytes to zero, writing only to pages that are not zero yet. The range is
    /// readable and writable.
    ///
    /// # Errors
    /// `EINVAL` outside the arena.
    pub fn zero_fill(&self, range: AddrRange) -> Result<(), Errno> {
        let range = self.pages(range)?;
        for page in (range.start..range.end()).step_by(PAGE) {
            // SAFETY: a page of ours, which the caller knows to be accessible.
            unsafe {
                if !page_is_zero(page) {
                    core::ptr::write_bytes(
                        core::ptr::with_exposed_provenance_mut::<u8>(page),
                        0,
                        PAGE,
                    );
                }
            }
        }
        Ok(())
    }

    /// Replaces what is mapped at `range` with fresh private anonymous memory.
    ///
    /// # Errors
    /// The kernel's; `EINVAL` outside the arena.
    pub fn map_anonymous(&self, range: AddrRange, prot: Prot) -> Result<(), Errno> {
        let range = self.pages(range)?;
        if range.is_empty() {
            return Ok(());
        }
        // NORESERVE, like the reservation around it: mappings that differ in it do not merge.
        let flags = MapFlags::PRIVATE | MapFlags::FIXED | MapFlags::NORESERVE;
        let prot = ProtFlags::from_bits_retain(prot.bits());
        // SAFETY: see the module: the range is ours, and no Rust object is in it.
        unsafe { rustix::mm::mmap_anonymous(range.as_ptr(), range.len, prot, flags)? };
        Ok(())
    }

    /// Puts the reservation back: private, anonymous, not accessible.
    ///
    /// # Errors
    /// The kernel's; `EINVAL` outside the arena.
    pub fn reserve_again(&self, range: AddrRange) -> Result<(), Errno> {
        self.map_anonymous(range, Prot::NONE)
    }

    /// Copies `from` to `to`, which do not overlap, leaving alone pages whose content is zero
    /// and whose target is known to be zero. Both are readable, `to` is writable.
    ///
    /// # Errors
    /// `EINVAL` outside the arena, for different lengths or an overlap.
    pub fn copy_within(&self, from: AddrRange, to: AddrRange) -> Result<(), Errno> {
        let (from, to) = (self.pages(from)?, self.pages(to)?);
        if from.len != to.len || !from.intersection(to).is_empty() {
            return Err(Errno::INVAL);
        }
        // SAFETY: pages of ours that the caller knows to be accessible; they do not overlap.
        unsafe { copy_pages_that_are_not_zero(from.start, to.start, from.len) };
        Ok(())
    }

    /// Locks `range` into memory; with `on_fault`, only what is touched later.
    ///
    /// # Errors
    /// The kernel's (`ENOMEM`, `EAGAIN`, `EPERM`: mlock(2)); `EINVAL` outside the arena.
    pub fn lock(&self, range: AddrRange, on_fault: OnFault) -> Result<(), Errno> {
        let range = self.pages(range)?;
        let flags = match on_fault {
            OnFault::Now => MlockFlags::empty(),
            OnFault::Later => MlockFlags::ONFAULT,
        };
        // SAFETY: locking changes no content.
        unsafe { rustix::mm::mlock_with(range.as_ptr(), range.len, flags) }
    }

    /// Ends [`Arena::lock`].
    ///
    /// # Errors
    /// The kernel's; `EINVAL` outside the arena.
    pub fn unlock(&self, range: AddrRange) -> Result<(), Errno> {
        let range = self.pages(range)?;
        // SAFETY: unlocking changes no content.
        unsafe { rustix::mm::munlock(range.as_ptr(), range.len) }
    }

    /// For each page of `range`, whether it is in memory (mincore(2)). A page that is not may be
    /// a hole, or swapped out: do not take it for zero.
    ///
    /// # Errors
    /// The kernel's; `EINVAL` outside the arena.
    pub fn resident(&self, range: AddrRange, pages: &mut Vec<bool>) -> Result<(), Errno> {
        const AT_ONCE: usize = 512;
        let range = self.pages(range)?;
        pages.clear();
        let mut at = range.start;
        while at < range.end() {
            let count = AT_ONCE.min((range.end() - at) / PAGE);
            let mut bytes = [0u8; AT_ONCE];
            // SAFETY: mincore writes one byte per page to `bytes`, which has room for `count`.
            unsafe {
                crate::kernel::call(
                    libc::SYS_mincore,
                    [at, count * PAGE, bytes.as_mut_ptr().expose_provenance(), 0, 0, 0],
                )?;
            }
            pages.extend(bytes[..count].iter().map(|byte| byte & 1 != 0));
            at += count * PAGE;
        }
        Ok(())
    }

    /// Reads one byte at `addr`: faults its page in. Outside the arena nothing happens.
    ///
    /// The process gets SIGSEGV if the page is not readable: the caller made the mapping.
    pub fn touch(&self, addr: usize) {
        if self.contains(addr) {
            // SAFETY: an address of ours; a volatile read of a byte has no other effect than the
            // fault that is wanted.
            unsafe { core::ptr::with_exposed_provenance::<u8>(addr).read_volatile() };
        }
    }

    /// The word at `addr`, which is a multiple of eight in a readable page; 0 elsewhere.
    #[must_use]
    pub fn load(&self, addr: usize) -> u64 {
        if !addr.is_multiple_of(8) || !self.contains(addr) {
            return 0;
        }
        // SAFETY: an aligned word of ours; others may change it, hence volatile.
        unsafe { core::ptr::with_exposed_provenance::<u64>(addr).read_volatile() }
    }

    /// Sets the word at `addr`, which is a multiple of eight in a writable page; elsewhere
    /// nothing happens.
    pub fn store(&self, addr: usize, value: u64) {
        if addr.is_multiple_of(8) && self.contains(addr) {
            // SAFETY: an aligned word of ours; others may read it, hence volatile.
            unsafe {
                core::ptr::with_exposed_provenance_mut::<u64>(addr).write_volatile(value);
            }
        }
    }
}

/// When memory to be locked comes in.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum OnFault {
    /// All of it, before the call returns.
    Now,
    /// Each page when it is touched (`MLOCK_ONFAULT`).
    Later,
}

/// # Safety
/// `page` is the address of a readable page.
unsafe fn page_is_zero(page: usize) -> bool {
    let words = core::ptr::with_exposed_provenance::<u64>(page);
    // SAFETY: all words are in the page. Volatile: others may write to it.
    (0..PAGE / 8).step_by(8).all(|word| unsafe {
        (0..8).fold(0, |all, i| all | words.add(word + i).read_volatile()) == 0
    })
}

/// Copies page by page, leaving out what is zero; the target is zero there already.
///
/// # Safety
/// Both are multiples of the page size, do not overlap, `from` is readable and `to` writable for
/// `len` bytes, and no Rust object lies in `to`.
pub(crate) unsafe fn copy_pages_that_are_not_zero(from: usize, to: usize, len: usize) {
    for at in (0..len).step_by(PAGE) {
        // SAFETY: the caller's promise.
        unsafe {
            if !page_is_zero(from + at) {
                core::ptr::copy_nonoverlapping(
                    core::ptr::with_exposed_provenance::<u8>(from + at),
                    core::ptr::with_exposed_provenance_mut::<u8>(to + at),
                    PAGE,
                );
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn arena() -> Arena {
        Arena::reserve(1 << 30, 64 << 20).unwrap()
    }

    #[test]
    fn ranges_know_what_they_hold() {
        let range = AddrRange::new(4096, 8192);
        assert!(range.contains(4096) && range.contains(12287) && !range.contains(12288));
        assert!(range.contains_range(AddrRange::new(12288, 0)));
        assert!(!range.contains_range(AddrRange::new(8192, 8192)));
        assert!(!range.contains_range(AddrRange::new(8192, usize::MAX)));
        assert_eq!(range.intersection(AddrRange::new(0, 5000)), AddrRange::new(4096, 904));
        assert!(range.intersection(AddrRange::new(1 << 20, 4096)).is_empty());
        assert!(AddrRange::new(usize::MAX - 4095, 8192).end() == usize::MAX);
    }

    #[test]
    fn an_arena_is_aligned_and_fits_where_less_is_allowed() {
        let arena = arena();
        assert_eq!(arena.base() % BLOCK, 0);
        assert_eq!(arena.range().len, 1 << 30);
        let halved = Arena::reserve(1 << 60, 1 << 20).unwrap();
        assert!(halved.range().len < 1 << 60);
        assert_eq!(Arena::reserve(1 << 60, 1 << 59).unwrap_err(), Errno::NOMEM);
        assert_eq!(Arena::reserve_exactly(0).unwrap_err(), Errno::INVAL);
    }

    #[test]
    fn nothing_outside_is_touched() {
        let arena = arena();
        let outside = AddrRange::new(arena.range().end() - 4096, 8192);
        let odd = AddrRange::new(arena.base() + 1, 4096);
        for range in [outside, odd, AddrRange::new(0, 4096)] {
            assert_eq!(arena.protect(range, Prot::READ), Err(Errno::INVAL));
            assert_eq!(arena.discard_anonymous(range), Err(Errno::INVAL));
            assert_eq!(arena.zero_fill(range), Err(Errno::INVAL));
            assert_eq!(arena.map_anonymous(range, Prot::READ), Err(Errno::INVAL));
        }
        arena.store(0, 1);
        assert_eq!(arena.load(8), 0);
    }

    #[test]
    fn carved_memory_is_zero_and_discarded_memory_is_again() {
        let arena = arena();
        let range = AddrRange::new(arena.base() + 4096, 4 * 4096);
        arena.protect(range, Prot::READ_WRITE).unwrap();
        assert_eq!(arena.load(range.start), 0);
        arena.store(range.start, 7);
        let mut resident = Vec::new();
        arena.resident(range, &mut resident).unwrap();
        assert_eq!(resident, [true, false, false, false]);
        let copy = AddrRange::new(arena.base() + (1 << 20), range.len);
        arena.protect(copy, Prot::READ_WRITE).unwrap();
        arena.copy_within(range, copy).unwrap();
        assert_eq!(arena.load(copy.start), 7);
        arena.zero_fill(copy).unwrap();
        assert_eq!(arena.load(copy.start), 0);
        arena.lock(range, OnFault::Later).unwrap();
        arena.discard_anonymous(range).unwrap();
        assert_eq!(arena.load(range.start), 0);
        arena.store(range.start, 8);
        arena.reserve_again(range).unwrap();
        arena.protect(range, Prot::READ).unwrap();
        assert_eq!(arena.load(range.start), 0);
    }

    #[test]
    fn protections_print_like_maps() {
        assert_eq!(format!("{:?}", Prot::READ.with(Prot::EXEC)), "r-x");
        assert_eq!(Prot::from_bits(0x0100_0000), None);
    }
}
