//! Resources for tests, where only their addresses (and perhaps their names) matter.

use memtide_units::{PhysAddr, PhysRange};

use super::{Kind, Resource};

/// A range, from its first to its last address.
pub(super) fn range(start: u64, last: u64) -> PhysRange {
    PhysRange::new(PhysAddr(start), PhysAddr(last)).unwrap()
}

/// A resource that is only described, under that name.
pub(super) fn named(start: u64, last: u64, name: &str) -> Resource {
    Resource::open(range(start, last), Kind::Device, name)
}

/// A resource that is only described.
pub(super) fn some(start: u64, last: u64) -> Resource {
    named(start, last, "some")
}
