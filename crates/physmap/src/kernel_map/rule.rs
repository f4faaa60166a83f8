//! The rules by which the kernel's map differs from the tables.

use core::fmt;

use memtide_units::{PhysAddr, PhysRange};

use super::{Side, is_memory};
use crate::{
    ranges,
    resource::{Kind, ResourceId},
};

/// Below this, PCs have ROMs and holes that the kernel knows without tables.
const FIRST_MIB: PhysAddr = PhysAddr(1 << 20);

/// Why two maps differ in something.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
#[non_exhaustive]
pub enum Rule {
    /// A bus, a device or a register, from a driver.
    Driver,
    /// The kernel's own image, or what it reserves for a crash kernel.
    KernelImage,
    /// What is left to the next round address behind memory (`e820__reserve_resources_late`).
    RamBuffer,
    /// The kernel keeps page 0 and the BIOS area for itself (`trim_bios_range`), and finds ROMs.
    FirstMib,
    /// Newer kernels keep Soft Reserved ranges in a tree of their own until somebody claims them.
    SoftReservedApart,
    /// A reserved range that grew around devices half inside (`insert_resource_expand_to_fit`).
    ReservedWidened,
    /// Memory that was plugged in.
    Plugged,
    /// A region, a dax device or its memory, made while the machine ran.
    Provisioned,
    /// Given out here; the kernel does not know yet.
    Planned,
    /// The command line (`memmap=`, `mem=`) or early code changed the map of memory.
    MemoryChanged,
    /// The window grew or was cut for what the changed map of memory has there.
    WindowFollows,
    /// No window is there at all: the CXL driver has not come up.
    NoCxlDriver,
    /// Both have it, inside of different things.
    Nesting,
    /// Neither table nor rule says why.
    Unexplained,
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Driver => "a driver's, of which the tables say nothing",
            Self::KernelImage => "the kernel's own image or reservation",
            Self::RamBuffer => "the kernel fills memory up to a round address",
            Self::FirstMib => "the kernel knows the first MiB without tables",
            Self::SoftReservedApart => {
                "this kernel keeps Soft Reserved ranges apart until somebody claims them"
            }
            Self::ReservedWidened => "it grew around what is half inside",
            Self::Plugged => "memory that was plugged in",
            Self::Provisioned => "made while the machine ran",
            Self::Planned => "given out here, the kernel does not know of it yet",
            Self::MemoryChanged => "the command line or early boot code changed the map of memory",
            Self::WindowFollows => "the window follows the changed map of memory",
            Self::NoCxlDriver => "the kernel has no windows: its CXL driver has not come up",
            Self::Nesting => "it is inside of something else there",
            Self::Unexplained => "no rule says why",
        })
    }
}

/// Why only our map has something, and what of the kernel's stands for it.
pub(super) fn only_ours(
    ours: &Side<'_>,
    id: ResourceId,
    kernel: &Side<'_>,
) -> (Rule, Option<ResourceId>) {
    let it = ours.get(id);
    let same_name = kernel.named(&it.name, it.range);
    match it.kind {
        Kind::CxlRegion | Kind::UserDecoder | Kind::DevicePrivate | Kind::Dax => {
            (Rule::Planned, None)
        }
        Kind::CxlWindow => match same_name {
            Some(window) => (window_follows(ours, id, kernel, window), Some(window)),
            None if kernel.order.iter().any(|&id| kernel.get(id).kind == Kind::CxlWindow) => {
                (Rule::Unexplained, None)
            }
            None => (Rule::NoCxlDriver, None),
        },
        Kind::SoftReserved if !has_kind(kernel, Kind::SoftReserved) => {
            (Rule::SoftReservedApart, None)
        }
        _ if it.range.start() < FIRST_MIB => (Rule::FirstMib, same_name),
        Kind::Reserved if same_name.is_some_and(|id| grew(ours, it.range, kernel, id)) => {
            (Rule::ReservedWidened, same_name)
        }
        kind if is_memory(kind) && !ranges::shared(it.range, &kernel.memory).is_empty() => {
            (Rule::MemoryChanged, same_name)
        }
        _ => (Rule::Unexplained, same_name),
    }
}

/// Whether a range grew on the other side, and over nothing that is memory on this one.
fn grew(ours: &Side<'_>, range: PhysRange, kernel: &Side<'_>, grown: ResourceId) -> bool {
    let grown = kernel.get(grown).range;
    grown.contains(range) && ranges::shared(grown, &ours.memory) == [range]
}

fn has_kind(side: &Side<'_>, kind: Kind) -> bool {
    side.order.iter().any(|&id| side.get(id).kind == kind)
}

/// A window has another range where the memory around it is not the same on both sides.
fn window_follows(ours: &Side<'_>, id: ResourceId, kernel: &Side<'_>, other: ResourceId) -> Rule {
    let around = ours.get(id).range.hull(kernel.get(other).range);
    match ranges::shared(around, &ours.memory) == ranges::shared(around, &kernel.memory) {
        true => Rule::Unexplained,
        false => Rule::WindowFollows,
    }
}

/// Why only the kernel's map has something.
pub(super) fn only_kernels(kernel: &Side<'_>, id: ResourceId, ours: &Side<'_>) -> Rule {
    let it = kernel.get(id);
    let is_provider = |id| matches!(kernel.get(id).kind, Kind::CxlWindow | Kind::Dax);
    let provided = || kernel.outer(id).any(is_provider);
    let in_memory = || kernel.outer(id).any(|id| kernel.get(id).kind == Kind::SystemRam);
    let known = || !ranges::shared(it.range, &ours.memory).is_empty();
    match it.kind {
        _ if it.name == "RAM buffer" => Rule::RamBuffer,
        Kind::SystemRam if it.name.starts_with("Kernel ") || it.name == "Crash kernel" => {
            match in_memory() {
                true => Rule::KernelImage,
                false => Rule::Unexplained,
            }
        }
        Kind::CxlRegion | Kind::Dax => Rule::Provisioned,
        Kind::SystemRam | Kind::Persistent if provided() => Rule::Provisioned,
        _ if it.range.start() < FIRST_MIB => Rule::FirstMib,
        Kind::SystemRam if !known() => Rule::Plugged,
        kind if is_memory(kind) => Rule::MemoryChanged,
        Kind::Device => Rule::Driver,
        _ => Rule::Unexplained,
    }
}
