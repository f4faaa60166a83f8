//! What steps are carried out on.

use std::{fs::OpenOptions, io, thread, time::Duration};

use memtide_sys::write_within::write_within;

use crate::Root;

/// A kernel that attributes can be written to.
pub trait Kernel {
    /// The machine, to be read.
    fn root(&self) -> &Root;

    /// Writes `value` and a newline to the attribute, in one system call: the kernel takes each
    /// write as a value of its own.
    ///
    /// # Errors
    /// The kernel's; [`io::ErrorKind::TimedOut`] when it was still at it after `limit` and gave
    /// up.
    fn write(&mut self, file: &str, value: &str, limit: Duration) -> io::Result<()>;

    /// Lets time pass.
    fn pause(&mut self, time: Duration);
}

/// This machine.
#[derive(Debug)]
pub struct Live(Root);

/// Why nothing can be written.
#[derive(Debug, thiserror::Error)]
#[error("{root} is not this machine: it can be read and planned on, not changed")]
pub struct LiveError {
    root: String,
}

impl Live {
    /// This machine, to be changed.
    ///
    /// # Errors
    /// [`LiveError`] if `root` is a captured tree.
    pub fn new(root: &Root) -> Result<Self, LiveError> {
        if root.is_live() {
            Ok(Self(root.clone()))
        } else {
            Err(LiveError { root: root.at("").display().to_string() })
        }
    }
}

impl Kernel for Live {
    fn root(&self) -> &Root {
        &self.0
    }

    fn write(&mut self, file: &str, value: &str, limit: Duration) -> io::Result<()> {
        let file = OpenOptions::new().write(true).open(self.0.at(file))?;
        let line = format!("{value}\n");
        let written = write_within(&file, line.as_bytes(), limit)?;
        if written == line.len() { Ok(()) } else { Err(io::ErrorKind::WriteZero.into()) }
    }

    fn pause(&mut self, time: Duration) {
        thread::sleep(time);
    }
}
