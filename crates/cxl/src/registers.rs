//! Where a device's registers are (CXL 3.1, 8.1.9, 8.2.4 and 8.2.8).
//!
//! A PCI capability, the register locator, names blocks in the device's BARs. Two of them matter:
//!
//! ```text
//!   device registers                        component registers
//!   0x00  array: how many                   0x1000  header: how many
//!   0x10  entry: id, offset, length         0x1004  entry: id, pointer from 0x1000
//!   0x20  …                                 0x1008  …
//!         ├─ 1       status                         └─ 5  decoders
//!         ├─ 2       mailbox
//!         └─ 0x4000  memory device
//! ```
//!
//! This is what the values mean, no access to them. A device may say anything: whether what an
//! entry points at lies in its block is for its reader to check, with [`DeviceCapability::end`].

pub mod decoder;

use crate::{DecodeError, command::events::EventLog};

/// A block of registers, from an entry of the register locator: PCI's designated vendor-specific
/// capability 8 of CXL, whose entries of 8 bytes start at its offset 0xc.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct RegisterBlock {
    /// Which BAR: 0 to 5.
    pub bar: u8,
    /// What is there.
    pub kind: BlockKind,
    /// Where it starts in the BAR: a multiple of 64 KiB.
    pub offset: u64,
}

/// What a block has. Kinds that this crate has no name for are kept as they are.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct BlockKind(pub u8);

impl BlockKind {
    /// Nothing: the entry is not used.
    pub const EMPTY: Self = Self(0);
    /// Component registers.
    pub const COMPONENT: Self = Self(1);
    /// Device registers.
    pub const DEVICE: Self = Self(3);
}

impl RegisterBlock {
    /// From the low and the high half of an entry.
    ///
    /// # Errors
    /// There is no such BAR.
    pub fn decode(low: u32, high: u32) -> Result<Self, DecodeError> {
        let bar = (low & 7) as u8;
        if bar > 5 {
            let (field, expected) = ("register BIR", "0 to 5");
            return Err(DecodeError::Field { field, value: bar.into(), expected });
        }
        let offset = u64::from(high) << 32 | u64::from(low & 0xffff_0000);
        Ok(Self { bar, kind: BlockKind((low >> 8) as u8), offset })
    }
}

/// Offset of the device registers' array, 64 bits: [`device_capabilities`].
pub const DEVICE_ARRAY: u64 = 0;

/// How many capabilities a device has, from the array register.
///
/// # Errors
/// The register is of something else.
pub fn device_capabilities(register: u64) -> Result<u16, DecodeError> {
    match register & 0xffff {
        0 => Ok((register >> 32) as u16),
        value => {
            let (field, expected) = ("device capabilities array id", "0");
            Err(DecodeError::Field { field, value, expected })
        }
    }
}

/// A part of the device registers.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct DeviceCapability {
    /// What it is.
    pub id: DeviceCapabilityId,
    /// In which version.
    pub version: u8,
    /// Where it starts, from the start of the device registers.
    pub offset: u32,
    /// How many bytes it has.
    pub length: u32,
}

/// What a part of the device registers is. Those that this crate has no name for are kept.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct DeviceCapabilityId(pub u16);

impl DeviceCapabilityId {
    /// Which logs have records: [`EventStatus`].
    pub const STATUS: Self = Self(1);
    /// The mailbox: [`crate::mailbox`].
    pub const MAILBOX: Self = Self(2);
    /// The state of the memory: [`MemoryDeviceStatus`].
    pub const MEMORY_DEVICE: Self = Self(0x4000);
}

impl DeviceCapability {
    /// Where the entry of this number is, from 0: 16 bytes from the start of the device registers.
    #[must_use]
    pub const fn entry(number: u16) -> u64 {
        0x10 + 0x10 * number as u64
    }

    /// From the four words of an entry.
    #[must_use]
    pub const fn decode(entry: [u32; 4]) -> Self {
        let [id, offset, length, _] = entry;
        let version = (id >> 16) as u8;
        Self { id: DeviceCapabilityId(id as u16), version, offset, length }
    }

    /// One past its last byte.
    #[must_use]
    pub const fn end(self) -> u64 {
        self.offset as u64 + self.length as u64
    }
}

/// Which logs have records: 32 bits at offset 0 of [`DeviceCapabilityId::STATUS`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct EventStatus(pub u32);

impl EventStatus {
    /// Whether this one has.
    #[must_use]
    pub const fn has(self, log: EventLog) -> bool {
        self.0 >> log as u8 & 1 == 1
    }
}

/// The state of the memory: 64 bits at offset 0 of [`DeviceCapabilityId::MEMORY_DEVICE`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct MemoryDeviceStatus(pub u64);

/// Whether memory can be used.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Media {
    /// Not yet.
    NotReady,
    /// It can.
    Ready,
    /// It is broken.
    Error,
    /// It is switched off.
    Disabled,
}

impl MemoryDeviceStatus {
    /// Whether the device is broken.
    #[must_use]
    pub const fn is_fatal(self) -> bool {
        self.0 & 1 != 0
    }

    /// Whether its firmware has stopped.
    #[must_use]
    pub const fn is_firmware_halted(self) -> bool {
        self.0 & 1 << 1 != 0
    }

    /// Whether its memory can be used.
    #[must_use]
    pub const fn media(self) -> Media {
        match self.0 >> 2 & 3 {
            0 => Media::NotReady,
            1 => Media::Ready,
            2 => Media::Error,
            _ => Media::Disabled,
        }
    }

    /// Whether its mailbox takes commands.
    #[must_use]
    pub const fn is_mailbox_ready(self) -> bool {
        self.0 & 1 << 4 != 0
    }
}

/// Offset in a block of component registers of the header of those that matter, 32 bits:
/// [`component_capabilities`].
pub const COMPONENT_HEADER: u64 = 0x1000;

/// How many capabilities a component has, from the header register.
///
/// # Errors
/// The register is of something else.
pub fn component_capabilities(register: u32) -> Result<u8, DecodeError> {
    match register & 0xffff {
        1 => Ok((register >> 24) as u8),
        value => {
            let (field, expected) = ("component capability header id", "1");
            Err(DecodeError::Field { field, value: value.into(), expected })
        }
    }
}

/// A part of the component registers.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ComponentCapability {
    /// What it is: 5 are decoders ([`decoder`]).
    pub id: u16,
    /// In which version.
    pub version: u8,
    /// Where it starts, from [`COMPONENT_HEADER`]: less than 4096.
    pub offset: u16,
}

impl ComponentCapability {
    /// The [`id`](Self::id) of decoders.
    pub const DECODERS: u16 = 5;

    /// Where the entry of this number is, from 0: 4 bytes, from [`COMPONENT_HEADER`].
    #[must_use]
    pub const fn entry(number: u8) -> u64 {
        4 + 4 * number as u64
    }

    /// From an entry.
    #[must_use]
    pub const fn decode(entry: u32) -> Self {
        Self { id: entry as u16, version: (entry >> 16) as u8 & 0xf, offset: (entry >> 20) as u16 }
    }
}
