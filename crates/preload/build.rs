//! Tells the linker to lead some of jemalloc's calls through functions of ours.
//!
//! `--wrap=name` makes undefined references to `name` in the objects that become the library
//! (libjemalloc.a and Rust's standard library) references to `__wrap_name`. Programs never see
//! those names' detour: they call the exported `mmap`, `munmap`, … directly.
//!
//! A name that jemalloc does not call, or no longer has, the linker passes over without a word:
//! `tests/wrapped.rs` is told the names and where jemalloc was built, and looks.

use std::env;

/// The system's, which jemalloc calls.
const SYSTEM: [&str; 5] = ["mmap", "munmap", "mprotect", "madvise", "pthread_atfork"];
/// jemalloc's own, for src/books.rs, which it calls from one of its files in another.
const OWN: [&str; 2] = ["_rjem_je_base_new", "_rjem_je_cache_bin_stack_use_thp"];

fn main() {
    for name in SYSTEM.into_iter().chain(OWN) {
        println!("cargo::rustc-cdylib-link-arg=-Wl,--wrap={name}");
    }
    println!("cargo::rustc-env=MEMTIDE_WRAPPED_SYSTEM={}", SYSTEM.join(" "));
    println!("cargo::rustc-env=MEMTIDE_WRAPPED_OWN={}", OWN.join(" "));
    // Where tikv-jemalloc-sys says that it built it; nowhere if it was told to take another.
    if let Ok(root) = env::var("DEP_JEMALLOC_ROOT") {
        println!("cargo::rustc-env=MEMTIDE_JEMALLOC={root}/lib");
    }
    println!("cargo::rerun-if-changed=build.rs");
}
