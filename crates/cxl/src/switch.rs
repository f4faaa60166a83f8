//! A switch that a fabric manager talks to, as the specification has it (CXL 3.1, 7.6.7.1 and
//! 7.6.7.3): a state machine with devices behind its ports.
//!
//! ```text
//!                     ┌ port 0: a host
//!   manager ─▶ switch ┼ port 1: nothing
//!     5100h    5101h  ├ port 2: memory ───────────▶ 0001h
//!     5300h           ├ port 3: a shared device ──▶ 0001h, 5600h…, 5300h to a logical device
//!                     └ port 4: several heads ────▶ 0001h, 5300h to the pool ─▶ 5600h…
//! ```
//!
//! **Who is behind a port.** Behind a downstream port, commands reach the logical device that the
//! manager owns. Of a device with one head it is the one that hands out capacity. Of a device with
//! several heads, the pool of logical devices is, and the head only leads there. Behind a logical
//! device there is nobody: it refuses a tunnel, and so does the pool, which bounds the nesting.
//!
//! **Room.** A command and its answer have to fit into the switch's mailbox with everything around
//! them. An answer that does not fit is refused as an internal error (the specification has no
//! code for it); what it was the answer to has happened.
//!
//! It has one virtual switch, and binds nothing: ports are as they were made. Each command is
//! checked in full before it changes anything; [`Refusal`] says what was wrong.

mod refusal;
mod wire;

use alloc::{boxed::Box, collections::BTreeMap};

pub use self::{refusal::Refusal, wire::Reply};
use crate::{
    command::{identify::Identity, switch::Link},
    device::Device,
};

/// The payload of a mailbox, in bytes: 256 to 1 MiB (8.2.8.4.3).
const PAYLOAD_LOG2: core::ops::RangeInclusive<u8> = 8..=20;

/// A switch.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Switch {
    serial: u64,
    payload_log2: u8,
    ports: BTreeMap<u8, Port>,
}

/// One of its ports.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Port {
    /// Its link, as it is told.
    pub link: Link,
    /// What is there.
    pub attached: Attached,
}

/// What is at a port.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Attached {
    /// Nothing.
    Nothing,
    /// The host, at the upstream port.
    Host,
    /// A device without dynamic capacity.
    Memory(Identity),
    /// A device that hosts share, with one head.
    Shared(Box<Device>),
    /// A device that hosts share, this port's head of it.
    SharedHead(Box<Device>),
}

/// Why there is no such switch.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// A mailbox of a size that there is not.
    #[error("the binary logarithm of the mailbox's size is {payload_log2}; expected 8 to 20")]
    Payload {
        /// Which.
        payload_log2: u8,
    },
    /// Not one upstream port.
    #[error("{hosts} ports lead to a host; expected one")]
    Hosts {
        /// How many.
        hosts: usize,
    },
    /// More ports than 5100h can count.
    #[error("{ports} ports; expected at most 255")]
    Ports {
        /// How many.
        ports: usize,
    },
}

impl Switch {
    /// A switch with these ports, by number, and a mailbox of 2 to the power of `payload_log2`
    /// bytes.
    ///
    /// # Errors
    /// [`ConfigError`] says what there cannot be.
    pub fn new(
        serial: u64,
        payload_log2: u8,
        ports: BTreeMap<u8, Port>,
    ) -> Result<Self, ConfigError> {
        if !PAYLOAD_LOG2.contains(&payload_log2) {
            return Err(ConfigError::Payload { payload_log2 });
        }
        if ports.len() > usize::from(u8::MAX) {
            return Err(ConfigError::Ports { ports: ports.len() });
        }
        let hosts = ports.values().filter(|port| port.attached == Attached::Host).count();
        if hosts != 1 {
            return Err(ConfigError::Hosts { hosts });
        }
        Ok(Self { serial, payload_log2, ports })
    }

    /// How many bytes a command and its answer can have.
    #[must_use]
    pub const fn payload_bytes(&self) -> usize {
        1 << self.payload_log2
    }

    /// The shared device at a port.
    #[must_use]
    pub fn device(&self, port: u8) -> Option<&Device> {
        match &self.ports.get(&port)?.attached {
            Attached::Shared(device) | Attached::SharedHead(device) => Some(device),
            Attached::Nothing | Attached::Host | Attached::Memory(_) => None,
        }
    }

    /// The shared device at a port, for its hosts to talk to.
    pub fn device_mut(&mut self, port: u8) -> Option<&mut Device> {
        match &mut self.ports.get_mut(&port)?.attached {
            Attached::Shared(device) | Attached::SharedHead(device) => Some(device),
            Attached::Nothing | Attached::Host | Attached::Memory(_) => None,
        }
    }
}
