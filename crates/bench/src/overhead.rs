//! What it costs a program to run under memtide, all memory near: the same command under the same
//! allocator, with and without a pool, in turn.

use std::{
    ffi::OsString,
    io,
    path::PathBuf,
    process::{Command, Stdio},
    time::Instant,
};

use memtide_units::ByteSize;
use serde::Serialize;

use crate::{pool::Pool, report::median};

/// What to measure.
#[derive(Clone, Debug)]
pub struct OverheadOptions {
    /// The `memtide` command.
    pub memtide: PathBuf,
    /// The preload library: without a pool it is just the allocator.
    pub library: PathBuf,
    /// The command to run.
    pub command: Vec<OsString>,
    /// Size of the near node.
    pub near: ByteSize,
    /// `memfd`, `memfd-thp` or `hugetlb`.
    pub store: String,
    /// How often, each way.
    pub rounds: u32,
}

/// What was found.
#[derive(Clone, Debug, Serialize)]
pub struct OverheadReport {
    /// Seconds without a pool, each round.
    pub without_s: Vec<f64>,
    /// Seconds with one.
    pub with_s: Vec<f64>,
}

impl OverheadReport {
    /// Median of the ratios of each pair of runs.
    #[must_use]
    pub fn ratio(&self) -> f64 {
        let ratios: Vec<f64> =
            self.with_s.iter().zip(&self.without_s).map(|(with, without)| with / without).collect();
        median(&ratios)
    }

    /// The table that people read.
    #[must_use]
    pub fn table(&self) -> String {
        format!(
            "same allocator, no pool  {:>8.3} s\nin a pool, all near      {:>8.3} s  {:>6.3}\n",
            median(&self.without_s),
            median(&self.with_s),
            self.ratio(),
        )
    }
}

/// Measures.
///
/// # Errors
/// The pool or the command could not be started, or the command failed.
pub fn bench_overhead(
    options: &OverheadOptions,
    mut progress: impl FnMut(u32, u32),
) -> io::Result<OverheadReport> {
    let pool = Pool::start(&options.memtide, &options.store, options.near)?;
    let mut report = OverheadReport { without_s: Vec::new(), with_s: Vec::new() };
    // The first pair warms caches and the memory itself.
    for round in 0..=options.rounds {
        progress(round, options.rounds);
        let without = timed(options, None)?;
        let with = timed(options, Some(&pool))?;
        if round > 0 {
            report.without_s.push(without);
            report.with_s.push(with);
        }
    }
    Ok(report)
}

fn timed(options: &OverheadOptions, pool: Option<&Pool>) -> io::Result<f64> {
    let (program, arguments) =
        options.command.split_first().ok_or_else(|| io::Error::other("no command to run"))?;
    let mut command = Command::new(program);
    command.args(arguments).env("LD_PRELOAD", &options.library).stdout(Stdio::null());
    match pool {
        Some(pool) => command.env("MEMTIDE_SOCKET", &pool.socket).env("MEMTIDE_REQUIRED", "1"),
        None => command.env_remove("MEMTIDE_SOCKET"),
    };
    let start = Instant::now();
    let status = command.status()?;
    let seconds = start.elapsed().as_secs_f64();
    if status.success() { Ok(seconds) } else { Err(io::Error::other(format!("{status}"))) }
}
