//! Messages of a component command interface (CXL 3.1, 7.6.3, figure 7-19).
//!
//! Where no mailbox register carries a command (over MCTP, in a tunnel, on a socket), a header
//! of 12 bytes goes before its payload:
//!
//! ```text
//!   byte 0        1    2         3        5                       8            10
//!        category tag  reserved  opcode   length 20:0, background  return code  vendor status
//! ```
//!
//! A response repeats its request's tag and opcode. The last two fields and the background bit are
//! a response's; in a request they are reserved.

use alloc::vec::Vec;

use crate::{
    Command, DecodeError, Opcode, ReturnCode,
    payload::{Fields, Writer},
};

/// The header's bytes.
pub const HEADER_BYTES: usize = 12;

/// The longest payload: 1 MiB, the longest that a mailbox can have (CXL 3.1, 8.2.8.4.3).
pub const PAYLOAD_BYTES_MAX: usize = 1 << 20;

/// Bits 20:0 of the three bytes at 5.
const LENGTH: u32 = (1 << 21) - 1;
/// Bit 23 of them.
const BACKGROUND: u32 = 1 << 23;

/// A request or a response.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Message {
    /// What a response has in common with its request; the requester's choice.
    pub tag: u8,
    /// Which command.
    pub opcode: Opcode,
    /// Which of the two.
    pub kind: Kind,
    /// The command's own bytes.
    pub payload: Vec<u8>,
}

/// What a message is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// Somebody wants something.
    Request,
    /// What came of it.
    Response(Outcome),
}

/// What came of a request.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Outcome {
    /// How it went.
    pub code: ReturnCode,
    /// What the vendor has to say of it.
    pub vendor_status: u16,
    /// Whether it goes on.
    pub background: Background,
}

/// Whether a command goes on after its response.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Background {
    /// It is over.
    Over,
    /// It goes on.
    Running,
}

/// A message that is longer than what is to carry it can say.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{what} of {bytes} bytes; expected at most {max}")]
pub struct TooLong {
    /// What it is.
    pub what: &'static str,
    /// How many bytes it has.
    pub bytes: usize,
    /// How many it may have.
    pub max: usize,
}

impl Message {
    /// A request.
    #[must_use]
    pub const fn request(tag: u8, opcode: Opcode, payload: Vec<u8>) -> Self {
        Self { tag, opcode, kind: Kind::Request, payload }
    }

    /// The request that says this command.
    #[must_use]
    pub fn command<C: Command>(tag: u8, command: &C) -> Self {
        Self::request(tag, C::OPCODE, command.to_bytes())
    }

    /// The response to a request. One that runs in the background says so.
    #[must_use]
    pub fn response(request: &Self, code: ReturnCode, payload: Vec<u8>) -> Self {
        let background = match code {
            ReturnCode::BACKGROUND_STARTED => Background::Running,
            _ => Background::Over,
        };
        let outcome = Outcome { code, vendor_status: 0, background };
        let Self { tag, opcode, .. } = *request;
        Self { tag, opcode, kind: Kind::Response(outcome), payload }
    }

    /// Whether it is what `request` waits for.
    #[must_use]
    pub fn answers(&self, request: &Self) -> bool {
        matches!(self.kind, Kind::Response(_))
            && request.kind == Kind::Request
            && (self.tag, self.opcode) == (request.tag, request.opcode)
    }

    /// Its bytes.
    ///
    /// # Errors
    /// A payload of more than [`PAYLOAD_BYTES_MAX`].
    pub fn encode(&self) -> Result<Vec<u8>, TooLong> {
        let (bytes, max) = (self.payload.len(), PAYLOAD_BYTES_MAX);
        if bytes > max {
            return Err(TooLong { what: "a CCI payload", bytes, max });
        }
        let mut length = bytes as u32;
        let (category, code, vendor_status) = match self.kind {
            Kind::Request => (0, 0, 0),
            Kind::Response(outcome) => {
                if outcome.background == Background::Running {
                    length |= BACKGROUND;
                }
                (1, outcome.code.0, outcome.vendor_status)
            }
        };
        let mut out = Vec::with_capacity(HEADER_BYTES + bytes);
        let mut fields = Writer(&mut out);
        fields.u8(category).u8(self.tag).reserved(1).u16(self.opcode.0);
        fields.bytes(&length.to_le_bytes()[..3]).u16(code).u16(vendor_status);
        fields.bytes(&self.payload);
        Ok(out)
    }

    /// Reads it from exactly these bytes.
    ///
    /// # Errors
    /// [`DecodeError`]: no header, another length than it says, a category that is none.
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let mut fields = Fields::at_least("a CCI message", bytes, HEADER_BYTES)?;
        // Bits 7:4 are reserved.
        let category = fields.u8() & 0xf;
        let tag = fields.u8();
        fields.reserved(1);
        let opcode = Opcode(fields.u16());
        let length = length(fields.bytes());
        let (code, vendor_status) = (ReturnCode(fields.u16()), fields.u16());
        let payload = fields.payload((length & LENGTH) as usize)?;
        if payload.len() > PAYLOAD_BYTES_MAX {
            let (value, expected) = (payload.len() as u64, "at most 0x100000");
            return Err(DecodeError::Field { field: "payload length", value, expected });
        }
        let background =
            if length & BACKGROUND == 0 { Background::Over } else { Background::Running };
        let kind = match category {
            0 => Kind::Request,
            1 => Kind::Response(Outcome { code, vendor_status, background }),
            other => {
                let (field, expected) = ("message category", "0 or 1");
                return Err(DecodeError::Field { field, value: other.into(), expected });
            }
        };
        Ok(Self { tag, opcode, kind, payload: payload.to_vec() })
    }
}

/// How many bytes follow a header, for who reads from a stream: at most [`PAYLOAD_BYTES_MAX`].
///
/// # Errors
/// The header says more.
pub fn payload_bytes(header: &[u8; HEADER_BYTES]) -> Result<usize, DecodeError> {
    let bytes = length([header[5], header[6], header[7]]) & LENGTH;
    if bytes as usize > PAYLOAD_BYTES_MAX {
        let (value, expected) = (bytes.into(), "at most 0x100000");
        return Err(DecodeError::Field { field: "payload length", value, expected });
    }
    Ok(bytes as usize)
}

fn length([low, middle, high]: [u8; 3]) -> u32 {
    u32::from_le_bytes([low, middle, high, 0])
}
