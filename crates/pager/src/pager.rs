//! The pager: one thread that serves first touches, moves blocks, freezes for forks.
//!
//! It waits on two descriptors, the userfaultfd and the daemon's socket, and on its timers. Work
//! that takes long (moves, thaws) is done in slices of a few blocks, so that a first touch never
//! waits for more than one slice. It blocks all signals, has its own descriptor table, and never
//! touches memory that could make it wait for itself.
//!
//! The methods are spread over the modules that they belong to: [`crate::touch`],
//! [`crate::moves`], [`crate::move_block`], [`crate::freeze`], [`crate::thaw`], [`crate::idle`],
//! [`crate::pins`], [`crate::wakeups`], [`crate::daemon_link`].

use std::{
    collections::VecDeque,
    os::fd::{AsFd, OwnedFd},
    path::PathBuf,
    time::{Duration, Instant},
};

use memtide_proto::program::Counters;
use memtide_sys::{
    AddrRange, Arena, Descriptors, Fault, PageState, Pagemap, ProcessMemory, Tasks, Uffd,
};
use memtide_units::{ImageId, MemberId, PAGE_BYTES, Pageblock, TokenId};
use rustix::{
    event::{PollFd, PollFlags, poll},
    fs::Timespec,
};

use crate::{
    freeze::Fork,
    idle::IdleBlock,
    inject::Injector,
    link::Link,
    mailbox::Request,
    memory::Memory,
    move_block::Journal,
    moves::Order,
    nodes::Nodes,
    pins::{ToldPins, TransferPin},
    promises::Promises,
    space::BlockIndex,
    stock::Stock,
    wakeups::Wakeups,
};

/// How soon to try again to empty the doorbell's page.
const REARM: Duration = Duration::from_micros(20);

/// A forked child that may still map what we froze for it.
#[derive(Debug)]
pub struct Child {
    /// The name of its token.
    pub token: TokenId,
    /// The token, to hand to a new daemon.
    pub file: OwnedFd,
}

/// Who this process is to the daemon.
#[derive(Debug)]
pub struct Identity {
    /// Its member name.
    pub member: MemberId,
    /// Its image's.
    pub image: ImageId,
    /// Its life token's name.
    pub token: TokenId,
    /// Its life token; a forked child does not have the file, its parent gave it to the daemon.
    pub token_file: Option<OwnedFd>,
}

/// The state of the pager thread.
#[derive(Debug)]
pub struct Pager {
    pub(crate) memory: &'static Memory,
    pub(crate) socket: PathBuf,
    pub(crate) identity: Identity,
    pub(crate) link: Option<Link>,
    pub(crate) reconnect_at: Instant,
    pub(crate) disconnected_since: Option<Instant>,
    pub(crate) uffd: Uffd,
    pub(crate) nodes: Nodes,
    pub(crate) stock: Stock,
    /// Blocks whose first touch waits for a pageblock.
    pub(crate) touched: VecDeque<BlockIndex>,
    /// Whether the daemon owes us a grant.
    pub(crate) asked: bool,
    /// When it was asked for.
    pub(crate) asked_at: Instant,
    pub(crate) promises: Promises,
    pub(crate) staging: Arena,
    /// Where old pageblocks are looked at, to wake who sleeps on them.
    pub(crate) alias: Arena,
    pub(crate) orders: VecDeque<Order>,
    pub(crate) journal: Journal,
    pub(crate) thaws: VecDeque<Pageblock>,
    /// When to go on thawing after a transfer was in the way.
    pub(crate) thaw_at: Option<Instant>,
    pub(crate) idle: VecDeque<IdleBlock>,
    pub(crate) told_pins: ToldPins,
    pub(crate) transfer_pin: Option<TransferPin>,
    pub(crate) wakeups: Wakeups,
    /// A fork that is to be frozen for.
    pub(crate) fork: Option<Fork>,
    /// Forks that the daemon has not acknowledged yet.
    pub(crate) forks_unheard: u32,
    /// A child was forked that the daemon does not know of: it may map what we froze for ever.
    pub(crate) has_unknown_child: bool,
    /// Between freezing and the end of the fork.
    pub(crate) forking: bool,
    pub(crate) children: Vec<Child>,
    pub(crate) descriptors: Descriptors,
    pub(crate) tasks: Tasks,
    pub(crate) pagemap: Pagemap,
    pub(crate) process_memory: ProcessMemory,
    /// The doorbell's page is full: ringing it wakes nobody.
    pub(crate) has_rung: bool,
    /// Requests taken out of the mailbox.
    pub(crate) inbox: VecDeque<Request>,
    pub(crate) counters: Counters,
    pub(crate) count_mappings_at: Instant,
    pub(crate) told_counters: (Counters, Instant),
    pub(crate) inject: Injector,
    pub(crate) scratch: Scratch,
}

/// Buffers that are used again and again.
#[derive(Debug, Default)]
pub struct Scratch {
    pub(crate) faults: Vec<Fault>,
    pub(crate) data: Vec<(u64, u64)>,
    pub(crate) pages: Vec<PageState>,
    pub(crate) pages_before: Vec<PageState>,
    pub(crate) threads: Vec<u32>,
}

impl Pager {
    /// Serves for ever.
    pub(crate) fn run(&mut self) {
        loop {
            self.wait();
            self.serve_faults();
            self.serve_daemon();
            self.serve_mailbox();
            self.run_timers();
            self.work();
        }
    }

    /// Waits for a fault, a message, or the next timer; not at all while there is work.
    fn wait(&self) {
        let timeout = if self.has_work() {
            Some(Duration::ZERO)
        } else if self.has_rung {
            Some(REARM)
        } else {
            let now = Instant::now();
            self.next_timer().map(|at| at.saturating_duration_since(now))
        };
        let timeout = timeout.map(|time| Timespec {
            tv_sec: i64::try_from(time.as_secs()).unwrap_or(i64::MAX),
            tv_nsec: i64::from(time.subsec_nanos()),
        });
        let uffd = PollFd::new(&self.uffd, PollFlags::IN);
        // Errors (EINTR) and timeouts alike: look what there is.
        let _ = match &self.link {
            Some(link) => {
                let link = PollFd::from_borrowed_fd(link.as_fd(), PollFlags::IN);
                poll(&mut [uffd, link], timeout.as_ref())
            }
            None => poll(&mut [uffd], timeout.as_ref()),
        };
    }

    fn has_work(&self) -> bool {
        !self.forking
            && (!self.orders.is_empty() || self.thaw_at.is_none() && !self.thaws.is_empty())
    }

    fn next_timer(&self) -> Option<Instant> {
        [
            self.link.is_none().then_some(self.reconnect_at),
            self.overflow_at(),
            self.promises_hold_at(),
            self.stock.expires(),
            self.idle.front().map(|idle| idle.look_at),
            self.wakeups.next(),
            self.fork.as_ref().map(Fork::until),
            self.thaw_at,
            self.transfer_pin.map(|pin| pin.look_at),
            self.counters_due(),
        ]
        .into_iter()
        .flatten()
        .min()
    }

    fn serve_faults(&mut self) {
        let mut faults = std::mem::take(&mut self.scratch.faults);
        loop {
            faults.clear();
            if self.uffd.read(&mut faults).is_err() || faults.is_empty() {
                break;
            }
            for fault in &faults {
                if self.memory.mailbox().doorbell().contains(fault.address) {
                    self.answer_doorbell();
                } else {
                    self.serve_fault(*fault);
                }
            }
        }
        self.scratch.faults = faults;
    }

    /// Lets who rang go on.
    fn answer_doorbell(&mut self) {
        let doorbell = self.memory.mailbox().doorbell();
        let page = AddrRange::new(doorbell.base(), PAGE_BYTES as usize);
        if self.uffd.fill_zero(doorbell, page).is_err() {
            // Empty still: who rang rings again.
            let _ = self.uffd.wake(page);
        }
        self.has_rung = true;
    }

    /// Makes the bell ring again, once nobody is ringing; the mailbox is read after that.
    fn rearm_doorbell(&mut self) {
        let mailbox = self.memory.mailbox();
        if !self.has_rung || mailbox.is_ringing() {
            return;
        }
        let doorbell = mailbox.doorbell();
        let page = AddrRange::new(doorbell.base(), PAGE_BYTES as usize);
        // Under mlockall the page is locked too.
        self.has_rung = doorbell.discard_anonymous(page).is_err()
            && (doorbell.unlock(page).is_err() || doorbell.discard_anonymous(page).is_err());
    }

    fn serve_mailbox(&mut self) {
        self.rearm_doorbell();
        self.inbox.extend(self.memory.mailbox().take());
        // One at a time: a panic must not lose those behind it.
        while let Some(request) = self.inbox.pop_front() {
            match request {
                Request::Commit(by, reply) => self.promise(by, reply),
                Request::Idle(block) => self.look_at_later(block),
                Request::Pins(block) => self.tell_pins(block),
                Request::MakeOrdinary(block, reply) => self.make_ordinary(block, &reply),
                Request::ForkBegin(reply) => self.fork_begin(reply),
                Request::ForkEnd => self.fork_end(),
            }
        }
        self.try_fork();
    }

    fn run_timers(&mut self) {
        let now = Instant::now();
        if self.link.is_none() && now >= self.reconnect_at {
            self.reconnect();
        }
        if self.overflow_at().is_some_and(|at| now >= at) {
            self.touched_without_daemon();
        }
        if self.promises_hold_at().is_some_and(|at| now >= at) {
            self.promises.grant_all();
        }
        if self.stock.expires().is_some_and(|at| now >= at) {
            let extents = self.stock.drain();
            self.release(&extents);
        }
        self.look_at_idle(now);
        if self.wakeups.next().is_some_and(|at| now >= at) {
            self.wake_sleepers();
        }
        if self.transfer_pin.is_some_and(|pin| now >= pin.look_at) {
            self.look_at_transfer_pin();
        }
        if self.thaw_at.is_some_and(|at| now >= at) {
            self.thaw_at = None;
        }
        if self.counters_due().is_some_and(|at| now >= at) {
            self.tell_counters();
        }
    }

    fn work(&mut self) {
        if self.forking {
            return;
        }
        self.move_some();
        self.thaw_some();
    }

    /// Puts things right after a panic: whatever was under way is finished or undone, and nobody
    /// is left waiting.
    pub(crate) fn recover(&mut self) {
        self.recover_move();
        // A fault or a ring that was read but not served is served again when its thread, woken,
        // touches the page again.
        self.answer_doorbell();
        let _ = self.uffd.wake(self.memory.arena().range());
    }
}
