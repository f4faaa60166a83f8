//! virtio-mem devices: memory that a hypervisor plugs and unplugs in small pieces.
//!
//! The device's configuration (requested, plugged) is for its driver alone; sysfs shows that the
//! device is there, and /proc/iomem its range, named after it, with what the driver has added to
//! the kernel as `System RAM (virtio_mem)` in it (`virtio_mem_create_resource` in
//! drivers/virtio/virtio_mem.c). Added is in whole memory blocks, of which the hypervisor may have
//! plugged a part only.

use memtide_physmap::iomem;
use memtide_units::{ByteSize, PhysAddr, PhysRange};
use serde::Serialize;

use crate::{
    Notes, Root,
    attributes::{Folder, numbered},
};

const DEVICES: &str = "sys/bus/virtio/devices";

/// The number of this kind of device (VIRTIO_ID_MEM, virtio 1.2, 5.15).
const ID_MEM: u64 = 24;

/// What the driver names the memory that it adds.
const ADDED: &str = "System RAM (virtio_mem)";

/// A virtio-mem device.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct VirtioMem {
    /// `virtioN`.
    pub name: String,
    /// The driver that is bound.
    pub driver: Option<String>,
    /// Where its memory can be; only root may know.
    pub start: Option<PhysAddr>,
    /// How much it can be at most.
    pub size: Option<ByteSize>,
    /// How much of it the kernel has, in whole memory blocks.
    pub added: Option<ByteSize>,
}

impl VirtioMem {
    /// Where its memory can be, if that may be known.
    #[must_use]
    pub fn range(&self) -> Option<PhysRange> {
        PhysRange::from_size(self.start?, self.size?.0)
    }
}

/// The devices, by number.
#[must_use]
pub fn read(root: &Root, notes: &mut Notes) -> Vec<VirtioMem> {
    let mut devices = Vec::new();
    for (name, _) in notes.keep_list(numbered(root, DEVICES, "virtio")) {
        let mut folder = Folder::new(root, format!("{DEVICES}/{name}"), notes);
        if folder.number("device") == Some(ID_MEM) {
            let driver = folder.link("driver");
            devices.push(VirtioMem { name, driver, start: None, size: None, added: None });
        }
    }
    if !devices.is_empty() {
        place(root, &mut devices, notes);
    }
    devices
}

/// Finds the devices' ranges in /proc/iomem.
fn place(root: &Root, devices: &mut [VirtioMem], notes: &mut Notes) {
    let Some(text) = notes.keep(crate::firmware::iomem(root)) else { return };
    if iomem::visibility(&text) == iomem::Visibility::Hidden {
        return;
    }
    // The device whose range the lines are in, and how deep that is.
    let mut inside: Option<(usize, usize)> = None;
    for line in iomem::lines(&text) {
        let line = match line {
            Ok(line) => line,
            Err(error) => {
                let expected = "ranges, each in the one that it is listed under";
                notes.add(root.unexpected("proc/iomem", &error.to_string(), expected));
                return;
            }
        };
        inside = inside.filter(|&(_, depth)| line.depth > depth);
        let bytes = ByteSize(u64::try_from(line.range.bytes()).unwrap_or(u64::MAX));
        if let Some(index) = devices.iter().position(|device| device.name == line.name) {
            inside = Some((index, line.depth));
            let device = &mut devices[index];
            (device.start, device.size) = (Some(line.range.start()), Some(bytes));
            device.added = Some(ByteSize(0));
        } else if let Some((index, _)) = inside
            && line.name == ADDED
        {
            let added = devices[index].added.get_or_insert_default();
            added.0 = added.0.saturating_add(bytes.0);
        }
    }
}
