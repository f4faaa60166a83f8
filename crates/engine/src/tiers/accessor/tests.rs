//! Two processors and an accelerator, each with memory of its own.

use alloc::vec::Vec;

use memtide_units::Random;

use super::*;

const CPU: AccessorId = AccessorId(0);
const OTHER: AccessorId = AccessorId(1);
const GPU: AccessorId = AccessorId(2);
const NODES: [NodeId; 4] = [NodeId(0), NodeId(1), NodeId(2), NodeId(3)];

fn access(accessor: AccessorId, node: u16, latency_ns: u32, bandwidth_mib: u32) -> Access {
    let performance = Performance {
        read_latency_ns: latency_ns,
        write_latency_ns: latency_ns,
        read_bandwidth_mib: bandwidth_mib,
        write_bandwidth_mib: bandwidth_mib,
    };
    Access { accessor, node: NodeId(node), performance }
}

/// Nodes 0 and 1 are the processors', 2 the accelerator's; 3 is a device's that it alone reaches.
fn table() -> AccessTable {
    let entries = [
        access(CPU, 0, 80, 100),
        access(CPU, 1, 140, 60),
        access(CPU, 2, 400, 20),
        access(OTHER, 0, 140, 60),
        access(OTHER, 1, 80, 100),
        access(OTHER, 2, 400, 20),
        access(GPU, 0, 600, 20),
        access(GPU, 1, 600, 30),
        access(GPU, 2, 200, 2000),
        access(GPU, 3, 100, 2000),
    ];
    AccessTable::new(&entries).unwrap()
}

/// Nanoseconds that these accessors spend on a page there.
fn cost_ns(table: &AccessTable, counts: &[(AccessorId, u64)], node: NodeId) -> Option<u128> {
    Some(table.rank(counts, node)?.twice_ns.div_ceil(2))
}

#[test]
fn every_accessor_has_a_best_node_of_its_own() {
    let table = table();
    let best = |by, nodes: &[NodeId]| table.best(&[(by, 1)], nodes);
    assert_eq!(best(CPU, &NODES), Some(NodeId(0)));
    assert_eq!(best(OTHER, &NODES), Some(NodeId(1)));
    assert_eq!(best(GPU, &NODES), Some(NodeId(3)));
    assert_eq!(best(GPU, &NODES[..3]), Some(NodeId(2)));
    // Equally far: the larger bandwidth.
    assert_eq!(best(GPU, &NODES[..2]), Some(NodeId(1)));
    assert_eq!(best(AccessorId(9), &NODES), None);
}

#[test]
fn a_page_of_several_lies_where_all_together_wait_least() {
    let table = table();
    let best = |counts: &[(AccessorId, u64)]| table.best(counts, &NODES);
    assert_eq!(best(&[(CPU, 10), (GPU, 1)]), Some(NodeId(0)));
    // 320 ns more for each access of the processor, 400 less for each of the accelerator.
    assert_eq!(best(&[(CPU, 10), (GPU, 7)]), Some(NodeId(0)));
    assert_eq!(best(&[(CPU, 10), (GPU, 9)]), Some(NodeId(2)));
    // The accelerator's hidden memory is no place for what a processor uses.
    assert_eq!(best(&[(GPU, 1_000_000)]), Some(NodeId(3)));
    assert_eq!(best(&[(GPU, 1_000_000), (CPU, 1)]), Some(NodeId(2)));
    assert_eq!(best(&[(GPU, 5), (CPU, 0)]), Some(NodeId(3)));
    assert_eq!(best(&[(CPU, 0)]), None);
    assert_eq!(best(&[]), None);
    assert_eq!(cost_ns(&table, &[(CPU, 10), (GPU, 7)], NodeId(0)), Some(10 * 80 + 7 * 600));
    assert_eq!(cost_ns(&table, &[(CPU, 1)], NodeId(3)), None);
    assert_eq!(cost_ns(&table, &[(CPU, u64::MAX), (GPU, u64::MAX)], NodeId(0)), {
        Some(u128::from(u64::MAX) * 680)
    });
}

#[test]
fn a_link_that_gets_slower_changes_the_answer() {
    let (mut table, cost) =
        (table(), |table: &AccessTable, by| cost_ns(table, &[(by, 1)], NODES[0]));
    let speed = |ns, mib| access(CPU, 0, ns, mib).performance;
    let (fast, slow) = (speed(100, 1000), speed(250, 1000));
    table.scale(NODES[0], &fast, &slow);
    assert_eq!(table.best(&[(CPU, 1)], &NODES), Some(NodeId(1)));
    // In proportion, for everybody; other nodes are as they were.
    assert_eq!([CPU, OTHER, GPU].map(|by| cost(&table, by)), [200, 350, 1500].map(Some));
    assert_eq!(cost_ns(&table, &[(CPU, 1)], NODES[1]), Some(140));
    // Nothing is lost by rounding: from 600 ns by way of 6 ns.
    for step in [(slow, speed(1, 1)), (speed(1, 1), fast)] {
        table.scale(NODES[0], &step.0, &step.1);
    }
    assert_eq!([CPU, OTHER, GPU].map(|by| cost(&table, by)), [80, 140, 600].map(Some));
    // What is not known of the node says nothing about its accessors.
    table.scale(NODES[0], &fast, &Performance::default());
    assert_eq!(cost(&table, GPU), Some(600));
}

#[test]
fn a_direction_that_is_not_known_is_like_the_other() {
    let half = |read_latency_ns, write_latency_ns| {
        let performance =
            Performance { read_latency_ns, write_latency_ns, ..Performance::default() };
        let entry = Access { accessor: CPU, node: NodeId(0), performance };
        cost_ns(&AccessTable::new(&[entry]).unwrap(), &[(CPU, 10)], NodeId(0))
    };
    assert_eq!(half(80, 0), Some(800));
    assert_eq!(half(0, 80), Some(800));
    assert_eq!(half(80, 101), Some(905));
}

#[test]
fn contradictions_are_refused() {
    let twice = [access(CPU, 0, 80, 1), access(GPU, 0, 80, 1), access(CPU, 0, 80, 1)];
    let error = AccessError::Twice { accessor: CPU, node: NodeId(0) };
    assert_eq!(AccessTable::new(&twice), Err(error));
    let error = AccessError::NoLatency { accessor: GPU, node: NodeId(3) };
    assert_eq!(AccessTable::new(&[access(GPU, 3, 0, 100)]), Err(error));
}

#[test]
fn the_best_is_the_least_of_all_sums() {
    for seed in 0..2000 {
        let mut random = Random::new(seed);
        let mut entries = Vec::new();
        for accessor in (0..4).map(AccessorId) {
            for node in 0..5 {
                if random.below(5) > 0 {
                    entries.push(access(accessor, node, 1 + random.below(30) as u32, 1));
                }
            }
        }
        let table = AccessTable::new(&entries).unwrap();
        let counts: Vec<_> = (0..4).map(|id| (AccessorId(id), random.below(4))).collect();
        let nodes: Vec<_> = (0..5).map(NodeId).collect();
        let sum = |node: NodeId| -> Option<u64> {
            let used = counts.iter().filter(|count| count.1 > 0);
            used.map(|&(accessor, count)| {
                let entry = entries.iter().find(|at| at.accessor == accessor && at.node == node)?;
                Some(count * u64::from(entry.performance.read_latency_ns))
            })
            .sum()
        };
        let all_idle = counts.iter().all(|count| count.1 == 0);
        let naive = nodes.iter().filter_map(|&node| Some((sum(node)?, node))).min();
        let naive = naive.filter(|_| !all_idle).map(|(_, node)| node);
        assert_eq!(table.best(&counts, &nodes), naive, "seed {seed}");
        for &node in &nodes {
            assert_eq!(cost_ns(&table, &counts, node), sum(node).map(u128::from), "seed {seed}");
        }
    }
}
