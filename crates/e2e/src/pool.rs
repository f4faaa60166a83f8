//! A daemon on a socket of its own, and what an operator does with it.

use std::{
    fs,
    os::unix::fs::{MetadataExt, PermissionsExt},
    path::{Path, PathBuf},
    process::Command,
    time::{Duration, Instant},
};

use rustix::process::Signal;
use serde::de::DeserializeOwned;

use crate::{
    MIB, Machine, artifacts, machine,
    process::{Finished, Running},
    report::{Decision, Device, Report, Status, Tenant},
};

/// How long any single command may take.
const COMMAND_LIMIT: Duration = Duration::from_secs(90);

/// What programs do when the pool is full.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum OnFull {
    /// ENOMEM.
    Fail,
    /// Ordinary memory.
    Fallback,
}

/// What a pool is made of.
#[derive(Clone, Copy, Debug)]
pub struct PoolSpec {
    /// MiB of node `near`.
    pub near_mib: u64,
    /// MiB of node `far`.
    pub far_mib: u64,
    /// What programs do when it is full.
    pub on_full: OnFull,
    /// What the nodes are made of: `memfd`, `memfd-thp` or `hugetlb`.
    pub store: &'static str,
    /// `[[tenant]]` tables; nothing: everybody may have everything.
    pub tenants: &'static str,
}

impl PoolSpec {
    /// A pool of this size, of 4 KiB pages, that fails when it is full.
    #[must_use]
    pub fn new(near_mib: u64, far_mib: u64) -> Self {
        Self { near_mib, far_mib, on_full: OnFull::Fail, store: "memfd", tenants: "" }
    }

    fn toml(&self, socket: &Path) -> String {
        let on_full = match self.on_full {
            OnFull::Fail => "fail",
            OnFull::Fallback => "fallback",
        };
        let mut text = format!("socket = {socket:?}\non_full = \"{on_full}\"\n");
        // Ordinary users may join where a test's directory lets them in.
        text += "mode = 0o666\n";
        for (name, mib) in [("near", self.near_mib), ("far", self.far_mib)] {
            text += &format!(
                "\n[[node]]\nname = \"{name}\"\nkind = \"{name}\"\nsize = \"{mib}M\"\nstore = \"{}\"\n",
                self.store
            );
        }
        text + self.tenants
    }
}

/// A daemon of the test's own.
pub struct Pool {
    config: PathBuf,
    socket: PathBuf,
    daemon: Option<Running>,
}

impl Pool {
    /// Starts a daemon and waits until it answers.
    ///
    /// # Panics
    /// If it does not.
    #[must_use]
    pub fn start(machine: &Machine, spec: &PoolSpec) -> Self {
        let directory = machine.directory();
        // Ordinary users must reach the socket.
        fs::set_permissions(directory, fs::Permissions::from_mode(0o755)).expect("permissions");
        let (config, socket) = (directory.join("memtide.toml"), directory.join("memtide.sock"));
        fs::write(&config, spec.toml(&socket)).expect("writing memtide.toml");
        let mut pool = Self { config, socket, daemon: None };
        pool.start_daemon();
        pool
    }

    /// Starts a daemon of this name, beside others of the same test, with these `[[node]]` tables;
    /// what programs want beyond them is ordinary memory.
    ///
    /// # Panics
    /// If it does not answer.
    #[must_use]
    pub fn start_beside(machine: &Machine, name: &str, nodes: &str) -> Self {
        let directory = machine.directory();
        let file = |ending: &str| directory.join(format!("{name}.{ending}"));
        let (config, socket) = (file("toml"), file("sock"));
        let text = format!("socket = {socket:?}\non_full = \"fallback\"\n{nodes}");
        fs::write(&config, text).expect("writing memtide.toml");
        let mut pool = Self { config, socket, daemon: None };
        pool.start_daemon();
        pool
    }

    /// What the daemon says of its devices.
    ///
    /// # Panics
    /// If it does not answer.
    #[must_use]
    pub fn devices(&self) -> Vec<Device> {
        let finished = self.command(&["dcd-pool", "--json"]).finish(COMMAND_LIMIT);
        finished.assert_success();
        parse(&finished)
    }

    /// Starts the daemon (again).
    ///
    /// # Panics
    /// If it does not answer in time.
    pub fn start_daemon(&mut self) {
        let mut serve = Command::new(artifacts::memtide());
        serve.arg("serve").arg("--config").arg(&self.config);
        let mut daemon = Running::start(&mut serve);
        let deadline = Instant::now() + Duration::from_secs(20);
        loop {
            assert!(Instant::now() < deadline, "the daemon does not answer");
            if !daemon.is_running() {
                panic!("the daemon ended: {:?}", daemon.finish(Duration::from_secs(1)));
            }
            let answer = self.command(&["status", "--json"]).finish(COMMAND_LIMIT);
            if answer.status.success() {
                break;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        self.daemon = Some(daemon);
    }

    /// Kills the daemon with SIGKILL.
    pub fn kill_daemon(&mut self) {
        if let Some(mut daemon) = self.daemon.take() {
            daemon.kill();
        }
    }

    /// Whether the daemon lives.
    pub fn daemon_lives(&mut self) -> bool {
        self.daemon.as_mut().is_some_and(Running::is_running)
    }

    /// The daemon's socket.
    #[must_use]
    pub fn socket(&self) -> &Path {
        &self.socket
    }

    /// A `memtide` command that speaks to this pool.
    #[must_use]
    pub fn command(&self, arguments: &[&str]) -> Running {
        let mut command = Command::new(artifacts::memtide());
        command.arg(arguments[0]).arg("--socket").arg(&self.socket).args(&arguments[1..]);
        Running::start(&mut command)
    }

    /// `memtide run --socket … -- program arguments`, not yet started.
    #[must_use]
    pub fn run_command(&self, program: impl AsRef<std::ffi::OsStr>, arguments: &[&str]) -> Command {
        let mut command = Command::new(artifacts::memtide());
        command.arg("run").arg("--socket").arg(&self.socket).arg("--").arg(program).args(arguments);
        command
    }

    /// Starts a program of the machine in this pool.
    #[must_use]
    pub fn run(&self, program: impl AsRef<std::ffi::OsStr>, arguments: &[&str]) -> Running {
        Running::start(&mut self.run_command(program, arguments))
    }

    /// Starts a program of the machine in this pool, under this label.
    #[must_use]
    pub fn run_as(
        &self,
        label: &str,
        program: impl AsRef<std::ffi::OsStr>,
        arguments: &[&str],
    ) -> Running {
        let mut command = Command::new(artifacts::memtide());
        command.arg("run").arg("--socket").arg(&self.socket).args(["--label", label, "--"]);
        Running::start(command.arg(program).args(arguments))
    }

    /// Starts a proof program in this pool and waits until it is ready.
    #[must_use]
    pub fn run_proof(&self, name: &str, arguments: &[&str]) -> Running {
        let mut running = self.run(artifacts::program(name), arguments);
        running.expect_line("READY", Duration::from_secs(60));
        running
    }

    /// What the daemon says of itself, checked for conservation.
    ///
    /// # Panics
    /// If it does not answer, or its answer does not add up.
    #[must_use]
    pub fn status(&self) -> Status {
        let finished = self.command(&["status", "--json"]).finish(COMMAND_LIMIT);
        finished.assert_success();
        let status: Status = parse(&finished);
        status.conserved().unwrap_or_else(|e| panic!("{e}"));
        status
    }

    /// What the daemon says of a tenant.
    ///
    /// # Panics
    /// If it does not answer, or has none of this name.
    #[must_use]
    pub fn tenant(&self, name: &str) -> Tenant {
        let finished = self.command(&["tenants", "--json"]).finish(COMMAND_LIMIT);
        finished.assert_success();
        let all: Vec<Tenant> = parse(&finished);
        all.into_iter().find(|tenant| tenant.name == name).expect("a tenant of this name")
    }

    /// Waits until `condition` holds of a tenant.
    ///
    /// # Panics
    /// If it does not in time.
    pub fn wait_for_tenant(
        &self,
        name: &str,
        what: &str,
        within: Duration,
        condition: impl Fn(&Tenant) -> bool,
    ) -> Tenant {
        let deadline = Instant::now() + within;
        loop {
            let tenant = self.tenant(name);
            if condition(&tenant) {
                return tenant;
            }
            assert!(Instant::now() < deadline, "waited {within:?} for {what}: {tenant:#?}");
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// What the daemon decided lately for a tenant's programs, and why.
    ///
    /// # Panics
    /// If it does not answer.
    #[must_use]
    pub fn explain(&self, tenant: &str) -> Vec<Decision> {
        let finished =
            self.command(&["explain", "--tenant", tenant, "--json"]).finish(COMMAND_LIMIT);
        finished.assert_success();
        parse(&finished)
    }

    /// Takes capacity out.
    ///
    /// # Panics
    /// If the answer is not a consistent report.
    #[must_use]
    pub fn give_back(&self, mib: u64, from: &str, deadline: &str) -> Report {
        let size = format!("{mib}M");
        let arguments = ["give-back", &size, "--from", from, "--deadline", deadline, "--json"];
        self.report(&arguments)
    }

    /// Puts capacity in.
    ///
    /// # Panics
    /// If it fails.
    pub fn add(&self, mib: u64, to: &str) {
        let size = format!("{mib}M");
        self.command(&["add", &size, "--to", to]).finish(COMMAND_LIMIT).assert_success();
    }

    /// Moves a program's memory, all or `mib` of it.
    ///
    /// # Panics
    /// If the answer is not a consistent report.
    #[must_use]
    pub fn move_memory(&self, pid: u32, to: &str, mib: Option<u64>) -> Report {
        let (pid, size) = (pid.to_string(), mib.map(|m| format!("{m}M")));
        let mut arguments = vec!["move", "--pid", &pid, "--to", to, "--json"];
        arguments.extend(size.as_deref());
        self.report(&arguments)
    }

    fn report(&self, arguments: &[&str]) -> Report {
        let finished = self.command(arguments).finish(COMMAND_LIMIT);
        assert!(matches!(finished.status.code(), Some(0 | 3)), "{finished:?}");
        let report: Report = parse(&finished);
        report.consistent(finished.status.code()).unwrap_or_else(|e| panic!("{e}"));
        report
    }

    /// The pid of the one program whose name starts with `name`.
    ///
    /// # Panics
    /// If it does not appear in the status.
    #[must_use]
    pub fn pid_of(&self, name: &str) -> u32 {
        let found = |status: &Status| {
            status.programs.iter().find(|p| p.name.starts_with(name)).map(|p| p.pid)
        };
        self.wait_for("a program in status", Duration::from_secs(10), |status| {
            found(status).is_some()
        });
        found(&self.status()).expect("it was there a moment ago")
    }

    /// Waits until `condition` holds of the status.
    ///
    /// # Panics
    /// If it does not in time.
    pub fn wait_for(
        &self,
        what: &str,
        within: Duration,
        condition: impl Fn(&Status) -> bool,
    ) -> Status {
        let deadline = Instant::now() + within;
        loop {
            let status = self.status();
            if condition(&status) {
                return status;
            }
            assert!(Instant::now() < deadline, "waited {within:?} for {what}: {status:#?}");
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// Checks that after the last program everything is free or offline, and that the machine has
    /// its memory back.
    ///
    /// # Panics
    /// If something is left.
    pub fn assert_all_free(&self) {
        self.wait_for("everything to be free", Duration::from_secs(20), |status| {
            status.programs.is_empty()
                && status.leased() == 0
                && status.nodes.iter().all(|n| n.isolated == 0)
        });
        let held = self.file_bytes();
        assert!(held <= 4 * MIB, "the daemon's files still hold {held} bytes");
    }

    /// Bytes of memory in the daemon's files, as the kernel counts them.
    #[must_use]
    pub fn file_bytes(&self) -> u64 {
        let Some(daemon) = &self.daemon else { return 0 };
        let mut seen = std::collections::BTreeSet::new();
        let fds = format!("/proc/{}/fd", daemon.pid());
        let links = fs::read_dir(fds).into_iter().flatten().flatten();
        links
            .filter(|fd| fs::read_link(fd.path()).is_ok_and(|to| to.starts_with("/memfd:")))
            .filter_map(|fd| fs::metadata(fd.path()).ok())
            .filter(|file| seen.insert((file.dev(), file.ino())))
            .map(|file| file.blocks() * 512)
            .sum()
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        if let Some(mut daemon) = self.daemon.take() {
            if std::thread::panicking() && !daemon.is_running() {
                // What a test says about a daemon that is gone is of less interest.
                let ended = daemon.finish(Duration::from_secs(1));
                machine::loud(&format!("the daemon ended before its time: {ended:?}"));
                return;
            }
            daemon.signal(Signal::TERM);
            let deadline = Instant::now() + Duration::from_secs(3);
            while daemon.is_running() && Instant::now() < deadline {
                std::thread::sleep(Duration::from_millis(10));
            }
        }
    }
}

fn parse<T: DeserializeOwned>(finished: &Finished) -> T {
    serde_json::from_str(&finished.stdout)
        .unwrap_or_else(|e| panic!("{e}: {}\n{}", finished.what, finished.stdout))
}
