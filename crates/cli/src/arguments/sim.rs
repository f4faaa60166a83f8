//! The command line of `memtide sim`.

use std::{num::NonZeroUsize, path::PathBuf};

use clap::{Args, Subcommand};

/// Ask the rules what they do to terabytes, without any
#[derive(Debug, Args)]
pub struct Sim {
    #[command(subcommand)]
    pub what: SimWhat,
}

#[derive(Debug, Subcommand)]
pub enum SimWhat {
    Run(SimRun),
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
