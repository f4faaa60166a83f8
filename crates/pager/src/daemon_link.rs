//! Talking to the daemon, and doing without it.
//!
//! Everything that happens between two losses of the connection is told in order. When it is
//! lost, orders are dropped (a new daemon gives new ones), promises hold, and the pager tries
//! again until a daemon listens; then it says what this process holds, and asks again for what
//! it has had no answer to.

use std::{
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    time::{Duration, Instant},
};

use memtide_proto::{
    FromProgram, ToProgram,
    codec::{MAX_CHILDREN, MAX_LIST},
    program::OnFull,
};
use memtide_sys::token;
use memtide_units::{Extent, HoldReason};

use crate::{
    blocks::Block,
    join::{self, JoinError},
    link::{Link, LinkError},
    mailbox::Reply,
    moves::Order,
    pager::{Child, Pager},
    touch::OVERFLOW_AFTER,
};

/// Between two tries to reach a daemon.
const RECONNECT: Duration = Duration::from_millis(100);
/// Most often that counters are told.
const COUNTERS: Duration = Duration::from_millis(500);

impl Pager {
    /// Sends a message; false when there is nobody to send it to.
    pub(crate) fn tell(&mut self, message: &FromProgram) -> bool {
        self.tell_with(message, &[])
    }

    pub(crate) fn tell_with(
        &mut self,
        message: &FromProgram,
        descriptors: &[BorrowedFd<'_>],
    ) -> bool {
        let Some(link) = &self.link else { return false };
        match link.send(message, descriptors) {
            Ok(()) => true,
            Err(_) => {
                self.disconnected();
                false
            }
        }
    }

    pub(crate) fn tell_extents(
        &mut self,
        extents: &[Extent],
        message: impl Fn(Vec<Extent>) -> FromProgram,
    ) {
        for part in extents.chunks(MAX_LIST) {
            self.tell(&message(part.to_vec()));
        }
    }

    /// Takes all messages that have come.
    pub(crate) fn serve_daemon(&mut self) {
        while let Some(link) = &mut self.link {
            match link.receive() {
                Ok(Some((message, files))) => self.heard(message, files),
                Ok(None) => return,
                Err(_) => self.disconnected(),
            }
        }
    }

    fn heard(&mut self, message: ToProgram, mut files: Vec<OwnedFd>) {
        match message {
            ToProgram::Grant { extents } => self.granted(&extents),
            ToProgram::Commit { granted } => {
                let back = self.promises.answered(granted);
                self.tell_given_back(back);
            }
            ToProgram::Move { id, pairs } => {
                self.orders.push_back(Order { id, pairs, done: 0 });
                if self.forking {
                    self.refuse_orders(HoldReason::SharedWithChild);
                }
            }
            ToProgram::Thaw { extents } => {
                // What the daemon said before it heard of a fork no longer holds.
                if self.forks_unheard == 0 && !self.has_unknown_child {
                    self.thaws.extend(extents.iter().flat_map(|extent| extent.iter()));
                }
            }
            ToProgram::ForkReady => self.forks_unheard = self.forks_unheard.saturating_sub(1),
            ToProgram::Lost { extents } => self.lost(&extents),
            ToProgram::File { node } => {
                if let Some(file) = files.pop() {
                    self.nodes.replace(node, file);
                }
            }
            ToProgram::Welcome { .. } => {}
            ToProgram::Refused(_) => self.disconnected(),
        }
    }

    /// A promise of blocks; see [`crate::memory::Memory::commit`].
    pub(crate) fn promise(&mut self, by: i64, reply: Option<Reply>) {
        if by == 0 {
            return;
        }
        let Ok(more) = u64::try_from(by) else {
            let back = self.promises.give_back(by.unsigned_abs());
            return self.tell_given_back(back);
        };
        // A promise made without asking is answered all the same.
        let reply = reply.unwrap_or_default();
        if self.tell(&FromProgram::Commit { by }) {
            self.promises.ask(more, reply);
        } else {
            self.promises.hold(more, &reply);
        }
    }

    fn tell_given_back(&mut self, blocks: u64) {
        let by = i64::try_from(blocks).unwrap_or(i64::MAX);
        if by > 0 {
            self.tell(&FromProgram::Commit { by: -by });
        }
    }

    /// When promises that wait for a daemon hold without one. One that is back soon is asked again:
    /// who waits for its quota would have it all at once otherwise, whenever a daemon restarts.
    pub(crate) fn promises_hold_at(&self) -> Option<Instant> {
        let since = self.disconnected_since.filter(|_| self.promises.is_waiting())?;
        Some(since + OVERFLOW_AFTER)
    }

    /// Asks a new daemon for what the old one had not answered.
    fn ask_again(&mut self) {
        let asked: Vec<u64> = self.promises.asked().collect();
        for by in asked {
            let by = i64::try_from(by).unwrap_or(i64::MAX);
            if !self.tell(&FromProgram::Commit { by }) {
                return;
            }
        }
    }

    fn disconnected(&mut self) {
        let now = Instant::now();
        self.link = None;
        self.disconnected_since.get_or_insert(now);
        self.reconnect_at = now + RECONNECT;
        self.asked = false;
        self.forks_unheard = 0;
        self.orders.clear();
        self.thaws.clear();
        self.thaw_at = None;
    }

    /// Tries to come back to a daemon.
    pub(crate) fn reconnect(&mut self) {
        self.reconnect_at = Instant::now() + RECONNECT;
        match self.try_reconnect() {
            Ok(()) => {
                self.disconnected_since = None;
                self.ask_again();
                self.tell_all_pins();
                self.serve_touched();
            }
            Err(_) => self.link = None,
        }
    }

    fn try_reconnect(&mut self) -> Result<(), JoinError> {
        self.children.retain(|child| !token::is_gone(child.file.as_fd()).unwrap_or(false));
        let hello = join::returning(&self.identity, self.memory.label(), self.promises.held());
        let mut files: Vec<BorrowedFd<'_>> = Vec::new();
        files.extend(self.identity.token_file.as_ref().map(AsFd::as_fd));
        files.extend(self.nodes.files());
        let mut link = Link::connect(&self.socket, &hello, &files)?;
        self.claim(&link)?;
        let welcome = join::welcome(&mut link, join::RETURN_WAIT)?;
        if !self.nodes.are(&welcome.nodes) {
            return Err(JoinError::Unexpected);
        }
        self.identity.member = welcome.member;
        self.identity.image = welcome.image;
        self.memory.set_strict(welcome.on_full == OnFull::Fail);
        self.memory.set_patience(welcome.wait);
        self.link = Some(link);
        Ok(())
    }

    /// Says what this process holds.
    fn claim(&self, link: &Link) -> Result<(), LinkError> {
        let mut leased = Vec::new();
        let mut shared = Vec::new();
        let state = self.memory.lock_as_pager();
        for (_, block) in state.blocks.in_use() {
            match block {
                Block::Mapped(frame) => leased.push(frame.pageblock),
                Block::Frozen(frame) => shared.push(frame.pageblock),
                Block::Reserved | Block::Ordinary => {}
            }
        }
        drop(state);
        let mut leased = Extent::from_blocks(leased);
        leased.extend(self.stock.extents());
        let shared = Extent::from_blocks(shared);
        let claim = |leased: &[Extent], shared: &[Extent], children: &[Child], last| {
            let (leased, shared) = (leased.to_vec(), shared.to_vec());
            let files: Vec<BorrowedFd<'_>> =
                children.iter().map(|child| child.file.as_fd()).collect();
            let children = children.iter().map(|child| child.token).collect();
            link.send(&FromProgram::Claim { leased, shared, children, last }, &files)
        };
        for part in leased.chunks(MAX_LIST) {
            claim(part, &[], &[], false)?;
        }
        for part in shared.chunks(MAX_LIST) {
            claim(&[], part, &[], false)?;
        }
        for part in self.children.chunks(MAX_CHILDREN) {
            claim(&[], &[], part, false)?;
        }
        claim(&[], &[], &[], true)
    }

    /// When changed counters should be told.
    pub(crate) fn counters_due(&self) -> Option<Instant> {
        let (told, at) = &self.told_counters;
        (self.link.is_some() && self.counters != *told).then(|| *at + COUNTERS)
    }

    pub(crate) fn tell_counters(&mut self) {
        self.count_mappings();
        self.told_counters = (self.counters, Instant::now());
        self.tell(&FromProgram::Counters(self.counters));
    }
}
