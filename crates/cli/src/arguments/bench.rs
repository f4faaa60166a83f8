//! `memtide bench`.

use std::ffi::OsString;

use clap::{Args, Subcommand};
use memtide_units::ByteSize;

use super::{BenchFrames, BenchFramesCount, BenchSim, StoreKind};

/// Measure what memtide costs on this machine, as ratios against its limits
#[derive(Debug, Args)]
pub struct Bench {
    #[command(subcommand)]
    pub what: BenchWhat,
}

#[derive(Debug, Subcommand)]
pub enum BenchWhat {
    Move(BenchMove),
    GiveBack(BenchGiveBack),
    Run(BenchRun),
    Fabric(BenchFabric),
    Frames(BenchFrames),
    Sim(BenchSim),
    #[command(hide = true)]
    FramesCount(BenchFramesCount),
    /// The program that `bench move` moves the memory of
    #[command(hide = true)]
    Writer {
        /// Bytes
        bytes: u64,
        /// Nanoseconds between two accesses
        pause_ns: u64,
    },
    /// Allocates and frees, for `bench run`
    #[command(hide = true)]
    Churn {
        /// How often
        rounds: u64,
    },
}

/// What every benchmark takes.
#[derive(Debug, Args)]
pub struct Measured {
    /// How often everything is measured; the median counts
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub rounds: u32,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

/// Live moves under a program that writes all the while, against a plain non-temporal copy and a
/// naive move
#[derive(Debug, Args)]
pub struct BenchMove {
    /// What the nodes are made of
    #[arg(long, value_enum, default_value = "memfd")]
    pub store: StoreKind,
    /// Memory of the program
    #[arg(long, default_value = "512M")]
    pub size: ByteSize,
    /// How long memory moves in each round
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u64).range(1..=3600))]
    pub seconds: u64,
    /// What the program computes between two accesses, in nanoseconds; 0 hammers the memory
    #[arg(long, default_value_t = 0)]
    pub pause_ns: u64,
    #[command(flatten)]
    pub measured: Measured,
}

/// How fast capacity comes back, unused and in use, against a raw hole punch
#[derive(Debug, Args)]
pub struct BenchGiveBack {
    /// What the nodes are made of
    #[arg(long, value_enum, default_value = "memfd")]
    pub store: StoreKind,
    /// Memory that comes back
    #[arg(long, default_value = "1G")]
    pub size: ByteSize,
    #[command(flatten)]
    pub measured: Measured,
}

/// How fast capacity goes from one host of a software fabric to another, unused and in use
#[derive(Debug, Args)]
pub struct BenchFabric {
    /// Memory that goes from host to host
    #[arg(long, default_value = "1G")]
    pub size: ByteSize,
    #[command(flatten)]
    pub measured: Measured,
}

/// Run time of a command in a pool, all memory near, against the same allocator without a pool
///
/// Without a command, a loop that allocates and frees.
#[derive(Debug, Args)]
pub struct BenchRun {
    /// What the nodes are made of
    #[arg(long, value_enum, default_value = "memfd")]
    pub store: StoreKind,
    /// Size of the near node
    #[arg(long, default_value = "2G")]
    pub near: ByteSize,
    #[command(flatten)]
    pub measured: Measured,
    /// The command and its arguments
    #[arg(last = true, value_name = "COMMAND")]
    pub command: Vec<OsString>,
}
