//! The pager against a daemon of the test's own: first touch, moves under writers, giving back.
//!
//! A process has one pager: each backing is a test binary of its own.

use std::{
    os::fd::{AsFd, OwnedFd},
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
        mpsc,
    },
    thread,
    time::{Duration, Instant},
};

use memtide_pager::{
    Memory,
    space::{BLOCK, Charge, Run},
};
use memtide_proto::{
    FromProgram, Hello, MAX_PACKET_BYTES, NodeInfo, ToProgram, codec,
    program::{Backing, OnFull, Outcome},
};
use memtide_sys::{
    AddrRange, Prot,
    memfd::{self, Pages},
    socket,
};
use memtide_units::{Extent, ImageId, MemberId, MoveId, NodeKind, Pageblock};

const PER_NODE: u64 = 256;

const fn pages(backing: Backing) -> Pages {
    match backing {
        Backing::Hugetlb => Pages::Huge2M,
        Backing::Memfd | Backing::MemfdThp | Backing::Dcd => Pages::Small,
    }
}

/// A daemon with two nodes that grants from the first and moves to the other and back.
struct Daemon {
    orders: mpsc::Sender<Vec<(Pageblock, Pageblock)>>,
    outcomes: mpsc::Receiver<Vec<Outcome>>,
    released: mpsc::Receiver<Extent>,
}

fn nodes(backing: Backing) -> (Vec<NodeInfo>, Vec<OwnedFd>) {
    ["near", "far"]
        .into_iter()
        .zip([NodeKind::Near, NodeKind::Far])
        .enumerate()
        .map(|(index, (name, kind))| {
            let info = NodeInfo {
                name: name.to_owned(),
                kind,
                first: Pageblock(index as u64 * PER_NODE),
                pageblocks: PER_NODE,
                backing,
            };
            (info, memfd::create(name, PER_NODE << 21, pages(backing)).unwrap())
        })
        .unzip()
}

impl Daemon {
    fn listen(path: PathBuf, backing: Backing) -> Self {
        let listener = socket::listen(&path, 0o600, 4).unwrap();
        let (orders, to_give) = mpsc::channel::<Vec<(Pageblock, Pageblock)>>();
        let (outcomes_in, outcomes) = mpsc::channel();
        let (released_in, released) = mpsc::channel();
        thread::spawn(move || {
            let connection = loop {
                match socket::accept(listener.as_fd()) {
                    Ok(connection) => break connection,
                    Err(_) => thread::sleep(Duration::from_millis(1)),
                }
            };
            let say = |message: &ToProgram, files: &[std::os::fd::BorrowedFd<'_>]| {
                socket::send(connection.as_fd(), &codec::encode(message).unwrap(), files).unwrap();
            };
            let mut buffer = vec![0; MAX_PACKET_BYTES];
            let mut next = 0;
            let mut next_order = 1;
            loop {
                while let Ok(pairs) = to_give.try_recv() {
                    say(&ToProgram::Move { id: MoveId(next_order), pairs }, &[]);
                    next_order += 1;
                }
                let received = match socket::receive(connection.as_fd(), &mut buffer) {
                    Ok(received) if received.bytes > 0 => received,
                    Err(error) if error.would_block() => {
                        thread::sleep(Duration::from_micros(200));
                        continue;
                    }
                    _ => return,
                };
                if next == 0 {
                    let hello: Hello = codec::decode(&buffer[..received.bytes]).unwrap();
                    assert!(matches!(hello, Hello::Program(_)));
                    assert_eq!(received.fds.len(), 1, "its life token");
                    let (infos, files) = nodes(backing);
                    let welcome = ToProgram::Welcome {
                        wait_ms: 0,
                        member: MemberId(1),
                        image: ImageId(1),
                        nodes: infos,
                        on_full: OnFull::Fallback,
                        userfaultfd: false,
                    };
                    let files: Vec<_> = files.iter().map(AsFd::as_fd).collect();
                    say(&welcome, &files);
                    next = 1;
                    continue;
                }
                match codec::decode(&buffer[..received.bytes]).unwrap() {
                    FromProgram::Lease { count, .. } => {
                        let extent = Extent::new(Pageblock(next), count);
                        next += u64::from(count);
                        say(&ToProgram::Grant { extents: vec![extent] }, &[]);
                    }
                    FromProgram::Moved { outcomes, .. } => outcomes_in.send(outcomes).unwrap(),
                    FromProgram::Release { extents } => {
                        extents.into_iter().for_each(|extent| released_in.send(extent).unwrap());
                    }
                    _ => {}
                }
            }
        });
        Self { orders, outcomes, released }
    }

    /// Moves and waits for all outcomes.
    fn order(&self, pairs: Vec<(Pageblock, Pageblock)>) -> Vec<Outcome> {
        let count = pairs.len();
        self.orders.send(pairs).unwrap();
        let mut all = Vec::new();
        while all.len() < count {
            all.extend(self.outcomes.recv_timeout(Duration::from_secs(20)).expect("no outcome"));
        }
        all
    }
}

fn carve(memory: &Memory, blocks: usize) -> AddrRange {
    let mut state = memory.lock();
    let start = state.space.find(blocks * BLOCK, BLOCK).unwrap();
    let range = AddrRange::new(start, blocks * BLOCK);
    state.space.carve(Run::private(range, Prot::READ_WRITE, Charge::Exempt));
    memory.arena().protect(range, Prot::READ_WRITE).unwrap();
    range
}

fn frames(memory: &Memory, range: AddrRange) -> Vec<Pageblock> {
    let state = memory.lock();
    let first = state.space.block_at(range.start).0;
    (first..first + range.len / BLOCK)
        .map(|block| {
            let block = memtide_pager::space::BlockIndex(block);
            state.blocks.get(block).frame().expect("leased").pageblock
        })
        .collect()
}

/// Writers write, memory moves, nothing is lost; what is freed goes back.
pub fn writers_lose_nothing(backing: Backing) {
    if memtide_sys::Uffd::open(None).is_err() {
        memtide_skip::skip("needs userfaultfd (see `memtide doctor`)");
        return;
    }
    let path = std::env::temp_dir().join(format!("memtide-pager-{}.sock", std::process::id()));
    let daemon = Daemon::listen(path.clone(), backing);
    memtide_pager::start(&path).unwrap();
    std::fs::remove_file(&path).unwrap();
    let memory = Memory::get().unwrap();
    let blocks = 32;
    let range = carve(memory, blocks);

    // First touch leases, and reads as zero.
    let words = range.len / 8;
    for block in 0..blocks {
        assert_eq!(memory.arena().load(range.start + block * BLOCK), 0);
    }
    assert!(frames(memory, range).iter().all(|pageblock| pageblock.0 < PER_NODE));

    // Two writers, each with its own words; every word counts its own writes.
    let stop = Arc::new(AtomicBool::new(false));
    let writers: Vec<_> = (0..2usize)
        .map(|writer| {
            let stop = Arc::clone(&stop);
            thread::spawn(move || {
                let mut expected = vec![0u64; words / 2];
                let mut random = 88_172_645_463_325_252u64 + writer as u64;
                let mut writes = 0u64;
                while !stop.load(Ordering::Relaxed) {
                    random ^= random << 13;
                    random ^= random >> 7;
                    random ^= random << 17;
                    let slot = (random % expected.len() as u64) as usize;
                    let at = range.start + (slot * 2 + writer) * 8;
                    assert_eq!(memory.arena().load(at), expected[slot], "a write was lost");
                    expected[slot] = expected[slot].wrapping_add(random | 1);
                    memory.arena().store(at, expected[slot]);
                    writes += 1;
                }
                for (slot, &expected) in expected.iter().enumerate() {
                    let at = range.start + (slot * 2 + writer) * 8;
                    assert_eq!(memory.arena().load(at), expected, "a write was lost");
                }
                writes
            })
        })
        .collect();

    let until = Instant::now() + Duration::from_secs(3);
    let mut moved = 0;
    while Instant::now() < until {
        let pairs: Vec<_> = frames(memory, range)
            .into_iter()
            .map(|from| (from, Pageblock((from.0 + PER_NODE) % (2 * PER_NODE))))
            .collect();
        let outcomes = daemon.order(pairs);
        assert!(outcomes.iter().all(|outcome| *outcome == Outcome::Moved), "{outcomes:?}");
        moved += outcomes.len();
    }
    stop.store(true, Ordering::Relaxed);
    let writes: u64 = writers.into_iter().map(|writer| writer.join().unwrap()).sum();
    println!("{moved} blocks moved under {writes} writes");
    assert!(moved >= 2 * blocks, "hardly anything moved: {moved}");

    // What is freed goes back.
    let mut state = memory.lock();
    memory.arena().punch(range).unwrap();
    state.space.free(range);
    memory.arena().protect(range, Prot::NONE).unwrap();
    let indexes: Vec<_> = state.space.blocks_of(range).collect();
    indexes.into_iter().for_each(|block| memory.post_idle(block));
    drop(state);
    let mut back = 0;
    while back < blocks {
        let extent = daemon.released.recv_timeout(Duration::from_secs(5)).expect("not released");
        back += extent.count as usize;
    }
}
