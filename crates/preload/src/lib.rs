//! The library that `LD_PRELOAD` puts under a program: malloc and mmap on memtide.
//!
//! The malloc family is jemalloc, unmodified; its memory comes through the mmap family here.
//! Large private anonymous mappings, jemalloc's and the program's, are carved from the arena of
//! `memtide-pager`; everything else goes to the kernel, by instruction.
//!
//! Without `MEMTIDE_SOCKET` the library is just that allocator, and nothing is managed.
//!
//! * [`allocator`]: malloc and its relatives. [`tuning`]: how jemalloc is set. [`books`]: where it
//!   keeps its own memory.
//! * [`mapping`]: mmap and its relatives. [`managed`]: whether there is memory to manage.
//! * [`start`]: the constructor. [`fork`]: what happens around fork, `_Fork` and clone.
//! * [`heap`]: the heap of memtide's own Rust code. [`errno`]: telling errors the C way.
//!
//! What has to hold:
//! * Rust code here never uses the program's malloc: it may run inside it. Its global allocator
//!   is [`heap`], which gets its pages from the kernel.
//! * Everything may be called before constructors run, from the dynamic linker, from signal
//!   handlers, and in a forked child of a program with threads.
//! * The lock order is: jemalloc's locks, those of `memtide-pager`, that of [`heap`].
//!
//! Left out, on purpose: mincore, msync and posix_madvise work on managed memory as they are;
//! `mallinfo`, `mallopt`, `malloc_trim` and `malloc_stats` stay libc's and see an empty heap.
//! A program that makes memory calls by `syscall(2)` or by instruction bypasses the library: it
//! gets unmanaged memory, and must not do so on memory that it got from here.

mod allocator;
mod books;
mod errno;
mod fork;
mod heap;
mod managed;
mod mapping;
mod mutex;
mod start;
mod tuning;
