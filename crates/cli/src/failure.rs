//! How commands fail, and the exit codes: 0 done, 1 failed, 2 usage, 3 partly done.

use std::{error::Error, fmt, io, process::ExitCode};

use memtide_client::ClientError;
use memtide_daemon::{BindError, ConfigError};

/// Exit code of a request that was carried out in part.
pub const PARTLY_DONE: u8 = 3;

/// Why a command failed.
#[derive(Debug)]
pub enum Failure {
    /// Whoever reads our output has had enough: not a failure at all.
    BrokenPipe,
    /// The request makes no sense; nothing changed.
    Usage(String),
    /// It did not work.
    Failed(String),
    /// A command to be run could not be: 126 or 127, as shells have it.
    CannotRun {
        /// The exit code.
        code: u8,
        /// Why.
        message: String,
    },
}

impl Failure {
    pub fn failed(what: impl fmt::Display) -> Self {
        Self::Failed(what.to_string())
    }

    pub fn exit_code(&self) -> ExitCode {
        ExitCode::from(match self {
            Self::BrokenPipe => 0,
            Self::Failed(_) => 1,
            Self::Usage(_) => 2,
            Self::CannotRun { code, .. } => *code,
        })
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::BrokenPipe => Ok(()),
            Self::Usage(message) | Self::Failed(message) | Self::CannotRun { message, .. } => {
                f.write_str(message)
            }
        }
    }
}

/// What happened, and why, and why that.
pub fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !text.ends_with(&cause_text) {
            text = format!("{text}: {cause_text}");
        }
        source = cause.source();
    }
    text
}

impl From<ClientError> for Failure {
    fn from(error: ClientError) -> Self {
        let message = chain(&error);
        if error.is_usage() { Self::Usage(message) } else { Self::Failed(message) }
    }
}

impl From<ConfigError> for Failure {
    fn from(error: ConfigError) -> Self {
        Self::Usage(chain(&error))
    }
}

impl From<BindError> for Failure {
    fn from(error: BindError) -> Self {
        Self::Failed(chain(&error))
    }
}

impl From<memtide_client::paths::DirectoryError> for Failure {
    fn from(error: memtide_client::paths::DirectoryError) -> Self {
        Self::Failed(chain(&error))
    }
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        if error.kind() == io::ErrorKind::BrokenPipe {
            Self::BrokenPipe
        } else {
            Self::Failed(error.to_string())
        }
    }
}
