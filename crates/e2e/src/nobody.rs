//! As somebody else: what an ordinary user can do.

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::Command,
};

use crate::{Machine, library, memtide, program};

/// The user that owns nothing, and its group.
pub const NOBODY: u32 = 65534;

/// `command` as nobody, with a runtime directory of its own.
///
/// # Panics
/// If that cannot be made; needs root.
#[must_use]
pub fn as_nobody(machine: &Machine, command: &Path) -> Command {
    let runtime = machine.directory().join("nobody");
    fs::create_dir_all(&runtime).expect("a runtime directory");
    rustix::fs::chown(
        &runtime,
        Some(rustix::fs::Uid::from_raw(NOBODY)),
        Some(rustix::fs::Gid::from_raw(NOBODY)),
    )
    .expect("chown");
    let mut whole = Command::new("setpriv");
    let (user, group) = (format!("--reuid={NOBODY}"), format!("--regid={NOBODY}"));
    whole.args([&user, &group, "--clear-groups", "--"]).arg(command);
    whole.env("XDG_RUNTIME_DIR", &runtime).env("HOME", "/nonexistent").current_dir("/");
    whole
}

/// Copies of memtide with its library, and of a proof program, that everybody can read.
///
/// # Panics
/// If they cannot be made.
#[must_use]
pub fn readable_copies(machine: &Machine, proof: &str) -> (PathBuf, PathBuf) {
    fs::set_permissions(machine.directory(), fs::Permissions::from_mode(0o755)).expect("chmod");
    let tree = machine.directory().join("tree");
    let copy = |from: &Path, to: &Path| {
        fs::create_dir_all(to.parent().expect("a directory")).expect("creating directories");
        fs::copy(from, to).unwrap_or_else(|e| panic!("{}: {e}", from.display()));
        fs::set_permissions(to, fs::Permissions::from_mode(0o755)).expect("chmod");
    };
    let command = tree.join("bin/memtide");
    copy(memtide(), &command);
    copy(&library(), &tree.join("lib/memtide/libmemtide_preload.so"));
    let copied = machine.directory().join(proof);
    copy(&program(proof), &copied);
    (command, copied)
}
