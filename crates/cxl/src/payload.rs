//! How a message becomes bytes, and bytes a message. Little-endian throughout.
//!
//! Two parts meet here. What is sent is made by this crate's own users, and so [`Payload::encode`]
//! cannot fail: a value outside of its documented range is a mistake in the program, and stops it.
//! What arrives may be hostile, and so [`Payload::decode`] compares every count with the bytes that
//! are there before it makes room for anything.

mod fields;

pub(crate) use fields::{Fields, Record, Writer, fixed_size};

use alloc::vec::Vec;

use crate::Opcode;

/// What devices count capacity in, in some fields: 256 MiB.
pub const CAPACITY_UNIT: u64 = 256 << 20;

/// Something that is sent. `decode(encode(x)) == x` for every message that can be sent; reserved
/// fields are sent as 0 and not looked at.
pub trait Payload: Sized {
    /// Appends its bytes.
    ///
    /// # Panics
    /// If a list has more members than its count can say, or a capacity that is sent in units of
    /// [`CAPACITY_UNIT`] is no multiple of it. No decoded message is like that.
    fn encode(&self, out: &mut Vec<u8>);

    /// Reads it from exactly these bytes.
    ///
    /// # Errors
    /// [`DecodeError`] says which field, what it is and what was expected.
    fn decode(bytes: &[u8]) -> Result<Self, DecodeError>;

    /// Its bytes.
    #[must_use]
    fn to_bytes(&self) -> Vec<u8> {
        let mut out = Vec::new();
        self.encode(&mut out);
        out
    }
}

/// A request that has an answer.
pub trait Command: Payload {
    /// Its number.
    const OPCODE: Opcode;
    /// What comes back with success.
    type Response: Payload;
}

/// Nothing: the answer to commands that only succeed or fail.
impl Payload for () {
    fn encode(&self, _: &mut Vec<u8>) {}

    fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        if bytes.is_empty() {
            return Ok(());
        }
        Err(DecodeError::Length { what: "an empty payload", bytes: bytes.len(), expected: 0 })
    }
}

/// Why bytes are no message.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DecodeError {
    /// Too few or too many.
    #[error("{what} of {bytes} bytes; expected {expected}")]
    Length {
        /// Which message.
        what: &'static str,
        /// How many there are.
        bytes: usize,
        /// How many there should be.
        expected: usize,
    },
    /// A field that says what it may not say.
    #[error("{field} is {value:#x}; expected {expected}")]
    Field {
        /// Which.
        field: &'static str,
        /// What it says.
        value: u64,
        /// What it may say.
        expected: &'static str,
    },
}

impl DecodeError {
    /// What a device answers to a request that does not decode (CXL 3.1, 8.2.9.4.1 and table 8-34).
    #[must_use]
    pub const fn code(&self) -> crate::ReturnCode {
        match self {
            Self::Length { .. } => crate::ReturnCode::INVALID_PAYLOAD_LENGTH,
            Self::Field { .. } => crate::ReturnCode::INVALID_INPUT,
        }
    }
}
