//! What may lie in which zone of a node, what may be asked for there, and what leaves first.

use std::{collections::BTreeMap, time::Duration};

use memtide_engine::{
    Config, ConfigError, Effect, Input, Lineage, MoveOutcome, Refusal, Rule, TenantConfig,
    mempolicy::{Extended, MemPolicy, Mode},
    onlining::OnlineZone::{self, Exmem, Kernel, Movable, PreferMovable},
    tenant::{Migration, OnDepletion, Quota, Who},
};
use memtide_units::{Extent, HoldReason, NodeId, NodeKind, Pageblock};

use crate::bench::{Bench, FAR, NEAR, Program, config, report, run, size};

/// A near node of blocks of 4 in these zones, and a far one in kernel.
fn zones(near: [OnlineZone; 4]) -> Config {
    let mut config = config();
    let blocks = near.into_iter().enumerate();
    config.nodes[0].zones =
        blocks.map(|(n, zone)| (Extent::new(Pageblock(n as u64 * 4), 4), zone)).collect();
    config
}

fn pin(program: Program, extents: Vec<Extent>, reason: HoldReason) -> Input {
    Input::Pin { member: program.member, extents, reason }
}

/// What never moves, of user 0, and what can, of all others.
fn with_never(mut config: Config) -> Config {
    let everybody = TenantConfig::everybody("others");
    let never = TenantConfig {
        who: vec![Who::Uid(0)],
        migration: Migration::Never,
        ..TenantConfig::everybody("never")
    };
    config.tenants = vec![never, everybody];
    config
}

fn join_as(bench: &mut Bench, uid: u32) -> Program {
    let program = Program {
        member: memtide_units::MemberId(bench.fresh()),
        token: memtide_units::TokenId(bench.fresh()),
    };
    let Input::Join { member, pid, name, token, lineage, mut who } =
        bench.joining(program, Lineage::Fresh)
    else {
        unreachable!()
    };
    who.uid = uid;
    bench.say(Input::Join { member, pid, name, token, lineage, who });
    program
}

#[test]
fn a_node_that_says_nothing_is_a_kernel_zone_where_anything_may_be_pinned() {
    let mut bench = Bench::new();
    let status = bench.engine.node_status();
    assert_eq!(status[0].zones.len(), 1);
    assert_eq!((status[0].zones[0].zone, status[0].zones[0].online), (Kernel, size(16)));
    let program = bench.join();
    let leased = bench.lease(program, 3);
    for reason in [HoldReason::NoMigration, HoldReason::LongTermPin, HoldReason::IoUring] {
        bench.say(pin(program, leased.clone(), reason));
    }
}

#[test]
fn what_is_asked_for_is_refused_in_movable_and_facts_are_believed() {
    let mut bench = Bench::with(zones([Movable, Kernel, Kernel, Kernel]));
    let program = bench.join();
    // All of MOVABLE, and two more.
    assert_eq!(bench.lease(program, 6), [run(0, 4), run(4, 2)].concat());
    for reason in [HoldReason::NoMigration, HoldReason::LongTermPin] {
        let refusal = bench.refused(pin(program, run(2, 3), reason));
        let zone = Movable;
        let pageblock = Pageblock(2);
        let expected = Refusal::PinInZone { pageblock, node: NEAR, zone, by: 2, of: 3 };
        assert_eq!(refusal, expected);
        let text = refusal.to_string();
        assert!(text.contains("pb2") && text.contains("2 of the 3 pageblocks"), "{text}");
        bench.say(pin(program, run(4, 2), reason));
    }
    for reason in [HoldReason::MemoryLock, HoldReason::Rdma, HoldReason::IoUring] {
        bench.say(pin(program, run(0, 6), reason));
    }
    // What is a fact does not make it right to ask.
    bench.refused(pin(program, run(0, 1), HoldReason::NoMigration));
}

#[test]
fn what_is_on_its_way_to_movable_cannot_be_asked_to_stay() {
    let mut config = config();
    config.nodes[1].zone = Movable;
    let mut bench = Bench::with(config);
    let program = bench.join();
    bench.lease(program, 2);
    bench.say(Input::MoveTo {
        request: crate::bench::REQUEST,
        member: program.member,
        to: FAR,
        bytes: None,
        deadline: Duration::from_secs(60),
    });
    let refusal = bench.refused(pin(program, run(0, 2), HoldReason::NoMigration));
    let expected =
        Refusal::PinInZone { pageblock: Pageblock(0), node: FAR, zone: Movable, by: 2, of: 2 };
    assert_eq!(refusal, expected);
    let text = refusal.to_string();
    assert!(text.contains("movable of node1, or on its way there; 2 of the 2"), "{text}");
    // Once it is known that it stays, it may.
    bench.answer(MoveOutcome::Held(HoldReason::DirectRead));
    bench.say(pin(program, run(0, 2), HoldReason::NoMigration));
}

#[test]
fn who_is_never_moved_gets_kernel_then_prefer_movable_and_nothing_of_movable() {
    let mut bench = Bench::with(with_never(zones([Movable, PreferMovable, Kernel, Movable])));
    let (never, other) = (join_as(&mut bench, 0), join_as(&mut bench, 1));
    let near =
        MemPolicy { mode: Mode::Bind([NEAR].into_iter().collect()), extended: Extended::Any };
    for program in [never, other] {
        let policy = Some(near.clone());
        bench.say(Input::SetPolicy { member: program.member, policy });
    }
    // What can move takes MOVABLE, both blocks of it, then PREFER_MOVABLE from its top.
    assert_eq!(bench.lease(other, 9), [run(0, 4), run(12, 4), run(7, 1)].concat());
    assert_eq!(bench.lease(never, 5), [run(8, 4), run(4, 1)].concat());
    let free = bench.lease(other, 1);
    assert_eq!(free, run(6, 1));
    bench.release(other, run(0, 4));
    bench.quiet();
    // Four are free in MOVABLE, and one where it may lie.
    assert_eq!(bench.lease(never, 3), run(5, 1));
    assert_eq!(bench.counts(NEAR), (4, 12, 0, 0));
}

#[test]
fn who_is_never_moved_is_told_that_what_is_free_is_for_what_can_move() {
    let mut bench = Bench::with(with_never(zones([Movable, Kernel, PreferMovable, Movable])));
    let (never, other) = (join_as(&mut bench, 0), join_as(&mut bench, 1));
    let bind = |nodes: &[NodeId]| {
        let mode = Mode::Bind(nodes.iter().copied().collect());
        Some(MemPolicy { mode, extended: Extended::Any })
    };
    let ask = |bench: &mut Bench, program: Program, count, nodes: &[NodeId]| {
        let policy = bind(nodes);
        bench.say(Input::Lease { member: program.member, count, after: None, policy });
        let tenant = memtide_units::TenantId(u16::from(program == other));
        bench.engine.decisions(tenant).last().unwrap().rules.clone()
    };
    let movable_only =
        |asked, kernel, movable| Rule::MovableOnly { node: NEAR, asked, kernel, movable };
    // It may lie in KERNEL and PREFER_MOVABLE.
    assert_eq!(ask(&mut bench, never, 6, &[NEAR]), []);
    assert_eq!(ask(&mut bench, never, 6, &[NEAR]), [movable_only(6, 2, 8)]);
    assert_eq!(ask(&mut bench, never, 3, &[NEAR]), [movable_only(3, 0, 8)]);
    let text = movable_only(3, 0, 8).to_string();
    let expected = "node0: of 6MiB that is not to move, 0B had room, and 16MiB is free only where \
                    all must be able to move";
    assert_eq!(text, expected);
    // What can move has it all; then nothing is free.
    assert_eq!(ask(&mut bench, other, 5, &[NEAR]), []);
    assert_eq!(ask(&mut bench, never, 1, &[NEAR]), [movable_only(1, 0, 3)]);
    assert_eq!(ask(&mut bench, other, 4, &[NEAR]), [Rule::Full { node: NEAR }]);
    assert_eq!(ask(&mut bench, never, 1, &[NEAR]), [Rule::Full { node: NEAR }]);
}

#[test]
fn a_promise_to_who_is_never_moved_is_kept_where_it_may_lie() {
    let mut config = with_never(zones([Movable, Kernel, Kernel, Movable]));
    config.tenants[1].on_depletion = OnDepletion::FallBack;
    let bind =
        MemPolicy { mode: Mode::Bind([NEAR].into_iter().collect()), extended: Extended::Any };
    config.tenants.iter_mut().for_each(|tenant| tenant.policy = bind.clone());
    config.placement = vec![NEAR];
    let mut bench = Bench::with(config);
    let (never, other) = (join_as(&mut bench, 0), join_as(&mut bench, 1));
    // Half of the node is no room for it, whatever is free there.
    assert!(!bench.commit(never, 9));
    assert!(bench.commit(never, 6));
    // The other gets MOVABLE, and of the rest what is not promised.
    let got: u64 = bench.lease(other, 16).iter().map(|extent| u64::from(extent.count)).sum();
    assert_eq!(got, 10);
    assert_eq!(bench.lease(never, 6).iter().map(|extent| extent.count).sum::<u32>(), 6);
    assert_eq!(bench.counts(NEAR), (0, 16, 0, 0));
}

#[test]
fn a_guarantee_to_who_is_never_moved_is_kept_where_it_may_lie() {
    let mut config = with_never(zones([Movable, Movable, Kernel, Movable]));
    let quota = Quota { min: 3, ..Quota::default() };
    config.tenants[0].quotas = BTreeMap::from([(NodeKind::Near, quota)]);
    config.placement = vec![NEAR];
    let mut bench = Bench::with(config);
    let (never, other) = (join_as(&mut bench, 0), join_as(&mut bench, 1));
    let got: u64 = bench.lease(other, 16).iter().map(|extent| u64::from(extent.count)).sum();
    assert_eq!(got, 13);
    assert_eq!(bench.lease(never, 3), run(9, 3));
}

#[test]
fn a_guarantee_to_who_is_never_moved_is_of_what_may_be_its() {
    for (zone, present) in [(Kernel, 20), (PreferMovable, 20), (Movable, 4), (Exmem, 4)] {
        let mut config = with_never(config());
        let own =
            memtide_engine::NodeConfig::new(NodeId(2), "own", NodeKind::Near, Pageblock(100), 4);
        config.nodes.push(memtide_engine::NodeConfig { block_pageblocks: 4, ..own });
        config.nodes[0].zone = zone;
        let guaranteed = |config: &Config, tenant: usize, min| {
            let mut config = config.clone();
            let quota = Quota { min, ..Quota::default() };
            config.tenants[tenant].quotas = BTreeMap::from([(NodeKind::Near, quota)]);
            memtide_engine::Engine::new(config).map(drop)
        };
        assert_eq!(guaranteed(&config, 0, present), Ok(()), "{zone}");
        let kind = NodeKind::Near;
        let refused = match present {
            20 => ConfigError::Guarantees { kind, guaranteed: 21, present },
            _ => ConfigError::GuaranteesNeverMoved { kind, guaranteed: present + 1, present },
        };
        assert_eq!(guaranteed(&config, 0, present + 1), Err(refused), "{zone}");
        // Whose memory can move may have all of it.
        assert_eq!(guaranteed(&config, 1, 20), Ok(()), "{zone}");
    }
}

#[test]
fn a_give_back_takes_what_is_promised_to_come_back_first_when_it_costs_the_same() {
    let mut bench = Bench::with(zones([PreferMovable, Movable, Kernel, Kernel]));
    for left in [run(4, 4), run(0, 4), run(12, 4)] {
        let before = bench.engine.offline(NEAR);
        let effects = bench.give_back(4, NEAR);
        assert_eq!(report(&effects).returned, size(4));
        let offline = bench.engine.offline(NEAR);
        let new: Vec<u64> = offline.iter().flat_map(|e| e.iter()).map(|at| at.0).collect();
        let old: Vec<u64> = before.iter().flat_map(|e| e.iter()).map(|at| at.0).collect();
        let new: Vec<u64> = new.into_iter().filter(|at| !old.contains(at)).collect();
        assert_eq!(new, left[0].iter().map(|at| at.0).collect::<Vec<_>>());
    }
    // What is cheaper leaves first, whatever its zone.
    let mut bench = Bench::with(zones([Movable, Kernel, Kernel, Kernel]));
    let program = bench.join();
    bench.lease(program, 1);
    bench.give_back(4, NEAR);
    assert_eq!(bench.engine.offline(NEAR), run(12, 4));
}

#[test]
fn memory_comes_back_into_the_zone_that_is_asked_for_or_the_nodes() {
    let mut config = config();
    config.nodes[0].zone = Movable;
    let mut bench = Bench::with(config);
    let add = |pageblocks, zone| Input::Add { bytes: size(pageblocks), to: NEAR, zone };
    bench.give_back(16, NEAR);
    assert_eq!(bench.engine.zones(NEAR), []);
    bench.say(add(4, None));
    bench.say(add(4, Some(Kernel)));
    bench.say(add(4, Some(PreferMovable)));
    // What a device offers is of the node's zone.
    bench.say(Input::Online { extents: run(12, 4) });
    let extent = |start, count| Extent::new(Pageblock(start), count);
    let expected = [
        (extent(4, 4), Kernel),
        (extent(0, 4), Movable),
        (extent(12, 4), Movable),
        (extent(8, 4), PreferMovable),
    ];
    assert_eq!(bench.engine.zones(NEAR), expected);
    bench.give_back(4, NEAR);
    let refusal = bench.refused(add(4, Some(Exmem)));
    assert_eq!(refusal, Refusal::ZoneOfNode { node: NEAR, zone: Exmem, own: Movable });
    let nodes = bench.engine.node_status();
    let zones: Vec<_> = nodes[0].zones.iter().map(|zone| (zone.zone, zone.online)).collect();
    assert_eq!(zones, [(Kernel, size(4)), (Movable, size(4)), (PreferMovable, size(4))]);
}

/// Whoever takes over keeps every block in its zone, whatever its node's zone is by then.
#[test]
fn an_engine_that_takes_over_keeps_the_zones() {
    let mut bench = Bench::with(zones([Movable, PreferMovable, Kernel, Kernel]));
    bench.give_back(4, NEAR);
    let mut config = config();
    config.nodes[0].zone = Movable;
    config.nodes[0].zones = bench.engine.zones(NEAR);
    config.nodes[0].offline = bench.engine.offline(NEAR);
    let mut after = Bench::with(config);
    assert_eq!(after.engine.zones(NEAR), bench.engine.zones(NEAR));
    after.say(Input::Add { bytes: size(4), to: NEAR, zone: None });
    assert!(after.engine.zones(NEAR).contains(&(run(0, 4)[0], Movable)));
}

#[test]
fn zones_that_make_no_node_are_refused() {
    let refused = |zone, zones: Vec<(Extent, OnlineZone)>| {
        let mut config = config();
        config.nodes[0].zone = zone;
        config.nodes[0].zones = zones;
        match memtide_engine::Engine::new(config) {
            Err(ConfigError::Zone { node: NEAR, extent, zone }) => (extent, zone),
            other => panic!("{other:?}"),
        }
    };
    let extent = |start, count| Extent::new(Pageblock(start), count);
    let one = extent(0, 4);
    assert_eq!(refused(Kernel, vec![(extent(2, 4), Movable)]), (extent(2, 4), Movable));
    assert_eq!(refused(Kernel, vec![(one, Movable), (one, Kernel)]), (one, Kernel));
    assert_eq!(refused(Kernel, vec![(extent(16, 4), Movable)]), (extent(16, 4), Movable));
    assert_eq!(refused(Kernel, vec![(one, Exmem)]), (one, Exmem));
    assert_eq!(refused(Exmem, vec![(one, Kernel)]), (one, Kernel));
}

/// The rules of SMDK's zone, by policy: NORMAL asked for, EXMEM asked for, nothing asked for.
#[test]
fn exmem_of_a_near_node_is_extended_memory() {
    const OWN: NodeId = NodeId(2);
    let mut config = config();
    let mut exmem =
        memtide_engine::NodeConfig::new(OWN, "exmem", NodeKind::Near, Pageblock(100), 4);
    (exmem.block_pageblocks, exmem.zone) = (4, Exmem);
    config.nodes.truncate(1);
    config.nodes.push(exmem);
    let mut bench = Bench::with(config);
    let program = bench.join();
    let mut lease = |count, extended| {
        let policy = Some(MemPolicy { mode: Mode::Local, extended });
        let member = program.member;
        let effects = bench.say(Input::Lease { member, count, after: None, policy });
        match effects.into_iter().next() {
            Some(Effect::Grant { extents, .. }) => extents,
            other => panic!("no grant but {other:?}"),
        }
    };
    assert_eq!(lease(1, Extended::Only), run(100, 1));
    assert_eq!(lease(1, Extended::Never), run(0, 1));
    // Any: the rest of what is not extended, then some of what is.
    assert_eq!(lease(16, Extended::Any), [run(1, 15), run(101, 1)].concat());
    // Else fail.
    assert_eq!(lease(1, Extended::Never), []);
    assert_eq!(lease(9, Extended::Only), run(102, 2));
    // User caller, EXMEM: movable.
    let refusal = bench.refused(pin(program, run(100, 1), HoldReason::LongTermPin));
    let zone = Exmem;
    let pageblock = Pageblock(100);
    assert_eq!(refusal, Refusal::PinInZone { pageblock, node: OWN, zone, by: 1, of: 1 });
}
