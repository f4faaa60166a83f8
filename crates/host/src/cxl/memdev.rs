//! Memory devices.
//!
//! A memdev appears with its PCI function, whether or not its memory can be reached; the `cxl_mem`
//! driver binds once there is a way of ports to it, and makes its endpoint.

use memtide_units::{ByteSize, NodeId};
use serde::Serialize;

use super::DEVICES;
use crate::{
    Notes, Root,
    attributes::{Folder, device_path, number_after},
};

/// A memory device.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Memdev {
    /// `memN`.
    pub name: String,
    /// Its PCI function: `0000:0d:00.0`.
    pub host: Option<String>,
    /// Volatile memory.
    pub ram: Partition,
    /// Persistent memory.
    pub pmem: Partition,
    /// The processors' node next to it, as the platform says.
    pub numa_node: Option<NodeId>,
    /// The device's serial number (PCIe), which captures leave out.
    pub serial: Option<u64>,
    /// What it calls its firmware.
    pub firmware_version: Option<String>,
    /// The largest payload of its mailbox, in bytes.
    pub payload_max: Option<ByteSize>,
    /// Room for labels of persistent memory.
    pub label_storage_size: Option<ByteSize>,
    /// `disabled`, `locked`, `unlocked`, `frozen`, `sanitize`.
    pub security: Option<String>,
    /// The driver that is bound; none means that its memory cannot be reached.
    pub driver: Option<String>,
}

/// One kind of memory of a device.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
pub struct Partition {
    /// How much.
    pub size: Option<ByteSize>,
    /// The class of performance that the platform would have it in.
    pub qos_class: Option<u32>,
}

/// Whether a device of this name is a memory device.
pub(super) fn is_name(name: &str) -> bool {
    number_after(name, "mem").is_some()
}

impl Memdev {
    /// The memory device of that name (`mem0`).
    #[must_use]
    pub fn read(root: &Root, name: &str, notes: &mut Notes) -> Self {
        let path = format!("{DEVICES}/{name}");
        let mut parts = device_path(root, &path);
        parts.pop();
        let mut folder = Folder::new(root, path, notes);
        Self {
            name: name.to_owned(),
            host: parts.pop(),
            ram: partition(&mut folder, "ram"),
            pmem: partition(&mut folder, "pmem"),
            numa_node: folder.node("numa_node"),
            serial: folder.number("serial"),
            firmware_version: folder.word("firmware_version"),
            payload_max: folder.size("payload_max"),
            label_storage_size: folder.size("label_storage_size"),
            security: folder.word("security/state"),
            driver: folder.link("driver"),
        }
    }
}

fn partition(folder: &mut Folder<'_>, kind: &str) -> Partition {
    Partition {
        size: folder.size(&format!("{kind}/size")),
        qos_class: folder.unless_negative(&format!("{kind}/qos_class")),
    }
}
