//! `memtide bench frames`.

use std::{fs, path::Path, process::ExitCode};

use memtide_bench::frames::{
    By, Caches, Calls, CountOptions, Counted, FragOptions, FragReport, FramesError, Operation,
    Packing, Peer, Peers, ScaleRow, SpeedOptions, SpeedReport, bench_fragmentation, bench_scale,
    bench_speed, count, metadata_rows, node::BLOCK_FRAMES, scale_rows,
};
use memtide_units::{ByteSize, PAGE_BYTES};
use serde::Serialize;

use crate::{
    arguments::{BenchFrames, BenchFramesCount, ByKind, CachesKind, CallsKind, CountedKind, What},
    failure::Failure,
    output,
};

/// What was measured; what was not asked for is empty.
#[derive(Serialize)]
struct Report {
    speed: Option<SpeedReport>,
    frag: Vec<FragReport>,
    scale: Vec<ScaleRow>,
}

/// Measures and prints.
pub fn frames(options: &BenchFrames, progress: fn(u32, u32)) -> Result<ExitCode, Failure> {
    let operations = operations(options.what);
    let peers = peers(options, &operations)?;
    let peer_frag = match &options.peer_frag {
        Some(path) => Packing::parse(&read(path)?).map_err(|error| of_file(path, &error))?,
        None => Vec::new(),
    };
    let speed = if operations.is_empty() {
        None
    } else {
        Some(bench_speed(&speed_options(options, operations)?, progress).map_err(failed)?)
    };
    let report = Report { speed, frag: frag(options)?, scale: scale(options, progress)? };
    if let (Some(path), Some(speed)) = (&options.csv, &report.speed) {
        fs::write(path, speed.csv()).map_err(|error| of_file(path, &error))?;
    }
    if options.json {
        output::json(&report)?;
    } else {
        output::text(&text(&report, &peers, &peer_frag))?;
    }
    Ok(ExitCode::SUCCESS)
}

/// Calls, and nothing else.
pub fn frames_count(options: &BenchFramesCount) -> Result<ExitCode, Failure> {
    let what = match options.what {
        CountedKind::Repeat => Counted::Repeat,
        CountedKind::Take => Counted::Take,
        CountedKind::Bulk => Counted::Bulk,
        CountedKind::Shuffle => Counted::Shuffle,
        CountedKind::Rand => Counted::Rand,
    };
    let [by, ..] = by(options.by)[..] else { return Ok(ExitCode::SUCCESS) };
    let [caches, ..] = caches(options.caches)[..] else { return Ok(ExitCode::SUCCESS) };
    let (order, calls, calls_max) = (options.order, options.calls, options.calls_max);
    let frames = frames_of("calls", ByteSize(calls_max as u64 * order.bytes() + (1 << 30)))?;
    count(&CountOptions { what, order, by, caches, calls, calls_max, frames }).map_err(failed)?;
    Ok(ExitCode::SUCCESS)
}

fn operations(what: What) -> Vec<Operation> {
    match what {
        What::Bulk => vec![Operation::Bulk],
        What::Repeat => vec![Operation::Repeat],
        What::Rand => vec![Operation::Rand],
        What::Frag | What::Scale => Vec::new(),
        What::All => vec![Operation::Bulk, Operation::Repeat, Operation::Rand],
    }
}

fn caches(kind: CachesKind) -> Vec<Caches> {
    match kind {
        CachesKind::On => vec![Caches::On],
        CachesKind::Off => vec![Caches::Off],
        CachesKind::Both => vec![Caches::On, Caches::Off],
    }
}

fn by(kind: ByKind) -> Vec<By> {
    match kind {
        ByKind::Owned => vec![By::Owned],
        ByKind::Number => vec![By::Number],
        ByKind::Both => vec![By::Owned, By::Number],
    }
}

fn threads(options: &BenchFrames) -> Vec<u16> {
    if !options.threads.is_empty() {
        return options.threads.clone();
    }
    let all = std::thread::available_parallelism().map_or(1, |all| all.get().min(1024) as u16);
    if all > 1 { vec![1, all] } else { vec![1] }
}

/// Whole blocks of frames.
fn frames_of(name: &str, size: ByteSize) -> Result<u64, Failure> {
    if size.0 == 0 {
        return Err(Failure::Usage(format!("{name} is \"{size}\"; expected more than nothing")));
    }
    Ok(size.0.div_ceil(PAGE_BYTES).next_multiple_of(BLOCK_FRAMES))
}

fn speed_options(
    options: &BenchFrames,
    operations: Vec<Operation>,
) -> Result<SpeedOptions, Failure> {
    Ok(SpeedOptions {
        operations,
        threads: threads(options),
        orders: options.order.clone(),
        frames: frames_of("memory", options.memory)?,
        iterations: options.iterations,
        caches: caches(options.caches),
        by: by(options.by),
        calls: match options.calls {
            CallsKind::Indirect => Calls::Indirect,
            CallsKind::Direct => Calls::Direct,
        },
    })
}

fn frag(options: &BenchFrames) -> Result<Vec<FragReport>, Failure> {
    if !matches!(options.what, What::Frag | What::All) {
        return Ok(Vec::new());
    }
    let (frames, steps, seed) = (frames_of("memory", options.memory)?, options.steps, options.seed);
    let mut reports = Vec::new();
    for threads in threads(options) {
        for caches in caches(options.caches) {
            let options = FragOptions { threads, frames, steps, caches, seed };
            reports.push(bench_fragmentation(&options).map_err(failed)?);
        }
    }
    Ok(reports)
}

fn scale(options: &BenchFrames, progress: fn(u32, u32)) -> Result<Vec<ScaleRow>, Failure> {
    if !matches!(options.what, What::Scale | What::All) {
        return Ok(Vec::new());
    }
    bench_scale(frames_of("largest", options.largest)?, progress).map_err(failed)
}

/// The files of another allocator's figures, by operation.
fn peers(options: &BenchFrames, operations: &[Operation]) -> Result<Peers, Failure> {
    let mut peers = Peers::new();
    for text in &options.peer_csv {
        let named = text.split_once('=').and_then(|(name, path)| {
            let name = <What as clap::ValueEnum>::from_str(name, true).ok()?;
            let [operation] = self::operations(name)[..] else { return None };
            Some((operation, path))
        });
        let (operation, path) = match (named, operations) {
            (Some(named), _) => named,
            (None, &[operation]) => (operation, text.as_str()),
            (None, _) => {
                let expected = "expected bulk=FILE, repeat=FILE or rand=FILE";
                return Err(Failure::Usage(format!("peer-csv is {text:?}; {expected}")));
            }
        };
        let path = Path::new(path);
        let peer = Peer::parse(&read(path)?).map_err(|error| of_file(path, &error))?;
        peers.insert(operation, peer);
    }
    Ok(peers)
}

fn read(path: &Path) -> Result<String, Failure> {
    fs::read_to_string(path).map_err(|error| of_file(path, &error))
}

fn of_file(path: &Path, error: &dyn std::fmt::Display) -> Failure {
    Failure::Failed(format!("{}: {error}", path.display()))
}

fn failed(error: FramesError) -> Failure {
    match error {
        FramesError::TooSmall { .. } | FramesError::Layout(_) => Failure::Usage(error.to_string()),
        _ => Failure::failed(error),
    }
}

fn text(report: &Report, peers: &Peers, peer_frag: &[Packing]) -> String {
    let mut text = String::new();
    if let Some(speed) = &report.speed {
        let memory = ByteSize(speed.frames * PAGE_BYTES);
        let (iterations, calls) = (speed.iterations, speed.calls);
        text += &format!(
            "{memory}, {iterations} iterations, {} calls; nanoseconds: median (least–most)\n",
            match calls {
                Calls::Indirect => "indirect",
                Calls::Direct => "direct",
            }
        );
        text += &output::table(&speed.rows(peers));
    }
    for frag in &report.frag {
        text += &format!("\n{}\n", frag.title());
        text += &output::table(&frag.rows(peer_frag));
        text += &output::table(&frag.compaction_rows());
    }
    if !report.scale.is_empty() {
        text += "\nscale: all blocks of each node added, nothing of its memory mapped\n";
        text += &output::table(&metadata_rows(&report.scale));
        text += "\nscale: nanoseconds a call, with all free, and with all but 1 GiB taken\n";
        text += &output::table(&scale_rows(&report.scale));
    }
    text.trim_start().to_owned()
}
