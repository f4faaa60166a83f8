//! Where a CXL memory device sits, and where its registers are.
//!
//! Its class is 05 02 10 (CXL memory device, PCI code and ID assignment 1.14). Its extended
//! capabilities have two that count: the register locator (CXL 3.1, 8.1.9) says in which base
//! address its component registers and its device registers lie, the CXL device's own (8.1.3) has
//! the bit that lets it answer to memory accesses.
//!
//! The folder in which sysfs has the device says what is above it. A device right in a root port of
//! a host bridge that has no other is reached by whatever the window sends to the bridge: nothing
//! above it decodes (CXL 3.1, 9.18.1.3). Bridges with several root ports and switches have decoders
//! of their own, which are the kernel's.

use std::{
    fs::{File, OpenOptions},
    io::ErrorKind,
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
};

use memtide_sys::DeviceRegisters;

use super::error::DcdError;
use crate::{ReadError, Root};

/// Where PCI devices are.
pub const DEVICES: &str = "sys/bus/pci/devices";
/// CXL memory device, with the interface that CXL 2.0 and later have.
const CLASS: u64 = 0x05_0210;
/// The class of bridges, without the interface.
const BRIDGE: u64 = 0x0604;
/// Where extended capabilities begin, and configuration space ends (PCI Express base 5.0, 7.6).
const EXTENDED: usize = 0x100;
const CONFIG_BYTES: usize = 0x1000;
/// So much of it is read by who is not root (kernel `pci_read_config`).
const CONFIG_OF_ALL: usize = 64;
/// Designated vendor-specific extended capability.
const DVSEC: u32 = 0x23;
/// Device serial number extended capability: its lower half follows the header, then the upper.
const SERIAL: u32 = 3;
/// CXL's vendor number.
const CXL: u32 = 0x1e98;
/// CXL's own capabilities among them.
const CXL_DEVICE: u32 = 0;
const REGISTER_LOCATOR: u32 = 8;
/// Of the CXL device's: the control register, and its bit Mem_Enable.
const CONTROL: usize = 0xc;
const MEM_ENABLE: u16 = 1 << 2;
/// More of a resource is not mapped: registers are some KiB.
const MAPPED_MAX: u64 = 16 << 20;

/// A block of registers, by the locator's number for it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Block {
    /// Component registers: HDM decoders.
    Component,
    /// Device registers: status, mailbox.
    Device,
}

impl Block {
    const fn number(self) -> u32 {
        match self {
            Self::Component => 1,
            Self::Device => 3,
        }
    }

    /// Its name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Component => "component registers",
            Self::Device => "device registers",
        }
    }
}

/// What is between a device and its window.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Above {
    /// The only root port of a host bridge.
    OnlyRootPort {
        /// The bridge's `_UID`, by which windows name it.
        bridge: u32,
    },
    /// Something that decodes, too, in these words.
    Decodes(String),
}

/// A CXL memory device.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PciDevice {
    /// Its address: `0000:21:00.0`.
    pub address: String,
    /// The kernel's driver that serves it.
    pub driver: Option<String>,
    /// What is above it.
    pub above: Above,
}

/// All CXL memory devices, by address.
///
/// # Errors
/// [`ReadError`].
pub fn devices(root: &Root) -> Result<Vec<PciDevice>, ReadError> {
    of_class(root, |class| class == CLASS)
}

/// All devices of some class, by address.
pub(crate) fn of_class(
    root: &Root,
    is_meant: impl Fn(u64) -> bool,
) -> Result<Vec<PciDevice>, ReadError> {
    let mut devices = Vec::new();
    for address in root.names(DEVICES)? {
        let folder = format!("{DEVICES}/{address}");
        if root.number(format!("{folder}/class"))?.is_some_and(&is_meant) {
            let driver = root.link(format!("{folder}/driver"));
            let above = above(root, &address)?;
            devices.push(PciDevice { address, driver, above });
        }
    }
    Ok(devices)
}

/// The folders above the device, from the root bus on: `pci0000:20/0000:20:00.0/0000:21:00.0`.
fn above(root: &Root, address: &str) -> Result<Above, ReadError> {
    let target = std::fs::read_link(root.at(format!("{DEVICES}/{address}"))).unwrap_or_default();
    let folders: Vec<&str> = target.iter().filter_map(|part| part.to_str()).collect();
    let bus = folders.iter().position(|folder| folder.starts_with("pci") && folder.contains(':'));
    let Some([bus, ports @ .., _]) = bus.map(|at| &folders[at..]) else {
        return Ok(Above::Decodes("no PCI root bus is above it".to_owned()));
    };
    if ports.len() != 1 {
        let count = ports.len();
        return Ok(Above::Decodes(format!("{count} ports are above it, a switch among them")));
    }
    let folder = format!("sys/devices/{bus}");
    let mut bridges = 0;
    for name in root.names(&folder)? {
        let class = root.number(format!("{folder}/{name}/class"))?;
        bridges += usize::from(class.is_some_and(|class| class >> 8 == BRIDGE));
    }
    if bridges != 1 {
        return Ok(Above::Decodes(format!("its host bridge {bus} has {bridges} root ports")));
    }
    let uid = root.text(format!("{folder}/firmware_node/uid"))?;
    Ok(match uid.as_deref().and_then(|uid| uid.trim().parse().ok()) {
        Some(bridge) => Above::OnlyRootPort { bridge },
        None => Above::Decodes(format!("firmware has no number for its host bridge {bus}")),
    })
}

/// The device of this address, or the only one; not one that a driver of the kernel's serves.
///
/// # Errors
/// [`DcdError`].
pub fn find(root: &Root, address: Option<&str>) -> Result<PciDevice, DcdError> {
    let all = devices(root)?;
    let names = || all.iter().map(|device| device.address.clone()).collect::<Vec<_>>();
    let device = match address {
        Some(address) => all
            .iter()
            .find(|device| device.address == address)
            .ok_or_else(|| DcdError::NoDevice { wanted: address.to_owned(), found: names() })?,
        None => match all.iter().filter(|device| device.driver.is_none()).collect::<Vec<_>>()[..] {
            [device] => device,
            [] if all.len() == 1 => &all[0],
            [] => return Err(DcdError::None { found: names() }),
            _ => return Err(DcdError::Several { found: names() }),
        },
    };
    match &device.driver {
        None => Ok(device.clone()),
        Some(driver) => {
            Err(DcdError::Served { device: device.address.clone(), driver: driver.clone() })
        }
    }
}

impl PciDevice {
    fn folder(&self) -> String {
        format!("{DEVICES}/{}", self.address)
    }

    /// Whether it is still plugged in.
    #[must_use]
    pub fn is_there(&self, root: &Root) -> bool {
        root.exists(self.folder())
    }

    /// Its serial number (PCI Express base 5.0, 7.9.3), if it has one.
    ///
    /// # Errors
    /// [`DcdError`].
    pub fn serial(&self, root: &Root) -> Result<Option<u64>, DcdError> {
        let config = self.config(root)?;
        let at = config.find(|header, _| header & 0xffff == SERIAL);
        Ok(at.map(|at| u64::from(config.u32(at + 8)) << 32 | u64::from(config.u32(at + 4))))
    }

    /// Lets the device answer: to accesses of its registers, and of its memory.
    ///
    /// # Errors
    /// [`DcdError`].
    pub fn enable(&self, root: &Root) -> Result<(), DcdError> {
        let path = root.at(format!("{}/enable", self.folder()));
        let failed = |path: &Path, source| DcdError::Io { path: path.to_owned(), source };
        if root.number(format!("{}/enable", self.folder()))? == Some(0) {
            std::fs::write(&path, "1\n").map_err(|source| failed(&path, source))?;
        }
        let config = self.config(root)?;
        let Some(at) = config.cxl(CXL_DEVICE) else { return Ok(()) };
        let control = u16::try_from(config.u32(at + CONTROL) & 0xffff).expect("16 bits");
        if control & MEM_ENABLE == 0 {
            let path = root.at(format!("{}/config", self.folder()));
            let write = || {
                let file = OpenOptions::new().write(true).open(&path)?;
                let bytes = (control | MEM_ENABLE).to_le_bytes();
                file.write_all_at(&bytes, (at + CONTROL) as u64)
            };
            write().map_err(|source| failed(&path, source))?;
        }
        Ok(())
    }

    /// Maps a block of registers: the mapping, and where in it the block begins.
    ///
    /// # Errors
    /// [`DcdError`].
    pub fn map(&self, root: &Root, block: Block) -> Result<(DeviceRegisters, usize), DcdError> {
        let resource = self.resource(root, block)?;
        let file = resource.open()?;
        Ok((resource.map(&file)?, resource.begins))
    }

    /// Where a block of registers is.
    pub(crate) fn resource(&self, root: &Root, block: Block) -> Result<Resource, DcdError> {
        let device = || self.address.clone();
        let config = self.config(root)?;
        if config.0.len() <= CONFIG_OF_ALL {
            let path = root.at(format!("{}/config", self.folder()));
            return Err(DcdError::Io { path, source: ErrorKind::PermissionDenied.into() });
        }
        let located = config.locate(block);
        let (bar, offset) =
            located.ok_or_else(|| DcdError::NoRegisters { device: device(), block })?;
        let path = root.at(format!("{}/resource{bar}", self.folder()));
        let bytes = self.resource_bytes(root, bar)?;
        let begins = usize::try_from(offset).ok().filter(|_| offset < bytes);
        let begins = begins.ok_or_else(|| DcdError::NoRegisters { device: device(), block })?;
        let length = usize::try_from(bytes.min(MAPPED_MAX)).expect("16 MiB at most");
        Ok(Resource { path, length, begins })
    }

    /// The bytes of a base address: a line `START LAST FLAGS` of `resource`.
    fn resource_bytes(&self, root: &Root, bar: u32) -> Result<u64, DcdError> {
        let text = root.text(format!("{}/resource", self.folder()))?.unwrap_or_default();
        let line = text.lines().nth(bar as usize).unwrap_or_default();
        let mut numbers = line
            .split(' ')
            .filter_map(|word| u64::from_str_radix(word.trim_start_matches("0x"), 16).ok());
        let (start, last) = (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0));
        Ok(if start == 0 { 0 } else { last.saturating_sub(start).saturating_add(1) })
    }

    fn config(&self, root: &Root) -> Result<Config, DcdError> {
        let path = root.at(format!("{}/config", self.folder()));
        let mut bytes = vec![0; CONFIG_BYTES];
        let read = File::open(&path).and_then(|file| file.read_at(&mut bytes, 0));
        let read = read.map_err(|source| DcdError::Io { path, source })?;
        bytes.truncate(read);
        Ok(Config(bytes))
    }
}

/// The file of a base address, with registers in it.
pub(crate) struct Resource {
    path: PathBuf,
    /// Bytes to be mapped.
    length: usize,
    /// Where the registers begin.
    pub(crate) begins: usize,
}

impl Resource {
    /// The file, which is root's.
    pub(crate) fn open(&self) -> Result<File, DcdError> {
        let file = OpenOptions::new().read(true).write(true).open(&self.path);
        file.map_err(|source| self.failed(source))
    }

    pub(crate) fn map(&self, file: &File) -> Result<DeviceRegisters, DcdError> {
        let mapped = DeviceRegisters::map(file, self.length);
        mapped.map_err(|error| self.failed(error.into()))
    }

    fn failed(&self, source: std::io::Error) -> DcdError {
        DcdError::Io { path: self.path.clone(), source }
    }
}

/// Configuration space; for who is not root its first 64 bytes.
struct Config(Vec<u8>);

impl Config {
    /// 32 bits; all ones where there is nothing, as on the bus.
    fn u32(&self, at: usize) -> u32 {
        let bytes = self.0.get(at..).and_then(|rest| rest.first_chunk());
        bytes.map_or(u32::MAX, |&bytes| u32::from_le_bytes(bytes))
    }

    /// Where an extended capability is. The list is followed no longer than it can be.
    fn find(&self, is_it: impl Fn(u32, usize) -> bool) -> Option<usize> {
        let mut at = EXTENDED;
        for _ in 0..(CONFIG_BYTES - EXTENDED) / 8 {
            let header = self.u32(at);
            if header == 0 || header == u32::MAX {
                return None;
            }
            if is_it(header, at) {
                return Some(at);
            }
            at = (header >> 20) as usize;
            if at < EXTENDED {
                return None;
            }
        }
        None
    }

    /// Where one of CXL's capabilities is.
    fn cxl(&self, id: u32) -> Option<usize> {
        self.find(|header, at| {
            header & 0xffff == DVSEC
                && self.u32(at + 4) & 0xffff == CXL
                && self.u32(at + 8) & 0xffff == id
        })
    }

    /// The base address that a block is in, and where in it.
    fn locate(&self, block: Block) -> Option<(u32, u64)> {
        let locator = self.cxl(REGISTER_LOCATOR)?;
        let length = (self.u32(locator + 4) >> 20) as usize;
        let entries = (0xc..length.saturating_sub(7)).step_by(8);
        entries.map(|at| (self.u32(locator + at), self.u32(locator + at + 4))).find_map(
            |(low, high)| {
                let offset = u64::from(high) << 32 | u64::from(low & 0xffff_0000);
                (low >> 8 & 0xff == block.number()).then_some((low & 7, offset))
            },
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What QEMU's device has: a CXL device's capability at 0x10c, a locator at 0x148.
    fn config() -> Config {
        let mut bytes = vec![0; CONFIG_BYTES];
        let mut put = |at: usize, words: &[u32]| {
            for (number, word) in words.iter().enumerate() {
                bytes[at + 4 * number..][..4].copy_from_slice(&word.to_le_bytes());
            }
        };
        put(0x100, &[0x10c1_0003, 1, 0]);
        put(0x10c, &[0x1481_0023, 0x03c3_1e98, 0x001e_0000, 2]);
        put(0x148, &[0x16c1_0023, 0x0240_1e98, 8, 0x0000_0100, 0, 0x0003_0302, 1]);
        Config(bytes)
    }

    #[test]
    fn the_locator_says_where_registers_are() {
        assert_eq!(config().locate(Block::Component), Some((0, 0)));
        assert_eq!(config().locate(Block::Device), Some((2, 0x1_0003_0000)));
        assert_eq!(config().cxl(CXL_DEVICE), Some(0x10c));
        assert_eq!(config().cxl(5), None);
    }

    #[test]
    fn a_serial_number_has_two_halves() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(DEVICES).join("0000:21:00.0");
        std::fs::create_dir_all(&path).unwrap();
        let mut bytes = config().0;
        bytes[0x108] = 7;
        std::fs::write(path.join("config"), &bytes).unwrap();
        let root = Root::new(folder.path());
        let above = Above::Decodes(String::new());
        let device = PciDevice { address: "0000:21:00.0".to_owned(), driver: None, above };
        assert_eq!(device.serial(&root).unwrap(), Some(0x7_0000_0001));
        // What is no root's sees 64 bytes, and no serial number.
        std::fs::write(path.join("config"), &bytes[..64]).unwrap();
        assert_eq!(device.serial(&root).unwrap(), None);
    }

    #[test]
    fn a_list_that_runs_in_a_circle_ends() {
        let mut circle = config();
        circle.0[0x148..0x14c].copy_from_slice(&0x10c1_0099_u32.to_le_bytes());
        assert_eq!(circle.cxl(REGISTER_LOCATOR), None);
        assert_eq!(Config(vec![0xff; 64]).locate(Block::Device), None);
        assert_eq!(Config(vec![0x23; CONFIG_BYTES]).locate(Block::Device), None);
    }
}
