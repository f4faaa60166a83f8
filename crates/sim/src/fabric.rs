//! A fabric: one device with dynamic capacity, the hosts that share it, and its manager.
//!
//! What a host does is not modelled: it is [`memtide_engine::dynamic_capacity`], and on the first
//! host the engine itself, at the grain of pageblocks. Modelled are the other ends: the device
//! (`device`), which answers commands as CXL 3.1 says and keeps the hosts apart; the manager
//! (`manager`), which hands out extents and asks them back; the programs of the first host
//! (`programs`), which lease, pin, copy what they are ordered to move, and end. `world` lets time
//! pass between them, `before` is what happens until capacity is asked back. Every message takes [`LINK`].

mod before;
mod device;
mod manager;
mod programs;
mod world;

use core::time::Duration;

pub use self::{before::Fault, manager::Tags};
pub(crate) use self::{
    manager::CHAIN_MAX,
    world::{Plan, Seen, run},
};

/// How long a message takes from the device to a host, or back.
pub(crate) const LINK: Duration = Duration::from_micros(10);

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
}
