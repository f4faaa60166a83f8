//! What firmware does for PCI: numbers a bus, gives addresses to registers, lets them be accessed.
//!
//! Configuration space is reached through memory (PCI Express 7.2.2, ECAM), which the chipset
//! does once its register PCIEXBAR says where (Intel Q35, 5.1.16). Only the simplest machine is
//! served: a device in the first root port of the first host bridge.

use crate::{Error, Qtest, qemu::bus_number};

/// Where configuration space is put: 256 MiB below the addresses for registers.
const ECAM: u64 = 0xb000_0000;
/// Where the device's registers are put; memory ends below.
const REGISTERS: u64 = 0xe000_0000;
/// Room between two base addresses, more than any of the device's registers need.
const REGISTERS_STEP: u64 = 1 << 20;
/// PCI's old way to configuration space: where, then what.
const CONFIG_ADDRESS: u16 = 0xcf8;
const CONFIG_DATA: u16 = 0xcfc;
/// PCIEXBAR of the chipset, device 0 of bus 0, and its bit that switches it on.
const PCIEXBAR: u32 = 0x8000_0060;
const PCIEXBAR_ENABLE: u32 = 1;
/// Offsets in configuration space.
const COMMAND: u16 = 4;
const BASE_ADDRESSES: u16 = 0x10;
const BUS_NUMBERS: u16 = 0x18;
const MEMORY_WINDOW: u16 = 0x20;
const EXTENDED_CAPABILITIES: u16 = 0x100;
/// COMMAND: answer to memory accesses, make some.
const MEMORY_AND_MASTER: u32 = 6;
/// The low bits of a base address: 64 bits wide.
const WIDE: u32 = 1 << 2;
/// Extended capabilities of a device: no more fit.
const CAPABILITIES_MAX: usize = 1024;

/// A device whose registers can be accessed.
#[derive(Debug)]
pub struct PciDevice<'a> {
    machine: &'a Qtest,
    bus: u8,
    base_addresses: [u64; 6],
}

impl<'a> PciDevice<'a> {
    /// The device in the first root port of the machine's first host bridge, made ready.
    ///
    /// # Errors
    /// As [`Qtest::outl`].
    pub fn behind_first_port(machine: &'a Qtest) -> Result<Self, Error> {
        machine.outl(CONFIG_ADDRESS, PCIEXBAR)?;
        let ecam = u32::try_from(ECAM).expect("it lies below 4 GiB");
        machine.outl(CONFIG_DATA, ecam | PCIEXBAR_ENABLE)?;
        let above = u8::try_from(bus_number(0)).expect("the first bridge has a low number");
        let port = Self { machine, bus: above, base_addresses: [0; 6] };
        let (primary, bus) = (u32::from(above), u32::from(above) + 1);
        port.write(BUS_NUMBERS, bus << 16 | bus << 8 | primary)?;
        let last = REGISTERS + 6 * REGISTERS_STEP - 1;
        let window = (last >> 16 << 16 & 0xfff0_0000) | REGISTERS >> 16 & 0xfff0;
        port.write(MEMORY_WINDOW, u32::try_from(window).expect("two halves of 32 bits"))?;
        port.write(COMMAND, MEMORY_AND_MASTER)?;
        let mut device = Self { machine, bus: above + 1, base_addresses: [0; 6] };
        device.give_addresses()?;
        device.write(COMMAND, MEMORY_AND_MASTER)?;
        Ok(device)
    }

    fn give_addresses(&mut self) -> Result<(), Error> {
        let mut number = 0;
        while number < 6 {
            let at = BASE_ADDRESSES + 4 * number;
            let kind = self.read(at)?;
            let address = REGISTERS + u64::from(number) * REGISTERS_STEP;
            self.write(at, u32::try_from(address).expect("it lies below 4 GiB"))?;
            self.base_addresses[usize::from(number)] = address;
            number += 1;
            if kind & WIDE != 0 {
                self.write(at + 4, 0)?;
                number += 1;
            }
        }
        Ok(())
    }

    /// Where the registers of a base address were put, by its number.
    #[must_use]
    pub fn base_address(&self, number: u8) -> Option<u64> {
        self.base_addresses.get(usize::from(number)).copied().filter(|&address| address != 0)
    }

    /// 32 bits of its configuration space, from an offset that is a multiple of 4.
    ///
    /// # Errors
    /// As [`Qtest::outl`].
    pub fn read(&self, offset: u16) -> Result<u32, Error> {
        self.machine.read32(self.config(offset))
    }

    /// Writes 32 bits of its configuration space.
    ///
    /// # Errors
    /// As [`Qtest::outl`].
    pub fn write(&self, offset: u16, value: u32) -> Result<(), Error> {
        self.machine.write32(self.config(offset), value)
    }

    /// Where the designated vendor-specific capability (PCI Express 7.9.6) of a vendor, with an id
    /// of that vendor's, begins.
    ///
    /// # Errors
    /// As [`Qtest::outl`].
    pub fn vendor_capability(&self, vendor: u16, id: u16) -> Result<Option<u16>, Error> {
        let mut at = EXTENDED_CAPABILITIES;
        for _ in 0..CAPABILITIES_MAX {
            let header = self.read(at)?;
            if header & 0xffff == 0x23 {
                let found = (self.read(at + 4)? & 0xffff, self.read(at + 8)? & 0xffff);
                if found == (vendor.into(), id.into()) {
                    return Ok(Some(at));
                }
            }
            at = (header >> 20) as u16 & 0xffc;
            if at < EXTENDED_CAPABILITIES {
                break;
            }
        }
        Ok(None)
    }

    fn config(&self, offset: u16) -> u64 {
        ECAM + (u64::from(self.bus) << 20) + u64::from(offset & 0xffc)
    }
}
