//! Windows against memory: none, some or all of a window, one range across several, and what became
//! of the windows' resources.

use alloc::vec::Vec;

use memtide_units::PhysRange;

use super::{
    FirmwareRange,
    conflict::{Conflict, Conflicts, Extent, MAX_NAMED, Party, Source},
    memory,
};
use crate::{
    ranges,
    resource::Kind,
    windows::{Fate, PlacedWindow},
};

/// What the CEDT calls a window.
pub(super) fn party(window: &PlacedWindow) -> Option<Party> {
    Some(Party::new(Source::Cedt, window.name(), window.decoder?))
}

/// What is wrong with the windows themselves, and with where they went.
pub(super) fn fates(windows: &[PlacedWindow], conflicts: &mut Conflicts) {
    for (at, it) in windows.iter().enumerate() {
        let other = |other: usize| party(&windows[other]).expect("only what decodes is in the way");
        let Some(window) = party(it) else {
            if let Fate::Refused(error) = it.fate {
                let (base, size) = (it.window.base, it.window.size);
                conflicts.push(Conflict::BadWindow { window: at, base, size, error });
            }
            continue;
        };
        odd_size(it, &window, conflicts);
        let by = match &it.fate {
            Fate::Placed { resource: _, range, trimmed_by, widened } => {
                placed(&window, *range, trimmed_by.map(other), widened.first(), conflicts);
                continue;
            }
            Fate::Refused(_) => continue,
            Fate::Overlaps { other: by } => Conflict::WindowsOverlap { window, other: other(*by) },
            Fate::Nested { within } => Conflict::WindowInWindow { window, within: other(*within) },
            Fate::Deleted { by } => Conflict::Swallowed { window, by: other(*by) },
            Fate::Rejected(error) => Conflict::WindowOutside { window, error: error.clone() },
            Fate::Unseen => continue,
        };
        conflicts.push(by);
    }
}

fn placed(
    window: &Party,
    range: PhysRange,
    trimmed_by: Option<Party>,
    widened: Option<&crate::resource::Expansion>,
    conflicts: &mut Conflicts,
) {
    if let Some(step) = widened {
        let by = Party::new(Source::MemoryMap, step.by.name.as_str(), step.by.range);
        let window = window.clone();
        conflicts.push(Conflict::Widened { window, resource: range, by });
    }
    if let Some(by) = trimmed_by {
        conflicts.push(Conflict::Trimmed { window: window.clone(), left: range, by });
    }
}

/// A window not at 0 has to be a multiple of its unit.
fn odd_size(it: &PlacedWindow, window: &Party, conflicts: &mut Conflicts) {
    let Some(unit) = it.window.unit() else { return };
    if it.window.base != 0 && !it.window.size.is_multiple_of(unit) {
        conflicts.push(Conflict::OddSize { window: window.clone(), unit });
    }
}

/// What firmware handed over of the windows. `resolved` is ascending and without overlaps.
pub(super) fn coverage(
    windows: &[PlacedWindow],
    resolved: &[FirmwareRange],
    conflicts: &mut Conflicts,
) {
    for it in windows {
        let Some(window) = party(it) else { continue };
        let over: Vec<_> = overlapping(resolved, window.range).collect();
        let all = ranges::union(over.iter().map(|memory| memory.range));
        let extent = match ranges::without(window.range, &all).is_empty() {
            true => Extent::All,
            false => Extent::Some,
        };
        for from in over {
            let memory = memory::party(from);
            let kind = from.kind;
            let inside = memory.range.contains(window.range) && memory.range != window.range;
            conflicts.push(match inside {
                true => Conflict::InsideMemory { window: window.clone(), memory, kind },
                false => Conflict::HandedOver { window: window.clone(), memory, kind, extent },
            });
        }
    }
    let parties: Vec<_> = windows.iter().filter_map(party).collect();
    for memory in resolved.iter().filter(|memory| memory.kind != Kind::Reserved) {
        let over = || parties.iter().filter(|it| it.range.overlaps(memory.range));
        let count = over().count();
        if count > 1 {
            let windows = over().take(MAX_NAMED).cloned().collect();
            conflicts.push(Conflict::Merged { memory: memory::party(memory), windows, count });
        }
    }
}

fn overlapping(
    resolved: &[FirmwareRange],
    range: PhysRange,
) -> impl Iterator<Item = &FirmwareRange> {
    let first = resolved.partition_point(|memory| memory.range.last() < range.start());
    resolved[first..].iter().take_while(move |memory| memory.range.start() <= range.last())
}
