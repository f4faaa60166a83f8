//! A pool for one program: a daemon in a thread of this process.

use std::{
    path::{Path, PathBuf},
    process::{Command, ExitCode, Stdio},
    thread::JoinHandle,
    time::{Duration, Instant},
};

use memtide_client::{is_served, paths};
use memtide_daemon::{Config, Daemon, RunError, StopHandle, Summary};

use crate::{
    arguments::Run,
    ask,
    commands::run::{child, reach, report, signals},
    failure::{Failure, chain},
};

/// How long the daemon has to find that nobody is left.
const TO_NOTICE: Duration = Duration::from_millis(500);
/// How long a process that was just forked has to make itself known.
const TO_JOIN: Duration = Duration::from_secs(3);
/// How long a daemon that takes over has to start.
const TO_START: Duration = Duration::from_secs(2);

pub fn run(options: &Run, library: &Path, config: Config) -> Result<ExitCode, Failure> {
    paths::prepare_directory_of(&config.socket)?;
    let program = reach::look(&options.command[0]);
    program.warn();
    let served = Served::start(config)?;
    let signals = signals::Forwarding::prepare()?;
    let ended = child::run(&options.command, library, &served.config.socket, None, signals);
    let summary = served.end()?;
    let ended = ended?;
    if summary.joined == 0 && program == reach::Reach::Fine {
        eprintln!(
            "memtide: the program never joined its pool: it ran on ordinary memory (did it clear \
             LD_PRELOAD?)"
        );
    }
    if options.report {
        report::own(&summary);
    }
    Ok(ended.exit_code())
}

/// A daemon in a thread.
struct Served {
    config: Config,
    stop: StopHandle,
    thread: JoinHandle<Result<Summary, RunError>>,
}

impl Served {
    fn start(config: Config) -> Result<Self, Failure> {
        let mut daemon = Daemon::bind(config.clone())?;
        daemon.on_notice(|notice| eprintln!("memtide: {notice}"));
        let stop = daemon.stop_handle();
        let thread =
            std::thread::Builder::new().name("daemon".to_owned()).spawn(move || daemon.run())?;
        Ok(Self { config, stop, thread })
    }

    /// Ends the daemon; if processes of the program are left, another one takes over.
    fn end(self) -> Result<Summary, Failure> {
        self.stop.stop_when_idle();
        let start = Instant::now();
        while !self.thread.is_finished() {
            let waited = start.elapsed();
            if waited > TO_JOIN || (waited > TO_NOTICE && self.somebody_is_left()) {
                break;
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        self.stop.stop();
        let summary = match self.thread.join() {
            Ok(summary) => summary.map_err(|error| Failure::Failed(chain(&error)))?,
            Err(panic) => std::panic::resume_unwind(panic),
        };
        if !summary.remaining.is_empty() {
            hand_over(&self.config, &summary);
        } else if let Some(path) = &self.config.state {
            // Capacity that had left need not stay away from a pool that is no more.
            let _ = std::fs::remove_file(path);
        }
        Ok(summary)
    }

    fn somebody_is_left(&self) -> bool {
        ask::status(&self.config.socket)
            .is_ok_and(|status| status.programs.iter().any(|program| program.connected))
    }
}

/// Starts a process that serves what is left of the program, and ends with it.
fn hand_over(config: &Config, summary: &Summary) {
    let pids: Vec<String> = summary.remaining.iter().map(u32::to_string).collect();
    if let Err(error) = start_successor(config) {
        eprintln!(
            "memtide: processes of the program live on (pid {}), but nobody could take their pool \
             over: {error}; they keep the memory that they have",
            pids.join(", ")
        );
    }
}

fn start_successor(config: &Config) -> std::io::Result<()> {
    use std::os::unix::process::CommandExt;
    let mut name = config.socket.clone().into_os_string();
    name.push(".toml");
    let file = PathBuf::from(name);
    std::fs::write(&file, config.to_toml())?;
    let mut command = Command::new(std::env::current_exe()?);
    command.arg("serve").arg("--config").arg(&file).arg("--until-idle");
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    // What is sent to the job of the program is not meant for it.
    command.process_group(0).current_dir("/").spawn()?;
    let start = Instant::now();
    while !is_served(&config.socket) && start.elapsed() < TO_START {
        std::thread::sleep(Duration::from_millis(5));
    }
    Ok(())
}
