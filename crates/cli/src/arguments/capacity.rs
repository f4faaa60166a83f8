//! `memtide give-back`, `add` and `retire`: a pool's capacity.

use std::time::Duration;

use clap::{Args, ValueEnum};
use memtide_units::{ByteSize, OnlineZone};

use super::{Change, Socket};

/// Take capacity out of the pool, or out of a node of the kernel, and say who holds what did not come
///
/// Free memory leaves first, then what can be moved elsewhere. What cannot leave in time stays
/// usable. Asking again goes on where this request stopped.
///
/// NODE is a node of the pool. With --kernel, or where it reads node1 and there is no daemon, it is
/// a NUMA node that the kernel manages: its memory blocks go offline.
#[derive(Debug, Args)]
pub struct GiveBack {
    /// How much; rounded up to whole blocks
    #[arg(value_name = "SIZE", allow_hyphen_values = true)]
    pub size: ByteSize,
    /// From which node [default: any of the pool, the furthest first]
    #[arg(long, value_name = "NODE")]
    pub from: Option<String>,
    /// NODE is a NUMA node of the kernel, also if a daemon is there
    #[arg(long, requires = "from", conflicts_with = "socket")]
    pub kernel: bool,
    /// How long to try: 500ms, 30s, 2m [default: as the daemon is configured, 30s]
    #[arg(long, value_name = "TIME", value_parser = memtide_daemon::duration::parse)]
    pub deadline: Option<Duration>,
    #[command(flatten)]
    pub socket: Socket,
    #[command(flatten)]
    pub change: Change,
}

/// Put capacity back that had left
#[derive(Debug, Args)]
pub struct Add {
    /// How much; rounded up to whole blocks
    #[arg(value_name = "SIZE", allow_hyphen_values = true)]
    pub size: ByteSize,
    /// To which node
    #[arg(long, value_name = "NODE")]
    pub to: String,
    /// Into which zone: what may lie there [default: the node's]
    #[arg(long, value_enum)]
    pub zone: Option<PoolZone>,
    #[command(flatten)]
    pub socket: Socket,
    /// Print JSON; sizes are bytes
    #[arg(long)]
    pub json: bool,
}

/// A zone of a pool's node.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
pub enum PoolZone {
    /// Anything, pinned on request as well
    Kernel,
    /// Only what can move: it can be taken back
    Movable,
    /// What can move, and in need what cannot
    PreferMovable,
    /// Extended memory, for what can move
    Exmem,
}

impl PoolZone {
    /// As the daemon is told.
    pub const fn zone(self) -> OnlineZone {
        match self {
            Self::Kernel => OnlineZone::Kernel,
            Self::Movable => OnlineZone::Movable,
            Self::PreferMovable => OnlineZone::PreferMovable,
            Self::Exmem => OnlineZone::Exmem,
        }
    }
}

/// Never again use memory that is bad
///
/// The 2 MiB around an offset into a node. What was in them is lost: a program that has them gets
/// SIGBUS when it touches them.
#[derive(Debug, Args)]
pub struct Retire {
    /// Where in the node: bytes from its start
    #[arg(value_name = "OFFSET", allow_hyphen_values = true)]
    pub offset: ByteSize,
    /// Which node
    #[arg(long, value_name = "NODE")]
    pub on: String,
    #[command(flatten)]
    pub socket: Socket,
    /// Print JSON; sizes are bytes
    #[arg(long)]
    pub json: bool,
}
