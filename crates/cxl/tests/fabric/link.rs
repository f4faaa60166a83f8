//! The manager's connection: one command at a time, which may be lost, carried out twice, or
//! answered to nobody.

use memtide_cxl::{
    device::Device,
    manager::{Command, Reply},
};

/// Where a command is.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Link {
    /// No connection.
    Down,
    /// Nothing is under way.
    Idle,
    /// To the device.
    Asked(Command),
    /// Back.
    Replied(Reply),
}

/// The device does what it is told, in bytes both ways.
pub fn execute(device: &mut Device, command: &Command) -> Reply {
    let reply = device.manager(command.opcode(), &command.to_bytes());
    command.reply(reply.code, &reply.payload).expect("what the device says can be read")
}
