//! The physical address map of a machine: what firmware says, what Linux makes of it, and where
//! they disagree.
//!
//! Firmware's tables and its map of memory are read here, and made into one map by
//! [`memtide_physmap::reconcile`], with each of their conflicts; /proc/iomem, where it has
//! addresses, is held against it ([`memtide_physmap::kernel_map`]). Nothing is decided here: files
//! come in, what `memtide_physmap` asks for goes out.
//!
//! A table that is absent says nothing; one that is broken is a note, and what can be read of it
//! counts. Without root's rights there are no tables and no addresses: then the map is of what
//! anybody may read, which is firmware's map of memory, and says so.

use core::num::NonZeroU32;

use memtide_physmap::{
    acpi::{cedt, srat},
    firmware_map::MapEntry,
    interleave::{Granularity, Ways},
    iomem,
    kernel_map::{self, Difference, Line, LineError},
    map::AddressMap,
    reconcile::{
        self, Affinity, Firmware, FirmwareRange, Presence, ProgrammedDecoder, Reconciled, TooMany,
    },
    window::{Arithmetic, Restrictions, Window},
};
use memtide_units::{PhysAddr, PhysRange};

use crate::{
    Notes, Root,
    cxl::{Cxl, DecoderKind},
    firmware::{self, Table},
};

/// Bits of a physical address where /proc/cpuinfo does not tell: what x86 has at most.
const ADDRESS_BITS_MAX: u32 = 52;

/// Why there is no map.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AddressMapError {
    /// Tables with more entries than anybody's firmware has.
    #[error("firmware's tables")]
    Firmware(#[from] TooMany),
    /// /proc/iomem is no map.
    #[error("/proc/iomem")]
    Kernel(#[from] LineError),
}

/// The map of a machine.
#[derive(Debug)]
pub struct MachineMap {
    /// The last address that it has.
    pub top: PhysAddr,
    /// What firmware's tables come to, and their conflicts.
    pub reconciled: Reconciled,
    /// The kernel's own map, if its addresses may be seen.
    pub kernel: Option<AddressMap>,
    /// What is not the same in both, and why.
    pub differences: Vec<Difference>,
    /// What could not be read, and what stayed hidden.
    pub notes: Vec<String>,
}

impl MachineMap {
    /// The kernel's map where it may be seen, else that of the tables.
    #[must_use]
    pub fn map(&self) -> &AddressMap {
        self.kernel.as_ref().unwrap_or(&self.reconciled.map)
    }
}

/// Reads the map of a machine.
///
/// # Errors
/// [`AddressMapError`], where tables or the kernel's map are beyond all measure.
pub fn read(root: &Root) -> Result<MachineMap, AddressMapError> {
    let mut notes = Notes::new();
    let mut broken = Vec::new();
    let firmware = Firmware {
        top: top(root, &mut notes),
        memory: memory(root, &mut notes, &mut broken),
        affinity: affinity(root, &mut notes, &mut broken),
        windows: windows(root, &mut notes, &mut broken),
        decoders: decoders(&Cxl::read(root, &mut notes)),
    };
    let reconciled = reconcile::reconcile(&firmware)?;
    let text = notes.keep(firmware::iomem(root)).unwrap_or_default();
    let mut lines = Vec::new();
    if iomem::visibility(&text) == iomem::Visibility::Hidden {
        broken.push("only root sees the addresses in /proc/iomem".to_owned());
    } else {
        lines = kernel_lines(&text, &mut broken);
    }
    let mut map = MachineMap {
        top: firmware.top,
        reconciled,
        kernel: None,
        differences: Vec::new(),
        notes: Vec::new(),
    };
    if !lines.is_empty() {
        map.differences = kernel_map::compare(&map.reconciled.map, &lines)?;
        map.kernel = Some(AddressMap::of_kernel(&lines, &firmware.windows, firmware.top)?);
    }
    map.notes = notes.lines();
    map.notes.append(&mut broken);
    Ok(map)
}

/// The last physical address: `address sizes : 46 bits physical, 48 bits virtual`.
fn top(root: &Root, notes: &mut Notes) -> PhysAddr {
    let text = notes.keep(root.text("proc/cpuinfo")).unwrap_or_default();
    let sizes = text.lines().find_map(|line| line.strip_prefix("address sizes")?.split_once(':'));
    let bits = sizes.and_then(|(_, sizes)| sizes.trim().split(' ').next()?.parse().ok());
    let bits = bits.filter(|bits| (32..=64).contains(bits)).unwrap_or(ADDRESS_BITS_MAX);
    PhysAddr(u64::MAX >> (64 - bits))
}

fn memory(root: &Root, notes: &mut Notes, broken: &mut Vec<String>) -> Vec<FirmwareRange> {
    let mut ranges = Vec::new();
    for text in notes.keep_list(firmware::map(root)) {
        match MapEntry::from_sysfs(&text.start, &text.end, &text.kind) {
            Ok(entry) => ranges.push(FirmwareRange::named(entry.range, text.kind.trim())),
            Err(error) => broken.push(format!("/sys/firmware/memmap: {error}")),
        }
    }
    ranges
}

fn affinity(root: &Root, notes: &mut Notes, broken: &mut Vec<String>) -> Vec<Affinity> {
    let Some(bytes) = notes.keep(firmware::table(root, Table::Srat)) else { return Vec::new() };
    let table = match srat::Srat::parse(&bytes) {
        Ok(table) => table,
        Err(error) => {
            broken.push(format!("SRAT: {error}"));
            return Vec::new();
        }
    };
    let mut affinity = Vec::new();
    for record in table.records() {
        match record {
            Ok(srat::Record::Memory(memory)) => affinity.extend(affinity_of(&memory)),
            Ok(_) => {}
            Err(error) => broken.push(format!("SRAT: {error}")),
        }
    }
    affinity
}

fn affinity_of(memory: &srat::Memory) -> Option<Affinity> {
    let range = memory.range().filter(|_| memory.flags.contains(srat::MemoryFlags::ENABLED))?;
    let may_come = memory.flags.contains(srat::MemoryFlags::HOT_PLUGGABLE);
    let presence = if may_come { Presence::HotPluggable } else { Presence::Present };
    Some(Affinity { range, domain: memory.domain, presence })
}

fn windows(root: &Root, notes: &mut Notes, broken: &mut Vec<String>) -> Vec<Window> {
    let Some(bytes) = notes.keep(firmware::table(root, Table::Cedt)) else { return Vec::new() };
    let table = match cedt::Cedt::parse(&bytes) {
        Ok(table) => table,
        Err(error) => {
            broken.push(format!("CEDT: {error}"));
            return Vec::new();
        }
    };
    let errors = table.records().filter_map(Result::err);
    broken.extend(errors.map(|error| format!("CEDT: {error}")));
    table.windows().map(|window| window_of(&window)).collect()
}

/// Only the targets that the ways ask for: a record may have room for more.
fn window_of(record: &cedt::Cfmws<'_>) -> Window {
    let ways = Ways::decode(record.ways).ok().map(|ways| u32::from(ways.count()));
    let granularity = u8::try_from(record.granularity).ok();
    let granularity = granularity.and_then(|code| Granularity::decode(code).ok());
    Window {
        base: record.base.0,
        size: record.size,
        ways: ways.and_then(NonZeroU32::new),
        granularity: granularity
            .and_then(|granularity| u32::try_from(granularity.bytes()).ok())
            .and_then(NonZeroU32::new),
        arithmetic: match record.arithmetic {
            0 => Arithmetic::Modulo,
            1 => Arithmetic::Xor,
            code => Arithmetic::Unknown(code),
        },
        restrictions: Restrictions(record.restrictions.bits()),
        targets: record.targets.first(ways.unwrap_or(0) as usize).iter().collect(),
    }
}

/// Endpoint decoders that decode. An endpoint's ways are those of the whole region.
fn decoders(cxl: &Cxl) -> Vec<ProgrammedDecoder> {
    let decoding = cxl.decoders.iter().filter_map(|decoder| {
        let DecoderKind::Endpoint { .. } = decoder.kind else { return None };
        Some(ProgrammedDecoder {
            name: decoder.name.clone(),
            range: decoder.range()?,
            ways: decoder.interleave_ways.unwrap_or(0),
        })
    });
    decoding.collect()
}

fn kernel_lines(text: &str, broken: &mut Vec<String>) -> Vec<Line> {
    let mut lines: Vec<(usize, PhysRange, String)> = Vec::new();
    for line in iomem::lines(text) {
        match line {
            Ok(line) => lines.push((line.depth, line.range, line.name.to_owned())),
            Err(error) => {
                broken.push(format!("/proc/iomem: {error}"));
                break;
            }
        }
    }
    lines
}
