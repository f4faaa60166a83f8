//! A running QEMU that cannot outlive the test.
//!
//! A test may be killed by any signal, and then nothing of Rust's runs. So QEMU is the child of a
//! shell that holds the reading end of a pipe; when the writing end, which is ours, is closed, the
//! shell kills QEMU and removes the guest's folder. The kernel closes it for us at our end.

use std::{
    fs::{self, File},
    io::{self, Read, Seek, SeekFrom, Write},
    path::{Path, PathBuf},
    process::{Child, ChildStdin, Command, ExitStatus, Stdio},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, Weak,
        atomic::{AtomicU32, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use crate::{Error, channel::Broken};

/// How much of the console an error shows, at least.
const TAIL_LINES: usize = 40;
/// How much it shows at most, to begin with what a crash begins with.
const CRASH_LINES: usize = 200;
/// What a kernel's last words begin with.
const CRASHES: [&str; 3] = ["Kernel panic", "BUG: ", "Oops: "];
/// How long it may take until QEMU, which was killed or hung up, has ended.
const END: Duration = Duration::from_secs(20);
/// How often it is looked whether QEMU ended.
pub(crate) const GLANCE: Duration = Duration::from_millis(2);

/// A folder of a guest's own: its sockets and its console.
pub(crate) struct Folder(PathBuf);

impl Folder {
    /// Short, because the path of a socket may have 107 bytes.
    pub(crate) fn new() -> Result<Self, Error> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = format!("memtide-vm-{}-{number}", std::process::id());
        let path = std::env::temp_dir().join(name);
        // Left by a process of this number that had no chance to remove it.
        let _ = fs::remove_dir_all(&path);
        fs::create_dir(&path).map_err(Error::file(&path))?;
        Ok(Self(path))
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// What a kernel says last that panicked and does not restart: so early in its boot that it has not
/// read `panic=-1` yet, or where restarting fails (`panic` in kernel/panic.c).
const STANDS_STILL: &str = "end Kernel panic";
/// How often the console is looked at for that.
const LOOK: Duration = Duration::from_millis(250);

struct Running {
    shell: Child,
    /// Closed, it ends QEMU.
    lifeline: Option<ChildStdin>,
}

/// QEMU, with its folder.
pub(crate) struct Watched {
    running: Arc<Mutex<Running>>,
    folder: Folder,
}

impl Watched {
    pub(crate) fn start(qemu: &Path, arguments: &[String], folder: Folder) -> Result<Self, Error> {
        use std::os::unix::process::CommandExt;
        let mut shell = Command::new("/bin/sh");
        shell.args(["-c", include_str!("watch.sh"), "watch"]).arg(folder.path());
        shell.arg(qemu).args(arguments);
        shell.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
        // Ctrl-C is for the test; the shell sees it die.
        shell.process_group(0);
        let mut shell = shell.spawn().map_err(Error::file("/bin/sh"))?;
        let lifeline = shell.stdin.take();
        let running = Arc::new(Mutex::new(Running { shell, lifeline }));
        let (weak, console) = (Arc::downgrade(&running), folder.path().join("console"));
        thread::spawn(move || end_with_the_kernel(&weak, &console));
        Ok(Self { running, folder })
    }

    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }

    fn running(&self) -> MutexGuard<'_, Running> {
        lock(&self.running)
    }

    /// How QEMU ended, if it did.
    pub(crate) fn ended(&self) -> Option<ExitStatus> {
        self.running().shell.try_wait().ok().flatten()
    }

    /// Waits for QEMU's end.
    pub(crate) fn wait(&self, limit: Duration) -> Option<ExitStatus> {
        let deadline = Instant::now() + limit;
        loop {
            if let Some(status) = self.ended() {
                return Some(status);
            }
            if Instant::now() > deadline {
                return None;
            }
            thread::sleep(GLANCE);
        }
    }

    /// Ends QEMU at once, if it has not ended.
    pub(crate) fn kill(&self) {
        self.running().lifeline = None;
        if self.wait(END).is_none() {
            // The shell itself hangs; QEMU has been sent SIGKILL, or there is no shell to send it.
            let _ = self.running().shell.kill();
        }
    }

    /// All that the guest's kernel and init said so far.
    pub(crate) fn console(&self) -> String {
        self.text("console")
    }

    fn text(&self, name: &str) -> String {
        let bytes = fs::read(self.folder().join(name)).unwrap_or_default();
        String::from_utf8_lossy(&bytes).replace('\r', "")
    }

    /// The end of it.
    pub(crate) fn console_tail(&self) -> String {
        tail(&self.console())
    }

    /// The error for a channel that broke.
    pub(crate) fn broken(&self, broken: Broken, doing: &str, limit: Duration) -> Error {
        match broken {
            Broken::Late => self.late(doing, limit),
            Broken::Closed => match self.wait(END) {
                Some(status) => self.gone(doing, status),
                None => self.late(doing, limit),
            },
        }
    }

    pub(crate) fn late(&self, doing: &str, limit: Duration) -> Error {
        Error::TimedOut { doing: doing.to_owned(), limit, console: self.console_tail() }
    }

    pub(crate) fn gone(&self, doing: &str, status: ExitStatus) -> Error {
        let qemu = self.text("qemu").trim().to_owned();
        Error::Ended { doing: doing.to_owned(), status, qemu, console: self.console_tail() }
    }

    /// Accepts QEMU's connection to a listener of ours.
    pub(crate) fn accept(
        &self,
        listener: &std::os::unix::net::UnixListener,
        doing: &str,
        limit: Duration,
    ) -> Result<std::os::unix::net::UnixStream, Error> {
        let deadline = Instant::now() + limit;
        let socket = || Error::file(self.folder());
        listener.set_nonblocking(true).map_err(socket())?;
        loop {
            match listener.accept() {
                Ok((stream, _)) => {
                    stream.set_nonblocking(false).map_err(socket())?;
                    return Ok(stream);
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Err(socket()(error)),
            }
            if let Some(status) = self.ended() {
                return Err(self.gone(doing, status));
            }
            if Instant::now() > deadline {
                return Err(self.late(doing, limit));
            }
            thread::sleep(GLANCE);
        }
    }
}

impl Drop for Watched {
    fn drop(&mut self) {
        self.kill();
    }
}

fn lock(running: &Mutex<Running>) -> MutexGuard<'_, Running> {
    running.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Ends QEMU once its kernel stands still after a panic, so that nobody waits for it any more. Its
/// console stays, to be shown.
fn end_with_the_kernel(running: &Weak<Mutex<Running>>, console: &Path) {
    let mut seen = 0;
    loop {
        thread::sleep(LOOK);
        let Some(running) = running.upgrade() else { return };
        let mut running = lock(&running);
        if running.lifeline.is_none() || !matches!(running.shell.try_wait(), Ok(None)) {
            return;
        }
        if stands_still(console, &mut seen)
            && let Some(lifeline) = &mut running.lifeline
        {
            // If the shell is gone, so is QEMU.
            let _ = lifeline.write_all(b"panic\n");
            return;
        }
    }
}

/// Whether the console has those words after `seen`, which is moved on.
fn stands_still(console: &Path, seen: &mut u64) -> bool {
    let mut new = Vec::new();
    let read = File::open(console).and_then(|mut file| {
        file.seek(SeekFrom::Start(*seen))?;
        file.read_to_end(&mut new)
    });
    if read.is_err() {
        return false;
    }
    // They may be half written: the line is looked at again until its end is there.
    let whole = new.iter().rposition(|&byte| byte == b'\n').map_or(0, |at| at + 1);
    *seen += whole as u64;
    String::from_utf8_lossy(&new).contains(STANDS_STILL)
}

/// The last lines; more of them if a crash began before those.
fn tail(text: &str) -> String {
    let lines: Vec<_> = text.trim_end().lines().collect();
    let last = lines.len().saturating_sub(TAIL_LINES);
    let earliest = lines.len().saturating_sub(CRASH_LINES);
    let is_crash = |line: &&str| CRASHES.iter().any(|crash| line.contains(crash));
    let crash = lines[earliest..last].iter().position(is_crash);
    // The line before says what led to it.
    let start = crash.map_or(last, |at| (earliest + at).saturating_sub(1));
    lines[start..].join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn watched(script: &str) -> Watched {
        let folder = Folder::new().expect("a folder");
        let arguments = ["-c", script].map(str::to_owned);
        Watched::start(Path::new("/bin/sh"), &arguments, folder).expect("a shell")
    }

    fn runs(process: &str) -> bool {
        let state = fs::read_to_string(format!("/proc/{}/stat", process.trim()));
        state.is_ok_and(|state| !state.contains(") Z "))
    }

    #[test]
    fn dropping_kills_and_removes() {
        let watched = watched("echo $$; exec sleep 1000");
        let folder = watched.folder().to_path_buf();
        let deadline = Instant::now() + Duration::from_secs(10);
        while watched.text("qemu").trim().is_empty() {
            assert!(Instant::now() < deadline, "the program does not start");
            thread::sleep(GLANCE);
        }
        let process = watched.text("qemu");
        assert!(runs(&process));
        drop(watched);
        assert!(!runs(&process), "process {process} survived");
        assert!(!folder.exists());
    }

    #[test]
    fn a_kernel_that_stands_still_after_a_panic_is_not_waited_for() {
        let watched = watched("exec sleep 1000");
        let console = watched.folder().join("console");
        fs::write(&console, "[ 0.1] Kernel panic - not syncing: no memory\n---[ end Ke").unwrap();
        assert_eq!(watched.wait(3 * LOOK), None, "not its last words yet");
        let mut file = fs::OpenOptions::new().append(true).open(&console).unwrap();
        file.write_all(b"rnel panic - not syncing: no memory ]---\n").unwrap();
        let status = watched.wait(Duration::from_secs(10)).expect("it is ended");
        let error = watched.gone("booting", status).to_string();
        assert!(error.contains("not syncing: no memory ]---"), "{error}");
        let folder = watched.folder().to_path_buf();
        drop(watched);
        assert!(!folder.exists());
    }

    #[test]
    fn a_program_that_ends_has_said_why() {
        let watched = watched("echo 'no such device' >&2; exit 3");
        let status = watched.wait(Duration::from_secs(10)).expect("it ends");
        let error = watched.gone("booting", status).to_string();
        assert!(error.contains("exit status: 3") && error.contains("no such device"), "{error}");
        assert!(watched.folder().exists(), "its files are there until it is dropped");
    }

    #[test]
    fn only_the_end_is_shown() {
        let long: Vec<_> = (0..100).map(|line| line.to_string()).collect();
        let shown = tail(&long.join("\n"));
        assert!(shown.starts_with("60\n") && shown.ends_with("\n99"), "{shown}");
        assert_eq!(tail("one\ntwo\n\n"), "one\ntwo");
        let mut crash = long.clone();
        crash[30] = "[  1.0] Kernel panic - not syncing: sysrq triggered crash".to_owned();
        let shown = tail(&crash.join("\n"));
        assert!(
            shown.starts_with("29\n[  1.0] Kernel panic") && shown.ends_with("\n99"),
            "{shown}"
        );
    }
}
