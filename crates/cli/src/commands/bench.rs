//! `memtide bench`.

use std::{
    io::{self, IsTerminal, Write},
    process::ExitCode,
};

use clap::ValueEnum;
use memtide_bench::{
    FabricOptions, GiveBackOptions, MoveOptions, OverheadOptions, bench_fabric, bench_give_back,
    bench_move, bench_overhead, churn,
    simulator::{SimulatorOptions, bench_simulator},
    writer,
};
use memtide_sim::tiering::probe::Paged;
use serde::Serialize;

use crate::{
    arguments::{BenchFabric, BenchGiveBack, BenchMove, BenchRun, BenchSim, BenchWhat, StoreKind},
    commands::bench_frames,
    failure::Failure,
    library, output,
};

pub fn bench(what: BenchWhat) -> Result<ExitCode, Failure> {
    match what {
        BenchWhat::Move(options) => moves(&options),
        BenchWhat::GiveBack(options) => give_back(&options),
        BenchWhat::Run(options) => run(options),
        BenchWhat::Fabric(options) => fabric(&options),
        BenchWhat::Frames(options) => bench_frames::frames(&options, progress),
        BenchWhat::FramesCount(options) => bench_frames::frames_count(&options),
        BenchWhat::Sim(options) => simulator(&options),
        BenchWhat::Writer { bytes, pause_ns } => {
            let bytes = usize::try_from(bytes).map_err(Failure::failed)?;
            writer::run(bytes, pause_ns)?;
            Ok(ExitCode::SUCCESS)
        }
        BenchWhat::Churn { rounds } => {
            output::text(&format!("{}\n", churn::run(rounds)))?;
            Ok(ExitCode::SUCCESS)
        }
    }
}

fn moves(options: &BenchMove) -> Result<ExitCode, Failure> {
    let options_of_bench = MoveOptions {
        memtide: std::env::current_exe()?,
        store: name(options.store),
        bytes: options.size,
        rounds: options.measured.rounds,
        seconds: options.seconds,
        pause_ns: options.pause_ns,
    };
    let report = bench_move(&options_of_bench, progress).map_err(Failure::failed)?;
    print(options.measured.json, &report, || report.table())
}

fn give_back(options: &BenchGiveBack) -> Result<ExitCode, Failure> {
    let options_of_bench = GiveBackOptions {
        memtide: std::env::current_exe()?,
        store: name(options.store),
        bytes: options.size,
        rounds: options.measured.rounds,
    };
    let report = bench_give_back(&options_of_bench, progress).map_err(Failure::failed)?;
    print(options.measured.json, &report, || report.table())
}

fn fabric(options: &BenchFabric) -> Result<ExitCode, Failure> {
    let options_of_bench = FabricOptions {
        memtide: std::env::current_exe()?,
        bytes: options.size,
        rounds: options.measured.rounds,
    };
    let report = bench_fabric(&options_of_bench, progress).map_err(Failure::failed)?;
    print(options.measured.json, &report, || report.table())
}

fn run(options: BenchRun) -> Result<ExitCode, Failure> {
    let memtide = std::env::current_exe()?;
    let command = if options.command.is_empty() {
        let worker = [memtide.as_os_str(), "bench".as_ref(), "churn".as_ref(), "20".as_ref()];
        worker.map(ToOwned::to_owned).to_vec()
    } else {
        options.command
    };
    let options_of_bench = OverheadOptions {
        memtide,
        library: library::find().map_err(Failure::Failed)?,
        command,
        near: options.near,
        store: name(options.store),
        rounds: options.measured.rounds,
    };
    let report = bench_overhead(&options_of_bench, progress).map_err(Failure::failed)?;
    print(options.measured.json, &report, || report.table())
}

fn simulator(options: &BenchSim) -> Result<ExitCode, Failure> {
    const SMALL: u64 = 4 << 10;
    const HUGE: u64 = 2 << 20;
    let mut memories = vec![Paged { pages: 1 << 20, page_bytes: SMALL }];
    if options.large {
        memories.push(Paged { pages: 1 << 19, page_bytes: HUGE });
        memories.push(Paged { pages: 1 << 28, page_bytes: SMALL });
    }
    let (rounds, accesses) = (options.measured.rounds, options.accesses);
    let options_of_bench = SimulatorOptions { rounds, accesses, memories };
    let report = bench_simulator(&options_of_bench, progress).map_err(Failure::failed)?;
    print(options.measured.json, &report, || output::table(&report.rows()))
}

/// The name by which `--store` knows it.
fn name(store: StoreKind) -> String {
    store.to_possible_value().map_or_else(String::new, |value| value.get_name().to_owned())
}

/// One line that changes, on a terminal.
fn progress(done: u32, of: u32) {
    let mut err = io::stderr();
    if err.is_terminal() {
        let end = if done == of { "\r\x1b[K" } else { "" };
        // Progress that cannot be shown is no reason to stop.
        let _ = write!(err, "\rround {done} of {of}{end}");
    }
}

fn print(
    json: bool,
    report: &impl Serialize,
    table: impl FnOnce() -> String,
) -> Result<ExitCode, Failure> {
    if json {
        output::json(report)?;
    } else {
        output::text(&table())?;
    }
    Ok(ExitCode::SUCCESS)
}
