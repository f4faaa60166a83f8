//! The command line of `memtide sim`.

use std::{num::NonZeroUsize, ops::Range, path::PathBuf};

use clap::{Args, Subcommand};
use memtide_sim::sweep::Setting;

use super::Measured;

/// Seeds of one fuzz at most.
const SEEDS_MAX: u64 = 10_000_000;

/// Ask the rules what they do to terabytes, without any
#[derive(Debug, Args)]
pub struct Sim {
    #[command(subcommand)]
    pub what: SimWhat,
}

#[derive(Debug, Subcommand)]
pub enum SimWhat {
    Run(SimRun),
    Sweep(SimSweep),
    Fuzz(SimFuzz),
}

/// Run a scenario: what was claimed, and what is measured
///
/// The same file, seed and version print the same, byte for byte.
#[derive(Debug, Args)]
pub struct SimRun {
    /// The scenario, such as scenarios/comes-back.toml
    #[arg(value_name = "FILE", value_hint = clap::ValueHint::FilePath)]
    pub file: PathBuf,
    /// Where chance starts [default: the scenario's seed]
    #[arg(long, value_name = "N")]
    pub seed: Option<u64>,
    /// Jobs at once, which changes nothing but the time it takes [default: the number of cores]
    #[arg(long, value_name = "N")]
    pub jobs: Option<NonZeroUsize>,
    /// Print JSON; sizes are bytes
    #[arg(long)]
    pub json: bool,
    /// Write plots (SVG), results.json and index.html there
    #[arg(long, value_name = "DIR", value_hint = clap::ValueHint::DirPath)]
    pub report: Option<PathBuf>,
}

/// Run a scenario over and over, with other values for some of its keys
///
/// Every combination of values is one run. A key is named by its path: machine.duration,
/// onlining.case.1.ratio (the second case), machine.tenant.app.weight (the tenant of that name).
/// With --report, every column of numbers is drawn over the first key.
#[derive(Debug, Args)]
pub struct SimSweep {
    /// The scenario, such as scenarios/half-width.toml
    #[arg(value_name = "FILE", value_hint = clap::ValueHint::FilePath)]
    pub file: PathBuf,
    /// A key and its values
    #[arg(long, value_name = "KEY=A,B,C", required = true, value_parser = setting)]
    pub set: Vec<Setting>,
    /// Where chance starts [default: the scenario's seed]
    #[arg(long, value_name = "N")]
    pub seed: Option<u64>,
    /// Runs at once, which changes nothing but the time it takes [default: the number of cores]
    #[arg(long, value_name = "N")]
    pub jobs: Option<NonZeroUsize>,
    /// Print JSON; sizes are bytes
    #[arg(long)]
    pub json: bool,
    /// Write plots (SVG), results.json and index.html there
    #[arg(long, value_name = "DIR", value_hint = clap::ValueHint::DirPath)]
    pub report: Option<PathBuf>,
}

/// Run random machines, and check all that must hold after every step
///
/// A seed that fails is told with what led to it, and with the command that does it again. Exit
/// code 1 if any does.
#[derive(Debug, Args)]
pub struct SimFuzz {
    /// Which seeds: from A to below B
    #[arg(long, value_name = "A..B", value_parser = seeds)]
    pub seeds: Range<u64>,
    /// Seeds at once, which changes nothing but the time it takes [default: the number of cores]
    #[arg(long, value_name = "N")]
    pub jobs: Option<NonZeroUsize>,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

fn setting(text: &str) -> Result<Setting, String> {
    match text.split_once('=') {
        Some((path, values)) if !path.is_empty() && !values.is_empty() => Ok(Setting {
            path: path.to_owned(),
            values: values.split(',').map(|value| value.trim().to_owned()).collect(),
        }),
        _ => Err("expected KEY=A,B,C".to_owned()),
    }
}

fn seeds(text: &str) -> Result<Range<u64>, String> {
    let range = text.split_once("..").and_then(|(from, to)| {
        let (from, to): (u64, u64) = (from.parse().ok()?, to.parse().ok()?);
        (from < to && to - from <= SEEDS_MAX).then_some(from..to)
    });
    range.ok_or_else(|| format!("expected A..B, A below B, {SEEDS_MAX} seeds at most"))
}

/// How many page accesses a second the simulator of tiers looks up, on one core
///
/// Against a plain loop that reads a byte a page at the same random pages: the limit.
#[derive(Debug, Args)]
pub struct BenchSim {
    /// Accesses of each case in each round
    #[arg(
        long,
        value_name = "N",
        default_value_t = 200_000_000,
        value_parser = clap::value_parser!(u64).range(1_000_000..=100_000_000_000)
    )]
    pub accesses: u64,
    /// Programs of 1 TiB, too, in pages of 2 MiB and of 4 KiB, besides those of 4 GiB
    #[arg(long)]
    pub large: bool,
    #[command(flatten)]
    pub measured: Measured,
}
