//! malloc and its relatives: jemalloc's, with glibc's manners.
//!
//! `malloc(0)` is not null. Errors set `errno` (jemalloc does), except where POSIX has them
//! returned. C++'s operators come through malloc and aligned_alloc.

use core::ffi::{c_int, c_void};

use memtide_sys::AddrRange;
use tikv_jemalloc_sys as jemalloc;

use crate::{errno, managed, mapping};

const PAGE: usize = 4096;
/// From this size on an allocation has pages of its own (jemalloc's `SC_LARGE_MINCLASS`).
const LEAST_LARGE: usize = 16 << 10;

/// malloc(3).
///
/// # Safety
/// As C has it.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn malloc(size: usize) -> *mut c_void {
    // SAFETY: jemalloc's malloc takes any size.
    or_after_purge(|| unsafe { jemalloc::malloc(size) })
}

/// calloc(3).
///
/// # Safety
/// As C has it.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn calloc(count: usize, size: usize) -> *mut c_void {
    if managed::has_lost() {
        // jemalloc would write zeros before the memory is fresh.
        let Some(bytes) = count.checked_mul(size) else { return out_of_memory() };
        // SAFETY: malloc takes any size, and what it returns has so many bytes.
        return unsafe {
            let pointer = malloc(bytes);
            if !pointer.is_null() {
                zero(pointer.cast(), bytes);
            }
            pointer
        };
    }
    // SAFETY: jemalloc's calloc takes any sizes and checks their product.
    or_after_purge(|| unsafe { jemalloc::calloc(count, size) })
}

/// realloc(3).
///
/// # Safety
/// As C has it.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn realloc(pointer: *mut c_void, size: usize) -> *mut c_void {
    if size == 0 && !pointer.is_null() {
        // SAFETY: the caller's promise: from this allocator and not freed. Null is its answer.
        return unsafe { jemalloc::realloc(pointer, 0) };
    }
    if managed::has_lost() && !pointer.is_null() {
        // SAFETY: the caller's promise: from this allocator and not freed.
        return unsafe { realloc_fresh(pointer, size) };
    }
    // SAFETY: the caller's promise: null, or from this allocator and not freed; still so when the
    // first try failed.
    or_after_purge(|| unsafe { jemalloc::realloc(pointer, size) })
}

/// reallocarray(3).
///
/// # Safety
/// As C has it.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn reallocarray(
    pointer: *mut c_void,
    count: usize,
    size: usize,
) -> *mut c_void {
    match count.checked_mul(size) {
        // SAFETY: the caller's promise, as in `realloc`.
        Some(bytes) => unsafe { realloc(pointer, bytes) },
        None => out_of_memory(),
    }
}

/// free(3).
///
/// # Safety
/// As C has it.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn free(pointer: *mut c_void) {
    // SAFETY: as in `realloc`.
    unsafe { jemalloc::free(pointer) }
}

/// posix_memalign(3).
///
/// # Safety
/// As C has it.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn posix_memalign(
    pointer: *mut *mut c_void,
    align: usize,
    size: usize,
) -> c_int {
    // SAFETY: the caller's promise: `pointer` can be written to. jemalloc checks the alignment.
    let try_it = || unsafe { jemalloc::posix_memalign(pointer, align, size) };
    let result = match try_it() {
        libc::ENOMEM if purge() => try_it(),
        result => result,
    };
    if result == 0 && managed::has_lost() {
        // SAFETY: jemalloc has just written it, where the caller promises that it can be read.
        unsafe { freshen(*pointer) }
    }
    result
}

/// aligned_alloc(3), which in glibc is memalign.
///
/// # Safety
/// As C has it.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn aligned_alloc(align: usize, size: usize) -> *mut c_void {
    aligned(align, size)
}

/// memalign(3).
///
/// # Safety
/// As C has it.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn memalign(align: usize, size: usize) -> *mut c_void {
    aligned(align, size)
}

/// valloc(3).
///
/// # Safety
/// As C has it.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn valloc(size: usize) -> *mut c_void {
    aligned(PAGE, size)
}

/// pvalloc(3): whole pages.
///
/// # Safety
/// As C has it.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pvalloc(size: usize) -> *mut c_void {
    match size.max(1).checked_next_multiple_of(PAGE) {
        Some(size) => aligned(PAGE, size),
        None => out_of_memory(),
    }
}

/// malloc_usable_size(3).
///
/// # Safety
/// As C has it.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn malloc_usable_size(pointer: *mut c_void) -> usize {
    // SAFETY: as in `realloc`; null has no bytes.
    unsafe { jemalloc::malloc_usable_size(pointer) }
}

/// Memory at a multiple of `align`, which glibc rounds up to a power of two.
fn aligned(align: usize, size: usize) -> *mut c_void {
    let Some(align) = align.max(size_of::<usize>()).checked_next_power_of_two() else {
        errno::set(libc::EINVAL);
        return core::ptr::null_mut();
    };
    let mut pointer = core::ptr::null_mut();
    // SAFETY: `pointer` is a local; the alignment is a power of two and that of a pointer at least.
    match unsafe { posix_memalign(&raw mut pointer, align, size) } {
        0 => pointer,
        error => {
            errno::set(error);
            core::ptr::null_mut()
        }
    }
}

/// Allocates; if that fails, has the pool get back what was freed, and tries again.
#[inline]
fn or_after_purge(allocate: impl Fn() -> *mut c_void) -> *mut c_void {
    let pointer = allocate();
    let pointer = if pointer.is_null() && purge() { allocate() } else { pointer };
    if managed::has_lost() {
        // SAFETY: it has just come from jemalloc, or is null.
        unsafe { freshen(pointer) }
    }
    pointer
}

/// What was lost with its device must not be handed out again as it is: the pages that an
/// allocation has for itself are fresh.
///
/// # Safety
/// `pointer` is null, or has just come from this allocator.
#[cold]
unsafe fn freshen(pointer: *mut c_void) {
    // SAFETY: the caller's promise; null has no bytes.
    let len = unsafe { jemalloc::malloc_usable_size(pointer) };
    let start = pointer.expose_provenance();
    mapping::freshen(if len >= LEAST_LARGE {
        // It has its pages for itself, and one more if jemalloc shifts it in them.
        let room = if is_shifted() { PAGE } else { 0 };
        AddrRange::new(start & !(PAGE - 1), len + room)
    } else {
        // What begins or ends in the same pages may be in use.
        AddrRange::between(start.next_multiple_of(PAGE), (start + len) & !(PAGE - 1))
    });
}

/// Zeros an allocation. Of a large one the whole pages are discarded rather than written to, as
/// jemalloc does it: who asks for more than there is and uses little of it gets it.
///
/// # Safety
/// `pointer` has just come from this allocator, for so many bytes at least.
#[cold]
unsafe fn zero(pointer: *mut u8, len: usize) {
    let start = pointer.expose_provenance();
    let pages = AddrRange::between(start.next_multiple_of(PAGE), (start + len) & !(PAGE - 1));
    // What is locked cannot be discarded, for one.
    let written = if len >= LEAST_LARGE && mapping::discard(pages).is_ok() {
        [(0, pages.start - start), (pages.end() - start, start + len - pages.end())]
    } else {
        [(0, len), (len, 0)]
    };
    for (from, count) in written {
        // SAFETY: the caller's promise: within the allocation, which nobody else knows yet.
        unsafe { pointer.add(from).write_bytes(0, count) }
    }
}

/// `realloc` after something was lost: jemalloc's own would copy before the target is fresh. What
/// gets no bigger stays where it is if that is as good, or if there is no room elsewhere.
///
/// # Safety
/// `pointer` is from this allocator and not freed.
#[cold]
unsafe fn realloc_fresh(pointer: *mut c_void, size: usize) -> *mut c_void {
    // SAFETY: any size but 0, which `realloc` has dealt with; the caller's promise for the old
    // one, which does not overlap the new one.
    unsafe {
        let had = jemalloc::malloc_usable_size(pointer);
        if size <= had && jemalloc::xallocx(pointer, size, 0, 0) == jemalloc::nallocx(size, 0) {
            return pointer;
        }
        let fresh = malloc(size);
        if fresh.is_null() {
            return if size <= had { pointer } else { fresh };
        }
        fresh.cast::<u8>().copy_from_nonoverlapping(pointer.cast(), size.min(had));
        jemalloc::free(pointer);
        fresh
    }
}

/// Whether large allocations begin somewhere in their first page (`cache_oblivious`).
fn is_shifted() -> bool {
    let mut answer = false;
    let mut size = size_of::<bool>();
    // SAFETY: the name is a C string of a control that returns a bool, for which there is room.
    let result = unsafe {
        jemalloc::mallctl(
            c"opt.cache_oblivious".as_ptr(),
            (&raw mut answer).cast(),
            &raw mut size,
            core::ptr::null_mut(),
            0,
        )
    };
    result == 0 && answer
}

/// Gives all that the program has freed back to the pool at once, rather than in a few seconds;
/// false when there is no pool to which that would make a difference.
#[cold]
pub(crate) fn purge() -> bool {
    if managed::get().is_none() {
        return false;
    }
    // 4096 is jemalloc's MALLCTL_ARENAS_ALL.
    // SAFETY: the name is a C string of a control that takes and returns nothing.
    let result = unsafe {
        jemalloc::mallctl(
            c"arena.4096.purge".as_ptr(),
            core::ptr::null_mut(),
            core::ptr::null_mut(),
            core::ptr::null_mut(),
            0,
        )
    };
    result == 0
}

fn out_of_memory() -> *mut c_void {
    errno::set(libc::ENOMEM);
    core::ptr::null_mut()
}
