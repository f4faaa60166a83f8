//! What sort of node: public, special or private.
//!
//! What is done with private memory, only its owner can know: the memory may be compressed and run
//! out while it still looks free, or not survive being written by anybody else. So whoever brings
//! such a node says one by one what of the usual management it can bear, and the rest is not done
//! (the `NODE_PRIVATE` capabilities of the proposal of 2026).

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

    /// Whether they make sense together: what is demoted to a node must be able to leave it again,
    /// so [`Capability::Demotion`] needs [`Capability::Reclaim`].
    ///
    /// # Errors
    /// [`CapabilityError`].
    pub const fn check(self) -> Result<Self, CapabilityError> {
        if self.has(Capability::Demotion) && !self.has(Capability::Reclaim) {
            let (capability, needs) = (Capability::Demotion, Capability::Reclaim);
            return Err(CapabilityError { capability, needs });
        }
        Ok(self)
    }
}

/// A capability without another that it needs. `EINVAL` to Linux.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("a private node permits {capability:?}; expected {needs:?} with it")]
pub struct CapabilityError {
    /// Which.
    pub capability: Capability,
    /// What it needs.
    pub needs: Capability,
}

#[cfg(test)]
mod tests {
    use super::*;
    use Capability::*;

    const ALL: [Capability; 10] = [
        Reclaim,
        UserNuma,
        Demotion,
        NumaBalancing,
        LongTermPin,
        Damon,
        Ksm,
        Collapse,
        Hugetlb,
        Fallback,
    ];

    #[test]
    fn capabilities_are_independent_bits() {
        for one in ALL {
            let only = Capabilities::NONE.with(one);
            assert!(ALL.iter().all(|&other| only.has(other) == (other == one)));
        }
    }

    #[test]
    fn demotion_needs_reclaim_and_nothing_else_needs_anything() {
        for one in ALL {
            let only = Capabilities::NONE.with(one);
            let error = CapabilityError { capability: Demotion, needs: Reclaim };
            assert_eq!(only.check(), if one == Demotion { Err(error) } else { Ok(only) });
            assert!(only.with(Reclaim).check().is_ok());
        }
    }
}
