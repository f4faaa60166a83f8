//! mmap and its relatives.
//!
//! The exported functions are the program's calls. The `__wrap_` ones are jemalloc's: the linker
//! leads its references there (build.rs), which is how the two are told apart. They differ in one
//! point, see [`Caller`].

use core::ffi::{c_int, c_uint, c_void};

use memtide_pager::calls::{Caller, Calls, map, remap};
use memtide_sys::{AddrRange, Kernel};

use rustix::io::Errno;

use crate::{
    allocator::purge,
    errno::{address, status},
    managed::{self, Memory},
};

/// Calls on managed memory, if there is any.
fn calls(caller: Caller) -> Option<Calls<'static, Memory>> {
    managed::get().map(|memory| Calls::new(memory, kernel(), caller))
}

/// The allocator hands out `range`, which nobody had: none of it is to be lost.
pub(crate) fn freshen(range: AddrRange) {
    if let Some(calls) = calls(Caller::Allocator) {
        calls.freshen(range);
    }
}

/// Makes `range`, whole pages of the program's, read as zero and take no memory.
///
/// # Errors
/// The kernel's for `MADV_DONTNEED`: `EINVAL` for locked pages. A part may be done then.
pub(crate) fn discard(range: AddrRange) -> Result<(), Errno> {
    // The program's call: what is promised for these pages stays so.
    advise_to(Caller::Program, range, libc::MADV_DONTNEED)
}

fn kernel() -> Kernel {
    // SAFETY: used below for what the program, or its allocator, asked for, and nothing else.
    unsafe { Kernel::for_program() }
}

fn range(start: *mut c_void, len: usize) -> AddrRange {
    AddrRange::new(start.expose_provenance(), len)
}

fn map_for(caller: Caller, request: map::Request) -> *mut c_void {
    address(match calls(caller) {
        Some(calls) => match calls.map(request) {
            // What the program has freed may be what is missing. The allocator's own calls are
            // made with its locks held; they are tried again from outside.
            Err(Errno::NOMEM) if caller == Caller::Program && purge() => calls.map(request),
            other => other,
        },
        None => {
            let map::Request { addr, len, prot, flags, fd, offset } = request;
            kernel().mmap(AddrRange::new(addr, len), prot, flags, fd, offset)
        }
    })
}

fn unmap_for(caller: Caller, range: AddrRange) -> c_int {
    status(match calls(caller) {
        Some(calls) => calls.unmap(range.start, range.len),
        None => kernel().munmap(range),
    })
}

fn protect_for(caller: Caller, range: AddrRange, prot: c_int) -> c_int {
    status(match calls(caller) {
        Some(calls) => calls.protect(range.start, range.len, prot),
        None => kernel().mprotect(range, prot),
    })
}

fn advise_to(caller: Caller, range: AddrRange, advice: c_int) -> Result<(), Errno> {
    match calls(caller) {
        Some(calls) => calls.advise(range.start, range.len, advice),
        None => kernel().madvise(range, advice),
    }
}

fn advise_for(caller: Caller, range: AddrRange, advice: c_int) -> c_int {
    status(advise_to(caller, range, advice))
}

/// mmap(2).
///
/// # Safety
/// As C has it.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mmap(
    addr: *mut c_void,
    len: usize,
    prot: c_int,
    flags: c_int,
    fd: c_int,
    offset: i64,
) -> *mut c_void {
    let addr = addr.expose_provenance();
    map_for(Caller::Program, map::Request { addr, len, prot, flags, fd, offset })
}

/// mmap64(3): the same, where offsets have 64 bits anyway.
///
/// # Safety
/// As C has it.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mmap64(
    addr: *mut c_void,
    len: usize,
    prot: c_int,
    flags: c_int,
    fd: c_int,
    offset: i64,
) -> *mut c_void {
    let addr = addr.expose_provenance();
    map_for(Caller::Program, map::Request { addr, len, prot, flags, fd, offset })
}

/// jemalloc's mmap.
///
/// # Safety
/// As C has it.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn __wrap_mmap(
    addr: *mut c_void,
    len: usize,
    prot: c_int,
    flags: c_int,
    fd: c_int,
    offset: i64,
) -> *mut c_void {
    let addr = addr.expose_provenance();
    map_for(Caller::Allocator, map::Request { addr, len, prot, flags, fd, offset })
}

/// munmap(2).
///
/// # Safety
/// As C has it.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn munmap(addr: *mut c_void, len: usize) -> c_int {
    unmap_for(Caller::Program, range(addr, len))
}

/// jemalloc's munmap.
///
/// # Safety
/// As C has it.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn __wrap_munmap(addr: *mut c_void, len: usize) -> c_int {
    unmap_for(Caller::Allocator, range(addr, len))
}

/// mprotect(2).
///
/// # Safety
/// As C has it.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mprotect(addr: *mut c_void, len: usize, prot: c_int) -> c_int {
    protect_for(Caller::Program, range(addr, len), prot)
}

/// jemalloc's mprotect.
///
/// # Safety
/// As C has it.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn __wrap_mprotect(addr: *mut c_void, len: usize, prot: c_int) -> c_int {
    protect_for(Caller::Allocator, range(addr, len), prot)
}

/// pkey_mprotect(2); without a key (−1) it is mprotect.
///
/// # Safety
/// As C has it.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pkey_mprotect(
    addr: *mut c_void,
    len: usize,
    prot: c_int,
    key: c_int,
) -> c_int {
    if key == -1 {
        return protect_for(Caller::Program, range(addr, len), prot);
    }
    status(match calls(Caller::Program) {
        Some(calls) => calls.protect_with_key(addr.expose_provenance(), len, prot, key),
        None => kernel().pkey_mprotect(range(addr, len), prot, key),
    })
}

/// mremap(2). Declared variadic in C; the last argument counts only with `MREMAP_FIXED` (or
/// `MREMAP_DONTUNMAP`), and travels in a register like the others.
///
/// # Safety
/// As C has it.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mremap(
    addr: *mut c_void,
    len: usize,
    new_len: usize,
    flags: c_int,
    target: *mut c_void,
) -> *mut c_void {
    let (addr, target) = (addr.expose_provenance(), target.expose_provenance());
    address(match calls(Caller::Program) {
        Some(calls) => calls.remap(remap::Request { addr, len, new_len, flags, target }),
        None => kernel().mremap(AddrRange::new(addr, len), new_len, flags, target),
    })
}

/// madvise(2).
///
/// # Safety
/// As C has it.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn madvise(addr: *mut c_void, len: usize, advice: c_int) -> c_int {
    advise_for(Caller::Program, range(addr, len), advice)
}

/// jemalloc's madvise.
///
/// # Safety
/// As C has it.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn __wrap_madvise(addr: *mut c_void, len: usize, advice: c_int) -> c_int {
    advise_for(Caller::Allocator, range(addr, len), advice)
}

/// mlock(2).
///
/// # Safety
/// As C has it.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mlock(addr: *const c_void, len: usize) -> c_int {
    lock(addr, len, 0)
}

/// mlock2(2).
///
/// # Safety
/// As C has it.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mlock2(addr: *const c_void, len: usize, flags: c_uint) -> c_int {
    lock(addr, len, flags)
}

fn lock(addr: *const c_void, len: usize, flags: u32) -> c_int {
    let range = range(addr.cast_mut(), len);
    status(match calls(Caller::Program) {
        Some(calls) => calls.lock(range.start, range.len, flags),
        None => kernel().mlock2(range, flags),
    })
}

/// munlock(2).
///
/// # Safety
/// As C has it.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn munlock(addr: *const c_void, len: usize) -> c_int {
    let range = range(addr.cast_mut(), len);
    status(match calls(Caller::Program) {
        Some(calls) => calls.unlock(range.start, range.len),
        None => kernel().munlock(range),
    })
}

/// mlockall(2).
///
/// # Safety
/// As C has it.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mlockall(flags: c_int) -> c_int {
    status(match calls(Caller::Program) {
        Some(calls) => calls.lock_all(flags),
        None => kernel().mlockall(flags),
    })
}

/// munlockall(2).
///
/// # Safety
/// As C has it.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn munlockall() -> c_int {
    status(match calls(Caller::Program) {
        Some(calls) => calls.unlock_all(),
        None => kernel().munlockall(),
    })
}
