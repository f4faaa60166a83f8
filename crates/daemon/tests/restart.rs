//! A daemon is followed by another while programs wait, or with other tenants.

mod common;

use std::time::{Duration, Instant};

use common::{Pool, Program, blocks};
use memtide_daemon::{NodeConfig, config::TenantConfig};
use memtide_engine::tenant::{OnDepletion, Who};
use memtide_proto::{
    ControlReply, ControlRequest, FromProgram, ToProgram, control::TenantStatus, program::Backing,
};
use memtide_units::{ByteSize, HoldReason, NodeKind, OnlineZone, Pageblock};

const WAIT: OnDepletion = OnDepletion::Wait(Duration::from_secs(3600));
const GRANTED: Option<ToProgram> = Some(ToProgram::Commit { granted: true });

fn tenant(name: &str, on_depletion: OnDepletion) -> TenantConfig {
    TenantConfig {
        who: vec![Who::Label(name.to_owned())],
        on_depletion: Some(on_depletion),
        ..TenantConfig::everybody(name)
    }
}

fn tenants(pool: &Pool) -> Vec<TenantStatus> {
    match pool.control(ControlRequest::Tenants) {
        ControlReply::Tenants { tenants, more: false } => tenants,
        other => panic!("{other:?}"),
    }
}

fn wait_for_waiting(pool: &Pool, requests: u64) {
    let start = Instant::now();
    while tenants(pool)[0].waiting.requests != requests {
        assert!(start.elapsed() < common::LONG, "{:?}", tenants(pool)[0]);
        std::thread::sleep(Duration::from_millis(2));
    }
}

fn is_welcome(answer: Option<ToProgram>) {
    assert!(matches!(answer, Some(ToProgram::Welcome { .. })), "{answer:?}");
}

/// Bytes of near memory that each tenant is charged for.
fn near(pool: &Pool) -> Vec<(String, ByteSize)> {
    let of = |tenant: TenantStatus| {
        let near = tenant.kinds.iter().find(|kind| kind.kind == NodeKind::Near).unwrap();
        (tenant.name, near.used)
    };
    tenants(pool).into_iter().map(of).collect()
}

/// What it waited for is forgotten with its connection; it asks again, waits again, and gets it
/// when there is room.
#[test]
fn who_waited_for_the_old_daemon_waits_for_the_new_one_and_is_served() {
    let mut pool = Pool::with_tenants(2, 2, vec![tenant("waits", WAIT)]);
    let mut first = Program::join_as(pool.socket(), "waits");
    first.send(&FromProgram::Commit { by: 4 });
    assert_eq!(first.hear(), GRANTED);
    let leased = first.lease(4);
    let mut second = Program::join_as(pool.socket(), "waits");
    second.send(&FromProgram::Commit { by: 3 });
    wait_for_waiting(&pool, 1);

    pool.stop_daemon();
    assert_eq!(second.hear(), None, "no answer, but the end of the connection");
    pool.start_daemon();
    is_welcome(second.come_back_as(pool.socket(), &[], "waits"));
    assert_eq!(tenants(&pool)[0].waiting.requests, 0, "nobody has asked this one for anything");
    // It waits already while the other is awaited, and goes on once that is here.
    second.send(&FromProgram::Commit { by: 3 });
    wait_for_waiting(&pool, 1);
    is_welcome(first.come_back_as(pool.socket(), &leased, "waits"));
    assert_eq!(pool.status().awaited, 0);
    assert_eq!(pool.leased(), 4);
    wait_for_waiting(&pool, 1);

    drop(first);
    assert_eq!(second.hear(), GRANTED);
    assert_eq!(blocks(&second.lease(3)).len(), 3);
    wait_for_waiting(&pool, 0);
}

#[test]
fn after_a_restart_programs_belong_to_the_tenants_that_there_are_now() {
    let all = vec![tenant("web", OnDepletion::Fail), tenant("db", OnDepletion::Fail)];
    let mut pool = Pool::with_tenants(8, 8, all);
    let mut web = Program::join_as(pool.socket(), "web");
    let mut db = Program::join_as(pool.socket(), "db");
    let (of_web, of_db) = (web.lease(2), db.lease(3));
    let mib = ByteSize::from_pageblocks;
    let named = |name: &str, pageblocks| (name.to_owned(), mib(pageblocks));
    assert_eq!(near(&pool), [named("web", 2), named("db", 3)]);
    pool.stop_daemon();

    // One tenant has another name and place now, and a maximum below what its program has; the
    // other is gone.
    let mut renamed = tenant("web", OnDepletion::Fail);
    renamed.name = "front".to_owned();
    renamed.quotas.entry(NodeKind::Near).or_default().max = Some(mib(1));
    pool.config.tenants = vec![tenant("batch", OnDepletion::Fail), renamed];
    pool.start_daemon();
    is_welcome(web.come_back_as(pool.socket(), &of_web, "web"));
    assert_eq!(near(&pool), [named("batch", 0), named("front", 2)], "what it has it keeps");
    assert_eq!(blocks(&web.lease(1))[0].0, 8, "and of near memory gets no more");

    let Some(ToProgram::Refused(why)) = db.come_back_as(pool.socket(), &of_db, "db") else {
        panic!("let in, though no tenant is for it")
    };
    assert!(why.to_string().contains("label db"), "{why}");
    // It may still be using what it has.
    db.write(blocks(&of_db)[0], 7);
    assert_eq!(db.read(blocks(&of_db)[0]), 7);
    let status = pool.status();
    let programs: Vec<_> = status.programs.iter().map(|one| one.tenant.as_str()).collect();
    assert_eq!(programs, ["front"]);
}

/// What was added as movable is that still, and so is the promise that nothing is asked to stay
/// there; what else is there is in the node's zone.
#[test]
fn a_block_keeps_its_zone_over_a_restart() {
    let mut pool = Pool::start(4, 4);
    let mut program = Program::join(pool.socket());
    assert_eq!(pool.give_back(4, "near").remaining, ByteSize(0));
    for zone in [Some(OnlineZone::Movable), None] {
        let bytes = ByteSize::from_pageblocks(2);
        let add = ControlRequest::Add { bytes, to: "near".to_owned(), zone };
        assert_eq!(pool.control(add), ControlReply::Done { bytes });
    }
    let leased = program.lease(3);
    let zones = |pool: &Pool| {
        let zones = pool.status().nodes[0].zones.clone();
        zones.iter().map(|part| (part.zone, part.online, part.free)).collect::<Vec<_>>()
    };
    let size = ByteSize::from_pageblocks;
    let expected =
        [(OnlineZone::Kernel, size(2), size(1)), (OnlineZone::Movable, size(2), size(0))];
    assert_eq!(zones(&pool), expected);

    pool.stop_daemon();
    pool.start_daemon();
    is_welcome(program.come_back(pool.socket(), &leased));
    pool.wait_until("back", |status| status.awaited == 0);
    assert_eq!(zones(&pool), expected);
    program.send(&FromProgram::Pin { extents: leased, reason: HoldReason::NoMigration });
    let Some(ToProgram::Refused(why)) = program.hear() else { panic!("it may not stay there") };
    assert!(why.value.contains("2 of the 3 pageblocks"), "{why}");
}

/// Bad memory does not get better when no program is left and the nodes are configured anew.
#[test]
fn what_is_retired_of_a_node_stays_so_wherever_the_node_lies() {
    let size = ByteSize::from_pageblocks;
    let mut pool = Pool::start(4, 8);
    for (node, offset) in [("near", 2), ("far", 1), ("far", 6)] {
        let retire = ControlRequest::Retire { node: node.to_owned(), offset: size(offset) };
        assert_eq!(pool.control(retire), ControlReply::Done { bytes: size(1) });
    }
    let node = |name: &str, kind, pageblocks| {
        NodeConfig::new(name, kind, size(pageblocks), Backing::Memfd)
    };
    let anew = |pool: &mut Pool, nodes| {
        pool.stop_daemon();
        pool.config.nodes = nodes;
        pool.start_daemon();
        pool.status().nodes.iter().map(|node| node.retired).collect::<Vec<_>>()
    };
    let (near, far) = (node("near", NodeKind::Near, 4), node("far", NodeKind::Far, 8));
    let other = node("other", NodeKind::Far, 3);
    let retired = anew(&mut pool, vec![other.clone(), far, near.clone()]);
    assert_eq!(retired, [0, 2, 1].map(size));
    let program = Program::join(pool.socket());
    let mut all = blocks(&program.lease(12));
    all.sort_unstable();
    assert_eq!(all, [0, 1, 2, 3, 5, 6, 7, 8, 10, 11, 12, 14].map(Pageblock));
    assert_eq!(*pool.notices.lock().unwrap(), Vec::<String>::new());
    drop(program);
    pool.wait_until("gone", |status| status.programs.is_empty());

    assert_eq!(anew(&mut pool, vec![node("far", NodeKind::Far, 5)]), [size(1)]);
    let said = [
        "node far: 2MiB that were retired are forgotten: it is smaller than it was",
        "node near: 2MiB that were retired are forgotten: the pool has no such node any more",
    ];
    assert_eq!(*pool.notices.lock().unwrap(), said);
    assert_eq!(anew(&mut pool, vec![near, other]), [0, 0].map(size));
}
