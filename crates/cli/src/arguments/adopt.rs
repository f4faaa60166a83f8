//! `memtide adopt`.

use std::time::Duration;

use clap::{ArgGroup, Args};
use memtide_sys::numa::NodeSet;

use super::nodes;

/// Place and move the memory of a running program on nodes of the kernel's
///
/// Nothing is set in the program and it is not stopped: its pages move under it, one by one, and
/// what it touches first from now on comes from where its own policy says. What somebody holds
/// stays, and is told with the reason. Needs the right to look at the program: the same user, or
/// root.
#[derive(Debug, Args)]
#[command(group = ArgGroup::new("where").required(true).multiple(true).args(["near", "far", "to"]))]
pub struct Adopt {
    /// Whose memory
    #[arg(value_name = "PID", value_parser = clap::value_parser!(u32).range(1..))]
    pub pid: u32,
    /// Nodes where memory should be while they have room: node0, node0-1,3. What is on the far
    /// nodes comes up as far as it fits
    #[arg(long, value_name = "NODES", value_parser = nodes::nodes)]
    pub near: Option<NodeSet>,
    /// Nodes for the rest
    #[arg(long, value_name = "NODES", value_parser = nodes::nodes)]
    pub far: Option<NodeSet>,
    /// Nodes where all of it should go
    #[arg(long, value_name = "NODES", value_parser = nodes::nodes,
        conflicts_with_all = ["near", "far"])]
    pub to: Option<NodeSet>,
    /// Move what other programs map as well (libraries, shared memory, what forks share), too;
    /// needs CAP_SYS_NICE
    #[arg(long)]
    pub shared: bool,
    /// How long to try: 500ms, 30s, 2m [default: as long as it takes]
    #[arg(long, value_name = "TIME", value_parser = memtide_daemon::duration::parse)]
    pub deadline: Option<Duration>,
    /// Move nothing; say what would move
    #[arg(long)]
    pub dry_run: bool,
    /// Print JSON; sizes are bytes
    #[arg(long)]
    pub json: bool,
}
