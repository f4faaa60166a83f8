//! Priority-inheritance mutexes.
//!
//! The kernel takes and hands on such a mutex itself, and its access to the word of the futex fails
//! with `EFAULT` where a program's would wait for a move to end; glibc then aborts. So a program
//! that asks for the protocol is not moved from then on, and the reason is told.

use core::{
    ffi::{c_int, c_void},
    sync::atomic::AtomicPtr,
};

use memtide_pager::Memory;

use crate::fork::next;

static NEXT: AtomicPtr<c_void> = AtomicPtr::new(core::ptr::null_mut());

/// pthread_mutexattr_setprotocol(3p).
///
/// # Safety
/// As C has it.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pthread_mutexattr_setprotocol(
    attributes: *mut libc::pthread_mutexattr_t,
    protocol: c_int,
) -> c_int {
    type SetProtocol =
        unsafe extern "C" fn(*mut libc::pthread_mutexattr_t, protocol: c_int) -> c_int;
    if protocol == libc::PTHREAD_PRIO_INHERIT
        && let Some(memory) = Memory::get()
    {
        memory.pin_for_priority_inheritance();
    }
    let real = next(&NEXT, c"pthread_mutexattr_setprotocol");
    if real.is_null() {
        return libc::ENOSYS;
    }
    // SAFETY: libc's function of that name has this type, and gets the caller's own arguments.
    unsafe { core::mem::transmute::<*mut c_void, SetProtocol>(real)(attributes, protocol) }
}
