//! Which rule, which numbers.

use std::time::Duration;

use memtide_engine::{
    Asked, Config, Decision, Input, NodeConfig, Outcome, Rule, Scope, TenantConfig,
    decision::DECISIONS_MAX,
    nodes::NodeClass,
    tenant::{Emergency, OnDepletion},
};
use memtide_units::{Instant, NodeId, NodeKind, Pageblock, TenantId};

use crate::{
    bench::{Bench, FAR, NEAR, Program},
    tenants::{DENIED, bind, quota, tenant, with},
};

const DEVICE: NodeId = NodeId(2);

fn explained() -> Config {
    let near = |quota| (NodeKind::Near, quota);
    let mut config = with(vec![
        tenant("limited", 1, &[near(quota(0, Some(3))), (NodeKind::Far, DENIED)]),
        tenant("sure", 2, &[near(quota(12, None))]),
        TenantConfig {
            emergency: Emergency::On,
            on_depletion: OnDepletion::FallBack,
            policy: bind(&[NEAR]),
            ..tenant("falls", 3, &[])
        },
        TenantConfig {
            on_depletion: OnDepletion::Wait(Duration::from_secs(3)),
            policy: bind(&[NEAR]),
            ..tenant("waits", 4, &[])
        },
    ]);
    let device = NodeConfig::new(DEVICE, "device", NodeKind::Device, Pageblock(48), 8);
    config.nodes.push(NodeConfig { class: NodeClass::Special, ..device });
    config.limits.patience = Duration::ZERO;
    config
}

fn last(bench: &Bench, tenant: u16) -> Decision {
    bench.engine.decisions(TenantId(tenant)).last().unwrap().clone()
}

fn ask(bench: &mut Bench, program: Program, count: u32) {
    bench.say(Input::Lease { member: program.member, count, after: None, policy: None });
}

#[test]
fn every_placement_and_refusal_says_which_rule_and_which_numbers() {
    let mut bench = Bench::with(explained());
    let (limited, sure, falls, waits) =
        (bench.join_as(1), bench.join_as(2), bench.join_as(3), bench.join_as(4));
    ask(&mut bench, limited, 4);
    let decision = last(&bench, 0);
    assert_eq!((decision.member, decision.asked), (limited.member, Asked::Lease(4)));
    assert_eq!(decision.outcome, Outcome::Placed(vec![(NEAR, 3)]));
    let (near, far) = (NodeKind::Near, NodeKind::Far);
    let rules = [
        Rule::Maximum { node: NEAR, kind: near, used: 3, max: 3 },
        Rule::NoAccess { node: FAR, kind: far },
        Rule::NoEmergency { node: DEVICE },
    ];
    assert_eq!(decision.rules, rules);

    // 13 near are free, 12 of them guaranteed.
    ask(&mut bench, falls, 40);
    let decision = last(&bench, 2);
    let placed = vec![(NEAR, 1), (FAR, 32), (DEVICE, 7)];
    assert_eq!(decision.outcome, Outcome::Emergency(placed));
    let rules = [Rule::Guaranteed { node: NEAR, free: 12, reserved: 12 }, Rule::Full { node: FAR }];
    assert_eq!(decision.rules, rules);

    ask(&mut bench, waits, 1);
    assert_eq!(last(&bench, 3).outcome, Outcome::Waits(Instant(Duration::from_secs(3))));
    bench.pass(3);
    assert_eq!(last(&bench, 3).outcome, Outcome::TimedOut);
    assert_eq!(last(&bench, 3).rules, rules[..1]);

    ask(&mut bench, sure, 20);
    assert_eq!(last(&bench, 1).outcome, Outcome::Placed(vec![(NEAR, 12)]));
    let rules = [NEAR, FAR].map(|node| Rule::Full { node });
    assert_eq!(last(&bench, 1).rules[..2], rules);

    assert!(!bench.commit(limited, 9));
    let promises = Rule::Promises { scope: Scope::Process, promised: 9, most: 3 };
    assert_eq!(last(&bench, 0).rules, [promises]);
    assert_eq!(last(&bench, 0).outcome, Outcome::Refused);
}

#[test]
fn who_waits_for_its_turn_is_told_so() {
    let mut config = explained();
    config.awaited.members = vec![memtide_units::MemberId(7)];
    config.awaited.until = Instant(Duration::from_secs(20));
    let mut bench = Bench::with(config);
    let program = bench.join_as(4);
    ask(&mut bench, program, 17);
    let decision = last(&bench, 3);
    assert_eq!(decision.rules, [Rule::Recovery { awaited: 1 }]);
    assert_eq!(decision.outcome.to_string(), "waits for programs to return");
    bench.pass(20);
    assert_eq!(last(&bench, 3).outcome, Outcome::Placed(vec![(NEAR, 4)]));
    ask(&mut bench, program, 1);
    ask(&mut bench, program, 2);
    assert_eq!(last(&bench, 3).rules, [Rule::Earlier { wishes: 1 }]);
}

#[test]
fn equal_decisions_in_a_row_are_kept_once() {
    let mut bench = Bench::with(explained());
    let program = bench.join_as(1);
    for _ in 0..5 {
        ask(&mut bench, program, 1);
        bench.pass(1);
    }
    let all: Vec<_> = bench.engine.decisions(TenantId(0)).collect();
    let times: Vec<_> = all.iter().map(|decision| decision.times).collect();
    // Three are placed, of which the first two are decided alike.
    assert_eq!(times, [3, 2]);
    assert_eq!(all[1].at, Instant(Duration::from_secs(4)));
}

#[test]
fn only_the_latest_decisions_are_kept() {
    let mut bench = Bench::with(explained());
    let program = bench.join_as(1);
    for count in 1..=100 {
        ask(&mut bench, program, count);
    }
    let all: Vec<_> = bench.engine.decisions(TenantId(0)).collect();
    assert_eq!(all.len(), DECISIONS_MAX);
    assert_eq!(all[63].asked, Asked::Lease(100));
    assert_eq!(bench.engine.decisions(TenantId(9)).count(), 0);
}

#[test]
fn decisions_read_as_plain_words() {
    let mut bench = Bench::with(explained());
    let program = bench.join_as(1);
    ask(&mut bench, program, 4);
    let member = program.member;
    let name = |node: NodeId| String::from(["near", "far", "gpu"][usize::from(node.0)]);
    let text = format!(
        "{member} wants 8MiB: placed 6MiB on near; because near: the tenant has 6MiB of near \
         memory and may have 6MiB; far: the tenant may not use far memory; gpu: not even in an \
         emergency, for this tenant"
    );
    assert_eq!(last(&bench, 0).text(name), text);
    assert!(last(&bench, 0).to_string().contains("6MiB on node0"));
    ask(&mut bench, program, 1);
    ask(&mut bench, program, 1);
    assert!(last(&bench, 0).to_string().ends_with("(2 times)"));
    let waits = Outcome::Waits(Instant(Duration::from_millis(1500)));
    assert_eq!(waits.to_string(), "waits until 1.5s at most");
}
