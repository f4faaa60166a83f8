//! All switches that this machine can manage, their ports, and who is there.
//!
//! What one of them does not tell is a part of the answer, not the end of it: a switch without a
//! tunnel still has ports, and a device without dynamic capacity a serial number.

use memtide_cxl::{
    command::{
        fabric_manager::Info,
        identify::{Identify, Identity},
        switch::{
            ConnectedDevice, GetPhysicalPortState, IdentifySwitch, Port, PortConfiguration, Switch,
        },
    },
    tunnel::{Route, Target},
};

use super::{PortAddress, SwitchError, SwitchMailbox, functions};
use crate::{ReadError, Root, dcd::pci::PciDevice};

/// Bytes of 5101h's answer around its list, and of a member.
const PORTS_AROUND: usize = 4;
const PORT_BYTES: usize = 16;

/// A switch.
#[derive(Debug)]
pub struct ScannedSwitch {
    /// Its PCI function.
    pub function: String,
    /// The kernel's driver that has it, and is in the way.
    pub driver: Option<String>,
    /// What it says.
    pub told: Result<Identified, SwitchError>,
}

/// What a switch says.
#[derive(Debug)]
pub struct Identified {
    /// Its serial number, if it tells one.
    pub serial: Option<u64>,
    /// What it is.
    pub switch: Switch,
    /// Its ports, by number.
    pub ports: Vec<ScannedPort>,
}

/// A port.
#[derive(Debug)]
pub struct ScannedPort {
    /// What the switch says of it.
    pub port: Port,
    /// What the device behind it says, where there is one that could have memory.
    pub behind: Option<Result<Behind, SwitchError>>,
}

/// A device behind a port.
#[derive(Debug)]
pub struct Behind {
    /// What it is.
    pub identity: Identity,
    /// What a manager can hand out of it, or why nothing.
    pub capacity: Result<Capacity, SwitchError>,
}

/// What a device has for a manager to hand out.
#[derive(Debug)]
pub struct Capacity {
    /// Where commands go.
    pub address: PortAddress,
    /// What it says of itself.
    pub info: Info,
}

/// All of them, by address.
///
/// # Errors
/// [`ReadError`], where sysfs does not say which there are.
pub fn scan(root: &Root) -> Result<Vec<ScannedSwitch>, ReadError> {
    let look = |function: PciDevice| {
        let told = SwitchMailbox::open(root, &function.address)
            .and_then(|mut mailbox| identify(&mut mailbox, &function));
        ScannedSwitch { function: function.address, driver: function.driver, told }
    };
    Ok(functions(root)?.into_iter().map(look).collect())
}

fn identify(mailbox: &mut SwitchMailbox, function: &PciDevice) -> Result<Identified, SwitchError> {
    let switch = mailbox.ask(&IdentifySwitch)?;
    let serial = mailbox.ask(&Identify).ok().map(|identity| identity.serial);
    let active: Vec<u8> = (0..=u8::MAX)
        .filter(|number| switch.active_ports[usize::from(number / 8)] >> (number % 8) & 1 == 1)
        .collect();
    let fit = (mailbox.room().saturating_sub(PORTS_AROUND) / PORT_BYTES).clamp(1, 255);
    let mut ports = Vec::new();
    for some in active.chunks(fit) {
        let state = mailbox.ask(&GetPhysicalPortState { ports: some.to_vec() })?;
        ports.extend(state.ports);
    }
    let ports = ports.into_iter().map(|port| {
        let behind = has_memory(&port).then(|| behind(mailbox, function, port.number));
        ScannedPort { port, behind }
    });
    Ok(Identified { serial, switch, ports: ports.collect() })
}

fn has_memory(port: &Port) -> bool {
    let kinds =
        [ConnectedDevice::TYPE_2, ConnectedDevice::MEMORY, ConnectedDevice::MEMORY_MULTI_LOGICAL];
    port.configuration == PortConfiguration::DOWNSTREAM && kinds.contains(&port.connected)
}

/// The device, or the pool behind it where the device is one head of several.
fn behind(
    mailbox: &mut SwitchMailbox,
    function: &PciDevice,
    port: u8,
) -> Result<Behind, SwitchError> {
    let route = Route::port(port);
    let identity = mailbox.ask_through(&route, &Identify)?;
    let own = capacity(mailbox, function, &route);
    let capacity = match own {
        Err(SwitchError::NoDynamicCapacity { .. }) => {
            capacity(mailbox, function, &route.then(Target::LdPool)).or(own)
        }
        own => own,
    };
    Ok(Behind { identity, capacity })
}

fn capacity(
    mailbox: &mut SwitchMailbox,
    function: &PciDevice,
    route: &Route,
) -> Result<Capacity, SwitchError> {
    let info = mailbox.dynamic_capacity(route)?;
    Ok(Capacity { address: PortAddress::of(function, route.clone()), info })
}
