//! What `memtide fm` and the manager's service say to each other: frames as on the other sockets.
//!
//! Who connects says [`ToService::Hello`] and is welcomed. Then each message is answered: a request
//! by [`FromService::Accepted`] and later by [`FromService::Report`], or at once by
//! [`FromService::Declined`]; a question by what it asks for, one frame for each device or request,
//! and [`FromService::End`]. Both come in pages ([`DEVICES_PAGE`], [`REQUESTS_PAGE`]): where there
//! are more, [`FromService::Next`] ends a page and says where the next one begins. A connection
//! that watches hears of each device again whenever something of it has changed; one that reads
//! slowly hears of the newest state only.
//!
//! A request goes on without the connection that it came on. Lists are cut, sums are not.

use memtide_cxl::manager::{Limits, Report, Request};
use memtide_units::{DcExtent, RequestId, Tag};
use serde::{Deserialize, Serialize};

/// The version of this protocol.
pub const VERSION: u16 = 3;
/// Most requests that are told of at a time: with all the holders that each may name, they have to
/// fit into what waits for one connection at most
/// ([`QUEUE_MAX_BYTES`](crate::channel::QUEUE_MAX_BYTES)).
pub const REQUESTS_PAGE: usize = 32;
/// Most devices that are told of at a time, for the same reason: with as many hosts as a device may
/// have.
pub const DEVICES_PAGE: usize = 4;
/// Longest address of a device and longest problem, in bytes.
pub const MAX_TEXT_BYTES: usize = 4096;
/// Most extents of a host, and tags of a device, that are listed.
pub const MAX_LISTED: usize = 100;

/// To the service.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum ToService {
    /// The first message.
    Hello {
        /// [`VERSION`].
        version: u16,
    },
    /// Do this.
    Ask(Request),
    /// Who has what? From this device on, counted from 0.
    Devices(u64),
    /// What was asked for, and what has become of it? From this number on, in the order of numbers.
    Requests(u64),
    /// The same as [`ToService::Devices`], and again whenever it changes.
    Watch,
}

/// From the service.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum FromService {
    /// The answer to the first message.
    Welcome {
        /// [`VERSION`].
        version: u16,
    },
    /// Instead: why not. The connection ends.
    Refused(String),
    /// The request is kept, under this number.
    Accepted(RequestId),
    /// The request makes no sense; nothing was changed.
    Declined(String),
    /// The request cannot be kept: why, and whether nothing was changed, or that is not known yet.
    Failed(String),
    /// What has become of a request. If its state is open, another one follows.
    Report(Report),
    /// A device.
    Device(DeviceView),
    /// A request.
    Request(RequestView),
    /// That was all that was asked for.
    End,
    /// There are more devices, or requests, from this number on: to be asked for.
    Next(u64),
}

/// A device, as it is shown.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct DeviceView {
    /// Its name.
    pub name: String,
    /// Where it is; at most [`MAX_TEXT_BYTES`] of that.
    pub address: String,
    /// Whether it can be used.
    pub state: DeviceStateView,
    /// Why it is not connected, if that was tried; at most [`MAX_TEXT_BYTES`] of that.
    pub problem: Option<String>,
    /// Bytes in all.
    pub capacity: u64,
    /// Bytes that nobody has and nobody is promised.
    pub free: u64,
    /// Its regions.
    pub regions: Vec<RegionView>,
    /// Its hosts.
    pub hosts: Vec<HostView>,
    /// Its tags, at most [`MAX_LISTED`].
    pub tags: Vec<TagView>,
    /// How many tags there are.
    pub tags_total: usize,
}

/// Whether a device can be used.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum DeviceStateView {
    /// No connection.
    Down,
    /// What it has is being read.
    Reading,
    /// In use.
    Ready,
    /// It says of itself what cannot be.
    Unusable,
}

/// A region.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct RegionView {
    /// Its first address.
    pub base: u64,
    /// Bytes that may have something behind them.
    pub length: u64,
    /// What extents are multiples of.
    pub block_size: u64,
}

/// A host's part in a device.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct HostView {
    /// Its name; nothing if this manager does not serve it.
    pub name: Option<String>,
    /// The device's number for it.
    pub number: u16,
    /// Whether its agent is connected to the manager.
    pub agent: AgentView,
    /// What it may have.
    pub limits: Limits,
    /// Bytes that it has.
    pub held: u64,
    /// Bytes that it was offered and has not answered.
    pub pending: u64,
    /// Bytes that its programs use, if its agent says so.
    pub used: Option<u64>,
    /// Bytes that it wants besides.
    pub wants: u64,
    /// What it has, at most [`MAX_LISTED`] of it.
    pub extents: Vec<DcExtent>,
    /// How many extents it has.
    pub extents_total: usize,
}

/// Whether a host's agent is connected.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum AgentView {
    /// It is: answers say who holds what.
    Connected,
    /// It is not: they say how much only.
    Absent,
}

/// A tag.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct TagView {
    /// Its name.
    pub tag: Tag,
    /// How many hosts have it.
    pub holders: u32,
    /// How many have been offered it.
    pub offered: u32,
    /// Whether it is kept though nobody may have it.
    pub kept: Kept,
}

/// Whether a tag is kept.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kept {
    /// By the manager's reference.
    ByReference,
    /// As long as a host has it.
    ByHosts,
}

/// A request, as it is shown.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct RequestView {
    /// Its number.
    pub id: RequestId,
    /// What was asked for.
    pub request: Request,
    /// What has become of it.
    pub report: Report,
}
