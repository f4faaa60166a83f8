//! Who has what, to look at.

use alloc::vec::Vec;

use memtide_units::DcExtent;

use super::{
    config::Limits,
    name::{DeviceName, HostName},
};
use crate::command::{
    HostId,
    fabric_manager::{HostRegion, TagInfo},
};

/// Whether a device can be used.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum DeviceState {
    /// No connection.
    Down,
    /// What it has is being read.
    Reading,
    /// In use.
    Ready,
    /// It says of itself what cannot be.
    Unusable,
}

/// A device.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct DeviceStatus {
    /// Its name.
    pub name: DeviceName,
    /// Whether it can be used.
    pub state: DeviceState,
    /// Bytes in all; 0 before it was ever connected. What follows is what was read last.
    pub capacity: u64,
    /// Bytes that nobody has and nobody is promised.
    pub free: u64,
    /// Its regions.
    pub regions: Vec<HostRegion>,
    /// Its hosts, known to this manager or not.
    pub hosts: Vec<HostStatus>,
    /// Its tags.
    pub tags: Vec<TagInfo>,
}

/// A host's part in a device.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct HostStatus {
    /// Its name; nothing if this manager does not serve it.
    pub name: Option<HostName>,
    /// The device's number for it.
    pub host: HostId,
    /// What it may have.
    pub limits: Limits,
    /// What it has.
    pub extents: Vec<DcExtent>,
    /// Bytes of that.
    pub held: u64,
    /// Bytes that it has been offered and has not answered.
    pub pending: u64,
    /// Bytes that its programs use, if its agent says so.
    pub used: Option<u64>,
    /// Bytes that it wants besides.
    pub wants: u64,
}
