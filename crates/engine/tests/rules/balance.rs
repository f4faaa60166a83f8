//! Idle holders, and who had to fall back.

use std::time::Duration;

use memtide_engine::{
    Config, Effect, Input, Limits, NodeConfig, Performance, TenantConfig,
    nodes::{Capabilities, Capability, NodeClass},
    onlining::OnlineZone,
    tenant::{Migration, OnDepletion},
    tiers::Access,
};
use memtide_units::{AccessorId, Extent, NodeKind, Pageblock, Random};

use crate::{
    bench::{Bench, FAR, NEAR, Program, config, run, size},
    tenants::{bind, quota, tenant},
};

const IDLE: Duration = Duration::from_secs(10);

/// Two tenants, of users 1 and 2; the first is guaranteed so much near memory.
fn two(min: u64) -> Config {
    let fallback =
        |tenant: TenantConfig| TenantConfig { on_depletion: OnDepletion::FallBack, ..tenant };
    let one = fallback(tenant("one", 1, &[(NodeKind::Near, quota(min, None))]));
    let other = fallback(tenant("other", 2, &[]));
    let limits = Limits { idle_after: IDLE, settle_for: IDLE, ..Limits::default() };
    Config { tenants: vec![one, other], limits, ..config() }
}

fn access(bench: &mut Bench, extents: &[Extent]) -> Vec<Effect> {
    let extents = extents.iter().map(|&extent| (extent, 1)).collect();
    bench.say(Input::Accessed { accessor: AccessorId(0), extents })
}

/// Where a program has its memory.
fn has(bench: &Bench, program: Program, node: memtide_units::NodeId) -> Vec<Extent> {
    bench.engine.held_by(bench.engine.image_of(program.member).unwrap(), node)
}

#[test]
fn idle_holders_are_named_with_what_they_have_above_their_guarantee() {
    let mut bench = Bench::with(two(4));
    let (one, other) = (bench.join_as(1), bench.join_as(2));
    bench.lease(one, 10);
    bench.lease(other, 6);
    bench.pass(9);
    assert_eq!(bench.engine.idle_holders(NodeKind::Near), []);
    access(&mut bench, &run(12, 2));
    bench.pass(6);
    let idle = bench.engine.idle_holders(NodeKind::Near);
    let idle: Vec<_> = idle.iter().map(|h| (h.member, h.bytes, h.idle_for.as_secs())).collect();
    // Of ten, four are guaranteed; of six, two were accessed.
    assert_eq!(idle, [(Some(one.member), size(6), 15), (Some(other.member), size(4), 15)]);
    assert_eq!(bench.engine.idle_holders(NodeKind::Far), []);
}

/// Khandual's case: one holds device (here: near) memory idle, another fell back and is busy.
#[test]
fn the_idle_makes_way_for_the_busy_that_fell_back() {
    let mut bench = Bench::with(two(6));
    let (idle, busy) = (bench.join_as(1), bench.join_as(2));
    bench.lease(idle, 16);
    bench.lease(busy, 8);
    assert_eq!(bench.engine.next_deadline(), None, "nothing is due while nobody misses anything");
    for _ in 0..40 {
        bench.now = bench.now.after(Duration::from_secs(1));
        let hot: Vec<_> = [has(&bench, busy, NEAR), has(&bench, busy, FAR)].concat();
        access(&mut bench, &hot);
        bench.quiet();
    }
    // All that is hot is near; of what is idle, as much as was needed is far.
    assert_eq!(has(&bench, busy, FAR), []);
    let near: u64 = has(&bench, idle, NEAR).iter().map(|extent| u64::from(extent.count)).sum();
    assert_eq!(near, 8);
    // And all is quiet: eight out and eight in.
    assert_eq!(bench.engine.moved_pageblocks(), 16);
    assert_eq!(bench.engine.next_deadline(), None);
}

#[test]
fn what_is_guaranteed_is_not_taken_however_idle() {
    let mut bench = Bench::with(two(12));
    let (idle, busy) = (bench.join_as(1), bench.join_as(2));
    bench.lease(idle, 16);
    bench.lease(busy, 8);
    for _ in 0..40 {
        bench.now = bench.now.after(Duration::from_secs(1));
        let hot: Vec<_> = [has(&bench, busy, NEAR), has(&bench, busy, FAR)].concat();
        access(&mut bench, &hot);
        bench.quiet();
    }
    let near: u64 = has(&bench, idle, NEAR).iter().map(|extent| u64::from(extent.count)).sum();
    assert_eq!(near, 12);
}

#[test]
fn what_nobody_uses_is_not_brought_home() {
    let mut bench = Bench::with(two(0));
    let (idle, other) = (bench.join_as(1), bench.join_as(2));
    bench.lease(idle, 16);
    bench.lease(other, 8);
    bench.pass(100);
    bench.pass(100);
    assert_eq!((bench.engine.moved_pageblocks(), bench.engine.next_deadline()), (0, None));
}

#[test]
fn who_waits_gets_what_is_idle() {
    let mut config = two(0);
    config.tenants[1].on_depletion = OnDepletion::Reclaim(Duration::from_secs(60));
    let only_near = [NEAR].into_iter().collect();
    let mode = memtide_engine::mempolicy::Mode::Bind(only_near);
    let policy = memtide_engine::mempolicy::MemPolicy { mode, ..Default::default() };
    config.tenants[1].policy = policy;
    let mut bench = Bench::with(config);
    let (idle, waits) = (bench.join_as(1), bench.join_as(2));
    bench.lease(idle, 16);
    let (member, count) = (waits.member, 4);
    let lease = Input::Lease { member, count, after: None, policy: None };
    assert_eq!(bench.say(lease), []);
    let mut effects = Vec::new();
    for _ in 0..15 {
        effects.extend(bench.pass(1));
        effects.extend(bench.quiet());
    }
    let granted = effects.iter().find_map(|effect| match effect {
        Effect::Grant { extents, .. } => Some(extents.iter().map(|e| e.count).sum::<u32>()),
        _ => None,
    });
    assert!(granted.is_some_and(|granted| granted > 0), "{effects:?}");
    assert!(!has(&bench, idle, FAR).is_empty());
}

/// As far down as it must, though the policy has far memory before the device's.
#[test]
fn what_is_idle_goes_a_step_down_and_further_only_if_that_is_full() {
    let speed = |ns, mib| Performance {
        read_latency_ns: ns,
        read_bandwidth_mib: mib,
        ..Performance::default()
    };
    let between = memtide_units::NodeId(2);
    for (is_known, moved) in [(true, [4, 6]), (false, [10, 0])] {
        let mut config = two(0);
        let node = NodeConfig::new(between, "between", NodeKind::Device, Pageblock(48), 6);
        config.nodes.push(NodeConfig { block_pageblocks: 1, ..node });
        for (node, (ns, mib)) in [(100, 80_000), (900, 20_000), (200, 40_000)].iter().enumerate() {
            config.nodes[node].performance = speed(*ns, if is_known { *mib } else { 0 });
        }
        config.tenants[1].on_depletion = OnDepletion::Reclaim(Duration::from_secs(600));
        config.tenants[1].policy = bind(&[NEAR]);
        let mut bench = Bench::with(config);
        let (idle, waits) = (bench.join_as(1), bench.join_as(2));
        bench.lease(idle, 16);
        for _ in 0..10 {
            let lease = Input::Lease { member: waits.member, count: 1, after: None, policy: None };
            bench.say(lease);
            for _ in 0..30 {
                bench.pass(1);
                bench.quiet();
            }
        }
        assert_eq!([FAR, between].map(|node| bench.counts(node).1), moved, "known: {is_known}");
    }
}

/// A buffer that a processor fills and a device works on follows its use.
#[test]
fn what_several_access_goes_where_it_is_best_for_all_of_them() {
    let (processor, device) = (AccessorId(0), AccessorId(1));
    let access = |accessor, node, ns| Access {
        accessor,
        node,
        performance: Performance { read_latency_ns: ns, ..Performance::default() },
    };
    let mut config = two(0);
    config.accessors = vec![
        access(processor, NEAR, 100),
        access(processor, FAR, 300),
        access(device, NEAR, 500),
        access(device, FAR, 100),
    ];
    let mut bench = Bench::with(config);
    let program = bench.join_as(1);
    bench.lease(program, 1);
    let pageblock = Pageblock(0);
    assert_eq!(bench.engine.best_node_for(pageblock), None);
    let mut say = |accessor, times, at: u64| {
        let extents = vec![(run(at, 1)[0], times)];
        bench.say(Input::Accessed { accessor, extents });
        bench.pass(2);
        bench.quiet();
        bench.engine.best_node_for(Pageblock(at))
    };
    assert_eq!(say(processor, 10, 0), Some(NEAR));
    assert_eq!(say(device, 1, 0), Some(NEAR));
    // 10 * 100 + 11 * 500 where it is, 10 * 300 + 11 * 100 there.
    assert_eq!(say(device, 10, 0), None, "it has moved");
    assert_eq!(say(device, 1, 16), Some(FAR));
    assert_eq!(has(&bench, program, FAR), run(16, 1));
}

/// Whatever is accessed when: an order for balance comes at most once in the time to settle for
/// each pageblock's content; and when the demands stay the same, it ends.
#[test]
fn ping_pong_is_bounded_and_stable_demands_come_to_rest() {
    for seed in 0..20 {
        let mut random = Random::new(seed);
        let mut bench = Bench::with(two(4));
        let (one, other) = (bench.join_as(1), bench.join_as(2));
        bench.lease(one, 16);
        bench.lease(other, 24);
        // When the content that is here was last ordered to move.
        let mut ordered = std::collections::BTreeMap::new();
        for second in 0..300u64 {
            bench.now = bench.now.after(Duration::from_secs(1));
            let all = [one, other].map(|p| [has(&bench, p, NEAR), has(&bench, p, FAR)].concat());
            let all: Vec<Pageblock> =
                all.concat().iter().flat_map(|extent| extent.iter()).collect();
            let hot = |at: &&Pageblock| match second {
                // Anything, and then always the same.
                0..150 => random.below(3) == 0,
                _ => at.0 % 16 < 9,
            };
            let hot: Vec<_> =
                if second <= 150 { all.iter().filter(hot).copied().collect() } else { Vec::new() };
            access(&mut bench, &Extent::from_blocks(hot));
            let moved = bench.engine.moved_pageblocks();
            while !bench.orders.is_empty() || !bench.zero.is_empty() {
                for (_, _, pairs) in &bench.orders {
                    for (from, to) in pairs {
                        let last = ordered.remove(from);
                        let since = last.map(|last| second - last);
                        assert!(
                            since.is_none_or(|s| s >= 10),
                            "seed {seed}: {from} after {since:?}"
                        );
                        ordered.insert(*to, second);
                    }
                }
                if bench.orders.is_empty() {
                    let input = bench.zero.remove(0);
                    bench.say(input);
                } else {
                    bench.answer(memtide_engine::MoveOutcome::Moved);
                }
            }
            let rests = second >= 200;
            assert!(!rests || bench.engine.moved_pageblocks() == moved, "seed {seed}");
        }
        assert_eq!(bench.engine.next_deadline(), None, "seed {seed}");
        assert!(bench.engine.moved_pageblocks() > 0, "seed {seed}: nothing to balance");
    }
}

/// The settings of these tests with other tenants.
fn settled(tenants: Vec<TenantConfig>) -> Config {
    Config { tenants, ..two(0) }
}

/// What is free is guaranteed to one tenant: its hot memory comes home to that, and only as much
/// of the idle makes way as the other needs.
#[test]
fn room_is_counted_for_each_tenant() {
    let falls =
        |tenant: TenantConfig| TenantConfig { on_depletion: OnDepletion::FallBack, ..tenant };
    let sure = tenant("sure", 2, &[(NodeKind::Near, quota(4, None))]);
    let mut bench = Bench::with(settled(vec![
        falls(tenant("hot", 1, &[])),
        falls(sure),
        falls(tenant("idle", 3, &[])),
    ]));
    let (hot, sure, idle) = (bench.join_as(1), bench.join_as(2), bench.join_as(3));
    bench.lease(idle, 12);
    let away = bench.lease(hot, 2);
    let near = bench.lease(sure, 4);
    let fell = bench.lease(sure, 2);
    bench.release(sure, near);
    bench.quiet();
    bench.pass(20);
    for (extents, times) in [(away, 10), (fell, 1)] {
        let extents = extents.iter().map(|&extent| (extent, times)).collect();
        bench.say(Input::Accessed { accessor: AccessorId(0), extents });
    }
    bench.pass(2);
    let moved = |bench: &Bench, program: Program| {
        let of = bench.orders.iter().filter(|(member, ..)| *member == program.member);
        of.map(|(_, _, pairs)| pairs.len()).sum::<usize>()
    };
    assert_eq!([hot, sure, idle].map(|program| moved(&bench, program)), [0, 2, 2]);
}

/// What leaves memory where anything may lie makes room for who is promised that; what leaves a
/// zone for what can move does not.
#[test]
fn room_is_counted_for_each_part_of_a_node() {
    let mut config = two(0);
    config.nodes[1].zones = vec![(run(16, 4)[0], OnlineZone::Movable)];
    config.tenants[1] = TenantConfig { migration: Migration::Never, ..tenant("never", 2, &[]) };
    let mut bench = Bench::with(config);
    let (full, away, never) = (bench.join_as(1), bench.join_as(1), bench.join_as(2));
    bench.lease(full, 16);
    assert_eq!(bench.lease(away, 6), [run(16, 4), run(20, 2)].concat());
    bench.release(full, run(0, 2));
    bench.quiet();
    // All that is free where it may lie: 2 of near and 26 of far memory.
    assert!(bench.commit(never, 28));
    access(&mut bench, &run(16, 6));
    bench.pass(2);
    let ordered = bench.orders.iter().flat_map(|(_, _, pairs)| pairs);
    let from: Vec<u64> = ordered.map(|(from, _)| from.0).collect();
    assert_eq!(from, [20, 21]);
}

const PRIVATE: memtide_units::NodeId = memtide_units::NodeId(2);

/// A private node of four pageblocks, from 48, whose owner permits this.
fn with_private(permitted: &[Capability]) -> Config {
    let mut config = two(0);
    let capabilities = permitted.iter().fold(Capabilities::NONE, |all, &one| all.with(one));
    let class = NodeClass::Private(capabilities.with(Capability::UserNuma));
    let node = NodeConfig::new(PRIVATE, "private", NodeKind::Device, Pageblock(48), 4);
    config.nodes.push(NodeConfig { class, ..node });
    config
}

/// Leases with a policy of its own.
fn lease_bound(bench: &mut Bench, program: Program, count: u32, nodes: &[memtide_units::NodeId]) {
    let (member, policy) = (program.member, Some(bind(nodes)));
    bench.say(Input::Lease { member, count, after: None, policy });
}

#[test]
fn idle_pages_leave_a_private_node_only_with_reclaim() {
    for (permitted, moved) in [(&[][..], 0), (&[Capability::Reclaim], 2)] {
        let mut config = with_private(permitted);
        config.tenants[1].on_depletion = OnDepletion::Reclaim(Duration::from_secs(100));
        let mut bench = Bench::with(config);
        let (idle, waits) = (bench.join_as(1), bench.join_as(2));
        lease_bound(&mut bench, idle, 4, &[NEAR, PRIVATE]);
        let request = crate::bench::REQUEST;
        let (member, to, deadline) = (idle.member, PRIVATE, Duration::from_secs(60));
        bench.say(Input::MoveTo { request, member, to, bytes: None, deadline });
        bench.quiet();
        assert_eq!(bench.counts(PRIVATE).1, 4, "an operator may");
        bench.pass(20);
        lease_bound(&mut bench, waits, 2, &[PRIVATE]);
        bench.pass(2);
        let ordered: usize = bench.orders.iter().map(|(_, _, pairs)| pairs.len()).sum();
        assert_eq!(ordered, moved, "{permitted:?}");
    }
}

#[test]
fn use_takes_pages_onto_a_private_node_only_with_demotion() {
    let both = [Capability::Reclaim, Capability::Demotion];
    let all = [Capability::Reclaim, Capability::Demotion, Capability::NumaBalancing];
    // Far is as good as nothing: it is not in the table. From near to the private node, and back.
    for (permitted, there, back) in [(&[][..], 0, 0), (&both[..1], 0, 0), (&all, 1, 1)] {
        let mut config = with_private(permitted);
        let (processor, device) = (AccessorId(0), AccessorId(1));
        let access = |accessor, node, ns| Access {
            accessor,
            node,
            performance: Performance { read_latency_ns: ns, ..Performance::default() },
        };
        config.accessors = vec![
            access(processor, NEAR, 100),
            access(processor, PRIVATE, 300),
            access(device, NEAR, 500),
            access(device, PRIVATE, 100),
        ];
        let mut bench = Bench::with(config);
        let program = bench.join_as(1);
        lease_bound(&mut bench, program, 1, &[NEAR, PRIVATE]);
        let mut say = |at, times: [u32; 2]| {
            for (accessor, times) in [processor, device].into_iter().zip(times) {
                bench.say(Input::Accessed { accessor, extents: vec![(run(at, 1)[0], times)] });
            }
            bench.pass(2);
            bench.quiet();
            bench.counts(PRIVATE).1
        };
        assert_eq!(say(0, [1, 10]), there, "{permitted:?}");
        if there == 1 {
            bench.pass(20);
            let mut say = |times: [u32; 2]| {
                for (accessor, times) in [processor, device].into_iter().zip(times) {
                    bench.say(Input::Accessed { accessor, extents: vec![(run(48, 1)[0], times)] });
                }
                bench.pass(2);
                bench.quiet();
                bench.counts(PRIVATE).1
            };
            assert_eq!(say([100, 1]), 1 - back);
        }
    }
}

/// Used by the processor, at home in near memory, and put on a private node by its operator.
#[test]
fn use_takes_pages_off_a_private_node_only_with_numa_balancing() {
    for (permitted, left) in [(&[][..], 1), (&[Capability::NumaBalancing], 0)] {
        let mut config = with_private(permitted);
        config.tenants[0].policy = bind(&[NEAR, PRIVATE]);
        let processors = [AccessorId(0), AccessorId(1)];
        config.accessors = Vec::new();
        for accessor in processors {
            for (node, read_latency_ns) in [(NEAR, 100), (PRIVATE, 300)] {
                let performance = Performance { read_latency_ns, ..Performance::default() };
                config.accessors.push(Access { accessor, node, performance });
            }
        }
        let mut bench = Bench::with(config);
        let program = bench.join_as(1);
        lease_bound(&mut bench, program, 1, &[PRIVATE]);
        let request = crate::bench::REQUEST;
        let (member, extents, deadline) = (program.member, run(48, 1), Duration::from_secs(60));
        bench.release(program, extents);
        bench.quiet();
        bench.lease(program, 1);
        let to = PRIVATE;
        bench.say(Input::MoveTo { request, member, to, bytes: None, deadline });
        bench.quiet();
        bench.pass(20);
        for accessor in processors {
            bench.say(Input::Accessed { accessor, extents: vec![(run(48, 1)[0], 5)] });
        }
        bench.pass(2);
        bench.quiet();
        assert_eq!(bench.counts(PRIVATE).1, left, "{permitted:?}");
    }
}

/// A program, and two pageblocks of it that fell back to far memory; near is free again.
fn fallen_back() -> (Bench, Program, Vec<Extent>) {
    let mut bench = Bench::with(two(0));
    let (full, program) = (bench.join_as(2), bench.join_as(1));
    bench.lease(full, 16);
    let far = bench.lease(program, 2);
    bench.release(full, run(0, 16));
    bench.quiet();
    (bench, program, far)
}

/// Uses all that a program has for a minute.
fn use_it(bench: &mut Bench, program: Program) {
    for _ in 0..30 {
        bench.now = bench.now.after(Duration::from_secs(2));
        let all = [has(bench, program, NEAR), has(bench, program, FAR)].concat();
        access(bench, &all);
        bench.quiet();
    }
}

#[test]
fn what_a_program_binds_where_it_lies_already_is_not_brought_back() {
    for is_bound in [false, true] {
        let (mut bench, program, far) = fallen_back();
        if is_bound {
            bench.say(Input::Mbind {
                request: crate::bench::REQUEST,
                member: program.member,
                extents: far.clone(),
                policy: bind(&[FAR]),
                deadline: Duration::from_secs(60),
            });
        }
        use_it(&mut bench, program);
        let there = has(&bench, program, FAR);
        assert_eq!(there, if is_bound { far } else { vec![] });
    }
}

#[test]
fn what_an_operator_wants_where_it_lies_already_is_not_brought_back() {
    let (mut bench, program, far) = fallen_back();
    let (request, member, deadline) = (crate::bench::REQUEST, program.member, IDLE);
    bench.say(Input::MoveTo { request, member, to: FAR, bytes: None, deadline });
    use_it(&mut bench, program);
    assert_eq!(has(&bench, program, FAR), far);
}

#[test]
fn a_move_that_ends_after_its_time_is_not_undone() {
    let mut bench = Bench::with(two(0));
    let program = bench.join_as(1);
    bench.lease(program, 2);
    let (member, extents, deadline) = (program.member, run(0, 2), Duration::from_secs(3));
    let request = crate::bench::REQUEST;
    bench.say(Input::Mbind { request, member, extents, policy: bind(&[FAR]), deadline });
    bench.pass(4);
    assert_eq!(bench.orders.len(), 1, "the order is not answered, the request is");
    bench.quiet();
    use_it(&mut bench, program);
    assert_eq!(has(&bench, program, FAR), run(16, 2));
}

#[test]
fn what_had_to_leave_comes_back_only_if_its_policy_has_that_first() {
    for (from, at_last) in [(NEAR, NEAR), (FAR, NEAR)] {
        let mut bench = Bench::with(two(0));
        let program = bench.join_as(1);
        lease_bound(&mut bench, program, 2, &[NEAR, FAR]);
        let (request, member) = (crate::bench::REQUEST, program.member);
        let (to, deadline) = (from, Duration::from_secs(60));
        bench.say(Input::MoveTo { request, member, to, bytes: None, deadline });
        bench.quiet();
        let size = if from == NEAR { 16 } else { 32 };
        bench.give_back(size, from);
        bench.quiet();
        bench.say(Input::Add { bytes: crate::bench::size(size), to: from, zone: None });
        use_it(&mut bench, program);
        assert_eq!(has(&bench, program, at_last).iter().map(|e| e.count).sum::<u32>(), 2);
    }
}

#[test]
fn a_slower_link_changes_where_several_accessors_memory_is_best() {
    let mut config = two(0);
    config.nodes[0].performance = Performance { read_latency_ns: 100, ..Performance::default() };
    let access = |accessor, node, ns| Access {
        accessor: AccessorId(accessor),
        node,
        performance: Performance { read_latency_ns: ns, ..Performance::default() },
    };
    config.accessors =
        vec![access(0, NEAR, 100), access(0, FAR, 300), access(1, NEAR, 200), access(1, FAR, 300)];
    let mut bench = Bench::with(config);
    let program = bench.join_as(1);
    bench.lease(program, 1);
    for accessor in [AccessorId(0), AccessorId(1)] {
        bench.say(Input::Accessed { accessor, extents: vec![(run(0, 1)[0], 5)] });
    }
    assert_eq!(bench.engine.best_node_for(Pageblock(0)), Some(NEAR));
    let performance = Performance { read_latency_ns: 250, ..Performance::default() };
    bench.say(Input::LinkChanged { node: NEAR, performance });
    assert_eq!(bench.engine.best_node_for(Pageblock(0)), Some(FAR));
}
