//! How program threads reach the pager.
//!
//! A thread posts a request and rings the *doorbell*: it touches a page that is registered for
//! missing faults, which wakes the pager through the userfaultfd that it polls anyway. No
//! descriptor is involved, so none can be closed or leak. The pager fills the page, which lets the
//! thread go on, and empties it again once nobody is ringing ([`Mailbox::is_ringing`]; sooner, and
//! a thread that wakes late would find it empty and wait again). Only then it takes the requests:
//! one that was posted while the page was full is seen, and one posted later rings again.

use std::sync::{
    Arc,
    atomic::{AtomicU32, Ordering},
};

use memtide_sys::{Arena, ForkLock, futex};

use crate::space::BlockIndex;

/// What a program thread wants.
#[derive(Debug)]
pub enum Request {
    /// A promise of so many more blocks; the reply is 1 (granted) or 2 (refused).
    Commit(i64, Option<Reply>),
    /// This block may be empty: give it back if it is.
    Idle(BlockIndex),
    /// The pins of this block changed.
    Pins(BlockIndex),
    /// Ordinary memory with the same content is to be put behind this block; the reply is 1
    /// (done) or 2.
    MakeOrdinary(BlockIndex, Reply),
    /// A fork is about to happen: freeze; the reply is 1.
    ForkBegin(Reply),
    /// The fork has happened (or failed).
    ForkEnd,
}

/// Where the answer to a request appears; 0 until it does.
#[derive(Clone, Debug, Default)]
pub struct Reply(Arc<AtomicU32>);

impl Reply {
    /// Gives the answer and wakes who waits for it.
    pub fn give(&self, answer: u32) {
        // Release: what the pager did before is seen by who reads the answer.
        self.0.store(answer, Ordering::Release);
        futex::wake_private(&self.0);
    }

    /// Waits a while for the answer; `None` when it has not come yet.
    #[must_use]
    pub fn wait(&self, milliseconds: u64) -> Option<u32> {
        for _ in 0..2 {
            match self.0.load(Ordering::Acquire) {
                0 => futex::wait_private(&self.0, 0, milliseconds),
                answer => return Some(answer),
            }
        }
        None
    }
}

/// Requests on their way to the pager.
#[derive(Debug)]
pub struct Mailbox {
    requests: ForkLock<Vec<Request>>,
    doorbell: Arena,
    /// Threads that are touching the page.
    ringing: AtomicU32,
}

impl Mailbox {
    /// An empty mailbox with the one page of `doorbell` for its doorbell.
    #[must_use]
    pub const fn new(doorbell: Arena) -> Self {
        Self { requests: ForkLock::new(Vec::new()), doorbell, ringing: AtomicU32::new(0) }
    }

    /// The doorbell's page.
    #[must_use]
    pub const fn doorbell(&self) -> &Arena {
        &self.doorbell
    }

    /// Leaves a request. Signals are blocked by the caller.
    pub fn post(&self, request: Request) {
        self.requests.lock().push(request);
    }

    /// Rings the doorbell: returns once the pager has heard it.
    pub fn ring(&self) {
        self.ringing.fetch_add(1, Ordering::SeqCst);
        self.doorbell.touch(self.doorbell.range().start);
        self.ringing.fetch_sub(1, Ordering::SeqCst);
    }

    /// Whether a thread is touching the doorbell's page.
    #[must_use]
    pub fn is_ringing(&self) -> bool {
        self.ringing.load(Ordering::SeqCst) > 0
    }

    /// In a forked child: nobody rings, and nothing is wanted.
    pub fn forget(&self) {
        self.ringing.store(0, Ordering::SeqCst);
        drop(self.take());
    }

    /// Takes all requests.
    pub fn take(&self) -> Vec<Request> {
        std::mem::take(&mut *self.requests.lock())
    }

    /// Keeps the mailbox whole across a fork.
    pub fn hold_across_fork(&self) {
        self.requests.hold_across_fork();
    }

    /// Ends [`Mailbox::hold_across_fork`].
    pub fn release_after_fork(&self) {
        self.requests.release_after_fork();
    }
}
