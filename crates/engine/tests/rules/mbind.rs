//! Hints after the fact, and links that change.

use std::time::Duration;

use memtide_engine::{
    Effect, Input, NodeConfig, Performance, Refusal,
    mempolicy::{MemPolicy, Mode},
};
use memtide_units::{HoldReason, NodeId, Pageblock};

use crate::bench::{Bench, FAR, NEAR, Program, REQUEST, config, holders, report, run, size};

fn mbind(bench: &mut Bench, program: Program, start: u64, count: u32, mode: Mode) -> Vec<Effect> {
    let policy = MemPolicy { mode, ..MemPolicy::LOCAL };
    bench.say(Input::Mbind {
        request: REQUEST,
        member: program.member,
        extents: run(start, count),
        policy,
        deadline: Duration::from_secs(60),
    })
}

fn bind(node: NodeId) -> Mode {
    Mode::Bind([node].into_iter().collect())
}

#[test]
fn what_is_named_and_lies_wrong_moves_and_nothing_else() {
    let mut bench = Bench::new();
    let program = bench.join();
    bench.lease(program, 8);
    mbind(&mut bench, program, 2, 3, bind(FAR));
    let answer = report(&bench.quiet());
    assert_eq!((answer.requested, answer.returned), (size(3), size(3)));
    assert_eq!((bench.counts(NEAR).1, bench.counts(FAR).1), (5, 3));
    // All of it lies right already.
    let answer = report(&mbind(&mut bench, program, 16, 3, bind(FAR)));
    assert_eq!((answer.requested, answer.returned), (size(0), size(0)));
    // Local, preferred: on that very node.
    mbind(&mut bench, program, 16, 1, Mode::Local);
    assert_eq!(report(&bench.quiet()).returned, size(1));
    mbind(&mut bench, program, 17, 1, Mode::Preferred(NEAR));
    assert_eq!(report(&bench.quiet()).returned, size(1));
    assert_eq!((bench.counts(NEAR).1, bench.counts(FAR).1), (7, 1));
}

#[test]
fn what_cannot_move_is_named() {
    let mut bench = Bench::new();
    let program = bench.join();
    bench.lease(program, 16);
    bench.lease(program, 32);
    bench.release(program, run(16, 3));
    bench.quiet();
    bench.pin(program, run(0, 2));
    mbind(&mut bench, program, 0, 8, bind(FAR));
    let answer = report(&bench.quiet());
    let pid = u32::try_from(program.member.0).unwrap();
    let held = [(pid, 3, HoldReason::NoRoom), (pid, 2, HoldReason::MemoryLock)];
    assert_eq!((answer.returned, holders(&answer)), (size(3), held.to_vec()));
}

#[test]
fn the_best_node_fills_up_before_the_next() {
    let mut bench = Bench::new();
    let program = bench.join();
    bench.lease(program, 47);
    bench.release(program, run(0, 14));
    bench.quiet();
    // Near has room for 14 of the 31 that lie far.
    mbind(&mut bench, program, 16, 31, Mode::PreferredMany([NEAR].into_iter().collect()));
    let answer = report(&bench.quiet());
    assert_eq!((answer.requested, answer.returned), (size(31), size(14)));
}

#[test]
fn programs_do_not_use_up_what_operators_and_others_need() {
    let mut config = config();
    config.limits.requests_max = 8;
    let mut bench = Bench::with(config);
    let (greedy, other) = (bench.join(), bench.join());
    bench.lease(greedy, 8);
    bench.lease(other, 8);
    let deadline = Duration::from_secs(60);
    let hint = |bench: &mut Bench, program: Program, at: u64| Input::Mbind {
        request: memtide_units::RequestId(bench.fresh()),
        member: program.member,
        extents: run(at, 1),
        policy: MemPolicy { mode: bind(FAR), ..MemPolicy::LOCAL },
        deadline,
    };
    for at in 0..2 {
        let input = hint(&mut bench, greedy, at);
        assert!(!bench.say(input).is_empty());
    }
    let input = hint(&mut bench, greedy, 2);
    assert_eq!(bench.refused(input), Refusal::TooManyRequests { requests: 2 });
    let input = hint(&mut bench, other, 8);
    assert!(!bench.say(input).is_empty());
    for _ in 0..8 {
        let (request, member) = (memtide_units::RequestId(bench.fresh()), other.member);
        let bytes = Some(size(1));
        bench.say(Input::MoveTo { request, member, to: FAR, bytes, deadline });
    }
    let (request, member, bytes) = (memtide_units::RequestId(bench.fresh()), other.member, None);
    let refusal = Refusal::TooManyRequests { requests: 8 };
    assert_eq!(bench.refused(Input::MoveTo { request, member, to: FAR, bytes, deadline }), refusal);
}

#[test]
fn nonsense_is_refused() {
    let mut bench = Bench::new();
    let program = bench.join();
    bench.lease(program, 1);
    let policy = |mode| MemPolicy { mode, ..MemPolicy::LOCAL };
    let (request, member, deadline) = (REQUEST, program.member, Duration::from_secs(1));
    let node = NodeId(9);
    let input =
        |extents, mode| Input::Mbind { request, member, extents, policy: policy(mode), deadline };
    assert!(matches!(bench.refused(input(run(0, 1), bind(node))), Refusal::Policy(_)));
    let pageblock = memtide_units::Pageblock(1);
    let refusal = Refusal::NotHeld { member, pageblock };
    assert_eq!(bench.refused(input(run(1, 1), bind(FAR))), refusal);
}

#[test]
fn weights_and_tiers_follow_a_link_and_nothing_moves() {
    let speed = |ns, mib| Performance {
        read_latency_ns: ns,
        write_latency_ns: ns,
        read_bandwidth_mib: mib,
        write_bandwidth_mib: mib,
    };
    let mut config = config();
    config.nodes[0].performance = speed(100, 80_000);
    config.nodes[1].performance = speed(200, 40_000);
    let mut bench = Bench::with(config);
    let program = bench.join();
    bench.lease(program, 20);
    let weights = |bench: &Bench| (bench.engine.weight_of(NEAR), bench.engine.weight_of(FAR));
    assert_eq!(weights(&bench), (2, 1));
    let tier = |bench: &Bench| bench.engine.tiers().unwrap().tier_of(FAR).unwrap();
    let before = tier(&bench);
    // Half the width.
    let changed = Input::LinkChanged { node: FAR, performance: speed(200, 20_000) };
    assert_eq!(bench.say(changed), []);
    assert_eq!(weights(&bench), (4, 1));
    assert!(tier(&bench) > before);
    assert!(bench.orders.is_empty() && bench.engine.moved_pageblocks() == 0);
    let node = NodeId(9);
    let changed = Input::LinkChanged { node, performance: speed(1, 1) };
    assert_eq!(bench.refused(changed), Refusal::NoSuchNode { node });
}

#[test]
fn tiers_follow_the_distances_and_what_is_unknown_is_as_far_as_dax() {
    let speed = |ns, mib| Performance {
        read_latency_ns: ns,
        write_latency_ns: ns,
        read_bandwidth_mib: mib,
        write_bandwidth_mib: mib,
    };
    let node = |id, first| {
        NodeConfig::new(NodeId(id), "far", memtide_units::NodeKind::Far, Pageblock(first), 8)
    };
    let mut config = config();
    config.nodes[0].performance = speed(100, 80_000);
    // Of these nothing is known, or half.
    config.nodes[1].performance = Performance { read_latency_ns: 900, ..Performance::default() };
    config.nodes.extend([node(2, 48), node(3, 64)]);
    for from in 0..4 {
        for to in (0..4).filter(|&to| to != from) {
            let distance = match (from, to) {
                (0, 1) => 40,
                (0, 2) => 30,
                (0, 3) => 255,
                _ => 50,
            };
            config.distances.push((NodeId(from), NodeId(to), distance));
        }
    }
    let tiers = Bench::with(config.clone()).engine.tiers().unwrap();
    let of = |nodes: &[u16]| nodes.iter().map(|&node| NodeId(node)).collect();
    // 576 is tier 4, 2880 tier 22.
    assert_eq!(tiers.tier_of(NEAR), Some(4));
    assert!([1, 2, 3].iter().all(|&far| tiers.tier_of(NodeId(far)) == Some(22)));
    assert_eq!((tiers.preferred(NEAR), tiers.allowed(NEAR)), (of(&[2]), of(&[1, 2])));
    // A near node of unknown speed is as any, and without a measure there are tiers still.
    config.nodes[0].performance = Performance::default();
    let tiers = Bench::with(config).engine.tiers().unwrap();
    assert_eq!((tiers.tier_of(NEAR), tiers.tier_of(FAR)), (Some(4), Some(22)));
}
