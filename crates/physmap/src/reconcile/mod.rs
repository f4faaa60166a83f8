//! One map out of what several tables say.
//!
//! Firmware describes the same addresses several times: as memory (e820, the EFI map), as CXL
//! windows (CEDT), as parts of nodes (SRAT), and by what it programmed into decoders. It need not
//! have made up its mind: a window may be handed over as memory not at all, in part, wholly, in
//! one piece with the next one, or with what lies beside it. [`reconcile`] makes one map of all
//! that, the one that Linux makes, and lists every disagreement with both sources named, and what
//! comes of it.
//!
//! Nothing here is fatal but numbers: tables with more entries than [`MAX_MEMORY`] or
//! [`crate::windows::MAX_WINDOWS`] are refused as a whole.
//!
//! * [`conflict`]: the disagreements. `parties`: who disagrees, for programs.
//! * `memory`: the memory map, made free of contradictions.
//! * `coverage`: windows against memory.
//! * `affinity`: the SRAT.
//! * [`hole`]: decoders, and the low memory hole.
//! * [`soft_reserved`]: who serves what is kept for a special purpose.

use alloc::{string::String, vec::Vec};

use memtide_units::{PhysAddr, PhysRange};

use crate::{
    map::AddressMap,
    ranges,
    resource::{Claim, Kind, Resource, Tree},
    window::Window,
    windows::{Fate, MAX_WINDOWS, PlacedWindow, place_windows},
};

mod affinity;
pub mod conflict;
mod coverage;
pub mod hole;
mod memory;
mod parties;
pub mod soft_reserved;
#[cfg(test)]
mod tests;

use conflict::Conflicts;
pub use conflict::{Conflict, Extent, Party, Source};

/// How many ranges of each kind of table are taken.
pub const MAX_MEMORY: usize = 4096;

/// A range of firmware's map of memory.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct FirmwareRange {
    /// The range.
    pub range: PhysRange,
    /// What it is.
    pub kind: Kind,
    /// What Linux calls it, such as `System RAM`.
    pub name: String,
}

impl FirmwareRange {
    /// A range by the name that Linux gives it, in `/sys/firmware/memmap` as in `/proc/iomem`.
    #[must_use]
    pub fn named(range: PhysRange, name: &str) -> Self {
        Self { range, kind: Kind::of_name(name), name: name.into() }
    }
}

/// A memory affinity record of the SRAT that is enabled.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Affinity {
    /// The range.
    pub range: PhysRange,
    /// Its proximity domain.
    pub domain: u32,
    /// Whether the memory is there.
    pub presence: Presence,
}

/// Whether memory of the SRAT is there.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Presence {
    /// It is.
    Present,
    /// It may come (the hot-pluggable flag).
    HotPluggable,
}

/// A decoder that firmware programmed.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ProgrammedDecoder {
    /// Its name, such as `decoder2.0`.
    pub name: String,
    /// What it decodes.
    pub range: PhysRange,
    /// Over how many devices the range is interleaved in all; 0 if that is not known.
    pub ways: u32,
}

/// All that firmware says.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Firmware {
    /// The last address that the machine has.
    pub top: PhysAddr,
    /// Its map of memory.
    pub memory: Vec<FirmwareRange>,
    /// Memory affinities of the SRAT.
    pub affinity: Vec<Affinity>,
    /// Windows of the CEDT, in its order.
    pub windows: Vec<Window>,
    /// Decoders that it programmed.
    pub decoders: Vec<ProgrammedDecoder>,
}

/// More than anybody's firmware has.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{count} {what}; at most {max} are taken")]
pub struct TooMany {
    /// What there is too much of.
    pub what: &'static str,
    /// How many there are.
    pub count: usize,
    /// How many are taken.
    pub max: usize,
}

/// The map, and what had to be settled.
#[derive(Clone, Debug)]
pub struct Reconciled {
    /// The map.
    pub map: AddressMap,
    /// The disagreements, [`conflict::MAX_CONFLICTS`] at most.
    pub conflicts: Vec<Conflict>,
    /// How many more there are.
    pub more_conflicts: usize,
}

/// Makes one map of what firmware says.
///
/// # Errors
///
/// [`TooMany`]; whatever else is wrong becomes a conflict.
pub fn reconcile(firmware: &Firmware) -> Result<Reconciled, TooMany> {
    for (what, count, max) in [
        ("ranges of memory", firmware.memory.len(), MAX_MEMORY),
        ("memory affinities", firmware.affinity.len(), MAX_MEMORY),
        ("windows", firmware.windows.len(), MAX_WINDOWS),
        ("decoders", firmware.decoders.len(), MAX_MEMORY),
    ] {
        if count > max {
            return Err(TooMany { what, count, max });
        }
    }
    let mut conflicts = Conflicts::default();
    let resolved = memory::resolve(&firmware.memory, &mut conflicts);
    let all = PhysRange::new(PhysAddr(0), firmware.top).expect("no address is below 0");
    let mut tree = Tree::new(all);
    for memory in &resolved {
        put(&mut tree, memory);
    }
    let windows = place_windows(&mut tree, &firmware.windows);
    coverage::fates(&windows, &mut conflicts);
    coverage::coverage(&windows, &resolved, &mut conflicts);
    affinity::affinity(&firmware.affinity, &windows, &resolved, &mut conflicts);
    hole::decoders(&firmware.decoders, &windows, &mut conflicts);
    let left_out = windows.iter().filter_map(left_out);
    let may_come = firmware.affinity.iter().filter(|it| it.presence == Presence::HotPluggable);
    let set_aside = ranges::union(left_out.chain(may_come.map(|it| it.range)));
    let map = AddressMap { tree, windows, set_aside };
    Ok(Reconciled { map, conflicts: conflicts.list, more_conflicts: conflicts.more })
}

impl Reconciled {
    /// Says who serves each Soft Reserved range of the map, now that the regions are known, and
    /// notes those that have two servers.
    pub fn settle_soft_reserved(
        &mut self,
        regions: &[PhysRange],
    ) -> Vec<(PhysRange, soft_reserved::Server)> {
        let soft = self.map.tree.resources().filter(|(_, it)| it.kind == Kind::SoftReserved);
        let soft: Vec<_> = soft.map(|(_, it)| it.clone()).collect();
        let regions = ranges::union(regions.iter().copied());
        let mut all = Vec::new();
        for it in soft {
            let parts = soft_reserved::servers(it.range, &regions);
            let of = |server| {
                let of = parts.iter().filter(move |&&(_, serves)| serves == server);
                of.map(|&(part, _)| part).collect::<Vec<_>>()
            };
            let (cxl, hmem) = (of(soft_reserved::Server::Cxl), of(soft_reserved::Server::Hmem));
            if !cxl.is_empty() && !hmem.is_empty() {
                let memory = Party::new(Source::MemoryMap, it.name, it.range);
                self.conflicts.push(Conflict::SoftReservedSplit {
                    memory,
                    regions: cxl,
                    rest: hmem,
                });
            }
            all.extend(parts);
        }
        all
    }
}

/// What the hardware may decode for a window that is not in the map.
pub(crate) fn left_out(window: &PlacedWindow) -> Option<PhysRange> {
    match window.fate {
        Fate::Placed { .. } => None,
        _ => PhysRange::from_size(PhysAddr(window.window.base), window.window.size),
    }
}

/// Puts memory into the tree. Ranges beyond the last address are of no use to anybody.
fn put(tree: &mut Tree, memory: &FirmwareRange) {
    let Some(root) = tree.get(tree.root()).map(|root| root.range) else { return };
    let Some(range) = memory.range.intersection(root) else { return };
    let claim = match memory.kind {
        // As Linux marks them (`e820_device_region`): drivers may claim what is in the others.
        Kind::Reserved | Kind::SoftReserved | Kind::Persistent => Claim::Open,
        _ => Claim::Busy,
    };
    let resource = Resource { range, kind: memory.kind, claim, name: memory.name.clone() };
    let put = tree.request(tree.root(), resource);
    put.expect("ranges without overlaps, fewer than a tree takes, do not conflict");
}
