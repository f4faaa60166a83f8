//! The program: started, waited for.

use std::{
    ffi::OsString,
    io,
    os::unix::process::ExitStatusExt,
    path::Path,
    process::{Child, Command, ExitCode, ExitStatus},
};

use memtide_client::paths::SOCKET_VARIABLE;
use memtide_proto::label;

use crate::{commands::run::signals::Forwarding, failure::Failure, library::preload_with};

/// How the program ended.
#[derive(Clone, Copy, Debug)]
pub struct Ended {
    status: ExitStatus,
}

impl Ended {
    /// Its own code, or 128 and the number of the signal that ended it, as shells have it.
    pub fn exit_code(self) -> ExitCode {
        let code = self.status.code().or(self.status.signal().map(|signal| 128 + signal));
        ExitCode::from(code.and_then(|code| u8::try_from(code).ok()).unwrap_or(1))
    }
}

/// Runs the program to its end, as this label if there is one; meanwhile signals go to it.
pub fn run(
    words: &[OsString],
    library: &Path,
    socket: &Path,
    label: Option<&str>,
    signals: Forwarding,
) -> Result<Ended, Failure> {
    let mut command = Command::new(&words[0]);
    command
        .args(&words[1..])
        .env("LD_PRELOAD", preload_with(library, std::env::var_os("LD_PRELOAD")))
        .env(SOCKET_VARIABLE, socket);
    if let Some(label) = label {
        command.env(label::VARIABLE, label);
    }
    let mut child = command.spawn().map_err(|error| cannot_run(&words[0], &error))?;
    signals.begin(child.id())?;
    let status = child.wait()?;
    Ok(Ended { status })
}

/// Runs the program as it is to its end; meanwhile signals go to it. `around` is handed what starts
/// it, and `started` hears its number.
pub fn run_with<T>(
    words: &[OsString],
    signals: Forwarding,
    started: impl FnOnce(u32) -> io::Result<T>,
    around: impl FnOnce(&mut dyn FnMut() -> Result<Child, Failure>) -> Result<Child, Failure>,
) -> Result<(Ended, T), Failure> {
    let mut command = Command::new(&words[0]);
    command.args(&words[1..]);
    let mut child = around(&mut || command.spawn().map_err(|error| cannot_run(&words[0], &error)))?;
    signals.begin(child.id())?;
    let started = started(child.id());
    let status = child.wait()?;
    Ok((Ended { status }, started?))
}

fn cannot_run(program: &OsString, error: &io::Error) -> Failure {
    let code = if error.kind() == io::ErrorKind::NotFound { 127 } else { 126 };
    let message = format!("cannot run {}: {error}", program.to_string_lossy());
    Failure::CannotRun { code, message }
}
