//! What a device is cut into (CXL 3.1, 7.6.7.4.1, 7.6.7.4.2 and 7.6.7.5.1).
//!
//! Several hosts share a device as logical devices: behind one port of a switch, or each behind a
//! head of its own. Dynamic capacity numbers its hosts by them.

use alloc::vec::Vec;

use crate::{
    Command, DecodeError, Opcode, Payload,
    payload::{Fields, Record, Writer, fixed_size},
};

/// 5400h: how many logical devices are there?
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct GetLdInfo;

/// The answer to 5400h: 11 bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct LdInfo {
    /// Bytes that can be given to logical devices.
    pub memory_bytes: u64,
    /// How many logical devices there can be.
    pub count: u16,
    /// What it tells of its load: bits.
    pub qos_capabilities: u8,
}

impl Command for GetLdInfo {
    const OPCODE: Opcode = Opcode::GET_LD_INFO;
    type Response = LdInfo;
}

/// 5401h: how much does each logical device have?
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct GetLdAllocations {
    /// The first, from 0.
    pub start: u8,
    /// How many to tell of, at most.
    pub count: u8,
}

/// The answer to 5401h: a header of 4 bytes, and 16 for each logical device.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct LdAllocations {
    /// How many there are.
    pub total: u8,
    /// What allocations count in.
    pub granularity: LdGranularity,
    /// The first that is told of.
    pub start: u8,
    /// Those that were asked for: at most 255.
    pub allocations: Vec<LdAllocation>,
}

/// What allocations count in.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
#[repr(u8)]
pub enum LdGranularity {
    /// 256 MiB.
    Quarter = 0,
    /// 512 MiB.
    Half = 1,
    /// 1 GiB.
    Whole = 2,
}

/// What a logical device has, in granules.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct LdAllocation {
    /// In its first range.
    pub range_1: u64,
    /// In its second.
    pub range_2: u64,
}

impl Command for GetLdAllocations {
    const OPCODE: Opcode = Opcode::GET_LD_ALLOCATIONS;
    type Response = LdAllocations;
}

/// 5500h: which logical device is at which head?
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct GetMultiHeadedInfo {
    /// The first logical device, from 0.
    pub start: u8,
    /// How many to tell of, at most.
    pub count: u8,
}

/// The answer to 5500h: a header of 8 bytes, and one for each logical device.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct MultiHeadedInfo {
    /// How many logical devices there are.
    pub total: u8,
    /// How many heads.
    pub heads: u8,
    /// The first logical device that is told of.
    pub start: u8,
    /// The head of each of those that were asked for, 0xff of one that has none: at most 255.
    pub heads_of: Vec<u8>,
}

impl Command for GetMultiHeadedInfo {
    const OPCODE: Opcode = Opcode::GET_MULTI_HEADED_INFO;
    type Response = MultiHeadedInfo;
}

fixed_size!(
    GetLdInfo = "a Get LD Info request",
    LdInfo = "LD info",
    GetLdAllocations = "a Get LD Allocations request",
    GetMultiHeadedInfo = "a Get Multi-Headed Info request",
);

impl Record for GetLdInfo {
    const SIZE: usize = 0;

    fn write(&self, _: &mut Writer<'_>) {}

    fn read(_: &mut Fields<'_>) -> Result<Self, DecodeError> {
        Ok(Self)
    }
}

impl Record for LdInfo {
    const SIZE: usize = 11;

    fn write(&self, out: &mut Writer<'_>) {
        out.u64(self.memory_bytes).u16(self.count).u8(self.qos_capabilities);
    }

    fn read(fields: &mut Fields<'_>) -> Result<Self, DecodeError> {
        let (memory_bytes, count) = (fields.u64(), fields.u16());
        Ok(Self { memory_bytes, count, qos_capabilities: fields.u8() })
    }
}

impl Record for GetLdAllocations {
    const SIZE: usize = 2;

    fn write(&self, out: &mut Writer<'_>) {
        out.u8(self.start).u8(self.count);
    }

    fn read(fields: &mut Fields<'_>) -> Result<Self, DecodeError> {
        Ok(Self { start: fields.u8(), count: fields.u8() })
    }
}

impl LdGranularity {
    /// In bytes.
    #[must_use]
    pub const fn bytes(self) -> u64 {
        (256 << 20) << self as u8
    }

    fn read(fields: &mut Fields<'_>) -> Result<Self, DecodeError> {
        match fields.u8() {
            0 => Ok(Self::Quarter),
            1 => Ok(Self::Half),
            2 => Ok(Self::Whole),
            other => {
                let (field, expected) = ("memory granularity", "0 to 2");
                Err(DecodeError::Field { field, value: other.into(), expected })
            }
        }
    }
}

impl Payload for LdAllocations {
    fn encode(&self, out: &mut Vec<u8>) {
        let mut out = Writer(out);
        out.u8(self.total).u8(self.granularity as u8).u8(self.start);
        out.count8(&self.allocations).list(&self.allocations);
    }

    fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let mut fields = Fields::at_least("LD allocations", bytes, 4)?;
        let total = fields.u8();
        let granularity = LdGranularity::read(&mut fields)?;
        let (start, count) = (fields.u8(), fields.u8());
        Ok(Self { total, granularity, start, allocations: fields.list(count.into(), 0)? })
    }
}

impl Record for LdAllocation {
    const SIZE: usize = 16;

    fn write(&self, out: &mut Writer<'_>) {
        out.u64(self.range_1).u64(self.range_2);
    }

    fn read(fields: &mut Fields<'_>) -> Result<Self, DecodeError> {
        Ok(Self { range_1: fields.u64(), range_2: fields.u64() })
    }
}

impl Record for GetMultiHeadedInfo {
    const SIZE: usize = 2;

    fn write(&self, out: &mut Writer<'_>) {
        out.u8(self.start).u8(self.count);
    }

    fn read(fields: &mut Fields<'_>) -> Result<Self, DecodeError> {
        Ok(Self { start: fields.u8(), count: fields.u8() })
    }
}

impl Payload for MultiHeadedInfo {
    fn encode(&self, out: &mut Vec<u8>) {
        let mut out = Writer(out);
        out.u8(self.total).u8(self.heads).reserved(2).u8(self.start).count8(&self.heads_of);
        out.reserved(2).bytes(&self.heads_of);
    }

    fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let mut fields = Fields::at_least("multi-headed info", bytes, 8)?;
        let (total, heads) = (fields.u8(), fields.u8());
        fields.reserved(2);
        let (start, count) = (fields.u8(), fields.u8());
        fields.reserved(2);
        Ok(Self { total, heads, start, heads_of: fields.payload(count.into())?.to_vec() })
    }
}
