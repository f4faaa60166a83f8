//! Why a device cannot be served, or not any more.

use std::{io, path::PathBuf};

use memtide_engine::dynamic_capacity::InputError;
use memtide_physmap::allocate::RegionError;
use memtide_sys::device_registers::OutOfBounds;
use memtide_units::{ByteSize, DpaRange, PhysAddr, PhysRange};

use super::{mailbox::CommandError, pci::Block, registers::Capability};
use crate::{ReadError, address_map::AddressMapError};

/// Why.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DcdError {
    /// Something could not be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// A file could not be used.
    #[error("{}", path.display())]
    Io {
        /// Which.
        path: PathBuf,
        /// What the kernel says.
        source: io::Error,
    },
    /// No such device.
    #[error("device {wanted}: no CXL memory device has that address; expected {}", one_of(found))]
    NoDevice {
        /// What was asked for.
        wanted: String,
        /// What there is.
        found: Vec<String>,
    },
    /// None that is free.
    #[error(
        "no CXL memory device is without a driver of the kernel's; expected {}",
        if found.is_empty() { "one at least".to_owned() } else { one_of(found) + ", unbound" }
    )]
    None {
        /// What there is.
        found: Vec<String>,
    },
    /// More than one.
    #[error("several CXL memory devices: expected --device with {}", one_of(found))]
    Several {
        /// What there is.
        found: Vec<String>,
    },
    /// A driver has it.
    #[error(
        "the kernel's driver {driver} has device {device}: expected no driver; take it away with: \
         echo {device} > /sys/bus/pci/drivers/{driver}/unbind"
    )]
    Served {
        /// Which device.
        device: String,
        /// Which driver.
        driver: String,
    },
    /// Something above it has decoders that are the kernel's.
    #[error(
        "device {device}: {what}, and decodes addresses for it; expected a device in the only root \
         port of a CXL host bridge, where nothing above it decodes"
    )]
    Above {
        /// Which device.
        device: String,
        /// What is above it.
        what: String,
    },
    /// No window leads to it.
    #[error(
        "device {device}: firmware has no CXL window (CFMWS) for its host bridge {bridge} alone; \
         expected one"
    )]
    NoWindow {
        /// Which device.
        device: String,
        /// The bridge's `_UID`.
        bridge: u32,
    },
    /// The kernel has set nothing aside.
    #[error(
        "no Soft Reserved range lies over the CXL window {window}, so the kernel can use no part \
         of it as memory; add to the kernel's command line: {}",
        parameters(*window, *size)
    )]
    NotSoftReserved {
        /// The window.
        window: PhysRange,
        /// Its size.
        size: ByteSize,
    },
    /// It has, but made no region of it.
    #[error(
        "the CXL window {window} is Soft Reserved, but no dax region is over it: dax_hmem is not \
         loaded, or came after the CXL driver; expected the modules device_dax, kmem and dax_hmem, \
         in this order, before cxl_acpi; add module_blacklist=cxl_acpi to the kernel's command \
         line, or load them earlier"
    )]
    NoDaxRegion {
        /// The window.
        window: PhysRange,
    },
    /// The map of addresses is none.
    #[error("the physical address map")]
    AddressMap(#[from] AddressMapError),
    /// There is no room in the window.
    #[error(transparent)]
    NoRoom(Box<RegionError>),
    /// Its registers are nowhere.
    #[error(
        "device {device} says nowhere that it has {}: expected them in its register locator",
        block.name()
    )]
    NoRegisters {
        /// Which device.
        device: String,
        /// Which registers.
        block: Block,
    },
    /// It lacks something.
    #[error("the device has no {wanted:?} among its {}", wanted.block().name())]
    NoCapability {
        /// What.
        wanted: Capability,
    },
    /// A register is not where registers are.
    #[error(transparent)]
    Register(#[from] OutOfBounds),
    /// A command failed.
    #[error(transparent)]
    Command(#[from] CommandError),
    /// A number of decoders that has no meaning.
    #[error("the device says {code:#x} for the number of its HDM decoders; expected 0 to 0xc")]
    DecoderCount {
        /// What it says.
        code: u32,
    },
    /// Somebody has set up an interleaved region.
    #[error(
        "HDM decoder {number} of the device is committed and interleaved: somebody else has set it \
         up; expected decoders over this device alone"
    )]
    Interleaved {
        /// Which.
        number: usize,
    },
    /// A decoder that decodes nothing that exists.
    #[error(
        "HDM decoder {number} is committed at {base:#x} for {size:#x} bytes, {skip:#x} skipped; \
         expected addresses below 2^64"
    )]
    Decoder {
        /// Which.
        number: usize,
        /// Its first physical address.
        base: u64,
        /// Bytes.
        size: u64,
        /// Bytes of the device before it.
        skip: u64,
    },
    /// None is left, or it would be out of order.
    #[error(
        "no HDM decoder for {dpa}: {used} of {count} are committed, and the next one begins at \
         {next:#x} or later"
    )]
    NoDecoder {
        /// For what.
        dpa: DpaRange,
        /// How many there are.
        count: usize,
        /// How many are committed.
        used: usize,
        /// Where those end.
        next: u64,
    },
    /// The device refused it.
    #[error(
        "HDM decoder {number} did not commit {dpa} at {base}; its control register is {control:#x}"
    )]
    NotCommitted {
        /// Which.
        number: usize,
        /// What of the device.
        dpa: DpaRange,
        /// Where.
        base: PhysAddr,
        /// Its control register.
        control: u32,
    },
    /// A decoder that is committed has its memory where no dax region is.
    #[error(
        "the device's decoder has {dpa} at {range}, outside of the dax region {region}; expected \
         it inside: restart the machine, which clears decoders"
    )]
    OutsideRegion {
        /// What of the device.
        dpa: DpaRange,
        /// Where.
        range: PhysRange,
        /// The region.
        region: PhysRange,
    },
    /// Device addresses and physical ones do not agree as to where blocks begin.
    #[error(
        "{dpa} at {base}: memory blocks are {block_bytes}; expected both addresses to be equally \
         far from a multiple of that"
    )]
    Blocks {
        /// What of the device.
        dpa: DpaRange,
        /// Where.
        base: PhysAddr,
        /// The size of a block.
        block_bytes: ByteSize,
    },
    /// The kernel cannot hot-plug memory.
    #[error("this kernel has no memory blocks (/sys/devices/system/memory): it cannot hot-plug")]
    NoHotPlug,
    /// The device that the kernel put over the whole region is in use.
    #[error(
        "{device}, which the kernel put over all of the dax region, has memory online ({blocks}), \
         although nothing is behind it; expected memhp_default_state=offline on the kernel's \
         command line"
    )]
    WholeRegionOnline {
        /// Which dax device.
        device: String,
        /// Its blocks.
        blocks: String,
    },
    /// Making, or taking away, a piece of memory failed.
    #[error("memory at {range}")]
    Memory {
        /// Where.
        range: PhysRange,
        /// Why.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The device has no dynamic capacity.
    #[error("device {device} has no dynamic capacity: it has no regions; expected 1 to 8")]
    NoRegions {
        /// Which device.
        device: String,
    },
    /// The rules refuse what was said to them.
    #[error(transparent)]
    Rules(#[from] InputError),
    /// It was taken out.
    #[error(
        "device {device} has been taken out while it was served; the kernel still counts {online} \
         of memory that is not there any more ({blocks}), and programs that touch it read nothing \
         sensible: end them, and restart the machine. Nothing else was touched"
    )]
    Unplugged {
        /// Which device.
        device: String,
        /// What was online of it.
        online: ByteSize,
        /// In which blocks.
        blocks: String,
    },
}

impl From<RegionError> for DcdError {
    fn from(error: RegionError) -> Self {
        Self::NoRoom(Box::new(error))
    }
}

fn one_of(names: &[String]) -> String {
    match names {
        [] => "one, but there is none".to_owned(),
        [one] => one.clone(),
        many => format!("one of {}", many.join(", ")),
    }
}

/// What sets a window aside for dax (kernel `parse_memmap_one`: soft reserved is 0xefffffff).
#[must_use]
pub fn parameters(window: PhysRange, size: ByteSize) -> String {
    format!(
        "memmap={}M%{:#x}+0xefffffff memhp_default_state=offline module_blacklist=cxl_acpi,cxl_pci",
        size.0 >> 20,
        window.start().0
    )
}
