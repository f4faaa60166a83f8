//! What firmware handed over, and the kernel's own map, as bytes and text.
//!
//! Nothing is taken apart here: `memtide_physmap` does that. The tables are root's to read.

use crate::{ReadError, Root};

/// Where the kernel shows the tables.
const TABLES: &str = "sys/firmware/acpi/tables";
/// Where it shows the ranges of the e820 table, as firmware handed them over.
const MEMMAP: &str = "sys/firmware/memmap";

/// Ranges of the map at most; firmware has some tens.
const ENTRIES_MAX: usize = 4096;

/// A table about memory.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Table {
    /// CXL Early Discovery Table: host bridges and windows.
    Cedt,
    /// System Resource Affinity Table: which memory and processors are near each other.
    Srat,
    /// Heterogeneous Memory Attribute Table: latency and bandwidth.
    Hmat,
    /// System Locality Information Table: distances.
    Slit,
}

impl Table {
    /// Its signature, and the name of its file.
    #[must_use]
    pub const fn signature(self) -> &'static str {
        match self {
            Self::Cedt => "CEDT",
            Self::Srat => "SRAT",
            Self::Hmat => "HMAT",
            Self::Slit => "SLIT",
        }
    }
}

/// A range of the firmware's map, as three texts of sysfs.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct MapText {
    /// The first address, hexadecimal with `0x`.
    pub start: String,
    /// The last address.
    pub end: String,
    /// What it is: `System RAM`, `Reserved`, …
    pub kind: String,
}

/// The bytes of a table; none if the machine has no such table.
///
/// # Errors
/// [`ReadError`], for who is not root too.
pub fn table(root: &Root, table: Table) -> Result<Option<Vec<u8>>, ReadError> {
    root.bytes(format!("{TABLES}/{}", table.signature()))
}

/// The firmware's map, in the order that it came in; empty on machines without one.
///
/// # Errors
/// [`ReadError`].
pub fn map(root: &Root) -> Result<Vec<MapText>, ReadError> {
    let mut entries = Vec::new();
    for name in root.names(MEMMAP)?.into_iter().take(ENTRIES_MAX) {
        let text = |attribute: &str| root.text(format!("{MEMMAP}/{name}/{attribute}"));
        if let (Some(start), Some(end), Some(kind)) = (text("start")?, text("end")?, text("type")?)
        {
            entries.push(MapText { start, end, kind });
        }
    }
    Ok(entries)
}

/// The text of /proc/iomem; none where the kernel has none.
///
/// # Errors
/// [`ReadError`].
pub fn iomem(root: &Root) -> Result<Option<String>, ReadError> {
    root.text("proc/iomem")
}
