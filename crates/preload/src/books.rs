//! jemalloc's own books lie in ordinary memory, outside the pool.
//!
//! A pool refuses memory, and malloc hands that on: null and `ENOMEM`. jemalloc (5.3.1) does so
//! for the program's memory, not for its own. Refused a new arena it goes on with none, and
//! crashes: in an aligned allocation (`large_palloc`), at the end of the thread (`tcache_destroy`).
//! Refused the descriptor of an extent or a node of its tree it drops the extent that it has just
//! mapped (`extent_grow_retained`): promised for good, used by nobody. Refused a thread's cache it
//! complains on the program's standard error.
//!
//! So its books are asked of the kernel, which has no limit but the machine's: the *bases* that
//! arenas, descriptors, tree nodes and controls come from, and by way of the first base the caches
//! of threads. That is a small part of what they are about (128 bytes for an extent of 4 KiB or
//! more, 8 for a page, some 20 KiB for a thread), and what a lost device takes with it never
//! includes them: a program that lives on after a `SIGBUS` has a working malloc.
//!
//! How: jemalloc lets the metadata of an arena come through extent hooks of its own
//! (`metadata_use_hooks`). Their call of `base_new` is led through [`__wrap__rjem_je_base_new`]
//! (build.rs), which has it use ours for the base and the usual ones for all else. The first base
//! is made inside of jemalloc's own file, where no call can be led elsewhere; it is given our hooks
//! by [`take_over`] as soon as it is there.

use core::{
    ffi::{c_uint, c_void},
    marker::{PhantomData, PhantomPinned},
    ptr::null_mut,
};

use rustix::mm::{MapFlags, ProtFlags};
use tikv_jemalloc_sys::extent_hooks_t;

/// jemalloc's `base_t`.
#[repr(C)]
pub struct Base([u8; 0], PhantomData<(*mut u8, PhantomPinned)>);

/// jemalloc's `ehooks_t`.
#[repr(C)]
struct ExtentHooks([u8; 0], PhantomData<(*mut u8, PhantomPinned)>);

unsafe extern "C" {
    fn __real__rjem_je_base_new(
        thread: *mut c_void,
        arena: c_uint,
        hooks: *const extent_hooks_t,
        hooks_for_metadata: bool,
    ) -> *mut Base;
    fn _rjem_je_b0get() -> *mut Base;
    fn _rjem_je_base_extent_hooks_set(
        base: *mut Base,
        hooks: *mut extent_hooks_t,
    ) -> *mut extent_hooks_t;
    fn _rjem_je_base_ehooks_get_for_metadata(base: *mut Base) -> *mut ExtentHooks;
    fn _rjem_je_ehooks_init(hooks: *mut ExtentHooks, to: *mut extent_hooks_t, arena: c_uint);
}

/// What jemalloc calls for its books. Bases are unmapped only with their arena, and arenas of
/// threads never are; what is left out jemalloc does without.
static HOOKS: extent_hooks_t = extent_hooks_t {
    alloc: Some(map),
    dalloc: None,
    destroy: None,
    commit: None,
    decommit: None,
    purge_lazy: None,
    purge_forced: None,
    split: None,
    merge: None,
};

/// jemalloc takes the hooks by a mutable pointer, and only reads them.
const fn hooks() -> *mut extent_hooks_t {
    (&raw const HOOKS).cast_mut()
}

/// The base of a new arena: itself in ordinary memory, its arena's extents by the usual hooks.
///
/// # Safety
/// jemalloc's own call.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn __wrap__rjem_je_base_new(
    thread: *mut c_void,
    arena: c_uint,
    usual: *const extent_hooks_t,
    _hooks_for_metadata: bool,
) -> *mut Base {
    // SAFETY: the caller's own arguments, but for the hooks, which live for ever.
    let base = unsafe { __real__rjem_je_base_new(thread, arena, hooks(), true) };
    if !base.is_null() {
        // SAFETY: nobody else knows the base yet. What the caller passed is what it was to use.
        unsafe { _rjem_je_base_extent_hooks_set(base, usual.cast_mut()) };
    }
    base
}

/// Whether the caches of threads come from the first base rather than from the program's heap.
/// The question is jemalloc's, which means huge pages by it. It is asked in `tcache.c`, whenever a
/// cache is made or destroyed, and answered alike each time. `cache_bin.c` asks itself, which no
/// linker leads here, for an alignment that is ignored then.
#[unsafe(no_mangle)]
pub extern "C" fn __wrap__rjem_je_cache_bin_stack_use_thp() -> bool {
    true
}

/// Gives the first base our hooks. Call once jemalloc has booted; doing it again changes nothing.
pub(crate) fn take_over() {
    // SAFETY: the first base lives for ever once jemalloc has booted, and belongs to arena 0. Its
    // pointer to the hooks is atomic; a thread that reads it meanwhile finds either.
    unsafe {
        let base = _rjem_je_b0get();
        if !base.is_null() {
            _rjem_je_ehooks_init(_rjem_je_base_ehooks_get_for_metadata(base), hooks(), 0);
        }
    }
}

/// Fresh ordinary memory, `size` bytes at a multiple of `align` (a power of two, a page at least).
unsafe extern "C" fn map(
    _hooks: *mut extent_hooks_t,
    wanted: *mut c_void,
    size: usize,
    align: usize,
    zero: *mut bool,
    commit: *mut bool,
    _arena: c_uint,
) -> *mut c_void {
    let Some(span) = size.checked_add(align).filter(|_| wanted.is_null()) else {
        return null_mut();
    };
    let prot = ProtFlags::READ | ProtFlags::WRITE;
    // As jemalloc itself maps: bases are larger than what is used of them at first.
    let flags = MapFlags::PRIVATE | MapFlags::NORESERVE;
    // SAFETY: the kernel picks an address that nothing uses.
    let Ok(at) = (unsafe { rustix::mm::mmap_anonymous(null_mut(), span, prot, flags) }) else {
        return null_mut();
    };
    let before = at.addr().next_multiple_of(align) - at.addr();
    let at = at.wrapping_byte_add(before);
    for (extra, len) in
        [(at.wrapping_byte_sub(before), before), (at.wrapping_byte_add(size), align - before)]
    {
        if len > 0 {
            // SAFETY: an end of the range just mapped, which nobody uses. What cannot be unmapped
            // stays as unused addresses.
            let _ = unsafe { rustix::mm::munmap(extra, len) };
        }
    }
    // SAFETY: jemalloc passes the addresses of two locals.
    unsafe {
        *zero = true;
        *commit = true;
    }
    at
}
