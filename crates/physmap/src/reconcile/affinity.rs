//! The SRAT: to which node addresses belong, as far as it says.
//!
//! Windows are for memory that comes later, so the SRAT often says nothing of them. Linux makes the
//! node up: where the SRAT says something of a part of a window, that node gets the rest
//! (`numa_fill_memblks`); where it says nothing, the window gets a node of its own
//! (`acpi_parse_cfmws`).

use alloc::{format, vec::Vec};

use super::{
    Affinity, FirmwareRange,
    conflict::{Conflict, Conflicts, Party, Source},
    coverage, memory,
};
use crate::{ranges, resource::Kind, windows::PlacedWindow};

fn party(it: &Affinity) -> Party {
    Party::new(Source::Srat, format!("domain {}", it.domain), it.range)
}

/// Windows and memory of which the SRAT does not say all, and what it says twice.
pub(super) fn affinity(
    all: &[Affinity],
    windows: &[PlacedWindow],
    resolved: &[FirmwareRange],
    conflicts: &mut Conflicts,
) {
    let mut sorted: Vec<_> = all.iter().collect();
    sorted.sort_unstable_by_key(|it| it.range);
    // Each is compared with the one that reaches the farthest of those before it.
    let mut farthest: Option<&Affinity> = None;
    for it in sorted {
        let clashes =
            |before: &&Affinity| before.range.overlaps(it.range) && before.domain != it.domain;
        if let Some(before) = farthest.filter(clashes) {
            let (one, other) = (party(before), party(it));
            conflicts.push(Conflict::TwoDomains { one, other });
        }
        if farthest.is_none_or(|before| before.range.last() < it.range.last()) {
            farthest = Some(it);
        }
    }
    let said = ranges::union(all.iter().map(|it| it.range));
    for window in windows.iter().filter_map(coverage::party) {
        let missing = ranges::without(window.range, &said);
        if !missing.is_empty() {
            let of = all.iter().filter(|it| it.range.overlaps(window.range));
            let extends = of.min_by_key(|it| it.range).map(|it| it.domain);
            conflicts.push(Conflict::NoAffinity { window, missing, extends });
        }
    }
    if all.is_empty() {
        return;
    }
    for from in resolved.iter().filter(|from| from.kind == Kind::SystemRam) {
        let missing = ranges::without(from.range, &said);
        if !missing.is_empty() {
            let memory = memory::party(from);
            conflicts.push(Conflict::MemoryWithoutAffinity { memory, missing });
        }
    }
}
