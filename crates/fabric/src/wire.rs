//! What is said on the sockets.
//!
//! A stream of frames: four bytes, little-endian, that say how long the rest is, and a message in
//! postcard's encoding. A frame that is too long, or is no message, ends the connection.
//!
//! **With a fabric.** Whoever connects says [`Hello`]; the fabric answers [`Welcome`] or
//! [`Refused`](FromFabric::Refused). On a Unix socket a host's welcome carries one descriptor: a
//! sparse memory file as long as the device, of which the extents that this host has accepted are
//! its own. Every host has a file of its own, so that the kernel keeps hosts apart as a device
//! would; what a host must not touch holds no data of anybody. Then [`ToFabric::Command`] is
//! answered by [`FromFabric::Reply`], one at a time and in order, each a whole CCI message, and
//! [`FromFabric::EventsPending`] may come at any time: the interrupt of the event log.
//!
//! **With a manager.** A device does not tell who holds what, nor why; the hosts themselves do, by
//! a connection of their own ([`ToManager`], [`FromManager`]). A manager works without it, and says
//! that the host has not told.

use memtide_units::{DcExtent, DpaRange, HoldReason};
use serde::{Deserialize, Serialize};

/// The version of both protocols.
pub const VERSION: u16 = 3;
/// Longest frame: the largest mailbox payload (1 MiB) and what is around it.
pub const MAX_FRAME_BYTES: usize = (1 << 20) + 4096;
/// Longest name of a host or device: letters, digits, `-`, `_` and `.`.
pub const MAX_NAME_BYTES: usize = 64;
/// Longest frame from a host's agent to a manager.
pub const MAX_AGENT_FRAME_BYTES: usize = 128 << 10;
/// Most holders in one answer; the largest are told of.
pub const MAX_HOLDERS: usize = 256;
/// Longest name of a holder's tenant or program, in bytes: so many holders fit into a frame.
pub const MAX_WHO_BYTES: usize = 240;

/// Most extents in one message of an agent.
pub const MAX_TOLD_EXTENTS: usize = 1024;

/// As whom somebody connects to a fabric.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum Role {
    /// As this host; one connection at a time, a new one ends the old one.
    Host(u16),
    /// As the fabric manager; one connection at a time.
    Manager,
}

/// The first message.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Hello {
    /// [`VERSION`].
    pub version: u16,
    /// As whom.
    pub role: Role,
}

/// The answer to the first message.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Welcome {
    /// [`VERSION`].
    pub version: u16,
    /// The device's name.
    pub device: String,
    /// Its serial number.
    pub serial: u64,
    /// Device addresses: bytes from 0.
    pub capacity: u64,
    /// How many hosts it has room for.
    pub hosts: u16,
}

/// To a fabric.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum ToFabric {
    /// The first message.
    Hello(Hello),
    /// A CCI request.
    Command(Vec<u8>),
}

/// From a fabric.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum FromFabric {
    /// The answer to the first message.
    Welcome(Welcome),
    /// Instead: why not. The connection ends.
    Refused(String),
    /// A CCI response.
    Reply(Vec<u8>),
    /// The event log of dynamic capacity has records that were not there before.
    EventsPending,
}

/// From a host's agent to a manager.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum ToManager {
    /// The first message: the host's name, as the manager is to call it.
    Hello {
        /// [`VERSION`].
        version: u16,
        /// Its name.
        host: String,
    },
    /// What became of a device's request for capacity.
    Answer(HostAnswer),
    /// Who uses what of it now: sent when it changed.
    Uses {
        /// Which device, by its serial number.
        serial: u64,
        /// Bytes that are accepted.
        accepted: u64,
        /// Bytes of them that programs use.
        used: u64,
    },
    /// This host needs so much more than it has, or no longer (0).
    Wants {
        /// Bytes.
        bytes: u64,
    },
    /// What this host has of a device: first when it has been welcomed and has then done all that
    /// the device had for it, whenever it accepted, refused or released something, and when it was
    /// asked to look ([`FromManager::Look`]). For managers of devices that do not tell; at most
    /// [`MAX_TOLD_EXTENTS`] each.
    Extents {
        /// Which device, by its serial number.
        serial: u64,
        /// All that is accepted now.
        accepted: Vec<DcExtent>,
        /// What was offered and has been answered since the last time. What of it is not accepted
        /// was refused, or released again.
        answered: Vec<DpaRange>,
        /// The number of the last [`FromManager::Look`] on this connection that came before the
        /// device was last looked at, 0 without one.
        looked: u64,
    },
}

/// A host's answer: `asked = released + remaining`.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct HostAnswer {
    /// Which device, by its serial number.
    pub serial: u64,
    /// What was asked for, as far as it was not gone before: bytes.
    pub asked: u64,
    /// What was released.
    pub released: u64,
    /// What stays for now. It follows by itself when it is free.
    pub remaining: u64,
    /// Who holds it, largest first; at most [`MAX_HOLDERS`].
    pub holders: Vec<HeldBy>,
}

/// Somebody who keeps capacity from leaving a host.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct HeldBy {
    /// The tenant's name on that host, or nothing; at most [`MAX_WHO_BYTES`].
    pub tenant: Option<String>,
    /// The program's name; at most [`MAX_WHO_BYTES`].
    pub program: Option<String>,
    /// The process, or nothing.
    pub pid: Option<u32>,
    /// Bytes.
    pub bytes: u64,
    /// Why.
    pub reason: HoldReason,
}

impl HeldBy {
    /// The same with names that are cut to [`MAX_WHO_BYTES`].
    #[must_use]
    pub fn shortened(mut self) -> Self {
        for name in [&mut self.tenant, &mut self.program].into_iter().flatten() {
            shorten(name, MAX_WHO_BYTES);
        }
        self
    }
}

/// Cuts a text to so many bytes, or a character's less.
pub(crate) fn shorten(text: &mut String, most: usize) {
    let mut ends = (0..=most.min(text.len())).rev();
    text.truncate(ends.find(|&at| text.is_char_boundary(at)).unwrap_or(0));
}

/// From a manager to a host's agent.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum FromManager {
    /// The answer to the first message.
    Welcome {
        /// [`VERSION`].
        version: u16,
    },
    /// Instead: why not. The connection ends.
    Refused(String),
    /// Look at the device, do all that it has for this host, and say then what the host has
    /// ([`ToManager::Extents`]): what the device was told before this has been dealt with then. Who
    /// does not tell of that device has nothing to say.
    Look {
        /// Which device, by its serial number.
        serial: u64,
        /// Greater than the one before.
        number: u64,
    },
    /// Capacity that this host lost without being asked, for its log.
    Taken {
        /// Of which device, by its serial number.
        serial: u64,
        /// What.
        extents: Vec<DcExtent>,
    },
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frame;

    #[test]
    fn an_answer_fits_into_a_frame_whoever_holds_what() {
        let name = "ü".repeat(2048);
        let holder = HeldBy {
            tenant: Some(name.clone()),
            program: Some(format!("x{name}")),
            pid: Some(u32::MAX),
            bytes: u64::MAX,
            reason: HoldReason::MemoryLock,
        };
        let short = holder.shortened();
        assert_eq!(short.tenant.as_deref(), Some("ü".repeat(MAX_WHO_BYTES / 2).as_str()));
        assert_eq!(short.program.as_ref().map(String::len), Some(MAX_WHO_BYTES - 1));
        assert_eq!(short.clone().shortened(), short);
        let answer = HostAnswer {
            serial: u64::MAX,
            asked: u64::MAX,
            released: u64::MAX,
            remaining: u64::MAX,
            holders: vec![short; MAX_HOLDERS],
        };
        let bytes = frame::encode(&ToManager::Answer(answer)).unwrap().len() - frame::HEADER_BYTES;
        assert!(bytes <= MAX_AGENT_FRAME_BYTES, "{bytes}");
    }
}
