//! `memtide dcd`.

use std::{path::PathBuf, time::Duration};

use clap::{Args, Subcommand, ValueEnum};
use memtide_cxl::manager::HostName;
use memtide_fabric::Address;

use super::Machine;

/// Serve CXL devices with dynamic capacity on a kernel that knows none
#[derive(Debug, Args)]
pub struct Dcd {
    #[command(subcommand)]
    pub what: DcdWhat,
}

#[derive(Debug, Subcommand)]
pub enum DcdWhat {
    Serve(DcdServe),
    List(DcdList),
    Status(DcdStatus),
    AcceptPolicy(DcdAcceptPolicy),
}

/// Serve a device until told to end (SIGTERM)
///
/// What the device offers becomes memory of a node, online and movable; what it asks back is
/// emptied and given back, as far as nobody uses it. Each thing that happens is a line. Capacity
/// stays in use when this command ends, and is taken up by the next one. Needs root, a device
/// without a driver of the kernel's, and a kernel that was started with its CXL window set aside:
/// what to add to its command line is said where that is missing.
#[derive(Debug, Args)]
pub struct DcdServe {
    /// Its PCI address: 0000:21:00.0 [default: the only CXL memory device without a driver]
    #[arg(long, value_name = "BDF")]
    pub device: Option<String>,
    /// Which offers are accepted, until `memtide dcd accept-policy` says otherwise
    #[arg(long, value_enum, default_value = "all")]
    pub accept: AcceptKind,
    /// How long to try each time that something is asked back: 500ms, 30s, 2m. A pool has so long,
    /// then the kernel
    #[arg(long, value_name = "TIME", default_value = "10s",
          value_parser = memtide_daemon::duration::parse)]
    pub deadline: Duration,
    /// A fabric manager that is told what is accepted, how much of it is in use, and who holds what
    /// is asked back: where agents connect to it, as unix:PATH or tcp:HOST:PORT. It is tried again
    /// when it is gone
    #[arg(long, value_name = "ADDRESS", requires = "host_name")]
    pub manager: Option<Address>,
    /// What that manager calls this host
    #[arg(long, value_name = "NAME", requires = "manager")]
    pub host_name: Option<HostName>,
    /// A daemon's socket: a node of its pool, with the device's NUMA node as its numa, has what is
    /// online, and gives its part back before any of it leaves. One agent for one node of a pool
    #[arg(long, value_name = "SOCKET", requires = "pool_node")]
    pub pool: Option<PathBuf>,
    /// The name of that node
    #[arg(long, value_name = "NAME", requires = "pool")]
    pub pool_node: Option<String>,
    /// Each line as JSON
    #[arg(long)]
    pub json: bool,
}

/// List CXL memory devices, and who serves them
#[derive(Debug, Args)]
pub struct DcdList {
    #[command(flatten)]
    pub machine: Machine,
    /// JSON instead of text
    #[arg(long)]
    pub json: bool,
}

/// Say what was accepted of a device that is served here, and what of it is asked back
#[derive(Debug, Args)]
pub struct DcdStatus {
    /// Its PCI address [default: the only one that is served]
    #[arg(long, value_name = "BDF")]
    pub device: Option<String>,
    /// JSON instead of text
    #[arg(long)]
    pub json: bool,
}

/// Say, or change, which offers of a served device are accepted
#[derive(Debug, Args)]
pub struct DcdAcceptPolicy {
    /// Which, from now on; without it, nothing changes. What was accepted stays
    #[arg(value_enum)]
    pub policy: Option<AcceptKind>,
    /// Its PCI address [default: the only one that is served]
    #[arg(long, value_name = "BDF")]
    pub device: Option<String>,
    /// JSON instead of text
    #[arg(long)]
    pub json: bool,
}

/// Which offers are accepted.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
pub enum AcceptKind {
    /// All that can be used
    All,
    /// None
    None,
}
