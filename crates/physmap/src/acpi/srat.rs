//! SRAT, the System Resource Affinity Table (ACPI 6.5, 5.2.16): which processors, memory and
//! ports are near each other.
//!
//! What is near each other shares a number, its proximity domain; HMAT and SLIT speak of domains
//! by it. A CXL host bridge has a domain of its own (*generic port*), so that HMAT can say how
//! far it is from the processors to the bridge; the rest of the way is in CDAT.

use memtide_units::{PhysAddr, PhysRange};

use super::{
    cursor::{Frames, Framing, Unknown, View},
    error::TableError,
    header::{HEADER_BYTES, Table},
};

const RECORDS_AT: usize = HEADER_BYTES + 12;

/// The table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Srat<'a>(Table<'a>);

impl<'a> Srat<'a> {
    /// The table at the start of `bytes`.
    ///
    /// # Errors
    /// [`TableError`] if it is another table, or its length is not true.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, TableError> {
        Table::parse(bytes, "SRAT", *b"SRAT", RECORDS_AT).map(Self)
    }

    /// Its header, with revision and checksum.
    #[must_use]
    pub const fn table(self) -> Table<'a> {
        self.0
    }

    /// Its records, in their order.
    pub fn records(self) -> impl Iterator<Item = Result<Record, TableError>> + Clone + use<'a> {
        let frames = Frames::new(self.0.view(), RECORDS_AT, Framing::Bytes);
        let revision = self.0.revision();
        frames.map(move |frame| frame.and_then(|(kind, view)| Record::read(kind, view, revision)))
    }

    /// The domain of the port of the CXL host bridge with this `_UID`: what HMAT says of it is the
    /// way to the bridge (Linux's `acpi_find_genport_target`).
    #[must_use]
    pub fn host_bridge_domain(self, uid: u32) -> Option<u32> {
        let wanted = Handle::Acpi { hid: *b"ACPI0016", uid };
        self.records().find_map(|record| match record {
            Ok(Record::GenericPort(port)) if port.presence == Presence::Enabled => {
                (port.handle == wanted).then_some(port.domain)
            }
            _ => None,
        })
    }

    /// Memory that is enabled, in the table's order: domain and range.
    pub fn memory(self) -> impl Iterator<Item = (u32, PhysRange)> + Clone + use<'a> {
        self.records().filter_map(|record| match record {
            Ok(Record::Memory(memory)) if memory.flags.contains(MemoryFlags::ENABLED) => {
                memory.range().map(|range| (memory.domain, range))
            }
            _ => None,
        })
    }
}

/// A record of the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Record {
    /// A processor and its domain.
    Processor(Processor),
    /// A range of addresses and its domain.
    Memory(Memory),
    /// A device that accesses memory of its own accord (type 5).
    GenericInitiator(Generic),
    /// A port behind which memory may appear, such as a CXL host bridge (type 6).
    GenericPort(Generic),
    /// Something newer, or of another kind of machine.
    Unknown(Unknown),
}

impl Record {
    fn read(kind: u16, view: View<'_>, revision: u8) -> Result<Self, TableError> {
        Ok(match kind {
            0 => Self::Processor(Processor::local_apic(view.named("processor"), revision)?),
            1 => Self::Memory(Memory::read(view.named("memory"), revision)?),
            2 => Self::Processor(Processor::x2apic(view.named("x2APIC processor"))?),
            3 => Self::Processor(Processor::gicc(view.named("GICC processor"))?),
            5 => Self::GenericInitiator(Generic::read(view.named("generic initiator"))?),
            6 => Self::GenericPort(Generic::read(view.named("generic port"))?),
            _ => Self::Unknown(Unknown { kind, offset: view.offset(), length: view.len() }),
        })
    }
}

/// Whether something is there. What is not enabled has no meaning.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Presence {
    /// It is there.
    Enabled,
    /// A placeholder.
    Disabled,
}

impl Presence {
    const fn of(flags: u32) -> Self {
        if flags & 1 == 1 { Self::Enabled } else { Self::Disabled }
    }
}

/// How a processor is named.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum ProcessorId {
    /// By its local APIC (type 0), or its x2APIC (type 2).
    Apic(u32),
    /// By its ACPI `_UID`: an Arm processor (type 3).
    Uid(u32),
}

/// A processor and its domain.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Processor {
    /// Its proximity domain.
    pub domain: u32,
    /// Its name.
    pub id: ProcessorId,
    /// Whether it is there.
    pub presence: Presence,
}

impl Processor {
    /// Revision 1 has 8 bits of domain, later ones 24 more in three bytes at 9, as Linux's
    /// `acpi_numa_processor_affinity_init` reads them.
    fn local_apic(view: View<'_>, revision: u8) -> Result<Self, TableError> {
        view.at_least(16)?;
        let [low, high0, high1, high2] = [view.u8(2)?, view.u8(9)?, view.u8(10)?, view.u8(11)?];
        let domain = match revision {
            0 | 1 => low.into(),
            _ => u32::from_le_bytes([low, high0, high1, high2]),
        };
        let id = ProcessorId::Apic(view.u8(3)?.into());
        Ok(Self { domain, id, presence: Presence::of(view.u32(4)?) })
    }

    fn x2apic(view: View<'_>) -> Result<Self, TableError> {
        view.at_least(24)?;
        let id = ProcessorId::Apic(view.u32(8)?);
        Ok(Self { domain: view.u32(4)?, id, presence: Presence::of(view.u32(12)?) })
    }

    fn gicc(view: View<'_>) -> Result<Self, TableError> {
        view.at_least(18)?;
        let id = ProcessorId::Uid(view.u32(6)?);
        Ok(Self { domain: view.u32(2)?, id, presence: Presence::of(view.u32(10)?) })
    }
}

bitflags::bitflags! {
    /// What memory is.
    #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
    pub struct MemoryFlags: u32 {
        /// It is there, or may come; without this the record has no meaning.
        const ENABLED = 1 << 0;
        /// It may come and go.
        const HOT_PLUGGABLE = 1 << 1;
        /// It keeps its contents without power.
        const NON_VOLATILE = 1 << 2;
        /// It is meant for something special.
        const SPECIFIC_PURPOSE = 1 << 3;
        const _ = !0;
    }
}

/// A range of addresses and its domain.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Memory {
    /// Its proximity domain.
    pub domain: u32,
    /// Its first address.
    pub base: PhysAddr,
    /// Its size in bytes.
    pub bytes: u64,
    /// What it is.
    pub flags: MemoryFlags,
}

impl Memory {
    /// Revision 1 has 8 bits of domain (Linux's `acpi_numa_memory_affinity_init`).
    fn read(view: View<'_>, revision: u8) -> Result<Self, TableError> {
        view.at_least(40)?;
        let domain = view.u32(2)?;
        Ok(Self {
            domain: if revision <= 1 { domain & 0xff } else { domain },
            base: PhysAddr(view.u64(8)?),
            bytes: view.u64(16)?,
            flags: MemoryFlags::from_bits_retain(view.u32(28)?),
        })
    }

    /// Its addresses; `None` if there are none, or they reach beyond 64 bits.
    #[must_use]
    pub const fn range(&self) -> Option<PhysRange> {
        PhysRange::from_size(self.base, self.bytes)
    }
}

/// How a device or port is named.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Handle {
    /// By its `_HID` and `_UID`.
    Acpi {
        /// Eight letters, such as `ACPI0016` for a CXL host bridge.
        hid: [u8; 8],
        /// Which of them.
        uid: u32,
    },
    /// By its place on the PCI bus.
    Pci {
        /// The segment.
        segment: u16,
        /// Bus (15:8), device (7:3), function (2:0).
        bdf: u16,
    },
    /// By something newer.
    Unknown(u8),
}

/// A device or port and its domain.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Generic {
    /// Its proximity domain.
    pub domain: u32,
    /// Its name.
    pub handle: Handle,
    /// Whether it is there.
    pub presence: Presence,
    /// The flags as they are: bit 0 enabled, bit 1 does transactions as processors do.
    pub flags: u32,
}

impl Generic {
    fn read(view: View<'_>) -> Result<Self, TableError> {
        view.at_least(32)?;
        let handle = match view.u8(3)? {
            0 => Handle::Acpi { hid: view.array(8)?, uid: view.u32(16)? },
            // The bus is the byte before that of device and function.
            1 => {
                let [bus, function] = view.array(10)?;
                Handle::Pci { segment: view.u16(8)?, bdf: u16::from_be_bytes([bus, function]) }
            }
            kind => Handle::Unknown(kind),
        };
        let flags = view.u32(24)?;
        Ok(Self { domain: view.u32(4)?, handle, presence: Presence::of(flags), flags })
    }
}
