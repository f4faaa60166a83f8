//! The vectors of the rules, and the order of the kernel computed the kernel's way.

use alloc::vec;

use memtide_units::Random;

use super::*;
use crate::nodes::Capabilities;

const RAM: NodeClass = NodeClass::Public;
const CDM: NodeClass = NodeClass::Special;

fn n(id: u16) -> NodeId {
    NodeId(id)
}

fn ids(list: &[NodeId]) -> Vec<u16> {
    list.iter().map(|node| node.0).collect()
}

fn uniform(from: NodeId, to: NodeId) -> Option<u8> {
    Some(if from == to { 10 } else { 20 })
}

fn nodes(classes: &[NodeClass]) -> Vec<(NodeId, NodeClass)> {
    classes.iter().enumerate().map(|(id, &class)| (n(id as u16), class)).collect()
}

/// RAM nodes 0 and 1, coherent devices 2, 3 and 4, as in the proposal of 2017.
#[test]
fn coherent_device_zonelists_n0_to_n4() {
    let lists = Zonelists::build(&nodes(&[RAM, RAM, CDM, CDM, CDM]), uniform).unwrap();
    assert_eq!(ids(lists.fallback(n(0))), [0, 1]);
    assert_eq!(ids(lists.fallback(n(1))), [1, 0]);
    assert_eq!(ids(lists.fallback(n(2))), [2, 0, 1]);
    assert_eq!(ids(lists.fallback(n(3))), [3, 0, 1]);
    assert_eq!(ids(lists.fallback(n(4))), [4, 0, 1]);
    for id in 0..5 {
        assert_eq!(ids(lists.nofallback(n(id))), [id]);
        assert!(lists.private(n(id)).is_empty());
    }
}

#[test]
fn a_private_node_is_absent_from_fallback_and_nofallback_everywhere() {
    let private = NodeClass::Private(Capabilities::NONE);
    let open = NodeClass::Private(Capabilities::NONE.with(Capability::Fallback));
    let lists = Zonelists::build(&nodes(&[RAM, private, CDM, open, RAM]), uniform).unwrap();
    for id in 0..5 {
        assert!(!lists.fallback(n(id)).iter().any(|at| [1, 3].contains(&at.0)));
        assert!(!lists.nofallback(n(id)).iter().any(|at| [1, 3].contains(&at.0)));
    }
    assert!(lists.fallback(n(1)).is_empty() && lists.nofallback(n(3)).is_empty());
    assert_eq!(ids(lists.private(n(1))), [1]);
    assert_eq!(ids(lists.private(n(3))), [3, 4, 0]);
}

#[test]
fn nearer_comes_first_and_after_before_before() {
    let far =
        |from: NodeId, to: NodeId| Some(if from == to { 10 } else { 20 + 5 * (to.0 as u8 / 2) });
    let lists = Zonelists::build(&nodes(&[RAM; 6]), far).unwrap();
    assert_eq!(ids(lists.fallback(n(3))), [3, 0, 1, 2, 4, 5]);
    let lists = Zonelists::build(&nodes(&[RAM; 4]), uniform).unwrap();
    assert_eq!(ids(lists.fallback(n(2))), [2, 3, 0, 1]);
}

#[test]
fn what_cannot_be_reached_is_in_no_list() {
    let far = |from: NodeId, to: NodeId| {
        let parted = from.0.abs_diff(to.0) == 2;
        Some(if from == to {
            10
        } else if parted {
            255
        } else {
            20
        })
    };
    let lists = Zonelists::build(&nodes(&[RAM; 3]), far).unwrap();
    assert_eq!(ids(lists.fallback(n(0))), [0, 1]);
    assert_eq!(ids(lists.nearest(n(2))), [2, 1]);
}

#[test]
fn wrong_distances_are_refused_by_name() {
    let cases: [(u16, u16, Option<u8>); 5] =
        [(0, 0, Some(11)), (1, 1, Some(255)), (0, 1, Some(10)), (1, 0, Some(0)), (1, 0, None)];
    for (from, to, wrong) in cases {
        let distance =
            |a: NodeId, b: NodeId| if (a.0, b.0) == (from, to) { wrong } else { uniform(a, b) };
        let error = Zonelists::build(&nodes(&[RAM, RAM]), distance).unwrap_err();
        assert_eq!(error, ZonelistError::Distance { from: n(from), to: n(to), distance: wrong });
    }
    let missing = ZonelistError::Distance { from: n(1), to: n(0), distance: None };
    assert!(
        alloc::format!("{missing}").starts_with("the distance from node1 to node0 is missing;")
    );
    let twice = Zonelists::build(&[(n(1), RAM), (n(1), CDM)], uniform).unwrap_err();
    assert_eq!(twice, ZonelistError::NodeTwice { node: n(1) });
}

#[test]
fn demotion_without_reclaim_is_refused() {
    let demotion = Capabilities::NONE.with(Capability::Demotion);
    let error = Zonelists::build(&[(n(3), NodeClass::Private(demotion))], uniform).unwrap_err();
    let source = demotion.check().unwrap_err();
    assert_eq!(error, ZonelistError::Capabilities { node: n(3), source });
    let both = demotion.with(Capability::Reclaim);
    assert!(Zonelists::build(&[(n(3), NodeClass::Private(both))], uniform).is_ok());
}

/// The loop of `build_zonelists` with `find_next_best_node`'s own arithmetic, nodes taken one by
/// one.
fn kernel_order(count: u16, from: u16, distance: &dyn Fn(u16, u16) -> u8) -> Vec<u16> {
    let (mut order, mut used) = (vec![from], vec![from]);
    loop {
        let (mut best, mut min) = (None, u32::MAX);
        for to in (0..count).filter(|to| !used.contains(to)) {
            let val = (u32::from(distance(from, to)) + u32::from(to < from)) * 1024;
            if val < min {
                (best, min) = (Some(to), val);
            }
        }
        let Some(best) = best else { return order };
        used.push(best);
        order.push(best);
    }
}

#[test]
fn the_order_is_that_of_find_next_best_node() {
    for seed in 0..500 {
        let mut random = Random::new(seed);
        let count = 1 + random.below(9) as u16;
        let table: Vec<u8> = (0..count * count).map(|_| 11 + random.below(6) as u8).collect();
        let distance = |a: u16, b: u16| if a == b { 10 } else { table[usize::from(a * count + b)] };
        let class = |random: &mut Random| if random.below(3) == 0 { CDM } else { RAM };
        let classes: Vec<NodeClass> = (0..count).map(|_| class(&mut random)).collect();
        let lists = Zonelists::build(&nodes(&classes), |a, b| Some(distance(a.0, b.0))).unwrap();
        for from in 0..count {
            let order = kernel_order(count, from, &distance);
            assert_eq!(ids(lists.nearest(n(from))), order, "seed {seed}");
            let may = |to: &u16| *to == from || classes[usize::from(*to)] == RAM;
            let want: Vec<u16> = order.into_iter().filter(may).collect();
            assert_eq!(ids(lists.fallback(n(from))), want, "seed {seed}");
        }
    }
}
