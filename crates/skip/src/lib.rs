//! What a test says that cannot run here.
//!
//! A test that returns early has passed, as far as the test runner knows, and what it printed is
//! thrown away with the output of all that passed: nobody would learn that it showed nothing. So a
//! test that lacks something says it past the runner, in a line that starts with `SKIPPED`; and
//! where nothing may be skipped (`MEMTIDE_NO_SKIP=1`, as in `.ci/run`) it fails.
//!
//! It is for tests, and for the tasks of `xtask` that test; all of them go by this one rule.

#![forbid(unsafe_code)]

use std::{env, io::Write};

/// Set to `1`, it forbids skipping. Any other value is as none.
pub const VARIABLE: &str = "MEMTIDE_NO_SKIP";

/// Whether nothing may be skipped.
#[must_use]
pub fn is_forbidden() -> bool {
    env::var_os(VARIABLE).is_some_and(|value| value == "1")
}

/// Says that the test of this thread is skipped and why: `reason` goes on from its name, as "needs
/// a compiler" does. Returns false, for conditions that end with it.
///
/// # Panics
/// Where nothing may be skipped.
pub fn skip(reason: &str) -> bool {
    let test = std::thread::current().name().unwrap_or("a test").to_owned();
    loud(&format!("SKIPPED: {test} {reason}"));
    assert!(!is_forbidden(), "{VARIABLE}=1, and {test} {reason}");
    false
}

/// Prints a line on standard error, past the capture of the test runner.
pub fn loud(line: &str) {
    let mut out = std::io::stderr().lock();
    let _ = writeln!(out, "{line}");
}
