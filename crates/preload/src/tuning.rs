//! How jemalloc is set.
//!
//! * No background threads: a program's threads are its own business.
//! * Freed pages are kept for five seconds in case they are wanted again, then go back at once,
//!   without jemalloc's second, lazy stage: lazily freed memory would look used to the pool.
//! * No `sbrk`: jemalloc would go there when mmap refuses, around the pool.
//! * Addresses are retained, memory is not. jemalloc maps with `MAP_NORESERVE`; the pool counts its
//!   mappings as promised all the same (see `calls::map`), so a pool that promises no more becomes
//!   a malloc that returns null. The other way, telling jemalloc that the system does not
//!   overcommit, makes it change protections at every extent that it reuses: ten times slower.

use core::ffi::{c_char, c_int};

/// A string for C, at a fixed address.
#[repr(transparent)]
pub(crate) struct Text(*const c_char);

// SAFETY: it points to a constant.
unsafe impl Sync for Text {}

/// jemalloc's options, under the name that jemalloc looks for.
#[unsafe(no_mangle)]
#[used]
#[allow(non_upper_case_globals, reason = "jemalloc's name for it")]
pub(crate) static _rjem_malloc_conf: Text = Text(
    c"retain:true,dss:disabled,background_thread:false,dirty_decay_ms:5000,muzzy_decay_ms:0"
        .as_ptr(),
);

// What the variable of jemalloc's is declared as: a pointer.
const _: () = assert!(size_of::<Text>() == size_of::<*const c_int>());
