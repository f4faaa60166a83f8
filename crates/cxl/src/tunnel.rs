//! A command for whoever is behind a port: 5300h (CXL 3.1, 7.6.7.3.1).
//!
//! A fabric manager reaches a switch, and through it the devices at its ports, and through a
//! device the logical devices that it is made of. Each of them gets a message of its own, which the
//! one before it carries:
//!
//! ```text
//!   manager ─ 5300h to port 3 { 5600h } ─▶ switch ─ 5600h ─▶ device
//!   manager ◀─ success { success, info } ─ switch ◀─ info ─┘
//! ```
//!
//! So there are two codes in what comes back: the carrier's, and the device's. A size of 16 bits
//! limits what can be carried, and is checked when a tunnel is made: [`Tunnel::new`]. A [`Route`]
//! is a tunnel in a tunnel, as far as it goes.

mod route;

use alloc::vec::Vec;

use crate::{
    Command, DecodeError, Opcode, Payload,
    cci::{Kind, Message, TooLong},
    payload::{Fields, Writer},
};

pub use self::route::{HOP_BYTES, HOPS_MAX, Route, RouteError};

/// The longest message that can be carried, its header included.
pub const MESSAGE_BYTES_MAX: usize = u16::MAX as usize;

/// 5300h: a request for somebody else.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Tunnel {
    target: Target,
    message: Message,
}

/// What a tunnel leads to.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Target {
    /// To a switch: what is at this port. To a device: this logical device.
    PortOrLd(u8),
    /// To a device of several heads: what owns its logical devices.
    LdPool,
}

/// The answer to 5300h: a response of somebody else.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Tunneled {
    message: Message,
}

impl Command for Tunnel {
    const OPCODE: Opcode = Opcode::TUNNEL_MANAGEMENT_COMMAND;
    type Response = Tunneled;
}

impl Tunnel {
    /// Carries a request.
    ///
    /// # Errors
    /// It is longer than [`MESSAGE_BYTES_MAX`].
    ///
    /// # Panics
    /// It is a response.
    pub fn new(target: Target, message: Message) -> Result<Self, TooLong> {
        assert_eq!(message.kind, Kind::Request, "a tunnel carries requests");
        check_length(&message)?;
        Ok(Self { target, message })
    }

    /// What it leads to.
    #[must_use]
    pub const fn target(&self) -> Target {
        self.target
    }

    /// What it carries: a request.
    #[must_use]
    pub const fn message(&self) -> &Message {
        &self.message
    }
}

impl Tunneled {
    /// Carries a response back.
    ///
    /// # Errors
    /// It is longer than [`MESSAGE_BYTES_MAX`].
    ///
    /// # Panics
    /// It is a request.
    pub fn new(message: Message) -> Result<Self, TooLong> {
        assert_ne!(message.kind, Kind::Request, "a tunnel carries responses back");
        check_length(&message)?;
        Ok(Self { message })
    }

    /// What it carries: a response.
    #[must_use]
    pub const fn message(&self) -> &Message {
        &self.message
    }

    /// What it carries, and nothing around it.
    #[must_use]
    pub fn into_message(self) -> Message {
        self.message
    }
}

fn check_length(message: &Message) -> Result<(), TooLong> {
    let (bytes, max) = (message.bytes(), MESSAGE_BYTES_MAX);
    if bytes > max {
        return Err(TooLong { what: "a tunneled message", bytes, max });
    }
    Ok(())
}

impl Payload for Tunnel {
    fn encode(&self, out: &mut Vec<u8>) {
        let (id, kind) = match self.target {
            Target::PortOrLd(id) => (id, 0),
            Target::LdPool => (0, 1),
        };
        let mut out = Writer(out);
        let message = encode(&self.message);
        out.u8(id).u8(kind).count16(&message).bytes(&message);
    }

    fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let mut fields = Fields::at_least("a Tunnel Management Command request", bytes, 4)?;
        let (id, kind) = (fields.u8(), fields.u8());
        let length = fields.u16();
        let message = Message::decode(fields.payload(length.into())?)?;
        let target = match kind {
            0 => Target::PortOrLd(id),
            1 => Target::LdPool,
            other => {
                let (field, expected) = ("tunnel target type", "0 or 1");
                return Err(DecodeError::Field { field, value: other.into(), expected });
            }
        };
        if message.kind != Kind::Request {
            let (field, expected) = ("tunneled message category", "0: a request");
            return Err(DecodeError::Field { field, value: 1, expected });
        }
        Ok(Self { target, message })
    }
}

impl Payload for Tunneled {
    fn encode(&self, out: &mut Vec<u8>) {
        let message = encode(&self.message);
        Writer(out).count16(&message).reserved(2).bytes(&message);
    }

    fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let mut fields = Fields::at_least("a tunneled response", bytes, 4)?;
        let length = fields.u16();
        fields.reserved(2);
        let message = Message::decode(fields.payload(length.into())?)?;
        if message.kind == Kind::Request {
            let (field, expected) = ("tunneled message category", "1: a response");
            return Err(DecodeError::Field { field, value: 0, expected });
        }
        Ok(Self { message })
    }
}

fn encode(message: &Message) -> Vec<u8> {
    message.encode().expect("its length was checked when the tunnel was made")
}
