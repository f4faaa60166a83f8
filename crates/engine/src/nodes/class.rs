//! What sort of node: public, special or private.

/// Who reaches a node's memory.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum NodeClass {
    /// Every request may fall back to it.
    #[default]
    Public,
    /// Coherent memory of a device: absent from the fallback of every other node, reached by
    /// naming it, and in an emergency if that is allowed.
    Special,
    /// Absent from every zonelist but its own; only what its owner permits is done with it.
    Private(Capabilities),
}

/// One thing that the owner of a private node may permit.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Capability {
    /// Its pages may be reclaimed.
    Reclaim,
    /// Users may bind to it.
    UserNuma,
    /// Pages may be demoted to it; needs [`Capability::Reclaim`].
    Demotion,
    /// Pages may be promoted from it by access.
    NumaBalancing,
    /// Pages may be pinned for long.
    LongTermPin,
    /// Its accesses may be monitored.
    Damon,
    /// Equal pages may be merged.
    Ksm,
    /// Small pages may be collapsed into huge ones.
    Collapse,
    /// It may back huge-page pools.
    Hugetlb,
    /// Requests that name it may fall back elsewhere.
    Fallback,
}

/// What the owner of a private node permits.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Capabilities(u16);

impl Capabilities {
    /// Nothing.
    pub const NONE: Self = Self(0);

    /// These and one more.
    #[must_use]
    pub const fn with(self, capability: Capability) -> Self {
        Self(self.0 | 1 << capability as u16)
    }

    /// Whether one is permitted.
    #[must_use]
    pub const fn has(self, capability: Capability) -> bool {
        self.0 & 1 << capability as u16 != 0
    }
}
