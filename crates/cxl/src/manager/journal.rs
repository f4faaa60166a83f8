//! What lasts: a map from keys to values.
//!
//! A store keeps, for each key, the value that was put there last. The order in which the map is
//! read back does not matter, so a key-value store (redb, etcd) does, as does a file to which
//! records are appended and of which later ones win. A store need not understand values.

use alloc::{boxed::Box, vec::Vec};
use core::time::Duration;

use memtide_units::{DpaRange, RequestId, Tag};

use super::{
    config::Limits,
    name::{DeviceName, HostName},
    report::Report,
    request::Request,
};

/// A change: this key has this value now, or none.
#[derive(Clone, PartialEq, Eq, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct Record {
    /// Where.
    pub key: Key,
    /// What; nothing: the key is gone.
    pub value: Option<Value>,
}

/// What something is kept under.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub enum Key {
    /// A request: [`Value::Request`].
    Request(RequestId),
    /// The offer that a host has not answered: [`Value::Offer`].
    Offer(DeviceName, HostName),
    /// What a host may have, if it was changed: [`Value::Limits`].
    Limits(DeviceName, HostName),
    /// Where a tag is that is kept though no host may have it: [`Value::Extents`].
    Reference(DeviceName, Tag),
    /// What was given to a host and not overwritten since: [`Value::Extents`].
    Unsanitized(DeviceName, Former),
    /// The offer that was withdrawn from a host and that it has not answered: [`Value::Offer`].
    Withdrawn(DeviceName, HostName),
}

/// Who had something: a host is the same as before if both its number and its name are.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct Former {
    /// The device's number for it.
    pub host: u16,
    /// Its name; nothing if it was not set up.
    pub name: Option<HostName>,
}

/// What is kept.
#[derive(Clone, PartialEq, Eq, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub enum Value {
    /// A request.
    Request(Box<RequestRecord>),
    /// An offer.
    Offer(OfferRecord),
    /// Limits.
    Limits(Limits),
    /// Places.
    Extents(Vec<DpaRange>),
}

/// A request, and how far it is.
#[derive(Clone, PartialEq, Eq, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct RequestRecord {
    /// What was asked for.
    pub request: Request,
    /// Who asked.
    pub origin: Origin,
    /// When it came.
    pub since: Duration,
    /// What has become of it.
    pub report: Report,
    /// What the host was asked for and has not returned, or is to be asked for.
    pub asked_back: Vec<DpaRange>,
    /// What came back for a move and was not offered yet.
    pub promised: Vec<DpaRange>,
}

/// Who asked.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub enum Origin {
    /// An operator.
    Operator,
    /// The manager itself, because a host wants memory.
    Balance,
}

/// An offer that may be on its way, pending, or answered without this manager knowing.
#[derive(Clone, PartialEq, Eq, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct OfferRecord {
    /// For which request.
    pub request: RequestId,
    /// Under which tag.
    pub tag: Tag,
    /// Bytes.
    pub bytes: u64,
    /// Where; nothing if the device chooses.
    pub extents: Vec<DpaRange>,
    /// Its region.
    pub region: u8,
}
