//! Compute Express Link, as the kernel's `cxl` bus shows it.
//!
//! A **bus** is a root that firmware describes (the object ACPI0017). Its **root decoders** are the
//! windows of CXL memory in the physical address map (CFMWS of the CEDT). Under it, a **port** for
//! each host bridge, and one for each switch: a port has downstream ports (*dports*), and **switch
//! decoders** that say which address goes out at which. Each memory device (**memdev**) that can
//! be reached has an **endpoint**, a port whose **endpoint decoders** turn an address of the machine
//! (HPA) into one of the device (DPA). A **region** is a range of a window with one endpoint decoder
//! of each device that takes part, and a decoder of each port in between.
//!
//! All are devices of one flat folder, /sys/bus/cxl/devices, by name; who is in whom is seen from
//! where the names point to, and `decoderX.Y` belongs to the port number X.
//! See Documentation/ABI/testing/sysfs-bus-cxl and Documentation/driver-api/cxl.
//!
//! Names of other kinds (`nvdimm-bridge0`, `pmu_mem0.0`) are passed over.

pub mod bus;
pub mod decoder;
pub mod memdev;
pub mod port;
pub mod region;

use serde::Serialize;

use crate::{Notes, ReadError, Root};

pub use bus::Bus;
pub use decoder::{Capability, Decoder, DecoderKind};
pub use memdev::{Memdev, Partition};
pub use port::{Dport, Port, PortKind};
pub use region::Region;

/// Where the devices of the bus are, under a root.
pub const DEVICES: &str = "sys/bus/cxl/devices";

/// Devices on the bus that are looked at: each with its decoders has about ten, and hundreds of
/// memory devices are more than any machine has. Bounds what a made-up tree can cost.
const DEVICES_MAX: usize = 8192;

/// Ports between a memory device and its root; the specification has host bridge and two levels of
/// switches at most.
const DEPTH_MAX: usize = 8;

/// All CXL devices of a machine, each list in the order of its numbers.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize)]
pub struct Cxl {
    /// Roots.
    pub buses: Vec<Bus>,
    /// Host bridges, switches and endpoints.
    pub ports: Vec<Port>,
    /// Decoders of all of these.
    pub decoders: Vec<Decoder>,
    /// Memory devices.
    pub memdevs: Vec<Memdev>,
    /// Regions.
    pub regions: Vec<Region>,
}

impl Cxl {
    /// The devices of a machine; nothing where the kernel has no CXL bus.
    #[must_use]
    pub fn read(root: &Root, notes: &mut Notes) -> Self {
        let names = match root.names(DEVICES) {
            Ok(names) => names,
            Err(error) => {
                notes.add(error);
                return Self::default();
            }
        };
        if names.len() > DEVICES_MAX {
            let found = format!("{} devices", names.len());
            notes.add(root.unexpected(DEVICES, &found, "8192 devices at most"));
        }
        let mut cxl = Self::default();
        for name in names.iter().take(DEVICES_MAX) {
            if bus::is_name(name) {
                cxl.buses.push(Bus::read(root, name, notes));
            } else if PortKind::of_name(name).is_some() {
                cxl.ports.extend(Port::read(root, name, notes));
            } else if decoder::port_number(name).is_some() {
                cxl.decoders.extend(Decoder::read(root, name, notes));
            } else if memdev::is_name(name) {
                cxl.memdevs.push(Memdev::read(root, name, notes));
            } else if region::is_name(name) {
                cxl.regions.push(Region::read(root, name, notes));
            }
        }
        cxl
    }

    /// The same, for who is about to change something.
    ///
    /// # Errors
    /// The first attribute that could not be read.
    pub fn read_whole(root: &Root) -> Result<Self, ReadError> {
        let mut notes = Notes::new();
        let cxl = Self::read(root, &mut notes);
        notes.into_result().map(|()| cxl)
    }

    /// Whether there is nothing.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.buses.is_empty() && self.ports.is_empty() && self.memdevs.is_empty()
    }

    /// The decoder of that name.
    #[must_use]
    pub fn decoder(&self, name: &str) -> Option<&Decoder> {
        self.decoders.iter().find(|decoder| decoder.name == name)
    }

    /// The bus of that name.
    #[must_use]
    pub fn bus(&self, name: &str) -> Option<&Bus> {
        self.buses.iter().find(|bus| bus.name == name)
    }

    /// The port or endpoint of that name.
    #[must_use]
    pub fn port(&self, name: &str) -> Option<&Port> {
        self.ports.iter().find(|port| port.name == name)
    }

    /// The memory device of that name.
    #[must_use]
    pub fn memdev(&self, name: &str) -> Option<&Memdev> {
        self.memdevs.iter().find(|memdev| memdev.name == name)
    }

    /// The region of that name.
    #[must_use]
    pub fn region(&self, name: &str) -> Option<&Region> {
        self.regions.iter().find(|region| region.name == name)
    }

    /// The decoders of the bus or port of that number, in their order.
    pub fn decoders_of(&self, number: u32) -> impl Iterator<Item = &Decoder> {
        self.decoders.iter().filter(move |decoder| decoder.port == number)
    }

    /// The ports whose parent is the bus or port of that name.
    pub fn ports_under<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a Port> {
        self.ports.iter().filter(move |port| port.parent.as_deref() == Some(name))
    }

    /// The endpoint through which a memory device is reached; none while its driver is not bound,
    /// or the way to it is not known.
    #[must_use]
    pub fn endpoint_of(&self, memdev: &str) -> Option<&Port> {
        self.ports
            .iter()
            .find(|port| port.kind == PortKind::Endpoint && port.host.as_deref() == Some(memdev))
    }

    /// The ports from `port` up to below the bus, itself first. A ring of parents, as only a tree
    /// made by hand can have, ends after eight.
    #[must_use]
    pub fn ancestry<'a>(&'a self, port: &'a Port) -> Vec<&'a Port> {
        let parent = |port: &&Port| self.port(port.parent.as_deref()?);
        std::iter::successors(Some(port), parent).take(DEPTH_MAX).collect()
    }

    /// The number of the dport of `port`'s parent behind which it lies.
    #[must_use]
    pub fn dport_above(&self, port: &Port) -> Option<u32> {
        let (parent, device) = (port.parent.as_deref()?, port.parent_dport.as_deref()?);
        let dports = match self.bus(parent) {
            Some(bus) => &bus.dports,
            None => &self.port(parent)?.dports,
        };
        dports.iter().find(|dport| dport.device == device).map(|dport| dport.id)
    }
}
