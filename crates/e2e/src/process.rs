//! A child process that cannot hang a test.
//!
//! It leads a process group of its own; its output is collected line by line; every wait has a
//! deadline, and a child that misses one is killed with its group and its output printed.

use std::{
    io::{BufRead, BufReader, Read, Write},
    process::{Child, ChildStdin, Command, ExitStatus, Stdio},
    sync::{Arc, Condvar, Mutex},
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use std::os::unix::process::CommandExt;

use rustix::process::{Pid, Signal, kill_process, kill_process_group};

#[derive(Default)]
struct Output {
    lines: Mutex<Vec<String>>,
    grown: Condvar,
}

impl Output {
    fn collect(self: &Arc<Self>, from: impl Read + Send + 'static) -> JoinHandle<()> {
        let output = Arc::clone(self);
        thread::spawn(move || {
            let mut from = BufReader::new(from);
            let mut line = Vec::new();
            while from.read_until(b'\n', &mut line).is_ok_and(|n| n > 0) {
                let text = String::from_utf8_lossy(&line).trim_end().to_owned();
                output.lines.lock().expect("no panic under this lock").push(text);
                output.grown.notify_all();
                line.clear();
            }
        })
    }

    fn all(&self) -> String {
        self.lines.lock().expect("no panic under this lock").join("\n")
    }
}

/// A child process.
pub struct Running {
    what: String,
    child: Child,
    stdin: Option<ChildStdin>,
    output: Arc<Output>,
    errors: Arc<Output>,
    collectors: [JoinHandle<()>; 2],
    seen: usize,
}

/// How a child process ended.
#[derive(Debug)]
pub struct Finished {
    /// What it was.
    pub what: String,
    /// Its status.
    pub status: ExitStatus,
    /// What it printed.
    pub stdout: String,
    /// What it complained about.
    pub stderr: String,
}

impl Running {
    /// Starts it.
    ///
    /// # Panics
    /// If it cannot be started.
    #[must_use]
    pub fn start(command: &mut Command) -> Self {
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command.process_group(0);
        let what = format!("{command:?}");
        let mut child = command.spawn().unwrap_or_else(|e| panic!("starting {what}: {e}"));
        let (output, errors) = (Arc::new(Output::default()), Arc::new(Output::default()));
        let collectors = [
            output.collect(child.stdout.take().expect("a pipe")),
            errors.collect(child.stderr.take().expect("a pipe")),
        ];
        let stdin = child.stdin.take();
        Self { what, child, stdin, output, errors, collectors, seen: 0 }
    }

    /// Its process number.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Whether it still runs.
    pub fn is_running(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    /// Writes one line to its standard input.
    ///
    /// # Panics
    /// If it no longer reads.
    pub fn send(&mut self, line: &str) {
        let stdin = self.stdin.as_mut().expect("standard input is open");
        writeln!(stdin, "{line}").unwrap_or_else(|e| panic!("{}: writing {line}: {e}", self.what));
    }

    /// Closes its standard input.
    pub fn close_stdin(&mut self) {
        self.stdin = None;
    }

    /// Sends a signal to it alone.
    pub fn signal(&self, signal: Signal) {
        if let Some(pid) = Pid::from_raw(self.pid().cast_signed()) {
            let _ = kill_process(pid, signal);
        }
    }

    /// Kills it and its group.
    pub fn kill(&mut self) {
        if let Some(pid) = Pid::from_raw(self.pid().cast_signed()) {
            let _ = kill_process_group(pid, Signal::KILL);
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// The next line of its output that starts with `prefix`.
    ///
    /// # Panics
    /// If none comes in time, or it ends before.
    pub fn expect_line(&mut self, prefix: &str, within: Duration) -> String {
        let deadline = Instant::now() + within;
        let output = Arc::clone(&self.output);
        let mut lines = output.lines.lock().expect("no panic under this lock");
        loop {
            while self.seen < lines.len() {
                self.seen += 1;
                if lines[self.seen - 1].starts_with(prefix) {
                    return lines[self.seen - 1].clone();
                }
            }
            let ended = !self.is_running();
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() || ended {
                drop(lines);
                if ended {
                    self.collect_the_rest();
                    lines = output.lines.lock().expect("no panic under this lock");
                    if self.seen < lines.len() {
                        continue;
                    }
                    drop(lines);
                }
                self.give_up(&format!("no line {prefix:?} within {within:?} (ended: {ended})"));
            }
            let slice = left.min(Duration::from_millis(50));
            lines = output.grown.wait_timeout(lines, slice).expect("no panic under this lock").0;
        }
    }

    /// Sends a command line to the `filler` program and waits for its answer.
    ///
    /// # Panics
    /// If the answer is not `OK`.
    pub fn ask(&mut self, command: &str, within: Duration) -> String {
        self.send(command);
        let verb = command.split(' ').next().unwrap_or(command);
        self.expect_line(&format!("OK {verb}"), within)
    }

    /// Waits for its end.
    ///
    /// # Panics
    /// If it does not end in time.
    #[must_use]
    pub fn finish(mut self, within: Duration) -> Finished {
        let deadline = Instant::now() + within;
        let status = loop {
            if let Some(status) = self.child.try_wait().expect("waiting for a child") {
                break status;
            }
            if Instant::now() >= deadline {
                self.give_up(&format!("still running after {within:?}"));
            }
            thread::sleep(Duration::from_millis(5));
        };
        self.collect_the_rest();
        Finished {
            what: std::mem::take(&mut self.what),
            status,
            stdout: self.output.all(),
            stderr: self.errors.all(),
        }
    }

    /// What it printed last may still be on its way. But a daemonized child may hold the pipes
    /// open: what came within two seconds must do.
    fn collect_the_rest(&self) {
        let deadline = Instant::now() + Duration::from_secs(2);
        while !self.collectors.iter().all(JoinHandle::is_finished) && Instant::now() < deadline {
            thread::sleep(Duration::from_millis(2));
        }
    }

    fn give_up(&mut self, why: &str) -> ! {
        let threads = where_threads_sleep(self.pid());
        self.kill();
        panic!(
            "{}: {why}\n--- stdout\n{}\n--- stderr\n{}\n--- threads\n{threads}",
            self.what,
            self.output.all(),
            self.errors.all()
        );
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.kill();
    }
}

/// What each thread of a process group's processes waits for: the first thing to know of a hang.
fn where_threads_sleep(group: u32) -> String {
    let mut text = String::new();
    for process in std::fs::read_dir("/proc").into_iter().flatten().flatten() {
        let path = process.path();
        let Ok(stat) = std::fs::read_to_string(path.join("stat")) else { continue };
        let Some((_, rest)) = stat.rsplit_once(") ") else { continue };
        if rest.split(' ').nth(2) != Some(&group.to_string()) {
            continue;
        }
        for task in std::fs::read_dir(path.join("task")).into_iter().flatten().flatten() {
            let read = |name: &str| {
                let text = std::fs::read_to_string(task.path().join(name)).unwrap_or_default();
                text.lines().next().unwrap_or_default().to_owned()
            };
            text += &format!(
                "{} {} wchan={} syscall={}\n",
                task.path().display(),
                read("comm"),
                read("wchan"),
                read("syscall")
            );
        }
    }
    text
}

impl Finished {
    /// Checks that a proof program passed.
    ///
    /// # Panics
    /// If it did not.
    pub fn assert_pass(&self) {
        self.assert_success();
        assert!(
            self.stdout.lines().any(|line| line.starts_with("VERDICT PASS")),
            "{}: no verdict\n{}\n{}",
            self.what,
            self.stdout,
            self.stderr
        );
    }

    /// Checks that it ended with exit code 0.
    ///
    /// # Panics
    /// If it did not.
    pub fn assert_success(&self) {
        assert!(
            self.status.success(),
            "{} ended with {}\n--- stdout\n{}\n--- stderr\n{}",
            self.what,
            self.status,
            self.stdout,
            self.stderr
        );
    }

    /// The number behind `name=` in its output.
    ///
    /// # Panics
    /// If there is none.
    #[must_use]
    pub fn number(&self, name: &str) -> f64 {
        let key = format!("{name}=");
        let word = self.stdout.split_whitespace().rev().find_map(|word| word.strip_prefix(&key));
        word.and_then(|text| text.parse().ok())
            .unwrap_or_else(|| panic!("{}: no {key} in\n{}", self.what, self.stdout))
    }
}
