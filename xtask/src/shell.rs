//! Running other programs and placing files, with errors that say which.

use std::{
    env, fs, io,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::{Command, ExitStatus},
    thread,
};

/// Why a task failed.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// The command line makes no sense.
    #[error("{what}")]
    Usage {
        /// What is wrong with it.
        what: String,
    },
    /// A file could not be read or written.
    #[error("{}: {source}", path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A program could not be started.
    #[error("cannot start {program}: {source}")]
    Start {
        /// Which.
        program: String,
        /// Why.
        source: io::Error,
    },
    /// A program failed.
    #[error("{program} ended with {status}")]
    Ended {
        /// Which.
        program: String,
        /// How.
        status: ExitStatus,
    },
    /// Something that was to be shown is not so.
    #[error("{what}")]
    Wrong {
        /// What.
        what: String,
    },
}

impl Failure {
    pub fn usage(what: impl Into<String>) -> Self {
        Self::Usage { what: what.into() }
    }

    pub fn wrong(what: impl Into<String>) -> Self {
        Self::Wrong { what: what.into() }
    }
}

/// The root of the workspace.
pub fn workspace() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("xtask lies in the workspace")
}

/// Where cargo puts what it builds.
pub fn target() -> PathBuf {
    env::var_os("CARGO_TARGET_DIR")
        .map_or_else(|| workspace().join("target"), |dir| workspace().join(dir))
}

/// A cargo command in the workspace.
pub fn cargo(arguments: &[&str]) -> Command {
    let mut command = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.args(arguments).current_dir(workspace());
    command
}

/// Builds `memtide` and its library in the release profile; returns where they are.
pub fn build_release() -> Result<PathBuf, Failure> {
    run(&mut cargo(&[
        "build",
        "--release",
        "--locked",
        "-p",
        "memtide-cli",
        "-p",
        "memtide-preload",
    ]))?;
    Ok(target().join("release"))
}

/// Prints and runs a command; it must succeed.
pub fn run(command: &mut Command) -> Result<(), Failure> {
    eprintln!("+ {}", describe(command));
    let status = command.status().map_err(|source| start_failure(command, source))?;
    ended(command, status)
}

/// Prints and runs commands, all at once; all must succeed. Who fails first, in their order, is
/// said when all have ended.
pub fn run_all(commands: Vec<Command>) -> Result<(), Failure> {
    let runs: Vec<_> =
        commands.into_iter().map(|mut command| thread::spawn(move || run(&mut command))).collect();
    let ends: Vec<_> = runs
        .into_iter()
        .map(|run| run.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
        .collect();
    ends.into_iter().collect()
}

/// Runs a command and returns what it prints; it must succeed.
pub fn output(command: &mut Command) -> Result<Vec<u8>, Failure> {
    command.stderr(std::process::Stdio::inherit());
    let output = command.output().map_err(|source| start_failure(command, source))?;
    ended(command, output.status)?;
    Ok(output.stdout)
}

/// Whether a command can be found.
pub fn is_installed(program: &str) -> bool {
    let path = env::var_os("PATH").unwrap_or_default();
    env::split_paths(&path)
        .chain(["/usr/sbin", "/sbin"].map(PathBuf::from))
        .any(|directory| directory.join(program).is_file())
}

/// Leaves something out, and says so; fails where nothing may be skipped.
pub fn skip(why: &str) -> Result<(), Failure> {
    eprintln!("SKIPPED: {why}");
    if memtide_skip::is_forbidden() {
        return Err(Failure::wrong(format!("{why}, and nothing may be skipped")));
    }
    Ok(())
}

pub fn start_failure(command: &Command, source: io::Error) -> Failure {
    Failure::Start { program: command.get_program().to_string_lossy().into_owned(), source }
}

fn ended(command: &Command, status: ExitStatus) -> Result<(), Failure> {
    if status.success() {
        return Ok(());
    }
    Err(Failure::Ended { program: describe(command), status })
}

pub fn describe(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    words.map(|w| w.to_string_lossy()).collect::<Vec<_>>().join(" ")
}

fn at(path: &Path) -> impl FnOnce(io::Error) -> Failure {
    move |source| Failure::File { path: path.to_owned(), source }
}

/// Creates a directory and those above it.
pub fn create_directory(path: &Path) -> Result<(), Failure> {
    fs::create_dir_all(path).map_err(at(path))
}

/// Reads a whole file.
pub fn read(path: &Path) -> Result<Vec<u8>, Failure> {
    fs::read(path).map_err(at(path))
}

/// Writes a file with these permissions. A new file takes the old one's place, so that a library
/// that somebody is running is not overwritten under him.
pub fn write(path: &Path, content: &[u8], mode: u32) -> Result<(), Failure> {
    create_directory(path.parent().unwrap_or(path))?;
    let mut part = path.as_os_str().to_owned();
    part.push(".part");
    let part = PathBuf::from(part);
    fs::write(&part, content).map_err(at(&part))?;
    fs::set_permissions(&part, fs::Permissions::from_mode(mode)).map_err(at(&part))?;
    fs::rename(&part, path).map_err(at(path))
}

/// Copies a file.
pub fn copy(from: &Path, to: &Path, mode: u32) -> Result<(), Failure> {
    write(to, &read(from)?, mode)
}
