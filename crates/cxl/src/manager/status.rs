//! Who has what, to look at.

use alloc::{collections::BTreeSet, vec::Vec};

use memtide_units::DcExtent;

use super::{
    config::Limits,
    device::{Device, Link, Port, Seen},
    name::{DeviceName, HostName},
    state::{Agent, Manager},
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

impl Manager {
    /// All devices, by name.
    #[must_use]
    pub fn devices(&self) -> Vec<DeviceStatus> {
        (0..self.devices.len()).map(|on| self.status_of(on)).collect()
    }

    fn status_of(&self, on: usize) -> DeviceStatus {
        let device = &self.devices[on];
        DeviceStatus {
            name: device.name.clone(),
            state: device.state(),
            capacity: device.capacity(),
            free: self.free(on).bytes().min(device.capacity()),
            regions: device.regions.clone(),
            hosts: self.hosts_of(on),
            tags: device.tags.clone().unwrap_or_default(),
        }
    }
}

impl Manager {
    fn hosts_of(&self, on: usize) -> Vec<HostStatus> {
        let device = &self.devices[on];
        let ids: BTreeSet<HostId> =
            device.held.keys().chain(device.ports.keys()).copied().collect();
        let status = |host: HostId| {
            let port = device.ports.get(&host);
            let agent = port.and_then(|port| self.agents.get(&port.name));
            HostStatus {
                name: port.map(|port| port.name.clone()),
                host,
                limits: port.map(Port::limits).unwrap_or_default(),
                extents: device.held_by(host).to_vec(),
                held: device.held_bytes(host),
                pending: port.map_or(0, Port::pending),
                used: port.and_then(|port| port.used),
                wants: match agent {
                    Some(&Agent::There { wants }) => wants,
                    Some(Agent::Gone) | None => 0,
                },
            }
        };
        ids.into_iter().map(status).collect()
    }
}

impl Device {
    fn state(&self) -> DeviceState {
        match (self.link, self.seen) {
            (Link::Down, _) => DeviceState::Down,
            (Link::Unusable, _) => DeviceState::Unusable,
            (Link::Up, Seen::Now) => DeviceState::Ready,
            (Link::Up, Seen::Never | Seen::Earlier) => DeviceState::Reading,
        }
    }
}
