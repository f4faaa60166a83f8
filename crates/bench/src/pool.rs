//! A daemon of the benchmark's own, and the writer in its pool.

use std::{
    io::{self, BufRead, BufReader, Write},
    path::{Path, PathBuf},
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
    time::{Duration, Instant},
};

use memtide_units::ByteSize;
use serde_json::Value;

use crate::writer::Phase;

/// How long a server may take until it answers, on a machine that does other things besides.
pub(crate) const START_WITHIN: Duration = Duration::from_secs(60);

/// A daemon of our own.
#[derive(Debug)]
pub struct Pool {
    memtide: PathBuf,
    /// Where it listens.
    pub socket: PathBuf,
    /// The daemon.
    pub daemon: Child,
}

impl Pool {
    /// Starts it with two nodes of the same size, and waits until it answers.
    ///
    /// # Errors
    /// It cannot be started.
    pub fn start(memtide: &Path, store: &str, node: ByteSize) -> io::Result<Self> {
        let socket =
            std::env::temp_dir().join(format!("memtide-bench-{}.sock", std::process::id()));
        let size = node.0.to_string();
        Self::serve(memtide, socket, &["--near", &size, "--far", &size, "--store", store])
    }

    /// Starts `memtide serve` with these arguments, and waits until it answers.
    ///
    /// # Errors
    /// It cannot be started.
    pub fn serve(memtide: &Path, socket: PathBuf, arguments: &[&str]) -> io::Result<Self> {
        let daemon = Command::new(memtide)
            .arg("serve")
            .args(arguments)
            .arg("--socket")
            .arg(&socket)
            .stdout(Stdio::null())
            .spawn()?;
        let pool = Self { memtide: memtide.to_owned(), socket, daemon };
        let until = Instant::now() + START_WITHIN;
        while pool.memtide(&["status", "--json"]).is_err() {
            if Instant::now() > until {
                return Err(io::Error::other("the daemon does not answer"));
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(pool)
    }

    /// Runs `memtide` with these arguments, and reads the JSON that it prints.
    ///
    /// # Errors
    /// It failed.
    pub fn memtide(&self, arguments: &[&str]) -> io::Result<Value> {
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
    ///
    /// # Errors
    /// The program is not in the pool.
    pub fn counters(&self, pid: u32) -> io::Result<(u64, u64, u64)> {
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
#[derive(Debug)]
pub struct Writer {
    run: Child,
    /// Its process.
    pub pid: u32,
    orders: ChildStdin,
    answers: BufReader<ChildStdout>,
}

impl Writer {
    /// Starts it in the pool and waits until its memory is there.
    ///
    /// # Errors
    /// It cannot be started.
    pub fn start(pool: &Pool, bytes: ByteSize, pause_ns: u64) -> io::Result<Self> {
        let mut run = Command::new(&pool.memtide)
            .arg("run")
            .arg("--socket")
            .arg(&pool.socket)
            .arg("--")
            .arg(&pool.memtide)
            .args(["bench", "writer"])
            .arg(bytes.0.to_string())
            .arg(pause_ns.to_string())
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
    ///
    /// # Errors
    /// It is gone.
    pub fn mark(&mut self) -> io::Result<Phase> {
        writeln!(self.orders, "mark")?;
        let line = self.line()?;
        Ok(serde_json::from_str(&line)?)
    }

    /// Sends it a signal.
    ///
    /// # Errors
    /// `kill` cannot be run.
    pub fn signal(&self, signal: &str) -> io::Result<()> {
        Command::new("kill").arg(signal).arg(self.pid.to_string()).status().map(drop)
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        let _ = self.signal("-KILL");
        let _ = self.run.wait();
    }
}
