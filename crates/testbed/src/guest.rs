//! A booted machine, driven from outside.
//!
//! ```text
//! Machine ──check──► QEMU command line ──boot──► Guest ──powerdown──► (gone)
//!                                                  └────────drop────► (killed)
//! ```
//!
//! [`Guest::boot`] returns when the agent in the guest has said that it is ready, which is after
//! the machine's modules have been loaded. From then on [`Guest::run`] and its relatives run shell
//! scripts as root, one after the other; [`Guest::start`] starts programs that go on meanwhile.

use std::{
    os::unix::net::UnixListener,
    path::Path,
    sync::{Arc, Mutex, PoisonError},
    thread,
    time::{Duration, Instant},
};

use crate::{
    Background, Error, Initramfs, Kernel, Machine, Qmp,
    agent::{Agent, Answer, quoted},
    channel::Channel,
    needs::{REMEDY, loud},
    places::which,
    qemu::{self, Connections, Console},
    watch::{Folder, Watched},
};

/// How long a machine may take to boot, each of two times. It takes seconds; a busy computer is
/// slower.
pub const BOOT_LIMIT: Duration = Duration::from_secs(120);
/// How long a script may take, unless a test says otherwise.
pub const RUN_LIMIT: Duration = Duration::from_secs(60);
/// How long switching off may take.
const OFF_LIMIT: Duration = Duration::from_secs(60);
/// The pause between two looks at something in the guest.
const PAUSE: Duration = Duration::from_millis(100);

/// How a script ended.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Output {
    /// Its exit status, as the shell has it: 128 and the signal's number if one killed it.
    pub status: i32,
    /// What it printed; what is no UTF-8 is replaced.
    pub stdout: String,
    /// What it said on standard error.
    pub stderr: String,
}

impl From<Answer> for Output {
    fn from(answer: Answer) -> Self {
        let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
        Self { status: answer.status, stdout: text(answer.stdout), stderr: text(answer.stderr) }
    }
}

/// A booted machine. Dropped, it is killed; if that happens in a panicking test, the end of its
/// console is printed.
pub struct Guest {
    name: String,
    watched: Arc<Watched>,
    agent: Mutex<Agent>,
    qmp: Qmp,
    boot_time: Duration,
}

impl std::fmt::Debug for Guest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Guest").field("name", &self.name).finish_non_exhaustive()
    }
}

impl Guest {
    /// Boots a machine with nothing but busybox and the modules of emulated hardware.
    ///
    /// # Errors
    /// If the machine cannot be built as described, something is missing on this computer, or it
    /// is not ready within [`BOOT_LIMIT`].
    pub fn boot(machine: &Machine) -> Result<Self, Error> {
        Self::boot_with(machine, &Initramfs::new())
    }

    /// Boots a machine with programs and files of the test's.
    ///
    /// On a busy computer it happens, once in some hundred boots, that the kernel waits for ever for
    /// a timer while it probes hardware, before anything of the test's runs: what is emulated has
    /// lost it. So who is not ready in time is booted once more, which is said.
    ///
    /// # Errors
    /// As [`Guest::boot`].
    pub fn boot_with(machine: &Machine, initramfs: &Initramfs) -> Result<Self, Error> {
        machine.check()?;
        let kernel = Kernel::find()?;
        let initramfs = initramfs.build(&kernel)?;
        match Self::boot_once(machine, &kernel, &initramfs) {
            Err(late @ Error::TimedOut { .. }) => {
                loud(&format!("booted once more: {late}"));
                Self::boot_once(machine, &kernel, &initramfs)
            }
            booted => booted,
        }
    }

    fn boot_once(machine: &Machine, kernel: &Kernel, initramfs: &Path) -> Result<Self, Error> {
        let folder = Folder::new()?;
        let listen = |name: &str| {
            let path = folder.path().join(name);
            UnixListener::bind(&path).map_err(Error::file(path))
        };
        let (qmp, agent) = (listen("qmp")?, listen("agent")?);
        let connections = Connections {
            kernel: kernel.image(),
            initramfs,
            console: Console::Kept(folder.path()),
        };
        let arguments = qemu::arguments(machine, &connections);
        let start = Instant::now();
        let watched = Arc::new(Watched::start(&emulator()?, &arguments, folder)?);
        let doing = format!("booting machine {:?}", machine.name());
        let accept = |listener| watched.accept(listener, &doing, BOOT_LIMIT).map(Channel::new);
        let qmp = Qmp::new(accept(&qmp)?, Arc::clone(&watched))?;
        let mut agent = Agent::new(accept(&agent)?);
        let refused = agent
            .greeting(start + BOOT_LIMIT)
            .map_err(|broken| watched.broken(broken, &doing, BOOT_LIMIT))??;
        if !refused.is_empty() {
            return Err(Error::Modules { names: refused, console: watched.console_tail() });
        }
        let (name, agent) = (machine.name().to_owned(), Mutex::new(agent));
        Ok(Self { name, watched, agent, qmp, boot_time: start.elapsed() })
    }

    /// From QEMU's start to the agent's first word.
    #[must_use]
    pub const fn boot_time(&self) -> Duration {
        self.boot_time
    }

    /// QEMU's control socket.
    #[must_use]
    pub const fn qmp(&self) -> &Qmp {
        &self.qmp
    }

    /// All that the kernel and init printed so far.
    #[must_use]
    pub fn console(&self) -> String {
        self.watched.console()
    }

    /// Runs a shell script as root and waits for its end, at most [`RUN_LIMIT`].
    ///
    /// # Errors
    /// If the guest ends (a kernel panic), or the script does not in time.
    pub fn run(&self, script: &str) -> Result<Output, Error> {
        self.run_within(RUN_LIMIT, script)
    }

    /// Runs a shell script, waiting so long: whole seconds, at least one.
    ///
    /// # Errors
    /// As [`Guest::run`].
    pub fn run_within(&self, limit: Duration, script: &str) -> Result<Output, Error> {
        self.request(script, &[], limit).map(Output::from)
    }

    /// Runs a shell script that must succeed; returns what it printed, without white space at the
    /// end.
    ///
    /// # Errors
    /// As [`Guest::run`], and if its exit status is not 0.
    pub fn sh(&self, script: &str) -> Result<String, Error> {
        let output = succeeded(script, self.run(script)?)?;
        Ok(output.stdout.trim_end().to_owned())
    }

    /// Runs a script again and again until it succeeds; returns what it then printed, without white
    /// space at the end.
    ///
    /// # Errors
    /// As [`Guest::run`], and if it does not succeed within the limit.
    pub fn wait_until(&self, limit: Duration, script: &str) -> Result<String, Error> {
        let deadline = Instant::now() + limit;
        loop {
            let output = self.run(script)?;
            if output.status == 0 {
                return Ok(output.stdout.trim_end().to_owned());
            }
            if Instant::now() > deadline {
                let doing = format!("waiting until {script:?} succeeds; it said: {output:?}");
                return Err(self.watched.late(&doing, limit));
            }
            thread::sleep(PAUSE);
        }
    }

    /// Starts a shell script that goes on while others run. To have the process of a program
    /// itself, say `exec PROGRAM`.
    ///
    /// # Errors
    /// As [`Guest::run`].
    pub fn start(&self, script: &str) -> Result<Background<'_>, Error> {
        Background::start(self, script)
    }

    /// The content of a file of the guest, such as a table in `/sys/firmware/acpi/tables`.
    ///
    /// # Errors
    /// As [`Guest::run`], and if it cannot be read.
    pub fn read(&self, path: &str) -> Result<Vec<u8>, Error> {
        let script = format!("cat {}", quoted(path));
        let answer = self.request(&script, &[], RUN_LIMIT)?;
        if answer.status == 0 {
            return Ok(answer.stdout);
        }
        Err(failed(&script, Output { stdout: String::new(), ..answer.into() }))
    }

    /// Writes a file of the guest at once, in a single `write` if it is short, as sysfs wants it.
    ///
    /// # Errors
    /// As [`Guest::run`], and if it cannot be written: the words of the kernel's refusal are in it.
    pub fn write(&self, path: &str, content: impl AsRef<[u8]>) -> Result<(), Error> {
        self.input(&format!("cat >{}", quoted(path)), content.as_ref()).map(|_| ())
    }

    /// Runs a script that must succeed with this standard input.
    ///
    /// # Errors
    /// As [`Guest::sh`].
    pub fn input(&self, script: &str, input: &[u8]) -> Result<Output, Error> {
        let output = self.request(script, input, RUN_LIMIT)?;
        succeeded(script, output.into())
    }

    /// Loads modules of the initramfs, and what they need.
    ///
    /// # Errors
    /// As [`Guest::run`], and if the kernel refuses one.
    pub fn load_modules(&self, names: &[&str]) -> Result<(), Error> {
        let refused = self.sh(&format!("load-modules {}", names.join(" ")))?;
        if refused.is_empty() {
            return Ok(());
        }
        Err(Error::Modules { names: refused, console: self.watched.console_tail() })
    }

    /// Switches the machine off, and waits until it is.
    ///
    /// # Errors
    /// If it is not off in time, or QEMU ends with an error.
    pub fn powerdown(self) -> Result<(), Error> {
        // Its answer may be lost with the machine.
        let asked = self.run("(sleep 0.1; poweroff -f) >/dev/null 2>&1 &");
        match (self.watched.wait(OFF_LIMIT), asked) {
            (Some(status), _) if status.success() => Ok(()),
            (Some(status), _) => Err(self.watched.gone("switching off", status)),
            (None, Err(error)) => Err(error),
            (None, Ok(_)) => Err(self.watched.late("switching off", OFF_LIMIT)),
        }
    }

    fn request(&self, script: &str, input: &[u8], limit: Duration) -> Result<Answer, Error> {
        let mut agent = self.agent.lock().unwrap_or_else(PoisonError::into_inner);
        agent.request(&self.watched, script, input, limit)
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        if thread::panicking() {
            loud(&format!("the end of {}'s console:\n{}", self.name, self.watched.console_tail()));
        }
        self.watched.kill();
    }
}

/// The path of QEMU.
pub(crate) fn emulator() -> Result<std::path::PathBuf, Error> {
    let what = "qemu-system-x86_64";
    let missing = || Error::Missing { what: what.to_owned(), remedy: REMEDY.to_owned() };
    which(what).ok_or_else(missing)
}

fn succeeded(script: &str, output: Output) -> Result<Output, Error> {
    if output.status == 0 { Ok(output) } else { Err(failed(script, output)) }
}

fn failed(script: &str, Output { status, stdout, stderr }: Output) -> Error {
    Error::Script { script: script.to_owned(), status, stdout, stderr }
}
