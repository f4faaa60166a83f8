//! What is worth a line in a log.

use std::io;

use memtide_cxl::manager::{self, DeviceName, HostName, Report};

use super::devices::chain;
use crate::{
    frame::FrameError,
    manager::{backend::BackendError, store::StoreError},
};

/// What is worth a line in a log.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Notice {
    /// A device is connected.
    #[error("device {0}: connected")]
    Connected(DeviceName),
    /// A device cannot be reached; it is tried again.
    #[error("device {device}: {}", chain(error))]
    Unreachable {
        /// Which.
        device: DeviceName,
        /// Why.
        error: BackendError,
    },
    /// A device is no longer connected; it is tried again.
    #[error("device {device}: disconnected: {}", chain(error))]
    Disconnected {
        /// Which.
        device: DeviceName,
        /// Why.
        error: BackendError,
    },
    /// What the manager has to say of a device.
    #[error("device {device}: {notice}")]
    Device {
        /// Which.
        device: DeviceName,
        /// What.
        notice: manager::Notice,
    },
    /// A host's agent is connected, or no longer.
    #[error("host {host}: its agent {what}")]
    Agent {
        /// Which.
        host: HostName,
        /// What it did.
        what: &'static str,
    },
    /// An agent said something that makes no sense; it is ignored.
    #[error("host {host}: {why}; ignored")]
    Ignored {
        /// Whose.
        host: HostName,
        /// Why it makes none.
        why: String,
    },
    /// Somebody was not welcomed.
    #[error("refused a connection: {0}")]
    Refused(String),
    /// What came was no message; the connection is ended.
    #[error("{who} sent what is no message: {error}; its connection is ended")]
    Garbage {
        /// Who.
        who: String,
        /// What was wrong.
        error: FrameError,
    },
    /// A message that does not belong there; the connection is ended.
    #[error("{who} sent a message that does not belong there; its connection is ended")]
    Misplaced {
        /// Who.
        who: String,
    },
    /// Something cannot be kept.
    #[error("{}", chain(.0))]
    Store(StoreError),
    /// A request is answered.
    #[error("request {}: {}", .0.id.0, summary(.0))]
    Answered(Box<Report>),
    /// Nobody can connect for a moment.
    #[error("cannot accept connections: {0}")]
    CannotAccept(io::Error),
}

/// A report in a line.
fn summary(report: &Report) -> String {
    let Report { asked, returned, held, accepted, refused, pending, missing, .. } = report;
    format!(
        "{:?}: asked {asked}, returned {returned}, held {held}, accepted {accepted}, refused \
         {refused}, pending {pending}, missing {missing} bytes",
        report.state
    )
}
