//! What has become of a command that goes on after its response (CXL 3.1, 8.2.9.1.2).
//!
//! Behind a mailbox a register says it ([`crate::mailbox::BackgroundStatus`]); where messages
//! carry commands, this one asks.

use crate::{
    Command, DecodeError, Opcode, ReturnCode,
    cci::Background,
    payload::{Fields, Record, Writer, fixed_size},
};

/// 0002h: what has become of the last one?
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct GetBackgroundOperation;

/// The answer to 0002h: 8 bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct BackgroundOperation {
    /// Whether it still goes on.
    pub background: Background,
    /// How much of it is done, in percent: 7 bits.
    pub percent: u8,
    /// Which it is.
    pub opcode: Opcode,
    /// How it went, once it is over.
    pub code: ReturnCode,
    /// What the vendor has to say of it.
    pub vendor_status: u16,
}

impl Command for GetBackgroundOperation {
    const OPCODE: Opcode = Opcode::BACKGROUND_OPERATION_STATUS;
    type Response = BackgroundOperation;
}

fixed_size!(
    GetBackgroundOperation = "a Background Operation Status request",
    BackgroundOperation = "a background operation's status",
);

impl Record for GetBackgroundOperation {
    const SIZE: usize = 0;

    fn write(&self, _: &mut Writer<'_>) {}

    fn read(_: &mut Fields<'_>) -> Result<Self, DecodeError> {
        Ok(Self)
    }
}

impl Record for BackgroundOperation {
    const SIZE: usize = 8;

    fn write(&self, out: &mut Writer<'_>) {
        let running = u8::from(self.background == Background::Running);
        out.u8((self.percent & 0x7f) << 1 | running).reserved(1).u16(self.opcode.0);
        out.u16(self.code.0).u16(self.vendor_status);
    }

    fn read(fields: &mut Fields<'_>) -> Result<Self, DecodeError> {
        let status = fields.u8();
        fields.reserved(1);
        Ok(Self {
            background: if status & 1 == 0 { Background::Over } else { Background::Running },
            percent: status >> 1,
            opcode: Opcode(fields.u16()),
            code: ReturnCode(fields.u16()),
            vendor_status: fields.u16(),
        })
    }
}
