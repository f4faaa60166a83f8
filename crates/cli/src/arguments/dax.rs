//! `memtide dax`.

use std::time::Duration;

use clap::{Args, Subcommand, ValueEnum};

use super::memory::{Change, OnlineHow};

/// Say whose a dax device is
#[derive(Debug, Args)]
pub struct Dax {
    #[command(subcommand)]
    pub what: DaxWhat,
}

#[derive(Debug, Subcommand)]
pub enum DaxWhat {
    Mode(DaxModeOptions),
}

/// Make a dax device memory of a node, or one that programs map whole
///
/// With --zone or --policy its blocks go online where that says; without, the kernel does with them
/// what it is set up for. To devdax, its blocks go offline first, all or none.
#[derive(Debug, Args)]
pub struct DaxModeOptions {
    /// Which: dax0.0
    #[arg(value_name = "DEVICE")]
    pub device: String,
    /// What it is to be
    #[arg(value_enum, value_name = "MODE")]
    pub mode: DaxModeKind,
    /// Take its blocks online, by the policy that the kernel is set up for unless --zone or
    /// --policy says otherwise
    #[arg(long)]
    pub online: bool,
    #[command(flatten)]
    pub how: OnlineHow,
    /// How long to try to take each block offline: 500ms, 30s, 2m
    #[arg(long, value_name = "TIME", default_value = "30s",
          value_parser = memtide_daemon::duration::parse)]
    pub deadline: Duration,
    #[command(flatten)]
    pub change: Change,
}

/// What a dax device is good for.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
pub enum DaxModeKind {
    /// Memory of a node
    SystemRam,
    /// A device that programs map
    Devdax,
}
