//! The heap of memtide's own Rust code.
//!
//! Inside a preload library Rust's usual global allocator would be the program's malloc, which is
//! ours: the mmap family, called from inside malloc, would wait for itself. So the library has a
//! small heap (dlmalloc) with pages straight from the kernel, behind one lock.
//!
//! The pager's thread allocates while other threads fork: the lock is held across forks
//! ([`hold_across_fork`]), so that a child finds the heap whole. Signals are blocked while it is
//! held, because a handler may call malloc, which may call mmap, which may allocate here.

use core::alloc::{GlobalAlloc, Layout};

use memtide_sys::{ForkLock, SignalsBlocked};
use rustix::mm::{MapFlags, MremapFlags, ProtFlags};

/// What Rust code of this library allocates from.
#[global_allocator]
static HEAP: Heap = Heap(ForkLock::new(dlmalloc::Dlmalloc::new_with_allocator(KernelPages)));

struct Heap(ForkLock<dlmalloc::Dlmalloc<KernelPages>>);

/// Takes the heap's lock for the length of a fork; the last lock to be taken.
pub(crate) fn hold_across_fork() {
    HEAP.0.hold_across_fork();
}

/// Ends [`hold_across_fork`], in the parent and in the child.
pub(crate) fn release_after_fork() {
    HEAP.0.release_after_fork();
}

// SAFETY: dlmalloc returns memory that nobody else has, of the size and alignment asked for, or
// null; the lock makes it safe to use from several threads.
unsafe impl GlobalAlloc for Heap {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let _signals = SignalsBlocked::new();
        // SAFETY: the size is not zero (the contract of `GlobalAlloc`), the alignment a power of 2.
        unsafe { self.0.lock().malloc(layout.size(), layout.align()) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        let _signals = SignalsBlocked::new();
        // SAFETY: as in `alloc`.
        unsafe { self.0.lock().calloc(layout.size(), layout.align()) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        let _signals = SignalsBlocked::new();
        // SAFETY: the pointer came from here with this layout (the contract of `GlobalAlloc`).
        unsafe { self.0.lock().free(pointer, layout.size(), layout.align()) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, new_size: usize) -> *mut u8 {
        let _signals = SignalsBlocked::new();
        // SAFETY: as in `dealloc`; the new size is not zero.
        unsafe { self.0.lock().realloc(pointer, layout.size(), layout.align(), new_size) }
    }
}

/// Pages from the kernel, by instruction.
struct KernelPages;

// SAFETY: what is returned is memory that nobody else has, readable and writable, of the size
// that is returned with it.
unsafe impl dlmalloc::Allocator for KernelPages {
    fn alloc(&self, size: usize) -> (*mut u8, usize, u32) {
        let prot = ProtFlags::READ | ProtFlags::WRITE;
        // SAFETY: the kernel picks an address that nothing uses.
        let pages = unsafe {
            rustix::mm::mmap_anonymous(core::ptr::null_mut(), size, prot, MapFlags::PRIVATE)
        };
        pages.map_or((core::ptr::null_mut(), 0, 0), |pages| (pages.cast(), size, 0))
    }

    fn remap(&self, at: *mut u8, old: usize, new: usize, can_move: bool) -> *mut u8 {
        let flags = if can_move { MremapFlags::MAYMOVE } else { MremapFlags::empty() };
        // SAFETY: dlmalloc owns what it remaps, and looks at it only at the address returned.
        let pages = unsafe { rustix::mm::mremap(at.cast(), old, new, flags) };
        pages.map_or(core::ptr::null_mut(), <*mut _>::cast)
    }

    fn free_part(&self, at: *mut u8, old: usize, new: usize) -> bool {
        // SAFETY: dlmalloc owns the whole and gives up the end of it.
        unsafe { rustix::mm::munmap(at.add(new).cast(), old - new).is_ok() }
    }

    fn free(&self, at: *mut u8, size: usize) -> bool {
        // SAFETY: dlmalloc owns it and gives it up.
        unsafe { rustix::mm::munmap(at.cast(), size).is_ok() }
    }

    fn can_release_part(&self, _flags: u32) -> bool {
        true
    }

    fn allocates_zeros(&self) -> bool {
        true
    }

    fn page_size(&self) -> usize {
        4096
    }
}
