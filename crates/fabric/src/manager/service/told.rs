//! What hosts' agents say they have, for devices that do not tell.
//!
//! It is what an agent says as long as it is connected, and is kept for as long: a device that is
//! connected later, or anew, is told it then. Of devices that are not here it is kept, too, up to a
//! limit; they may only not be connected yet.

use std::collections::BTreeMap;

use memtide_cxl::{
    command::HostId,
    manager::{DeviceName, HostName},
};
use memtide_units::{DcExtent, DpaRange};

use super::{Notice, Service};
use crate::{manager::backend::HostSays, wire::MAX_TOLD_EXTENTS};

/// Devices of which one agent may speak.
const DEVICES_MAX: usize = 64;

/// What each agent has said it has, by the devices' serial numbers.
#[derive(Debug, Default)]
pub struct Told(BTreeMap<HostName, BTreeMap<u64, Vec<DcExtent>>>);

impl Told {
    /// An agent is gone.
    pub fn forget(&mut self, host: &HostName) {
        self.0.remove(host);
    }

    /// All agents are.
    pub fn forget_all(&mut self) {
        self.0.clear();
    }
}

impl Service {
    /// An agent is connected, and what one before it said counts no more.
    pub(super) fn agent_is_there(&mut self, host: &HostName) {
        self.told.forget(host);
        let devices: Vec<DeviceName> =
            self.config.manager.devices.iter().map(|device| device.name.clone()).collect();
        for device in devices {
            if let Some(id) = self.host_of(&device, host) {
                self.devices.host_says(&device, id, HostSays::Connected);
            }
        }
    }

    /// An agent says what it has.
    pub(super) fn agent_has(
        &mut self,
        host: &HostName,
        serial: u64,
        accepted: Vec<DcExtent>,
        answered: Vec<DpaRange>,
    ) {
        let most = accepted.len().max(answered.len());
        if most > MAX_TOLD_EXTENTS {
            let why = format!("it has {most} extents; expected {MAX_TOLD_EXTENTS} or fewer");
            return self.notice(Notice::Ignored { host: host.clone(), why });
        }
        let told = self.told.0.entry(host.clone()).or_default();
        if told.len() >= DEVICES_MAX && !told.contains_key(&serial) {
            let why = format!("it speaks of more than {DEVICES_MAX} devices");
            return self.notice(Notice::Ignored { host: host.clone(), why });
        }
        told.insert(serial, accepted.clone());
        let Some(device) = self.devices.by_serial(serial).cloned() else { return };
        match self.host_of(&device, host) {
            Some(id) => self.devices.host_says(&device, id, HostSays::Has { accepted, answered }),
            None => {
                let why = format!("it speaks of device {device}, which is none of its own");
                self.notice(Notice::Ignored { host: host.clone(), why });
            }
        }
    }

    /// A device is connected: it is told what agents have said of it.
    pub(super) fn tell_device(&mut self, device: &DeviceName) {
        let Some(serial) = self.devices.serial(device) else { return };
        let said = self.told.0.iter().filter_map(|(host, told)| {
            Some((self.host_of(device, host)?, told.get(&serial)?.clone()))
        });
        for (id, accepted) in said.collect::<Vec<_>>() {
            let says = HostSays::Has { accepted, answered: Vec::new() };
            self.devices.host_says(device, id, says);
        }
    }

    /// The number of a host on a device.
    fn host_of(&self, device: &DeviceName, host: &HostName) -> Option<HostId> {
        let device = self.config.manager.devices.iter().find(|config| config.name == *device)?;
        device.hosts.iter().find(|config| config.name == *host).map(|config| config.host)
    }
}
