//! 0001h and 4000h: what the device is (CXL 3.1, 8.2.9.1.1 and 8.2.9.9.1.1).
//!
//! It is of no maker, so it has the CXL Consortium's number, and 0 for the rest. All its capacity
//! is dynamic; none of it is in what 4000h tells.

use super::Device;
use crate::command::identify::{Component, Identity, MemoryDevice};

/// The PCI number of the CXL Consortium.
const CONSORTIUM: u16 = 0x1e98;

impl Device {
    /// 0001h.
    #[must_use]
    pub const fn identity(&self) -> Identity {
        Identity {
            vendor: CONSORTIUM,
            device: 0,
            subsystem_vendor: CONSORTIUM,
            subsystem: 0,
            serial: self.serial,
            message_log2_max: self.limits.payload_bytes.ilog2() as u8,
            component: Component::MEMORY_DEVICE,
        }
    }

    /// 4000h.
    #[must_use]
    pub const fn memory_device(&self) -> MemoryDevice {
        MemoryDevice {
            firmware: *b"memtide\0\0\0\0\0\0\0\0\0",
            total_capacity: 0,
            volatile_capacity: 0,
            persistent_capacity: 0,
            partition_align: 0,
            log_records: [0; 4],
            label_bytes: 0,
            poison_list_max: 0,
            inject_poison_limit: 0,
            poison_capabilities: 0,
            qos_capabilities: 0,
            dynamic_capacity_log_records: Some(self.limits.event_records),
        }
    }
}
