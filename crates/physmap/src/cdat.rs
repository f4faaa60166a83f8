//! CDAT, the Coherent Device Attribute Table 1.04: what a CXL device or switch says of itself.
//!
//! A device has ranges of its own addresses (DSMAS), each with a handle, and says for each how
//! far its memory is from the device's port and how much gets through (DSLBIS), what cache is
//! before it (DSMSCIS) and what it should be used for (DSEMTS). A switch says it of the way
//! between its ports (SSLBIS). Linux hands the table out as
//! `/sys/bus/cxl/devices/endpointX/CDAT`.
//!
//! It is read like an ACPI table ([`crate::acpi`]) but has no signature, so nothing but its length
//! and sum tells it from other bytes. Numbers are those of HMAT's second revision (Linux's
//! `cdat_normalize`).

use crate::acpi::{
    List, TableError, Unknown,
    cursor::{Frames, Framing, View},
    header,
    hmat::{self, CacheAttributes, DataType, Hierarchy, Revision},
};
use memtide_units::PhysAddr;

const HEADER_BYTES: usize = 16;

/// The upstream port of a switch, in an SSLBIS entry.
pub const UPSTREAM_PORT: u16 = 0x100;
/// Any port of a switch, in an SSLBIS entry.
pub const ANY_PORT: u16 = 0xffff;

/// The table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cdat<'a> {
    view: View<'a>,
    revision: u8,
    sequence: u32,
}

impl<'a> Cdat<'a> {
    /// The table at the start of `bytes`.
    ///
    /// # Errors
    /// [`TableError`] if its length is not true.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, TableError> {
        let all = View::new(bytes, 0, "CDAT");
        let view = header::cut(all, "CDAT", all.u32(0)?.into(), HEADER_BYTES)?;
        Ok(Self { view, revision: view.u8(4)?, sequence: view.u32(12)? })
    }

    /// The revision of its layout.
    #[must_use]
    pub const fn revision(self) -> u8 {
        self.revision
    }

    /// Counts up with each change while the device runs.
    #[must_use]
    pub const fn sequence(self) -> u32 {
        self.sequence
    }

    /// Whether its bytes add up to zero. Linux does not use a table whose bytes do not
    /// (`cdat_checksum`).
    ///
    /// # Errors
    /// [`TableError::Checksum`].
    pub fn checksum(self) -> Result<(), TableError> {
        header::checksum("CDAT", self.view.bytes())
    }

    /// Its records, in their order.
    pub fn records(self) -> impl Iterator<Item = Result<Record<'a>, TableError>> + Clone {
        let frames = Frames::new(self.view, HEADER_BYTES, Framing::Words);
        frames.map(|frame| frame.and_then(|(kind, view)| Record::read(kind, view)))
    }
}

/// A record of the table. All but SSLBIS have exactly one length; another is an error, as it is
/// to Linux.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Record<'a> {
    /// DSMAS: a range of the device's addresses.
    Memory(Dsmas),
    /// DSLBIS: latency or bandwidth of a range.
    Locality(Dslbis),
    /// DSMSCIS: a cache before a range.
    SideCache(Dsmscis),
    /// DSIS: an initiator on the device.
    Initiator(Dsis),
    /// DSEMTS: what a range should be used for.
    EfiMemory(Dsemts),
    /// SSLBIS: latency or bandwidth through a switch.
    Switch(Sslbis<'a>),
    /// Something newer.
    Unknown(Unknown),
}

impl<'a> Record<'a> {
    fn read(kind: u16, view: View<'a>) -> Result<Self, TableError> {
        Ok(match kind {
            0 => Self::Memory(Dsmas::read(view.named("DSMAS"))?),
            1 => Self::Locality(Dslbis::read(view.named("DSLBIS"))?),
            2 => Self::SideCache(Dsmscis::read(view.named("DSMSCIS"))?),
            3 => Self::Initiator(Dsis::read(view.named("DSIS"))?),
            4 => Self::EfiMemory(Dsemts::read(view.named("DSEMTS"))?),
            5 => Self::Switch(Sslbis::read(view.named("SSLBIS"))?),
            _ => Self::Unknown(Unknown { kind, offset: view.offset(), length: view.len() }),
        })
    }
}

bitflags::bitflags! {
    /// What a device's memory is.
    #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
    pub struct MemoryFlags: u8 {
        /// It keeps its contents without power.
        const NON_VOLATILE = 1 << 2;
        /// Several hosts may have it at once.
        const SHARABLE = 1 << 3;
        /// Hardware keeps it coherent between those hosts.
        const HARDWARE_COHERENT = 1 << 4;
        /// Its capacity comes and goes.
        const DYNAMIC_CAPACITY = 1 << 5;
        /// It can only be read.
        const READ_ONLY = 1 << 6;
        const _ = !0;
    }
}

/// Device Scoped Memory Affinity Structure: a range of the device's addresses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Dsmas {
    /// Its name in other records.
    pub handle: u8,
    /// What it is.
    pub flags: MemoryFlags,
    /// Its first device address.
    pub base: PhysAddr,
    /// Its size in bytes.
    pub bytes: u64,
}

impl Dsmas {
    fn read(view: View<'_>) -> Result<Self, TableError> {
        view.exactly(24)?;
        Ok(Self {
            handle: view.u8(4)?,
            flags: MemoryFlags::from_bits_retain(view.u8(5)?),
            base: PhysAddr(view.u64(8)?),
            bytes: view.u64(16)?,
        })
    }
}

/// Device Scoped Latency and Bandwidth Information Structure, of a range.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Dslbis {
    /// The range's handle, or that of an initiator (DSIS).
    pub handle: u8,
    /// What it is about.
    pub hierarchy: Hierarchy,
    /// What it says; `Err` with the code if that is unknown.
    pub data_type: Result<DataType, u8>,
    /// What entries are multiples of.
    pub base_unit: u64,
    /// The first is the number; the others are for initiators on the device.
    pub entries: [u16; 3],
}

impl Dslbis {
    fn read(view: View<'_>) -> Result<Self, TableError> {
        view.exactly(24)?;
        let code = view.u8(6)?;
        Ok(Self {
            handle: view.u8(4)?,
            hierarchy: Hierarchy::decode(view.u8(5)?),
            data_type: DataType::decode(code).ok_or(code),
            base_unit: view.u64(8)?,
            entries: [view.u16(16)?, view.u16(18)?, view.u16(20)?],
        })
    }

    /// Nanoseconds or MB/s of the range; `None` if the record says nothing, or nothing known.
    #[must_use]
    pub fn value(&self) -> Option<u32> {
        let [entry, ..] = self.entries;
        hmat::normalize(entry, self.base_unit, self.data_type.ok()?, Revision::Two)
    }
}

/// Device Scoped Memory Side Cache Information Structure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Dsmscis {
    /// The range's handle.
    pub handle: u8,
    /// The cache's size in bytes.
    pub bytes: u64,
    /// What it is like.
    pub attributes: CacheAttributes,
}

impl Dsmscis {
    fn read(view: View<'_>) -> Result<Self, TableError> {
        view.exactly(20)?;
        let attributes = CacheAttributes(view.u32(16)?);
        Ok(Self { handle: view.u8(4)?, bytes: view.u64(8)?, attributes })
    }
}

/// Device Scoped Initiator Structure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Dsis {
    /// Bit 0: it has memory attached, whose range has the same handle.
    pub flags: u8,
    /// Its name in other records.
    pub handle: u8,
}

impl Dsis {
    fn read(view: View<'_>) -> Result<Self, TableError> {
        view.exactly(8)?;
        Ok(Self { flags: view.u8(4)?, handle: view.u8(5)? })
    }
}

/// What a device would have its memory used for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum EfiMemoryType {
    /// Like any memory (`EfiConventionalMemory`).
    Conventional,
    /// Like any memory, but only by who asks for it (`EFI_MEMORY_SP`).
    SpecificPurpose,
    /// Not at all (`EfiReservedMemoryType`).
    Reserved,
    /// Something newer.
    Unknown(u8),
}

/// Device Scoped EFI Memory Type Structure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Dsemts {
    /// The range's handle.
    pub handle: u8,
    /// What for.
    pub memory_type: EfiMemoryType,
    /// From where on, in bytes from the start of the range.
    pub offset: u64,
    /// How much of it, in bytes.
    pub bytes: u64,
}

impl Dsemts {
    fn read(view: View<'_>) -> Result<Self, TableError> {
        view.exactly(24)?;
        let memory_type = match view.u8(5)? {
            0 => EfiMemoryType::Conventional,
            1 => EfiMemoryType::SpecificPurpose,
            2 => EfiMemoryType::Reserved,
            other => EfiMemoryType::Unknown(other),
        };
        Ok(Self { handle: view.u8(4)?, memory_type, offset: view.u64(8)?, bytes: view.u64(16)? })
    }
}

/// Switch Scoped Latency and Bandwidth Information Structure: numbers of the ways between ports.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sslbis<'a> {
    /// What it says; `Err` with the code if that is unknown.
    pub data_type: Result<DataType, u8>,
    /// What entries are multiples of.
    pub base_unit: u64,
    words: List<'a, u16>,
}

/// A way through a switch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SwitchEntry {
    /// One port, or [`UPSTREAM_PORT`], or [`ANY_PORT`].
    pub port_x: u16,
    /// The other.
    pub port_y: u16,
    /// A multiple of the base unit.
    pub entry: u16,
    /// Nanoseconds or MB/s; `None` if it says nothing, or nothing known.
    pub value: Option<u32>,
}

impl SwitchEntry {
    /// The downstream port that it is about, seen from upstream; `None` for all of them. As
    /// Linux's `cdat_sslbis_handler` decides it: what stands beside the upstream port, or beside
    /// any port, or else the first.
    #[must_use]
    pub const fn downstream(&self) -> Option<u16> {
        let port = match (self.port_x, self.port_y) {
            (ANY_PORT, UPSTREAM_PORT) => ANY_PORT,
            (UPSTREAM_PORT | ANY_PORT, y) => y,
            (x, _) => x,
        };
        if port == ANY_PORT { None } else { Some(port) }
    }
}

impl<'a> Sslbis<'a> {
    fn read(view: View<'a>) -> Result<Self, TableError> {
        view.list_of(16, 8)?;
        let code = view.u8(4)?;
        Ok(Self {
            data_type: DataType::decode(code).ok_or(code),
            base_unit: view.u64(8)?,
            words: view.rest(16)?,
        })
    }

    /// The ways, in the record's order.
    pub fn entries(self) -> impl Iterator<Item = SwitchEntry> + Clone + use<'a> {
        (0..self.words.len() / 4).filter_map(move |index| {
            let word = |at| self.words.get(4 * index + at);
            let (port_x, port_y, entry) = (word(0)?, word(1)?, word(2)?);
            let data = self.data_type.ok();
            let value =
                data.and_then(|data| hmat::normalize(entry, self.base_unit, data, Revision::Two));
            Some(SwitchEntry { port_x, port_y, entry, value })
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_way_through_a_switch_is_about_its_downstream_port() {
        let port =
            |port_x, port_y| SwitchEntry { port_x, port_y, entry: 1, value: None }.downstream();
        assert_eq!(port(UPSTREAM_PORT, 3), Some(3));
        assert_eq!(port(3, UPSTREAM_PORT), Some(3));
        assert_eq!(port(ANY_PORT, 3), Some(3));
        assert_eq!(port(3, ANY_PORT), Some(3));
        assert_eq!(port(ANY_PORT, UPSTREAM_PORT), None);
        assert_eq!(port(UPSTREAM_PORT, ANY_PORT), None);
        assert_eq!(port(ANY_PORT, ANY_PORT), None);
    }
}
