//! Tells the linker to lead some of jemalloc's calls through functions of ours.
//!
//! `--wrap=name` makes undefined references to `name` in the objects that become the library
//! (libjemalloc.a and Rust's standard library) references to `__wrap_name`. Programs never see
//! those names' detour: they call the exported `mmap`, `munmap`, … directly.

fn main() {
    let system = ["mmap", "munmap", "mprotect", "madvise", "pthread_atfork"];
    // Names of jemalloc's own, for src/books.rs: one that jemalloc 5.3.1 no longer had under them
    // would fail to link.
    let own = ["_rjem_je_base_new", "_rjem_je_cache_bin_stack_use_thp"];
    for name in system.into_iter().chain(own) {
        println!("cargo::rustc-cdylib-link-arg=-Wl,--wrap={name}");
    }
    println!("cargo::rerun-if-changed=build.rs");
}
