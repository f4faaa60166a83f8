//! How fast capacity comes back.

use std::{
    io,
    os::fd::AsFd,
    path::PathBuf,
    time::{Duration, Instant},
};

use memtide_sys::memfd::{self, Pages};
use memtide_units::ByteSize;
use serde::Serialize;

use crate::{
    pool::{Pool, Writer},
    report::median,
};

/// What to measure.
#[derive(Clone, Debug)]
pub struct GiveBackOptions {
    /// The `memtide` command.
    pub memtide: PathBuf,
    /// `memfd`, `memfd-thp` or `hugetlb`.
    pub store: String,
    /// Bytes that come back.
    pub bytes: ByteSize,
    /// How often.
    pub rounds: u32,
}

/// What was found; medians. Rates in bytes a second, times in seconds.
#[derive(Clone, Debug, Serialize)]
pub struct GiveBackReport {
    /// Punching holes into a file full of memory.
    pub raw_punch: f64,
    /// Memory that nobody uses, as the operator's command sees it.
    pub unused: f64,
    /// The first 64 MiB of it.
    pub first_64_mib_s: f64,
    /// Starting the command and asking the daemon for its status: what no give-back can beat.
    pub command_s: f64,
    /// Memory in use by a program that writes to it: moved away first.
    pub occupied: f64,
    /// The daemon's own memory, in bytes.
    pub daemon_rss: u64,
    /// What it manages.
    pub managed: u64,
    /// Processor time that the daemon used in a quiet second.
    pub daemon_idle_s: f64,
}

impl GiveBackReport {
    /// The table that people read.
    #[must_use]
    pub fn table(&self) -> String {
        format!(
            "raw hole punch               {:>8.2} GB/s\n\
             unused memory                {:>8.2} GB/s  {:>6.2} of the punch\n\
             first 64 MiB                 {:>8.2} ms    (the command alone: {:.2} ms)\n\
             memory in use, moved away    {:>8.2} GB/s\n\
             the daemon's own memory      {:>8.2} MiB   {:>6.3} % of {} MiB\n\
             the daemon's time when idle  {:>8.2} ms a second\n",
            self.raw_punch / 1e9,
            self.unused / 1e9,
            self.unused / self.raw_punch,
            self.first_64_mib_s * 1e3,
            self.command_s * 1e3,
            self.occupied / 1e9,
            self.daemon_rss as f64 / f64::from(1 << 20),
            100.0 * self.daemon_rss as f64 / self.managed as f64,
            self.managed >> 20,
            self.daemon_idle_s * 1e3,
        )
    }
}

/// Measures.
///
/// # Errors
/// The pool or the program could not be started, or memory did not come back.
pub fn bench_give_back(
    options: &GiveBackOptions,
    mut progress: impl FnMut(u32, u32),
) -> io::Result<GiveBackReport> {
    let pages = if options.store == "hugetlb" { Pages::Huge2M } else { Pages::Small };
    let node = ByteSize(options.bytes.0 * 2);
    let pool = Pool::start(&options.memtide, &options.store, node)?;
    let mut rounds: [Vec<f64>; 5] = Default::default();
    for round in 0..options.rounds {
        progress(round, options.rounds);
        rounds[0].push(options.bytes.0 as f64 / punch(options.bytes, pages)?);
        rounds[1].push(seconds(|| pool.memtide(&["status", "--json"]).map(drop))?);
        rounds[2].push(take_and_put(&pool, ByteSize(64 << 20))?);
        rounds[3].push(options.bytes.0 as f64 / take_and_put(&pool, options.bytes)?);
        let mut writer = Writer::start(&pool, options.bytes, 1000)?;
        writer.mark()?;
        // More than is free: the program's memory has to move.
        rounds[4].push(node.0 as f64 / 2.0 / take_and_put(&pool, node)?);
        if writer.mark()?.lost > 0 {
            return Err(io::Error::other("a write was lost"));
        }
        drop(writer);
        wait_until_free(&pool)?;
    }
    progress(options.rounds, options.rounds);
    let before = processor_time(pool.daemon.id())?;
    std::thread::sleep(Duration::from_secs(2));
    let idle = processor_time(pool.daemon.id())? - before;
    Ok(GiveBackReport {
        raw_punch: median(&rounds[0]),
        command_s: median(&rounds[1]),
        first_64_mib_s: median(&rounds[2]),
        unused: median(&rounds[3]),
        occupied: median(&rounds[4]),
        daemon_rss: resident(pool.daemon.id())?,
        managed: node.0 * 2,
        daemon_idle_s: idle / 2.0,
    })
}

pub(crate) fn seconds(work: impl FnOnce() -> io::Result<()>) -> io::Result<f64> {
    let start = Instant::now();
    work()?;
    Ok(start.elapsed().as_secs_f64())
}

/// Seconds that it takes to punch out so much of a file.
pub(crate) fn punch(bytes: ByteSize, pages: Pages) -> io::Result<f64> {
    let file = memfd::create("memtide-bench", bytes.0, pages)?;
    let arena = memtide_sys::Arena::reserve_exactly(usize::try_from(bytes.0).unwrap_or(0))?;
    let how =
        (memtide_sys::Sharing::Shared, memtide_sys::Populate::Now, memtide_sys::HugePages::Default);
    arena.map_file(arena.range(), file.as_fd(), 0, memtide_sys::Prot::READ_WRITE, how)?;
    arena.reserve_again(arena.range())?;
    seconds(|| Ok(memfd::punch_hole(file.as_fd(), 0, bytes.0)?))
}

/// Seconds that a give-back from the near node takes; all must come. It is put back afterwards.
fn take_and_put(pool: &Pool, bytes: ByteSize) -> io::Result<f64> {
    let size = bytes.0.to_string();
    let start = Instant::now();
    let report = pool.memtide(&["give-back", &size, "--from", "near", "--json"])?;
    let taken = start.elapsed().as_secs_f64();
    if report["remaining"] != 0 {
        return Err(io::Error::other(format!("not all came back: {report}")));
    }
    pool.memtide(&["add", &size, "--to", "near", "--json"])?;
    Ok(taken)
}

fn wait_until_free(pool: &Pool) -> io::Result<()> {
    let until = Instant::now() + Duration::from_secs(20);
    while Instant::now() < until {
        let status = pool.memtide(&["status", "--json"])?;
        let nodes = status["nodes"].as_array();
        if nodes.is_some_and(|nodes| nodes.iter().all(|node| node["leased"] == 0)) {
            return Ok(());
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    Err(io::Error::other("memory of a program that ended is still leased"))
}

/// Seconds of processor time that a process has used.
fn processor_time(pid: u32) -> io::Result<f64> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/schedstat"))?;
    let nanoseconds: f64 = stat
        .split_ascii_whitespace()
        .next()
        .and_then(|word| word.parse().ok())
        .ok_or(io::ErrorKind::InvalidData)?;
    Ok(nanoseconds / 1e9)
}

/// Bytes of memory that a process itself has.
fn resident(pid: u32) -> io::Result<u64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
    let kib: u64 = status
        .lines()
        .find_map(|line| line.strip_prefix("RssAnon:"))
        .and_then(|rest| rest.trim().trim_end_matches(" kB").parse().ok())
        .ok_or(io::ErrorKind::InvalidData)?;
    Ok(kib << 10)
}
