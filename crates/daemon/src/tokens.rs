//! The tokens that are watched.
//!
//! As long as a process is connected its token cannot be gone. Once it is not, and for a forked
//! child that has not connected, the token is looked at again and again: soon, then less and less
//! often. With nothing to look at, nothing is done.

use std::{
    collections::BTreeMap,
    os::fd::{AsFd, OwnedFd},
    time::{Duration, Instant},
};

use memtide_sys::{process, token};
use memtide_units::TokenId;

const SOONEST: Duration = Duration::from_millis(1);
const LATEST: Duration = Duration::from_millis(250);

/// A token and the process that vouches for it.
#[derive(Debug)]
struct Watched {
    /// A child that outlived an earlier daemon has none.
    file: Option<OwnedFd>,
    /// Its process, or its parent: who to ask if the token itself does not tell.
    pid: u32,
    started: u64,
    connected: bool,
    /// When its process disconnected.
    left: Option<Instant>,
}

impl Watched {
    fn is_gone(&self) -> bool {
        // Without the file, or when somebody sealed it himself, the process's own end has to do.
        let told = self.file.as_ref().and_then(|file| token::is_gone(file.as_fd()).ok());
        told.unwrap_or_else(|| !process::is_alive(self.pid, self.started))
    }
}

/// All tokens that somebody holds.
#[derive(Debug, Default)]
pub struct Tokens {
    all: BTreeMap<TokenId, Watched>,
    /// Those to look at: how many.
    loose: usize,
    interval: Duration,
    next: Option<Instant>,
}

impl Tokens {
    /// Keeps a token of a process that is connected.
    pub fn add_connected(&mut self, id: TokenId, file: OwnedFd, pid: u32, started: u64) {
        self.insert(id, Watched { file: Some(file), pid, started, connected: true, left: None });
    }

    /// The same, of one that has no file for it; one that is known is kept.
    pub fn add_without_file(&mut self, id: TokenId, pid: u32, started: u64) {
        if !self.contains(id) {
            self.insert(id, Watched { file: None, pid, started, connected: true, left: None });
        }
    }

    /// How many tokens this process vouches for, its own included.
    #[must_use]
    pub fn children_of(&self, pid: u32) -> usize {
        self.all.values().filter(|watched| watched.pid == pid).count()
    }

    /// Keeps and watches a token of a child of this process.
    pub fn add_child(&mut self, id: TokenId, file: OwnedFd, pid: u32, started: u64, now: Instant) {
        self.insert(id, Watched { file: Some(file), pid, started, connected: false, left: None });
        self.hurry(now);
    }

    fn insert(&mut self, id: TokenId, watched: Watched) {
        let loose = usize::from(!watched.connected);
        if let Some(before) = self.all.insert(id, watched) {
            self.loose -= usize::from(!before.connected);
        }
        self.loose += loose;
    }

    /// Its process is connected, or no longer is.
    pub fn set_connected(&mut self, id: TokenId, connected: bool, now: Instant) {
        let Some(watched) = self.all.get_mut(&id) else { return };
        if watched.connected != connected {
            watched.connected = connected;
            watched.left = (!connected).then_some(now);
            if connected {
                self.loose -= 1;
            } else {
                self.loose += 1;
                self.hurry(now);
            }
        }
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.all.is_empty()
    }

    /// Is this token watched?
    #[must_use]
    pub fn contains(&self, id: TokenId) -> bool {
        self.all.contains_key(&id)
    }

    /// Watches it no more.
    pub fn remove(&mut self, id: TokenId) {
        if let Some(before) = self.all.remove(&id) {
            self.loose -= usize::from(!before.connected);
        }
    }

    /// Something happened: look soon.
    fn hurry(&mut self, now: Instant) {
        self.interval = SOONEST;
        self.next = Some(now + SOONEST);
    }

    /// When to look again; never while nothing is watched.
    #[must_use]
    pub fn due(&self) -> Option<Instant> {
        if self.loose == 0 { None } else { self.next }
    }

    /// Looks, if it is time; forgets and returns those that are gone.
    pub fn look(&mut self, now: Instant) -> Vec<TokenId> {
        if self.due().is_none_or(|due| due > now) {
            return Vec::new();
        }
        let loose = self.all.iter().filter(|(_, watched)| !watched.connected);
        let gone: Vec<TokenId> =
            loose.filter(|(_, watched)| watched.is_gone()).map(|(id, _)| *id).collect();
        for id in &gone {
            self.remove(*id);
        }
        self.interval = if gone.is_empty() { (self.interval * 2).min(LATEST) } else { SOONEST };
        self.next = Some(now + self.interval);
        gone
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_loose_tokens_are_looked_at_and_less_and_less_often() {
        let start = Instant::now();
        let mut tokens = Tokens::default();
        let file = token::create().unwrap();
        let map = token::map(file.as_fd()).unwrap();
        tokens.add_connected(TokenId(1), file, std::process::id(), 0);
        assert_eq!(tokens.due(), None);
        tokens.set_connected(TokenId(1), false, start);
        let mut now = start;
        let mut looks = 0;
        while now < start + Duration::from_secs(10) {
            now = tokens.due().unwrap();
            assert!(tokens.look(now).is_empty());
            looks += 1;
        }
        assert!(looks < 50, "{looks}");
        map.unmap().unwrap();
        assert_eq!(tokens.look(tokens.due().unwrap()), [TokenId(1)]);
        assert_eq!(tokens.due(), None);
    }

    #[test]
    fn a_token_that_tells_nothing_goes_with_its_process() {
        let file: OwnedFd = std::fs::File::open("/dev/null").unwrap().into();
        let pid = std::process::id();
        let mut tokens = Tokens::default();
        let now = Instant::now();
        let started = process::start_time(pid).unwrap();
        tokens.add_child(TokenId(1), file.try_clone().unwrap(), pid, started, now);
        tokens.add_child(TokenId(2), file, pid, started + 1, now);
        assert_eq!(tokens.look(now + LATEST), [TokenId(2)]);
    }
}
