//! What happens around fork, `_Fork` and clone.
//!
//! Before the fork: jemalloc takes its locks, memtide freezes and takes its own, last the heap's
//! is taken. Afterwards the other way round; in the child memtide's part comes last, because it
//! starts a thread, which allocates.
//!
//! The order must be this one: a thread that holds a lock of jemalloc's may be inside our mmap.
//! jemalloc registers its handlers at the first malloc of the program; its call is led to us, so
//! that one registration, as early as can be, does all in order. Handlers that the program
//! registers later run before ours, and may use malloc.
//!
//! `vfork`, `posix_spawn`, `system` and clones that share memory need nothing. `_Fork` and clones
//! that do not share it skip all handlers: they are led through the same steps here. (`_Fork`
//! called from a signal handler that interrupted malloc would wait for itself; nothing else can
//! keep such a child's memory apart from its parent's. A `clone` or `fork` by `syscall(2)` is not
//! seen: such a child shares writes with its parent until it executes another program.)

use core::{
    ffi::{CStr, c_int, c_void},
    sync::atomic::{AtomicPtr, Ordering},
};

use crate::{errno, heap, managed};

type Handler = unsafe extern "C" fn();

/// jemalloc's three handlers; null until it is initialised.
static PREPARE: AtomicPtr<c_void> = AtomicPtr::new(core::ptr::null_mut());
static PARENT: AtomicPtr<c_void> = AtomicPtr::new(core::ptr::null_mut());
static CHILD: AtomicPtr<c_void> = AtomicPtr::new(core::ptr::null_mut());

unsafe extern "C" {
    fn __real_pthread_atfork(
        prepare: Option<Handler>,
        parent: Option<Handler>,
        child: Option<Handler>,
    ) -> c_int;
}

/// jemalloc's `pthread_atfork`: keeps its handlers, and registers ours, which call them.
///
/// # Safety
/// As C has it.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn __wrap_pthread_atfork(
    prepare: Option<Handler>,
    parent: Option<Handler>,
    child: Option<Handler>,
) -> c_int {
    for (place, handler) in [(&PREPARE, prepare), (&PARENT, parent), (&CHILD, child)] {
        let handler = handler.map_or(core::ptr::null_mut(), |handler| handler as *mut c_void);
        place.store(handler, Ordering::Release);
    }
    // SAFETY: the handlers are functions of this library, which is never unloaded.
    unsafe { __real_pthread_atfork(Some(before), Some(after_in_parent), Some(after_in_child)) }
}

fn call(place: &AtomicPtr<c_void>) {
    let handler = place.load(Ordering::Acquire);
    if !handler.is_null() {
        // SAFETY: only `__wrap_pthread_atfork` stores there, and only functions of this type.
        unsafe { core::mem::transmute::<*mut c_void, Handler>(handler)() }
    }
}

extern "C" fn before() {
    managed::settle();
    call(&PREPARE);
    managed::prepare();
    heap::hold_across_fork();
}

extern "C" fn after_in_parent() {
    heap::release_after_fork();
    call(&PARENT);
    managed::parent();
}

extern "C" fn after_in_child() {
    heap::release_after_fork();
    call(&CHILD);
    managed::child();
}

/// libc's function of a name that is also one of ours.
pub(crate) fn next(cache: &AtomicPtr<c_void>, name: &CStr) -> *mut c_void {
    let known = cache.load(Ordering::Acquire);
    if !known.is_null() {
        return known;
    }
    // SAFETY: a C string; RTLD_NEXT is allowed in a shared library.
    let found = unsafe { libc::dlsym(libc::RTLD_NEXT, name.as_ptr()) };
    cache.store(found, Ordering::Release);
    found
}

static NEXT_FORK: AtomicPtr<c_void> = AtomicPtr::new(core::ptr::null_mut());
static NEXT_CLONE: AtomicPtr<c_void> = AtomicPtr::new(core::ptr::null_mut());

/// Looks up, while nothing is at stake, what is needed later in tighter places.
pub(crate) fn look_up() {
    next(&NEXT_FORK, c"_Fork");
    next(&NEXT_CLONE, c"clone");
}

/// _Fork(3).
///
/// # Safety
/// As C has it.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn _Fork() -> c_int {
    let real = next(&NEXT_FORK, c"_Fork");
    if real.is_null() {
        errno::set(libc::ENOSYS);
        return -1;
    }
    before();
    // SAFETY: libc's `_Fork` has this type.
    let child = unsafe { core::mem::transmute::<*mut c_void, extern "C" fn() -> c_int>(real)() };
    if child == 0 {
        after_in_child();
    } else {
        let errno = error();
        after_in_parent();
        errno::set(errno);
    }
    child
}

fn error() -> c_int {
    // SAFETY: libc returns the address of a thread-local int.
    unsafe { *libc::__errno_location() }
}

type Main = unsafe extern "C" fn(*mut c_void) -> c_int;
type Clone =
    unsafe extern "C" fn(Main, *mut c_void, c_int, *mut c_void, usize, usize, usize) -> c_int;

/// What a child that does not share memory runs.
struct ChildMain {
    main: Main,
    argument: *mut c_void,
}

/// clone(2), libc's wrapper. Declared variadic in C; its last three arguments count only with
/// certain flags, and travel in registers or on the stack like fixed ones.
///
/// # Safety
/// As C has it.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn clone(
    main: Option<Main>,
    stack: *mut c_void,
    flags: c_int,
    argument: *mut c_void,
    parent_tid: usize,
    tls: usize,
    child_tid: usize,
) -> c_int {
    let real = next(&NEXT_CLONE, c"clone");
    let (Some(main), false) = (main, real.is_null()) else {
        errno::set(libc::EINVAL);
        return -1;
    };
    // SAFETY: libc's `clone` has this type.
    let real = unsafe { core::mem::transmute::<*mut c_void, Clone>(real) };
    if flags & libc::CLONE_VM != 0 {
        // SAFETY: the caller's own arguments.
        return unsafe { real(main, stack, flags, argument, parent_tid, tls, child_tid) };
    }
    let mut start = ChildMain { main, argument };
    before();
    // SAFETY: the caller's own arguments, but for the child's main, which runs the caller's; the
    // child has its own copy of `start`, at the same address.
    let child = unsafe {
        let start = (&raw mut start).cast();
        real(child_main, stack, flags, start, parent_tid, tls, child_tid)
    };
    let errno = error();
    after_in_parent();
    errno::set(errno);
    child
}

unsafe extern "C" fn child_main(start: *mut c_void) -> c_int {
    after_in_child();
    // SAFETY: `clone` passes the address of a `ChildMain`, which is copied with all memory.
    let ChildMain { main, argument } = unsafe { start.cast::<ChildMain>().read() };
    // SAFETY: what the caller of `clone` asked for. libc would end only the calling thread, and
    // the pager's would go on.
    unsafe { libc::_exit(main(argument)) }
}
