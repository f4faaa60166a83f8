//! Ending a server from another thread.

use std::{
    io,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use rustix::event::EventfdFlags;

#[derive(Debug)]
struct Shared {
    event: OwnedFd,
    told: AtomicBool,
}

/// The server's end.
#[derive(Debug)]
pub struct Stop(Arc<Shared>);

/// The other end: for a signal handler's thread, or a test.
#[derive(Clone, Debug)]
pub struct StopHandle(Arc<Shared>);

impl Stop {
    /// Nobody has said anything yet.
    ///
    /// # Errors
    /// Those of eventfd(2).
    pub fn new() -> io::Result<Self> {
        let event = rustix::event::eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        Ok(Self(Arc::new(Shared { event, told: AtomicBool::new(false) })))
    }

    /// What ends the server.
    #[must_use]
    pub fn handle(&self) -> StopHandle {
        StopHandle(Arc::clone(&self.0))
    }

    /// Whether it is to end.
    #[must_use]
    pub fn is_told(&self) -> bool {
        // One flag and nothing that it guards: any ordering does.
        self.0.told.load(Ordering::Relaxed)
    }
}

impl AsFd for Stop {
    /// Readable once the server is to end.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.event.as_fd()
    }
}

impl StopHandle {
    /// Lets the server finish what it is doing and end.
    pub fn stop(&self) {
        self.0.told.store(true, Ordering::Relaxed);
        // It takes at least one event; then it is readable, which is all that is needed.
        let _ = rustix::io::write(&self.0.event, &1u64.to_ne_bytes());
    }
}
