//! How jemalloc is set.
//!
//! * No background threads: a program's threads are its own business.
//! * Freed pages are kept for five seconds in case they are wanted again, then go back at once,
//!   without jemalloc's second, lazy stage: lazily freed memory would look used to the pool.
//! * Addresses are retained, memory is not, and promises follow memory: jemalloc is told that this
//!   system does not overcommit. Then it reserves addresses without protection, makes pages
//!   accessible just before it uses them, and fails with `ENOMEM` when that is refused. This is
//!   how a pool that promises no more becomes a malloc that returns null.

use core::ffi::{CStr, c_char, c_int, c_long};

use crate::errno;

/// A string for C, at a fixed address.
#[repr(transparent)]
pub(crate) struct Text(*const c_char);

// SAFETY: it points to a constant.
unsafe impl Sync for Text {}

/// jemalloc's options, under the name that jemalloc looks for.
#[unsafe(no_mangle)]
#[used]
#[allow(non_upper_case_globals, reason = "jemalloc's name for it")]
pub(crate) static _rjem_malloc_conf: Text =
    Text(c"retain:true,background_thread:false,dirty_decay_ms:5000,muzzy_decay_ms:0".as_ptr());

const OVERCOMMIT: &CStr = c"/proc/sys/vm/overcommit_memory";

unsafe extern "C" {
    fn __real_syscall(number: c_long, ...) -> c_long;
}

/// jemalloc's `syscall(2)`: it opens files so. If memory is going to be managed, it does not find
/// the file that says whether the system overcommits, and takes the cautious answer.
///
/// # Safety
/// As the call itself.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn __wrap_syscall(
    number: c_long,
    a: usize,
    b: usize,
    c: usize,
    d: usize,
    e: usize,
    f: usize,
) -> c_long {
    let path = match number {
        #[cfg(target_arch = "x86_64")]
        libc::SYS_open => a,
        libc::SYS_openat => b,
        _ => 0,
    };
    if path != 0 && is_overcommit(path) && is_to_be_managed() {
        errno::set(libc::ENOENT);
        return -1;
    }
    // SAFETY: the caller's own arguments. A variadic function of this kind takes its arguments
    // in the registers of six fixed ones on every Linux ABI that memtide is built for.
    unsafe { __real_syscall(number, a, b, c, d, e, f) }
}

fn is_overcommit(path: usize) -> bool {
    // SAFETY: the path argument of an open call is a C string.
    let path = unsafe { CStr::from_ptr(core::ptr::with_exposed_provenance::<c_char>(path)) };
    path == OVERCOMMIT
}

/// Whether the constructor will look for a daemon; jemalloc starts before it.
fn is_to_be_managed() -> bool {
    // SAFETY: the names are C strings; nobody changes the environment while the first malloc of
    // the program runs.
    let has = |name: &CStr| unsafe { !libc::getenv(name.as_ptr()).is_null() };
    has(c"MEMTIDE_SOCKET") || cfg!(feature = "ordinary-arena") && has(c"MEMTIDE_ORDINARY_ARENA")
}

// What the variable of jemalloc's is declared as: a pointer.
const _: () = assert!(size_of::<Text>() == size_of::<*const c_int>());
