//! Which nodes have memory, and of what class it is (`node_states[]` of Linux).
//!
//! A node is there before its memory is. The first memory that is plugged decides what sort of node
//! it is, and the last that is unplugged makes it an empty node again, of no class:
//!
//! ```text
//!                plug (public) ──────────────► N_MEMORY
//!  no memory ──► plug (special) ─────────────► N_MEMORY, N_COHERENT_DEVICE
//!      ▲         plug (private, by an owner) ► N_MEMORY, private
//!      └──────────── unplug of the last ◄────────┘
//! ```
//!
//! Memory of one class does not become another's while it is there: who has a page of a public node
//! was never told that it is special. So a node that holds public memory is refused to whoever
//! wants it private, and a private node to all but the owner that it has.

use alloc::collections::BTreeMap;

use memtide_units::{AccessorId, NodeId};

use super::{Capabilities, NodeClass, NodeMask, class::CapabilityError};
use crate::mempolicy::Errno;

/// What memory comes to a node.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Memory {
    /// Ordinary memory.
    Public,
    /// Coherent memory of a device.
    Special,
    /// Memory for its owner's purposes.
    Private {
        /// The device that owns it.
        owner: AccessorId,
        /// What it permits.
        capabilities: Capabilities,
    },
}

impl Memory {
    /// The class of a node with such memory.
    #[must_use]
    pub const fn class(self) -> NodeClass {
        match self {
            Self::Public => NodeClass::Public,
            Self::Special => NodeClass::Special,
            Self::Private { capabilities, .. } => NodeClass::Private(capabilities),
        }
    }
}

/// Why memory cannot be plugged or unplugged.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum NodeStateError {
    /// The node has memory of another class.
    #[error("{node} holds {pages} pages of {has:?} memory; expected none for it to be {wanted:?}")]
    ClassTaken {
        /// Which.
        node: NodeId,
        /// How much it holds.
        pages: u64,
        /// Of what class.
        has: NodeClass,
        /// What it was to be.
        wanted: NodeClass,
    },
    /// A private node has one owner.
    #[error("{node} is owned by {owner}; {wanted} cannot own it too")]
    Owned {
        /// Which.
        node: NodeId,
        /// Whose it is.
        owner: AccessorId,
        /// Who wanted it.
        wanted: AccessorId,
    },
    /// What the owner permits makes no sense.
    #[error("{node}: {source}")]
    Capabilities {
        /// Which.
        node: NodeId,
        /// Why.
        source: CapabilityError,
    },
    /// No pages, or more than can be counted.
    #[error("{pages} pages more on {node}, which has {present}; expected 1 or more, 2^64 at most")]
    Pages {
        /// Which.
        node: NodeId,
        /// Pages to plug.
        pages: u64,
        /// Pages it has.
        present: u64,
    },
    /// More unplugged than there is.
    #[error("{pages} pages to unplug from {node}, which has {present}")]
    NotPresent {
        /// Which.
        node: NodeId,
        /// Pages to unplug.
        pages: u64,
        /// Pages it has.
        present: u64,
    },
}

impl NodeStateError {
    /// The kernel's number for it.
    #[must_use]
    pub const fn errno(&self) -> Errno {
        match self {
            Self::ClassTaken { .. } | Self::Owned { .. } => Errno::EBUSY,
            _ => Errno::EINVAL,
        }
    }
}

/// What memory each node has.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct NodeStates {
    present: BTreeMap<NodeId, (Memory, u64)>,
}

impl NodeStates {
    /// Memory comes to a node.
    ///
    /// # Errors
    /// [`NodeStateError`]; then nothing has changed.
    pub fn plug(&mut self, node: NodeId, memory: Memory, pages: u64) -> Result<(), NodeStateError> {
        if let Memory::Private { capabilities, .. } = memory {
            let check = capabilities.check();
            check.map_err(|source| NodeStateError::Capabilities { node, source })?;
        }
        let before = self.present.get(&node).copied();
        if let Some((has, present)) = before {
            may_join(node, has, present, memory)?;
        }
        let present = before.map_or(0, |(_, present)| present);
        let sum = present.checked_add(pages).filter(|_| pages > 0);
        let sum = sum.ok_or(NodeStateError::Pages { node, pages, present })?;
        self.present.insert(node, (memory, sum));
        Ok(())
    }

    /// Memory leaves a node. With the last of it the node has no class any more.
    ///
    /// # Errors
    /// [`NodeStateError::NotPresent`]; then nothing has changed.
    pub fn unplug(&mut self, node: NodeId, pages: u64) -> Result<(), NodeStateError> {
        let present = self.present.get(&node).map_or(0, |(_, present)| *present);
        let Some(left) = present.checked_sub(pages) else {
            return Err(NodeStateError::NotPresent { node, pages, present });
        };
        match self.present.get_mut(&node) {
            Some((_, present)) if left > 0 => *present = left,
            _ => {
                self.present.remove(&node);
            }
        }
        Ok(())
    }

    /// `N_MEMORY`: nodes that have memory, of whatever class.
    #[must_use]
    pub fn memory(&self) -> NodeMask {
        self.having(|_| true)
    }

    /// `N_COHERENT_DEVICE`: nodes that have memory of a coherent device.
    #[must_use]
    pub fn coherent_device(&self) -> NodeMask {
        self.having(|class| class == NodeClass::Special)
    }

    /// Nodes that have private memory.
    #[must_use]
    pub fn private(&self) -> NodeMask {
        self.having(|class| matches!(class, NodeClass::Private(_)))
    }

    fn having(&self, is: impl Fn(NodeClass) -> bool) -> NodeMask {
        let having = self.present.iter().filter(|(_, (memory, _))| is(memory.class()));
        having.map(|(&node, _)| node).collect()
    }
}

/// Whether memory may be plugged into a node that has some.
fn may_join(node: NodeId, has: Memory, pages: u64, comes: Memory) -> Result<(), NodeStateError> {
    match (has, comes) {
        (Memory::Private { owner, .. }, Memory::Private { owner: wanted, .. })
            if owner != wanted =>
        {
            Err(NodeStateError::Owned { node, owner, wanted })
        }
        _ if has.class() == comes.class() => Ok(()),
        _ => {
            let (has, wanted) = (has.class(), comes.class());
            Err(NodeStateError::ClassTaken { node, pages, has, wanted })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nodes::Capability;

    const N: NodeId = NodeId(7);

    fn private(owner: u16) -> Memory {
        Memory::Private { owner: AccessorId(owner), capabilities: Capabilities::NONE }
    }

    fn only(node: NodeId) -> NodeMask {
        [node].into_iter().collect()
    }

    #[test]
    fn n_coherent_device_is_set_on_hot_plug_and_cleared_on_unplug() {
        let mut states = NodeStates::default();
        states.plug(NodeId(0), Memory::Public, 10).unwrap();
        states.plug(N, Memory::Special, 4).unwrap();
        assert_eq!((states.coherent_device(), states.memory().len()), (only(N), 2));
        states.unplug(N, 3).unwrap();
        assert_eq!(states.coherent_device(), only(N));
        states.unplug(N, 1).unwrap();
        assert!(states.coherent_device().is_empty());
        assert_eq!(states.memory(), only(NodeId(0)));
        // Empty again, it may be anything.
        states.plug(N, Memory::Public, 1).unwrap();
        assert!(states.coherent_device().is_empty());
    }

    #[test]
    fn a_node_that_holds_public_memory_is_refused() {
        let mut states = NodeStates::default();
        states.plug(N, Memory::Public, 3).unwrap();
        let before = states.clone();
        for memory in [private(1), Memory::Special] {
            let error = states.plug(N, memory, 1).unwrap_err();
            let (has, wanted) = (NodeClass::Public, memory.class());
            assert_eq!(error, NodeStateError::ClassTaken { node: N, pages: 3, has, wanted });
            assert_eq!((error.errno(), &states), (Errno::EBUSY, &before));
        }
    }

    #[test]
    fn a_private_node_has_one_owner() {
        let mut states = NodeStates::default();
        states.plug(N, private(1), 3).unwrap();
        states.plug(N, private(1), 3).unwrap();
        assert_eq!((states.private(), states.memory()), (only(N), only(N)));
        let error = states.plug(N, private(2), 3).unwrap_err();
        let (owner, wanted) = (AccessorId(1), AccessorId(2));
        assert_eq!(error, NodeStateError::Owned { node: N, owner, wanted });
        assert_eq!(error.errno(), Errno::EBUSY);
        states.unplug(N, 6).unwrap();
        states.plug(N, private(2), 3).unwrap();
        assert_eq!(states.plug(N, private(1), 1).unwrap_err().errno(), Errno::EBUSY);
        assert_eq!(states.private(), only(N));
    }

    #[test]
    fn impossible_amounts_and_capabilities_change_nothing() {
        let mut states = NodeStates::default();
        states.plug(N, Memory::Public, 3).unwrap();
        let before = states.clone();
        let demotion = Capabilities::NONE.with(Capability::Demotion);
        let odd = Memory::Private { owner: AccessorId(1), capabilities: demotion };
        let source = demotion.check().unwrap_err();
        let error = NodeStateError::Capabilities { node: NodeId(8), source };
        assert_eq!(states.plug(NodeId(8), odd, 1), Err(error));
        for pages in [0, u64::MAX] {
            let error = NodeStateError::Pages { node: N, pages, present: 3 };
            assert_eq!(states.plug(N, Memory::Public, pages), Err(error));
        }
        let error = NodeStateError::NotPresent { node: N, pages: 4, present: 3 };
        assert_eq!(states.unplug(N, 4), Err(error));
        assert_eq!(states, before);
    }
}
