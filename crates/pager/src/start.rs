//! Starting the pager, in a fresh program and in a forked child.

use std::{
    os::fd::{AsFd, OwnedFd},
    panic::{AssertUnwindSafe, catch_unwind},
    path::{Path, PathBuf},
    sync::mpsc,
    thread,
    time::{Duration, Instant},
};

use memtide_proto::{
    Lineage, label,
    program::{Counters, OnFull},
};
use memtide_sys::{
    AddrRange, Arena, Descriptors, Pagemap, ProcessMemory, Prot, SignalsBlocked, Tasks, Uffd,
    UffdError, own_descriptor_table, proc_dir, token,
};
use memtide_units::PAGE_BYTES;
use rustix::io::Errno;

use crate::{
    blocks::Block,
    inject::Injector,
    join::{self, JoinError, Welcome, random_token},
    link::Link,
    memory::{Memory, PagerState},
    move_block::Journal,
    moves::BATCH,
    nodes::Nodes,
    pager::{Identity, Pager, Scratch},
    pins::ToldPins,
    promises::Promises,
    space::{BLOCK, BlockIndex},
    stock::Stock,
    wakeups::Wakeups,
};

/// Addresses reserved at most and at least. Half of the address space that programs have leaves
/// them the other half; a program under a limit (`ulimit -v`) gets what it can.
const ARENA_MOST: usize = 16 << 40;
const ARENA_LEAST: usize = 4 << 30;
/// A forked child starts its pager after this time: most execute another program before.
const CHILD_DELAY_MS: u64 = 20;
/// Between the first tries of a child to reach the daemon, which may not have heard of it yet, and
/// between the later ones; and how often it tries.
const CHILD_RETRY: Duration = Duration::from_millis(5);
const CHILD_RETRY_MOST: Duration = Duration::from_millis(250);
const CHILD_TRIES: u32 = 40;

/// The pager thread's name.
const THREAD: &str = "memtide-pager";

/// Why a program's memory is not managed.
#[derive(Debug)]
#[non_exhaustive]
pub enum StartError {
    /// The daemon did not let us in.
    Join(PathBuf, JoinError),
    /// There is no userfaultfd.
    Uffd(UffdError),
    /// A system call failed.
    System(&'static str, Errno),
    /// The daemon sent something else than one file per node.
    Files,
    /// `MEMTIDE_INJECT` makes no sense.
    Inject(String),
    /// The thread could not be started.
    Thread(std::io::Error),
}

impl std::fmt::Display for StartError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Join(path, error) => {
                write!(f, "cannot join the daemon at {}: {error}", path.display())
            }
            Self::Uffd(error) => write!(f, "{error}; `memtide doctor` says how to grant it"),
            Self::System(what, errno) => write!(f, "{what}: {errno}"),
            Self::Files => f.write_str("the daemon sent something else than one file per node"),
            Self::Inject(wrong) => write!(f, "MEMTIDE_INJECT: {wrong}"),
            Self::Thread(error) => write!(f, "cannot start a thread: {error}"),
        }
    }
}

impl std::error::Error for StartError {}

impl From<UffdError> for StartError {
    fn from(error: UffdError) -> Self {
        Self::Uffd(error)
    }
}

/// Names what failed.
fn doing(what: &'static str) -> impl FnOnce(Errno) -> StartError {
    move |errno| StartError::System(what, errno)
}

/// Joins the daemon at `socket` and starts the pager; from then on [`Memory::get`] is there.
///
/// # Errors
/// [`StartError`]; the program's memory is not managed then.
pub fn start(socket: &Path) -> Result<(), StartError> {
    let inject = Injector::from_environment().map_err(StartError::Inject)?;
    let socket = socket.to_owned();
    // Later the program may change its environment; a wrong one is the daemon's to refuse.
    let label = std::env::var(label::VARIABLE).unwrap_or_default();
    let (started, result) = mpsc::channel();
    spawn(move || match fresh(socket, label, inject) {
        Ok(pager) => {
            let _ = started.send(Ok(()));
            serve(pager);
        }
        Err(error) => {
            let _ = started.send(Err(error));
        }
    })?;
    result.recv().unwrap_or_else(|_| {
        Err(StartError::Thread(std::io::Error::other("the pager's thread ended")))
    })
}

/// Starts the pager of a forked child, later.
pub(crate) fn child(memory: &'static Memory) {
    let started = spawn(move || {
        memory.wait_for_hurry(CHILD_DELAY_MS);
        match forked(memory) {
            Ok(pager) => serve(pager),
            // Given up meanwhile, or not let in. What was registered is let go.
            Err(_) => memory.set_pager_state(PagerState::Absent),
        }
    });
    // Without a thread the child goes on with ordinary memory; the daemon knows its token.
    if started.is_err() {
        memory.set_pager_state(PagerState::Absent);
    }
}

/// Starts a thread that takes no signals and shares no descriptors.
fn spawn(run: impl FnOnce() + Send + 'static) -> Result<(), StartError> {
    let _signals = SignalsBlocked::new();
    let thread = thread::Builder::new().name(THREAD.to_owned());
    // The new thread inherits the blocked signals, and keeps them so.
    thread.spawn(run).map(drop).map_err(StartError::Thread)
}

/// Runs the pager for ever, whatever happens to it.
fn serve(mut pager: Pager) {
    keep_quiet();
    loop {
        if catch_unwind(AssertUnwindSafe(|| pager.run())).is_err() {
            // Recovery can meet the same fault again (an injected one): it is repeatable.
            while catch_unwind(AssertUnwindSafe(|| pager.recover())).is_err() {}
        }
    }
}

/// A panic of the pager is put right, not reported: it has no descriptor to write to, and what the
/// report would allocate and lock may wait for the pager.
fn keep_quiet() {
    static ONCE: std::sync::Once = std::sync::Once::new();
    ONCE.call_once(|| {
        let others = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            if thread::current().name() != Some(THREAD) {
                others(info);
            }
        }));
    });
}

fn fresh(socket: PathBuf, label: String, inject: Injector) -> Result<Pager, StartError> {
    own_descriptor_table().map_err(doing("close_range"))?;
    let name = random_token();
    let file = token::create().map_err(doing("memfd_create"))?;
    let map = token::map(file.as_fd()).map_err(doing("mmap of a token"))?;
    let lineage = Lineage::Fresh { token: name };
    let joined = Link::connect(&socket, &join::hello(lineage, &label), &[file.as_fd()])
        .map_err(JoinError::from)
        .and_then(|mut link| {
            join::welcome(&mut link, join::FIRST_WAIT).map(|welcome| (link, welcome))
        });
    let (link, welcome) = match joined {
        Ok(joined) => joined,
        Err(error) => return Err(StartError::Join(socket, error)),
    };
    let uffd = Uffd::open(welcome.userfaultfd.as_ref().map(AsFd::as_fd))?;
    let arena = Arena::reserve(ARENA_MOST, ARENA_LEAST).map_err(doing("reserving addresses"))?;
    uffd.register_missing(&arena, arena.range()).map_err(doing("registering the arena"))?;
    let doorbell = Arena::reserve_exactly(BLOCK).map_err(doing("reserving addresses"))?;
    hang_doorbell(&uffd, &doorbell).map_err(doing("registering the doorbell"))?;
    let memory = Memory::install(arena, doorbell);
    memory.set_label(label);
    memory.lock_as_pager().tokens.life = Some((name, map));
    let pager = build(memory, socket, uffd, link, welcome, Some(file), name, inject)?;
    memory.set_pager_state(PagerState::Listening);
    Ok(pager)
}

/// Makes the first page of `doorbell` one that rings.
fn hang_doorbell(uffd: &Uffd, doorbell: &Arena) -> Result<(), Errno> {
    let page = AddrRange::new(doorbell.base(), PAGE_BYTES as usize);
    doorbell.map_anonymous(page, Prot::READ_WRITE)?;
    uffd.register_missing(doorbell, page)
}

fn forked(memory: &'static Memory) -> Result<Pager, StartError> {
    own_descriptor_table().map_err(doing("close_range"))?;
    let Some(name) = memory.lock_as_pager().tokens.life.as_ref().map(|(name, _)| *name) else {
        return Err(StartError::System("joining as a child without a token", Errno::NOENT));
    };
    let socket: PathBuf = memory.socket().to_owned();
    let (link, mut welcome) = join_as_child(&socket, memory.label(), name)?;
    let uffd = Uffd::open(welcome.userfaultfd.as_ref().map(AsFd::as_fd))?;
    let token_file =
        if welcome.files.len() > welcome.nodes.len() { welcome.files.pop() } else { None };
    let inject = Injector::from_environment().map_err(StartError::Inject)?;
    let mut pager = build(memory, socket, uffd, link, welcome, token_file, name, inject)?;
    hang_doorbell(&pager.uffd, memory.mailbox().doorbell())
        .map_err(doing("registering the doorbell"))?;
    pager.take_over_inherited().map_err(doing("registering the arena"))?;
    Ok(pager)
}

fn join_as_child(
    socket: &Path,
    label: &str,
    token: memtide_units::TokenId,
) -> Result<(Link, Welcome), StartError> {
    let mut tries = 0;
    loop {
        let joined = Link::connect(socket, &join::hello(Lineage::Child { token }, label), &[])
            .map_err(JoinError::from)
            .and_then(|mut link| {
                join::welcome(&mut link, join::FIRST_WAIT).map(|welcome| (link, welcome))
            });
        match joined {
            Ok(joined) => return Ok(joined),
            Err(error) if tries == CHILD_TRIES => {
                return Err(StartError::Join(socket.to_owned(), error));
            }
            Err(_) => {
                thread::sleep((CHILD_RETRY * 2u32.pow(tries.min(8))).min(CHILD_RETRY_MOST));
                tries += 1;
            }
        }
    }
}

#[allow(clippy::too_many_arguments, reason = "each is one part of what a pager is made of")]
fn build(
    memory: &'static Memory,
    socket: PathBuf,
    uffd: Uffd,
    link: Link,
    welcome: Welcome,
    token_file: Option<OwnedFd>,
    token: memtide_units::TokenId,
    inject: Injector,
) -> Result<Pager, StartError> {
    let Welcome { member, image, nodes, on_full, wait, files, .. } = welcome;
    let nodes = Nodes::new(nodes, files).ok_or(StartError::Files)?;
    memory.set_strict(on_full == OnFull::Fail);
    memory.set_patience(wait);
    memory.set_socket(&socket);
    let now = Instant::now();
    let reserve = |size| Arena::reserve_exactly(size).map_err(doing("reserving addresses"));
    let counters = Counters { mappings_max: map_count_limit(), ..Counters::default() };
    Ok(Pager {
        memory,
        socket,
        identity: Identity { member, image, token, token_file },
        link: Some(link),
        reconnect_at: now,
        disconnected_since: None,
        uffd,
        nodes,
        stock: Stock::new(now),
        touched: std::collections::VecDeque::new(),
        asked: false,
        asked_at: now,
        promises: Promises::default(),
        staging: reserve(BATCH * BLOCK)?,
        alias: reserve(BLOCK)?,
        orders: std::collections::VecDeque::new(),
        journal: Journal::default(),
        thaws: std::collections::VecDeque::new(),
        thaw_at: None,
        idle: std::collections::VecDeque::new(),
        told_pins: ToldPins::default(),
        transfer_pin: None,
        wakeups: Wakeups::default(),
        fork: None,
        forks_unheard: 0,
        has_unknown_child: false,
        forking: false,
        children: Vec::new(),
        descriptors: Descriptors::open().map_err(doing("opening /proc/self/fd"))?,
        tasks: Tasks::open().map_err(doing("opening /proc/self/task"))?,
        pagemap: Pagemap::open().map_err(doing("opening /proc/self/pagemap"))?,
        process_memory: ProcessMemory::open().map_err(doing("opening /proc/self/mem"))?,
        has_rung: false,
        inbox: std::collections::VecDeque::new(),
        counters,
        count_mappings_at: now,
        told_counters: (Counters::default(), now),
        inject,
        scratch: Scratch::default(),
    })
}

fn map_count_limit() -> u64 {
    let mut text = [0u8; 24];
    let read = proc_dir::read_at(rustix::fs::CWD, "/proc/sys/vm/max_map_count", &mut text);
    let limit = read.ok().and_then(|text| std::str::from_utf8(text).ok()?.trim().parse().ok());
    limit.unwrap_or(65530)
}

impl Pager {
    /// Makes a forked child's arena its own: what is reserved faults to us; what the child
    /// touched while nobody served it is ordinary memory.
    fn take_over_inherited(&mut self) -> Result<(), Errno> {
        let memory = self.memory;
        let mut state = memory.lock_as_pager();
        let arena = memory.arena();
        let blocks = arena.range().len / BLOCK;
        // Blocks where anything else than the bare reservation lies, in order.
        let mut special: Vec<BlockIndex> =
            state.space.iter().flat_map(|run| state.space.blocks_of(run.range)).collect();
        special.extend(state.blocks.in_use().map(|(block, _)| block));
        special.sort_unstable();
        special.dedup();
        let mut next = 0;
        for block in special {
            self.register_reserved(next, block.0)?;
            next = block.0 + 1;
            if state.blocks.get(block) != Block::Reserved || state.space.has_foreign(block) {
                continue;
            }
            let range = self.range_of(block);
            self.uffd.register_missing(arena, range)?;
            // Nothing appears any more; what is there was touched before.
            let mut pages = std::mem::take(&mut self.scratch.pages);
            let touched = match self.pagemap.read(range, &mut pages) {
                Ok(()) => pages.iter().any(|page| !page.is_empty()),
                Err(_) => true,
            };
            self.scratch.pages = pages;
            if touched {
                self.settle_ordinary(&mut state, block);
            }
        }
        self.register_reserved(next, blocks)?;
        let promised = state.space.charged_blocks(arena.range());
        // Under the lock: whoever takes it next sees what is registered and that we listen.
        if !memory.pager_has_come() {
            return Err(Errno::TIMEDOUT);
        }
        drop(state);
        self.promise(i64::try_from(promised).unwrap_or(i64::MAX), None);
        Ok(())
    }

    fn register_reserved(&self, from: usize, to: usize) -> Result<(), Errno> {
        if from >= to {
            return Ok(());
        }
        let arena = self.memory.arena();
        let range = AddrRange::new(arena.base() + from * BLOCK, (to - from) * BLOCK);
        self.uffd.register_missing(arena, range)
    }
}
