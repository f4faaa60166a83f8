//! HMAT, the Heterogeneous Memory Attribute Table (ACPI 6.5, 5.2.28): latency and bandwidth from
//! those who access memory to memory, and the caches in front of it.
//!
//! A matrix has a base unit, and entries that are multiples of it; what that comes to depends on
//! the table's revision. [`normalize`] does it as Linux's `hmat_normalize` does, to nanoseconds
//! and MB/s. An entry of 0 or 0xffff says nothing, and so does one whose product does not
//! fit into 32 bits.
//!
//! Numbers of initiators and targets are 32 bits each: their product is compared with the
//! record's length before anything is looked at.

use super::{
    cursor::{Frames, Framing, List, Unknown, View},
    error::TableError,
    header::{HEADER_BYTES, Table},
};

const RECORDS_AT: usize = HEADER_BYTES + 4;

/// How entries are meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Revision {
    /// Tenths (ACPI 6.2).
    One,
    /// Latency in picoseconds (ACPI 6.3 on).
    Two,
}

/// The table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Hmat<'a> {
    table: Table<'a>,
    revision: Revision,
}

impl<'a> Hmat<'a> {
    /// The table at the start of `bytes`.
    ///
    /// # Errors
    /// [`TableError`] if it is another table, its length is not true, or its revision is neither
    /// 1 nor 2: then nobody knows what its numbers mean (Linux ignores the table as well).
    pub fn parse(bytes: &'a [u8]) -> Result<Self, TableError> {
        let table = Table::parse(bytes, "HMAT", *b"HMAT", RECORDS_AT)?;
        let revision = match table.revision() {
            1 => Revision::One,
            2 => Revision::Two,
            other => return Err(table.view().wrong("revision", other.into(), "1 or 2")),
        };
        Ok(Self { table, revision })
    }

    /// Its header, with checksum.
    #[must_use]
    pub const fn table(self) -> Table<'a> {
        self.table
    }

    /// How its entries are meant.
    #[must_use]
    pub const fn revision(self) -> Revision {
        self.revision
    }

    /// Its records, in their order.
    pub fn records(self) -> impl Iterator<Item = Result<Record<'a>, TableError>> + Clone {
        let frames = Frames::new(self.table.view(), RECORDS_AT, Framing::Doubles);
        let revision = self.revision;
        frames.map(move |frame| frame.and_then(|(kind, view)| Record::read(kind, view, revision)))
    }
}

/// A record of the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Record<'a> {
    /// Type 0: whose memory a domain's memory is.
    Proximity(Proximity),
    /// Type 1: a matrix of latencies or bandwidths.
    Locality(Locality<'a>),
    /// Type 2: a cache in front of memory.
    SideCache(SideCache<'a>),
    /// Something newer.
    Unknown(Unknown),
}

impl<'a> Record<'a> {
    fn read(kind: u16, view: View<'a>, revision: Revision) -> Result<Self, TableError> {
        Ok(match kind {
            0 => Self::Proximity(Proximity::read(view.named("proximity domain"))?),
            1 => Self::Locality(Locality::read(view.named("locality"), revision)?),
            2 => Self::SideCache(SideCache::read(view.named("memory side cache"))?),
            _ => Self::Unknown(Unknown { kind, offset: view.offset(), length: view.len() }),
        })
    }
}

/// Memory Proximity Domain Attributes: which initiator a domain's memory is attached to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Proximity {
    /// The domain of the initiator, if the record says one.
    pub initiator: Option<u32>,
    /// The domain of the memory.
    pub memory: u32,
}

impl Proximity {
    fn read(view: View<'_>) -> Result<Self, TableError> {
        view.exactly(40)?;
        let initiator = view.u32(12)?;
        let valid = view.u16(8)? & 1 == 1;
        Ok(Self { initiator: valid.then_some(initiator), memory: view.u32(16)? })
    }
}

/// What a matrix says of an access.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum DataType {
    /// Latency of reads and writes.
    AccessLatency,
    /// Latency of reads.
    ReadLatency,
    /// Latency of writes.
    WriteLatency,
    /// Bandwidth of reads and writes.
    AccessBandwidth,
    /// Bandwidth of reads.
    ReadBandwidth,
    /// Bandwidth of writes.
    WriteBandwidth,
}

impl DataType {
    /// The type that a table calls `code`, 0 to 5; `None` for others.
    #[must_use]
    pub const fn decode(code: u8) -> Option<Self> {
        Some(match code {
            0 => Self::AccessLatency,
            1 => Self::ReadLatency,
            2 => Self::WriteLatency,
            3 => Self::AccessBandwidth,
            4 => Self::ReadBandwidth,
            5 => Self::WriteBandwidth,
            _ => return None,
        })
    }

    /// Whether it is a latency.
    #[must_use]
    pub const fn is_latency(self) -> bool {
        matches!(self, Self::AccessLatency | Self::ReadLatency | Self::WriteLatency)
    }
}

/// What a matrix or a cache is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Hierarchy {
    /// Memory itself.
    Memory,
    /// Its cache of this level, 1 to 3.
    Cache(u8),
    /// Something that no specification names.
    Reserved(u8),
}

impl Hierarchy {
    /// The hierarchy in the lowest four bits of `flags`, as HMAT and CDAT both have it.
    #[must_use]
    pub const fn decode(flags: u8) -> Self {
        match flags & 0xf {
            0 => Self::Memory,
            level @ 1..=3 => Self::Cache(level),
            other => Self::Reserved(other),
        }
    }
}

/// System Locality Latency and Bandwidth Information: a matrix.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Locality<'a> {
    revision: Revision,
    /// What it is about.
    pub hierarchy: Hierarchy,
    /// What it says; `Err` with the code if that is unknown.
    pub data_type: Result<DataType, u8>,
    /// The smallest transfer that the numbers hold for, encoded; 0 for any.
    pub min_transfer: u8,
    /// What entries are multiples of.
    pub base_unit: u64,
    /// The domains that access, one for each row.
    pub initiators: List<'a, u32>,
    /// The domains that are accessed, one for each column.
    pub targets: List<'a, u32>,
    /// Row after row.
    pub entries: List<'a, u16>,
}

impl<'a> Locality<'a> {
    fn read(view: View<'a>, revision: Revision) -> Result<Self, TableError> {
        view.at_least(32)?;
        let code = view.u8(9)?;
        let rows = u64::from(view.u32(12)?);
        let columns = u64::from(view.u32(16)?);
        let initiators = view.list(32, rows)?;
        let targets_at = 32 + 4 * initiators.len();
        let targets = view.list(targets_at, columns)?;
        // Neither has more than 32 bits: the product fits.
        let entries = view.list(targets_at + 4 * targets.len(), rows * columns)?;
        Ok(Self {
            revision,
            hierarchy: Hierarchy::decode(view.u8(8)?),
            data_type: DataType::decode(code).ok_or(code),
            min_transfer: view.u8(10)?,
            base_unit: view.u64(24)?,
            initiators,
            targets,
            entries,
        })
    }

    /// The entry of row `initiator` and column `target`, counted from 0; `None` outside.
    #[must_use]
    pub fn entry(&self, initiator: usize, target: usize) -> Option<u16> {
        if initiator >= self.initiators.len() || target >= self.targets.len() {
            return None;
        }
        self.entries.get(initiator * self.targets.len() + target)
    }

    /// Nanoseconds or MB/s of row `initiator` and column `target`; `None` outside, where the
    /// matrix says nothing, and where nobody knows what it says.
    #[must_use]
    pub fn value(&self, initiator: usize, target: usize) -> Option<u32> {
        let entry = self.entry(initiator, target)?;
        normalize(entry, self.base_unit, self.data_type.ok()?, self.revision)
    }

    /// Nanoseconds or MB/s from domain `initiator` to domain `target`: of the first row and the
    /// first column with these names, as Linux's `hmat_initiator_perf` looks it up.
    #[must_use]
    pub fn between(&self, initiator: u32, target: u32) -> Option<u32> {
        let row = self.initiators.iter().position(|domain| domain == initiator)?;
        let column = self.targets.iter().position(|domain| domain == target)?;
        self.value(row, column)
    }
}

/// Nanoseconds or MB/s of an entry: `hmat_normalize`.
///
/// Revision 1 counts in tenths; revision 2 has latency in picoseconds and bandwidth as it is.
/// Both round up. `None` for what says nothing: entries of 0 and 0xffff, products beyond 32 bits,
/// and in revision 1 less than one.
#[must_use]
pub fn normalize(entry: u16, base_unit: u64, data: DataType, revision: Revision) -> Option<u32> {
    if entry == 0 || entry == u16::MAX {
        return None;
    }
    let product = base_unit.checked_mul(entry.into())?;
    let value = u32::try_from(product).ok()?;
    let value = match revision {
        Revision::One if value < 10 => return None,
        Revision::One => value.div_ceil(10),
        Revision::Two if data.is_latency() => value.div_ceil(1000),
        Revision::Two => value,
    };
    (value > 0).then_some(value)
}

/// How a cache finds a line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Associativity {
    /// Each address has one place.
    DirectMapped,
    /// By a function that is not told.
    Complex,
    /// Not said.
    Other,
}

/// What a cache does with writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WritePolicy {
    /// Keeps them until the line goes.
    WriteBack,
    /// Passes them on at once.
    WriteThrough,
    /// Not said.
    Other,
}

/// The 32 bits that describe a cache, in HMAT and in CDAT.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CacheAttributes(pub u32);

impl CacheAttributes {
    /// How many levels there are.
    #[must_use]
    pub const fn levels(self) -> u8 {
        (self.0 & 0xf) as u8
    }

    /// Which level this is.
    #[must_use]
    pub const fn level(self) -> u8 {
        (self.0 >> 4 & 0xf) as u8
    }

    /// How it finds a line.
    #[must_use]
    pub const fn associativity(self) -> Associativity {
        match self.0 >> 8 & 0xf {
            1 => Associativity::DirectMapped,
            2 => Associativity::Complex,
            _ => Associativity::Other,
        }
    }

    /// What it does with writes.
    #[must_use]
    pub const fn write_policy(self) -> WritePolicy {
        match self.0 >> 12 & 0xf {
            1 => WritePolicy::WriteBack,
            2 => WritePolicy::WriteThrough,
            _ => WritePolicy::Other,
        }
    }

    /// Bytes of a line.
    #[must_use]
    pub const fn line_bytes(self) -> u16 {
        (self.0 >> 16) as u16
    }
}

/// Memory Side Cache Information: a cache in front of a domain's memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SideCache<'a> {
    /// The domain of the memory.
    pub memory: u32,
    /// Its size in bytes.
    pub bytes: u64,
    /// What it is like.
    pub attributes: CacheAttributes,
    /// How addresses are mapped to it: 1 for the extended linear cache, whose size is a part of
    /// the memory's address range; 0 if the table does not say.
    pub address_mode: u16,
    /// Its SMBIOS handles.
    pub smbios_handles: List<'a, u16>,
}

impl<'a> SideCache<'a> {
    fn read(view: View<'a>) -> Result<Self, TableError> {
        view.at_least(32)?;
        Ok(Self {
            memory: view.u32(8)?,
            bytes: view.u64(16)?,
            attributes: CacheAttributes(view.u32(24)?),
            address_mode: view.u16(28)?,
            smbios_handles: view.list(32, view.u16(30)?.into())?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hmat_normalize_of_revision_1_counts_in_tenths() {
        let tenths = |entry, base| normalize(entry, base, DataType::ReadLatency, Revision::One);
        assert_eq!(tenths(10, 100), Some(100));
        assert_eq!(tenths(101, 1), Some(11));
        assert_eq!(tenths(9, 1), None);
        assert_eq!(tenths(10, 1), Some(1));
    }

    #[test]
    fn hmat_normalize_of_revision_2_has_latency_in_picoseconds() {
        let two = |entry, base, data| normalize(entry, base, data, Revision::Two);
        assert_eq!(two(10, 1000, DataType::AccessLatency), Some(10));
        assert_eq!(two(1, 1, DataType::WriteLatency), Some(1));
        assert_eq!(two(1001, 1, DataType::ReadLatency), Some(2));
        assert_eq!(two(1001, 1, DataType::ReadBandwidth), Some(1001));
    }

    #[test]
    fn entries_that_say_nothing() {
        for revision in [Revision::One, Revision::Two] {
            let say = |entry, base| normalize(entry, base, DataType::AccessBandwidth, revision);
            assert_eq!(say(0, 100), None);
            assert_eq!(say(0xffff, 100), None);
            assert_eq!(say(5, 0), None);
            assert!(say(2, u64::from(u32::MAX / 2)).is_some());
            assert_eq!(say(2, u64::from(u32::MAX / 2) + 1), None);
            assert_eq!(say(0xfffe, u64::MAX), None);
        }
    }
}
