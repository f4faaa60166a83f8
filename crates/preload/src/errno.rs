//! Telling errors the C way.

use core::ffi::{c_int, c_void};

use rustix::io::Errno;

/// Sets `errno` of this thread.
pub(crate) fn set(errno: c_int) {
    // SAFETY: libc returns the address of a thread-local int.
    unsafe { *libc::__errno_location() = errno }
}

/// 0, or −1 with `errno` set.
pub(crate) fn status(result: Result<(), Errno>) -> c_int {
    match result {
        Ok(()) => 0,
        Err(errno) => {
            set(errno.raw_os_error());
            -1
        }
    }
}

/// The address, or `MAP_FAILED` with `errno` set.
pub(crate) fn address(result: Result<usize, Errno>) -> *mut c_void {
    match result {
        Ok(address) => core::ptr::with_exposed_provenance_mut(address),
        Err(errno) => {
            set(errno.raw_os_error());
            libc::MAP_FAILED
        }
    }
}
