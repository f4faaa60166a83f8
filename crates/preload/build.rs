//! Tells the linker to lead some of jemalloc's calls through functions of ours.
//!
//! `--wrap=name` makes undefined references to `name` in the objects that become the library
//! (libjemalloc.a and Rust's standard library) references to `__wrap_name`. Programs never see
//! those names' detour: they call the exported `mmap`, `munmap`, … directly.

fn main() {
    for name in ["mmap", "munmap", "mprotect", "madvise", "pthread_atfork"] {
        println!("cargo::rustc-cdylib-link-arg=-Wl,--wrap={name}");
    }
    println!("cargo::rerun-if-changed=build.rs");
}
