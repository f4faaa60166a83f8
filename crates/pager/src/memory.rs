//! The memory that program threads and the pager share: the arena, what is carved out of it, what
//! is behind it.
//!
//! One lock ([`Memory::lock`]) is held for every change of mappings in the arena, by program
//! threads in their mmap family and by the pager, which holds it for at most one block's move.
//! Whoever holds it must not touch arena memory that may still be *reserved*: the first touch
//! waits for the pager, which waits for the lock. Signals are blocked meanwhile.
//!
//! Lock order: the fork gate, the lock of memory, then the mailbox's, then the private heap's.

use std::{
    ops::{Deref, DerefMut},
    path::{Path, PathBuf},
    sync::{
        OnceLock,
        atomic::{AtomicBool, AtomicI64, AtomicU32, AtomicU64, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use memtide_sys::{Arena, ForkLock, ForkLockGuard, SignalsBlocked, futex, token::TokenMap};
use memtide_units::TokenId;

use crate::{
    blocks::Blocks,
    mailbox::{Mailbox, Reply, Request},
    space::{BlockIndex, Space},
};

/// Longest that a program thread waits for the pager's answer to a promise, beside what the daemon
/// said that its own may take; then it goes on as if it had been granted. The pager answers within
/// milliseconds unless something is badly wrong.
const ANSWER_WAIT_MS: u64 = 100;
const ANSWER_WAITS: u64 = 50;
/// Most promised blocks that a program keeps without using them.
const SLACK_MOST: i64 = 8;
/// Longest that a fork in a child waits for the child's own pager.
const COMING_WAIT_MS: u64 = 50;
const COMING_WAITS: u32 = 20;

static MEMORY: OnceLock<Memory> = OnceLock::new();

/// What the lock protects.
#[derive(Debug)]
pub struct State {
    /// What is carved out of the arena, and how.
    pub space: Space,
    /// What is behind each block.
    pub blocks: Blocks,
    /// The tokens that this process maps.
    pub(crate) tokens: Tokens,
}

/// The tokens that a process maps: proofs of life.
#[derive(Debug, Default)]
pub struct Tokens {
    /// Its own.
    pub life: Option<(TokenId, TokenMap)>,
    /// That of the child that is about to be forked.
    pub child: Option<(TokenId, TokenMap)>,
}

/// Whether this process has a pager that listens.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u32)]
pub enum PagerState {
    /// None: reservations behave like ordinary memory, promises are granted, posts wait.
    Absent = 0,
    /// It listens.
    Listening = 1,
    /// A forked child's first moment: as absent, but it is on its way.
    Coming = 2,
}

/// The memory of this process that memtide manages.
#[derive(Debug)]
pub struct Memory {
    arena: Arena,
    state: ForkLock<State>,
    mailbox: Mailbox,
    pager: AtomicU32,
    /// Set when a pager that is coming should not take its time.
    hurry: AtomicU32,
    /// Whether promises must be granted by the daemon.
    strict: AtomicBool,
    /// How long the daemon may take to answer, in milliseconds.
    patience_ms: AtomicU64,
    /// Promises that hold but are not used: given back by the program, not yet to the pool.
    slack: AtomicI64,
    /// Posts that wait for the lock to be released before they ring.
    unrung: AtomicUsize,
    /// The program uses priority-inheritance mutexes.
    inherits_priority: AtomicBool,
    /// Whether anything has ever been lost, see [`crate::lost`].
    has_lost: AtomicBool,
    /// One fork at a time.
    fork_gate: ForkLock<()>,
    /// Where the daemon listens.
    socket: OnceLock<PathBuf>,
    /// What the program was started as.
    label: OnceLock<String>,
}

/// The right to change mappings in the arena; ends with a ring if something was posted.
#[derive(Debug)]
pub struct Guard<'a> {
    memory: &'a Memory,
    // Dropped before signals are unblocked.
    state: Option<ForkLockGuard<'a, State>>,
    signals: Option<SignalsBlocked>,
}

impl Memory {
    /// The memory of this process; `None` until it is managed.
    #[must_use]
    pub fn get() -> Option<&'static Self> {
        MEMORY.get()
    }

    /// Makes `arena` the memory of this process. The first caller wins.
    pub(crate) fn install(arena: Arena, doorbell: Arena) -> &'static Self {
        let pages = arena.range().len;
        MEMORY.get_or_init(|| Self {
            state: ForkLock::new(State {
                space: Space::new(arena.range().start, pages),
                blocks: Blocks::new(),
                tokens: Tokens::default(),
            }),
            arena,
            mailbox: Mailbox::new(doorbell),
            pager: AtomicU32::new(PagerState::Absent as u32),
            hurry: AtomicU32::new(0),
            strict: AtomicBool::new(false),
            patience_ms: AtomicU64::new(0),
            slack: AtomicI64::new(0),
            unrung: AtomicUsize::new(0),
            inherits_priority: AtomicBool::new(false),
            has_lost: AtomicBool::new(false),
            fork_gate: ForkLock::new(()),
            socket: OnceLock::new(),
            label: OnceLock::new(),
        })
    }

    /// The range of addresses.
    #[must_use]
    pub const fn arena(&self) -> &Arena {
        &self.arena
    }

    /// Waits for the right to change mappings.
    pub fn lock(&self) -> Guard<'_> {
        let signals = SignalsBlocked::new();
        Guard { memory: self, state: Some(self.state.lock()), signals: Some(signals) }
    }

    /// The same for the pager, which blocks signals always and must not ring for itself.
    pub(crate) fn lock_as_pager(&self) -> ForkLockGuard<'_, State> {
        self.state.lock()
    }

    pub(crate) const fn mailbox(&self) -> &Mailbox {
        &self.mailbox
    }

    pub(crate) fn pager_state(&self) -> PagerState {
        match self.pager.load(Ordering::Acquire) {
            0 => PagerState::Absent,
            1 => PagerState::Listening,
            _ => PagerState::Coming,
        }
    }

    pub(crate) fn set_pager_state(&self, state: PagerState) {
        self.hurry.store(0, Ordering::Relaxed);
        self.pager.store(state as u32, Ordering::Release);
        futex::wake_private(&self.pager);
    }

    /// What was coming listens now; false when it has been given up.
    pub(crate) fn pager_has_come(&self) -> bool {
        let (coming, listening) = (PagerState::Coming as u32, PagerState::Listening as u32);
        let changed =
            self.pager.compare_exchange(coming, listening, Ordering::Release, Ordering::Relaxed);
        futex::wake_private(&self.pager);
        changed.is_ok()
    }

    /// Waits until a pager that is coming is called for, at most so long.
    pub(crate) fn wait_for_hurry(&self, milliseconds: u64) {
        if self.hurry.load(Ordering::Acquire) == 0 {
            futex::wait_private(&self.hurry, 0, milliseconds);
        }
    }

    /// A child is about to fork before its pager listens: it would have no token to give to the
    /// grandchild. The pager is called for; if it does not come in time, it never will, and the
    /// daemon goes on counting both as the one that it knows.
    pub(crate) fn settle_pager(&self) {
        let coming = PagerState::Coming as u32;
        for _ in 0..COMING_WAITS {
            if self.pager_state() != PagerState::Coming {
                return;
            }
            self.hurry.store(1, Ordering::Release);
            futex::wake_private(&self.hurry);
            futex::wait_private(&self.pager, coming, COMING_WAIT_MS);
        }
        self.give_up_pager();
    }

    fn give_up_pager(&self) {
        let (coming, absent) = (PagerState::Coming as u32, PagerState::Absent as u32);
        let _ = self.pager.compare_exchange(coming, absent, Ordering::AcqRel, Ordering::Relaxed);
    }

    pub(crate) fn set_strict(&self, strict: bool) {
        self.strict.store(strict, Ordering::Relaxed);
    }

    /// How long the daemon may take to answer: as long as the program may have to wait for memory.
    pub(crate) fn patience(&self) -> Duration {
        Duration::from_millis(self.patience_ms.load(Ordering::Relaxed))
    }

    pub(crate) fn set_patience(&self, patience: Duration) {
        let ms = u64::try_from(patience.as_millis()).unwrap_or(u64::MAX);
        self.patience_ms.store(ms, Ordering::Relaxed);
    }

    /// Promises `by` blocks more (fewer, when negative): whether the promise holds. Call without
    /// the lock. Without a pager, or where the pool's configuration lets programs go on with
    /// ordinary memory, every promise holds.
    #[must_use]
    pub fn commit(&self, by: i64) -> bool {
        if by == 0 || self.pager_state() != PagerState::Listening {
            return true;
        }
        let Some(by) = self.beyond_slack(by) else { return true };
        let signals = SignalsBlocked::new();
        if by < 0 || !self.strict.load(Ordering::Relaxed) {
            self.mailbox.post(Request::Commit(by, None));
            self.ring();
            return true;
        }
        let reply = Reply::default();
        self.mailbox.post(Request::Commit(by, Some(reply.clone())));
        self.ring();
        if let Some(answer) = reply.wait(ANSWER_WAIT_MS) {
            return answer != 2;
        }
        // It may take minutes: the program's signals are not kept from it so long. We hold no lock.
        drop(signals);
        let answer = self.answer(&reply, self.patience());
        let _signals = SignalsBlocked::new();
        drop(reply);
        answer != Some(2)
    }

    /// Puts ordinary memory with the same content behind `block`: whether it is there now. Call
    /// without the lock.
    #[must_use]
    pub fn make_ordinary(&self, block: BlockIndex) -> bool {
        if self.pager_state() != PagerState::Listening {
            return false;
        }
        let _signals = SignalsBlocked::new();
        let reply = Reply::default();
        self.mailbox.post(Request::MakeOrdinary(block, reply.clone()));
        self.ring();
        self.answer(&reply, Duration::ZERO) == Some(1)
    }

    /// Freezes for a fork and returns when that is done.
    pub(crate) fn freeze(&self) {
        if self.pager_state() == PagerState::Coming {
            // It was not waited for (see `settle_pager`): give it up, or it would join as what
            // the grandchild is counted as too.
            self.give_up_pager();
        }
        if self.pager_state() != PagerState::Listening {
            return;
        }
        let _signals = SignalsBlocked::new();
        let reply = Reply::default();
        self.mailbox.post(Request::ForkBegin(reply.clone()));
        self.ring();
        // There is no going on without an answer: the child would share what it must not.
        while reply.wait(ANSWER_WAIT_MS).is_none() {}
    }

    /// Tells the pager that the fork is over.
    pub(crate) fn fork_is_over(&self) {
        let _signals = SignalsBlocked::new();
        self.mailbox.post(Request::ForkEnd);
        self.ring();
    }

    /// What of a promise of `by` blocks the daemon must hear of: a program that maps and unmaps in
    /// turn would otherwise ring for each.
    fn beyond_slack(&self, by: i64) -> Option<i64> {
        let slack = self.slack.load(Ordering::Relaxed);
        let left = slack - by;
        let in_range = (0..=SLACK_MOST).contains(&left);
        let (order, failed) = (Ordering::Relaxed, Ordering::Relaxed);
        let taken = in_range && self.slack.compare_exchange(slack, left, order, failed).is_ok();
        (!taken).then_some(by)
    }

    /// Waits for an answer as long as there is a pager to give it, which may take so much longer.
    fn answer(&self, reply: &Reply, longer: Duration) -> Option<u32> {
        let until = Instant::now() + Duration::from_millis(ANSWER_WAIT_MS * ANSWER_WAITS) + longer;
        while Instant::now() < until {
            if let Some(answer) = reply.wait(ANSWER_WAIT_MS) {
                return Some(answer);
            }
            if self.pager_state() != PagerState::Listening {
                break;
            }
        }
        None
    }

    /// The program is about to make a priority-inheritance mutex. The kernel changes the word of
    /// such a futex itself and fails with `EFAULT` where a program would wait, so from now on
    /// nothing of this program is moved.
    pub fn pin_for_priority_inheritance(&self) {
        self.inherits_priority.store(true, Ordering::SeqCst);
        // A move that is under way ends before the caller goes on.
        drop(self.lock());
    }

    pub(crate) fn inherits_priority(&self) -> bool {
        self.inherits_priority.load(Ordering::SeqCst)
    }

    /// Whether any content was ever lost with its device.
    #[must_use]
    pub fn has_lost(&self) -> bool {
        self.has_lost.load(Ordering::Acquire)
    }

    pub(crate) fn set_lost(&self) {
        self.has_lost.store(true, Ordering::Release);
    }

    /// This block may be empty: the pager looks, and gives it back if it is.
    pub fn post_idle(&self, block: BlockIndex) {
        self.post_later(Request::Idle(block));
    }

    /// What pins this block has changed: the pager tells the daemon.
    pub fn post_pins(&self, block: BlockIndex) {
        self.post_later(Request::Pins(block));
    }

    fn post_later(&self, request: Request) {
        let _signals = SignalsBlocked::new();
        self.mailbox.post(request);
        self.unrung.fetch_add(1, Ordering::Relaxed);
    }

    /// Wakes the pager, if there is one.
    pub(crate) fn ring(&self) {
        if self.pager_state() == PagerState::Listening {
            self.mailbox.ring();
        }
    }

    /// Where the daemon listens, for forked children.
    pub(crate) fn socket(&self) -> &Path {
        self.socket.get().map_or(Path::new(""), PathBuf::as_path)
    }

    pub(crate) fn set_socket(&self, socket: &Path) {
        self.socket.get_or_init(|| socket.to_owned());
    }

    /// What the program was started as; empty: nothing.
    pub(crate) fn label(&self) -> &str {
        self.label.get().map_or("", String::as_str)
    }

    pub(crate) fn set_label(&self, label: String) {
        self.label.get_or_init(|| label);
    }

    /// Lets one thread fork at a time.
    pub(crate) const fn fork_gate(&self) -> &ForkLock<()> {
        &self.fork_gate
    }

    /// Forgets what a forking parent's threads had posted.
    pub(crate) fn forget_posts(&self) {
        self.mailbox.forget();
        self.unrung.store(0, Ordering::Relaxed);
        self.slack.store(0, Ordering::Relaxed);
    }

    /// Keeps everything whole across a fork; see [`crate::fork`].
    pub(crate) fn hold_across_fork(&self) {
        self.state.hold_across_fork();
        self.mailbox.hold_across_fork();
    }

    /// Ends [`Memory::hold_across_fork`], in the parent and in the child.
    pub(crate) fn release_after_fork(&self) {
        self.mailbox.release_after_fork();
        self.state.release_after_fork();
    }
}

impl Deref for Guard<'_> {
    type Target = State;

    fn deref(&self) -> &State {
        match &self.state {
            Some(state) => state,
            None => unreachable!("the state is there until the guard is dropped"),
        }
    }
}

impl DerefMut for Guard<'_> {
    fn deref_mut(&mut self) -> &mut State {
        match &mut self.state {
            Some(state) => state,
            None => unreachable!("the state is there until the guard is dropped"),
        }
    }
}

impl Drop for Guard<'_> {
    fn drop(&mut self) {
        self.state = None;
        // Ringing may wait for the pager, which may wait for the lock: only now.
        if self.memory.unrung.load(Ordering::Relaxed) > 0
            && self.memory.unrung.swap(0, Ordering::Relaxed) > 0
        {
            self.memory.ring();
        }
        self.signals = None;
    }
}
