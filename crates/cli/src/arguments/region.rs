//! `memtide region`.

use clap::{Args, Subcommand, ValueEnum};
use memtide_units::ByteSize;

use super::memory::Change;

/// Make and unmake CXL regions
#[derive(Debug, Args)]
pub struct Region {
    #[command(subcommand)]
    pub what: RegionWhat,
}

#[derive(Debug, Subcommand)]
pub enum RegionWhat {
    Create(RegionCreate),
    Destroy(RegionDestroy),
}

/// Make a region of CXL memory devices, whole or not at all
///
/// What is not said is found: the first window and devices that fit, as large as can be. All that
/// can be checked is checked before anything is written; what was written is taken back when a
/// step fails.
#[derive(Debug, Args)]
pub struct RegionCreate {
    /// In this window: a root decoder such as decoder0.0
    #[arg(long, value_name = "DECODER")]
    pub window: Option<String>,
    /// Of these memory devices: mem0,mem1. Their positions are found
    #[arg(long, value_name = "DEVICE,…", value_delimiter = ',')]
    pub devices: Vec<String>,
    /// How large: a multiple of 256 MiB for each device
    #[arg(long, value_name = "SIZE")]
    pub size: Option<ByteSize>,
    /// Bytes at one device before the next one's turn: 256 to 16384 [default: the window's]
    #[arg(long, value_name = "BYTES")]
    pub granularity: Option<u32>,
    /// Over how many devices [default: as many as are named, else the window's]
    #[arg(long, value_name = "N")]
    pub ways: Option<u32>,
    /// What kind of memory
    #[arg(long, value_enum, default_value = "ram")]
    pub mode: RegionMode,
    #[command(flatten)]
    pub change: Change,
}

/// Unmake a region, whose memory is offline
#[derive(Debug, Args)]
pub struct RegionDestroy {
    /// Which: region0
    #[arg(value_name = "REGION")]
    pub region: String,
    #[command(flatten)]
    pub change: Change,
}

/// What kind of memory a region is of.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
pub enum RegionMode {
    /// Volatile memory
    Ram,
}
