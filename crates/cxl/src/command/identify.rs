//! Who is at the other end, and what it is (CXL 3.1, 8.2.9.1.1 and 8.2.9.9.1.1).

use alloc::vec::Vec;

use crate::{
    Command, DecodeError, Opcode, Payload,
    payload::{Fields, Record, Writer, fixed_size},
};

/// 0001h: who are you?
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Identify;

/// The answer to 0001h: 18 bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Identity {
    /// The maker's PCI number.
    pub vendor: u16,
    /// The maker's number of the kind.
    pub device: u16,
    /// The PCI number of who sells it; 0 of a switch.
    pub subsystem_vendor: u16,
    /// That one's number of the kind.
    pub subsystem: u16,
    /// Its serial number.
    pub serial: u64,
    /// The binary logarithm of the longest payload that it takes, in bytes: 8 to 20.
    pub message_log2_max: u8,
    /// What it is.
    pub component: Component,
}

/// What somebody is. Kinds that this crate has no name for are kept as they are.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Component(pub u8);

impl Component {
    /// A switch.
    pub const SWITCH: Self = Self(0);
    /// A device of type 3: memory.
    pub const MEMORY_DEVICE: Self = Self(3);
}

impl Command for Identify {
    const OPCODE: Opcode = Opcode::IDENTIFY;
    type Response = Identity;
}

/// 4000h: what memory do you have?
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct IdentifyMemoryDevice;

/// The answer to 4000h. Capacities are bytes, multiples of 256 MiB; none of them is dynamic.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct MemoryDevice {
    /// Its firmware's name: ASCII, as much as there is, then zeros.
    pub firmware: [u8; 16],
    /// All of it.
    pub total_capacity: u64,
    /// Of it, what forgets.
    pub volatile_capacity: u64,
    /// Of it, what does not.
    pub persistent_capacity: u64,
    /// What the line between them is a multiple of; 0: it cannot be moved.
    pub partition_align: u64,
    /// How many records fit in its logs of information, warnings, failures and fatal events.
    pub log_records: [u16; 4],
    /// Bytes for labels.
    pub label_bytes: u32,
    /// How many poisoned lines it can list: 24 bits.
    pub poison_list_max: u32,
    /// How many lines it can be made to poison.
    pub inject_poison_limit: u16,
    /// What it does with poison: bits.
    pub poison_capabilities: u8,
    /// What it tells of its load: bits.
    pub qos_capabilities: u8,
    /// How many records fit in its log of dynamic capacity. A device of CXL 2.0 says nothing of it,
    /// in 67 bytes instead of 69.
    pub dynamic_capacity_log_records: Option<u16>,
}

impl Command for IdentifyMemoryDevice {
    const OPCODE: Opcode = Opcode::IDENTIFY_MEMORY_DEVICE;
    type Response = MemoryDevice;
}

fixed_size!(
    Identify = "an Identify request",
    Identity = "an identity",
    IdentifyMemoryDevice = "an Identify Memory Device request",
);

impl Record for Identify {
    const SIZE: usize = 0;

    fn write(&self, _: &mut Writer<'_>) {}

    fn read(_: &mut Fields<'_>) -> Result<Self, DecodeError> {
        Ok(Self)
    }
}

impl Record for Identity {
    const SIZE: usize = 18;

    fn write(&self, out: &mut Writer<'_>) {
        out.u16(self.vendor).u16(self.device).u16(self.subsystem_vendor).u16(self.subsystem);
        out.u64(self.serial).u8(self.message_log2_max).u8(self.component.0);
    }

    fn read(fields: &mut Fields<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            vendor: fields.u16(),
            device: fields.u16(),
            subsystem_vendor: fields.u16(),
            subsystem: fields.u16(),
            serial: fields.u64(),
            message_log2_max: fields.u8(),
            component: Component(fields.u8()),
        })
    }
}

impl Record for IdentifyMemoryDevice {
    const SIZE: usize = 0;

    fn write(&self, _: &mut Writer<'_>) {}

    fn read(_: &mut Fields<'_>) -> Result<Self, DecodeError> {
        Ok(Self)
    }
}

/// What a device of CXL 2.0 says.
const MEMORY_DEVICE_BYTES_MIN: usize = 67;

impl Payload for MemoryDevice {
    /// # Panics
    /// If a capacity is no multiple of 256 MiB, or the poison list is of more than 24 bits.
    fn encode(&self, out: &mut Vec<u8>) {
        assert!(self.poison_list_max < 1 << 24, "a poison list of {:#x}", self.poison_list_max);
        let mut out = Writer(out);
        out.bytes(&self.firmware).capacity(self.total_capacity).capacity(self.volatile_capacity);
        out.capacity(self.persistent_capacity).capacity(self.partition_align);
        for records in self.log_records {
            out.u16(records);
        }
        out.u32(self.label_bytes).bytes(&self.poison_list_max.to_le_bytes()[..3]);
        out.u16(self.inject_poison_limit).u8(self.poison_capabilities).u8(self.qos_capabilities);
        if let Some(records) = self.dynamic_capacity_log_records {
            out.u16(records);
        }
    }

    fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let what = "a memory device's identity";
        let expected = MEMORY_DEVICE_BYTES_MIN;
        let mut fields = Fields::at_least(what, bytes, expected)?;
        if bytes.len() > expected {
            fields = Fields::exactly(what, bytes, expected + 2)?;
        }
        let mut device = Self {
            firmware: fields.bytes(),
            total_capacity: fields.capacity("total capacity")?,
            volatile_capacity: fields.capacity("volatile only capacity")?,
            persistent_capacity: fields.capacity("persistent only capacity")?,
            partition_align: fields.capacity("partition alignment")?,
            log_records: core::array::from_fn(|_| fields.u16()),
            label_bytes: fields.u32(),
            poison_list_max: {
                let [low, middle, high] = fields.bytes();
                u32::from_le_bytes([low, middle, high, 0])
            },
            inject_poison_limit: fields.u16(),
            poison_capabilities: fields.u8(),
            qos_capabilities: fields.u8(),
            dynamic_capacity_log_records: None,
        };
        if bytes.len() > expected {
            device.dynamic_capacity_log_records = Some(fields.u16());
        }
        Ok(device)
    }
}
