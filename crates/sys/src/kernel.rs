//! The kernel's memory calls, made for the program around us.
//!
//! A library that stands between a program and the kernel must make calls whose arguments are not
//! its own: the program unmaps its memory, not ours. That this is sound is the program's promise,
//! made when it called `munmap`, and so [`Kernel`] is a capability: the preload library, where
//! such calls come in, makes one (which is `unsafe`), and safe code hands it on.
//!
//! The calls are made by instruction, not through libc: libc's would come back to us, and would
//! set `errno` on the way.

use rustix::io::Errno;

use crate::{AddrRange, arena};

/// The right to make memory calls with arguments that come from the program.
#[derive(Clone, Copy, Debug)]
pub struct Kernel(());

impl Kernel {
    /// The right to act for the program.
    ///
    /// # Safety
    /// What is asked of this capability is what the program asked for: it concerns only memory
    /// that the program owns, never that of Rust objects of this library.
    #[must_use]
    pub const unsafe fn for_program() -> Self {
        Self(())
    }

    /// `mmap`, all arguments as the program gave them.
    ///
    /// # Errors
    /// The kernel's.
    pub fn mmap(
        self,
        range: AddrRange,
        prot: i32,
        flags: i32,
        fd: i32,
        offset: i64,
    ) -> Result<usize, Errno> {
        let arguments =
            [range.start, range.len, word(prot), word(flags), word(fd), offset as usize];
        // SAFETY: the promise of `for_program`.
        unsafe { call(libc::SYS_mmap, arguments) }
    }

    /// `munmap`.
    ///
    /// # Errors
    /// The kernel's.
    pub fn munmap(self, range: AddrRange) -> Result<(), Errno> {
        self.on(libc::SYS_munmap, range, 0)
    }

    /// `mprotect`.
    ///
    /// # Errors
    /// The kernel's.
    pub fn mprotect(self, range: AddrRange, prot: i32) -> Result<(), Errno> {
        self.on(libc::SYS_mprotect, range, word(prot))
    }

    /// `pkey_mprotect`.
    ///
    /// # Errors
    /// The kernel's.
    pub fn pkey_mprotect(self, range: AddrRange, prot: i32, key: i32) -> Result<(), Errno> {
        let arguments = [range.start, range.len, word(prot), word(key), 0, 0];
        // SAFETY: the promise of `for_program`.
        unsafe { call(libc::SYS_pkey_mprotect, arguments) }.map(|_| ())
    }

    /// `madvise`.
    ///
    /// # Errors
    /// The kernel's.
    pub fn madvise(self, range: AddrRange, advice: i32) -> Result<(), Errno> {
        self.on(libc::SYS_madvise, range, word(advice))
    }

    /// `mlock2`.
    ///
    /// # Errors
    /// The kernel's.
    pub fn mlock2(self, range: AddrRange, flags: u32) -> Result<(), Errno> {
        self.on(libc::SYS_mlock2, range, flags as usize)
    }

    /// `munlock`.
    ///
    /// # Errors
    /// The kernel's.
    pub fn munlock(self, range: AddrRange) -> Result<(), Errno> {
        self.on(libc::SYS_munlock, range, 0)
    }

    /// `mlockall`.
    ///
    /// # Errors
    /// The kernel's.
    pub fn mlockall(self, flags: i32) -> Result<(), Errno> {
        // SAFETY: the promise of `for_program`.
        unsafe { call(libc::SYS_mlockall, [word(flags), 0, 0, 0, 0, 0]) }.map(|_| ())
    }

    /// `munlockall`.
    ///
    /// # Errors
    /// The kernel's.
    pub fn munlockall(self) -> Result<(), Errno> {
        // SAFETY: the promise of `for_program`.
        unsafe { call(libc::SYS_munlockall, [0; 6]) }.map(|_| ())
    }

    /// `mremap`; `target` counts only with `MREMAP_FIXED`.
    ///
    /// # Errors
    /// The kernel's.
    pub fn mremap(
        self,
        old: AddrRange,
        new_len: usize,
        flags: i32,
        target: usize,
    ) -> Result<usize, Errno> {
        let arguments = [old.start, old.len, new_len, word(flags), target, 0];
        // SAFETY: the promise of `for_program`.
        unsafe { call(libc::SYS_mremap, arguments) }
    }

    /// Copies the pages of `from` that are not zero to `to`, which is zero. Both are accessible,
    /// of whole pages, and do not overlap.
    ///
    /// # Errors
    /// `EINVAL` when they overlap or are not whole pages.
    pub fn copy_pages(self, from: AddrRange, to: usize) -> Result<(), Errno> {
        let target = AddrRange::new(to, from.len);
        if !from.is_page_aligned()
            || !target.is_page_aligned()
            || !from.intersection(target).is_empty()
        {
            return Err(Errno::INVAL);
        }
        // SAFETY: memory of the program's (the promise of `for_program`), checked above.
        unsafe { arena::copy_pages_that_are_not_zero(from.start, to, from.len) };
        Ok(())
    }

    fn on(self, number: libc::c_long, range: AddrRange, third: usize) -> Result<(), Errno> {
        // SAFETY: the promise of `for_program`.
        unsafe { call(number, [range.start, range.len, third, 0, 0, 0]) }.map(|_| ())
    }
}

/// An `int` argument in a register: sign-extended, as C does.
const fn word(value: i32) -> usize {
    value as isize as usize
}

/// Makes a system call.
///
/// # Safety
/// As the call itself.
///
/// # Errors
/// The kernel's.
pub(crate) unsafe fn call(number: libc::c_long, arguments: [usize; 6]) -> Result<usize, Errno> {
    // SAFETY: the caller's promise.
    let result = unsafe { instruction(number as usize, arguments) };
    if (-4095..0).contains(&result) {
        Err(Errno::from_raw_os_error(-result as i32))
    } else {
        Ok(result as usize)
    }
}

/// # Safety
/// As the call itself.
#[cfg(target_arch = "x86_64")]
unsafe fn instruction(number: usize, [a, b, c, d, e, f]: [usize; 6]) -> isize {
    let result;
    // SAFETY: the kernel's calling convention (syscall(2)): rcx and r11 are overwritten.
    unsafe {
        core::arch::asm!(
            "syscall",
            inlateout("rax") number => result,
            in("rdi") a, in("rsi") b, in("rdx") c, in("r10") d, in("r8") e, in("r9") f,
            lateout("rcx") _, lateout("r11") _,
            options(nostack),
        );
    }
    result
}

/// # Safety
/// As the call itself.
#[cfg(target_arch = "aarch64")]
unsafe fn instruction(number: usize, [a, b, c, d, e, f]: [usize; 6]) -> isize {
    let result;
    // SAFETY: the kernel's calling convention (syscall(2)).
    unsafe {
        core::arch::asm!(
            "svc 0",
            in("x8") number,
            inlateout("x0") a => result,
            in("x1") b, in("x2") c, in("x3") d, in("x4") e, in("x5") f,
            options(nostack),
        );
    }
    result
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_of_the_kernel_come_back_as_such() {
        // SAFETY: the only memory concerned is mapped here.
        let kernel = unsafe { Kernel::for_program() };
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
        let nothing = AddrRange::new(0, 0);
        assert_eq!(kernel.mmap(nothing, 0, flags, -1, 0), Err(Errno::INVAL));
        let at = kernel.mmap(AddrRange::new(0, 8192), 3, flags, -1, 0).unwrap();
        kernel.mprotect(AddrRange::new(at, 4096), 1).unwrap();
        kernel.munmap(AddrRange::new(at, 8192)).unwrap();
        assert_eq!(kernel.madvise(AddrRange::new(at, 8192), 4), Err(Errno::NOMEM));
    }
}
