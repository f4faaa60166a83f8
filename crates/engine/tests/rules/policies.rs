//! Where a lease goes.

use memtide_engine::{
    Config, Effect, Input, NodeConfig, Performance, Refusal, TenantConfig,
    mempolicy::{Extended, MemPolicy, Mode, PolicyError, Weighting},
    nodes::{Capabilities, Capability, NodeClass},
    tenant::{Emergency, OnDepletion},
};
use memtide_units::{NodeId, NodeKind, Pageblock};

use crate::{
    bench::{Bench, FAR, NEAR, Program, config, run},
    tenants::{bind, quota, tenant},
};

const DEVICE: NodeId = NodeId(2);
const PRIVATE: NodeId = NodeId(3);

/// Near 0..16, far 16..48, a device's special memory 48..56, a private node 64..68.
fn with_device(change: impl Fn(&mut TenantConfig)) -> Config {
    let mut config = config();
    let kind = NodeKind::Device;
    let class = NodeClass::Special;
    config
        .nodes
        .push(NodeConfig { class, ..NodeConfig::new(DEVICE, "device", kind, Pageblock(48), 8) });
    let class = NodeClass::Private(Capabilities::NONE.with(Capability::UserNuma));
    let private = NodeConfig::new(PRIVATE, "private", kind, Pageblock(64), 4);
    config.nodes.push(NodeConfig { class, ..private });
    change(&mut config.tenants[0]);
    config
}

/// How much is granted on which node.
fn lease(bench: &mut Bench, program: Program, count: u32, policy: Option<MemPolicy>) -> [u32; 4] {
    let lease = Input::Lease { member: program.member, count, after: None, policy };
    let effects = bench.say(lease);
    let [Effect::Grant { extents, .. }] = &effects[..] else { panic!("{effects:?}") };
    let mut per_node = [0; 4];
    for run in extents {
        per_node[match run.start.0 {
            0..16 => 0,
            16..48 => 1,
            48..64 => 2,
            _ => 3,
        }] += run.count;
    }
    per_node
}

fn policy(mode: Mode) -> Option<MemPolicy> {
    Some(MemPolicy { mode, extended: Extended::Any })
}

#[test]
fn plain_requests_never_land_on_a_devices_memory() {
    let mut bench = Bench::with(with_device(|_| ()));
    let program = bench.join();
    assert_eq!(lease(&mut bench, program, 100, None), [16, 32, 0, 0]);
    assert_eq!(lease(&mut bench, program, 1, None), [0; 4]);
}

#[test]
fn bind_reaches_a_device_and_goes_nowhere_else() {
    let mut bench = Bench::with(with_device(|_| ()));
    let program = bench.join();
    assert_eq!(lease(&mut bench, program, 100, Some(bind(&[DEVICE]))), [0, 0, 8, 0]);
    assert_eq!(lease(&mut bench, program, 1, Some(bind(&[DEVICE]))), [0; 4]);
    assert_eq!(lease(&mut bench, program, 100, Some(bind(&[PRIVATE]))), [0, 0, 0, 4]);
}

#[test]
fn who_falls_back_goes_on_to_what_the_policy_leaves_out() {
    let falls = |tenant: &mut TenantConfig| tenant.on_depletion = OnDepletion::FallBack;
    let mut bench = Bench::with(with_device(falls));
    let program = bench.join();
    assert_eq!(lease(&mut bench, program, 10, Some(bind(&[DEVICE]))), [2, 0, 8, 0]);
    let fell_back = bench.engine.tenant_status()[0].fell_back;
    assert_eq!(fell_back, crate::bench::size(2));
    // What the pool does not have is ordinary memory.
    assert_eq!(lease(&mut bench, program, 50, None), [14, 32, 0, 0]);
    assert_eq!(bench.engine.tenant_status()[0].fell_back, crate::bench::size(6));
}

#[test]
fn special_memory_is_used_in_an_emergency_if_that_is_on() {
    let on = |tenant: &mut TenantConfig| tenant.emergency = Emergency::On;
    let mut bench = Bench::with(with_device(on));
    let program = bench.join();
    assert_eq!(lease(&mut bench, program, 40, None), [16, 24, 0, 0]);
    assert_eq!(lease(&mut bench, program, 20, None), [0, 8, 8, 0]);
    // Bound to near, with far not tried: not all else is exhausted.
    let mut bench = Bench::with(with_device(on));
    let program = bench.join();
    assert_eq!(lease(&mut bench, program, 20, Some(bind(&[NEAR]))), [16, 0, 0, 0]);
}

#[test]
fn a_lease_has_its_own_policy_else_its_processs_else_its_tenants() {
    let far = |tenant: &mut TenantConfig| tenant.policy = bind(&[FAR]);
    let mut bench = Bench::with(with_device(far));
    let program = bench.join();
    assert_eq!(lease(&mut bench, program, 2, None), [0, 2, 0, 0]);
    let set = |policy| Input::SetPolicy { member: program.member, policy };
    bench.say(set(Some(bind(&[DEVICE]))));
    assert_eq!(lease(&mut bench, program, 2, None), [0, 0, 2, 0]);
    assert_eq!(lease(&mut bench, program, 2, Some(bind(&[NEAR]))), [2, 0, 0, 0]);
    // A child goes on with its parent's.
    let child = bench.fork(program);
    bench.say(bench.joining(child, memtide_engine::Lineage::Child(child.token)));
    assert_eq!(lease(&mut bench, child, 2, None), [0, 0, 2, 0]);
    bench.say(set(None));
    assert_eq!(lease(&mut bench, program, 2, None), [0, 2, 0, 0]);
}

#[test]
fn interleaving_goes_on_where_it_stopped() {
    let mut bench = Bench::with(with_device(|_| ()));
    let program = bench.join();
    let both = policy(Mode::Interleave([NEAR, FAR].into_iter().collect()));
    let mut sum = [0; 4];
    for _ in 0..5 {
        let placed = lease(&mut bench, program, 3, both.clone());
        assert!(placed[0].abs_diff(placed[1]) == 1);
        sum = core::array::from_fn(|node| sum[node] + placed[node]);
    }
    assert_eq!(sum, [8, 7, 0, 0]);
    // When one is full the other takes the rest.
    assert_eq!(lease(&mut bench, program, 20, both), [8, 12, 0, 0]);
}

#[test]
fn weighted_interleave_follows_bandwidth() {
    let mut config = with_device(|_| ());
    for (node, mib) in [(0, 300_000), (1, 100_000)] {
        config.nodes[node].performance = Performance {
            read_bandwidth_mib: mib,
            write_bandwidth_mib: mib,
            ..Performance::default()
        };
    }
    let mut bench = Bench::with(config);
    let program = bench.join();
    let both = policy(Mode::WeightedInterleave([NEAR, FAR].into_iter().collect()));
    assert_eq!(lease(&mut bench, program, 12, both), [9, 3, 0, 0]);
}

#[test]
fn exmem_is_far_or_nothing_and_its_opposite_near_or_nothing() {
    let mut bench = Bench::with(with_device(|tenant| tenant.on_depletion = OnDepletion::FallBack));
    let program = bench.join();
    let only = |extended| Some(MemPolicy { mode: Mode::Local, extended });
    assert_eq!(lease(&mut bench, program, 40, only(Extended::Only)), [0, 32, 0, 0]);
    assert_eq!(lease(&mut bench, program, 20, only(Extended::Never)), [16, 0, 0, 0]);
}

#[test]
fn a_policy_on_a_node_without_memory_takes_effect_when_memory_comes() {
    let mut config = with_device(|_| ());
    config.nodes[2].offline = run(48, 8);
    let mut bench = Bench::with(config);
    let program = bench.join();
    bench.say(Input::SetPolicy { member: program.member, policy: Some(bind(&[DEVICE])) });
    assert_eq!(lease(&mut bench, program, 1, None), [0; 4]);
    bench.say(Input::Add { bytes: crate::bench::size(2), to: DEVICE, zone: None });
    assert_eq!(lease(&mut bench, program, 9, None), [0, 0, 2, 0]);
}

#[test]
fn a_node_whose_owner_permits_what_does_not_fit_together_is_refused() {
    let mut config = with_device(|_| ());
    config.nodes[3].class = NodeClass::Private(Capabilities::NONE.with(Capability::Demotion));
    let refused = memtide_engine::Engine::new(config).unwrap_err();
    let (capability, needs) = (Capability::Demotion, Capability::Reclaim);
    let source = memtide_engine::nodes::CapabilityError { capability, needs };
    assert_eq!(refused, memtide_engine::ConfigError::Capability { node: PRIVATE, source });
}

#[test]
fn policies_that_make_no_sense_are_refused() {
    let mut bench = Bench::with(with_device(|_| ()));
    let member = bench.join().member;
    let node = NodeId(9);
    let cases = [
        (bind(&[]), PolicyError::NoNodes),
        (bind(&[node]), PolicyError::NoSuchNode { node }),
        (
            MemPolicy { mode: Mode::Preferred(PRIVATE), extended: Extended::Any },
            PolicyError::PrivateNode { node: PRIVATE },
        ),
    ];
    for (policy, error) in cases {
        let set = Input::SetPolicy { member, policy: Some(policy.clone()) };
        assert_eq!(bench.refused(set), Refusal::Policy(error));
        let lease = Input::Lease { member, count: 1, after: None, policy: Some(policy) };
        assert_eq!(bench.refused(lease), Refusal::Policy(error));
    }
}

#[test]
fn a_node_outside_the_placement_is_used_when_a_policy_names_it() {
    let mut config = config();
    config.placement = vec![FAR];
    let mut bench = Bench::with(config);
    let program = bench.join();
    assert_eq!(lease(&mut bench, program, 40, None), [0, 32, 0, 0]);
    assert_eq!(lease(&mut bench, program, 3, Some(bind(&[NEAR]))), [3, 0, 0, 0]);
}

#[test]
fn distances_decide_in_which_order_nodes_are_tried() {
    let mut config = config();
    let third = NodeConfig::new(DEVICE, "further", NodeKind::Far, Pageblock(48), 8);
    config.nodes.push(third);
    config.distances = [(0, 0, 10), (0, 1, 40), (0, 2, 20), (1, 0, 40), (1, 2, 40), (2, 0, 20)]
        .map(|(from, to, distance)| (NodeId(from), NodeId(to), distance))
        .to_vec();
    let missing = memtide_engine::Engine::new(config.clone()).unwrap_err();
    assert!(missing.to_string().contains("node2 to node1"), "{missing}");
    config.distances.push((DEVICE, FAR, 40));
    let mut bench = Bench::with(config);
    let program = bench.join();
    assert_eq!(lease(&mut bench, program, 26, None), [16, 2, 8, 0]);
}

/// Two far nodes share a quota, so what is planned for the second is not to be had.
#[test]
fn a_turn_that_a_quota_cuts_short_goes_on_where_it_was_cut() {
    let other = NodeId(2);
    let mut config = config();
    config.nodes.push(NodeConfig::new(other, "far too", NodeKind::Far, Pageblock(48), 32));
    config.weighting = Weighting::Manual;
    config.weights = vec![(FAR, 3), (other, 1)];
    config.tenants = vec![tenant("one", 0, &[(NodeKind::Far, quota(0, Some(5)))])];
    let mut bench = Bench::with(config);
    let program = bench.join();
    let both = policy(Mode::WeightedInterleave([FAR, other].into_iter().collect()));
    let mut lease = |count| {
        let (member, policy) = (program.member, both.clone());
        bench.say(Input::Lease { member, count, after: None, policy });
        let leased = (bench.counts(FAR).1, bench.counts(other).1);
        bench.release(program, run(16, leased.0 as u32));
        if leased.1 > 0 {
            bench.release(program, run(48, leased.1 as u32));
        }
        bench.quiet();
        leased
    };
    assert_eq!(lease(8), (4, 1));
    // Two more are left of its second turn.
    assert_eq!(lease(3), (2, 1));
    assert_eq!(lease(4), (3, 1));
}
