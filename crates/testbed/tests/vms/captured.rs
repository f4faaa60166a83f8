//! A guest as memtide sees it: captured inside by `memtide capture`, read on this side.

use std::{error::Error, fs, time::Duration};

use memtide_host::capture::{self, Opened};
use memtide_testbed::{Guest, Initramfs};

/// What a test returns: many kinds of errors meet here.
pub type Done<T = ()> = Result<T, Box<dyn Error>>;

/// Reading some thousands of files under software emulation, on a busy computer.
const LIMIT: Duration = Duration::from_secs(120);

/// With `memtide` in it.
pub fn initramfs() -> Initramfs {
    Initramfs::new().program(memtide_e2e::memtide(), "/bin/memtide")
}

/// The guest as it is at this moment.
pub fn capture(guest: &Guest) -> Done<Opened> {
    let script = "rm -f /tmp/captured && memtide capture /tmp/captured";
    let output = guest.run_within(LIMIT, script)?;
    assert_eq!(output.status, 0, "memtide capture: {}", output.stderr);
    let file = tempfile::NamedTempFile::new()?;
    fs::write(file.path(), guest.read("/tmp/captured")?)?;
    Ok(capture::open(file.path())?)
}
