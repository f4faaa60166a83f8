//! How long answers may be (CXL 3.1, 8.2.9.1.4).
//!
//! Behind a switch a device may have longer messages than the switch's mailbox carries back.

use crate::{
    Command, DecodeError, Opcode,
    payload::{Fields, Record, Writer, fixed_size},
};

/// The shortest limit that there is: 256 bytes.
pub const LIMIT_LOG2_MIN: u8 = 8;

/// 0004h: answers may be so long.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SetResponseLimit {
    /// The binary logarithm of it in bytes: 8 to 20.
    pub log2: u8,
}

/// The answer to 0004h: one byte.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ResponseLimit {
    /// The binary logarithm of the limit from now on.
    pub log2: u8,
}

impl Command for SetResponseLimit {
    const OPCODE: Opcode = Opcode::SET_RESPONSE_MESSAGE_LIMIT;
    type Response = ResponseLimit;
}

fixed_size!(
    SetResponseLimit = "a Set Response Message Limit request",
    ResponseLimit = "a response message limit",
);

impl Record for SetResponseLimit {
    const SIZE: usize = 1;

    fn write(&self, out: &mut Writer<'_>) {
        out.u8(self.log2);
    }

    fn read(fields: &mut Fields<'_>) -> Result<Self, DecodeError> {
        Ok(Self { log2: fields.u8() })
    }
}

impl Record for ResponseLimit {
    const SIZE: usize = 1;

    fn write(&self, out: &mut Writer<'_>) {
        out.u8(self.log2);
    }

    fn read(fields: &mut Fields<'_>) -> Result<Self, DecodeError> {
        Ok(Self { log2: fields.u8() })
    }
}
