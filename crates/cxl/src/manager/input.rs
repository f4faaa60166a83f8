//! What a manager hears: of its devices, of hosts, and that time passes. What operators ask for
//! comes by [`super::Manager::request`].

use alloc::{string::String, vec::Vec};

use memtide_units::HoldReason;

use super::{
    exchange::Reply,
    name::{DeviceName, HostName},
};

/// Most holders in a host's answer.
pub const MAX_HOLDERS: usize = 256;

/// One thing that happened.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Input {
    /// There is a connection to a device, a new one: what was in flight will not be answered.
    DeviceUp {
        /// Which.
        device: DeviceName,
    },
    /// There is none any more. What was in flight may have been carried out, or not. A reply that
    /// does not come in time, or is none, is this, too.
    DeviceDown {
        /// Which.
        device: DeviceName,
    },
    /// The device's reply to the one command that is in flight.
    Reply {
        /// Whose.
        device: DeviceName,
        /// What it says.
        reply: Reply,
    },
    /// The device's event log has something new: the interrupt. Where there is none, this is to be
    /// said now and then.
    EventsPending {
        /// Which.
        device: DeviceName,
    },
    /// A host's agent is connected, or no longer: what it said before is forgotten.
    HostUp {
        /// Which.
        host: HostName,
    },
    /// Its connection is gone; what it has, it has.
    HostDown {
        /// Which.
        host: HostName,
    },
    /// What became of a device's request for capacity, in the host's own words.
    HostAnswer {
        /// Which.
        host: HostName,
        /// On which device.
        device: DeviceName,
        /// What it says.
        answer: HostAnswer,
    },
    /// What a host uses of a device.
    HostUses {
        /// Which.
        host: HostName,
        /// On which device.
        device: DeviceName,
        /// Bytes that its programs use.
        used: u64,
    },
    /// A host needs so much more than it has, or no longer (0), of any device.
    HostWants {
        /// Which.
        host: HostName,
        /// Bytes.
        bytes: u64,
    },
    /// Nothing happened but the passing of time.
    Tick,
}

/// A host's answer to what it was asked to give back: `asked = released + remaining`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct HostAnswer {
    /// Bytes that it was asked for, as far as they were not gone before.
    pub asked: u64,
    /// Bytes that it released.
    pub released: u64,
    /// Bytes that stay for now. They follow by themselves when they are free.
    pub remaining: u64,
    /// Who holds them, the largest first; at most [`MAX_HOLDERS`] are kept.
    pub holders: Vec<Holder>,
}

/// Somebody who keeps capacity from leaving a host.
#[derive(Clone, PartialEq, Eq, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct Holder {
    /// The tenant's name on that host, or nothing.
    pub tenant: Option<String>,
    /// The program's name.
    pub program: Option<String>,
    /// The process, or nothing.
    pub pid: Option<u32>,
    /// Bytes.
    pub bytes: u64,
    /// Why.
    pub reason: HoldReason,
}

/// Why an input makes no sense; then nothing changed. What a device says never does this.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum InputError {
    /// No such device is set up.
    #[error("device {device} is not set up")]
    NoSuchDevice {
        /// Which.
        device: DeviceName,
    },
    /// No such host is set up.
    #[error("host {host} is not set up")]
    NoSuchHost {
        /// Which.
        host: HostName,
    },
    /// No command is in flight.
    #[error("device {device} replied; expected nothing, no command was given")]
    NotAsked {
        /// Which.
        device: DeviceName,
    },
    /// The numbers of a host's answer contradict each other.
    #[error("{host}: asked {asked}, released {released}, remaining {remaining}; expected a sum")]
    Answer {
        /// Whose.
        host: HostName,
        /// What it was asked for.
        asked: u64,
        /// What it released.
        released: u64,
        /// What stays.
        remaining: u64,
    },
}
