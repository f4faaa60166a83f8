//! The arena: resources by id, and what must always hold.
//!
//! The kernel links its resources by pointers. Here a resource lives in a slot and is named by an
//! id with the slot's generation in it: an id of a resource that is gone names nothing, also when
//! its slot serves another one by then. Children are a sorted list, so that a place among them is
//! found by halving.

use alloc::{vec, vec::Vec};

use memtide_units::PhysRange;

use super::{Kind, MAX_RESOURCES, Resource};

/// Names a resource of one tree, and never another one.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct ResourceId {
    slot: u32,
    generation: u64,
}

/// The id names nothing in this tree: its resource was removed.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("the resource is not in the tree any more")]
pub struct NoSuchResource;

#[derive(Clone, Debug)]
struct Slot {
    generation: u64,
    node: Option<Node>,
}

#[derive(Clone, Debug)]
pub(super) struct Node {
    pub resource: Resource,
    pub parent: Option<ResourceId>,
    pub children: Vec<ResourceId>,
}

/// A tree of named ranges; its root is there from the start and stays.
#[derive(Clone, Debug)]
pub struct Tree {
    slots: Vec<Slot>,
    vacant: Vec<u32>,
}

impl Tree {
    /// A tree of the addresses of `range`, with nothing in it.
    #[must_use]
    pub fn new(range: PhysRange) -> Self {
        let resource = Resource::open(range, Kind::Device, "PCI mem");
        let node = Node { resource, parent: None, children: Vec::new() };
        Self { slots: vec![Slot { generation: 0, node: Some(node) }], vacant: Vec::new() }
    }

    /// The resource that all others are in.
    #[must_use]
    pub const fn root(&self) -> ResourceId {
        ResourceId { slot: 0, generation: 0 }
    }

    /// How many resources are in it, the root not counted.
    #[must_use]
    pub fn len(&self) -> usize {
        self.slots.len() - self.vacant.len() - 1
    }

    /// Whether there is only the root.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The resource of an id.
    #[must_use]
    pub fn get(&self, id: ResourceId) -> Option<&Resource> {
        self.node(id).map(|node| &node.resource)
    }

    /// What a resource is in; the root is in nothing.
    #[must_use]
    pub fn parent(&self, id: ResourceId) -> Option<ResourceId> {
        self.node(id)?.parent
    }

    /// What is directly in a resource, by ascending addresses.
    #[must_use]
    pub fn children(&self, id: ResourceId) -> &[ResourceId] {
        self.node(id).map_or(&[], |node| &node.children)
    }

    pub(super) fn node(&self, id: ResourceId) -> Option<&Node> {
        let slot = self.slots.get(id.slot as usize)?;
        slot.node.as_ref().filter(|_| slot.generation == id.generation)
    }

    pub(super) fn at(&self, id: ResourceId) -> &Node {
        self.node(id).expect("ids inside the tree are of resources inside the tree")
    }

    pub(super) fn at_mut(&mut self, id: ResourceId) -> &mut Node {
        let slot = &mut self.slots[id.slot as usize];
        assert_eq!(slot.generation, id.generation, "ids inside the tree name what is inside");
        slot.node.as_mut().expect("ids inside the tree are of resources inside the tree")
    }

    pub(super) fn range(&self, id: ResourceId) -> PhysRange {
        self.at(id).resource.range
    }

    pub(super) fn is_full(&self) -> bool {
        self.len() >= MAX_RESOURCES
    }

    /// Gives a node a slot; the caller links it, and has seen that the tree is not full.
    pub(super) fn put(&mut self, node: Node) -> ResourceId {
        if let Some(slot) = self.vacant.pop() {
            let generation = self.slots[slot as usize].generation;
            self.slots[slot as usize].node = Some(node);
            return ResourceId { slot, generation };
        }
        let slot = u32::try_from(self.slots.len()).expect("the number of resources is limited");
        self.slots.push(Slot { generation: 0, node: Some(node) });
        ResourceId { slot, generation: 0 }
    }

    /// Takes a node out of its slot; the caller has unlinked it.
    pub(super) fn take(&mut self, id: ResourceId) -> Node {
        let slot = &mut self.slots[id.slot as usize];
        let node = slot.node.take().expect("what is taken out was in");
        // 64 bits do not run out: at one a nanosecond they last for centuries.
        slot.generation += 1;
        self.vacant.push(id.slot);
        node
    }

    /// Asserts what must always hold of a tree.
    ///
    /// # Panics
    ///
    /// If it does not.
    pub fn validate(&self) {
        let mut seen = 0;
        for (slot, Slot { generation, node }) in self.slots.iter().enumerate() {
            let Some(node) = node else { continue };
            seen += 1;
            let id = ResourceId { slot: slot as u32, generation: *generation };
            match node.parent {
                None => assert_eq!(id, self.root(), "only the root is in nothing"),
                Some(parent) => {
                    let siblings = &self.at(parent).children;
                    assert_eq!(siblings.iter().filter(|&&child| child == id).count(), 1);
                    assert!(self.range(parent).contains(node.resource.range));
                }
            }
            for &child in &node.children {
                assert_eq!(self.at(child).parent, Some(id), "a child knows its parent");
            }
            let sorted =
                |two: &[ResourceId]| self.range(two[0]).last() < self.range(two[1]).start();
            assert!(node.children.windows(2).all(sorted), "brothers are sorted and apart");
        }
        assert_eq!(seen, self.len() + 1, "slots are in use or vacant");
        assert_eq!(self.walk(self.root()).count(), self.len(), "all hang on the root");
        assert!(self.len() <= MAX_RESOURCES);
    }
}
