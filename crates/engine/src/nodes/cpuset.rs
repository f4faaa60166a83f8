//! Which nodes control groups divide up (kernel/cgroup/cpuset.c).
//!
//! A cpuset's `mems` say on which nodes its programs may allocate, and the root's are the nodes
//! that there are to divide. Coherent device memory is not among them: it is reached by naming it,
//! and a request for one node alone (`__GFP_THISNODE`) is not held up by any cpuset. Whether
//! private nodes are divided up differs between the revisions of that proposal, so it is a choice
//! here.

use memtide_units::NodeId;

use super::{NodeMask, NodeStates};

/// Whether cpusets divide up private nodes.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum PrivateNodes {
    /// No: who may use one is up to its owner alone.
    #[default]
    LeftOut,
    /// Yes: a cpuset's programs need one in its `mems` too.
    DividedUp,
}

/// How a request is made.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Asks {
    /// For one node alone (`__GFP_THISNODE`).
    ThisNode,
    /// For any node that will do.
    Any,
}

/// The `mems` of the root: what there is to divide up.
#[must_use]
pub fn root_mems(states: &NodeStates, private: PrivateNodes) -> NodeMask {
    let mems = states.memory().andnot(&states.coherent_device());
    match private {
        PrivateNodes::DividedUp => mems,
        PrivateNodes::LeftOut => mems.andnot(&states.private()),
    }
}

/// `cpuset_node_allowed`: whether a request of a program in a cpuset with these `mems` may go to a
/// node. That it may does not mean that it gets there: a private node is in no zonelist but its
/// own.
#[must_use]
pub fn node_allowed(
    states: &NodeStates,
    private: PrivateNodes,
    mems: &NodeMask,
    node: NodeId,
    asks: Asks,
) -> bool {
    if states.private().contains(node) {
        return private == PrivateNodes::LeftOut || mems.contains(node);
    }
    asks == Asks::ThisNode || mems.contains(node)
}

#[cfg(test)]
mod tests {
    use memtide_units::AccessorId;

    use super::*;
    use crate::nodes::{Capabilities, node_states::Memory};

    /// 0 and 1 RAM, 2 of a coherent device, 3 private, 4 without memory.
    fn states() -> NodeStates {
        let mut states = NodeStates::default();
        let (owner, capabilities) = (AccessorId(1), Capabilities::NONE);
        let private = Memory::Private { owner, capabilities };
        let memory = [Memory::Public, Memory::Public, Memory::Special, private];
        for (memory, node) in memory.into_iter().zip(0..) {
            states.plug(NodeId(node), memory, 1).unwrap();
        }
        states
    }

    fn mask(nodes: &[u16]) -> NodeMask {
        nodes.iter().map(|&node| NodeId(node)).collect()
    }

    #[test]
    fn cdm_is_excluded_from_root_mems() {
        assert_eq!(root_mems(&states(), PrivateNodes::LeftOut), mask(&[0, 1]));
        assert_eq!(root_mems(&states(), PrivateNodes::DividedUp), mask(&[0, 1, 3]));
    }

    #[test]
    fn thisnode_bypasses_cpuset() {
        let (states, mems) = (states(), mask(&[0]));
        let allowed =
            |node, asks| node_allowed(&states, PrivateNodes::LeftOut, &mems, NodeId(node), asks);
        assert!(allowed(0, Asks::Any) && !allowed(1, Asks::Any) && !allowed(2, Asks::Any));
        assert!((0..3).all(|node| allowed(node, Asks::ThisNode)));
    }

    #[test]
    fn whether_cpusets_divide_up_private_nodes_is_configurable() {
        let states = states();
        for asks in [Asks::Any, Asks::ThisNode] {
            let allowed = |private, mems: &[u16]| {
                node_allowed(&states, private, &mask(mems), NodeId(3), asks)
            };
            assert!(allowed(PrivateNodes::LeftOut, &[0]));
            assert!(!allowed(PrivateNodes::DividedUp, &[0]));
            assert!(allowed(PrivateNodes::DividedUp, &[0, 3]));
        }
    }
}
