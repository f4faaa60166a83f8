//! Against Linux's way of taking one page at a time.

use alloc::{collections::BTreeMap, vec};

use memtide_units::Random;

use super::*;
use crate::mempolicy::Weighting;

const A: NodeId = NodeId(0);
const B: NodeId = NodeId(1);
const C: NodeId = NodeId(5);

fn weights(list: &[(NodeId, u8)]) -> Weights {
    Weights::new(Weighting::Manual, list, &[]).unwrap()
}

/// `weighted_interleave_nodes`, called once for every page; a node without room is passed over.
fn one(
    turn: &mut Turn,
    nodes: &[NodeId],
    weight: impl Fn(NodeId) -> u8,
    room: &BTreeMap<NodeId, u64>,
) -> Option<NodeId> {
    let (mut node, mut left) = (turn.node, turn.left);
    for _ in 0..=nodes.len() {
        if left == 0 || !node.is_some_and(|node| nodes.contains(&node)) {
            let after = nodes.iter().filter(|at| node.is_none_or(|node| **at > node)).min();
            let next = after.or(nodes.iter().min())?;
            (node, left) = (Some(*next), weight(*next));
        }
        let here = node?;
        if room[&here] > 0 {
            *turn = Turn { node, left: left - 1 };
            return Some(here);
        }
        left = 0;
    }
    None
}

fn sums(runs: &[(NodeId, u64)]) -> BTreeMap<NodeId, u64> {
    let mut sums = BTreeMap::new();
    for (node, count) in runs {
        *sums.entry(*node).or_default() += count;
    }
    sums
}

#[test]
fn spread_agrees_with_one_at_a_time() {
    for seed in 0..3000 {
        let mut random = Random::new(seed);
        let ids: Vec<NodeId> = (0..6).map(NodeId).collect();
        let list: Vec<(NodeId, u8)> =
            ids.iter().map(|&node| (node, 1 + random.below(9) as u8)).collect();
        let weights = (random.below(3) > 0).then(|| weights(&list));
        let weight = |node| weights.as_ref().map_or(1, |weights| weights.of(node));
        let (mut turn, mut naive) = (Turn::default(), Turn::default());
        let mut room: BTreeMap<NodeId, u64> =
            ids.iter().map(|&node| (node, random.below(300))).collect();
        for step in 0..12 {
            let mut nodes = ids.clone();
            random.shuffle(&mut nodes);
            nodes.truncate(random.below(7) as usize);
            let count = random.below(if step % 2 == 0 { 8 } else { 400 });
            let runs = turn.spread(&nodes, weights.as_ref(), count, |node| room[&node]);
            let taken: Vec<(NodeId, u64)> = (0..count)
                .map_while(|_| {
                    let node = one(&mut naive, &nodes, weight, &room)?;
                    *room.get_mut(&node).unwrap() -= 1;
                    Some((node, 1))
                })
                .collect();
            assert_eq!(sums(&runs), sums(&taken), "seed {seed} step {step}");
            assert_eq!(turn, naive, "seed {seed} step {step}");
            assert!(runs.windows(2).all(|pair| pair[0].0 != pair[1].0), "seed {seed}");
            let refill = ids[random.below(6) as usize];
            *room.get_mut(&refill).unwrap() += random.below(100);
        }
    }
}

/// Below one round the runs come in the very order of Linux.
#[test]
fn turns_go_on_where_they_stopped() {
    let weights = weights(&[(A, 3), (B, 1), (C, 2)]);
    let mut turn = Turn::default();
    let mut go = |count| turn.spread(&[A, B, C], Some(&weights), count, |_| 100);
    assert_eq!(go(2), [(A, 2)]);
    assert_eq!(go(3), [(A, 1), (B, 1), (C, 1)]);
    assert_eq!(go(2), [(C, 1), (A, 1)]);
    assert_eq!(go(0), []);
    assert_eq!(go(4), [(A, 2), (B, 1), (C, 1)]);
}

#[test]
fn plain_interleave_weighs_all_the_same() {
    let mut turn = Turn::default();
    assert_eq!(turn.spread(&[B, A], None, 3, |_| 100), [(A, 1), (B, 1), (A, 1)]);
    assert_eq!(turn.spread(&[B, A], None, 1, |_| 100), [(B, 1)]);
}

#[test]
fn whoever_leaves_the_mask_loses_the_rest_of_its_turn() {
    let weights = weights(&[(A, 5), (B, 2), (C, 2)]);
    let mut turn = Turn::default();
    assert_eq!(turn.spread(&[A, B, C], Some(&weights), 1, |_| 100), [(A, 1)]);
    assert_eq!(turn.spread(&[B, C], Some(&weights), 3, |_| 100), [(B, 2), (C, 1)]);
    assert_eq!(turn.spread(&[A, B, C], Some(&weights), 2, |_| 100), [(C, 1), (A, 1)]);
}

#[test]
fn what_one_has_no_room_for_goes_on_to_the_next() {
    let weights = weights(&[(A, 4), (B, 2)]);
    let room = |node| if node == A { 5 } else { 100 };
    let mut turn = Turn::default();
    let runs = turn.spread(&[A, B], Some(&weights), 20, room);
    assert_eq!(sums(&runs), BTreeMap::from([(A, 5), (B, 15)]));
    let mut turn = Turn::default();
    assert_eq!(turn.spread(&[A, B], Some(&weights), 9, |_| 2), vec![(A, 2), (B, 2)]);
    assert_eq!(turn.spread(&[], None, 9, |_| 2), []);
}

/// A tebibyte in pages: a handful of runs, and at once.
#[test]
fn large_counts_take_few_runs() {
    let weights = weights(&[(A, 255), (B, 100), (C, 1)]);
    let mut turn = Turn::default();
    let runs = turn.spread(&[A, B, C], Some(&weights), u64::MAX / 2, |_| u64::MAX / 2);
    assert!(runs.len() <= 6, "{runs:?}");
    assert_eq!(runs.iter().map(|run| run.1).sum::<u64>(), u64::MAX / 2);
}
