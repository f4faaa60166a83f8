//! The constructor: joins the daemon, if one is named.
//!
//! * `MEMTIDE_SOCKET`: where the daemon listens. Without it nothing is managed.
//! * `MEMTIDE_REQUIRED=1`: a program that cannot be managed does not run.

use core::ffi::c_void;
use std::env;

/// Runs before the program's constructors and those of most libraries; malloc may have been used
/// before already.
#[used]
#[unsafe(link_section = ".init_array")]
static CONSTRUCTOR: extern "C" fn() = constructor;

extern "C" fn constructor() {
    boot_allocator();
    crate::books::take_over();
    crate::fork::look_up();
    #[cfg(feature = "stand-in")]
    if let Ok(how) = env::var("MEMTIDE_STAND_IN")
        && let Err(error) = crate::managed::install(&how)
    {
        eprintln!("memtide: MEMTIDE_STAND_IN: {error}");
    }
    #[cfg(not(feature = "stand-in"))]
    if let Some(socket) = env::var_os("MEMTIDE_SOCKET")
        && let Err(error) = memtide_pager::start(std::path::Path::new(&socket))
    {
        eprintln!("memtide: {error}");
        if env::var_os("MEMTIDE_REQUIRED").is_some_and(|required| required == "1") {
            // SAFETY: ends the process; nothing has run yet that would have to be undone.
            unsafe { libc::_exit(1) };
        }
    }
}

/// The first malloc registers the handlers of fork: it must have happened.
fn boot_allocator() {
    // SAFETY: allocates and frees. The volatile write keeps the pair from being optimised away.
    unsafe {
        let pointer = crate::allocator::malloc(1);
        if !pointer.is_null() {
            pointer.cast::<u8>().write_volatile(0);
        }
        crate::allocator::free(pointer.cast::<c_void>());
    }
}
