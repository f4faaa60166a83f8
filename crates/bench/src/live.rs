//! A pool, the writer in it, its memory moved back and forth.

use std::{
    io::{self, BufRead, BufReader, Write},
    path::{Path, PathBuf},
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
    time::{Duration, Instant},
};

use memtide_sys::memfd::Pages;
use memtide_units::{ByteSize, PAGEBLOCK_BYTES};
use serde_json::Value;

use crate::{
    limits::Limits,
    report::{MoveReport, Round},
    writer::Phase,
};

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
    let pool = Pool::start(options)?;
    let mut writer = Writer::start(options, &pool)?;
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

/// A daemon of our own.
struct Pool {
    memtide: PathBuf,
    socket: PathBuf,
    daemon: Child,
}

impl Pool {
    fn start(options: &MoveOptions) -> io::Result<Self> {
        let socket = std::env::temp_dir().join(format!("memtide-bench-{}.sock", std::process::id()));
        let size = (options.bytes.0 + (64 << 20)).to_string();
        let daemon = Command::new(&options.memtide)
            .args(["serve", "--near", &size, "--far", &size, "--store", &options.store, "--socket"])
            .arg(&socket)
            .stdout(Stdio::null())
            .spawn()?;
        let pool = Self { memtide: options.memtide.clone(), socket, daemon };
        let until = Instant::now() + Duration::from_secs(10);
        while pool.memtide(&["status", "--json"]).is_err() {
            if Instant::now() > until {
                return Err(io::Error::other("the daemon does not answer"));
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(pool)
    }

    fn memtide(&self, arguments: &[&str]) -> io::Result<Value> {
        let output = Command::new(&self.memtide)
            .args(arguments)
            .arg("--socket")
            .arg(&self.socket)
            .stderr(Stdio::null())
            .output()?;
        // 3: partly done, which a move between two nodes may be for a moment.
        if !matches!(output.status.code(), Some(0 | 3)) {
            return Err(io::Error::other(format!("memtide {arguments:?}: {}", output.status)));
        }
        Ok(serde_json::from_slice(&output.stdout)?)
    }

    /// Pageblocks moved, nanoseconds spent moving, and populating.
    fn counters(&self, pid: u32) -> io::Result<(u64, u64, u64)> {
        let status = self.memtide(&["status", "--json"])?;
        let programs = status["programs"].as_array();
        let program = programs
            .and_then(|programs| programs.iter().find(|program| program["pid"] == pid))
            .ok_or_else(|| io::Error::other("the program is not in the pool"))?;
        let counter = |name: &str| program["counters"][name].as_u64().unwrap_or(0);
        Ok((counter("moved_pageblocks"), counter("moving_ns"), counter("populating_ns")))
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        let _ = self.daemon.kill();
        let _ = self.daemon.wait();
        let _ = std::fs::remove_file(&self.socket);
    }
}

/// The program whose memory is moved.
struct Writer {
    run: Child,
    pid: u32,
    orders: ChildStdin,
    answers: BufReader<ChildStdout>,
}

impl Writer {
    fn start(options: &MoveOptions, pool: &Pool) -> io::Result<Self> {
        let memtide: &Path = &options.memtide;
        let mut run = Command::new(memtide)
            .arg("run")
            .arg("--socket")
            .arg(&pool.socket)
            .arg("--")
            .arg(memtide)
            .args(["bench", "writer"])
            .arg(options.bytes.0.to_string())
            .arg(options.pause_ns.to_string())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let orders = run.stdin.take().ok_or(io::ErrorKind::BrokenPipe)?;
        let answers = BufReader::new(run.stdout.take().ok_or(io::ErrorKind::BrokenPipe)?);
        let mut writer = Self { run, pid: 0, orders, answers };
        let ready = writer.line()?;
        writer.pid = ready
            .trim()
            .strip_prefix("ready ")
            .and_then(|pid| pid.parse().ok())
            .ok_or_else(|| io::Error::other(format!("the writer says {ready:?}")))?;
        Ok(writer)
    }

    fn line(&mut self) -> io::Result<String> {
        let mut line = String::new();
        match self.answers.read_line(&mut line)? {
            0 => Err(io::ErrorKind::UnexpectedEof.into()),
            _ => Ok(line),
        }
    }

    /// Ends a phase.
    fn mark(&mut self) -> io::Result<Phase> {
        writeln!(self.orders, "mark")?;
        let line = self.line()?;
        Ok(serde_json::from_str(&line)?)
    }

    fn signal(&self, signal: &str) -> io::Result<()> {
        Command::new("kill").arg(signal).arg(self.pid.to_string()).status().map(drop)
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        let _ = self.signal("-KILL");
        let _ = self.run.wait();
    }
}
