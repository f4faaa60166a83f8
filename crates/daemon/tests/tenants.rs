//! Programs of several tenants: who is let in, who gets what, who waits, and what is said of it.

mod common;

use std::{
    collections::BTreeSet,
    time::{Duration, Instant},
};

use common::{Pool, Program, blocks, next_packet};
use memtide_daemon::config::{Quota, TenantConfig};
use memtide_engine::{
    mempolicy::{MemPolicy, Mode},
    tenant::{Access, Migration, OnDepletion, Who},
};
use memtide_proto::{
    ControlReply, ControlRequest, FromProgram, ToProgram, Whom,
    control::{self, Asked, Decision, Outcome, TenantStatus},
    decode,
    program::OnFull,
};
use memtide_units::{ByteSize, HoldReason, NodeId, NodeKind};

fn tenant(name: &str, on_depletion: OnDepletion) -> TenantConfig {
    TenantConfig {
        who: vec![Who::Label(name.to_owned())],
        on_depletion: Some(on_depletion),
        ..TenantConfig::everybody(name)
    }
}

fn at_most(mut tenant: TenantConfig, kind: NodeKind, pageblocks: u64) -> TenantConfig {
    tenant.quotas.entry(kind).or_default().max = Some(ByteSize::from_pageblocks(pageblocks));
    tenant
}

const WAIT: OnDepletion = OnDepletion::Wait(Duration::from_secs(3600));

fn promise(program: &Program, by: i64) -> Option<ToProgram> {
    program.send(&FromProgram::Commit { by });
    program.hear()
}

const GRANTED: Option<ToProgram> = Some(ToProgram::Commit { granted: true });
const REFUSED: Option<ToProgram> = Some(ToProgram::Commit { granted: false });

fn tenants(pool: &Pool) -> Vec<TenantStatus> {
    match pool.control(ControlRequest::Tenants) {
        ControlReply::Tenants { tenants, more: false } => tenants,
        other => panic!("{other:?}"),
    }
}

fn explain(pool: &Pool, whom: Whom) -> Vec<Decision> {
    match pool.control(ControlRequest::Explain { whom }) {
        ControlReply::Decisions { decisions, more: false } => decisions,
        other => panic!("{other:?}"),
    }
}

fn explain_tenant(pool: &Pool, name: &str) -> Vec<Decision> {
    explain(pool, Whom::Tenant(name.to_owned()))
}

/// Waits until so many requests of a tenant wait.
fn wait_for_waiting(pool: &Pool, name: &str, requests: u64) {
    let start = Instant::now();
    loop {
        let all = tenants(pool);
        let one = all.iter().find(|tenant| tenant.name == name).unwrap();
        if one.waiting.requests == requests {
            return;
        }
        assert!(start.elapsed() < common::LONG, "{one:?}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// Whether a program has heard anything after a while.
fn has_heard(program: &Program) -> bool {
    std::thread::sleep(Duration::from_millis(100));
    let heard = program.connection.receive(&mut vec![0; memtide_proto::MAX_PACKET_BYTES]);
    !matches!(heard, Ok(None))
}

#[test]
fn a_program_that_no_tenant_is_for_is_refused_and_told_who_it_is() {
    let mut other = tenant("other", OnDepletion::Fail);
    other.who.push(Who::Uid(u32::MAX - 1));
    let pool = Pool::with_tenants(2, 2, vec![other]);
    let (connection, _life) = Program::say_hello(pool.socket(), "web");
    let (packet, fds) = next_packet(&connection).expect("an answer");
    let Ok(ToProgram::Refused(why)) = decode(&packet) else { panic!("let in") };
    assert!(fds.is_empty());
    let text = why.to_string();
    let uid = rustix::process::geteuid().as_raw();
    assert!(text.contains(&format!("user {uid}, group")), "{text}");
    assert!(text.contains("label web"), "{text}");
    assert!(text.contains("expected one that a [[tenant]]"), "{text}");
    assert!(pool.status().programs.is_empty());
    // Neither an image nor a name was used up for it, and others come in.
    Program::join_as(pool.socket(), "other");
}

#[test]
fn a_label_that_is_none_is_refused() {
    let pool = Pool::with_tenants(2, 2, vec![TenantConfig::everybody("all")]);
    for label in ["a b", "\u{1b}[31m", &"x".repeat(65)] {
        let (connection, _life) = Program::say_hello(pool.socket(), label);
        let (packet, _) = next_packet(&connection).expect("an answer");
        let Ok(ToProgram::Refused(why)) = decode(&packet) else { panic!("let in") };
        assert_eq!(why.field, "MEMTIDE_LABEL");
    }
}

#[test]
fn the_first_tenant_that_fits_counts_and_children_inherit_it() {
    let uid = rustix::process::geteuid().as_raw();
    let gid = rustix::process::getegid().as_raw();
    let mut by_user = TenantConfig::everybody("by-user");
    by_user.who = vec![Who::Uid(uid)];
    let mut by_group = TenantConfig::everybody("by-group");
    by_group.who = vec![Who::Gid(gid)];
    let pool = Pool::with_tenants(4, 4, vec![tenant("web", OnDepletion::Fail), by_user, by_group]);
    let web = Program::join_as(pool.socket(), "web");
    let _plain = Program::join(pool.socket());
    let names = |pool: &Pool| {
        let programs = pool.status().programs;
        programs.into_iter().map(|program| program.tenant).collect::<Vec<_>>()
    };
    assert_eq!(names(&pool), ["web", "by-user"]);
    let life = web.fork();
    let _child = Program::join_as_child(pool.socket(), life);
    assert_eq!(names(&pool), ["web", "by-user", "web"]);
    let all = tenants(&pool);
    let processes: Vec<_> = all.iter().map(|t| (t.name.as_str(), t.processes)).collect();
    assert_eq!(processes, [("web", 2), ("by-user", 1), ("by-group", 0)]);
    assert_eq!(all[0].who, ["label web"]);
    assert_eq!(all[1].who, [format!("uid {uid}")]);
}

#[test]
fn a_program_is_told_what_its_own_tenant_does_when_there_is_no_room() {
    let all = vec![
        tenant("fails", OnDepletion::Fail),
        tenant("falls", OnDepletion::FallBack),
        tenant("waits", OnDepletion::Wait(Duration::from_secs(90))),
        tenant("reclaims", OnDepletion::Reclaim(Duration::from_secs(60))),
    ];
    let pool = Pool::with_tenants(2, 2, all);
    for (label, on_full, least) in [
        ("fails", OnFull::Fail, 1),
        ("falls", OnFull::Fallback, 1),
        ("waits", OnFull::Fail, 90_000),
        ("reclaims", OnFull::Fail, 60_000),
    ] {
        let program = Program::join_as(pool.socket(), label);
        assert_eq!(program.on_full, on_full, "{label}");
        assert!((least..=least + 10_000).contains(&program.wait_ms), "{}", program.wait_ms);
    }
}

#[test]
fn a_promise_waits_for_another_of_its_tenant_and_is_kept_when_that_ends() {
    let mut waits = at_most(tenant("waits", WAIT), NodeKind::Near, 2);
    let denied = Quota { access: Access::Denied, ..Quota::default() };
    waits.quotas.insert(NodeKind::Far, denied);
    let pool = Pool::with_tenants(4, 4, vec![waits, TenantConfig::everybody("rest")]);
    let first = Program::join_as(pool.socket(), "waits");
    assert_eq!(promise(&first, 2), GRANTED);
    let leased = first.lease(2);
    let second = Program::join_as(pool.socket(), "waits");
    second.send(&FromProgram::Commit { by: 1 });
    second.send(&FromProgram::Commit { by: 1 });
    wait_for_waiting(&pool, "waits", 2);
    assert!(!has_heard(&second), "answered before there was anything");
    // Others do not wait for it.
    let other = Program::join(pool.socket());
    assert_eq!(promise(&other, 3), GRANTED);
    let told = tenants(&pool);
    assert_eq!(told[0].waiting.bytes, ByteSize::from_pageblocks(2));
    assert_eq!(told[0].kinds[0].used, ByteSize::from_pageblocks(2));
    assert_eq!(told[0].kinds[0].max, Some(ByteSize::from_pageblocks(2)));
    let waiting = explain_tenant(&pool, "waits");
    let waits: Vec<_> = waiting.iter().filter(|d| d.outcome == Outcome::Waits).collect();
    assert!(!waits.is_empty() && waits[0].wait_ms > 3_000_000, "{waiting:#?}");

    first.send(&FromProgram::Release { extents: leased });
    drop(first);
    assert_eq!(second.hear(), GRANTED);
    assert_eq!(second.hear(), GRANTED);
    assert_eq!(blocks(&second.lease(2)).len(), 2);
    wait_for_waiting(&pool, "waits", 0);
}

#[test]
fn who_dies_while_it_waits_waits_no_longer() {
    let waits = at_most(at_most(tenant("waits", WAIT), NodeKind::Near, 2), NodeKind::Far, 2);
    let pool = Pool::with_tenants(4, 4, vec![waits]);
    let first = Program::join_as(pool.socket(), "waits");
    assert_eq!(promise(&first, 4), GRANTED);
    let dying = Program::join_as(pool.socket(), "waits");
    dying.send(&FromProgram::Commit { by: 4 });
    wait_for_waiting(&pool, "waits", 1);
    let patient = Program::join_as(pool.socket(), "waits");
    patient.send(&FromProgram::Commit { by: 4 });
    wait_for_waiting(&pool, "waits", 2);
    drop(dying);
    wait_for_waiting(&pool, "waits", 1);
    drop(first);
    assert_eq!(patient.hear(), GRANTED);
}

#[test]
fn who_has_waited_long_enough_is_refused() {
    let short = OnDepletion::Wait(Duration::from_millis(300));
    let waits = at_most(at_most(tenant("waits", short), NodeKind::Near, 1), NodeKind::Far, 1);
    let pool = Pool::with_tenants(4, 4, vec![waits]);
    let first = Program::join_as(pool.socket(), "waits");
    assert_eq!(promise(&first, 2), GRANTED);
    let second = Program::join_as(pool.socket(), "waits");
    let start = Instant::now();
    assert_eq!(promise(&second, 1), REFUSED);
    assert!(start.elapsed() >= Duration::from_millis(300), "{:?}", start.elapsed());
    let last = explain(&pool, Whom::Everybody).pop().unwrap();
    assert_eq!((last.outcome, last.asked), (Outcome::TimedOut, Asked::Promise));
    // What can never be had is refused at once: it has not waited.
    assert_eq!(promise(&second, 3), REFUSED);
    let last = explain(&pool, Whom::Everybody).pop().unwrap();
    assert_eq!((last.outcome, last.asked), (Outcome::Refused, Asked::Promise));
}

#[test]
fn a_refusal_and_a_fall_back_are_explained_with_their_numbers() {
    let fails =
        at_most(at_most(tenant("fails", OnDepletion::Fail), NodeKind::Near, 1), NodeKind::Far, 1);
    let falls = at_most(tenant("falls", OnDepletion::FallBack), NodeKind::Near, 1);
    let pool = Pool::with_tenants(4, 4, vec![fails, falls]);
    let failing = Program::join_as(pool.socket(), "fails");
    assert_eq!(promise(&failing, 3), REFUSED);
    let told = explain_tenant(&pool, "fails");
    let [only] = told.as_slice() else { panic!("{told:#?}") };
    assert_eq!((only.asked, only.outcome), (Asked::Promise, Outcome::Refused));
    assert_eq!((only.pid, only.bytes), (std::process::id(), ByteSize::from_pageblocks(3)));
    let most = only.because.iter().find_map(|reason| reason.amounts.get("most"));
    assert_eq!(most, Some(&ByteSize::from_pageblocks(2)), "{only:#?}");

    let falling = Program::join_as(pool.socket(), "falls");
    assert_eq!(blocks(&falling.lease(3)).len(), 3);
    let told = explain_tenant(&pool, "falls");
    let near = told.iter().flat_map(|decision| &decision.because);
    let near: Vec<_> = near.filter(|reason| reason.node.as_deref() == Some("near")).collect();
    assert!(!near.is_empty(), "{told:#?}");
    assert_eq!(near[0].rule, "maximum");
    assert_eq!(near[0].amounts["max"], ByteSize::from_pageblocks(1));
    assert!(near[0].text.starts_with("near: the tenant has"), "{}", near[0].text);

    // By process, also of one that has ended. Both programs here have the number of this one: the
    // last counts, and the image tells them apart.
    let of_pid = |pool: &Pool| explain(pool, Whom::Pid(std::process::id()));
    let images = |all: &[Decision]| all.iter().map(|one| one.image).collect::<BTreeSet<_>>();
    assert_eq!(of_pid(&pool).len(), told.len());
    assert_eq!(images(&of_pid(&pool)), BTreeSet::from([falling.image]));
    assert_eq!(
        images(&explain(&pool, Whom::Everybody)),
        BTreeSet::from([failing.image, falling.image])
    );
    let last = falling.image;
    drop((failing, falling));
    pool.wait_until("nobody", |status| status.programs.is_empty());
    assert_eq!(of_pid(&pool).len(), told.len());
    assert_eq!(images(&of_pid(&pool)), BTreeSet::from([last]));
    // A program that has the number now, and asked for nothing, is not one that had it.
    let fresh = Program::join_as(pool.socket(), "falls");
    assert_eq!(of_pid(&pool), []);
    drop(fresh);
    for whom in [Whom::Pid(1), Whom::Tenant("nobody".to_owned())] {
        let reply = pool.control(ControlRequest::Explain { whom });
        assert!(matches!(reply, ControlReply::Refused(_)), "{reply:?}");
    }
}

#[test]
fn what_is_guaranteed_is_held_free_for_its_tenant() {
    let mut sure = tenant("sure", OnDepletion::Fail);
    let quota = Quota { min: ByteSize::from_pageblocks(3), ..Quota::default() };
    sure.quotas.insert(NodeKind::Near, quota);
    let greedy = tenant("greedy", OnDepletion::FallBack);
    let pool = Pool::with_tenants(4, 4, vec![sure, greedy]);
    let greedy = Program::join_as(pool.socket(), "greedy");
    assert_eq!(blocks(&greedy.lease(8)).len(), 5);
    assert_eq!(greedy.lease(1), []);
    let sure = Program::join_as(pool.socket(), "sure");
    assert_eq!(promise(&sure, 3), GRANTED);
    assert_eq!(blocks(&sure.lease(3)).len(), 3);
    assert_eq!(pool.leased(), 8);
}

#[test]
fn a_tenant_whose_memory_never_moves_holds_it_by_name() {
    let mut stays = tenant("stays", OnDepletion::Fail);
    stays.migration = Migration::Never;
    stays.policy =
        MemPolicy { mode: Mode::Bind([NodeId(1)].into_iter().collect()), ..MemPolicy::LOCAL };
    let pool = Pool::with_tenants(4, 4, vec![stays]);
    let program = Program::join_as(pool.socket(), "stays");
    assert!(blocks(&program.lease(2)).iter().all(|block| block.0 >= 4), "bound to far");
    let report = pool.give_back(4, "far");
    assert_eq!(report.returned, ByteSize::from_pageblocks(2), "{report:?}");
    assert_eq!(report.holders[0].tenant, "stays");
    assert_eq!(report.holders[0].reason, HoldReason::NoMigration);
    let told = tenants(&pool);
    assert_eq!(told[0].policy, "bind far");
    assert_eq!(told[0].on_depletion, control::OnDepletion::Fail);
}

#[test]
fn a_returning_program_belongs_to_its_tenant_again() {
    let mut pool = Pool::with_tenants(
        4,
        4,
        vec![tenant("web", OnDepletion::Fail), TenantConfig::everybody("rest")],
    );
    let mut program = Program::join_as(pool.socket(), "web");
    let leased = program.lease(2);
    pool.stop_daemon();
    pool.start_daemon();
    let welcome = program.come_back_as(pool.socket(), &leased, "web");
    assert!(matches!(welcome, Some(ToProgram::Welcome { .. })), "{welcome:?}");
    assert_eq!(pool.status().programs[0].tenant, "web");
    assert_eq!(tenants(&pool)[0].kinds[0].used, ByteSize::from_pageblocks(2));
}

#[test]
fn senseless_promises_end_the_connection_and_nothing_else() {
    let pool = Pool::with_tenants(4, 4, vec![tenant("waits", WAIT)]);
    let first = Program::join_as(pool.socket(), "waits");
    assert_eq!(promise(&first, 8), GRANTED);
    for by in [0, -1, i64::MIN] {
        let hostile = Program::join_as(pool.socket(), "waits");
        hostile.send(&FromProgram::Commit { by: 1 });
        wait_for_waiting(&pool, "waits", 1);
        hostile.send(&FromProgram::Commit { by });
        assert!(matches!(hostile.hear(), Some(ToProgram::Refused(_))), "{by}");
        assert_eq!(hostile.hear(), None);
        wait_for_waiting(&pool, "waits", 0);
    }
    assert_eq!(blocks(&first.lease(8)).len(), 8);
}

#[test]
fn whoever_asks_without_end_is_answered_within_bounds() {
    let pool = Pool::with_tenants(4, 4, vec![tenant("waits", WAIT)]);
    let first = Program::join_as(pool.socket(), "waits");
    assert_eq!(promise(&first, 8), GRANTED);
    let greedy = Program::join_as(pool.socket(), "waits");
    for _ in 0..5000 {
        greedy.send(&FromProgram::Commit { by: 1 });
    }
    // More than may wait: they are answered as things are, in order.
    assert_eq!(greedy.hear(), REFUSED);
    assert!(tenants(&pool)[0].waiting.requests < 5000);
    assert_eq!(blocks(&first.lease(8)).len(), 8);
}

#[test]
fn whatever_waits_says_for_what() {
    let waits = at_most(at_most(tenant("waits", WAIT), NodeKind::Near, 1), NodeKind::Far, 1);
    let mut pool = Pool::with_tenants(4, 4, vec![waits]);
    let mut first = Program::join_as(pool.socket(), "waits");
    assert_eq!(promise(&first, 2), GRANTED);
    let second = Program::join_as(pool.socket(), "waits");
    let last = |pool: &Pool| explain_tenant(pool, "waits").pop().unwrap();
    // Each line has reasons of its own, and in each the second waits for the first.
    let lines = [
        (Asked::Promise, "promises-of-tenant", FromProgram::Commit { by: 1 }),
        (Asked::Lease, "promised", FromProgram::Lease { count: 1, after: None }),
    ];
    let mut waiting = 0;
    for (asked, first_rule, message) in lines {
        for (rule, count) in [(first_rule, None), ("earlier", Some(1))] {
            second.send(&message);
            waiting += 1;
            wait_for_waiting(&pool, "waits", waiting);
            let last = last(&pool);
            assert_eq!((last.outcome, last.asked), (Outcome::Waits, asked));
            let reason = &last.because[0];
            assert_eq!((reason.rule.as_str(), reason.count), (rule, count), "{last:#?}");
        }
    }
    drop(second);

    pool.stop_daemon();
    pool.start_daemon();
    let third = Program::join_as(pool.socket(), "waits");
    third.ask_for(1);
    wait_for_waiting(&pool, "waits", 1);
    let last = last(&pool);
    let reason = &last.because[0];
    assert_eq!(reason.rule, "recovery", "{last:#?}");
    let welcome = first.come_back_as(pool.socket(), &[], "waits");
    assert!(matches!(welcome, Some(ToProgram::Welcome { .. })), "{welcome:?}");
}
