//! Decoders that firmware programmed, against the windows; and the low memory hole.
//!
//! A platform needs addresses below 4 GiB for devices, and may still want the memory behind them
//! to be interleaved as one from 0 on. Then the window begins at 0 and ends at the hole, whatever
//! its ways, while the decoders, which know no holes, go on to a multiple of 256 MiB for each way
//! (Linux, Documentation/driver-api/cxl/conventions.rst). Only then may a decoder be larger than
//! its window.

use alloc::vec::Vec;

use memtide_units::{PhysAddr, PhysRange};

use super::{
    ProgrammedDecoder,
    conflict::{Conflict, Conflicts, Party, Source},
    coverage,
};
use crate::{window::WINDOW_UNIT, windows::PlacedWindow};

/// Whether a decoder may be larger than its window.
#[must_use]
pub fn is_low_memory_hole(window: PhysRange, decoder: PhysRange, ways: u32) -> bool {
    let unit = u128::from(WINDOW_UNIT) * u128::from(ways);
    window.start() == PhysAddr(0)
        && decoder.start() == PhysAddr(0)
        && window.last() < PhysAddr(1 << 32)
        && window.last() < decoder.last()
        && ways != 0
        && decoder.bytes().is_multiple_of(unit)
}

/// Decoders that lie in no window as they should.
pub(super) fn decoders(
    all: &[ProgrammedDecoder],
    windows: &[PlacedWindow],
    conflicts: &mut Conflicts,
) {
    let windows: Vec<_> = windows.iter().filter_map(coverage::party).collect();
    for it in all {
        if windows.iter().any(|window| window.range.contains(it.range)) {
            continue;
        }
        let decoder = Party::new(Source::Decoders, it.name.as_str(), it.range);
        let mut over = windows.iter().filter(|window| window.range.overlaps(it.range));
        conflicts.push(match over.next().cloned() {
            None => Conflict::DecoderOutside { decoder },
            Some(window) if is_low_memory_hole(window.range, it.range, it.ways) => {
                Conflict::LowMemoryHole { window, decoder }
            }
            Some(window) => Conflict::DecoderBeyond { decoder, window },
        });
    }
}
