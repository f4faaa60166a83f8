//! Killing whoever serves, at a step of its work: before it or after it, without a chance to tidy
//! up.

use std::{
    cell::Cell,
    panic::{self, AssertUnwindSafe},
};

/// The payload of the panic that stands for SIGKILL.
struct Killed;

/// How many steps are left to live; for ever without.
#[derive(Debug, Default)]
pub struct Killing(Cell<Option<usize>>);

impl Killing {
    /// One more step; maybe the last.
    pub fn step(&self) {
        if let Some(left) = self.0.get() {
            if left == 0 {
                self.0.set(None);
                panic::resume_unwind(Box::new(Killed));
            }
            self.0.set(Some(left - 1));
        }
    }

    /// Runs something that is killed at this step. Whether it came to its end before.
    pub fn after<T>(&self, steps: usize, work: impl FnOnce() -> T) -> Option<T> {
        self.0.set(Some(steps));
        let done = panic::catch_unwind(AssertUnwindSafe(work));
        self.0.set(None);
        match done {
            Ok(done) => Some(done),
            Err(payload) if payload.is::<Killed>() => None,
            Err(payload) => panic::resume_unwind(payload),
        }
    }
}
