//! Skipping loudly where something is missing.
//!
//! By the rule of all tests: [`skip`] says it, and panics where `MEMTIDE_NO_SKIP=1`.

use std::env;

pub use memtide_skip::{loud, skip};

use crate::{Error, Kernel, places::which};

/// What to do about anything that is missing.
pub(crate) const REMEDY: &str = "get it with: cargo xtask vm setup";

/// Whether machines can be booted here. If not, says so where nobody can miss it, and panics where
/// nothing may be skipped.
///
/// # Panics
/// If QEMU, busybox, xz or the kernel is missing and `MEMTIDE_NO_SKIP=1`.
#[must_use]
pub fn ready() -> bool {
    match missing() {
        None => true,
        Some(error) => skip(&format!("finds {error}")),
    }
}

/// The first thing that is missing for booting machines, if there is one.
#[must_use]
pub fn missing() -> Option<Error> {
    let commands = ["qemu-system-x86_64", "busybox", "xz"];
    let command = commands.into_iter().find(|command| which(command).is_none());
    command
        .map(|what| Error::Missing { what: what.to_owned(), remedy: REMEDY.to_owned() })
        .or_else(|| Kernel::find().err())
}

/// Whether tests are to try all that they know, or what an ordinary run has time for:
/// `MEMTIDE_TESTBED_THOROUGH=1`.
#[must_use]
pub fn is_thorough() -> bool {
    env::var_os("MEMTIDE_TESTBED_THOROUGH").is_some_and(|value| value == "1")
}
