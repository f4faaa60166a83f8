//! What a switch refuses, and the return code of it.

use crate::{DecodeError, Opcode, ReturnCode, tunnel::Target};

/// What was wrong with a command.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Refusal {
    /// It is none.
    #[error(transparent)]
    Decode(#[from] DecodeError),
    /// The switch has no such command.
    #[error("{opcode} is no command of a switch")]
    Command {
        /// Which.
        opcode: Opcode,
    },
    /// It does not fit into the mailbox.
    #[error("a payload of {bytes} bytes; expected at most {room}")]
    PayloadLength {
        /// How long it is.
        bytes: usize,
        /// How long it may be.
        room: usize,
    },
    /// There is no such port (7.6.7.1.2, 7.6.7.3.1).
    #[error("there is no port {port}")]
    NoPort {
        /// Which.
        port: u8,
    },
    /// Nobody there takes commands (7.6.7.3.1).
    #[error("no device is at port {port}")]
    NoDevice {
        /// Which.
        port: u8,
    },
    /// A switch has ports (7.6.7.3.1).
    #[error("a tunnel to {target}; expected one to a port")]
    Target {
        /// To what it should lead.
        target: Target,
    },
    /// The answer does not fit into the mailbox, or into a tunnel.
    #[error("an answer of {bytes} bytes; there is room for {room}")]
    AnswerLength {
        /// How long it is.
        bytes: usize,
        /// How long it may be.
        room: usize,
    },
    /// What 5101h asks for does not fit into the mailbox.
    #[error("the states of {ports} ports; the mailbox has room for {room}")]
    TooManyPorts {
        /// Of how many.
        ports: usize,
        /// For how many there is room.
        room: usize,
    },
}

impl Refusal {
    /// What the switch answers.
    #[must_use]
    pub const fn code(&self) -> ReturnCode {
        match self {
            Self::Decode(why) => why.code(),
            Self::Command { .. } => ReturnCode::UNSUPPORTED,
            Self::PayloadLength { .. } => ReturnCode::INVALID_PAYLOAD_LENGTH,
            Self::NoPort { .. }
            | Self::NoDevice { .. }
            | Self::Target { .. }
            | Self::TooManyPorts { .. } => ReturnCode::INVALID_INPUT,
            Self::AnswerLength { .. } => ReturnCode::INTERNAL_ERROR,
        }
    }
}
