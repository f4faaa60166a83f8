//! Messages between programs, the daemon and the command line.
//!
//! One message is one packet of a Unix sequenced-packet socket: packet boundaries are message
//! boundaries, and file descriptors travel beside the packet that speaks of them. The encoding is
//! postcard. The first packet of a connection is [`Hello`]; the daemon refuses a version it does
//! not speak with [`Refused`] and closes.
//!
//! * [`program`]: what a program's pager and the daemon say to each other.
//! * [`control`]: what the command line and the daemon say to each other.
//! * [`codec`]: packets, their limits and their errors.
//! * [`label`]: what a program is started as.

#![forbid(unsafe_code)]

pub mod codec;
pub mod control;
pub mod label;
pub mod program;

pub use codec::{CodecError, MAX_PACKET_BYTES, decode, encode};
pub use control::{ControlReply, ControlRequest, Whom};
pub use program::{FromProgram, Hello, HelloProgram, Lineage, NodeInfo, ToProgram};

use serde::{Deserialize, Serialize};

/// The version of this protocol. Both sides must speak the same.
pub const VERSION: u32 = 5;

/// A request that the daemon refuses: which field, what it was, what was expected.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Refused {
    /// The field at fault.
    pub field: String,
    /// Its value, as text.
    pub value: String,
    /// What was expected.
    pub expected: String,
}

impl std::fmt::Display for Refused {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} is {:?}; expected {}", self.field, self.value, self.expected)
    }
}

impl std::error::Error for Refused {}
