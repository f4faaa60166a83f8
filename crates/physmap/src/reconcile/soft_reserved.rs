//! Whose a Soft Reserved range is.
//!
//! Firmware asks to keep such memory for a special purpose. If a CXL region has it, the region's
//! dax device serves it; if none has, the hmem driver makes a dax device of the range itself. Until
//! CXL has probed nobody can tell, so both wait for that. Linux decides for a range as a whole, and
//! gives one that a region has only a part of to hmem, with that part; here each keeps what is his,
//! so that no address has two owners.

use alloc::vec::Vec;

use memtide_units::PhysRange;

use crate::ranges;

/// Who serves a part of a Soft Reserved range.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Server {
    /// The region that has it.
    Cxl,
    /// The hmem driver: no region has it.
    Hmem,
}

/// The parts of a Soft Reserved range, ascending, with who serves each. `regions` are those that
/// CXL has once it has probed, sorted and apart ([`crate::ranges::union`]).
#[must_use]
pub fn servers(range: PhysRange, regions: &[PhysRange]) -> Vec<(PhysRange, Server)> {
    let cxl = ranges::shared(range, regions).into_iter().map(|part| (part, Server::Cxl));
    let rest = ranges::without(range, regions).into_iter().map(|part| (part, Server::Hmem));
    let mut parts: Vec<_> = cxl.chain(rest).collect();
    parts.sort_unstable_by_key(|&(part, _)| part);
    parts
}
