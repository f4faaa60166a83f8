//! A pool with a node of a device's dynamic capacity, against a software fabric.

mod common;

use std::{
    os::unix::net::UnixListener,
    time::{Duration, Instant},
};

use common::{
    LONG, Pool, Program, blocks,
    fabric::{TestFabric, range},
};
use memtide_cxl::command::{
    events::{Clear, ClearEventRecords, EventLog, GetEventRecords},
    fabric_manager::Force,
};
use memtide_daemon::{
    NodeConfig,
    config::{Accept, SharedWith, TenantConfig},
};
use memtide_engine::tenant::Who;
use memtide_fabric::{
    Address, Link,
    channel::{Channel, Incoming},
    frame,
    wire::{FromManager, MAX_FRAME_BYTES, Role, ToManager, VERSION},
};
use memtide_proto::{
    ControlReply, ControlRequest, FromProgram, ToProgram,
    control::DcdStatus,
    program::{Backing, Outcome},
};
use memtide_units::{ByteSize, Extent, HoldReason, NodeKind, PAGEBLOCK_BYTES, Pageblock, Tag};

const NEAR: u64 = 2;

/// A pool of two pageblocks near, and what host 0 has of a device.
fn pool(fabric: &TestFabric) -> Pool {
    pool_with(fabric.node(0, Accept::All), Vec::new())
}

fn pool_with(device: NodeConfig, tenants: Vec<TenantConfig>) -> Pool {
    let near = ByteSize::from_pageblocks(NEAR);
    let near = NodeConfig::new("near", NodeKind::Near, near, Backing::Memfd);
    Pool::with_nodes(vec![near, device], tenants)
}

/// The pageblock of the pool at a device's pageblock.
fn at(device: u64) -> Pageblock {
    Pageblock(NEAR + device)
}

fn wait_for_size(pool: &Pool, pageblocks: u64) {
    pool.wait_until("capacity", |status| {
        status.nodes[1].size == ByteSize::from_pageblocks(pageblocks)
    });
}

fn device(pool: &Pool) -> DcdStatus {
    match pool.control(ControlRequest::Devices) {
        ControlReply::Devices { device: Some(device), more: false } => device,
        other => panic!("{other:?}"),
    }
}

fn wait_for_device(pool: &Pool, what: &str, condition: impl Fn(&DcdStatus) -> bool) -> DcdStatus {
    let start = Instant::now();
    loop {
        let device = device(pool);
        if condition(&device) {
            return device;
        }
        assert!(start.elapsed() < LONG, "waited for {what}: {device:#?}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// A program with all of the near node and so many pageblocks of the device, each with its own
/// content.
fn full(pool: &Pool, of_device: u32) -> (Program, Vec<Pageblock>) {
    let program = Program::join(pool.socket());
    let mut all = Vec::new();
    while all.len() < (NEAR as usize) + of_device as usize {
        let wanted = NEAR as u32 + of_device - u32::try_from(all.len()).unwrap();
        let got = blocks(&program.lease(wanted));
        assert!(!got.is_empty(), "{all:?}");
        all.extend(got);
    }
    for &block in &all {
        program.write(block, content(block));
    }
    let there = all.into_iter().filter(|block| block.0 >= NEAR).collect();
    (program, there)
}

fn content(block: Pageblock) -> u8 {
    1 + (block.0 % 250) as u8
}

fn end(program: &mut Program) {
    program.life.end();
    let (other, _) = memtide_sys::socket::pair().unwrap();
    drop(std::mem::replace(&mut program.connection, other.into()));
}

#[test]
fn what_a_device_gives_is_memory_of_programs_and_lies_at_its_address() {
    let mut fabric = TestFabric::absent();
    let pool = pool(&fabric);
    assert_eq!(pool.status().nodes[1].size, ByteSize(0));
    let (early, none) = full(&pool, 0);
    assert_eq!(none, []);
    assert_eq!(early.lease(1), [], "there is nothing of the device yet");
    fabric.begin();
    fabric.add(0, 8, 4);
    wait_for_size(&pool, 4);
    fabric.wait_until_held(0, 4);
    // Who was there before is given the device's file now.
    let file = match early.hear_with_files() {
        (ToProgram::File { node: 1 }, mut files) => files.pop().unwrap(),
        other => panic!("{other:?}"),
    };
    let mut early = early;
    early.files[1] = file;
    assert_eq!(blocks(&early.lease(9)), [at(8), at(9), at(10), at(11)]);
    early.write(at(9), 7);
    // One file for all: another program sees it, which is why it has to be trusted.
    let other = Program::join(pool.socket());
    assert_eq!((other.read(at(9)), other.read(at(8))), (7, 0));
    early.send(&FromProgram::Release { extents: vec![Extent::new(at(9), 1)] });
    pool.wait_until("free", |status| status.nodes[1].free.0 == PAGEBLOCK_BYTES);
    assert_eq!(blocks(&other.lease(1)), [at(9)]);
    assert_eq!(other.read(at(9)), 0, "zero for the next");
}

#[test]
fn a_device_gets_back_what_nobody_uses_and_the_rest_when_its_program_ends() {
    let mut fabric = TestFabric::start();
    let pool = pool(&fabric);
    fabric.add(0, 0, 100);
    wait_for_size(&pool, 100);
    let (mut program, held) = full(&pool, 3);
    let reason = HoldReason::MemoryLock;
    program.send(&FromProgram::Pin { extents: Extent::from_blocks(held.clone()), reason });
    pool.wait_until("pinned", |status| !status.programs[0].pinned.is_empty());
    fabric.release(0, 0, 100, Force::Ask);
    fabric.wait_until_held(0, 3);
    let told = wait_for_device(&pool, "an answer", |device| device.answer.is_some());
    let answer = told.answer.unwrap();
    assert_eq!(answer.released, ByteSize::from_pageblocks(97));
    assert_eq!((answer.asked.0, answer.remaining.0), (100 << 21, 3 << 21));
    assert_eq!(answer.holders.len(), 1, "{:?}", answer.holders);
    assert_eq!((answer.holders[0].pid, answer.holders[0].bytes.0), (std::process::id(), 3 << 21));
    assert_eq!(answer.holders[0].reason, reason);
    assert!(told.extents.iter().all(|extent| extent.asked));
    for &block in &held {
        assert_eq!(program.read(block), content(block));
    }
    end(&mut program);
    fabric.wait_until_held(0, 0);
    wait_for_size(&pool, 0);
}

#[test]
fn what_can_move_is_moved_out_of_the_way_of_a_device() {
    let mut fabric = TestFabric::start();
    let pool = pool(&fabric);
    fabric.add(0, 0, 4);
    wait_for_size(&pool, 4);
    let (program, held) = full(&pool, 1);
    program.send(&FromProgram::Release { extents: vec![Extent::new(Pageblock(0), 1)] });
    pool.wait_until("room near", |status| status.nodes[0].free.0 == PAGEBLOCK_BYTES);
    fabric.release(0, 0, 4, Force::Ask);
    let (id, pairs) = match program.hear() {
        Some(ToProgram::Move { id, pairs }) => (id, pairs),
        other => panic!("{other:?}"),
    };
    assert_eq!(pairs, [(held[0], Pageblock(0))]);
    program.send(&FromProgram::Moved { id, outcomes: vec![Outcome::Moved] });
    fabric.wait_until_held(0, 0);
    wait_for_size(&pool, 0);
}

#[test]
fn what_is_taken_by_force_is_lost_to_its_programs_alone() {
    let mut fabric = TestFabric::start();
    let pool = pool(&fabric);
    fabric.add(0, 0, 4);
    wait_for_size(&pool, 4);
    let (program, held) = full(&pool, 3);
    let other = Program::join(pool.socket());
    assert_eq!(blocks(&other.lease(1)).len(), 1);
    fabric.release(0, held[1].0 - NEAR, 1, Force::Take);
    let extents = vec![Extent::new(held[1], 1)];
    assert_eq!(program.hear(), Some(ToProgram::Lost { extents: extents.clone() }));
    wait_for_size(&pool, 3);
    assert_eq!(program.read(held[0]), content(held[0]));
    assert_eq!(device(&pool).lost, ByteSize(PAGEBLOCK_BYTES));
    // It comes back only when nobody speaks of it any more.
    fabric.add(0, held[1].0 - NEAR, 1);
    fabric.wait_until_held(0, 4);
    std::thread::sleep(Duration::from_millis(50));
    assert_eq!(pool.status().nodes[1].size, ByteSize::from_pageblocks(3));
    program.send(&FromProgram::LetGo { extents });
    wait_for_size(&pool, 4);
}

#[test]
fn an_operators_give_back_is_the_devices() {
    let mut fabric = TestFabric::start();
    let pool = pool(&fabric);
    fabric.add_all(0, &[range(0, 8), range(16, 8)], Tag([7; 16]));
    wait_for_size(&pool, 16);
    let (program, held) = full(&pool, 2);
    let report = pool.give_back(5, "dcd0");
    assert_eq!(report.returned, ByteSize::from_pageblocks(5));
    fabric.wait_until_held(0, 11);
    wait_for_size(&pool, 11);
    for &block in &held {
        assert_eq!(program.read(block), content(block));
    }
    let refused = pool.control(ControlRequest::Add {
        bytes: ByteSize(PAGEBLOCK_BYTES),
        to: "dcd0".to_owned(),
        zone: None,
    });
    let ControlReply::Refused(why) = refused else { panic!("{refused:?}") };
    assert!(why.to_string().contains("comes from its device"), "{why}");
}

#[test]
fn only_so_much_is_accepted_as_the_operator_wants() {
    let mut fabric = TestFabric::start();
    let pool = pool_with(fabric.node(0, Accept::Limit(ByteSize(8 << 21))), Vec::new());
    fabric.add(0, 0, 6);
    wait_for_size(&pool, 6);
    fabric.add(0, 10, 3);
    wait_for_device(&pool, "a refusal", |device| device.refused.0 == 3 << 21);
    fabric.add(0, 20, 2);
    wait_for_size(&pool, 8);
    assert_eq!(fabric.held(0), 8);
    let (node, what) = ("dcd0".to_owned(), "none".to_owned());
    pool.control(ControlRequest::Accept { node: node.clone(), what });
    fabric.add(0, 30, 1);
    wait_for_device(&pool, "another", |device| device.refused.0 == 4 << 21);
    let reply = pool.control(ControlRequest::Accept { node, what: "some".to_owned() });
    assert!(matches!(reply, ControlReply::Refused(_)), "{reply:?}");
    pool.control(ControlRequest::Accept { node: "dcd0".to_owned(), what: "all".to_owned() });
    fabric.add(0, 30, 1);
    wait_for_size(&pool, 9);
}

#[test]
fn an_offer_whose_refusal_was_lost_does_not_stand_in_the_way() {
    let mut fabric = TestFabric::start();
    // As a daemon that ended between clearing the records of an offer and refusing it.
    fabric.add(0, 0, 1);
    let mut earlier = Link::connect(&fabric.address, Role::Host(0)).unwrap();
    let log = EventLog::DynamicCapacity;
    let records = earlier.command(&GetEventRecords { log }).unwrap().records;
    assert_eq!(records.len(), 1);
    let what = Clear::Handles(vec![records[0].handle]);
    earlier.command(&ClearEventRecords { log, what }).unwrap();
    drop(earlier);
    let pool = pool(&fabric);
    fabric.add(0, 8, 4);
    wait_for_size(&pool, 4);
    assert_eq!(fabric.listed(0), [range(8, 4)]);
    // The next ones are not taken for it.
    fabric.add(0, 20, 1);
    wait_for_size(&pool, 5);
}

#[test]
fn a_refusal_is_of_one_offer_however_often_the_connection_is_lost() {
    let mut fabric = TestFabric::start();
    let pool = pool_with(fabric.node(0, Accept::Limit(ByteSize(4 << 21))), Vec::new());
    for round in 1..=20 {
        // Too much, and then as much as there may be.
        fabric.add(0, 0, 5);
        fabric.cut_off(0).unwrap();
        wait_for_device(&pool, "a refusal", |device| device.refused.0 == (round * 5) << 21);
        fabric.add(0, 10, 4);
        wait_for_size(&pool, 4);
        assert_eq!(fabric.listed(0), [range(10, 4)], "round {round}");
        fabric.release(0, 10, 4, Force::Ask);
        fabric.wait_until_held(0, 0);
        wait_for_size(&pool, 0);
    }
}

#[test]
fn a_fabric_that_is_away_takes_nothing() {
    let mut fabric = TestFabric::absent();
    let pool = pool(&fabric);
    let why = wait_for_device(&pool, "a reason", |device| {
        device.away.as_ref().is_some_and(|why| why.contains("cannot connect"))
    });
    assert_eq!(why.device, None);
    fabric.begin();
    fabric.add(0, 0, 4);
    wait_for_size(&pool, 4);
    let (program, held) = full(&pool, 2);
    for _ in 0..3 {
        fabric.cut_off(0).unwrap();
        assert_eq!(pool.status().nodes[1].size, ByteSize::from_pageblocks(4));
        // What is asked while nobody listens is heard later.
        fabric.release(0, 3, 1, Force::Ask);
        wait_for_size(&pool, 3);
        fabric.add_when_free(0, 3, 1);
        wait_for_size(&pool, 4);
    }
    for &block in &held {
        assert_eq!(program.read(block), content(block));
    }
}

#[test]
fn a_fabric_that_is_started_anew_has_other_memory() {
    let mut fabric = TestFabric::start();
    let pool = pool(&fabric);
    fabric.add(0, 0, 4);
    wait_for_size(&pool, 4);
    let (mut program, held) = full(&pool, 2);
    fabric.end();
    std::thread::sleep(Duration::from_millis(100));
    assert_eq!(pool.status().nodes[1].size, ByteSize::from_pageblocks(4), "only silence");
    fabric.begin();
    let extents = Extent::from_blocks(held.clone());
    assert_eq!(program.hear(), Some(ToProgram::Lost { extents: extents.clone() }));
    match program.hear_with_files() {
        (ToProgram::File { node: 1 }, mut files) => program.files[1] = files.pop().unwrap(),
        other => panic!("{other:?}"),
    }
    wait_for_size(&pool, 0);
    program.send(&FromProgram::LetGo { extents });
    fabric.add(0, 0, 2);
    wait_for_size(&pool, 2);
    assert_eq!(blocks(&program.lease(2)), [at(0), at(1)]);
    assert_eq!(program.read(at(0)), 0);
}

#[test]
fn a_new_daemon_adopts_what_was_accepted_and_empties_what_nobody_claims() {
    let mut fabric = TestFabric::start();
    let mut pool = pool(&fabric);
    fabric.add(0, 0, 4);
    wait_for_size(&pool, 4);
    let (mut program, held) = full(&pool, 2);
    let (mut gone, left) = full_of_device(&pool, 1);
    assert_eq!(left, [at(2)]);
    pool.stop_daemon();
    pool.start_daemon();
    assert_eq!(fabric.held(0), 4);
    // It has given up what it had while no daemon was there to see it, and left something behind.
    let welcome = gone.come_back(pool.socket(), &[]);
    assert!(matches!(welcome, Some(ToProgram::Welcome { .. })), "{welcome:?}");
    let mut all: Vec<Extent> = vec![Extent::new(Pageblock(0), 2)];
    all.extend(Extent::from_blocks(held.clone()));
    let welcome = program.come_back(pool.socket(), &all);
    assert!(matches!(welcome, Some(ToProgram::Welcome { .. })), "{welcome:?}");
    wait_for_size(&pool, 4);
    let next = program.hear();
    assert!(matches!(next, Some(ToProgram::File { node: 1 })), "{next:?}");
    pool.wait_until("that all are settled", |status| status.awaited == 0);
    for &block in &held {
        assert_eq!(program.read(block), content(block));
    }
    let mut free = blocks(&program.lease(2));
    free.sort_unstable();
    assert_eq!(free, [at(2), at(3)]);
    assert_eq!((program.read(at(2)), program.read(at(3))), (0, 0), "emptied before it is leased");
    assert_eq!(fabric.held(0), 4);
}

#[test]
fn what_a_program_claims_in_vain_is_emptied() {
    let mut fabric = TestFabric::start();
    let tenant = |name: &str| TenantConfig {
        who: vec![Who::Label(name.to_owned())],
        trusted: true,
        ..TenantConfig::everybody(name)
    };
    let mut pool = pool_with(fabric.node(0, Accept::All), vec![tenant("stays"), tenant("leaves")]);
    fabric.add(0, 0, 4);
    wait_for_size(&pool, 4);
    let mut stays = Program::join_as(pool.socket(), "stays");
    let near = stays.lease(2);
    assert_eq!(near, [Extent::new(Pageblock(0), 2)]);
    let mut stranger = Program::join_as(pool.socket(), "leaves");
    let held = stranger.lease(2);
    assert_eq!(held, [Extent::new(at(0), 2)]);
    blocks(&held).iter().for_each(|&block| stranger.write(block, 9));
    pool.stop_daemon();
    pool.config.tenants.pop();
    pool.start_daemon();
    wait_for_device(&pool, "the device", |device| device.away.is_none());
    let refused = stranger.come_back_as(pool.socket(), &held, "leaves");
    assert!(matches!(refused, Some(ToProgram::Refused(_))), "{refused:?}");
    let welcome = stays.come_back_as(pool.socket(), &near, "stays");
    assert!(matches!(welcome, Some(ToProgram::Welcome { .. })), "{welcome:?}");
    assert_eq!(stays.read(at(0)), 9, "it is awaited still");
    // It says now that it has nothing, so that nobody is awaited any more.
    let welcome = stranger.come_back_as(pool.socket(), &[], "stays");
    assert!(matches!(welcome, Some(ToProgram::Welcome { .. })), "{welcome:?}");
    pool.wait_until("that nobody is awaited", |status| status.awaited == 0);
    let next = stays.hear();
    assert!(matches!(next, Some(ToProgram::File { node: 1 })), "{next:?}");
    let free = blocks(&stays.lease(2));
    assert_eq!(free, [at(0), at(1)]);
    free.iter().for_each(|&block| assert_eq!(stays.read(block), 0, "emptied"));
}

/// The same as [`full`], when the near node is taken.
fn full_of_device(pool: &Pool, count: u32) -> (Program, Vec<Pageblock>) {
    let program = Program::join(pool.socket());
    let got = blocks(&program.lease(count));
    assert_eq!(got.len(), count as usize);
    got.iter().for_each(|&block| program.write(block, 9));
    (program, got)
}

#[test]
fn what_was_taken_while_no_daemon_ran_is_lost_to_who_comes_back() {
    let mut fabric = TestFabric::start();
    let mut pool = pool(&fabric);
    fabric.add(0, 0, 4);
    wait_for_size(&pool, 4);
    let (mut program, held) = full(&pool, 2);
    pool.stop_daemon();
    fabric.release(0, held[0].0 - NEAR, 1, Force::Take);
    pool.start_daemon();
    let mut all: Vec<Extent> = vec![Extent::new(Pageblock(0), 2)];
    all.extend(Extent::from_blocks(held.clone()));
    assert!(matches!(program.come_back(pool.socket(), &all), Some(ToProgram::Welcome { .. })));
    let lost = ToProgram::Lost { extents: vec![Extent::new(held[0], 1)] };
    loop {
        match program.hear() {
            Some(ToProgram::File { .. }) => {}
            other => break assert_eq!(other, Some(lost)),
        }
    }
    wait_for_size(&pool, 3);
    assert_eq!(program.read(held[1]), content(held[1]));
}

#[test]
fn a_daemon_without_programs_begins_with_what_the_device_says() {
    let mut fabric = TestFabric::start();
    let mut pool = pool(&fabric);
    fabric.add(0, 0, 4);
    wait_for_size(&pool, 4);
    let (mut program, held) = full(&pool, 2);
    end(&mut program);
    pool.wait_until("nobody", |status| status.programs.is_empty());
    pool.stop_daemon();
    held.iter().for_each(|&block| program.write(block, 9));
    fabric.release(0, 3, 1, Force::Take);
    pool.start_daemon();
    wait_for_size(&pool, 3);
    let next = Program::join(pool.socket());
    let got = blocks(&next.lease(5));
    assert_eq!(got.len(), 5);
    held.iter().for_each(|&block| assert_eq!(next.read(block), 0, "emptied before it is leased"));
}

#[test]
fn who_is_not_trusted_has_another_file() {
    let mut fabric = TestFabric::start();
    let mut node = fabric.node(0, Accept::All);
    node.dcd.as_mut().unwrap().shared_with = SharedWith::Trusted;
    let tenant = |name: &str, trusted| TenantConfig {
        who: vec![Who::Label(name.to_owned())],
        trusted,
        ..TenantConfig::everybody(name)
    };
    let mut stranger = tenant("stranger", false);
    let bind = "near";
    stranger.policy = memtide_engine::mempolicy::MemPolicy {
        mode: memtide_engine::mempolicy::Mode::Bind(
            [memtide_units::NodeId(0)].into_iter().collect(),
        ),
        ..memtide_engine::mempolicy::MemPolicy::LOCAL
    };
    let pool = pool_with(node, vec![tenant("friend", true), stranger]);
    fabric.add(0, 0, 4);
    wait_for_size(&pool, 4);
    let friend = Program::join_as(pool.socket(), "friend");
    let all = blocks(&friend.lease(6));
    assert_eq!(all.len(), 6);
    friend.write(at(1), 7);
    let stranger = Program::join_as(pool.socket(), "stranger");
    assert_eq!(stranger.read(at(1)), 0, "{bind}: the kernel keeps it out");
    assert_eq!(stranger.lease(1), []);
    let moved = pool.control(ControlRequest::Move {
        pid: std::process::id(),
        to: "dcd0".to_owned(),
        bytes: None,
        deadline_ms: None,
    });
    // The first of this pid is the friend, who may.
    assert!(matches!(moved, ControlReply::Report { .. }), "{moved:?}");
}

#[test]
fn a_manager_hears_who_holds_what_and_why() {
    let mut fabric = TestFabric::start();
    let directory = std::env::temp_dir().join(format!("memtide-fm-{}", std::process::id()));
    let _ = std::fs::remove_file(&directory);
    let listener = UnixListener::bind(&directory).unwrap();
    let mut node = fabric.node(0, Accept::All);
    node.dcd.as_mut().unwrap().manager = Some(Address::Unix(directory.clone()));
    let pool = pool_with(node, Vec::new());
    let stream = listener.accept().unwrap().0;
    stream.set_nonblocking(true).unwrap();
    let mut manager = Channel::new(stream.into(), MAX_FRAME_BYTES);
    let mut next = || -> ToManager {
        let start = Instant::now();
        loop {
            match manager.receive() {
                Incoming::Frame(body) => return frame::decode(&body).unwrap(),
                Incoming::Nothing => std::thread::sleep(Duration::from_millis(1)),
                other => panic!("{other:?}"),
            }
            manager.send(&FromManager::Welcome { version: VERSION }, None).unwrap();
            assert!(start.elapsed() < LONG, "the daemon says nothing");
        }
    };
    assert_eq!(next(), ToManager::Hello { version: VERSION, host: "host0".to_owned() });
    fabric.add(0, 0, 4);
    wait_for_size(&pool, 4);
    let (program, held) = full(&pool, 1);
    let reason = HoldReason::MemoryLock;
    program.send(&FromProgram::Pin { extents: Extent::from_blocks(held), reason });
    pool.wait_until("pinned", |status| !status.programs[0].pinned.is_empty());
    fabric.release(0, 0, 4, Force::Ask);
    let (mut uses, answer) = (
        Vec::new(),
        loop {
            match next() {
                ToManager::Answer(answer) => break answer,
                ToManager::Uses { .. } => {}
                other => panic!("{other:?}"),
            }
        },
    );
    assert_eq!((answer.asked, answer.released, answer.remaining), (4 << 21, 3 << 21, 1 << 21));
    let holder = &answer.holders[0];
    assert_eq!(
        (holder.pid, holder.bytes, holder.reason),
        (Some(std::process::id()), 1 << 21, reason)
    );
    assert_eq!(holder.tenant.as_deref(), Some("everybody"));
    while uses.last() != Some(&(1 << 21, 1 << 21)) {
        if let ToManager::Uses { accepted, used, .. } = next() {
            uses.push((accepted, used));
        }
    }
    std::fs::remove_file(&directory).unwrap();
}
