//! Switches that this machine can manage, and who is behind their ports.
//!
//! **Problem.** A fabric manager speaks to a switch, and through it to the devices behind its ports
//! (CXL 3.1, 7.6.7). A switch that wants to be managed by this machine has a PCI function for that:
//! class 0c0b, with a mailbox among its registers (7.2.9.1). No Linux has a driver for it.
//!
//! **Idea.** A mailbox is a few registers, and registers can be mapped through sysfs. So this
//! process speaks to the switch itself: 5100h and 5101h say what is at its ports, 5300h carries a
//! command to who is there ([`memtide_cxl::tunnel`]).
//!
//! ```text
//!   sysfs: resource0 ── mailbox ──▶ switch ── 5300h ──▶ port 1 ──▶ device
//! ```
//!
//! **Invariants.** One command at a time: who uses the mailbox has locked the file of its registers
//! (flock(2)), so two programs, or two devices behind one switch, wait for each other, and who is
//! killed holds nobody up. Nothing waits for ever. Whose refusal it was (the switch's, somebody's
//! on the way, the device's) is never lost: [`SwitchError`].
//!
//! **What it refuses.** Functions that a driver of the kernel's has. It changes nothing at a
//! switch: no port is bound or reset.
//!
//! * [`address`]: a device behind a port, as people write it. [`mailbox`]: commands to a switch,
//!   and through it. [`scan()`]: all switches, all ports, all devices. [`error`]: why not.

pub mod address;
pub mod error;
pub mod mailbox;
pub mod scan;

pub use self::{
    address::{ParsePortAddressError, PortAddress},
    error::{SwitchError, Who},
    mailbox::SwitchMailbox,
    scan::{Behind, Capacity, Identified, ScannedPort, ScannedSwitch, scan},
};

use crate::{
    ReadError, Root,
    dcd::pci::{self, PciDevice},
};

/// CXL fabric management host interface (PCI code and ID assignment 1.14), any interface of it.
const CLASS: u64 = 0x0c0b;

/// The functions of switches that this machine can manage, by address.
///
/// # Errors
/// [`ReadError`].
pub fn functions(root: &Root) -> Result<Vec<PciDevice>, ReadError> {
    pci::of_class(root, |class| class >> 8 == CLASS)
}

/// The function of this address, which no driver of the kernel's has.
///
/// # Errors
/// [`SwitchError`].
pub fn find(root: &Root, address: &str) -> Result<PciDevice, SwitchError> {
    let all = functions(root)?;
    let is_meant = |function: &&PciDevice| function.address == address;
    let Some(function) = all.iter().find(is_meant) else {
        let found = all.into_iter().map(|function| function.address).collect();
        return Err(SwitchError::NoSwitch { wanted: address.to_owned(), found });
    };
    match &function.driver {
        None => Ok(function.clone()),
        Some(driver) => {
            let (function, driver) = (address.to_owned(), driver.clone());
            Err(SwitchError::Driven { function, driver })
        }
    }
}
