//! The command line of what looks at a Linux machine.

use std::path::PathBuf;

use clap::{Args, ValueHint};

/// Which machine.
#[derive(Debug, Args)]
pub struct Machine {
    /// Not this machine, but the one whose files are in this folder, or in this file of
    /// `memtide capture`
    #[arg(long, value_name = "DIR|FILE", value_hint = ValueHint::AnyPath)]
    pub root: Option<PathBuf>,
}

/// Show what memory this machine has, and by which way each processor reaches it
///
/// Nodes with distances, tiers and zones; memory blocks; CXL buses, ports, decoders, devices and
/// regions; dax devices and virtio-mem; then each source of memory, with its cost from each node
/// with processors. Root sees addresses too. What a machine does not have is said, and no failure.
#[derive(Debug, Args)]
pub struct Topology {
    #[command(flatten)]
    pub machine: Machine,
    /// Print JSON; sizes and addresses are raw integers
    #[arg(long)]
    pub json: bool,
}

/// Write what memtide reads of this machine into a file, for a bug report
///
/// A tar file, gzipped: sizes, addresses and states of memory and its devices, and firmware's
/// tables about memory. No serial numbers, no contents of memory, no processes, no command lines.
/// Only root can read all of it. Any command with --root reads the file.
#[derive(Debug, Args)]
pub struct Capture {
    /// The file, such as machine.tar.gz; it must not exist
    #[arg(value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub file: PathBuf,
    #[command(flatten)]
    pub machine: Machine,
    /// Serial numbers of CXL devices and UUIDs of regions, too
    #[arg(long)]
    pub with_serials: bool,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

/// Show who has which physical addresses, and where firmware and the kernel disagree
///
/// Firmware's map of memory, CXL windows, and what the SRAT says, made into one map as Linux makes
/// it; then /proc/iomem against it. Needs root for addresses; of others' machines, a capture that
/// root made.
#[derive(Debug, Args)]
pub struct Map {
    #[command(flatten)]
    pub machine: Machine,
    /// Print JSON; addresses and sizes are raw integers
    #[arg(long)]
    pub json: bool,
}
