//! The primary mailbox of a device, and the register that says which event logs have records.
//!
//! [`Commands`] is what the agent needs of a device, so that its proofs can have one in memory.

use memtide_cxl::{Command, Opcode, Payload};
use memtide_sys::DeviceRegisters;

pub use crate::mailbox::CommandError;
use crate::mailbox::MailboxRegisters;

/// Of the event status register (CXL 3.1, 8.2.8.3.1).
const DYNAMIC_CAPACITY: u32 = 1 << 4;

/// A device that takes commands.
pub trait Commands {
    /// Gives a command; returns what it returns.
    ///
    /// # Errors
    /// [`CommandError`].
    fn execute(&mut self, opcode: Opcode, payload: &[u8]) -> Result<Vec<u8>, CommandError>;

    /// The most bytes that a command may have.
    fn room(&self) -> usize;

    /// Whether the log of dynamic capacity has records.
    ///
    /// # Errors
    /// [`CommandError`]; above all where the device is gone.
    fn has_records(&mut self) -> Result<bool, CommandError>;

    /// Gives a command, typed.
    ///
    /// # Errors
    /// [`CommandError`].
    fn ask<C: Command>(&mut self, command: &C) -> Result<C::Response, CommandError> {
        let answer = self.execute(C::OPCODE, &command.to_bytes())?;
        C::Response::decode(&answer)
            .map_err(|source| CommandError::Answer { opcode: C::OPCODE, source })
    }
}

/// The mailbox of a device, and beside it the register that says which event logs have records.
#[derive(Debug)]
pub struct Mailbox {
    registers: MailboxRegisters,
    status: usize,
}

impl Mailbox {
    /// The mailbox whose registers begin at `at`, of the device whose event status is at `status`.
    ///
    /// # Errors
    /// [`CommandError::Gone`] where its size is none that a mailbox has.
    pub fn new(registers: DeviceRegisters, at: usize, status: usize) -> Result<Self, CommandError> {
        Ok(Self { registers: MailboxRegisters::new(registers, at)?, status })
    }
}

impl Commands for Mailbox {
    fn execute(&mut self, opcode: Opcode, payload: &[u8]) -> Result<Vec<u8>, CommandError> {
        self.registers.execute(opcode, payload)
    }

    fn room(&self) -> usize {
        self.registers.room()
    }

    fn has_records(&mut self) -> Result<bool, CommandError> {
        match self.registers.read32(self.status)? {
            u32::MAX => Err(CommandError::Gone),
            status => Ok(status & DYNAMIC_CAPACITY != 0),
        }
    }
}
