//! Names of the things that the engine keeps apart.

use core::fmt;

macro_rules! id {
    ($(#[$doc:meta])* $name:ident($inner:ty), $prefix:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
        #[cfg_attr(feature = "serde", serde(transparent))]
        pub struct $name(pub $inner);

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!($prefix, "{}"), self.0)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Debug::fmt(self, f)
            }
        }
    };
}

id!(
    /// A node: a pool of memory with one locality.
    NodeId(u16), "node"
);
id!(
    /// An image: a program from its execve on, with files of its own on every node; forked children
    /// belong to it.
    ImageId(u64), "image"
);
id!(
    /// A member: one process of an image.
    MemberId(u64), "member"
);
id!(
    /// A token: a shared mapping that tells when a process and those that inherited it are gone.
    TokenId(u64), "token"
);
id!(
    /// An order to move pageblocks.
    MoveId(u64), "move"
);
id!(
    /// A request from an operator that is answered later.
    RequestId(u64), "request"
);
id!(
    /// A tenant: who is charged for memory. Programs belong to one by user, group, cgroup or label.
    TenantId(u16), "tenant"
);
id!(
    /// An accessor: a processor package or a device that reads and writes memory.
    AccessorId(u16), "accessor"
);

/// What sort of memory a node is.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(rename_all = "lowercase"))]
pub enum NodeKind {
    /// The processors' own memory.
    Near,
    /// Memory further away: a CXL expander, another host.
    Far,
    /// Memory of a device: an accelerator's own.
    Device,
}

impl NodeKind {
    /// All kinds, the nearest to a processor first.
    pub const ALL: [Self; 3] = [Self::Near, Self::Far, Self::Device];
}

impl fmt::Display for NodeKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Near => "near",
            Self::Far => "far",
            Self::Device => "device",
        })
    }
}
