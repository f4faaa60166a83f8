//! Builds and finds what the tests run: `memtide` with its library, and the C programs.
//!
//! `memtide` is built once per test process in the release profile and copied into an
//! installation tree (`bin/memtide`, `lib/memtide/libmemtide_preload.so`) that every user can
//! read: the tests exercise the layout that `cargo xtask install` makes. `MEMTIDE_BIN` names a
//! binary to use instead, whose library lies where that binary finds it: beside it, or in the
//! `lib/memtide` beside its `bin`.

use std::{
    env, fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::Command,
    sync::OnceLock,
};

use crate::machine::output_of;

/// The directory in which cargo put this test: `target/debug` or the like.
fn profile_directory() -> PathBuf {
    let test = env::current_exe().expect("the path of this test");
    test.ancestors().nth(2).expect("target/<profile>/deps/<test>").to_path_buf()
}

fn workspace() -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.ancestors().nth(2).expect("crates/e2e lies in the workspace").to_path_buf()
}

/// The path of `memtide`, built if need be.
///
/// # Panics
/// If it cannot be built.
#[must_use]
pub fn memtide() -> &'static Path {
    static PATH: OnceLock<PathBuf> = OnceLock::new();
    PATH.get_or_init(|| env::var_os("MEMTIDE_BIN").map_or_else(build_memtide, PathBuf::from))
}

/// The path of the library that [`memtide`] puts into programs.
///
/// # Panics
/// If it is in none of the places where `memtide` looks for it.
#[must_use]
pub fn library() -> PathBuf {
    const NAME: &str = "libmemtide_preload.so";
    let beside = memtide().parent().expect("a file in a directory");
    let prefix = beside.parent().unwrap_or(beside);
    let places = [beside.join(NAME), prefix.join("lib/memtide").join(NAME)];
    let found = places.iter().find(|path| path.is_file());
    found.unwrap_or_else(|| panic!("no library at {places:?}")).clone()
}

fn build_memtide() -> PathBuf {
    let target = profile_directory().parent().expect("the target directory").to_path_buf();
    let cargo = env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut build = Command::new(cargo);
    build
        .args(["build", "--release", "--quiet", "-p", "memtide-cli", "-p", "memtide-preload"])
        .arg("--target-dir")
        .arg(&target)
        .current_dir(workspace());
    let _ = output_of(&mut build);
    let tree = target.join("e2e-install");
    install(&target.join("release/memtide"), &tree.join("bin/memtide"));
    install(
        &target.join("release/libmemtide_preload.so"),
        &tree.join("lib/memtide/libmemtide_preload.so"),
    );
    tree.join("bin/memtide")
}

/// Copies by way of a new file: a running program's own file cannot be written to.
fn install(from: &Path, to: &Path) {
    let directory = to.parent().expect("a file in a directory");
    fs::create_dir_all(directory).expect("creating the installation tree");
    let part = to.with_extension(format!("part{}", std::process::id()));
    fs::copy(from, &part).unwrap_or_else(|e| panic!("copying {}: {e}", from.display()));
    fs::set_permissions(&part, fs::Permissions::from_mode(0o755)).expect("permissions");
    fs::rename(&part, to).expect("renaming into place");
}

/// The path of the proof program `name`, compiled if need be.
///
/// # Panics
/// If there is no C compiler or it refuses.
#[must_use]
pub fn program(name: &str) -> PathBuf {
    let sources = Path::new(env!("CARGO_MANIFEST_DIR")).join("programs");
    let source = sources.join(name).with_extension("c");
    let directory = profile_directory().join("e2e-programs");
    fs::create_dir_all(&directory).expect("creating a directory for programs");
    let binary = directory.join(name);
    let age = |path: &Path| fs::metadata(path).and_then(|m| m.modified()).ok();
    let newest = age(&source).max(age(&sources.join("victim.h")));
    if age(&binary) > newest {
        return binary;
    }
    let part = directory.join(format!("{name}.part{}", std::process::id()));
    let compiler = env::var_os("CC").unwrap_or_else(|| "cc".into());
    let mut compile = Command::new(compiler);
    compile
        .args(["-O2", "-g", "-std=gnu11", "-Wall", "-Wextra", "-Werror", "-pthread", "-o"])
        .args([&part, &source]);
    let _ = output_of(&mut compile);
    fs::rename(&part, &binary).expect("renaming into place");
    binary
}
