//! The bytes of 4800h to 4803h, and of the extents that they and others are made of
//! (CXL 3.1, tables 8-51 and 8-164 to 8-170).

use alloc::vec::Vec;

use memtide_units::{DcExtent, DpaRange, Tag};

use super::{
    AddResponse, Configuration, ExtentList, GetConfiguration, GetExtentList, Region, Release,
    Resources,
};
use crate::{
    Command, DecodeError, Opcode, Payload,
    command::{More, Sanitize},
    payload::{Fields, Record, Writer, fixed_size},
};

impl Command for GetConfiguration {
    const OPCODE: Opcode = Opcode::GET_DC_CONFIGURATION;
    type Response = Configuration;
}

impl Command for GetExtentList {
    const OPCODE: Opcode = Opcode::GET_DC_EXTENT_LIST;
    type Response = ExtentList;
}

impl Command for AddResponse {
    const OPCODE: Opcode = Opcode::ADD_DC_RESPONSE;
    type Response = ();
}

impl Command for Release {
    const OPCODE: Opcode = Opcode::RELEASE_DC;
    type Response = ();
}

fixed_size!(
    GetConfiguration = "a Get Dynamic Capacity Configuration request",
    GetExtentList = "a Get Dynamic Capacity Extent List request",
);

impl Record for GetConfiguration {
    const SIZE: usize = 2;

    fn write(&self, out: &mut Writer<'_>) {
        out.u8(self.count).u8(self.start);
    }

    fn read(fields: &mut Fields<'_>) -> Result<Self, DecodeError> {
        Ok(Self { count: fields.u8(), start: fields.u8() })
    }
}

impl Payload for Configuration {
    fn encode(&self, out: &mut Vec<u8>) {
        let mut out = Writer(out);
        out.u8(self.available).count8(&self.regions).reserved(6);
        out.list(&self.regions).record(&self.resources);
    }

    fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let what = "a dynamic capacity configuration";
        let mut fields = Fields::at_least(what, bytes, 8 + Resources::SIZE)?;
        let (available, returned) = (fields.u8(), fields.u8());
        fields.reserved(6);
        let regions = fields.list(returned.into(), Resources::SIZE)?;
        Ok(Self { available, regions, resources: Record::read(&mut fields)? })
    }
}

impl Record for Region {
    const SIZE: usize = 40;

    fn write(&self, out: &mut Writer<'_>) {
        out.u64(self.base).capacity(self.decode_length).u64(self.length).u64(self.block_size);
        out.u32(self.dsmad_handle).u8(self.sanitize.bit()).reserved(3);
    }

    fn read(fields: &mut Fields<'_>) -> Result<Self, DecodeError> {
        let region = Self {
            base: fields.u64(),
            decode_length: fields.capacity("decode length")?,
            length: fields.u64(),
            block_size: fields.u64(),
            dsmad_handle: fields.u32(),
            sanitize: Sanitize::from_bit(fields.u8()),
        };
        fields.reserved(3);
        Ok(region)
    }
}

impl Record for Resources {
    const SIZE: usize = 16;

    fn write(&self, out: &mut Writer<'_>) {
        out.u32(self.extents_supported).u32(self.extents_available);
        out.u32(self.tags_supported).u32(self.tags_available);
    }

    fn read(fields: &mut Fields<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            extents_supported: fields.u32(),
            extents_available: fields.u32(),
            tags_supported: fields.u32(),
            tags_available: fields.u32(),
        })
    }
}

impl Record for GetExtentList {
    const SIZE: usize = 8;

    fn write(&self, out: &mut Writer<'_>) {
        out.u32(self.count).u32(self.start);
    }

    fn read(fields: &mut Fields<'_>) -> Result<Self, DecodeError> {
        Ok(Self { count: fields.u32(), start: fields.u32() })
    }
}

impl Payload for ExtentList {
    fn encode(&self, out: &mut Vec<u8>) {
        let mut out = Writer(out);
        out.count32(&self.extents).u32(self.total).u32(self.generation).reserved(4);
        out.list(&self.extents);
    }

    fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let mut fields = Fields::at_least("an extent list", bytes, 16)?;
        let returned = fields.u32();
        let (total, generation) = (fields.u32(), fields.u32());
        fields.reserved(4);
        Ok(Self { total, generation, extents: fields.list(returned, 0)? })
    }
}

/// An extent with its tag: 40 bytes (table 8-51).
impl Record for DcExtent {
    const SIZE: usize = 40;

    fn write(&self, out: &mut Writer<'_>) {
        out.u64(self.range.start).u64(self.range.length).bytes(&self.tag.0);
        out.u16(self.sequence).reserved(6);
    }

    fn read(fields: &mut Fields<'_>) -> Result<Self, DecodeError> {
        let range = DpaRange::new(fields.u64(), fields.u64());
        let extent = Self { range, tag: Tag(fields.bytes()), sequence: fields.u16() };
        fields.reserved(6);
        Ok(extent)
    }
}

/// An updated extent: 24 bytes (table 8-168).
impl Record for DpaRange {
    const SIZE: usize = 24;

    fn write(&self, out: &mut Writer<'_>) {
        out.u64(self.start).u64(self.length).reserved(8);
    }

    fn read(fields: &mut Fields<'_>) -> Result<Self, DecodeError> {
        let range = Self::new(fields.u64(), fields.u64());
        fields.reserved(8);
        Ok(range)
    }
}

impl Payload for AddResponse {
    fn encode(&self, out: &mut Vec<u8>) {
        write_updated(out, self.more, &self.accepted);
    }

    fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let (more, accepted) = read_updated("an Add Dynamic Capacity Response", bytes)?;
        Ok(Self { more, accepted })
    }
}

impl Payload for Release {
    fn encode(&self, out: &mut Vec<u8>) {
        write_updated(out, self.more, &self.released);
    }

    fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let (more, released) = read_updated("a Release Dynamic Capacity request", bytes)?;
        if released.is_empty() {
            let (field, expected) = ("updated extent list size", "1 or more");
            return Err(DecodeError::Field { field, value: 0, expected });
        }
        Ok(Self { more, released })
    }
}

/// The frame that 4802h and 4803h share.
fn write_updated(out: &mut Vec<u8>, more: More, extents: &[DpaRange]) {
    Writer(out).count32(extents).u8(more.bit()).reserved(3).list(extents);
}

fn read_updated(what: &'static str, bytes: &[u8]) -> Result<(More, Vec<DpaRange>), DecodeError> {
    let mut fields = Fields::at_least(what, bytes, 8)?;
    let count = fields.u32();
    let more = More::from_bit(fields.u8());
    fields.reserved(3);
    Ok((more, fields.list(count, 0)?))
}
