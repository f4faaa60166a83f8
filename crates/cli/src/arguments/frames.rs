//! `memtide bench frames`.

use std::path::PathBuf;

use clap::{Args, ValueEnum};
use memtide_units::{ByteSize, Order};

/// What taking and giving frames costs, without any memory behind them
///
/// The operations are those of LLFree's benchmark; with --peer-csv its figures stand next to ours.
#[derive(Debug, Args)]
pub struct BenchFrames {
    /// What to measure
    #[arg(value_enum, default_value = "all", value_name = "WHAT")]
    pub what: What,
    /// Numbers of threads [default: 1 and as many as there are processors]
    #[arg(
        short = 'x',
        long,
        value_delimiter = ',',
        value_name = "N,…",
        value_parser = clap::value_parser!(u16).range(1..=1024)
    )]
    pub threads: Vec<u16>,
    /// Orders of the blocks: 0 is 4 KiB, 9 is 2 MiB
    #[arg(
        long,
        value_delimiter = ',',
        value_name = "ORDER,…",
        default_value = "0,9",
        value_parser = order
    )]
    pub order: Vec<Order>,
    /// Memory that the node would have; only its metadata exists
    #[arg(long, value_name = "SIZE", default_value = "8GiB")]
    pub memory: ByteSize,
    /// How often bulk, repeat and rand are measured
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub iterations: u32,
    /// With the caches of cores, without, or both in turn
    #[arg(long, value_enum, default_value = "both")]
    pub caches: CachesKind,
    /// Held by tokens that need no checks, by plain numbers that do, or both in turn
    #[arg(long, value_enum, default_value = "both")]
    pub by: ByKind,
    /// Called through a table of functions, as LLFree's benchmark calls it, or directly
    #[arg(long, value_enum, default_value = "indirect")]
    pub calls: CallsKind,
    /// States that frag looks at: the first, and one after each tenth that was replaced
    #[arg(long, default_value_t = 8, value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub steps: u32,
    /// What frag's order of things depends on
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
    /// Largest node of scale, which starts with 1 GiB
    #[arg(long, value_name = "SIZE", default_value = "64TiB")]
    pub largest: ByteSize,
    /// Write the figures of bulk, repeat and rand there too
    #[arg(long, value_name = "FILE", value_hint = clap::ValueHint::FilePath)]
    pub csv: Option<PathBuf>,
    /// Figures of another allocator in the form of LLFree's `bench`; with more than one operation
    /// say of which: bulk=FILE
    #[arg(long, value_name = "[WHAT=]FILE")]
    pub peer_csv: Vec<String>,
    /// Free frames of each 2 MiB of another allocator, a line for each step, with commas
    #[arg(long, value_name = "FILE", value_hint = clap::ValueHint::FilePath)]
    pub peer_frag: Option<PathBuf>,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

fn order(text: &str) -> Result<Order, String> {
    let order = text.parse().ok().and_then(Order::new);
    order.ok_or_else(|| format!("expected an order from 0 to {}", Order::MAX.get()))
}

/// What `bench frames` measures.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
pub enum What {
    /// Take half the memory, and give it back in reverse
    Bulk,
    /// Take one and give it back, again and again
    Repeat,
    /// Take half the memory, give it back in random order, half of it on another core
    Rand,
    /// How well placement keeps 2 MiB blocks free, and what compaction has to move
    Frag,
    /// The same calls on nodes from 1 GiB to 64 TiB
    Scale,
    /// All of these
    All,
}

/// Which caches.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
pub enum CachesKind {
    /// As many frames as a core may cache
    On,
    /// None
    Off,
    /// Both
    Both,
}

/// Held by what.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
pub enum ByKind {
    /// Tokens of the type system
    Owned,
    /// Numbers, checked when they come back
    Number,
    /// Both
    Both,
}

/// Called how.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
pub enum CallsKind {
    /// Through a table of functions
    Indirect,
    /// Directly
    Direct,
}

/// So many calls on one thread, for a tool that counts instructions
#[derive(Debug, Args)]
pub struct BenchFramesCount {
    /// What
    #[arg(value_enum)]
    pub what: CountedKind,
    /// Order of the blocks
    #[arg(value_parser = order)]
    pub order: Order,
    /// Held by what
    #[arg(value_enum)]
    pub by: ByKind,
    /// Which caches
    #[arg(value_enum)]
    pub caches: CachesKind,
    /// How often
    pub calls: usize,
    /// How often at most, in all runs that are compared
    pub calls_max: usize,
}

/// What is counted.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
pub enum CountedKind {
    /// Take and give, again and again
    Repeat,
    /// Take
    Take,
    /// Take all, give all
    Bulk,
    /// Take all and shuffle
    Shuffle,
    /// Take all, shuffle, give all
    Rand,
}
