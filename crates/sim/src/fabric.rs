//! A fabric: one device with dynamic capacity, the hosts that share it, and its manager.
//!
//! Neither what a host does is modelled nor what the device does: the host is
//! [`memtide_engine::dynamic_capacity`], and the first one has the engine itself, at the grain of
//! pageblocks; the device is [`memtide_cxl::device`] (`medium`), which keeps the hosts apart.
//! Modelled are those who tell the device what to do (`commands`), and the programs of the first
//! host (`programs`), which lease, pin, copy what they are ordered to move, and end. `world` lets
//! time pass between them, `before` is what happens until capacity is asked back. Every message
//! takes [`LINK`].

mod before;
mod commands;
pub(crate) mod medium;
mod programs;
mod world;

use core::time::Duration;

pub use self::{before::Fault, commands::Tags};
pub(crate) use self::{
    commands::CHAIN_MAX,
    world::{Plan, Seen, run},
};

/// How long a message takes from the device to a host, or back.
pub(crate) const LINK: Duration = Duration::from_micros(10);

/// Event records that the device keeps for a host: the most that it can number.
pub(crate) const RECORDS_MAX: u16 = 0xfffe;

/// A fabric did what must not happen.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FabricError {
    /// The engine refused what the world said.
    #[error("the engine: {0}")]
    Refused(#[from] memtide_engine::Refusal),
    /// The engine could not be made.
    #[error("the engine: {0}")]
    Config(#[from] memtide_engine::ConfigError),
    /// The host refused what the world said.
    #[error("the host: {0}")]
    Host(#[from] memtide_engine::dynamic_capacity::InputError),
    /// The port refused what the world said.
    #[error("the port: {0}")]
    Port(#[from] memtide_engine::dynamic_capacity::PortError),
    /// There can be no such device.
    #[error("the device: {0}")]
    Device(#[from] memtide_cxl::device::ConfigError),
    /// The device refused what the world said.
    #[error("the device: {0}")]
    Command(#[from] memtide_cxl::device::Refusal),
    /// The world overwrote what it was not told to.
    #[error("the device: {0}")]
    Overwritten(#[from] memtide_cxl::device::NotSanitizing),
}
