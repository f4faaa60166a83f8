//! Nodes on a NUMA node of the kernel's: whose files are bound when, what is refused, and what a
//! restart leaves. Every machine has one NUMA node; where pages really come from is shown on
//! machines with two (`crates/testbed/tests/vms/end_to_end/numa_nodes.rs`).

mod common;

use std::os::fd::AsFd;

use common::{Pool, Program};
use memtide_daemon::{
    BindError, Config, Daemon, NodeConfig,
    config::NumaConfig,
    state::{self, State},
};
use memtide_proto::{ControlReply, ControlRequest, ToProgram, decode, program::Backing};
use memtide_store::StoreError;
use memtide_sys::{
    numa::{Mode, NodeSet, Policy, allowed_nodes, file_policy},
    process,
};
use memtide_units::{ByteSize, NodeId, NodeKind, PAGEBLOCK_BYTES};

fn here() -> NodeId {
    allowed_nodes().unwrap().iter().next().unwrap()
}

/// A near node anywhere, and a far one on a NUMA node.
fn nodes(pageblocks: u64, numa: NodeId, online: Option<u64>) -> Vec<NodeConfig> {
    let size = ByteSize::from_pageblocks;
    let near = NodeConfig::new("near", NodeKind::Near, size(2), Backing::Memfd);
    let far = NodeConfig::new("far", NodeKind::Far, size(pageblocks), Backing::Memfd);
    let numa = NumaConfig { node: numa, online: online.map(size) };
    vec![near, NodeConfig { numa: Some(numa), ..far }]
}

fn add(pool: &Pool, pageblocks: u64) -> ControlReply {
    let bytes = ByteSize::from_pageblocks(pageblocks);
    pool.control(ControlRequest::Add { bytes, to: "far".to_owned(), zone: None })
}

fn policies(program: &Program) -> Vec<Policy> {
    program.files.iter().map(|file| file_policy(file.as_fd()).unwrap()).collect()
}

fn bound() -> [Policy; 2] {
    [Policy::DEFAULT, Policy::new(Mode::Bind, NodeSet::only(here()).unwrap())]
}

#[test]
fn every_file_of_the_node_is_bound_and_no_other() {
    let pool = Pool::with_nodes(nodes(4, here(), None), Vec::new());
    let status = pool.status();
    assert_eq!((status.nodes[0].numa, status.nodes[1].numa), (None, Some(here())));
    for _ in 0..2 {
        let program = Program::join(pool.socket());
        assert_eq!(policies(&program), bound());
    }
}

#[test]
fn what_is_there_later_binds_the_files_that_were_there_before() {
    let pool = Pool::with_nodes(nodes(8, here(), Some(0)), Vec::new());
    assert_eq!(pool.status().nodes[1].offline, ByteSize::from_pageblocks(8));
    let early = Program::join(pool.socket());
    assert_eq!(policies(&early), [Policy::DEFAULT; 2], "nothing can be leased there");
    assert_eq!(common::blocks(&early.lease(3)).len(), 2, "no more is there, and it is near");

    let four = ByteSize::from_pageblocks(4);
    assert_eq!(add(&pool, 4), ControlReply::Done { bytes: four });
    assert_eq!(policies(&early), bound());
    assert_eq!(policies(&Program::join(pool.socket())), bound());
    assert_eq!(pool.status().nodes[1].offline, four);
    let leased = early.lease(4);
    assert!(common::blocks(&leased).iter().all(|block| *block >= early.nodes[1].first));
    for block in common::blocks(&leased) {
        early.write(block, 7);
    }
    // As much as is configured, and no more.
    let ControlReply::Refused(why) = add(&pool, 5) else { panic!("there are 4") };
    assert!(why.to_string().contains("at most the 8MiB that have left node far"), "{why}");
    assert_eq!(add(&pool, 4), ControlReply::Done { bytes: four });
}

#[test]
fn more_than_the_numa_node_has_is_refused_and_changes_nothing() {
    let tera = (1 << 40) / PAGEBLOCK_BYTES;
    let pool = Pool::with_nodes(nodes(tera, here(), Some(2)), Vec::new());
    let before = pool.status().nodes;
    let ControlReply::Refused(why) = add(&pool, tera - 2) else { panic!("a terabyte") };
    let expected = format!("that NUMA node {} has to give", here().0);
    assert!(why.field == "size" && why.expected.ends_with(&expected), "{why}");
    assert_eq!(pool.status().nodes, before);
}

#[test]
fn a_refusal_names_what_was_asked_for_and_whole_blocks_that_can_be_had() {
    let gib = (1 << 30) / PAGEBLOCK_BYTES;
    let mut pool = Pool::with_nodes(nodes(2048 * gib, here(), Some(0)), Vec::new());
    pool.stop_daemon();
    pool.config.block = ByteSize(1 << 30);
    pool.config.nodes[0].size = ByteSize(1 << 30);
    pool.start_daemon();
    // In whole blocks that would read 1.1TiB.
    let bytes = ByteSize((1 << 40) + (102 << 30) + (1 << 20));
    let reply = pool.control(ControlRequest::Add { bytes, to: "far".to_owned(), zone: None });
    let ControlReply::Refused(why) = reply else { panic!("{reply:?}") };
    assert_eq!((why.field.as_str(), why.value.as_str()), ("size", "1TiB"), "{why}");
    let room = why.expected.strip_prefix("at most the ").and_then(|text| text.split(' ').next());
    let room: ByteSize = room.unwrap().parse().unwrap();
    assert!(room.0 < bytes.0 && room.0.is_multiple_of(1 << 30), "{why}");
}

#[test]
fn a_daemon_does_not_start_on_memory_that_is_not_there() {
    let folder = std::env::temp_dir().join(format!("memtide-numa-start-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let start = |nodes| Daemon::bind(Config::new(folder.join("sock"), nodes).unwrap()).err();
    let tera = (1 << 40) / PAGEBLOCK_BYTES;
    let error = start(nodes(tera, here(), None));
    assert!(matches!(error, Some(BindError::Store(StoreError::NumaTooSmall { .. }))), "{error:?}");
    let absent = NodeId(1023);
    let error = start(nodes(4, absent, None));
    assert!(matches!(error, Some(BindError::Store(StoreError::NoNumaMemory { .. }))), "{error:?}");
    let error = start(nodes(4, absent, Some(0)));
    assert!(matches!(error, Some(BindError::Store(StoreError::NoNumaNode { .. }))), "{error:?}");
    assert!(!folder.join("sock").exists() && !folder.join("sock.state").exists());
    std::fs::remove_dir_all(&folder).unwrap();
}

/// The kernel's node loses its memory while the pool has some of it. (The kernel is not asked: the
/// node is taken for another, as if it had always been there.)
#[test]
fn who_comes_when_the_memory_has_left_is_refused_until_the_node_is_given_back() {
    let absent = NodeId(1023);
    let mut pool = Pool::with_nodes(nodes(4, here(), None), Vec::new());
    let program = Program::join(pool.socket());
    pool.stop_daemon();
    let path = pool.config.state.clone().unwrap();
    let mut left: State = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
    left.nodes[1].numa = Some(absent);
    // Somebody is left, who is to end before the node can be given back.
    let mut other = std::process::Command::new("sleep").arg("1000").spawn().unwrap();
    left.members[0].pid = other.id();
    left.members[0].started = process::start_time(other.id()).unwrap();
    state::save(&path, &left).unwrap();
    pool.config.nodes = nodes(4, absent, None);
    pool.start_daemon();

    let (connection, _life) = Program::say_hello(pool.socket(), "");
    let answer = common::next_packet(&connection).map(|(packet, _)| decode(&packet).unwrap());
    let Some(ToProgram::Refused(why)) = answer else { panic!("{answer:?}") };
    let what = "node far cannot be bound to NUMA node 1023, which has no memory that this daemon";
    assert!(why.field == "pool" && why.value.contains(what), "{why}");
    assert!(why.expected.contains("give-back --from far"), "{why}");

    other.kill().unwrap();
    other.wait().unwrap();
    pool.wait_until("nobody is awaited", |status| status.awaited == 0);
    assert_eq!(pool.give_back(4, "far").remaining, ByteSize(0));
    let late = Program::join(pool.socket());
    assert_eq!(policies(&late), [Policy::DEFAULT; 2], "nothing can be leased there");
    assert_eq!(common::blocks(&late.lease(2)).len(), 2);
    drop((program, late));
}

#[test]
fn what_came_later_stays_over_a_restart_as_long_as_programs_do() {
    let mut pool = Pool::with_nodes(nodes(8, here(), Some(1)), Vec::new());
    let mut program = Program::join(pool.socket());
    add(&pool, 5);
    let leased = program.lease(6);
    pool.stop_daemon();
    pool.start_daemon();
    let answer = program.come_back(pool.socket(), &leased);
    assert!(matches!(answer, Some(ToProgram::Welcome { .. })), "{answer:?}");
    assert_eq!(pool.status().nodes[1].offline, ByteSize::from_pageblocks(2));
    assert_eq!(policies(&program), bound());

    drop(program);
    pool.wait_until("nobody is left", |status| status.programs.is_empty());
    pool.stop_daemon();
    let state = pool.config.state.clone().unwrap();
    assert!(!state.exists(), "nothing that a later daemon must know");
    pool.start_daemon();
    assert_eq!(pool.status().nodes[1].offline, ByteSize::from_pageblocks(7));
}

/// `online` goes out of the file while programs run: they are not to lose what they have, nor is
/// what has not come to be thought there; but once nobody is left all of the node is.
#[test]
fn what_is_configured_counts_for_a_daemon_that_finds_no_program() {
    let mut pool = Pool::with_nodes(nodes(8, here(), Some(1)), Vec::new());
    let mut program = Program::join(pool.socket());
    add(&pool, 2);
    let leased = program.lease(5);
    pool.stop_daemon();
    pool.config.nodes = nodes(8, here(), None);
    pool.start_daemon();
    program.come_back(pool.socket(), &leased);
    assert_eq!(pool.status().nodes[1].offline, ByteSize::from_pageblocks(5));
    drop(program);
    pool.wait_until("nobody is left", |status| status.programs.is_empty());
    pool.stop_daemon();
    pool.start_daemon();
    assert_eq!(pool.status().nodes[1].offline, ByteSize(0));
    // What is taken from here on stays away.
    assert_eq!(pool.give_back(3, "far").remaining, ByteSize(0));
    pool.stop_daemon();
    pool.start_daemon();
    assert_eq!(pool.status().nodes[1].offline, ByteSize::from_pageblocks(3));
}
