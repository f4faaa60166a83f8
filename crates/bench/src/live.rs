//! A pool, the writer in it, its memory moved back and forth.

use std::{
    io,
    path::PathBuf,
    time::{Duration, Instant},
};

use memtide_sys::memfd::Pages;
use memtide_units::{ByteSize, PAGEBLOCK_BYTES};

use crate::{
    limits::Limits,
    pool::{Pool, Writer},
    report::{MoveReport, Round},
};

/// Room in each node beside the program's memory.
const SPARE: u64 = 64 << 20;

/// What to measure.
#[derive(Clone, Debug)]
pub struct MoveOptions {
    /// The `memtide` command.
    pub memtide: PathBuf,
    /// `memfd`, `memfd-thp` or `hugetlb`.
    pub store: String,
    /// Bytes of the program.
    pub bytes: ByteSize,
    /// How often everything is measured.
    pub rounds: u32,
    /// How long memory moves in each round.
    pub seconds: u64,
    /// What the program does between two accesses.
    pub pause_ns: u64,
}

/// Measures.
///
/// # Errors
/// The pool or the program could not be started, or did not answer; a write was lost.
pub fn bench_move(
    options: &MoveOptions,
    mut progress: impl FnMut(u32, u32),
) -> io::Result<MoveReport> {
    let pages = if options.store == "hugetlb" { Pages::Huge2M } else { Pages::Small };
    let blocks = (options.bytes.0 / PAGEBLOCK_BYTES / 4).clamp(1, 128) as usize;
    let size = ByteSize(options.bytes.0 + SPARE);
    let pool = Pool::start(&options.memtide, &options.store, size)?;
    let mut writer = Writer::start(&pool, options.bytes, options.pause_ns)?;
    let mut rounds = Vec::new();
    for round in 0..options.rounds {
        progress(round, options.rounds);
        // The limits want a quiet machine: the writer stops meanwhile.
        writer.signal("-STOP")?;
        let limits = Limits::new(blocks, pages)?;
        let plain_copy = limits.plain_copy()?;
        let naive_move = limits.naive_move()?;
        drop(limits);
        writer.signal("-CONT")?;
        rounds.push(live_round(options, &pool, &mut writer, plain_copy, naive_move)?);
    }
    progress(options.rounds, options.rounds);
    Ok(MoveReport {
        store: options.store.clone(),
        bytes: options.bytes.0,
        pause_ns: options.pause_ns,
        rounds,
    })
}

fn live_round(
    options: &MoveOptions,
    pool: &Pool,
    writer: &mut Writer,
    plain_copy: f64,
    naive_move: f64,
) -> io::Result<Round> {
    writer.mark()?;
    std::thread::sleep(Duration::from_secs(1));
    let quiet = writer.mark()?;
    let before = pool.counters(writer.pid)?;
    let start = Instant::now();
    let mut to = ["far", "near"].into_iter().cycle();
    while start.elapsed() < Duration::from_secs(options.seconds) {
        let Some(node) = to.next() else { break };
        let pid = writer.pid.to_string();
        pool.memtide(&["move", "--pid", &pid, "--to", node, "--json"])?;
    }
    let wall = start.elapsed().as_secs_f64();
    let moving = writer.mark()?;
    // The program tells its counters every half second.
    std::thread::sleep(Duration::from_secs(1));
    let after = pool.counters(writer.pid)?;
    if quiet.lost + moving.lost > 0 {
        return Err(io::Error::other(format!("{} writes lost", quiet.lost + moving.lost)));
    }
    let bytes = ((after.0 - before.0) * PAGEBLOCK_BYTES) as f64;
    let nanoseconds = |time: Duration| u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
    Ok(Round {
        plain_copy,
        naive_move,
        live_move: bytes / ((after.1 - before.1) as f64 / 1e9),
        live_populated: bytes / ((after.1 - before.1 + after.2 - before.2) as f64 / 1e9),
        end_to_end: bytes / wall,
        quiet_accesses: quiet.accesses as f64 / quiet.seconds,
        moving_accesses: moving.accesses as f64 / moving.seconds,
        quiet_p99999_ns: nanoseconds(quiet.histogram.quantile(0.99999)),
        quiet_max_ns: nanoseconds(quiet.histogram.max()),
        moving_p99999_ns: nanoseconds(moving.histogram.quantile(0.99999)),
        moving_max_ns: nanoseconds(moving.histogram.max()),
    })
}
