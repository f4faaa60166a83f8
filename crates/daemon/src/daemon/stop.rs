//! How a daemon is told from elsewhere to end.

use std::{
    os::fd::OwnedFd,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

/// What another thread may tell a daemon.
#[derive(Debug)]
pub(super) struct Stop {
    pub(super) event: OwnedFd,
    pub(super) now: AtomicBool,
    pub(super) when_idle: AtomicBool,
}

impl Stop {
    /// Nobody has told it anything.
    pub(super) fn new(event: OwnedFd) -> Self {
        Self { event, now: AtomicBool::new(false), when_idle: AtomicBool::new(false) }
    }
}

/// Ends a daemon from another thread.
#[derive(Clone, Debug)]
pub struct StopHandle(pub(super) Arc<Stop>);

impl StopHandle {
    /// Lets the daemon finish what it is doing and end.
    pub fn stop(&self) {
        self.0.now.store(true, Ordering::SeqCst);
        self.wake();
    }

    /// Lets the daemon end as soon as no process is left.
    pub fn stop_when_idle(&self) {
        self.0.when_idle.store(true, Ordering::SeqCst);
        self.wake();
    }

    pub(crate) fn wake(&self) {
        // An eventfd takes at least one event; then it is readable, which is all that is needed.
        let _ = rustix::io::write(&self.0.event, &1u64.to_ne_bytes());
    }
}
