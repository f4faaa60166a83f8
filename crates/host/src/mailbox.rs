//! A mailbox's registers: one command at a time, and its answer (CXL 3.1, 8.2.8.4).
//!
//! ```text
//! doorbell clear? ─▶ command, payload ─▶ doorbell set ─▶ clear again ─▶ status, length, payload
//! ```
//!
//! Whoever had the mailbox before may have been killed in between: its command is waited for, its
//! answer thrown away. A device that has been unplugged answers all ones, in the doorbell, too,
//! which is how one sees it.

use std::{
    thread,
    time::{Duration, Instant},
};

use memtide_cxl::{
    Opcode, ReturnCode,
    mailbox::{Capabilities, CommandRegister, Control, decode_status, offset},
};
use memtide_sys::{DeviceRegisters, device_registers::OutOfBounds};

/// How long a command may take (CXL 3.1, 8.2.8.4.1: at most 2 s).
const LIMIT: Duration = Duration::from_secs(2);
/// How often the doorbell is looked at.
const LOOK_EVERY: Duration = Duration::from_micros(200);

/// Why a command has no answer.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CommandError {
    /// All registers are ones.
    #[error("the device does not answer any more: it has been unplugged, or has failed")]
    Gone,
    /// It did not end.
    #[error("{opcode} did not end within {} s", LIMIT.as_secs())]
    NotInTime {
        /// Which.
        opcode: Opcode,
    },
    /// The device refused it.
    #[error("{opcode}: the device answers {code}")]
    Refused {
        /// Which.
        opcode: Opcode,
        /// With what.
        code: ReturnCode,
    },
    /// It does not fit.
    #[error("{opcode} has {bytes} bytes; expected at most {room}, the room in the mailbox")]
    TooLong {
        /// Which.
        opcode: Opcode,
        /// So many.
        bytes: usize,
        /// So many fit.
        room: usize,
    },
    /// The answer makes no sense.
    #[error("the answer to {opcode}: {source}")]
    Answer {
        /// To which.
        opcode: Opcode,
        /// What is wrong with it.
        source: memtide_cxl::DecodeError,
    },
    /// A register is not where registers are.
    #[error(transparent)]
    Register(#[from] OutOfBounds),
}

/// The registers of a mailbox, mapped.
#[derive(Debug)]
pub struct MailboxRegisters {
    registers: DeviceRegisters,
    at: usize,
    capabilities: Capabilities,
    room: usize,
}

impl MailboxRegisters {
    /// The mailbox whose registers begin at `at`.
    ///
    /// # Errors
    /// [`CommandError::Gone`] where its size is none that a mailbox has.
    pub fn new(registers: DeviceRegisters, at: usize) -> Result<Self, CommandError> {
        let register = registers.read32(place(at, offset::CAPABILITIES))?;
        let capabilities = Capabilities::decode(register).map_err(|_| CommandError::Gone)?;
        // As much of it as is mapped.
        let mapped = registers.len().saturating_sub(place(at, offset::PAYLOAD));
        let room = capabilities.payload_bytes().min(mapped & !3);
        Ok(Self { registers, at, capabilities, room })
    }

    /// Any register of the mapping, from its start.
    ///
    /// # Errors
    /// [`OutOfBounds`].
    pub fn read32(&self, at: usize) -> Result<u32, OutOfBounds> {
        self.registers.read32(at)
    }

    /// The most bytes that a command may have.
    #[must_use]
    pub const fn room(&self) -> usize {
        self.room
    }

    /// Gives a command; returns what it returns.
    ///
    /// # Errors
    /// [`CommandError`].
    pub fn execute(&mut self, opcode: Opcode, payload: &[u8]) -> Result<Vec<u8>, CommandError> {
        let (bytes, room) = (payload.len(), self.room);
        let too_long = CommandError::TooLong { opcode, bytes, room };
        if bytes > room {
            return Err(too_long);
        }
        let command = CommandRegister::new(opcode, bytes, self.capabilities);
        let command = command.map_err(|_| too_long)?;
        let control = self.idle(opcode)?;
        self.registers.write64(place(self.at, offset::COMMAND), command.encode())?;
        self.write_payload(payload)?;
        self.registers.write32(place(self.at, offset::CONTROL), control.ring().0)?;
        self.idle(opcode)?;
        let code = decode_status(self.registers.read64(place(self.at, offset::STATUS))?).code;
        if code != ReturnCode::SUCCESS {
            return Err(CommandError::Refused { opcode, code });
        }
        let answer = self.registers.read64(place(self.at, offset::COMMAND))?;
        let answered = CommandRegister::decode(answer, self.capabilities);
        let length = answered.map_or(room, CommandRegister::payload_bytes);
        Ok(self.read_payload(length.min(room))?)
    }

    /// Waits until no command is under way.
    fn idle(&self, opcode: Opcode) -> Result<Control, CommandError> {
        let end = Instant::now() + LIMIT;
        loop {
            let control = Control(self.registers.read32(place(self.at, offset::CONTROL))?);
            if control.0 == u32::MAX {
                return Err(CommandError::Gone);
            }
            if !control.is_ringing() {
                return Ok(control);
            }
            if Instant::now() > end {
                return Err(CommandError::NotInTime { opcode });
            }
            thread::sleep(LOOK_EVERY);
        }
    }

    fn write_payload(&mut self, payload: &[u8]) -> Result<(), OutOfBounds> {
        for (number, bytes) in payload.chunks(4).enumerate() {
            let mut word = [0; 4];
            word[..bytes.len()].copy_from_slice(bytes);
            let at = place(self.at, offset::PAYLOAD) + 4 * number;
            self.registers.write32(at, u32::from_le_bytes(word))?;
        }
        Ok(())
    }

    fn read_payload(&self, length: usize) -> Result<Vec<u8>, OutOfBounds> {
        let mut bytes = Vec::with_capacity(length.next_multiple_of(4));
        for at in (0..length).step_by(4) {
            let word = self.registers.read32(place(self.at, offset::PAYLOAD) + at)?;
            bytes.extend(word.to_le_bytes());
        }
        bytes.truncate(length);
        Ok(bytes)
    }
}

/// Where a register is that begins so far into the mailbox: offsets are few bytes.
const fn place(at: usize, offset: u64) -> usize {
    at + offset as usize
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dcd::registers::tests::registers;

    /// Memory clears no doorbell by itself: like a device that hangs.
    #[test]
    fn a_device_that_hangs_is_given_up() {
        let mut mailbox = MailboxRegisters::new(registers(&[(0x88, 11)]), 0x88).unwrap();
        assert_eq!(mailbox.room(), 2048);
        let start = Instant::now();
        let opcode = Opcode::GET_DC_CONFIGURATION;
        assert_eq!(mailbox.execute(opcode, &[8, 0]), Err(CommandError::NotInTime { opcode }));
        assert!(start.elapsed() >= LIMIT);
        assert_eq!(mailbox.registers.read64(0x90), Ok(0x2_4800));
        assert_eq!(mailbox.registers.read32(0xa8), Ok(8));
    }

    #[test]
    fn a_device_that_is_gone_answers_ones() {
        let mut mailbox =
            MailboxRegisters::new(registers(&[(0x88, 11), (0x8c, u32::MAX)]), 0x88).unwrap();
        assert_eq!(mailbox.execute(Opcode::IDENTIFY, &[]), Err(CommandError::Gone));
        let ones = registers(&[(0x88, u32::MAX)]);
        assert_eq!(MailboxRegisters::new(ones, 0x88).err(), Some(CommandError::Gone));
    }

    #[test]
    fn what_does_not_fit_is_not_sent() {
        let mut mailbox = MailboxRegisters::new(registers(&[(0x88, 8)]), 0x88).unwrap();
        let opcode = Opcode::RELEASE_DC;
        let error = mailbox.execute(opcode, &[0; 257]).unwrap_err();
        assert_eq!(error, CommandError::TooLong { opcode, bytes: 257, room: 256 });
        assert_eq!(mailbox.registers.read64(0x90), Ok(0));
    }
}
