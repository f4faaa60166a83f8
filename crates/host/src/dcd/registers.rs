//! The capabilities of a block of registers: which registers are there, and where.
//!
//! Component registers (CXL 3.1, 8.2.4) have their array 4 KiB into the block: a header with the
//! number of entries in bits 31:24, then entries of 32 bits with the id in 15:0 and the place in
//! 31:20. Device registers (8.2.8) begin with theirs: the number in bits 47:32, then entries of 16
//! bytes with the id in 15:0, the place at 4 and the length at 8.

use memtide_sys::{DeviceRegisters, device_registers::OutOfBounds};

use super::{error::DcdError, pci::Block};

/// Where CXL.cache and CXL.mem registers begin in the component registers.
const CACHE_MEM: usize = 0x1000;
/// The id of that array itself.
const CACHE_MEM_ID: u32 = 1;
/// More entries an array does not have: what an absent device answers is all ones.
const ENTRIES_MAX: u32 = 64;

/// A capability that this program needs.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Capability {
    /// HDM decoders (component registers, 5).
    HdmDecoders,
    /// Device status: which event logs have records (device registers, 1).
    Status,
    /// The primary mailbox (device registers, 2).
    Mailbox,
}

impl Capability {
    const fn number(self) -> u32 {
        match self {
            Self::HdmDecoders => 5,
            Self::Status => 1,
            Self::Mailbox => 2,
        }
    }

    /// In which block it is.
    #[must_use]
    pub const fn block(self) -> Block {
        match self {
            Self::HdmDecoders => Block::Component,
            Self::Status | Self::Mailbox => Block::Device,
        }
    }
}

/// Where a capability's registers begin in a mapping whose block begins at `begins`.
///
/// # Errors
/// [`DcdError::NoCapability`], and [`DcdError::Register`] for an array that leaves its mapping.
pub fn find(
    registers: &DeviceRegisters,
    begins: usize,
    wanted: Capability,
) -> Result<usize, DcdError> {
    let place = match wanted.block() {
        Block::Component => in_component(registers, begins, wanted.number())?,
        Block::Device => in_device(registers, begins, wanted.number())?,
    };
    place.ok_or(DcdError::NoCapability { wanted })
}

fn in_component(
    registers: &DeviceRegisters,
    begins: usize,
    wanted: u32,
) -> Result<Option<usize>, OutOfBounds> {
    let array = begins + CACHE_MEM;
    let header = registers.read32(array)?;
    if header & 0xffff != CACHE_MEM_ID {
        return Ok(None);
    }
    for number in 1..=(header >> 24).min(ENTRIES_MAX) {
        let entry = registers.read32(array + 4 * number as usize)?;
        if entry & 0xffff == wanted {
            return Ok(Some(array + (entry >> 20) as usize));
        }
    }
    Ok(None)
}

fn in_device(
    registers: &DeviceRegisters,
    begins: usize,
    wanted: u32,
) -> Result<Option<usize>, OutOfBounds> {
    let count = registers.read32(begins + 4)? & 0xffff;
    for number in 1..=count.min(ENTRIES_MAX) {
        let entry = begins + 16 * number as usize;
        if registers.read32(entry)? & 0xffff == wanted {
            return Ok(Some(begins + registers.read32(entry + 4)? as usize));
        }
    }
    Ok(None)
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// Registers in memory, with these words in them.
    pub(crate) fn registers(words: &[(usize, u32)]) -> DeviceRegisters {
        let file = tempfile::tempfile().unwrap();
        file.set_len(0x4000).unwrap();
        let mut registers = DeviceRegisters::map(&file, 0x4000).unwrap();
        for &(at, word) in words {
            registers.write32(at, word).unwrap();
        }
        registers
    }

    #[test]
    fn the_arrays_of_qemu_s_device() {
        let component =
            registers(&[(0x1000, 0x0311_0001), (0x1004, 0x0803_0002), (0x100c, 0x1283_0005)]);
        assert_eq!(find(&component, 0, Capability::HdmDecoders).unwrap(), 0x1128);
        let device = registers(&[
            (0, 0x0001_0000),
            (4, 3),
            (0x10, 0x0002_0001),
            (0x14, 0x80),
            (0x20, 0x0001_0002),
            (0x24, 0x88),
        ]);
        assert_eq!(find(&device, 0, Capability::Status).unwrap(), 0x80);
        assert_eq!(find(&device, 0, Capability::Mailbox).unwrap(), 0x88);
    }

    #[test]
    fn a_device_that_is_gone_has_none() {
        let ones = registers(&(0..0x1000).map(|at| (4 * at, u32::MAX)).collect::<Vec<_>>());
        for wanted in [Capability::HdmDecoders, Capability::Status, Capability::Mailbox] {
            assert!(find(&ones, 0, wanted).is_err(), "{wanted:?}");
        }
        let outside = registers(&[(4, 1)]);
        assert!(find(&outside, 0x3ff8, Capability::Mailbox).is_err());
    }
}
