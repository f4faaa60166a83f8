//! What is explained beside decisions: refusals by a rule, and what was moved. And bad memory.

mod common;

use common::{Pool, Program, blocks, next_packet};
use memtide_daemon::{
    NodeConfig,
    config::{Quota, TenantConfig},
};
use memtide_engine::{
    mempolicy::{MemPolicy, Mode},
    nodes::{Capabilities, Capability, NodeClass},
    tenant::Who,
};
use memtide_proto::{
    ControlReply, ControlRequest, FromProgram, ToProgram, Whom,
    control::{Asked, Decision, NodeBytes, Outcome},
    decode,
    program::{Backing, Outcome as Moved},
};
use memtide_units::{ByteSize, Extent, HoldReason, NodeId, NodeKind, Pageblock};

fn labelled(name: &str) -> TenantConfig {
    TenantConfig { who: vec![Who::Label(name.to_owned())], ..TenantConfig::everybody(name) }
}

fn explain(pool: &Pool, whom: Whom) -> Vec<Decision> {
    match pool.control(ControlRequest::Explain { whom }) {
        ControlReply::Decisions { decisions, more: false } => decisions,
        other => panic!("{other:?}"),
    }
}

fn refused_to_join(pool: &Pool, label: &str) {
    let (connection, _life) = Program::say_hello(pool.socket(), label);
    let (packet, _) = next_packet(&connection).expect("an answer");
    let Ok(ToProgram::Refused(_)) = decode(&packet) else { panic!("let in") };
}

/// Asks to pin, and is refused.
fn pin_in_vain(program: &Program, extents: Vec<Extent>, reason: HoldReason) {
    program.send(&FromProgram::Pin { extents, reason });
    assert!(matches!(program.hear(), Some(ToProgram::Refused(_))));
}

#[test]
fn who_was_not_let_in_is_explained_without_a_tenant() {
    let pool = Pool::with_tenants(2, 2, vec![labelled("web")]);
    for _ in 0..2 {
        refused_to_join(&pool, "batch");
    }
    // That is nonsense, and not a rule.
    refused_to_join(&pool, "a b");
    let told = explain(&pool, Whom::Everybody);
    let [only] = told.as_slice() else { panic!("{told:#?}") };
    assert_eq!((only.asked, only.outcome, only.times), (Asked::Join, Outcome::Refused, 2));
    let (pid, name) = (std::process::id(), "test".to_owned());
    assert_eq!((only.tenant.as_str(), only.pid, &only.program), ("", pid, &name));
    assert_eq!(only.because[0].rule, "no-tenant");
    assert!(only.because[0].text.contains("label batch"), "{only:#?}");
    assert_eq!(explain(&pool, Whom::Pid(pid)).len(), 1);
    assert_eq!(explain(&pool, Whom::Tenant("web".to_owned())), []);
    // One that is let in is explained with it: it may be the same process.
    let web = Program::join_as(pool.socket(), "web");
    web.lease(1);
    let asked: Vec<_> = explain(&pool, Whom::Pid(pid)).iter().map(|one| one.asked).collect();
    assert_eq!(asked, [Asked::Join, Asked::Lease]);
}

#[test]
fn a_pin_beyond_the_limit_is_explained_with_its_numbers() {
    let mut web = labelled("web");
    let quota = Quota { pinned_max: Some(ByteSize::from_pageblocks(1)), ..Quota::default() };
    web.quotas.insert(NodeKind::Near, quota);
    let pool = Pool::with_tenants(4, 4, vec![web, labelled("other")]);
    let program = Program::join_as(pool.socket(), "web");
    let leased = program.lease(3);
    pin_in_vain(&program, leased.clone(), HoldReason::NoMigration);
    let told = explain(&pool, Whom::Tenant("web".to_owned()));
    let pin = told.last().unwrap();
    assert_eq!((pin.asked, pin.outcome, pin.image), (Asked::Pin, Outcome::Refused, program.image));
    assert_eq!(pin.bytes, ByteSize::from_pageblocks(3));
    let reason = &pin.because[0];
    assert_eq!(reason.rule, "pin-limit");
    let amounts = ["by", "pinned", "max"].map(|name| reason.amounts[name]);
    assert_eq!(amounts, [3, 3, 1].map(ByteSize::from_pageblocks));
    let text = "the tenant would have 6MiB of near memory pinned, and may have 2MiB when it asks";
    assert_eq!(reason.text, text);
    assert_eq!(told.iter().map(|one| one.asked).collect::<Vec<_>>(), [Asked::Lease, Asked::Pin]);
    assert_eq!(explain(&pool, Whom::Tenant("other".to_owned())), []);
    // What makes no sense is not explained: no rule was against it.
    let other = Program::join_as(pool.socket(), "other");
    pin_in_vain(&other, leased, HoldReason::NoMigration);
    assert_eq!(explain(&pool, Whom::Tenant("other".to_owned())), []);
}

#[test]
fn a_long_pin_that_an_owner_forbids_is_explained() {
    let node = |name: &str, kind| {
        NodeConfig::new(name, kind, ByteSize::from_pageblocks(4), Backing::Memfd)
    };
    let class = NodeClass::Private(Capabilities::NONE.with(Capability::UserNuma));
    let private = NodeConfig { class, ..node("private", NodeKind::Device) };
    let mut web = labelled("web");
    let only = [NodeId(1)].into_iter().collect();
    web.policy = MemPolicy { mode: Mode::Bind(only), ..MemPolicy::LOCAL };
    let pool = Pool::with_nodes(vec![node("near", NodeKind::Near), private], vec![web]);
    let program = Program::join_as(pool.socket(), "web");
    let leased = program.lease(1);
    assert_eq!(leased, [Extent::new(Pageblock(4), 1)]);
    pin_in_vain(&program, leased, HoldReason::LongTermPin);
    let told = explain(&pool, Whom::Everybody);
    let reason = &told.last().unwrap().because[0];
    let (rule, node) = (reason.rule.as_str(), reason.node.as_deref());
    assert_eq!((rule, node), ("pin-not-permitted", Some("private")), "{told:#?}");
}

#[test]
fn what_was_moved_is_explained_among_the_rest_in_the_order_of_time() {
    let pool = Pool::start(4, 4);
    let program = Program::join(pool.socket());
    program.lease(3);
    std::thread::scope(|scope| {
        let asked = scope.spawn(|| pool.give_back(4, "near"));
        let mut moved = 0;
        while moved < 3 {
            let Some(ToProgram::Move { id, pairs }) = program.hear() else { panic!("no order") };
            moved += pairs.len();
            let outcomes = vec![Moved::Moved; pairs.len()];
            program.send(&FromProgram::Moved { id, outcomes });
        }
        assert_eq!(asked.join().unwrap().returned, ByteSize::from_pageblocks(4));
    });
    program.lease(1);
    let told = explain(&pool, Whom::Pid(std::process::id()));
    let asked: Vec<_> = told.iter().map(|one| one.asked).collect();
    assert_eq!(asked, [Asked::Lease, Asked::Move, Asked::Lease], "{told:#?}");
    let moved = &told[1];
    let bytes = ByteSize::from_pageblocks(3);
    assert_eq!((moved.outcome, moved.bytes, moved.times), (Outcome::Moved, bytes, 1));
    let far = NodeBytes { node: "far".to_owned(), bytes };
    assert_eq!((moved.from.as_deref(), &moved.nodes[..]), (Some("near"), &[far][..]));
    assert_eq!(moved.because[0].rule, "give-back");
    assert_eq!(moved.because[0].text, "capacity of near is given back");
    assert_eq!((told[0].from.as_ref(), told[2].nodes[0].node.as_str()), (None, "far"));
}

fn retire(pool: &Pool, node: &str, offset: u64) -> ControlReply {
    let (node, offset) = (node.to_owned(), ByteSize(offset));
    pool.control(ControlRequest::Retire { node, offset })
}

/// What is retired of each node, in pageblocks.
fn retired(pool: &Pool) -> Vec<u64> {
    pool.status().nodes.iter().map(|node| node.retired.pageblocks_ceil()).collect()
}

#[test]
fn bad_memory_is_counted_lost_to_its_program_and_never_used_again() {
    const MIB: u64 = 1 << 20;
    let done = ControlReply::Done { bytes: ByteSize::from_pageblocks(1) };
    let mut pool = Pool::start(4, 4);
    let mut program = Program::join(pool.socket());
    let leased = program.lease(2);
    assert_eq!(blocks(&leased), [0, 1].map(Pageblock));
    assert_eq!(retired(&pool), [0, 0]);
    // One that it has, said twice, and one that is free.
    assert_eq!(retire(&pool, "near", 3 * MIB), done);
    let bad = vec![Extent::new(Pageblock(1), 1)];
    assert_eq!(program.hear(), Some(ToProgram::Lost { extents: bad.clone() }));
    assert_eq!(retire(&pool, "near", 2 * MIB), done);
    assert_eq!(retire(&pool, "far", 0), done);
    assert_eq!(retired(&pool), [1, 1]);
    program.send(&FromProgram::LetGo { extents: bad });
    assert_eq!(pool.leased(), 1);
    let near = &pool.status().nodes[0];
    assert_eq!((near.free.pageblocks_ceil(), near.leased.pageblocks_ceil()), (2, 1));

    // Nobody gets it, from a later daemon neither.
    pool.stop_daemon();
    pool.start_daemon();
    assert_eq!(retired(&pool), [1, 1]);
    program.come_back(pool.socket(), &[Extent::new(Pageblock(0), 1)]);
    let all = blocks(&program.lease(7));
    assert_eq!(all, [2, 3, 5, 6, 7].map(Pageblock));
    assert_eq!(retired(&pool), [1, 1]);

    for (node, offset, field) in [("near", 8 * MIB, "offset"), ("nah", 0, "node")] {
        let ControlReply::Refused(why) = retire(&pool, node, offset) else { panic!("{node}") };
        assert_eq!(why.field, field);
    }
    assert_eq!(retired(&pool), [1, 1]);
}
