//! What is told of nodes of a device's dynamic capacity.

use memtide_units::ByteSize;
use serde::{Deserialize, Serialize};

use super::Holder;

/// One such node, and its device.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct DcdStatus {
    /// The node.
    pub node: String,
    /// Where the device is.
    pub fabric: String,
    /// As which of its hosts.
    pub host: u16,
    /// Why there is no connection, if there is none. What was given before stays in use.
    pub away: Option<String>,
    /// The device's name, once it has said it.
    pub device: Option<String>,
    /// Its serial number.
    pub serial: Option<u64>,
    /// What of its offers is accepted: `all`, `none`, or the most that is held.
    pub accept: String,
    /// Accepted, and not released or lost.
    pub accepted: ByteSize,
    /// Of that, what programs use.
    pub used: ByteSize,
    /// Offered and refused since the daemon started.
    pub refused: ByteSize,
    /// Given back since then.
    pub released: ByteSize,
    /// Taken by force since then.
    pub lost: ByteSize,
    /// What came of the device's last request.
    pub answer: Option<DcdAnswer>,
    /// What is accepted, in the order of the allocations.
    pub extents: Vec<DcdExtent>,
}

/// A run of device addresses that is accepted.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct DcdExtent {
    /// Its first address.
    pub address: u64,
    /// How long it is.
    pub bytes: ByteSize,
    /// The tag of its allocation.
    pub tag: Option<String>,
    /// Whether some of its allocation is asked back.
    pub asked: bool,
}

/// What came of a request of a device: `asked = released + remaining`.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct DcdAnswer {
    /// What was asked for, as far as it was not gone before.
    pub asked: ByteSize,
    /// What was released.
    pub released: ByteSize,
    /// What stayed. It follows by itself when it is free.
    pub remaining: ByteSize,
    /// Who held it, the largest first; at most [`HOLDERS_MAX`].
    pub holders: Vec<Holder>,
}

/// Most holders in an answer.
pub const HOLDERS_MAX: usize = 64;
/// Most extents in one reply; more come in further replies.
pub const EXTENTS_MAX: usize = 256;
