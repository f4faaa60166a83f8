//! What the daemon has promised this process, and what it has been asked for and not answered.
//!
//! Answers come in the order of the questions. What is asked for is not held yet: a returning
//! process claims what was granted and nothing else, and asks again for the rest. Where no daemon
//! answers, promises hold without one ([`Promises::grant_all`]), and then they are held.
//!
//! Never more is given back than is held: what is charged may be more than what was promised (a
//! forked child's memory is there whatever the answer is), and the daemon ends a connection
//! that gives back what it never had. What is given back while questions are open, beyond
//! what is held, comes off their answers.

use std::collections::VecDeque;

use crate::mailbox::Reply;

/// The answer to a promise that holds.
const GRANTED: u32 = 1;
/// The answer to one that does not.
const REFUSED: u32 = 2;

/// Promises of one process, in blocks.
#[derive(Debug, Default)]
pub struct Promises {
    held: u64,
    asked: VecDeque<Asked>,
    /// Given back before it was held.
    early: u64,
}

#[derive(Debug)]
struct Asked {
    by: u64,
    reply: Reply,
}

impl Promises {
    /// What the daemon has granted, and nobody has given back.
    pub const fn held(&self) -> u64 {
        self.held
    }

    /// What the daemon has been asked for and has not answered, in order.
    pub fn asked(&self) -> impl Iterator<Item = u64> + '_ {
        self.asked.iter().map(|asked| asked.by)
    }

    /// Whether anything is asked for.
    pub fn is_waiting(&self) -> bool {
        !self.asked.is_empty()
    }

    /// The daemon has been asked for `by` more.
    pub fn ask(&mut self, by: u64, reply: Reply) {
        self.asked.push_back(Asked { by, reply });
    }

    /// There is no daemon to ask: `by` more are promised all the same.
    pub fn hold(&mut self, by: u64, reply: &Reply) {
        self.held = self.held.saturating_add(by);
        reply.give(GRANTED);
    }

    /// Gives `by` back: how much of it the daemon must hear of.
    #[must_use]
    pub fn give_back(&mut self, by: u64) -> u64 {
        let now = by.min(self.held);
        self.held -= now;
        let open = self.asked().fold(0, u64::saturating_add);
        self.early = self.early.saturating_add(by - now).min(open);
        now
    }

    /// The daemon has answered the first question: how much goes back to it at once.
    #[must_use]
    pub fn answered(&mut self, granted: bool) -> u64 {
        let Some(Asked { by, reply }) = self.asked.pop_front() else { return 0 };
        if granted {
            self.hold(by, &reply);
        } else {
            reply.give(REFUSED);
        }
        let early = std::mem::take(&mut self.early);
        self.give_back(early)
    }

    /// No daemon has answered for long: all that is asked for is promised without one.
    pub fn grant_all(&mut self) {
        while let Some(Asked { by, reply }) = self.asked.pop_front() {
            self.hold(by, &reply);
        }
        let early = std::mem::take(&mut self.early);
        self.held = self.held.saturating_sub(early);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(reply: &Reply) -> Option<u32> {
        reply.wait(0)
    }

    #[test]
    fn what_is_refused_is_not_held() {
        let mut promises = Promises::default();
        let reply = Reply::default();
        promises.ask(100, reply.clone());
        assert_eq!((promises.held(), answer(&reply)), (0, None));
        assert_eq!(promises.answered(false), 0);
        assert_eq!((promises.held(), answer(&reply)), (0, Some(REFUSED)));
        assert!(!promises.is_waiting());
    }

    #[test]
    fn what_waits_is_asked_for_again_and_not_claimed() {
        let mut promises = Promises::default();
        let (first, second) = (Reply::default(), Reply::default());
        promises.ask(3, Reply::default());
        assert_eq!(promises.answered(true), 0);
        promises.ask(5, first.clone());
        promises.ask(7, second.clone());
        // The daemon is lost and comes back: this is claimed, that is asked for.
        assert_eq!(promises.held(), 3);
        assert_eq!(promises.asked().collect::<Vec<_>>(), [5, 7]);
        assert_eq!((answer(&first), answer(&second)), (None, None));
        assert_eq!(promises.answered(false) + promises.answered(true), 0);
        assert_eq!((promises.held(), answer(&first)), (10, Some(REFUSED)));
        assert_eq!(answer(&second), Some(GRANTED));
    }

    #[test]
    fn without_a_daemon_what_waits_is_held() {
        let mut promises = Promises::default();
        let reply = Reply::default();
        promises.ask(5, reply.clone());
        assert_eq!(promises.give_back(2), 0);
        promises.grant_all();
        assert_eq!((promises.held(), answer(&reply)), (3, Some(GRANTED)));
        assert!(!promises.is_waiting());
    }

    #[test]
    fn no_more_is_given_back_than_is_held() {
        let mut promises = Promises::default();
        promises.hold(4, &Reply::default());
        assert_eq!(promises.give_back(6), 4);
        assert_eq!(promises.held(), 0);
        // What nobody asked for is not owed later.
        promises.ask(3, Reply::default());
        assert_eq!(promises.answered(true), 0);
        assert_eq!(promises.held(), 3);
    }

    #[test]
    fn what_goes_back_before_it_is_granted_comes_off_the_answer() {
        let mut promises = Promises::default();
        promises.ask(3, Reply::default());
        promises.ask(4, Reply::default());
        assert_eq!(promises.give_back(5), 0);
        assert_eq!(promises.answered(true), 3);
        assert_eq!(promises.answered(true), 2);
        assert_eq!(promises.held(), 2);
        // And is forgotten with a refusal.
        promises.ask(4, Reply::default());
        assert_eq!(promises.give_back(5), 2);
        assert_eq!(promises.answered(false), 0);
        promises.ask(1, Reply::default());
        assert_eq!(promises.answered(true), 0);
        assert_eq!(promises.held(), 1);
    }
}
