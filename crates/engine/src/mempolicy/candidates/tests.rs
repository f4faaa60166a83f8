//! The vectors of the rules, and what holds of all policies on all machines.

use alloc::{collections::BTreeSet, vec};

use memtide_units::{NodeKind, Random};

use super::*;
use crate::nodes::Capabilities;

const RAM: NodeClass = NodeClass::Public;
const CDM: NodeClass = NodeClass::Special;
const USER: Capabilities = Capabilities::NONE.with(Capability::UserNuma);

fn mask(nodes: &[u16]) -> NodeMask {
    nodes.iter().map(|&node| NodeId(node)).collect()
}

fn ids(nodes: &[NodeId]) -> Vec<u16> {
    nodes.iter().map(|node| node.0).collect()
}

struct Machine {
    zonelists: Zonelists,
    kinds: Vec<NodeKind>,
}

impl Machine {
    fn new(nodes: &[(NodeClass, NodeKind)]) -> Self {
        let distance = |a: NodeId, b: NodeId| Some(if a == b { 10 } else { 20 });
        let classes: Vec<_> =
            nodes.iter().zip(0..).map(|(node, id)| (NodeId(id), node.0)).collect();
        Self {
            zonelists: Zonelists::build(&classes, distance).unwrap(),
            kinds: nodes.iter().map(|node| node.1).collect(),
        }
    }

    /// RAM nodes 0 and 1, coherent devices 2, 3 and 4.
    fn coherent() -> Self {
        use NodeKind::{Device, Near};
        Self::new(&[(RAM, Near), (RAM, Near), (CDM, Device), (CDM, Device), (CDM, Device)])
    }

    fn is_extended(&self, node: u16) -> bool {
        self.kinds[usize::from(node)] != NodeKind::Near
    }

    fn go(&self, mode: Mode, extended: Extended, local: u16) -> [Vec<u16>; 3] {
        let policy = MemPolicy { mode, extended };
        let nobody = AccessTable::default();
        policy.check(&self.zonelists, &nobody).unwrap();
        let is_extended = |node: NodeId| self.is_extended(node.0);
        let found = candidates(&policy, NodeId(local), &self.zonelists, &nobody, is_extended);
        [ids(&found.policy), ids(&found.beyond), ids(&found.emergency)]
    }
}

#[test]
fn plain_malloc_never_lands_on_cdm() {
    let machine = Machine::coherent();
    assert_eq!(machine.go(Mode::Local, Extended::Any, 0), [vec![0, 1], vec![], vec![2, 3, 4]]);
    assert_eq!(machine.go(Mode::Local, Extended::Any, 1), [vec![1, 0], vec![], vec![2, 3, 4]]);
}

#[test]
fn bind_2_from_node_0_lands_on_cdm() {
    let machine = Machine::coherent();
    let bind = |nodes: &[u16]| machine.go(Mode::Bind(mask(nodes)), Extended::Any, 0);
    assert_eq!(bind(&[2]), [vec![2], vec![0, 1], vec![3, 4]]);
    // The list of n2 is [2, 0, 1]: RAM after the device, though the request starts on RAM.
    assert_eq!(bind(&[2, 1]), [vec![1, 2], vec![0], vec![3, 4]]);
}

/// The rule looks at the first node of the mask only, and only if the local node is not in it.
#[test]
fn the_first_node_of_the_mask_decides_whose_zonelist_is_used() {
    let nodes = [(CDM, NodeKind::Device), (RAM, NodeKind::Near), (RAM, NodeKind::Near)];
    let machine = Machine::new(&nodes);
    let bind = |nodes: &[u16], local| machine.go(Mode::Bind(mask(nodes)), Extended::Any, local);
    assert_eq!(bind(&[0, 1], 2)[0], [0, 1]);
    assert_eq!(bind(&[0, 1], 1)[0], [1, 0]);
    assert_eq!(bind(&[0], 0)[0], [0]);
}

#[test]
fn of_two_named_devices_both_are_used() {
    let machine = Machine::coherent();
    let [policy, beyond, emergency] = machine.go(Mode::Bind(mask(&[3, 4])), Extended::Any, 1);
    assert_eq!((policy, beyond, emergency), (vec![3, 4], vec![1, 0], vec![2]));
}

#[test]
fn preferred_and_preferred_many_come_before_the_order_of_fallback() {
    let machine = Machine::coherent();
    let preferred = |node| machine.go(Mode::Preferred(NodeId(node)), Extended::Any, 0);
    assert_eq!(preferred(1), [vec![1, 0], vec![], vec![2, 3, 4]]);
    assert_eq!(preferred(3), [vec![3, 0, 1], vec![], vec![2, 4]]);
    let many = machine.go(Mode::PreferredMany(mask(&[1, 4])), Extended::Any, 0);
    assert_eq!(many, [vec![1, 4, 0], vec![], vec![2, 3]]);
}

#[test]
fn interleaving_policies_spread_by_number() {
    let machine = Machine::coherent();
    for mode in [Mode::Interleave, Mode::WeightedInterleave] {
        let spread = machine.go(mode(mask(&[2, 0])), Extended::Any, 1);
        assert_eq!(spread, [vec![0, 2], vec![1], vec![3, 4]]);
    }
}

/// The table of the proposal: NORMAL asked for, EXMEM asked for, nothing asked for.
#[test]
fn exmem_asked_for_or_not() {
    use NodeKind::{Far, Near};
    let machine = Machine::new(&[(RAM, Near), (RAM, Far), (RAM, Near), (RAM, Far)]);
    let local = |extended| machine.go(Mode::Local, extended, 0);
    assert_eq!(local(Extended::Never), [vec![0, 2], vec![], vec![]]);
    assert_eq!(local(Extended::Only), [vec![1, 3], vec![], vec![]]);
    assert_eq!(local(Extended::Any), [vec![0, 1, 2, 3], vec![], vec![]]);
    let bind = |nodes: &[u16], extended| machine.go(Mode::Bind(mask(nodes)), extended, 0);
    assert_eq!(bind(&[0, 1], Extended::Only), [vec![1], vec![3], vec![]]);
    assert_eq!(bind(&[0, 2], Extended::Only), [vec![], vec![1, 3], vec![]]);
}

#[test]
fn who_avoids_extended_memory_gets_none_in_an_emergency() {
    let machine = Machine::coherent();
    assert_eq!(machine.go(Mode::Local, Extended::Never, 0)[2], []);
    assert_eq!(machine.go(Mode::Local, Extended::Only, 0), [vec![], vec![], vec![2, 3, 4]]);
}

#[test]
fn a_private_node_is_reached_by_bind_alone_and_keeps_its_requests() {
    use NodeKind::{Device, Near};
    let open = NodeClass::Private(USER.with(Capability::Fallback));
    let nodes = [
        (RAM, Near),
        (CDM, Device),
        (NodeClass::Private(USER), Device),
        (open, Device),
        (RAM, Near),
    ];
    let machine = Machine::new(&nodes);
    assert_eq!(machine.go(Mode::Local, Extended::Any, 0), [vec![0, 4], vec![], vec![1]]);
    assert_eq!(machine.go(Mode::Local, Extended::Any, 2), [vec![4, 0], vec![], vec![1]]);
    let bind = |nodes: &[u16]| machine.go(Mode::Bind(mask(nodes)), Extended::Any, 0);
    assert_eq!(bind(&[2]), [vec![2], vec![], vec![]]);
    assert_eq!(bind(&[3]), [vec![3], vec![0, 4], vec![1]]);
    assert_eq!(bind(&[0, 3]), [vec![0, 3], vec![4], vec![1]]);
    assert_eq!(bind(&[0, 2, 3]), [vec![0, 2, 3], vec![], vec![]]);
}

fn any_machine(random: &mut Random) -> (Machine, Vec<NodeClass>) {
    let open = NodeClass::Private(USER.with(Capability::Fallback));
    let classes = [RAM, RAM, CDM, NodeClass::Private(USER), open];
    let count = 1 + random.below(7);
    let nodes: Vec<_> = (0..count)
        .map(|_| {
            let class = classes[random.below(5) as usize];
            (class, NodeKind::ALL[random.below(3) as usize])
        })
        .collect();
    let table: Vec<u8> =
        (0..count * count).map(|_| [20, 30, 30, 255][random.below(4) as usize]).collect();
    let distance = |a: NodeId, b: NodeId| {
        let far = table[usize::from(a.0) * count as usize + usize::from(b.0)];
        Some(if a == b { 10 } else { far })
    };
    let classes: Vec<_> = nodes.iter().zip(0..).map(|(node, id)| (NodeId(id), node.0)).collect();
    let zonelists = Zonelists::build(&classes, distance).unwrap();
    let kinds = nodes.iter().map(|node| node.1).collect();
    (Machine { zonelists, kinds }, nodes.iter().map(|node| node.0).collect())
}

/// Every node is in one list at most and in the one where it belongs.
#[test]
fn every_node_is_where_it_belongs() {
    for seed in 0..2000 {
        let mut random = Random::new(seed);
        let (machine, classes) = any_machine(&mut random);
        let count = classes.len() as u64;
        let named: BTreeSet<u16> = (0..count as u16).filter(|_| random.below(2) == 0).collect();
        let public_or_special =
            |id: &u16| !matches!(classes[usize::from(*id)], NodeClass::Private(_));
        let open: Vec<u16> = named.iter().copied().filter(public_or_special).collect();
        let all: Vec<u16> = named.iter().copied().collect();
        let extended = [Extended::Any, Extended::Only, Extended::Never][random.below(3) as usize];
        let local = random.below(count) as u16;
        let mode = match random.below(5) {
            0 if !all.is_empty() => Mode::Bind(mask(&all)),
            1 if !open.is_empty() => Mode::PreferredMany(mask(&open)),
            2 if !open.is_empty() => Mode::Interleave(mask(&open)),
            3 if !open.is_empty() => Mode::Preferred(NodeId(open[0])),
            _ => Mode::Local,
        };
        let lists = machine.go(mode.clone(), extended, local);
        let mut seen = BTreeSet::new();
        for (list, id) in
            lists.iter().zip(0..).flat_map(|(ids, list)| ids.iter().map(move |id| (list, *id)))
        {
            assert!(seen.insert(id), "seed {seed}: {id} is there twice");
            let class = classes[usize::from(id)];
            let is_allowed = extended.allows(machine.is_extended(id));
            assert!(is_allowed, "seed {seed}: {id} is of a wrong kind");
            assert!(machine.zonelists.nearest(NodeId(local)).contains(&NodeId(id)), "seed {seed}");
            let named = match &mode {
                // Nobody accesses anything here.
                Mode::AccessedBy(_) => false,
                Mode::Local => id == local && class == CDM,
                Mode::Preferred(node) => id == node.0,
                Mode::Bind(mask) | Mode::PreferredMany(mask) => mask.contains(NodeId(id)),
                Mode::Interleave(mask) | Mode::WeightedInterleave(mask) => {
                    mask.contains(NodeId(id))
                }
            };
            let strict = matches!(mode, Mode::Bind(_) | Mode::Interleave(_));
            let here = id == local && class == CDM;
            let right = match list {
                0 => named || (!strict && (class == RAM || here)),
                1 => !named && class == RAM,
                _ => !named && class == CDM,
            };
            assert!(right, "seed {seed}: {id} in list {list} under {mode:?}");
        }
        for &id in &all {
            let reached = machine.zonelists.nearest(NodeId(local)).contains(&NodeId(id));
            if matches!(mode, Mode::Bind(_)) && reached && extended.allows(machine.is_extended(id))
            {
                assert!(lists[0].contains(&id), "seed {seed}: {id} is named and not used");
            }
        }
    }
}

/// `policy_zonelist` and `policy_nodemask` with the patch for coherent devices: what they give for
/// bind, and the front part of preferred-many, comes first here as well.
#[test]
fn what_linux_gives_comes_first() {
    for seed in 0..2000 {
        let mut random = Random::new(seed);
        let (machine, classes) = any_machine(&mut random);
        let open = |id: &u16| !matches!(classes[usize::from(*id)], NodeClass::Private(_));
        let named: Vec<u16> = (0..classes.len() as u16).filter(open).collect();
        let named: Vec<u16> = named.into_iter().filter(|_| random.below(2) == 0).collect();
        let local = random.below(classes.len() as u64) as u16;
        if named.is_empty() || !open(&local) {
            continue;
        }
        let mut nd = local;
        if !named.contains(&local) && classes[usize::from(named[0])] == CDM {
            nd = named[0];
        }
        let reached = machine.zonelists.nearest(NodeId(local));
        let linux = |nd: u16| -> Vec<u16> {
            let list = machine.zonelists.fallback(NodeId(nd)).iter();
            let list = list.filter(|node| reached.contains(node)).map(|node| node.0);
            list.filter(|node| named.contains(node)).collect()
        };
        let bind = machine.go(Mode::Bind(mask(&named)), Extended::Any, local);
        assert!(bind[0].starts_with(&linux(nd)), "seed {seed}: {bind:?}");
        let many = machine.go(Mode::PreferredMany(mask(&named)), Extended::Any, local);
        assert!(many[0].starts_with(&linux(local)), "seed {seed}: {many:?}");
    }
}
