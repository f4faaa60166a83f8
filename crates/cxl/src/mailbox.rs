//! The mailbox: registers that carry a command and what came of it (CXL 3.1, 8.2.8.4).
//!
//! Whoever sends a command waits until the doorbell is silent, writes the payload and the command
//! register, rings, waits until it is silent again, and reads the status, the command register
//! again (now with the answer's length) and the payload. Here are the offsets and what the values
//! mean, no access: the registers may be memory, a file, or a model.
//!
//! A device may say anything in them. A length that the payload registers do not have is refused
//! before anybody reads so much.

use crate::{
    DecodeError, Opcode, ReturnCode,
    cci::{Background, Outcome, TooLong},
};

/// Offsets from the start of the mailbox's registers, in bytes.
pub mod offset {
    /// 32 bits: [`super::Capabilities`].
    pub const CAPABILITIES: u64 = 0x00;
    /// 32 bits: [`super::Control`].
    pub const CONTROL: u64 = 0x04;
    /// 64 bits: [`super::CommandRegister`].
    pub const COMMAND: u64 = 0x08;
    /// 64 bits: [`super::decode_status`].
    pub const STATUS: u64 = 0x10;
    /// 64 bits: [`super::BackgroundStatus`].
    pub const BACKGROUND_STATUS: u64 = 0x18;
    /// As many bytes as [`super::Capabilities`] says.
    pub const PAYLOAD: u64 = 0x20;
}

/// What a mailbox can do.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Capabilities {
    payload_log2: u8,
}

impl Capabilities {
    /// From the register. Bits 4:0 are the binary logarithm of the payload's bytes.
    ///
    /// # Errors
    /// Less than 256 bytes or more than 1 MiB.
    pub fn decode(register: u32) -> Result<Self, DecodeError> {
        let payload_log2 = (register & 0x1f) as u8;
        if !(8..=20).contains(&payload_log2) {
            let (field, expected) = ("mailbox payload size", "2^8 to 2^20");
            return Err(DecodeError::Field { field, value: payload_log2.into(), expected });
        }
        Ok(Self { payload_log2 })
    }

    /// How many bytes a payload can have.
    #[must_use]
    pub const fn payload_bytes(self) -> usize {
        1 << self.payload_log2
    }
}

/// The doorbell.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Control(pub u32);

/// Bit 0.
const DOORBELL: u32 = 1;

impl Control {
    /// Whether a command is under way.
    #[must_use]
    pub const fn is_ringing(self) -> bool {
        self.0 & DOORBELL != 0
    }

    /// The value that starts a command, and leaves interrupts as they are.
    #[must_use]
    pub const fn ring(self) -> Self {
        Self(self.0 | DOORBELL)
    }
}

/// A command, or the length of its answer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct CommandRegister {
    opcode: Opcode,
    payload_bytes: u32,
}

/// Where the payload's length starts: bits 36:16.
const LENGTH_SHIFT: u32 = 16;
/// Its bits.
const LENGTH: u64 = (1 << 21) - 1;

impl CommandRegister {
    /// A command with this many bytes of payload.
    ///
    /// # Errors
    /// More than the mailbox has.
    pub fn new(
        opcode: Opcode,
        payload_bytes: usize,
        mailbox: Capabilities,
    ) -> Result<Self, TooLong> {
        let (bytes, max) = (payload_bytes, mailbox.payload_bytes());
        if bytes > max {
            return Err(TooLong { what: "a mailbox payload", bytes, max });
        }
        Ok(Self { opcode, payload_bytes: bytes as u32 })
    }

    /// From the register, after the doorbell fell silent.
    ///
    /// # Errors
    /// More payload than the mailbox has.
    pub fn decode(register: u64, mailbox: Capabilities) -> Result<Self, TooLong> {
        let bytes = (register >> LENGTH_SHIFT & LENGTH) as usize;
        Self::new(Opcode(register as u16), bytes, mailbox)
    }

    /// The register's value.
    #[must_use]
    pub fn encode(self) -> u64 {
        u64::from(self.opcode.0) | u64::from(self.payload_bytes) << LENGTH_SHIFT
    }

    /// Which.
    #[must_use]
    pub const fn opcode(self) -> Opcode {
        self.opcode
    }

    /// Bytes of payload.
    #[must_use]
    pub const fn payload_bytes(self) -> usize {
        self.payload_bytes as usize
    }
}

/// What came of the last command, from the status register: bit 0 it goes on, 47:32 the return
/// code, 63:48 the vendor's.
#[must_use]
pub const fn decode_status(register: u64) -> Outcome {
    let background = if register & 1 == 0 { Background::Over } else { Background::Running };
    Outcome {
        code: ReturnCode((register >> 32) as u16),
        vendor_status: (register >> 48) as u16,
        background,
    }
}

/// The status register of this outcome.
#[must_use]
pub fn encode_status(outcome: Outcome) -> u64 {
    let background = match outcome.background {
        Background::Over => 0,
        Background::Running => 1,
    };
    background | u64::from(outcome.code.0) << 32 | u64::from(outcome.vendor_status) << 48
}

/// How far the last command in the background has come.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct BackgroundStatus {
    /// Which it is.
    pub opcode: Opcode,
    /// How much of it is done, in percent; a device may say up to 127.
    pub percent: u8,
    /// How it went, once it is over.
    pub code: ReturnCode,
    /// What the vendor has to say of it.
    pub vendor_status: u16,
}

impl BackgroundStatus {
    /// From the register: 15:0 the opcode, 22:16 the percentage, 47:32 the code, 63:48 the
    /// vendor's.
    #[must_use]
    pub const fn decode(register: u64) -> Self {
        Self {
            opcode: Opcode(register as u16),
            percent: (register >> 16) as u8 & 0x7f,
            code: ReturnCode((register >> 32) as u16),
            vendor_status: (register >> 48) as u16,
        }
    }

    /// The register's value.
    #[must_use]
    pub fn encode(self) -> u64 {
        u64::from(self.opcode.0)
            | u64::from(self.percent & 0x7f) << 16
            | u64::from(self.code.0) << 32
            | u64::from(self.vendor_status) << 48
    }
}
