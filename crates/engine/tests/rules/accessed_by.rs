//! Memory lies near those who will access it, unless a policy says otherwise.

use std::time::Duration;

use memtide_engine::{
    Config, Effect, Input, Migrated, NodeConfig, Outcome, Performance, Refusal, Rule, TenantConfig,
    mempolicy::{Extended, MemPolicy, Mode, PolicyError},
    nodes::NodeClass,
    tenant::{Emergency, OnDepletion},
    tiers::Access,
};
use memtide_units::{AccessorId, NodeId, NodeKind, Pageblock, TenantId};

use crate::{
    bench::{Bench, FAR, NEAR, Program, REQUEST, config, run},
    tenants::{bind, quota},
};

const CPU: AccessorId = AccessorId(0);
const GPU: AccessorId = AccessorId(1);
const DEVICE: NodeId = NodeId(2);

fn speed(ns: u32, mib: u32) -> Performance {
    Performance {
        read_latency_ns: ns,
        write_latency_ns: ns,
        read_bandwidth_mib: mib,
        write_bandwidth_mib: mib,
    }
}

/// Near 0..16, far 16..48, which the device does not reach, and the device's own 48..56, special.
fn with_device(change: impl Fn(&mut TenantConfig)) -> Config {
    let mut config = config();
    let device = NodeConfig::new(DEVICE, "device", NodeKind::Device, Pageblock(48), 8);
    config.nodes.push(NodeConfig { class: NodeClass::Special, ..device });
    let access = |accessor, node, ns, mib| Access { accessor, node, performance: speed(ns, mib) };
    config.accessors = vec![
        access(CPU, NEAR, 100, 1000),
        access(CPU, FAR, 300, 200),
        access(CPU, DEVICE, 500, 100),
        access(GPU, NEAR, 600, 100),
        access(GPU, DEVICE, 200, 4000),
    ];
    for (node, ns) in [(0, 100), (1, 300), (2, 500)] {
        config.nodes[node].performance = speed(ns, 1000);
    }
    change(&mut config.tenants[0]);
    config
}

fn by(accessors: &[(AccessorId, u64)]) -> MemPolicy {
    MemPolicy { mode: Mode::AccessedBy(accessors.to_vec()), extended: Extended::Any }
}

/// How much is granted on near, far, and the device.
fn lease(bench: &mut Bench, program: Program, count: u32, policy: Option<MemPolicy>) -> [u32; 3] {
    let lease = Input::Lease { member: program.member, count, after: None, policy };
    let effects = bench.say(lease);
    let [Effect::Grant { extents, .. }] = &effects[..] else { panic!("{effects:?}") };
    let mut per_node = [0; 3];
    for run in extents {
        per_node[match run.start.0 {
            0..16 => 0,
            16..48 => 1,
            _ => 2,
        }] += run.count;
    }
    per_node
}

#[test]
fn a_devices_buffer_is_in_its_memory_and_a_processors_near_it() {
    let mut bench = Bench::with(with_device(|_| ()));
    let program = bench.join();
    assert_eq!(lease(&mut bench, program, 2, Some(by(&[(GPU, 1)]))), [0, 0, 2]);
    assert_eq!(lease(&mut bench, program, 2, Some(by(&[(CPU, 1)]))), [2, 0, 0]);
    assert_eq!(lease(&mut bench, program, 2, None), [2, 0, 0]);
    // Of both: where all together wait least.
    assert_eq!(lease(&mut bench, program, 2, Some(by(&[(CPU, 1), (GPU, 9)]))), [0, 0, 2]);
    assert_eq!(lease(&mut bench, program, 2, Some(by(&[(CPU, 9), (GPU, 1)]))), [2, 0, 0]);
    // What names nodes means them, whoever accesses it: by the process's policy as by the lease's.
    assert_eq!(lease(&mut bench, program, 2, Some(bind(&[FAR]))), [0, 2, 0]);
    let set = |policy| Input::SetPolicy { member: program.member, policy };
    bench.say(set(Some(by(&[(GPU, 1)]))));
    assert_eq!(lease(&mut bench, program, 2, None), [0, 0, 2]);
    assert_eq!(lease(&mut bench, program, 2, Some(bind(&[FAR]))), [0, 2, 0]);
}

#[test]
fn full_memory_of_a_device_overflows_to_what_it_reaches_and_no_further() {
    for (depletion, emergency) in
        [(OnDepletion::Fail, Emergency::Off), (OnDepletion::FallBack, Emergency::On)]
    {
        let mut bench = Bench::with(with_device(|tenant| {
            tenant.policy = by(&[(GPU, 1)]);
            tenant.on_depletion = depletion;
            tenant.emergency = emergency;
        }));
        let program = bench.join();
        assert_eq!(lease(&mut bench, program, 30, None), [16, 0, 8]);
        assert_eq!(lease(&mut bench, program, 1, None), [0; 3], "not on far memory");
    }
    // A processor's comes to the device's memory in an emergency only.
    let mut bench = Bench::with(with_device(|tenant| {
        tenant.policy = by(&[(CPU, 1)]);
        tenant.emergency = Emergency::On;
    }));
    let program = bench.join();
    assert_eq!(lease(&mut bench, program, 100, None), [16, 32, 8]);
}

#[test]
fn which_numbers_put_it_there_is_said() {
    let mut bench = Bench::with(with_device(|tenant| tenant.policy = by(&[(CPU, 1), (GPU, 3)])));
    let program = bench.join();
    lease(&mut bench, program, 10, None);
    let last = bench.engine.decisions(TenantId(0)).last().unwrap();
    assert_eq!(last.outcome, Outcome::Placed(vec![(DEVICE, 8), (NEAR, 2)]));
    // (500 + 3 · 200) / 4 and (100 + 3 · 600) / 4; the least that any of them has.
    let rules = [
        Rule::AccessedBy { node: DEVICE, latency_ns: 275, bandwidth_mib: 100 },
        Rule::Full { node: DEVICE },
        Rule::AccessedBy { node: NEAR, latency_ns: 475, bandwidth_mib: 100 },
    ];
    assert_eq!(last.rules, rules);
    let text = last.to_string();
    assert!(text.contains("node2: those who access it wait 275ns and have 100MiB/s"), "{text}");
    // Under another policy nothing is said of it.
    lease(&mut bench, program, 1, Some(bind(&[FAR])));
    assert_eq!(bench.engine.decisions(TenantId(0)).last().unwrap().rules, []);
}

#[test]
fn the_order_follows_a_link_and_promises_stay() {
    let mut bench = Bench::with(with_device(|tenant| tenant.policy = by(&[(GPU, 1)])));
    let (program, other) = (bench.join(), bench.join());
    assert!(bench.commit(program, 20));
    assert_eq!(lease(&mut bench, program, 2, None), [0, 0, 2]);
    // Five times as slow for everybody: 1000 ns for the device, and 600 for near memory.
    bench.say(Input::LinkChanged { node: DEVICE, performance: speed(2500, 200) });
    assert_eq!(lease(&mut bench, program, 2, None), [2, 0, 0]);
    // Of 24 that it reaches 20 are promised, and nobody else gets those.
    assert_eq!(lease(&mut bench, other, 10, None), [4, 0, 0]);
    assert_eq!(lease(&mut bench, program, 16, None), [10, 0, 6]);
    // Both are full. With room on both again, the device is nearer again.
    for node in [NEAR, DEVICE] {
        assert_eq!(bench.counts(node).0, 0);
        let image = bench.engine.image_of(program.member).unwrap();
        let first = bench.engine.held_by(image, node)[0].start;
        bench.release(program, run(first.0, 1));
        bench.quiet();
        assert_eq!(bench.counts(node).0, 1);
    }
    bench.say(Input::LinkChanged { node: DEVICE, performance: speed(500, 1000) });
    assert_eq!(lease(&mut bench, program, 1, None), [0, 0, 1]);
}

/// What a device reaches is a union of nodes like any other: guarantees and promises are kept.
#[test]
fn guarantees_count_on_the_nodes_that_are_reached() {
    let mut config = with_device(|_| ());
    let near = |quota| (NodeKind::Near, quota);
    let mut tenants = [
        crate::tenants::tenant("device", 1, &[(NodeKind::Device, quota(4, Some(6)))]),
        crate::tenants::tenant("sure", 2, &[near(quota(12, None))]),
    ];
    tenants[0].policy = by(&[(GPU, 1)]);
    config.tenants = tenants.to_vec();
    let mut bench = Bench::with(config);
    let (device, sure) = (bench.join_as(1), bench.join_as(2));
    // Six of its own memory at most, and near what is not guaranteed to the other.
    assert!(!bench.commit(device, 11));
    assert!(bench.commit(device, 10));
    assert_eq!(lease(&mut bench, sure, 100, None), [12, 32, 0]);
    assert_eq!(lease(&mut bench, device, 100, None), [4, 0, 6]);
}

#[test]
fn what_has_to_leave_goes_where_they_reach() {
    let mut bench = Bench::with(with_device(|tenant| tenant.policy = by(&[(GPU, 1)])));
    let program = bench.join();
    assert_eq!(lease(&mut bench, program, 8, None), [0, 0, 8]);
    assert_eq!(lease(&mut bench, program, 12, Some(by(&[(CPU, 1)]))), [12, 0, 0]);
    bench.say(Input::Evacuate { request: REQUEST, node: DEVICE, deadline: Duration::from_secs(9) });
    bench.say(Input::DeviceSaved { node: DEVICE });
    bench.quiet();
    // What has no room near stays rather than go to far memory, which is free.
    assert_eq!([NEAR, FAR, DEVICE].map(|node| bench.counts(node).1), [16, 0, 4]);
    // What is already there is bound to be near the processor from now on.
    let (member, deadline) = (program.member, Duration::from_secs(9));
    let extents = bench.engine.held_by(bench.engine.image_of(member).unwrap(), NEAR);
    let request = memtide_units::RequestId(10);
    let policy = by(&[(CPU, 1)]);
    bench.say(Input::Mbind { request, member, extents, policy, deadline });
    assert!(bench.orders.is_empty(), "it is there");
}

#[test]
fn who_reaches_nothing_is_refused() {
    let mut bench = Bench::with(with_device(|_| ()));
    let member = bench.join().member;
    for (accessors, why) in [
        (vec![], PolicyError::NoAccessors),
        (vec![(AccessorId(9), 1)], PolicyError::NotReached { accessors: 1 }),
    ] {
        let lease = Input::Lease { member, count: 1, after: None, policy: Some(by(&accessors)) };
        assert_eq!(bench.refused(lease), Refusal::Policy(why));
    }
    let mut config = with_device(|tenant| tenant.policy = by(&[(GPU, 1)]));
    config.accessors.clear();
    let error = memtide_engine::Engine::new(config).unwrap_err().to_string();
    assert!(error.contains("1 accessors use"), "{error}");
}

/// Nobody's memory moves for being placed so: where it is, is where it should be.
#[test]
fn what_is_placed_by_cost_is_at_home() {
    let mut bench = Bench::with(with_device(|tenant| tenant.policy = by(&[(GPU, 1)])));
    let program = bench.join();
    lease(&mut bench, program, 4, None);
    for _ in 0..30 {
        let extents = vec![(run(48, 4)[0], 5)];
        bench.say(Input::Accessed { accessor: GPU, extents });
        bench.pass(1);
        bench.quiet();
    }
    let none: Vec<&Migrated> = bench.engine.migrations(TenantId(0)).collect();
    assert!(none.is_empty(), "{none:?}");
}
