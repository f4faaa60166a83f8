//! The examples in the kernel's source, and its loop done its way.

use alloc::{collections::BTreeSet, vec::Vec};

use memtide_units::Random;

use super::*;
use crate::{
    nodes::Capabilities,
    tiers::abstract_distance::{ADISTANCE_DRAM, ADISTANCE_KMEM},
};

const HBM: u32 = ADISTANCE_DRAM / 2;

fn mask(nodes: &[u16]) -> NodeMask {
    nodes.iter().map(|&node| NodeId(node)).collect()
}

fn public(adistances: &[u32]) -> Vec<TierNode> {
    let node =
        |(&adistance, node)| TierNode { node: NodeId(node), class: NodeClass::Public, adistance };
    adistances.iter().zip(0..).map(node).collect()
}

fn establish(nodes: &[TierNode], table: &[&[u8]]) -> MemoryTiers {
    let distance = |a: NodeId, b: NodeId| Some(table[usize::from(a.0)][usize::from(b.0)]);
    MemoryTiers::establish(nodes, distance)
}

const FOUR: [&[u8]; 4] =
    [&[10, 20, 30, 40], &[20, 10, 40, 30], &[30, 40, 10, 40], &[40, 30, 40, 10]];

#[test]
fn example_1_two_sockets_with_persistent_memory() {
    let (near, far) = (ADISTANCE_DRAM, ADISTANCE_KMEM);
    let tiers = establish(&public(&[near, near, far, far]), &FOUR);
    let listed = [0, 1, 2, 3].map(|node| tiers.tier_of(NodeId(node)));
    assert_eq!(listed, [4, 4, 22, 22].map(Some));
    assert_eq!((tiers.preferred(NodeId(0)), tiers.allowed(NodeId(0))), (mask(&[2]), mask(&[2, 3])));
    assert_eq!(tiers.preferred(NodeId(1)), mask(&[3]));
    for far in [2, 3].map(NodeId) {
        assert!(tiers.preferred(far).is_empty() && tiers.allowed(far).is_empty());
    }
}

#[test]
fn example_2_memory_alone_is_no_reason_for_a_tier() {
    let table: [&[u8]; 3] = [&[10, 20, 30], &[20, 10, 30], &[30, 30, 10]];
    let tiers = establish(&public(&[ADISTANCE_DRAM; 3]), &table);
    assert!((0..3).all(|node| tiers.tier_of(NodeId(node)) == Some(4)));
    assert!((0..3).all(|node| tiers.preferred(NodeId(node)).is_empty()));
}

#[test]
fn example_3_faster_memory_is_above_the_processors_own() {
    let table: [&[u8]; 3] = [&[10, 20, 30], &[20, 10, 40], &[30, 40, 10]];
    let tiers = establish(&public(&[ADISTANCE_DRAM, HBM, ADISTANCE_KMEM]), &table);
    assert_eq!(tiers.preferred(NodeId(0)), mask(&[2]));
    assert_eq!(tiers.preferred(NodeId(1)), mask(&[0]));
    assert_eq!(tiers.allowed(NodeId(1)), mask(&[0, 2]));
    assert!(tiers.preferred(NodeId(2)).is_empty());
}

#[test]
fn nothing_goes_where_it_cannot_be_reached() {
    let (near, far) = (ADISTANCE_DRAM, ADISTANCE_KMEM);
    let nodes = public(&[near, far, far]);
    let distance = |a: NodeId, b: NodeId| match (a.0, b.0) {
        (0, 1) => Some(255),
        (1, 2) | (2, 1) => None,
        _ => Some(20),
    };
    let tiers = MemoryTiers::establish(&nodes, distance);
    assert_eq!((tiers.preferred(NodeId(0)), tiers.allowed(NodeId(0))), (mask(&[2]), mask(&[2])));
    let none = MemoryTiers::establish(&nodes, |_, _| None);
    assert!(none.preferred(NodeId(0)).is_empty() && none.allowed(NodeId(0)).is_empty());
}

#[test]
fn equally_near_nodes_share_what_comes_down() {
    let table: [&[u8]; 4] =
        [&[10, 30, 30, 40], &[30, 10, 20, 20], &[30, 20, 10, 20], &[40, 20, 20, 10]];
    let far = ADISTANCE_KMEM;
    let tiers = establish(&public(&[ADISTANCE_DRAM, far, far, far]), &table);
    assert_eq!(tiers.preferred(NodeId(0)), mask(&[1, 2]));
    assert_eq!(tiers.allowed(NodeId(0)), mask(&[1, 2, 3]));
}

#[test]
fn demotion_goes_to_public_and_permitting_private_nodes_only() {
    let permits = |list: &[Capability]| {
        NodeClass::Private(list.iter().fold(Capabilities::NONE, |all, &one| all.with(one)))
    };
    let open = permits(&[Capability::Reclaim, Capability::Demotion]);
    let classes = [NodeClass::Public, NodeClass::Special, permits(&[]), open];
    let mut nodes = public(&[ADISTANCE_DRAM, 1000, 1100, 5000]);
    for (node, class) in nodes.iter_mut().zip(classes) {
        node.class = class;
    }
    let tiers = establish(&nodes, &FOUR);
    // Tiers 7 and 8 have nobody that takes pages: they are passed over.
    assert_eq!((tiers.preferred(NodeId(0)), tiers.allowed(NodeId(0))), (mask(&[3]), mask(&[3])));
    assert_eq!(tiers.preferred(NodeId(1)), mask(&[3]));
    // No reclaim: what is there stays there.
    assert!(tiers.preferred(NodeId(2)).is_empty() && tiers.allowed(NodeId(2)).is_empty());
    assert_eq!(tiers.tier_of(NodeId(2)), Some(8));
}

#[test]
fn without_memory_there_is_no_tier() {
    let tiers = establish(&public(&[ADISTANCE_DRAM]), &FOUR);
    assert_eq!(tiers.tier_of(NodeId(3)), None);
}

/// `establish_demotion_targets` with `find_next_best_node`, as the source has it.
fn kernel_targets(adistances: &[u32], table: &[Vec<u8>], node: usize) -> (NodeMask, NodeMask) {
    let steps: BTreeSet<u32> = adistances.iter().map(|far| far / 128).collect();
    let Some(next) = steps.iter().find(|&&step| step > adistances[node] / 128) else {
        return (mask(&[]), mask(&[]));
    };
    let mut used: BTreeSet<usize> =
        (0..adistances.len()).filter(|&at| adistances[at] / 128 != *next).collect();
    let (mut preferred, mut best) = (Vec::new(), None);
    loop {
        let left = (0..adistances.len()).filter(|at| !used.contains(at));
        let val = |at: usize| (u32::from(table[node][at]) + u32::from(at < node)) * 1024;
        let Some(target) = left.min_by_key(|&at| (val(at), at)) else { break };
        used.insert(target);
        if best.is_some_and(|best| best != table[node][target]) {
            break;
        }
        best = Some(table[node][target]);
        preferred.push(target as u16);
    }
    let lower = (0..adistances.len()).filter(|&at| adistances[at] / 128 >= *next);
    (mask(&preferred), lower.map(|at| NodeId(at as u16)).collect())
}

#[test]
fn targets_are_those_of_establish_demotion_targets() {
    for seed in 0..2000 {
        let mut random = Random::new(seed);
        let count = 1 + random.below(8) as usize;
        let adistances: Vec<u32> = (0..count).map(|_| random.below(700) as u32).collect();
        let table: Vec<Vec<u8>> = (0..count)
            .map(|at| {
                let far = |to| if at == to { 10 } else { 11 + random.below(4) as u8 };
                (0..count).map(far).collect()
            })
            .collect();
        let rows: Vec<&[u8]> = table.iter().map(Vec::as_slice).collect();
        let tiers = establish(&public(&adistances), &rows);
        for node in 0..count {
            let id = NodeId(node as u16);
            let found = (tiers.preferred(id), tiers.allowed(id));
            assert_eq!(found, kernel_targets(&adistances, &table, node), "seed {seed} node {node}");
        }
    }
}
