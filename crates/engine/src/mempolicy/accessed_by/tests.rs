//! Two processors and two devices, each with memory of its own.

use alloc::{vec, vec::Vec};

use memtide_units::Random;

use super::*;
use crate::{
    config::Performance,
    mempolicy::{Candidates, Errno, Extended, MemPolicy, candidates},
    nodes::{Capabilities, Capability},
    tiers::Access,
};

const CPU: AccessorId = AccessorId(0);
const OTHER: AccessorId = AccessorId(1);
const GPU: AccessorId = AccessorId(2);
const NIC: AccessorId = AccessorId(3);

fn access(accessor: AccessorId, node: u16, latency_ns: u32, bandwidth_mib: u32) -> Access {
    let performance = Performance {
        read_latency_ns: latency_ns,
        write_latency_ns: latency_ns,
        read_bandwidth_mib: bandwidth_mib,
        write_bandwidth_mib: bandwidth_mib,
    };
    Access { accessor, node: NodeId(node), performance }
}

/// 0 and 1: the processors' own. 2: the accelerator's, special. 3: the network card's, which it
/// alone reaches; private. 4: far, public. 5: special, of another device that is not there.
fn machine() -> (Zonelists, AccessTable) {
    let user = Capabilities::NONE.with(Capability::UserNuma);
    let classes = [
        NodeClass::Public,
        NodeClass::Public,
        NodeClass::Special,
        NodeClass::Private(user),
        NodeClass::Public,
        NodeClass::Special,
    ];
    let nodes: Vec<_> = (0..).map(NodeId).zip(classes).collect();
    let distance = |a, b| Some(if a == b { 10 } else { 20 });
    let entries = [
        access(CPU, 0, 80, 100),
        access(CPU, 1, 140, 60),
        access(CPU, 2, 400, 20),
        access(CPU, 4, 250, 20),
        access(CPU, 5, 500, 20),
        access(OTHER, 0, 140, 60),
        access(OTHER, 1, 80, 100),
        access(OTHER, 2, 400, 20),
        access(OTHER, 4, 400, 20),
        access(GPU, 0, 600, 20),
        access(GPU, 1, 600, 30),
        access(GPU, 2, 200, 2000),
        access(NIC, 3, 50, 10),
    ];
    (Zonelists::build(&nodes, distance).unwrap(), AccessTable::new(&entries).unwrap())
}

fn go(by: &[(AccessorId, u64)], extended: Extended) -> Candidates {
    let (zonelists, accessors) = machine();
    let policy = MemPolicy { mode: Mode::AccessedBy(by.to_vec()), extended };
    policy.check(&zonelists, &accessors).unwrap();
    // All but the processors' own.
    candidates(&policy, NodeId(0), &zonelists, &accessors, |node| node.0 > 1)
}

fn ids(nodes: &[NodeId]) -> Vec<u16> {
    nodes.iter().map(|node| node.0).collect()
}

#[test]
fn each_starts_at_its_own_node_and_goes_on_by_cost() {
    let listed = |by, count| ids(&go(&[(by, count)], Extended::Any).policy);
    assert_eq!(listed(CPU, 1), [0, 1, 4]);
    assert_eq!(listed(OTHER, 7), [1, 0, 4]);
    // Its own memory though it is special; then, equally far, the larger bandwidth.
    assert_eq!(listed(GPU, 1), [2, 1, 0]);
}

#[test]
fn what_one_of_them_cannot_reach_is_in_no_leg() {
    let found = go(&[(GPU, 1)], Extended::Any);
    assert_eq!((ids(&found.beyond), ids(&found.emergency)), (vec![], vec![]), "not 4, not 5");
    let found = go(&[(CPU, 1), (GPU, 1)], Extended::Any);
    assert_eq!((ids(&found.policy), ids(&found.emergency)), (vec![2, 0, 1], vec![]));
    let found = go(&[(CPU, 1)], Extended::Any);
    assert_eq!((ids(&found.beyond), ids(&found.emergency)), (vec![], vec![2, 5]));
}

/// 600 and 80 ns on average, against 200 and 400: the more often the accelerator, the nearer to it.
#[test]
fn how_often_each_accesses_it_decides() {
    let first = |cpu, gpu| go(&[(CPU, cpu), (GPU, gpu)], Extended::Any).policy[0].0;
    assert_eq!((first(10, 1), first(10, 7), first(10, 9), first(1, 1000)), (0, 0, 2, 2));
    assert_eq!(first(1, 0), 0);
}

#[test]
fn extended_memory_is_asked_for_and_avoided_here_too() {
    let listed = |by, extended| ids(&go(&[(by, 1)], extended).policy);
    assert_eq!(listed(GPU, Extended::Only), [2]);
    assert_eq!(listed(GPU, Extended::Never), [1, 0]);
    // Its own node is near memory: no other device's becomes its own for that.
    assert_eq!(listed(CPU, Extended::Only), [4]);
}

#[test]
fn nobody_and_no_place_are_einval() {
    let (zonelists, accessors) = machine();
    let check = |by: &[(AccessorId, u64)]| {
        let policy = MemPolicy { mode: Mode::AccessedBy(by.to_vec()), extended: Extended::Any };
        let error = policy.check(&zonelists, &accessors).unwrap_err();
        assert_eq!(error.errno(), Errno::EINVAL);
        error
    };
    assert_eq!(check(&[]), PolicyError::NoAccessors);
    assert_eq!(check(&[(CPU, 0)]), PolicyError::NoAccessors);
    assert_eq!(
        check(&[(CPU, 1), (GPU, 1), (CPU, 0)]),
        PolicyError::AccessorTwice { accessor: CPU }
    );
    let many = |count: u16| (0..count).map(|id| (AccessorId(id), 1)).collect::<Vec<_>>();
    assert_eq!(check(&many(65)), PolicyError::TooManyAccessors { accessors: 65, most: 64 });
    assert_eq!(check(&many(64)), PolicyError::NotReached { accessors: 64 });
    // Unknown; private memory only; none in common.
    assert_eq!(check(&[(AccessorId(9), 1)]), PolicyError::NotReached { accessors: 1 });
    assert_eq!(check(&[(NIC, 1)]), PolicyError::NotReached { accessors: 1 });
    assert_eq!(check(&[(NIC, 1), (CPU, 2), (GPU, 0)]), PolicyError::NotReached { accessors: 2 });
}

/// Against a list made the slow way: costs as fractions, compared one by one.
#[test]
fn the_order_is_that_of_the_mean_latency() {
    for seed in 0..2000 {
        let mut random = Random::new(seed);
        let count = 1 + random.below(5) as u16;
        let mut entries = Vec::new();
        for (accessor, node) in (0..3).flat_map(|a| (0..count).map(move |node| (a, node))) {
            if random.below(6) > 0 {
                let (ns, mib) = (1 + random.below(5) as u32, random.below(3) as u32);
                entries.push(access(AccessorId(accessor), node, ns, mib));
            }
        }
        let table = AccessTable::new(&entries).unwrap();
        let special = random.below(1 << count);
        let class = |node: u16| match special >> node & 1 {
            0 => NodeClass::Public,
            _ => NodeClass::Special,
        };
        let nodes: Vec<_> = (0..count).map(|node| (NodeId(node), class(node))).collect();
        let zonelists =
            Zonelists::build(&nodes, |a, b| Some(if a == b { 10 } else { 20 })).unwrap();
        let by: Vec<_> = (0..3).map(|id| (AccessorId(id), random.below(3))).collect();
        let used = || by.iter().filter(|one| one.1 > 0);
        let of = |id: AccessorId, node: u16| {
            let mut all = entries.iter().map(|entry| (entry, entry.performance));
            let found = all.find(|(at, _)| (at.accessor, at.node) == (id, NodeId(node)));
            found.map(|(_, speed)| (speed.read_latency_ns, speed.read_bandwidth_mib))
        };
        let mut naive: Vec<(u64, i64, u16)> = Vec::new();
        'nodes: for node in 0..count {
            let (mut sum, mut least) = (0, i64::MAX);
            for &(id, times) in used() {
                let Some((ns, mib)) = of(id, node) else { continue 'nodes };
                sum += times * u64::from(ns);
                least = least.min(i64::from(mib));
            }
            naive.push((sum, -least, node));
        }
        naive.sort_unstable();
        let first = naive.first().map(|one| one.2);
        naive.retain(|one| class(one.2) == NodeClass::Public || Some(one.2) == first);
        let expected: Vec<u16> = naive.iter().map(|one| one.2).collect();
        let expected = if used().count() == 0 { Vec::new() } else { expected };
        let found = zonelist(&table.reached_by(&by), &zonelists);
        assert_eq!(ids(&found), expected, "seed {seed}");
        let accesses: u64 = by.iter().map(|one| one.1).sum();
        for &(sum, bandwidth, node) in naive.iter().filter(|_| accesses > 0) {
            let cost = table.cost(&by, NodeId(node)).unwrap();
            assert_eq!(cost.latency_ns, sum.div_ceil(accesses), "seed {seed}");
            assert_eq!(cost.bandwidth_mib as i64, -bandwidth, "seed {seed}");
        }
        assert_eq!(table.cost(&by, NodeId(99)), None);
    }
}
