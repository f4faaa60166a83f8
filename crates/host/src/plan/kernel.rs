//! What steps are carried out on.

use std::{
    fs::OpenOptions,
    io,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::Duration,
};

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

    /// Whether whoever asked for the change wants it no more.
    fn is_stopped(&self) -> bool {
        false
    }
}

/// This machine.
#[derive(Debug)]
pub struct Live {
    root: Root,
    stop: Arc<AtomicBool>,
}

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
            Ok(Self { root: root.clone(), stop: Arc::default() })
        } else {
            Err(LiveError { root: root.at("").display().to_string() })
        }
    }

    /// As soon as `stop` is set, a plan stops before its next step, and is taken back.
    #[must_use]
    pub fn stopped_by(self, stop: Arc<AtomicBool>) -> Self {
        Self { stop, ..self }
    }
}

impl Kernel for Live {
    fn root(&self) -> &Root {
        &self.root
    }

    fn write(&mut self, file: &str, value: &str, limit: Duration) -> io::Result<()> {
        let file = OpenOptions::new().write(true).open(self.root.at(file))?;
        let line = format!("{value}\n");
        let written = write_within(&file, line.as_bytes(), limit)?;
        if written == line.len() { Ok(()) } else { Err(io::ErrorKind::WriteZero.into()) }
    }

    fn pause(&mut self, time: Duration) {
        thread::sleep(time);
    }

    fn is_stopped(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }
}
