//! Sets of nodes, as the kernel takes them: a bit for each.

use core::fmt;

use memtide_units::NodeId;

/// The most nodes of any kernel: `MAX_NUMNODES` with the largest `CONFIG_NODES_SHIFT`, 10.
const NODES: usize = 1024;
const WORDS: usize = NODES / 64;
const _: () = assert!(usize::BITS == 64, "a kernel's long is a word of the set");

/// A set of nodes.
#[derive(Clone, Copy, PartialEq, Eq, Default)]
pub struct NodeSet([u64; WORDS]);

/// A node that no kernel has.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct NodeBeyond {
    /// Its number.
    pub node: NodeId,
}

impl fmt::Display for NodeBeyond {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: expected a node below {NODES}, as Linux has them", self.node)
    }
}

impl core::error::Error for NodeBeyond {}

impl NodeSet {
    /// No node.
    pub const EMPTY: Self = Self([0; WORDS]);
    /// How many nodes it can hold; their numbers are below this.
    pub const CAPACITY: usize = NODES;

    /// Only this node.
    ///
    /// # Errors
    /// [`NodeBeyond`] if no kernel has it.
    pub fn only(node: NodeId) -> Result<Self, NodeBeyond> {
        let mut set = Self::EMPTY;
        set.insert(node)?;
        Ok(set)
    }

    /// These nodes.
    ///
    /// # Errors
    /// [`NodeBeyond`] if no kernel has one of them.
    pub fn of(nodes: impl IntoIterator<Item = NodeId>) -> Result<Self, NodeBeyond> {
        let mut set = Self::EMPTY;
        for node in nodes {
            set.insert(node)?;
        }
        Ok(set)
    }

    /// Puts a node in; whether it was not there before.
    ///
    /// # Errors
    /// [`NodeBeyond`] if no kernel has it.
    pub fn insert(&mut self, node: NodeId) -> Result<bool, NodeBeyond> {
        let (word, bit) = place(node);
        let word = self.0.get_mut(word).ok_or(NodeBeyond { node })?;
        let new = *word & bit == 0;
        *word |= bit;
        Ok(new)
    }

    /// Whether a node is in it.
    #[must_use]
    pub fn contains(&self, node: NodeId) -> bool {
        let (word, bit) = place(node);
        self.0.get(word).is_some_and(|word| word & bit != 0)
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::EMPTY
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.iter().map(|word| word.count_ones() as usize).sum()
    }

    /// The nodes, lowest first.
    pub fn iter(&self) -> impl Iterator<Item = NodeId> + '_ {
        (0..NODES as u16).map(NodeId).filter(|&node| self.contains(node))
    }

    /// Those in either.
    #[must_use]
    pub fn union(&self, other: &Self) -> Self {
        Self(core::array::from_fn(|word| self.0[word] | other.0[word]))
    }

    /// Those in both.
    #[must_use]
    pub fn intersection(&self, other: &Self) -> Self {
        Self(core::array::from_fn(|word| self.0[word] & other.0[word]))
    }

    /// Those in this one only.
    #[must_use]
    pub fn difference(&self, other: &Self) -> Self {
        Self(core::array::from_fn(|word| self.0[word] & !other.0[word]))
    }

    /// Where the kernel reads it.
    pub(super) fn address(&self) -> usize {
        self.0.as_ptr().expose_provenance()
    }

    /// Where the kernel writes it.
    pub(super) fn address_mut(&mut self) -> usize {
        self.0.as_mut_ptr().expose_provenance()
    }

    /// The argument `maxnode` that goes with it. The kernel takes one off (`get_nodes`).
    pub(super) const fn maxnode() -> usize {
        NODES + 1
    }
}

fn place(node: NodeId) -> (usize, u64) {
    (usize::from(node.0) / 64, 1 << (node.0 % 64))
}

impl fmt::Display for NodeSet {
    /// As numactl writes lists: `0-3,8`; `-` when there is none.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_empty() {
            return f.write_str("-");
        }
        let mut nodes = self.iter().map(|node| node.0).peekable();
        let mut comma = "";
        while let Some(first) = nodes.next() {
            let mut last = first;
            while nodes.next_if_eq(&(last + 1)).is_some() {
                last += 1;
            }
            write!(f, "{comma}{first}")?;
            if last > first {
                write!(f, "-{last}")?;
            }
            comma = ",";
        }
        Ok(())
    }
}

impl fmt::Debug for NodeSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{{{self}}}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(nodes: &[u16]) -> NodeSet {
        NodeSet::of(nodes.iter().copied().map(NodeId)).unwrap()
    }

    #[test]
    fn sets_print_as_numactl_writes_them() {
        assert_eq!(set(&[]).to_string(), "-");
        assert_eq!(set(&[8, 0, 1, 2, 3]).to_string(), "0-3,8");
        assert_eq!(set(&[63, 64, 1023]).to_string(), "63-64,1023");
    }

    #[test]
    fn nodes_beyond_every_kernel_are_refused() {
        assert_eq!(NodeSet::only(NodeId(1024)), Err(NodeBeyond { node: NodeId(1024) }));
        assert!(!set(&[1023]).contains(NodeId(u16::MAX)));
        assert!(set(&[1023]).contains(NodeId(1023)));
    }

    #[test]
    fn sets_are_sets() {
        let (a, b) = (set(&[0, 1, 70]), set(&[1, 70, 500]));
        assert_eq!(a.union(&b), set(&[0, 1, 70, 500]));
        assert_eq!(a.intersection(&b), set(&[1, 70]));
        assert_eq!(a.difference(&b), set(&[0]));
        assert_eq!((a.len(), NodeSet::EMPTY.len()), (3, 0));
        let mut c = a;
        assert_eq!((c.insert(NodeId(0)), c.insert(NodeId(2))), (Ok(false), Ok(true)));
        assert_eq!(c.iter().map(|node| node.0).collect::<Vec<_>>(), [0, 1, 2, 70]);
    }
}
