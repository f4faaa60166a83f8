//! What hosts' agents say they have, for devices that do not tell.
//!
//! An agent says it first when it has done all that its device had for it since it was welcomed. So
//! when such a device is connected, the agents of its hosts are sent away, and come again: what
//! they say then is true of all that was offered before, whoever offered it, and whatever became of
//! the connection meanwhile. Of what is offered or asked back later the device itself knows when to
//! have an agent look ([`FromManager::Look`]).

use memtide_cxl::{
    command::HostId,
    manager::{DeviceName, HostName},
};

use super::{Notice, Service};
use crate::{
    manager::backend::HostSays,
    wire::{FromManager, MAX_TOLD_EXTENTS},
};

impl Service {
    /// An agent is connected.
    pub(super) fn agent_is_there(&mut self, host: &HostName) {
        let devices: Vec<DeviceName> =
            self.config.manager.devices.iter().map(|device| device.name.clone()).collect();
        for device in devices {
            if let Some(id) = self.host_of(&device, host) {
                self.devices.host_says(&device, id, HostSays::Connected);
            }
        }
    }

    /// An agent says what it has. A device that is not connected asks for it when it is.
    pub(super) fn agent_has(&mut self, host: &HostName, serial: u64, says: HostSays) {
        if let HostSays::Has { accepted, answered, .. } = &says {
            let most = accepted.len().max(answered.len());
            if most > MAX_TOLD_EXTENTS {
                let why = format!("it has {most} extents; expected {MAX_TOLD_EXTENTS} or fewer");
                return self.notice(Notice::Ignored { host: host.clone(), why });
            }
        }
        let Some(device) = self.devices.by_serial(serial).cloned() else { return };
        match self.host_of(&device, host) {
            Some(id) => self.devices.host_says(&device, id, says),
            None => {
                let why = format!("it speaks of device {device}, which is none of its own");
                self.notice(Notice::Ignored { host: host.clone(), why });
            }
        }
    }

    /// Asks agents to look at devices that were told something for them. Who is not connected looks
    /// when he is.
    pub(super) fn ask_to_look(&mut self) {
        for (device, host, number) in self.devices.take_looks() {
            let config = self.config.manager.devices.iter().find(|config| config.name == device);
            let mut hosts = config.into_iter().flat_map(|config| &config.hosts);
            let name = hosts.find(|config| config.host == host).map(|config| &config.name);
            let agent = name.and_then(|name| self.agent_of.get(name));
            if let (Some(id), Some(serial)) = (agent, self.devices.serial(&device)) {
                self.hub.send(*id, &FromManager::Look { serial, number }, None);
            }
        }
    }

    /// A device is connected: if it knows only what agents say, they have to say it anew.
    pub(super) fn recall_agents(&mut self, device: &DeviceName) {
        if !self.devices.hears_agents(device) {
            return;
        }
        let theirs = self.agent_of.iter().filter(|(host, _)| self.host_of(device, host).is_some());
        for id in theirs.map(|(_, id)| *id).collect::<Vec<_>>() {
            self.hub.end(id);
        }
    }

    /// The number of a host on a device.
    fn host_of(&self, device: &DeviceName, host: &HostName) -> Option<HostId> {
        let device = self.config.manager.devices.iter().find(|config| config.name == *device)?;
        device.hosts.iter().find(|config| config.name == *host).map(|config| config.host)
    }
}
