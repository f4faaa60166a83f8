//! The command line: one definition for parsing, help, manual pages and completions.

mod adopt;
mod bench;
mod capacity;
mod dax;
mod dcd;
mod dcd_pool;
mod fabric;
mod fm;
mod frames;
mod host;
mod memory;
mod nodes;
mod region;
mod sim;

use std::{ffi::OsString, path::PathBuf, time::Duration};

use clap::{Args, Parser, Subcommand, ValueEnum};
use clap_complete::Shell;
use memtide_proto::label;
use memtide_units::ByteSize;

pub use self::adopt::Adopt;
pub use self::bench::{
    Bench, BenchFabric, BenchGiveBack, BenchMove, BenchRun, BenchWhat, Measured,
};
pub use self::capacity::{Add, GiveBack, PoolZone, Retire};
pub use self::dax::{Dax, DaxModeKind, DaxModeOptions, DaxWhat};
pub use self::dcd::{AcceptKind, Dcd, DcdAcceptPolicy, DcdList, DcdServe, DcdStatus, DcdWhat};
pub use self::dcd_pool::DcdPool;
pub use self::fabric::{Fabric, FabricServe, FabricWhat};
pub use self::fm::{
    Fm, FmAdd, FmCancel, FmLimits, FmList, FmMove, FmPolicy, FmRelease, FmRest, FmScan, FmServe,
    FmShow, FmSocket, FmTag, FmWatch, FmWhat,
};
pub use self::frames::{
    BenchFrames, BenchFramesCount, ByKind, CachesKind, CallsKind, CountedKind, What,
};
pub use self::host::{Capture, Machine, Map, Topology};
pub use self::memory::{
    Change, Offline, Online, OnlineHow, PolicyKind, RatioScope, ZoneKind, node,
};
pub use self::nodes::Memory;
pub use self::region::{Region, RegionCreate, RegionDestroy, RegionMode, RegionWhat};
pub use self::sim::{BenchSim, Sim, SimFuzz, SimRun, SimSweep, SimWhat};

/// Run unmodified programs on near and far memory, and take capacity back while they run.
#[derive(Debug, Parser)]
#[command(name = "memtide", version, propagate_version = true, max_term_width = 100)]
#[command(after_help = "Sizes are binary, either case: 256M, 4GiB; a bare number is bytes.\n\
Exit codes: 0 done, 1 failed, 2 the request makes no sense, 3 partly done.")]
pub struct Arguments {
    #[command(subcommand)]
    pub command: Command,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    Run(Run),
    Serve(Serve),
    Status(Status),
    Tenants(Tenants),
    Explain(Explain),
    GiveBack(GiveBack),
    Add(Add),
    Retire(Retire),
    Move(Move),
    DcdPool(DcdPool),
    Fabric(Fabric),
    Fm(Fm),
    Topology(Topology),
    Map(Map),
    Capture(Capture),
    Region(Region),
    Dax(Dax),
    Dcd(Dcd),
    Online(Online),
    Offline(Offline),
    Adopt(Adopt),
    Doctor(Doctor),
    Check(Check),
    Completions(Completions),
    Man(Man),
    Bench(Bench),
    Sim(Sim),
}

/// Which daemon.
#[derive(Debug, Args)]
pub struct Socket {
    /// The daemon's socket. Unless given: $MEMTIDE_SOCKET, else memtide/memtide.sock in
    /// $XDG_RUNTIME_DIR (as root without one: in /run), else that of the only pool that a
    /// `memtide run` has started
    #[arg(long, value_name = "PATH", value_hint = clap::ValueHint::FilePath)]
    pub socket: Option<PathBuf>,
}

/// Run a program with its memory in a pool, or on nodes of the kernel's
///
/// With sizes for --near or --far the pool is the program's own and ends with it; with --socket
/// alone the program joins the pool there. With neither it joins the daemon at the default socket,
/// or gets a pool of its own if there is none. With nodes for --near or --far (node0, node0-1,3)
/// there is no pool: the kernel places the program's memory on them. Standard input and output,
/// signals and the exit code pass through; children of the program are treated alike.
#[derive(Debug, Args)]
pub struct Run {
    /// Memory of a near node for this program alone [default: a quarter of what is available], or
    /// the kernel's nodes that are near
    #[arg(long, value_name = "SIZE|NODES")]
    pub near: Option<Memory>,
    /// Memory of a far node for this program alone [default: a quarter of what is available], or
    /// the kernel's nodes that are far
    #[arg(long, value_name = "SIZE|NODES")]
    pub far: Option<Memory>,
    /// With nodes: from which of them new memory comes [default: near-first]
    #[arg(long, value_enum)]
    pub placement: Option<PlacementKind>,
    /// What the program's own nodes are made of [default: memfd]
    #[arg(long, value_enum)]
    pub store: Option<StoreKind>,
    /// What happens when the program's own pool is full: malloc fails, or ordinary memory is used
    /// [default: fail]
    #[arg(long, value_enum)]
    pub on_full: Option<OnFullKind>,
    /// The pool to join; with --near or --far, where to listen
    #[arg(long, value_name = "PATH", value_hint = clap::ValueHint::FilePath)]
    pub socket: Option<PathBuf>,
    /// What the program is started as, for tenants of the joined pool that are for a label
    /// [default: $MEMTIDE_LABEL]
    #[arg(long, value_name = "NAME", value_parser = label, conflicts_with_all = ["near", "far"])]
    pub label: Option<String>,
    /// Say on standard error what happened, once the program has ended
    #[arg(long)]
    pub report: bool,
    /// The program and its arguments
    #[arg(
        required = true,
        trailing_var_arg = true,
        value_name = "CMD",
        value_hint = clap::ValueHint::CommandWithArguments
    )]
    pub command: Vec<OsString>,
}

/// Serve a pool to programs until told to end (SIGTERM)
///
/// Programs run on when the daemon ends, and come back to its successor.
#[derive(Debug, Args)]
pub struct Serve {
    /// What the pool is made of: memtide.toml
    #[arg(long, value_name = "FILE", value_hint = clap::ValueHint::FilePath)]
    pub config: Option<PathBuf>,
    /// Without a file: memory of a near node
    #[arg(long, value_name = "SIZE", conflicts_with = "config")]
    pub near: Option<ByteSize>,
    /// Without a file: memory of a far node
    #[arg(long, value_name = "SIZE", conflicts_with = "config")]
    pub far: Option<ByteSize>,
    /// Without a file: what the nodes are made of [default: memfd]
    #[arg(long, value_enum, conflicts_with = "config")]
    pub store: Option<StoreKind>,
    /// Without a file: what happens when the pool is full [default: fail]
    #[arg(long, value_enum, conflicts_with = "config")]
    pub on_full: Option<OnFullKind>,
    /// Where to listen, if the file does not say
    #[arg(long, value_name = "PATH", value_hint = clap::ValueHint::FilePath)]
    pub socket: Option<PathBuf>,
    /// Take over from a `memtide run` whose program left others behind; end with the last of them
    #[arg(long, hide = true, requires = "config")]
    pub until_idle: bool,
}

/// Say who has what: nodes, programs, bytes moved
#[derive(Debug, Args)]
pub struct Status {
    #[command(flatten)]
    pub socket: Socket,
    /// Print JSON; sizes are bytes
    #[arg(long)]
    pub json: bool,
}

/// Say who may have how much, has how much, and waits
///
/// A tenant is whom memory is charged to: programs of a user, a group, a control group or a label,
/// as memtide.toml says. GUARANTEED is sure to be had; AT MOST is the limit. FELL BACK is what its
/// programs had to have elsewhere than where its policy says.
#[derive(Debug, Args)]
pub struct Tenants {
    #[command(flatten)]
    pub socket: Socket,
    /// Print JSON; sizes are bytes
    #[arg(long)]
    pub json: bool,
}

/// Say why programs got what they got: the last decisions, with their rules and numbers
///
/// The last 64 decisions of each tenant are kept, also of programs that have ended; the same one
/// several times in a row is kept once.
#[derive(Debug, Args)]
pub struct Explain {
    /// Of this process [default: of all]
    #[arg(value_name = "PID", conflicts_with = "tenant")]
    pub pid: Option<u32>,
    /// Of the programs of this tenant
    #[arg(long, value_name = "NAME")]
    pub tenant: Option<String>,
    #[command(flatten)]
    pub socket: Socket,
    /// Print JSON; sizes are bytes, times milliseconds
    #[arg(long)]
    pub json: bool,
}

/// Move a program's memory to a node
#[derive(Debug, Args)]
pub struct Move {
    /// Whose memory
    #[arg(long)]
    pub pid: u32,
    /// To which node
    #[arg(long, value_name = "NODE")]
    pub to: String,
    /// How much of it [default: all]
    #[arg(value_name = "SIZE", allow_hyphen_values = true)]
    pub size: Option<ByteSize>,
    /// How long to try: 500ms, 30s, 2m [default: as the daemon is configured, 30s]
    #[arg(long, value_name = "TIME", value_parser = memtide_daemon::duration::parse)]
    pub deadline: Option<Duration>,
    #[command(flatten)]
    pub socket: Socket,
    /// Print JSON; sizes are bytes
    #[arg(long)]
    pub json: bool,
}

/// Say what this machine lacks for memtide, and the command that grants it
///
/// Exit code 0 if `memtide run` would work, 1 if not.
#[derive(Debug, Args)]
pub struct Doctor {
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

/// Read a memtide.toml and say what is wrong with it
#[derive(Debug, Args)]
pub struct Check {
    /// The file
    #[arg(value_hint = clap::ValueHint::FilePath)]
    pub file: PathBuf,
}

/// Print the completions of a shell
#[derive(Debug, Args)]
#[command(alias = "completion")]
pub struct Completions {
    /// Which shell
    pub shell: Shell,
}

/// Print the manual page, or write all of them into a directory
#[derive(Debug, Args)]
pub struct Man {
    /// Where to write memtide.1, memtide-run.1, …
    #[arg(long, value_name = "DIR", value_hint = clap::ValueHint::DirPath)]
    pub output: Option<PathBuf>,
}

/// From which nodes of the kernel's new memory comes.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
pub enum PlacementKind {
    /// Near while there is room, then far; nowhere else
    NearFirst,
    /// Near and far in turn, page by page
    Interleave,
    /// Near and far in turn, as often as the kernel's weights say (Linux 6.9)
    Weighted,
    /// Far while there is room, then whatever is nearest
    FarFirst,
}

/// What a node is made of.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
pub enum StoreKind {
    /// 4 KiB pages
    Memfd,
    /// Transparent huge pages, where the kernel finds them
    MemfdThp,
    /// 2 MiB pages of the kernel's huge-page pool
    Hugetlb,
}

/// What happens when the pool is full.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
pub enum OnFullKind {
    /// malloc and mmap fail with ENOMEM
    Fail,
    /// The program goes on with ordinary memory
    Fallback,
}

/// A label.
fn label(text: &str) -> Result<String, String> {
    if label::is_label(text) {
        Ok(text.to_owned())
    } else {
        Err(format!("expected {}", label::EXPECTED))
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_definitions_are_consistent() {
        Arguments::command().debug_assert();
    }
}
