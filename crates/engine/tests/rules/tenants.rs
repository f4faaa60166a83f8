//! Who may have what, and how much.

use std::collections::BTreeMap;

use memtide_engine::{
    Config, ConfigError, Effect, Engine, Input, Lineage, NodeConfig, Refusal, TenantConfig,
    mempolicy::{MemPolicy, Mode, PolicyError},
    nodes::{Capabilities, Capability, NodeClass},
    tenant::{Access, Credentials, Migration, OnDepletion, Quota, TenantError, Who},
};
use memtide_units::{HoldReason, MemberId, NodeId, NodeKind, Pageblock, TenantId, TokenId};

use crate::bench::{Bench, FAR, NEAR, Program, config, holders, report, run, size};

/// A tenant for one user.
pub fn tenant(name: &str, uid: u32, kinds: &[(NodeKind, Quota)]) -> TenantConfig {
    TenantConfig {
        who: vec![Who::Uid(uid)],
        quotas: kinds.iter().copied().collect(),
        ..TenantConfig::everybody(name)
    }
}

pub const fn quota(min: u64, max: Option<u64>) -> Quota {
    Quota { access: Access::Allowed, max, min, pinned_max: None }
}

pub const DENIED: Quota = Quota { access: Access::Denied, max: None, min: 0, pinned_max: None };

pub fn with(tenants: Vec<TenantConfig>) -> Config {
    Config { tenants, ..config() }
}

impl Bench {
    /// A program of a user.
    pub fn join_as(&mut self, uid: u32) -> Program {
        let program = Program { member: MemberId(self.fresh()), token: TokenId(self.fresh()) };
        self.say(self.joining_as(program, uid));
        program
    }

    fn joining_as(&self, program: Program, uid: u32) -> Input {
        let Input::Join { member, pid, name, token, lineage, .. } =
            self.joining(program, Lineage::Fresh)
        else {
            unreachable!()
        };
        let who = Credentials { uid, gid: 9, ..Credentials::default() };
        Input::Join { member, pid, name, token, lineage, who }
    }

    /// What the first tenants are charged for, of near and of far memory.
    fn used(&self) -> Vec<(u64, u64)> {
        let status = self.engine.tenant_status();
        let used = |tenant: &memtide_engine::TenantStatus, kind: NodeKind| {
            tenant.kinds[kind as usize].used.pageblocks_ceil()
        };
        status.iter().map(|t| (used(t, NodeKind::Near), used(t, NodeKind::Far))).collect()
    }
}

#[test]
fn the_first_tenant_that_fits_a_program_counts() {
    let label = Who::Label(String::from("db"));
    let group = Who::Cgroup(String::from("/batch"));
    let named = |name, who| TenantConfig { who, ..TenantConfig::everybody(name) };
    let tenants = vec![
        named("users", vec![Who::Uid(1), Who::Gid(2)]),
        named("labelled", vec![label]),
        named("batch", vec![group]),
    ];
    let mut bench = Bench::with(with(tenants));
    let who = |uid, gid, cgroup: &str, label: &str| Credentials {
        uid,
        gid,
        cgroup: String::from(cgroup),
        label: String::from(label),
    };
    let cases = [
        (who(1, 0, "", "db"), Some(0)),
        (who(0, 2, "", ""), Some(0)),
        (who(0, 0, "", "db"), Some(1)),
        (who(0, 0, "/batch", ""), Some(2)),
        (who(0, 0, "/batch/job1", ""), Some(2)),
        (who(0, 0, "/batches", ""), None),
        (who(7, 8, "", ""), None),
    ];
    for (who, expected) in cases {
        let (member, token) = (MemberId(bench.fresh()), TokenId(bench.fresh()));
        let (uid, gid) = (who.uid, who.gid);
        let name = String::from("p");
        let join = Input::Join { member, pid: 1, name, token, lineage: Lineage::Fresh, who };
        match expected {
            Some(tenant) => {
                bench.say(join);
                assert_eq!(bench.engine.tenant_of_member(member), Some(TenantId(tenant)));
            }
            None => assert_eq!(bench.refused(join), Refusal::NoTenant { uid, gid }),
        }
    }
}

#[test]
fn a_child_is_charged_to_its_parents_tenant() {
    let mut bench = Bench::with(with(vec![tenant("one", 1, &[]), tenant("two", 2, &[])]));
    let parent = bench.join_as(2);
    bench.lease(parent, 3);
    let child = bench.fork(parent);
    bench.say(bench.joining(child, Lineage::Child(child.token)));
    assert_eq!(bench.engine.tenant_of_member(child.member), Some(TenantId(1)));
    bench.lease(child, 2);
    assert_eq!(bench.used(), [(0, 0), (5, 0)]);
    // What the parent leaves is the child's, and still charged once.
    bench.say(Input::TokenGone { token: parent.token });
    assert_eq!(bench.used(), [(0, 0), (5, 0)]);
}

#[test]
fn a_maximum_is_never_exceeded_and_what_is_not_zeroed_counts() {
    let near = (NodeKind::Near, quota(0, Some(6)));
    let mut bench = Bench::with(with(vec![tenant("one", 1, &[near])]));
    let (a, b) = (bench.join_as(1), bench.join_as(1));
    assert_eq!(bench.lease(a, 4), run(0, 4));
    // The rest goes to the next node of the policy.
    assert_eq!(bench.lease(b, 4), [run(4, 2), run(16, 2)].concat());
    bench.release(a, run(0, 2));
    assert_eq!(bench.lease(b, 1), run(18, 1));
    bench.quiet();
    assert_eq!(bench.used(), [(4, 3)]);
    assert_eq!(bench.lease(b, 3), [run(0, 2), run(19, 1)].concat());
}

#[test]
fn what_is_guaranteed_is_there_whatever_others_ask_for() {
    let near = |min| (NodeKind::Near, quota(min, None));
    let far = (NodeKind::Far, DENIED);
    let mut bench = Bench::with(with(vec![
        tenant("sure", 1, &[near(6), far]),
        tenant("also", 2, &[near(3), far]),
        tenant("rest", 3, &[far]),
    ]));
    let (sure, also, rest) = (bench.join_as(1), bench.join_as(2), bench.join_as(3));
    // 16 near, of which 9 are guaranteed.
    assert_eq!(bench.lease(rest, 100), run(0, 7));
    assert_eq!(bench.lease(also, 100), run(7, 3));
    assert_eq!(bench.lease(rest, 1), []);
    assert_eq!(bench.lease(sure, 5), run(10, 5));
    // Beyond its minimum it has no more right to what is free than others.
    assert_eq!(bench.lease(sure, 100), run(15, 1));
    // What it gives back is still guaranteed to it.
    bench.release(sure, run(12, 3));
    bench.quiet();
    assert_eq!(bench.lease(rest, 1), []);
    assert_eq!(bench.lease(also, 1), []);
    assert_eq!(bench.lease(sure, 3), run(12, 3));
}

#[test]
fn a_kind_that_is_denied_is_never_used() {
    let mut bench = Bench::with(with(vec![tenant("one", 1, &[(NodeKind::Far, DENIED)])]));
    let program = bench.join_as(1);
    assert_eq!(bench.lease(program, 20), run(0, 16));
    // Nor by a move: near memory cannot be emptied to where its tenant may not be.
    bench.give_back(4, NEAR);
    assert!(bench.orders.is_empty());
    bench.say(Input::MoveTo {
        request: memtide_units::RequestId(77),
        member: program.member,
        to: FAR,
        bytes: None,
        deadline: std::time::Duration::from_secs(1),
    });
    assert!(bench.orders.is_empty());
    assert_eq!(bench.used(), [(16, 0)]);
}

#[test]
fn moves_to_another_kind_keep_to_quotas_and_those_within_one_need_none() {
    let kinds = [(NodeKind::Near, quota(0, Some(8))), (NodeKind::Far, quota(0, Some(3)))];
    let mut bench = Bench::with(with(vec![tenant("one", 1, &kinds)]));
    let program = bench.join_as(1);
    bench.lease(program, 8);
    // Two blocks are free; the third would take four moves, of which three are allowed: it is not
    // moved in part in vain.
    let effects = bench.give_back(12, NEAR);
    let answer = report(&effects.into_iter().chain(bench.quiet()).collect::<Vec<_>>());
    assert_eq!(answer.returned, size(8));
    assert_eq!(holders(&answer)[0].2, HoldReason::NoRoom);
    assert_eq!(bench.used(), [(8, 0)]);
    // At its maximum of far memory, and still what lies far can be moved within that.
    let mut bench = Bench::with(with(vec![tenant("one", 1, &kinds)]));
    let program = bench.join_as(1);
    assert_eq!(bench.lease(program, 10), [run(0, 8), run(16, 2)].concat());
    let (member, after) = (program.member, Some(Pageblock(23)));
    bench.say(Input::Lease { member, count: 1, after, policy: None });
    bench.give_back(28, FAR);
    assert_eq!(bench.orders[0].2, [(Pageblock(24), Pageblock(18))]);
    assert_eq!(report(&bench.quiet()).returned, size(28));
    assert_eq!(bench.used(), [(8, 3)]);
}

#[test]
fn what_lies_where_its_tenant_may_not_be_any_more_moves_to_where_it_may() {
    let mut config = with(vec![tenant("one", 1, &[(NodeKind::Far, DENIED)])]);
    config.awaited.members = vec![MemberId(1)];
    config.awaited.until = memtide_units::Instant(std::time::Duration::from_secs(9));
    let mut bench = Bench::with(config);
    let claims = memtide_engine::Claims {
        member: MemberId(1),
        image: memtide_units::ImageId(4),
        leased: [run(16, 1), run(20, 1)].concat(),
        shared: Vec::new(),
        children: Vec::new(),
        committed: 0,
    };
    let program = Program { member: MemberId(1), token: TokenId(1) };
    let Input::Join { member, pid, name, token, lineage, .. } =
        bench.joining(program, Lineage::Returning(claims))
    else {
        unreachable!()
    };
    let who = Credentials { uid: 1, ..Credentials::default() };
    bench.say(Input::Join { member, pid, name, token, lineage, who });
    assert_eq!(bench.used(), [(0, 2)]);
    // The other block that it is in would have room, near is full.
    let near = bench.lease(program, 16);
    assert_eq!(near, run(0, 16));
    let answer = report(&bench.give_back(28, FAR));
    assert!(bench.orders.is_empty());
    assert_eq!((answer.returned, holders(&answer)[0].2), (size(24), HoldReason::NoRoom));
    bench.release(program, run(3, 1));
    bench.quiet();
    bench.give_back(4, FAR);
    assert_eq!(bench.orders[0].2, [(Pageblock(20), Pageblock(3))]);
}

#[test]
fn who_must_not_be_moved_is_not_and_is_named() {
    let stays = TenantConfig { migration: Migration::Never, ..tenant("one", 1, &[]) };
    let mut bench = Bench::with(with(vec![stays]));
    let program = bench.join_as(1);
    bench.lease(program, 16);
    let answer = report(&bench.give_back(16, NEAR));
    let pid = u32::try_from(program.member.0).unwrap();
    assert_eq!(holders(&answer), [(pid, 16, HoldReason::NoMigration)]);
    assert!(bench.orders.is_empty() && bench.engine.moved_pageblocks() == 0);
}

#[test]
fn pins_that_are_asked_for_keep_to_the_limit_and_facts_do_not() {
    let near = Quota { pinned_max: Some(3), ..Quota::default() };
    let mut bench = Bench::with(with(vec![tenant("one", 1, &[(NodeKind::Near, near)])]));
    let program = bench.join_as(1);
    bench.lease(program, 8);
    let member = program.member;
    let pin = |extents, reason| Input::Pin { member, extents, reason };
    let pinned = |bench: &Bench| bench.engine.tenant_status()[0].kinds[0].pinned;
    bench.say(pin(run(0, 2), HoldReason::NoMigration));
    // Pinned already: no more than before.
    bench.say(pin(run(1, 2), HoldReason::LongTermPin));
    assert_eq!(pinned(&bench), size(3));
    let (tenant, kind) = (TenantId(0), NodeKind::Near);
    let refusal = Refusal::PinLimit { tenant, kind, by: 2, pinned: 5, max: 3 };
    assert_eq!(bench.refused(pin(run(2, 3), HoldReason::LongTermPin)), refusal);
    let refusal = Refusal::PinLimit { tenant, kind, by: 1, pinned: 4, max: 3 };
    assert_eq!(bench.refused(pin(run(3, 1), HoldReason::NoMigration)), refusal);
    bench.say(pin(run(4, 4), HoldReason::IoUring));
    assert_eq!(pinned(&bench), size(7));
    let reason = HoldReason::NoMigration;
    bench.say(Input::Unpin { member, extents: run(0, 1), reason });
    let refusal = Refusal::PinLimit { tenant, kind, by: 1, pinned: 7, max: 3 };
    assert_eq!(bench.refused(pin(run(3, 1), reason)), refusal);
}

#[test]
fn a_fact_that_ends_leaves_no_more_pinned_than_may_be_asked_for() {
    let near = Quota { pinned_max: Some(3), ..Quota::default() };
    let mut bench = Bench::with(with(vec![tenant("one", 1, &[(NodeKind::Near, near)])]));
    let program = bench.join_as(1);
    bench.lease(program, 8);
    bench.pin(program, run(0, 8));
    let (tenant, kind, member) = (TenantId(0), NodeKind::Near, program.member);
    let refusal = Refusal::PinLimit { tenant, kind, by: 8, pinned: 8, max: 3 };
    let reason = HoldReason::LongTermPin;
    assert_eq!(bench.refused(Input::Pin { member, extents: run(0, 8), reason }), refusal);
}

#[test]
fn a_private_nodes_owner_permits_long_pins_or_not() {
    for permitted in [false, true] {
        let mut capabilities = Capabilities::NONE.with(Capability::UserNuma);
        if permitted {
            capabilities = capabilities.with(Capability::LongTermPin);
        }
        let node = NodeId(5);
        let mut config = config();
        let kind = NodeKind::Device;
        let class = NodeClass::Private(capabilities);
        config
            .nodes
            .push(NodeConfig { class, ..NodeConfig::new(node, "dev", kind, Pageblock(90), 4) });
        let mut bench = Bench::with(config);
        let program = bench.join();
        let policy = Some(bind(&[node]));
        let member = program.member;
        bench.say(Input::Lease { member, count: 2, after: None, policy });
        let pin = Input::Pin { member, extents: run(90, 1), reason: HoldReason::LongTermPin };
        if permitted {
            bench.say(pin);
        } else {
            let pageblock = Pageblock(90);
            assert_eq!(bench.refused(pin), Refusal::PinNotPermitted { pageblock, node });
        }
    }
}

pub fn bind(nodes: &[NodeId]) -> MemPolicy {
    MemPolicy { mode: Mode::Bind(nodes.iter().copied().collect()), ..MemPolicy::LOCAL }
}

#[test]
fn promises_are_kept_within_quotas_policies_and_what_others_are_sure_to_get() {
    let near = |quota| (NodeKind::Near, quota);
    let mut bench = Bench::with(with(vec![
        tenant("limited", 1, &[near(quota(0, Some(10))), (NodeKind::Far, DENIED)]),
        tenant("sure", 2, &[near(quota(4, None))]),
        TenantConfig { policy: bind(&[NEAR]), ..tenant("bound", 3, &[]) },
    ]));
    let (limited, sure, bound) = (bench.join_as(1), bench.join_as(2), bench.join_as(3));
    assert!(!bench.commit(limited, 11));
    assert!(bench.commit(limited, 10));
    // Its other process shares the limit.
    let other = bench.join_as(1);
    assert!(!bench.commit(other, 1));
    // Of 16 near 10 are promised and 4 guaranteed.
    assert!(!bench.commit(bound, 3));
    assert!(bench.commit(bound, 2));
    // Of 48 in all 12 are promised to others.
    assert!(!bench.commit(sure, 37));
    assert!(bench.commit(sure, 36));
    let _ = bench.say(Input::Commit { member: limited.member, by: -10 });
    assert!(bench.commit(sure, 10));
}

#[test]
fn what_is_promised_is_not_lent_to_those_who_can_fall_back() {
    let falls = TenantConfig {
        on_depletion: OnDepletion::FallBack,
        ..tenant("falls", 1, &[(NodeKind::Near, quota(2, None))])
    };
    let mut bench = Bench::with(with(vec![falls, tenant("strict", 2, &[])]));
    let (falls, strict) = (bench.join_as(1), bench.join_as(2));
    // A promise to a tenant that falls back binds nobody.
    assert!(bench.commit(falls, 1000));
    assert!(bench.commit(strict, 40));
    assert_eq!(bench.lease(falls, 20), run(0, 8));
    assert_eq!(bench.lease(strict, 40).iter().map(|run| run.count).sum::<u32>(), 40);
}

#[test]
fn what_is_promised_is_not_lent_to_those_who_were_not_promised_it() {
    let mut bench = Bench::new();
    let (promised, other) = (bench.join(), bench.join());
    let count = |extents: Vec<memtide_units::Extent>| extents.iter().map(|run| run.count).sum();
    assert!(bench.commit(promised, 40));
    let got: u32 = count(bench.lease(other, 48));
    assert_eq!(got, 8);
    let got: u32 = count(bench.lease(promised, 48));
    assert_eq!(got, 40);
}

#[test]
fn a_guarantee_of_one_kind_lends_nothing_of_another_that_is_promised() {
    let falls = TenantConfig {
        on_depletion: OnDepletion::FallBack,
        policy: bind(&[FAR]),
        ..tenant("falls", 1, &[(NodeKind::Near, quota(4, None))])
    };
    let mut bench = Bench::with(with(vec![falls, tenant("strict", 2, &[])]));
    let (falls, strict) = (bench.join_as(1), bench.join_as(2));
    assert!(bench.commit(strict, 44));
    for _ in 0..10 {
        bench.lease(falls, 4);
    }
    assert_eq!(bench.used()[0], (4, 0));
    let strict: u32 = bench.lease(strict, 44).iter().map(|run| run.count).sum();
    assert_eq!(strict, 44);
}

#[test]
fn what_is_retired_or_evacuated_is_not_promised() {
    let mut bench = Bench::new();
    (0..40).for_each(|n| drop(bench.say(Input::Poison { pageblock: Pageblock(n) })));
    let program = bench.join();
    assert!(!bench.commit(program, 9));
    assert!(bench.commit(program, 8));
    let mut bench = Bench::new();
    let (program, pins) = (bench.join(), bench.join());
    bench.lease(pins, 1);
    bench.pin(pins, run(0, 1));
    let (request, deadline) = (crate::bench::REQUEST, std::time::Duration::from_secs(60));
    bench.say(Input::Evacuate { request, node: NEAR, deadline });
    assert!(!bench.commit(program, 33));
    assert!(bench.commit(program, 31));
}

#[test]
fn configurations_of_tenants_that_make_no_sense_are_refused() {
    let refused = |tenants| Engine::new(with(tenants)).unwrap_err();
    let one = |kinds: &[(NodeKind, Quota)]| tenant("one", 1, kinds);
    let of_one = |source| ConfigError::Tenant { name: String::from("one"), source };
    let kind = NodeKind::Near;
    assert_eq!(refused(vec![]), ConfigError::Tenants { tenants: 0, most: 256 });
    let many = (0..257).map(|n| tenant(&format!("t{n}"), n, &[])).collect();
    assert_eq!(refused(many), ConfigError::Tenants { tenants: 257, most: 256 });
    let twice = vec![one(&[]), one(&[])];
    assert_eq!(refused(twice), ConfigError::TenantTwice { name: String::from("one") });
    let source = TenantError::MinAboveMax { kind, min: 3, max: 2 };
    assert_eq!(refused(vec![one(&[(kind, quota(3, Some(2)))])]), of_one(source));
    let denied = Quota { min: 1, ..DENIED };
    let source = TenantError::MinWithoutAccess { kind, min: 1 };
    assert_eq!(refused(vec![one(&[(kind, denied)])]), of_one(source));
    for weight in [0, 1001] {
        let tenant = TenantConfig { weight, ..one(&[]) };
        assert_eq!(refused(vec![tenant]), of_one(TenantError::Weight { weight }));
    }
    let nowhere = TenantConfig { policy: bind(&[NodeId(8)]), ..one(&[]) };
    let source = TenantError::Policy(PolicyError::NoSuchNode { node: NodeId(8) });
    assert_eq!(refused(vec![nowhere]), of_one(source));
    let half = |name, uid| tenant(name, uid, &[(kind, quota(9, None))]);
    let guarantees = ConfigError::Guarantees { kind, guaranteed: 18, present: 16 };
    assert_eq!(refused(vec![half("one", 1), half("two", 2)]), guarantees);
    let who = |who| TenantConfig { who: vec![who], ..one(&[]) };
    let source = TenantError::Nobody { field: "label" };
    assert_eq!(refused(vec![who(Who::Label(String::new()))]), of_one(source));
    assert_eq!(refused(vec![who(Who::Cgroup(String::from("a/b")))]), of_one(TenantError::Cgroup));
    let mut nameless = one(&[]);
    nameless.name.clear();
    let refusal = ConfigError::Tenant { name: String::new(), source: TenantError::NoName };
    assert_eq!(refused(vec![nameless]), refusal);
    let texts: BTreeMap<_, _> = [("min", guarantees.to_string())].into();
    assert_eq!(texts["min"], "18 pageblocks of near memory are guaranteed; expected 16 at most");
}

#[test]
fn a_program_that_returns_belongs_to_whom_it_is_now() {
    let mut config = with(vec![tenant("one", 1, &[]), tenant("two", 2, &[])]);
    config.awaited.members = vec![MemberId(1)];
    config.awaited.until = memtide_units::Instant(std::time::Duration::from_secs(9));
    let mut bench = Bench::with(config);
    let claims = memtide_engine::Claims {
        member: MemberId(1),
        image: memtide_units::ImageId(4),
        leased: run(0, 5),
        shared: Vec::new(),
        children: Vec::new(),
        committed: 5,
    };
    let join = |uid, claims: &memtide_engine::Claims| Input::Join {
        member: MemberId(1),
        pid: 1,
        name: String::from("back"),
        token: TokenId(1),
        lineage: Lineage::Returning(claims.clone()),
        who: Credentials { uid, ..Credentials::default() },
    };
    assert_eq!(bench.refused(join(3, &claims)), Refusal::NoTenant { uid: 3, gid: 0 });
    let effects: Vec<Effect> = bench.say(join(2, &claims));
    assert_eq!(effects, []);
    assert_eq!(bench.used(), [(0, 0), (5, 0)]);
    assert_eq!(bench.engine.tenant_status()[1].promised, size(5));
}
