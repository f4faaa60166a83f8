//! Idle holders, and who had to fall back.

use std::time::Duration;

use memtide_engine::{
    Config, Effect, Input, Limits, Performance, TenantConfig, tenant::OnDepletion, tiers::Access,
};
use memtide_units::{AccessorId, Extent, NodeKind, Pageblock, Random};

use crate::{
    bench::{Bench, FAR, NEAR, Program, config, run, size},
    tenants::{quota, tenant},
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
