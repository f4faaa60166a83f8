//! malloc and its relatives: jemalloc's, with glibc's manners.
//!
//! `malloc(0)` is not null. Errors set `errno` (jemalloc does), except where POSIX has them
//! returned. C++'s operators come through malloc and aligned_alloc.

use core::ffi::{c_int, c_void};

use tikv_jemalloc_sys as jemalloc;

use crate::errno;

const PAGE: usize = 4096;

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
    match try_it() {
        libc::ENOMEM if purge() => try_it(),
        result => result,
    }
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
    if pointer.is_null() && purge() { allocate() } else { pointer }
}

/// Gives all that the program has freed back to the pool at once, rather than in a few seconds;
/// false when there is no pool to which that would make a difference.
#[cold]
pub(crate) fn purge() -> bool {
    if crate::managed::get().is_none() {
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
