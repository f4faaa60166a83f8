//! What goes wrong with QEMU.

use std::{io, time::Duration};

use memtide_cxl::device::{ConfigError, Refusal};
use memtide_units::DpaRange;

use super::lines::LINE_MAX_BYTES;

/// Why there is no connection to QEMU's devices, or no longer.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum QmpError {
    /// The socket cannot be used.
    #[error("QMP socket")]
    Socket(#[source] io::Error),
    /// QEMU ended, or closed the socket.
    #[error("QEMU closed its QMP socket")]
    Closed,
    /// A line that is no message.
    #[error("QMP line {line:?}; expected {expected}")]
    Line {
        /// Its beginning.
        line: String,
        /// What it should be.
        expected: &'static str,
    },
    /// A line that does not end.
    #[error("a QMP line of more than {LINE_MAX_BYTES} bytes; expected its end")]
    TooLong,
    /// QEMU does not answer. It speaks to one at a time on each socket.
    #[error("no QMP answer to {command} within {waited:?}")]
    Late {
        /// To what.
        command: &'static str,
        /// How long was waited.
        waited: Duration,
    },
    /// QEMU refuses what was asked when connecting.
    #[error("QMP {command}: {class}: {description}")]
    Refused {
        /// What.
        command: &'static str,
        /// QEMU's class of error.
        class: String,
        /// Its sentence.
        description: String,
    },
    /// A property that is not what it should be.
    #[error("{path}: {property} is {value}; expected {expected}")]
    Property {
        /// Of which object.
        path: String,
        /// Which.
        property: &'static str,
        /// What it is.
        value: String,
        /// What it should be.
        expected: &'static str,
    },
    /// Guests of one device whose devices differ.
    #[error("{device}: {field} is {value:#x}; expected {expected:#x}, as with the first guest")]
    Differs {
        /// Which guest's.
        device: String,
        /// What of it.
        field: &'static str,
        /// What it is.
        value: u64,
        /// What the first one's is.
        expected: u64,
    },
    /// There can be no such device.
    #[error("QEMU's device")]
    Device(#[from] ConfigError),
    /// The device is no longer there.
    #[error("QEMU has the device no more: {0}")]
    Unplugged(String),
    /// A guest accepted what nobody had offered, while it has offers to answer: what QEMU's device
    /// has is not what the shadow has. A new connection begins with what the agents say.
    #[error("host {host} accepted {range}, which was not offered; all is read anew")]
    Unasked {
        /// Which guest.
        host: u16,
        /// What.
        range: DpaRange,
    },
}

/// Why what an agent says cannot be.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub(super) enum HearError {
    /// An extent that cannot be accepted.
    #[error("{range} is said to be accepted; expected whole blocks in a region, once")]
    Extent {
        /// Which.
        range: DpaRange,
    },
    /// The shadow does not let the guest do it.
    #[error("{0}")]
    Refused(#[from] Refusal),
    /// Another guest has it, or is offered it.
    #[error("{range} is said to be accepted; expected nothing that host {other} has or is offered")]
    Claimed {
        /// What.
        range: DpaRange,
        /// Who has it.
        other: u16,
    },
    /// See [`QmpError::Unasked`].
    #[error("{range} was not offered")]
    Unasked {
        /// What.
        range: DpaRange,
    },
}
