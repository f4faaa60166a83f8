//! Tells the linker to lead some of jemalloc's calls through functions of ours.
//!
//! `--wrap=name` makes undefined references to `name` in the objects that become the library
//! (libjemalloc.a and Rust's standard library) references to `__wrap_name`. Programs never see
//! those names' detour: they call the exported `mmap`, `munmap`, … directly.

fn main() {
    let system = ["mmap", "munmap", "mprotect", "madvise", "pthread_atfork"];
    // Names of jemalloc's own, for src/books.rs, which refers to both of the functions that are
    // wrapped: a jemalloc without one of these would fail to link.
    let own = ["_rjem_je_base_new", "_rjem_je_cache_bin_stack_use_thp"];
    for name in system.into_iter().chain(own) {
        println!("cargo::rustc-cdylib-link-arg=-Wl,--wrap={name}");
    }
    // Otherwise what is not there would be missed only when a program is started.
    println!("cargo::rustc-cdylib-link-arg=-Wl,-z,defs");
    println!("cargo::rerun-if-changed=build.rs");
}
