//! Memory goes where those who work on it wait least, as a file says who they are.

mod common;

use common::{Pool, Program, blocks};
use memtide_daemon::{Config, NodeConfig};
use memtide_proto::{
    ControlReply, ControlRequest, Whom,
    control::{Decision, Outcome},
};
use memtide_units::{ByteSize, Pageblock};

/// Eight pageblocks near, sixteen far, and four of a card, which does not reach far memory.
const POOL: &str = r#"
[[node]]
name = "near"
kind = "near"
size = "16M"
[[node]]
name = "far"
kind = "far"
size = "32M"
[[node]]
name = "card"
kind = "device"
class = "special"
size = "8M"

[[accessor]]
name = "cpu"
nodes.near = { read_latency_ns = 100 }
nodes.far = { read_latency_ns = 300 }
nodes.card = { read_latency_ns = 500 }
[[accessor]]
name = "gpu0"
nodes.near = { read_latency_ns = 600, read_bandwidth = "1GiB" }
nodes.card = { read_latency_ns = 200, read_bandwidth = "100GiB" }

[[tenant]]
name = "card"
label = "card"
policy = "accessed-by"
accessors = { gpu0 = 3, cpu = 1 }
[[tenant]]
name = "host"
label = "host"
policy = "accessed-by"
accessors = { cpu = 1 }
on_depletion = "fall-back"
[[tenant]]
name = "others"
"#;

/// A pool as the file says, at a socket of its own.
fn pool(text: &str) -> Pool {
    let mut pool = Pool::with_nodes(vec![any_node()], Vec::new());
    pool.stop_daemon();
    let file = pool.socket().with_file_name("memtide.toml");
    std::fs::write(&file, text).unwrap();
    pool.config = Config::read(&file, pool.socket()).unwrap();
    pool.start_daemon();
    pool
}

/// What a pool has before its file is read: no file may be without a node.
fn any_node() -> NodeConfig {
    use memtide_proto::program::Backing;
    NodeConfig::new("any", memtide_units::NodeKind::Near, ByteSize(2 << 20), Backing::Memfd)
}

/// How many pageblocks came of near, far and the card's memory.
fn lease(program: &Program, count: u32) -> [usize; 3] {
    let got = blocks(&program.lease(count));
    let firsts = [0, 8, 24, 28].map(Pageblock);
    [0, 1, 2]
        .map(|node| got.iter().filter(|at| (firsts[node]..firsts[node + 1]).contains(at)).count())
}

fn explain(pool: &Pool, tenant: &str) -> Vec<Decision> {
    let whom = Whom::Tenant(tenant.to_owned());
    match pool.control(ControlRequest::Explain { whom }) {
        ControlReply::Decisions { decisions, more: false } => decisions,
        other => panic!("{other:?}"),
    }
}

#[test]
fn memory_is_where_those_who_access_it_wait_least_and_then_on_the_next() {
    let pool = pool(POOL);
    let card = Program::join_as(pool.socket(), "card");
    assert_eq!(lease(&card, 3), [0, 0, 3]);
    assert_eq!(lease(&card, 3), [2, 0, 1]);
    let told = explain(&pool, "card");
    let last = told.last().unwrap();
    assert_eq!(last.outcome, Outcome::Placed);
    let rules: Vec<_> = last.because.iter().map(|why| (why.rule.as_str(), why.count)).collect();
    // (3 · 200 + 500) / 4, and (3 · 600 + 100) / 4.
    let expected = [("accessed-by", Some(275)), ("full", None), ("accessed-by", Some(475))];
    assert_eq!(rules, expected, "{last:#?}");
    assert_eq!(last.because[0].node.as_deref(), Some("card"));
    let text = "card: those who access it wait 275ns (accessed-by cpu=1,gpu0=3)";
    assert_eq!(last.because[0].text, text);
    assert_eq!(last.because[1].text, "card: nothing is free");
    // Far memory is out of its reach, whatever is free there.
    assert_eq!(lease(&card, 10), [6, 0, 0]);

    let host = Program::join_as(pool.socket(), "host");
    assert_eq!(lease(&host, 4), [0, 4, 0]);
    let other = Program::join_as(pool.socket(), "none");
    assert_eq!(lease(&other, 4), [0, 4, 0]);
    let last = explain(&pool, "others").pop().unwrap();
    assert!(last.because.iter().all(|why| why.rule != "accessed-by"), "{last:#?}");
}

#[test]
fn a_processors_memory_is_near_it_and_never_the_cards() {
    let pool = pool(POOL);
    let host = Program::join_as(pool.socket(), "host");
    assert_eq!(lease(&host, 10), [8, 2, 0]);
    assert_eq!(lease(&host, 100), [0, 14, 0]);
    let other = Program::join_as(pool.socket(), "card");
    assert_eq!(lease(&other, 4), [0, 0, 4]);
}

#[test]
fn tenants_are_shown_with_their_accessors_and_keep_them_over_restarts() {
    let mut pool = pool(POOL);
    let policies = |pool: &Pool| match pool.control(ControlRequest::Tenants) {
        ControlReply::Tenants { tenants, more: false } => {
            tenants.into_iter().map(|tenant| tenant.policy).collect::<Vec<_>>()
        }
        other => panic!("{other:?}"),
    };
    assert_eq!(policies(&pool), ["accessed-by cpu=1,gpu0=3", "accessed-by cpu=1", "local"]);
    let mut card = Program::join_as(pool.socket(), "card");
    let leased = card.lease(1);
    pool.stop_daemon();
    // Meanwhile the file says that the processors do all the work.
    let text = POOL.replace("gpu0 = 3, cpu = 1", "cpu = 1");
    let file = pool.socket().with_file_name("memtide.toml");
    std::fs::write(&file, text).unwrap();
    pool.config = Config::read(&file, pool.socket()).unwrap();
    pool.start_daemon();
    card.come_back_as(pool.socket(), &leased, "card");
    assert_eq!(policies(&pool)[0], "accessed-by cpu=1");
    assert_eq!(lease(&card, 2), [2, 0, 0]);
    assert_eq!(pool.status().nodes[2].leased, ByteSize::from_pageblocks(1));
}
