//! What is owed to whom until when; and what was moved unasked and has to stay for a while.

use super::{Checked, Oracle};
use crate::machine::plan::Nanos;

/// Whether a page that went was moved for the sake of balance before: only then it can have come
/// back too soon.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Went {
    /// It was not.
    First,
    /// It was, and that was long enough ago, or it went elsewhere.
    Again,
}

impl Oracle {
    /// Something is to be answered.
    pub fn owe(&mut self, until: Nanos, what: String) {
        self.due.insert((until, what));
    }

    /// It is answered, or nobody waits any more.
    pub fn settled(&mut self, until: Nanos, what: &str) {
        self.due.remove(&(until, what.to_owned()));
    }

    /// Whether something should have been answered by now.
    pub fn overdue(&self, now: Nanos) -> Checked<()> {
        match self.due.first().filter(|(until, _)| *until < now) {
            Some((until, what)) => {
                Err(format!("starvation: {what} is not answered; it should be by {until} ns"))
            }
            None => Ok(()),
        }
    }

    /// Something else is in a page of a process from now on.
    pub fn new_content(&mut self, page: (u64, u32)) {
        self.left.remove(&page);
    }

    /// A page of a process was ordered from one node to another and went. `settle`: how long it
    /// has to stay, if nobody asked for that.
    pub fn went(
        &mut self,
        page: (u64, u32),
        from: usize,
        to: usize,
        now: Nanos,
        settle: Option<Nanos>,
    ) -> Checked<Went> {
        let Some(settle) = settle else {
            self.left.remove(&page);
            return Ok(Went::First);
        };
        if from == to {
            return Ok(Went::First);
        }
        let before = self.left.insert(page, (from, now));
        if let Some((left, at)) = before
            && left == to
            && now < at + settle
        {
            let ms = (now - at) / 1_000_000;
            return Err(format!(
                "ping-pong: page {} of process {} is back on node {to} after {ms} ms; expected it \
                 to stay away for {} ms",
                page.1,
                page.0,
                settle / 1_000_000
            ));
        }
        Ok(if before.is_some() { Went::Again } else { Went::First })
    }
}
