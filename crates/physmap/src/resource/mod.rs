//! The resource tree: who has which physical addresses, and inside of what.
//!
//! Linux keeps one tree of named ranges, printed in `/proc/iomem`, and answers three questions with
//! it: is this range anybody's (`region_intersects`), where is room for a new one
//! (`get_free_mem_region`), and what has to give when two say that a range is theirs
//! (`insert_resource_expand_to_fit`). memtide's map of a machine has to agree with the kernel's, so
//! this is the same tree with the same rules, function by function of `kernel/resource.c`.
//!
//! Invariants, asserted by [`Tree::validate`]: a resource lies wholly inside its parent; brothers
//! do not overlap and are sorted; ranges are never empty (the type sees to that).
//!
//! Where we differ from the kernel, on purpose:
//! * a request that cannot be granted changes nothing and says who is in the way; the kernel's
//!   expand-to-fit gives up silently at the edge of the tree;
//! * the search for free room looks at gaps instead of at every step of the alignment, so that it
//!   takes time by the number of resources, not by the size of the address space;
//! * there is a limit, [`MAX_RESOURCES`], for trees that somebody sent us.
//!
//! * [`tree`]: the arena, its ids, and what must always hold.
//! * [`insert`] has `request_resource`, `insert_resource`, `request_region`, and nesting.
//! * [`expand_to_fit`] has `insert_resource_expand_to_fit`.
//! * [`remove`] has `remove_resource`, `release_resource`.
//! * [`adjust`] has `adjust_resource`.
//! * [`walk`]: every resource in the order of `/proc/iomem`, and the lowest one of a kind.
//! * [`intersects`] has `region_intersects`, which descends.
//! * [`free`] has `get_free_mem_region`, upwards and downwards.

use alloc::string::String;
use core::fmt;

use memtide_units::PhysRange;

pub mod adjust;
pub mod expand_to_fit;
pub mod free;
pub mod insert;
pub mod intersects;
pub mod remove;
pub mod tree;
pub mod walk;

#[cfg(test)]
mod model;
#[cfg(test)]
mod samples;

pub use adjust::AdjustError;
pub use expand_to_fit::{Expanded, Expansion};
pub use free::{Direction, FreeError, Search};
pub use insert::InsertError;
pub use intersects::Intersection;
pub use tree::{NoSuchResource, ResourceId, Tree};
pub use walk::Walk;

/// How many resources a tree holds at most. A large machine has some thousands.
pub const MAX_RESOURCES: usize = 16_384;

/// What a range of addresses is: the kernel's flags and descriptors of a resource
/// (`IORESOURCE_*`, `IORES_DESC_*`) as far as they matter to memory.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
#[non_exhaustive]
pub enum Kind {
    /// Memory that the kernel uses (`IORESOURCE_SYSTEM_RAM`), its own code and data among it.
    SystemRam,
    /// Memory that firmware asks to keep for a special purpose (`IORES_DESC_SOFT_RESERVED`).
    SoftReserved,
    /// A CXL fixed memory window (`IORES_DESC_CXL`).
    CxlWindow,
    /// A region inside a window: what a set of decoders maps.
    CxlRegion,
    /// A range that a program outside the kernel programmed decoders for.
    UserDecoder,
    /// A dax device.
    Dax,
    /// Numbers of pages without memory behind them, for devices whose own memory processors cannot
    /// reach (`IORES_DESC_DEVICE_PRIVATE_MEMORY`).
    DevicePrivate,
    /// Persistent memory (`IORES_DESC_PERSISTENT_MEMORY`).
    Persistent,
    /// Kept by firmware for itself (`IORES_DESC_RESERVED`).
    Reserved,
    /// ACPI tables and non-volatile storage, and memory that firmware found unusable.
    Acpi,
    /// Registers, buses, and whatever else is no memory.
    Device,
}

impl Kind {
    /// The kind of a resource by the name that Linux gives it in `/proc/iomem`.
    #[must_use]
    pub fn of_name(name: &str) -> Self {
        let numbered = |prefix: &str| {
            name.strip_prefix(prefix).is_some_and(|rest| {
                rest.starts_with(|c: char| c.is_ascii_digit())
                    && rest.chars().all(|c| c.is_ascii_digit() || c == '.')
            })
        };
        match name {
            _ if name.starts_with("System RAM") => Self::SystemRam,
            "Kernel code" | "Kernel rodata" | "Kernel data" | "Kernel bss" | "Crash kernel" => {
                Self::SystemRam
            }
            "Soft Reserved" => Self::SoftReserved,
            _ if name.starts_with("Persistent Memory") => Self::Persistent,
            "Reserved" | "reserved" => Self::Reserved,
            "Unusable memory" => Self::Acpi,
            _ if name.starts_with("ACPI ") => Self::Acpi,
            _ if numbered("CXL Window ") => Self::CxlWindow,
            _ if numbered("region") => Self::CxlRegion,
            _ if numbered("dax") => Self::Dax,
            _ => Self::Device,
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::SystemRam => "System RAM",
            Self::SoftReserved => "Soft Reserved",
            Self::CxlWindow => "CXL window",
            Self::CxlRegion => "CXL region",
            Self::UserDecoder => "user-space decoder",
            Self::Dax => "dax device",
            Self::DevicePrivate => "device-private",
            Self::Persistent => "Persistent Memory",
            Self::Reserved => "Reserved",
            Self::Acpi => "ACPI",
            Self::Device => "device",
        })
    }
}

/// Whether others may put resources of theirs inside (`IORESOURCE_BUSY`).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Claim {
    /// In use by who inserted it: a requested region is never put inside.
    Busy,
    /// Only described: a requested region inside becomes its child.
    Open,
}

/// A named range.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Resource {
    /// Its addresses.
    pub range: PhysRange,
    /// What it is.
    pub kind: Kind,
    /// Whether it is in use.
    pub claim: Claim,
    /// Its name, as in `/proc/iomem`.
    pub name: String,
}

impl Resource {
    /// A resource that is only described.
    #[must_use]
    pub fn open(range: PhysRange, kind: Kind, name: impl Into<String>) -> Self {
        Self { range, kind, claim: Claim::Open, name: name.into() }
    }

    /// A resource in use.
    #[must_use]
    pub fn busy(range: PhysRange, kind: Kind, name: impl Into<String>) -> Self {
        Self { range, kind, claim: Claim::Busy, name: name.into() }
    }
}

impl fmt::Display for Resource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.name, self.range)
    }
}

/// Which resources a question is about (`is_type_match` of the kernel).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum What {
    /// All.
    Any,
    /// Those of one kind.
    Kind(Kind),
}

impl What {
    /// Whether it is about `resource`.
    #[must_use]
    pub fn matches(self, resource: &Resource) -> bool {
        match self {
            Self::Any => true,
            Self::Kind(kind) => resource.kind == kind,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_follow_the_names_of_proc_iomem() {
        for (name, kind) in [
            ("System RAM", Kind::SystemRam),
            ("System RAM (kmem)", Kind::SystemRam),
            ("Kernel bss", Kind::SystemRam),
            ("Soft Reserved", Kind::SoftReserved),
            ("CXL Window 0", Kind::CxlWindow),
            ("CXL Window x", Kind::Device),
            ("region12", Kind::CxlRegion),
            ("region", Kind::Device),
            ("regional", Kind::Device),
            ("dax0.0", Kind::Dax),
            ("Persistent Memory (legacy)", Kind::Persistent),
            ("ACPI Non-volatile Storage", Kind::Acpi),
            ("Reserved", Kind::Reserved),
            ("PCI Bus 0000:00", Kind::Device),
        ] {
            assert_eq!(Kind::of_name(name), kind, "{name}");
        }
    }
}
