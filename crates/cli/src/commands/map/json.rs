//! The map as JSON: addresses as integers, the last one of a range in it.

use memtide_host::address_map::MachineMap;
use memtide_physmap::{
    kernel_map::Difference,
    reconcile::{Conflict, Party, Source},
    resource::Resource,
    windows::PlacedWindow,
};
use memtide_units::PhysRange;
use serde::Serialize;

use super::text;

#[derive(Serialize)]
pub struct Told {
    /// The last address of the machine.
    top: u64,
    /// Whose map the ranges are: `kernel` or `firmware`.
    source: &'static str,
    ranges: Vec<Range>,
    windows: Vec<Window>,
    conflicts: Vec<Conflicting>,
    more_conflicts: usize,
    differences: Vec<Differs>,
    notes: Vec<String>,
}

#[derive(Serialize)]
struct Range {
    depth: usize,
    #[serde(flatten)]
    thing: Thing,
}

#[derive(Serialize)]
struct Thing {
    start: u64,
    last: u64,
    name: String,
    kind: String,
}

#[derive(Serialize)]
struct Window {
    name: String,
    base: u64,
    size: u64,
    ways: Option<u32>,
    granularity: Option<u32>,
    host_bridges: Vec<u32>,
    largest_gap: u64,
    fate: String,
}

#[derive(Serialize)]
struct Conflicting {
    kind: &'static str,
    /// Who disagrees: also a source that says nothing of a range that it should know.
    sources: Vec<&'static str>,
    /// Which ranges they say something of.
    parties: Vec<Says>,
    text: String,
}

#[derive(Serialize)]
struct Says {
    source: &'static str,
    name: String,
    start: u64,
    last: u64,
}

#[derive(Serialize)]
struct Differs {
    firmware: Option<Thing>,
    kernel: Option<Thing>,
    rule: String,
}

impl Told {
    pub fn of(map: &MachineMap) -> Self {
        let tree = &map.map().tree;
        Self {
            top: map.top.0,
            source: if map.kernel.is_some() { "kernel" } else { "firmware" },
            ranges: tree
                .resources()
                .map(|(depth, resource)| Range { depth, thing: Thing::of(resource) })
                .collect(),
            windows: map.map().windows.iter().map(|window| Window::of(map, window)).collect(),
            conflicts: map.reconciled.conflicts.iter().map(Conflicting::of).collect(),
            more_conflicts: map.reconciled.more_conflicts,
            differences: map.differences.iter().map(Differs::of).collect(),
            notes: map.notes.clone(),
        }
    }
}

impl Thing {
    fn of(resource: &Resource) -> Self {
        let (start, last) = ends(resource.range);
        Self { start, last, name: resource.name.clone(), kind: resource.kind.to_string() }
    }
}

impl Window {
    fn of(map: &MachineMap, placed: &PlacedWindow) -> Self {
        let window = &placed.window;
        Self {
            name: placed.name(),
            base: window.base,
            size: window.size,
            ways: window.ways.map(|ways| ways.get()),
            granularity: window.granularity.map(|granularity| granularity.get()),
            host_bridges: window.targets.clone(),
            largest_gap: text::largest_gap(map, placed),
            fate: text::fate(placed),
        }
    }
}

impl Conflicting {
    fn of(conflict: &Conflict) -> Self {
        Self {
            kind: conflict.code(),
            sources: conflict.sources().into_iter().map(Source::code).collect(),
            parties: conflict.parties().into_iter().map(Says::of).collect(),
            text: conflict.to_string(),
        }
    }
}

impl Says {
    fn of(party: &Party) -> Self {
        let (start, last) = ends(party.range);
        Self { source: party.source.code(), name: party.name.clone(), start, last }
    }
}

impl Differs {
    fn of(difference: &Difference) -> Self {
        Self {
            firmware: difference.ours.as_ref().map(Thing::of),
            kernel: difference.kernel.as_ref().map(Thing::of),
            rule: difference.rule.to_string(),
        }
    }
}

fn ends(range: PhysRange) -> (u64, u64) {
    (range.start().0, range.last().0)
}
