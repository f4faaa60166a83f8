//! The memory policy under which a program runs on near and far nodes of the kernel's.
//!
//! A policy is set for the thread that starts the program; `fork` and `execve` hand it on, so the
//! program and all that it starts have it, and nothing needs to be in them. Which one:
//!
//! | placement | policy | what it means |
//! |---|---|---|
//! | near first | bind, near and far | the nearest node of both lists that has room; never another |
//! | interleave | interleave, near and far | page by page in turn; a full node is passed over |
//! | weighted | weighted interleave, near and far | in turn, as often as the kernel's weights say |
//! | far first | preferred many, far | far while it has room, then whatever is nearest |
//!
//! The first three name nodes by number for good: a node that has no memory yet is used as soon as
//! it has some. (The kernel keeps the list, and looks at it again when memory comes or goes; it
//! asks that one node have memory from the start.) Far first does not: the kernel keeps such a
//! policy as it found it, so some far node must have memory.
//!
//! "Near first" is the kernel's order of nodes, by distance from the processor: where a far node is
//! no further from some processor than a near one, it is not what it says, and [`Plan::nearer`]
//! tells. With NUMA balancing on, the kernel may move pages within both lists to where they are
//! used.

use std::collections::BTreeMap;

use memtide_sys::numa::{
    Mode, NodeSet, NodesMean, NumaBalancing, Policy, set_thread_policy, thread_policy,
};
use memtide_units::NodeId;
use rustix::io::Errno;

use super::nodes::{NodeListError, parse_list};
use crate::{ReadError, Root};

/// Where new memory comes from.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Placement {
    /// Near while there is room, then far.
    NearFirst,
    /// Near and far in turn.
    Interleave,
    /// Near and far in turn, by weight.
    Weighted,
    /// Far while there is room.
    FarFirst,
}

/// A policy, and what is to be known about it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Plan {
    /// The policy.
    pub policy: Policy,
    /// Nodes of both lists that have no memory yet.
    pub without_memory: NodeSet,
    /// Far nodes that are no further than a near one, from the processors of a node.
    pub nearer: Vec<Nearer>,
    /// The weights of weighted interleave.
    pub weights: BTreeMap<NodeId, u64>,
}

/// A far node that is no further than a near one.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Nearer {
    /// From the processors of this node.
    pub from: NodeId,
    /// The near node.
    pub near: NodeId,
    /// Its distance.
    pub near_distance: u64,
    /// The far node.
    pub far: NodeId,
    /// Its distance.
    pub far_distance: u64,
}

/// Why there is no such policy.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PolicyError {
    /// A node that the machine cannot have.
    #[error("there is no {node}: this machine has, or may come to have, the nodes {possible}")]
    NoSuchNode {
        /// Which node.
        node: NodeId,
        /// Those that can be.
        possible: Box<NodeSet>,
    },
    /// A node is near and far.
    #[error("{node} is near and far: expected each node in one list")]
    Twice {
        /// Which node.
        node: NodeId,
    },
    /// There is nowhere for memory to come from.
    #[error(
        "none of the nodes {nodes} has memory that may be used here: the kernel wants one at least \
         when the policy is set ({having} have some)"
    )]
    NoMemory {
        /// The nodes that the placement begins with.
        nodes: Box<NodeSet>,
        /// Nodes that have memory, and are allowed by the cpuset.
        having: Box<NodeSet>,
    },
    /// No far nodes where the placement begins with them.
    #[error("no far node is given: expected one at least where memory goes far first")]
    NoFar,
    /// This kernel has no weights.
    #[error(
        "this kernel has no weighted interleave: expected \
         /sys/kernel/mm/mempolicy/weighted_interleave, which Linux 6.9 and later have"
    )]
    NoWeights,
    /// The machine cannot be read.
    #[error(transparent)]
    Machine(#[from] ReadError),
    /// The machine says nonsense.
    #[error("a list of nodes in /sys/devices/system/node")]
    Nodes(#[from] NodeListError),
}

const NODES: &str = "sys/devices/system/node";
const WEIGHTS: &str = "sys/kernel/mm/mempolicy/weighted_interleave";

/// The policy for a placement on these nodes; `allowed` is what the cpuset allows.
///
/// # Errors
/// [`PolicyError`].
pub fn plan(
    root: &Root,
    near: &NodeSet,
    far: &NodeSet,
    placement: Placement,
    allowed: &NodeSet,
) -> Result<Plan, PolicyError> {
    if let Some(node) = near.intersection(far).iter().next() {
        return Err(PolicyError::Twice { node });
    }
    let both = near.union(far);
    let possible = list(root, "possible")?;
    if let Some(node) = both.difference(&possible).iter().next() {
        return Err(PolicyError::NoSuchNode { node, possible: Box::new(possible) });
    }
    let (mode, nodes) = match placement {
        Placement::NearFirst => (Mode::Bind, both),
        Placement::Interleave => (Mode::Interleave, both),
        Placement::Weighted => (Mode::WeightedInterleave, both),
        Placement::FarFirst if far.is_empty() => return Err(PolicyError::NoFar),
        Placement::FarFirst => (Mode::PreferredMany, *far),
    };
    let having = list(root, "has_memory")?;
    let usable = having.intersection(allowed);
    if nodes.intersection(&usable).is_empty() {
        let (nodes, having) = (Box::new(nodes), Box::new(usable));
        return Err(PolicyError::NoMemory { nodes, having });
    }
    let weights = match placement {
        Placement::Weighted => weights(root, &both)?,
        _ => BTreeMap::new(),
    };
    let nearer = match placement {
        Placement::NearFirst => nearer(root, near, far)?,
        _ => Vec::new(),
    };
    let balancing = match mode {
        Mode::Bind => NumaBalancing::Within,
        _ => NumaBalancing::No,
    };
    let nodes_mean = NodesMean::TheseNumbers;
    let policy = Policy { nodes_mean, balancing, ..Policy::new(mode, nodes) };
    Ok(Plan { policy, without_memory: both.difference(&having), nearer, weights })
}

/// Does something under a policy: what it starts has the policy, and the calling thread has its own
/// one again afterwards.
///
/// # Errors
/// The kernel's, when it does not take the policy; then nothing was done.
pub fn under<T>(policy: &Policy, work: impl FnOnce() -> T) -> Result<T, Errno> {
    let before = thread_policy()?;
    match set_thread_policy(policy) {
        // A kernel before 5.12 does not know of balancing under a policy: it just has none.
        Err(Errno::INVAL) if policy.balancing == NumaBalancing::Within => {
            set_thread_policy(&Policy { balancing: NumaBalancing::No, ..*policy })?;
        }
        set => set?,
    }
    let done = work();
    set_thread_policy(&before)?;
    Ok(done)
}

fn list(root: &Root, name: &str) -> Result<NodeSet, PolicyError> {
    // A kernel without NUMA has one node, and no such files.
    Ok(parse_list(root.text(format!("{NODES}/{name}"))?.as_deref().unwrap_or("0"))?)
}

/// A node whose weight is not said has 1.
fn weights(root: &Root, nodes: &NodeSet) -> Result<BTreeMap<NodeId, u64>, PolicyError> {
    if !root.exists(WEIGHTS) {
        return Err(PolicyError::NoWeights);
    }
    let weight = |node| Ok((node, root.number(format!("{WEIGHTS}/{node}"))?.unwrap_or(1)));
    nodes.iter().map(weight).collect()
}

fn nearer(root: &Root, near: &NodeSet, far: &NodeSet) -> Result<Vec<Nearer>, PolicyError> {
    let mut found = Vec::new();
    // The columns of a row are the nodes that are online (`node_read_distance`).
    let online: Vec<NodeId> = list(root, "online")?.iter().collect();
    for from in list(root, "has_cpu")?.iter() {
        let row = root.text(format!("{NODES}/{from}/distance"))?.unwrap_or_default();
        let row = row.split_ascii_whitespace().map(|number| number.parse().unwrap_or(u64::MAX));
        let row: BTreeMap<NodeId, u64> = online.iter().copied().zip(row).collect();
        for near in near.iter() {
            for far in far.iter() {
                let (Some(&near_distance), Some(&far_distance)) = (row.get(&near), row.get(&far))
                else {
                    continue;
                };
                if far_distance <= near_distance {
                    found.push(Nearer { from, near, near_distance, far, far_distance });
                }
            }
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Nodes 0 and 1 with processors, 2 far from both, 3 possible.
    fn machine() -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        let nodes = folder.path().join(NODES);
        for node in 0..3 {
            std::fs::create_dir_all(nodes.join(format!("node{node}"))).unwrap();
        }
        for (file, text) in [
            ("possible", "0-3"),
            ("online", "0-2"),
            ("has_memory", "0-2"),
            ("has_cpu", "0-1"),
            ("node0/distance", "10 21 17"),
            ("node1/distance", "21 10 28"),
            ("node2/distance", "17 28 10"),
        ] {
            std::fs::write(nodes.join(file), format!("{text}\n")).unwrap();
        }
        folder
    }

    fn nodes(list: &str) -> NodeSet {
        parse_list(list).unwrap()
    }

    fn planned(near: &str, far: &str, placement: Placement) -> Result<Plan, String> {
        let folder = machine();
        let root = Root::new(folder.path());
        plan(&root, &nodes(near), &nodes(far), placement, &nodes("0-3"))
            .map_err(|error| error.to_string())
    }

    #[test]
    fn near_first_binds_to_both_lists_by_number() {
        let plan = planned("0", "2-3", Placement::NearFirst).unwrap();
        assert_eq!(plan.policy.mode, Mode::Bind);
        assert_eq!(plan.policy.nodes, nodes("0,2-3"));
        assert_eq!(plan.policy.nodes_mean, NodesMean::TheseNumbers);
        assert_eq!(plan.without_memory, nodes("3"));
        // From node 1, node 0 is at 21 and node 2 at 28.
        assert_eq!(plan.nearer, []);
        let plan = planned("1", "2", Placement::NearFirst).unwrap();
        let (from, near, far) = (NodeId(0), NodeId(1), NodeId(2));
        let nearer = Nearer { from, near, near_distance: 21, far, far_distance: 17 };
        assert_eq!(plan.nearer, [nearer]);
    }

    #[test]
    fn far_first_prefers_the_far_list() {
        let plan = planned("0", "2", Placement::FarFirst).unwrap();
        assert_eq!((plan.policy.mode, plan.policy.nodes), (Mode::PreferredMany, nodes("2")));
        let error = planned("0", "3", Placement::FarFirst).unwrap_err();
        assert!(error.starts_with("none of the nodes 3 has memory"), "{error}");
        assert!(error.ends_with("(0-2 have some)"), "{error}");
        assert!(planned("0", "", Placement::FarFirst).unwrap_err().starts_with("no far node"));
    }

    #[test]
    fn weights_are_those_of_the_kernel() {
        let folder = machine();
        let root = Root::new(folder.path());
        let planned = || plan(&root, &nodes("0"), &nodes("2"), Placement::Weighted, &nodes("0-3"));
        assert!(matches!(planned(), Err(PolicyError::NoWeights)));
        std::fs::create_dir_all(folder.path().join(WEIGHTS)).unwrap();
        std::fs::write(folder.path().join(WEIGHTS).join("node0"), "5\n").unwrap();
        let plan = planned().unwrap();
        assert_eq!(plan.weights, BTreeMap::from([(NodeId(0), 5), (NodeId(2), 1)]));
        assert_eq!(plan.policy.mode, Mode::WeightedInterleave);
    }

    #[test]
    fn what_cannot_be_is_refused() {
        for (near, far, error) in [
            ("0-1", "1-2", "node1 is near and far: expected each node in one list"),
            ("0", "4", "there is no node4: this machine has, or may come to have, the nodes 0-3"),
        ] {
            assert_eq!(planned(near, far, Placement::Interleave).unwrap_err(), error);
        }
        let folder = machine();
        let root = Root::new(folder.path());
        let refused =
            plan(&root, &nodes("0"), &nodes(""), Placement::NearFirst, &nodes("1")).unwrap_err();
        assert!(matches!(refused, PolicyError::NoMemory { .. }), "{refused}");
    }

    #[test]
    fn what_is_done_under_a_policy_has_it_and_nothing_later() {
        std::thread::spawn(|| {
            let allowed = memtide_sys::numa::allowed_nodes().unwrap();
            let here = NodeSet::only(allowed.iter().next().unwrap()).unwrap();
            let plan = plan(&Root::live(), &here, &NodeSet::EMPTY, Placement::NearFirst, &allowed);
            let policy = plan.unwrap().policy;
            let seen = under(&policy, || thread_policy().unwrap()).unwrap();
            assert_eq!((seen.mode, seen.nodes), (Mode::Bind, here));
            assert_eq!(thread_policy().unwrap(), Policy::DEFAULT);
            let absent = Policy::new(Mode::Bind, nodes("1023"));
            assert_eq!(under(&absent, || panic!("it was done")), Err::<(), _>(Errno::INVAL));
        })
        .join()
        .unwrap();
    }
}
