//! What is promised within some nodes is there, whatever others do on the nodes that they share.

use std::{collections::BTreeMap, time::Duration};

use memtide_engine::{
    Asked, Config, Input, NodeConfig, Outcome, Rule, TenantConfig, mempolicy::MemPolicy,
    tenant::OnDepletion,
};
use memtide_units::{MemberId, NodeId, NodeKind, Pageblock, Random, TenantId};

use crate::{
    bench::{Bench, FAR, NEAR, Program, REQUEST, run, size},
    tenants::{bind, quota, tenant},
};

fn set_policy(bench: &mut Bench, program: Program, policy: MemPolicy) {
    let (member, policy) = (program.member, Some(policy));
    assert_eq!(bench.say(Input::SetPolicy { member, policy }), []);
}

fn count(extents: &[memtide_units::Extent]) -> u64 {
    extents.iter().map(|extent| u64::from(extent.count)).sum()
}

#[test]
fn what_is_promised_of_near_memory_is_not_lent_to_those_who_may_have_far() {
    let mut bench = Bench::new();
    let (bound, other) = (bench.join(), bench.join());
    set_policy(&mut bench, bound, bind(&[NEAR]));
    assert!(bench.commit(bound, 10));
    // There is room enough in all, but not near.
    assert_eq!(bench.lease(other, 16), [run(0, 6), run(16, 10)].concat());
    assert_eq!(count(&bench.lease(bound, 10)), 10);
}

#[test]
fn what_others_have_near_is_not_promised_of_near() {
    let mut bench = Bench::new();
    let (bound, other) = (bench.join(), bench.join());
    bench.lease(other, 12);
    set_policy(&mut bench, bound, bind(&[NEAR]));
    assert!(!bench.commit(bound, 5));
    assert!(bench.commit(bound, 4));
    // What is being zeroed will be there.
    bench.release(other, run(0, 3));
    assert!(bench.commit(bound, 3));
    bench.quiet();
    assert!(!bench.commit(bound, 1));
    assert_eq!(count(&bench.lease(bound, 7)), 7);
}

#[test]
fn no_move_takes_what_is_promised_but_capacity_that_leaves_does() {
    let mut bench = Bench::new();
    let (bound, other) = (bench.join(), bench.join());
    set_policy(&mut bench, bound, bind(&[NEAR]));
    assert!(bench.commit(bound, 12));
    set_policy(&mut bench, other, bind(&[FAR]));
    bench.lease(other, 8);
    let deadline = Duration::from_secs(60);
    let (request, member, to) = (REQUEST, other.member, NEAR);
    bench.say(Input::MoveTo { request, member, to, bytes: None, deadline });
    bench.quiet();
    assert_eq!(bench.counts(NEAR).1, 4);
    bench.give_back(8, NEAR);
    bench.quiet();
    assert_eq!(bench.counts(NEAR).3, 8);
}

#[test]
fn a_policy_that_leads_elsewhere_keeps_as_much_of_a_promise_as_fits_there() {
    let mut bench = Bench::new();
    let program = bench.join();
    assert!(bench.commit(program, 40));
    set_policy(&mut bench, program, bind(&[NEAR]));
    assert_eq!(bench.engine.tenant_status()[0].promised, size(16));
    // What was cut off can be given up like the rest.
    bench.say(Input::Commit { member: program.member, by: -40 });
    assert_eq!(bench.engine.tenant_status()[0].promised, size(0));
}

/// Nodes of eight pageblocks each, near and far in turn.
fn nodes(nodes: u16) -> Config {
    let node = |n: u16| {
        let kind = if n.is_multiple_of(2) { NodeKind::Near } else { NodeKind::Far };
        NodeConfig::new(NodeId(n), "n", kind, Pageblock(u64::from(n) * 8), 8)
    };
    let mut config = Config::new((0..nodes).map(node).collect());
    config.limits.patience = Duration::ZERO;
    config
}

fn mask(random: &mut Random, nodes: u16) -> Vec<NodeId> {
    let chosen = (0..nodes).filter(|_| random.below(2) == 0).map(NodeId).collect::<Vec<_>>();
    if chosen.is_empty() { vec![NodeId(0)] } else { chosen }
}

/// Unions matter: {0, 1} and {1, 2} have room each, and not together.
#[test]
fn promises_are_counted_in_every_union_of_reaches() {
    let mut bench = Bench::with(nodes(4));
    let programs: Vec<_> = (0..3).map(|_| bench.join()).collect();
    let masks = [&[0, 1][..], &[1, 2], &[0, 2]];
    for (program, mask) in programs.iter().zip(masks) {
        let mask: Vec<_> = mask.iter().copied().map(NodeId).collect();
        set_policy(&mut bench, *program, bind(&mask));
    }
    assert!(bench.commit(programs[0], 12) && bench.commit(programs[1], 12));
    assert!(!bench.commit(programs[2], 1));
    assert!(!bench.commit(programs[1], 1));
    for program in &programs[..2] {
        assert_eq!(count(&bench.lease(*program, 12)), 12);
    }
}

fn tenant_of(bench: &Bench, program: Program) -> TenantId {
    bench.engine.tenant_of_member(program.member).unwrap()
}

/// Promises within nodes of a kind leave less of their tenant's maximum to those that lead further.
#[test]
fn what_is_promised_near_leaves_less_of_the_maximum_to_other_promises() {
    let mut config = nodes(4);
    let capped = tenant("capped", 1, &[(NodeKind::Near, quota(0, Some(8)))]);
    config.tenants = vec![capped, tenant("plain", 2, &[])];
    let mut bench = Bench::with(config);
    let [near, any, plain] = [1, 1, 2].map(|uid| bench.join_as(uid));
    set_policy(&mut bench, near, bind(&[NodeId(0)]));
    set_policy(&mut bench, any, bind(&[0, 1, 2, 3].map(NodeId)));
    set_policy(&mut bench, plain, bind(&[0, 1, 3].map(NodeId)));
    assert!(bench.commit(near, 4) && bench.commit(any, 20));
    // Of 24, four are near's; of the maximum four are left, so that 16 of any's must be far.
    assert!(!bench.commit(plain, 5) && bench.commit(plain, 4));
    for (program, asked) in [(plain, 4), (any, 20), (near, 4)] {
        assert_eq!(count(&bench.lease(program, asked)), u64::from(asked));
    }
}

/// What is missing already is nobody's fault who has what was kept for it.
#[test]
fn where_capacity_has_left_what_is_guaranteed_is_had_and_nothing_else() {
    let mut config = nodes(1);
    let sure = tenant("sure", 1, &[(NodeKind::Near, quota(3, None))]);
    config.tenants = vec![sure, tenant("plain", 2, &[])];
    let mut bench = Bench::with(config);
    let [sure, plain, other] = [1, 2, 2].map(|uid| bench.join_as(uid));
    assert!(bench.commit(plain, 5));
    bench.give_back(4, NodeId(0));
    bench.quiet();
    // Four are left of the eight that are guaranteed or promised.
    assert_eq!(count(&bench.lease(other, 1)), 0);
    assert_eq!(count(&bench.lease(sure, 4)), 3);
    assert_eq!(count(&bench.lease(sure, 1)), 0);
    assert_eq!(count(&bench.lease(plain, 5)), 1);
}

/// All nodes, or some of one kind.
fn mask_within_quotas(random: &mut Random, nodes: u16) -> Vec<NodeId> {
    let kind = random.below(3) as u16;
    if kind == 2 {
        return (0..nodes).map(NodeId).collect();
    }
    let of_kind = (0..nodes).filter(|node| node % 2 == kind);
    let chosen = of_kind.filter(|_| random.below(2) == 0).map(NodeId).collect::<Vec<_>>();
    if chosen.is_empty() { vec![NodeId(kind)] } else { chosen }
}

/// Whoever asks for what it was promised gets it, as long as nothing leaves, and no policy of a
/// tenant with quotas has a part of a kind and nodes of another.
#[test]
fn whoever_was_promised_something_gets_it() {
    let strict = |name, uid| tenant(name, uid, &[]);
    let falls = TenantConfig { on_depletion: OnDepletion::FallBack, ..strict("falls", 3) };
    let quotas = [(NodeKind::Near, quota(4, Some(11))), (NodeKind::Far, quota(0, Some(9)))];
    let tenants = vec![strict("plain", 1), tenant("other", 2, &quotas), falls];
    let (mut given, mut refused) = (0, 0);
    for seed in 0..60 {
        let mut random = Random::new(seed);
        let mut config = nodes(5);
        config.tenants = tenants.clone();
        let mut bench = Bench::with(config);
        let programs: Vec<_> = (1..=3).flat_map(|uid| [uid; 3]).map(|u| bench.join_as(u)).collect();
        let mut promised: BTreeMap<MemberId, (u64, Vec<memtide_units::Extent>)> = BTreeMap::new();
        for (n, program) in programs.iter().enumerate() {
            let has_quotas = programs[3..6].contains(program);
            let mask = if has_quotas { mask_within_quotas } else { mask };
            let nodes = mask(&mut random, 5);
            set_policy(&mut bench, *program, bind(&nodes));
            promised.insert(program.member, (0, Vec::new()));
            assert_eq!(tenant_of(&bench, *program), TenantId(n as u16 / 3));
        }
        for step in 0..200 {
            let program = programs[random.below(9) as usize];
            let is_strict = tenant_of(&bench, program) != TenantId(2);
            let (committed, has) = promised.get_mut(&program.member).unwrap();
            match random.below(4) {
                0 if is_strict => {
                    let by = random.below(12) + 1;
                    let yes = bench.commit(program, by as i64);
                    *committed += if yes { by } else { 0 };
                    *(if yes { &mut given } else { &mut refused }) += 1;
                }
                1 if !has.is_empty() => {
                    let gone = has.swap_remove(random.below(has.len() as u64) as usize);
                    bench.release(program, vec![gone]);
                    bench.quiet();
                }
                2 if *committed > 0 => {
                    bench.say(Input::Commit { member: program.member, by: -1 });
                    *committed -= 1;
                }
                _ => {
                    let open = committed.saturating_sub(count(has));
                    let asked = random.below(10) + 1;
                    let got = bench.lease(program, asked as u32);
                    let got_count = count(&got);
                    let decisions = bench.engine.decisions(tenant_of(&bench, program));
                    assert!(
                        got_count >= asked.min(open),
                        "seed {seed} step {step}: {got_count} of {asked}, {open} promised: {}",
                        decisions.last().unwrap()
                    );
                    has.extend(got.iter().flat_map(|e| e.iter()).map(|p| run(p.0, 1)[0]));
                }
            }
        }
    }
    assert!(given > 300 && refused > 300, "{given} {refused}");
}

#[test]
fn promises_within_more_sets_of_nodes_than_are_counted_are_refused() {
    let mut bench = Bench::with(nodes(12));
    let mut refused = 0;
    for n in 0..12 {
        let program = bench.join();
        set_policy(&mut bench, program, bind(&[NodeId(n)]));
        if !bench.commit(program, 1) {
            let decision = bench.engine.decisions(TenantId(0)).last().unwrap().clone();
            assert_eq!((decision.asked, decision.outcome), (Asked::Promise(1), Outcome::Refused));
            assert_eq!(decision.rules, [Rule::Masks { most: 512 }]);
            refused += 1;
            // Leases are placed as ever, and what is known already goes on being promised.
            assert_eq!(count(&bench.lease(program, 1)), 1);
            set_policy(&mut bench, program, bind(&[NodeId(0)]));
            assert!(bench.commit(program, 1));
        }
    }
    assert_eq!(refused, 3);
}
