//! Whose programs have a device's file.
//!
//! The configuration keeps those that are not trusted with it away from the node; here they are
//! not given its file either, so that nothing that the rules get wrong shows them what is in it.
//! The others have it from the moment that there is one: with their welcome, or later beside a
//! message of its own, before anything is leased of it.

use std::{os::fd::AsFd, sync::Arc};

use memtide_engine::dynamic_capacity::DeviceId;
use memtide_proto::ToProgram;
use memtide_store::NodeFile;
use memtide_units::{ImageId, TenantId};

use crate::{
    daemon::{ConnectionId, Daemon},
    images::Files,
    notice::Notice,
};

impl Daemon {
    /// Whether programs of a tenant may map a node's memory.
    pub(crate) fn is_shared_with(&self, node: usize, tenant: TenantId) -> bool {
        let tenants = self.config.tenants();
        let tenant = tenants.get(usize::from(tenant.0));
        tenant.is_some_and(|tenant| self.config.nodes[node].is_shared_with(tenant))
    }

    /// A device has memory, or other memory than before: all who may have it get it.
    pub(super) fn share_device(&mut self, name: DeviceId) {
        for image in self.images.names() {
            self.share_file(name, image);
        }
        let images: Vec<(ConnectionId, ImageId)> = self
            .members
            .values()
            .filter_map(|member| Some((member.connection?, member.image)))
            .collect();
        for (id, image) in images {
            self.send_file(name, image, id);
        }
    }

    /// An image has just come to be: it has the files of the devices that are there, if it may.
    pub(crate) fn share_devices(&mut self, image: ImageId) {
        for name in self.dcd.devices.keys().copied().collect::<Vec<_>>() {
            self.share_file(name, image);
        }
    }

    /// A process has come back, perhaps with files that are not the devices' any more.
    pub(crate) fn send_devices(&mut self, image: ImageId, id: ConnectionId) {
        self.share_devices(image);
        for name in self.dcd.devices.keys().copied().collect::<Vec<_>>() {
            self.send_file(name, image, id);
        }
    }

    fn share_file(&mut self, name: DeviceId, image: ImageId) {
        let device = &self.dcd.devices[&name];
        let Some(file) = &device.file else { return };
        let shared = self.tenants.get(&image).copied();
        if !shared.is_some_and(|tenant| self.is_shared_with(device.node, tenant)) {
            return;
        }
        if let Err(error) = self.images.replace(image, device.node, file) {
            let node = self.node_name_of(name);
            self.notice(Notice::NotShared { node, error });
        }
    }

    fn send_file(&mut self, name: DeviceId, image: ImageId, id: ConnectionId) {
        let device = &self.dcd.devices[&name];
        let tenant = self.tenants.get(&image).copied();
        let shared = tenant.is_some_and(|tenant| self.is_shared_with(device.node, tenant));
        let Some(file) = device.file.as_ref().filter(|_| shared) else { return };
        let node = u16::try_from(device.node).expect("a pool has few nodes");
        let Ok(fd) = file.as_fd().try_clone_to_owned() else {
            // Out of descriptors: it cannot be served, and comes back.
            if let Some(guest) = self.guests.get_mut(&id) {
                guest.connection.abort();
            }
            return;
        };
        if let Some(guest) = self.guests.get_mut(&id) {
            guest.connection.send(&ToProgram::File { node }, vec![Arc::new(fd)]);
        }
    }

    /// A returning process brought the file that an earlier daemon had from a device.
    pub(crate) fn take_device_files(&mut self, files: &Files) {
        for device in self.dcd.devices.values_mut() {
            let brought: &NodeFile = files.at(device.node);
            if device.file.is_none() && device.is_file(brought.identity()) {
                // Without it the device itself has to come first.
                device.file = brought.try_clone().ok();
            }
        }
    }
}
