//! CXL hardware of a machine: host bridges, their ports, what hangs on them, and the windows.
//!
//! A tree as the CXL specification draws it: host bridge → root port → (switch: upstream port →
//! downstream ports →) memory device. A window (CXL 3.1, 9.18.1.3, CFMWS) is a range of physical
//! addresses that the firmware lets one or several host bridges decode, interleaved.

use memtide_units::ByteSize;

use crate::{
    MachineError,
    memory::{mib, number, size},
};

/// What firmware and HDM decoders deal in (CXL 3.1, 9.18.1.3: windows are multiples of 256 MiB).
pub const STEP: ByteSize = mib(256);

/// A type-3 memory device.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct CxlDevice {
    pub(crate) name: String,
    pub(crate) volatile: ByteSize,
    pub(crate) dynamic: Option<DynamicCapacity>,
}

/// What a device can have of dynamic capacity (CXL 3.1, 9.13.3); QEMU offers it extent by extent.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct DynamicCapacity {
    /// All of it; the regions have equal parts.
    pub size: ByteSize,
    /// 1 to 8.
    pub regions: u8,
}

impl CxlDevice {
    /// A device with so much volatile memory: `/machine/peripheral/NAME` for [`crate::Qmp`].
    #[must_use]
    pub fn new(name: &str, volatile: ByteSize) -> Self {
        Self { name: name.to_owned(), volatile, dynamic: None }
    }

    /// And so much dynamic capacity, in so many regions.
    #[must_use]
    pub const fn dynamic(mut self, size: ByteSize, regions: u8) -> Self {
        self.dynamic = Some(DynamicCapacity { size, regions });
        self
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    fn check(&self) -> Result<(), MachineError> {
        size(format!("volatile memory of {}", self.name), self.volatile, STEP)?;
        let Some(DynamicCapacity { size: bytes, regions }) = self.dynamic else { return Ok(()) };
        number(format!("regions of {}", self.name), regions.into(), 1..=8)?;
        let step = ByteSize(STEP.0 * u64::from(regions));
        size(format!("dynamic capacity of {}", self.name), bytes, step)
    }
}

/// A root port, and what is plugged into it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum RootPort {
    /// Nothing yet: [`crate::Qmp::add_cxl_device`] can plug something into `BRIDGE-pN`.
    Empty,
    /// A memory device.
    Device(CxlDevice),
    /// A switch with a downstream port for each of these devices, numbered from 0.
    Switch(Vec<CxlDevice>),
    /// The same, with a function by which the machine can manage it. Its upstream port is port 33.
    ManagedSwitch(Vec<CxlDevice>),
}

/// A host bridge with its root ports.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct HostBridge {
    pub(crate) name: String,
    pub(crate) ports: Vec<RootPort>,
}

impl HostBridge {
    /// A bridge with these ports. Root port N is called `NAME-pN`.
    #[must_use]
    pub fn new(name: &str, ports: impl IntoIterator<Item = RootPort>) -> Self {
        Self { name: name.to_owned(), ports: ports.into_iter().collect() }
    }

    /// A bridge with one port and a device in it.
    #[must_use]
    pub fn with(name: &str, device: CxlDevice) -> Self {
        Self::new(name, [RootPort::Device(device)])
    }

    pub(crate) fn devices(&self) -> impl Iterator<Item = &CxlDevice> {
        self.ports.iter().flat_map(|port| match port {
            RootPort::Empty => &[],
            RootPort::Device(device) => std::slice::from_ref(device),
            RootPort::Switch(devices) | RootPort::ManagedSwitch(devices) => devices.as_slice(),
        })
    }

    pub(crate) fn check(&self) -> Result<(), MachineError> {
        number(format!("root ports of {}", self.name), self.ports.len() as u64, 1..=8)?;
        for port in &self.ports {
            if let RootPort::Switch(devices) | RootPort::ManagedSwitch(devices) = port {
                let field = format!("devices of a switch under {}", self.name);
                number(field, devices.len() as u64, 1..=16)?;
            }
        }
        self.devices().try_for_each(CxlDevice::check)
    }
}

/// A CXL window.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Window {
    pub(crate) targets: Vec<String>,
    pub(crate) size: ByteSize,
    pub(crate) granularity: u32,
}

impl Window {
    /// A window of so much over these host bridges, by name, in the order of the interleave.
    #[must_use]
    pub fn new<'a>(targets: impl IntoIterator<Item = &'a str>, size: ByteSize) -> Self {
        let targets = targets.into_iter().map(str::to_owned).collect();
        Self { targets, size, granularity: 256 }
    }

    /// Bytes to each target in turn: a power of two from 256 to 16384; 256 unless said.
    #[must_use]
    pub const fn granularity(mut self, bytes: u32) -> Self {
        self.granularity = bytes;
        self
    }

    pub(crate) fn check(&self, window: usize, bridges: &[HostBridge]) -> Result<(), MachineError> {
        size(format!("size of window {window}"), self.size, STEP)?;
        if !matches!(self.targets.len(), 1 | 2 | 4 | 8 | 16) {
            return Err(MachineError::Ways { window, ways: self.targets.len() });
        }
        for target in &self.targets {
            if !bridges.iter().any(|bridge| bridge.name == *target) {
                return Err(MachineError::NoSuchTarget { window, target: target.clone() });
            }
        }
        let granularity = u64::from(self.granularity);
        let granularity = if granularity.is_power_of_two() { granularity } else { 0 };
        number(format!("granularity of window {window}"), granularity, 256..=16384)
    }
}
