//! The bytes of 5600h to 5608h (CXL 3.1, 7.6.7.6.1 to 7.6.7.6.9).

use alloc::vec::Vec;

use memtide_units::{DcExtent, Tag};

use super::{
    AddReference, Force, GetHostConfiguration, GetHostExtents, GetInfo, HostConfiguration,
    HostExtents, HostRegion, Info, InitiateAdd, InitiateRelease, ListTags, Removal,
    RemoveReference, Selection, SetConfiguration, TagInfo, Tags,
};
use crate::{
    Command, DecodeError, Opcode, Payload,
    command::{HostId, Sanitize, dynamic_capacity::Resources},
    payload::{Fields, Record, Writer, fixed_size},
};

/// Which opcode is which request's, and what answers it.
macro_rules! commands {
    ($($request:ty: $opcode:ident -> $response:ty;)+) => {$(
        impl Command for $request {
            const OPCODE: Opcode = Opcode::$opcode;
            type Response = $response;
        }
    )+};
}

commands! {
    GetInfo: GET_DCD_INFO -> Info;
    GetHostConfiguration: GET_HOST_DC_REGION_CONFIGURATION -> HostConfiguration;
    SetConfiguration: SET_DC_REGION_CONFIGURATION -> ();
    GetHostExtents: GET_DC_REGION_EXTENT_LISTS -> HostExtents;
    InitiateAdd: INITIATE_DC_ADD -> ();
    InitiateRelease: INITIATE_DC_RELEASE -> ();
    AddReference: DC_ADD_REFERENCE -> ();
    RemoveReference: DC_REMOVE_REFERENCE -> ();
    ListTags: DC_LIST_TAGS -> Tags;
}

fixed_size!(
    GetInfo = "a Get DCD Info request",
    Info = "DCD info",
    GetHostConfiguration = "a Get Host DC Region Configuration request",
    SetConfiguration = "a Set DC Region Configuration request",
    GetHostExtents = "a Get DC Region Extent Lists request",
    AddReference = "a Dynamic Capacity Add Reference request",
    RemoveReference = "a Dynamic Capacity Remove Reference request",
    ListTags = "a Dynamic Capacity List Tags request",
);

impl Record for GetInfo {
    const SIZE: usize = 0;

    fn write(&self, _: &mut Writer<'_>) {}

    fn read(_: &mut Fields<'_>) -> Result<Self, DecodeError> {
        Ok(Self)
    }
}

impl Record for Info {
    const SIZE: usize = 84;

    fn write(&self, out: &mut Writer<'_>) {
        out.u8(self.hosts).u8(self.regions).reserved(2);
        out.u16(self.add_policies).reserved(2).u16(self.release_policies);
        out.u8(self.sanitize_configurable).reserved(1).capacity(self.total_capacity);
        self.block_sizes.iter().for_each(|&sizes| {
            out.u64(sizes);
        });
    }

    fn read(fields: &mut Fields<'_>) -> Result<Self, DecodeError> {
        let (hosts, regions) = (fields.u8(), fields.u8());
        fields.reserved(2);
        let add_policies = fields.u16();
        fields.reserved(2);
        let (release_policies, sanitize_configurable) = (fields.u16(), fields.u8());
        fields.reserved(1);
        let total_capacity = fields.capacity("total dynamic capacity")?;
        Ok(Self {
            hosts,
            regions,
            add_policies,
            release_policies,
            sanitize_configurable,
            total_capacity,
            block_sizes: core::array::from_fn(|_| fields.u64()),
        })
    }
}

impl Record for GetHostConfiguration {
    const SIZE: usize = 4;

    fn write(&self, out: &mut Writer<'_>) {
        out.u16(self.host.0).u8(self.count).u8(self.start);
    }

    fn read(fields: &mut Fields<'_>) -> Result<Self, DecodeError> {
        Ok(Self { host: HostId(fields.u16()), count: fields.u8(), start: fields.u8() })
    }
}

impl Payload for HostConfiguration {
    fn encode(&self, out: &mut Vec<u8>) {
        let mut out = Writer(out);
        out.u16(self.host.0).u8(self.available).count8(&self.regions);
        out.list(&self.regions).record(&self.resources);
    }

    fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let what = "a host's DC region configuration";
        let mut fields = Fields::at_least(what, bytes, 4 + Resources::SIZE)?;
        let (host, available) = (HostId(fields.u16()), fields.u8());
        let returned = fields.u8();
        let regions = fields.list(returned.into(), Resources::SIZE)?;
        Ok(Self { host, available, regions, resources: Record::read(&mut fields)? })
    }
}

impl Record for HostRegion {
    const SIZE: usize = 40;

    fn write(&self, out: &mut Writer<'_>) {
        out.u64(self.base).capacity(self.decode_length).u64(self.length).u64(self.block_size);
        out.u8(self.dsmas_flags).reserved(3).u8(self.sanitize.bit()).reserved(3);
    }

    fn read(fields: &mut Fields<'_>) -> Result<Self, DecodeError> {
        let (base, decode_length) = (fields.u64(), fields.capacity("decode length")?);
        let (length, block_size) = (fields.u64(), fields.u64());
        let dsmas_flags = fields.u8();
        fields.reserved(3);
        let sanitize = Sanitize::from_bit(fields.u8());
        fields.reserved(3);
        Ok(Self { base, decode_length, length, block_size, dsmas_flags, sanitize })
    }
}

impl Record for SetConfiguration {
    const SIZE: usize = 16;

    fn write(&self, out: &mut Writer<'_>) {
        out.u8(self.region).reserved(3).u64(self.block_size);
        out.u8(self.sanitize.bit()).reserved(3);
    }

    fn read(fields: &mut Fields<'_>) -> Result<Self, DecodeError> {
        let region = fields.u8();
        fields.reserved(3);
        let block_size = fields.u64();
        let sanitize = Sanitize::from_bit(fields.u8());
        fields.reserved(3);
        Ok(Self { region, block_size, sanitize })
    }
}

impl Record for GetHostExtents {
    const SIZE: usize = 12;

    fn write(&self, out: &mut Writer<'_>) {
        out.u16(self.host.0).reserved(2).u32(self.count).u32(self.start);
    }

    fn read(fields: &mut Fields<'_>) -> Result<Self, DecodeError> {
        let host = HostId(fields.u16());
        fields.reserved(2);
        Ok(Self { host, count: fields.u32(), start: fields.u32() })
    }
}

impl Payload for HostExtents {
    fn encode(&self, out: &mut Vec<u8>) {
        let mut out = Writer(out);
        out.u16(self.host.0).reserved(2).u32(self.start).count32(&self.extents);
        out.u32(self.total).u32(self.generation).reserved(4).list(&self.extents);
    }

    fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let mut fields = Fields::at_least("a host's extent list", bytes, 24)?;
        let host = HostId(fields.u16());
        fields.reserved(2);
        let (start, returned) = (fields.u32(), fields.u32());
        let (total, generation) = (fields.u32(), fields.u32());
        fields.reserved(4);
        Ok(Self { host, start, total, generation, extents: fields.list(returned, 0)? })
    }
}

/// What 5604h and 5605h have in common: a frame of 32 bytes, and extents.
struct Initiate {
    host: HostId,
    /// What byte 2 says: the policy in the low four bits, flags above.
    how: u8,
    /// What byte 3 says.
    region: u8,
    length: u64,
    tag: Tag,
}

impl Initiate {
    fn write(&self, out: &mut Vec<u8>, extents: &[DcExtent]) {
        let mut out = Writer(out);
        out.u16(self.host.0).u8(self.how).u8(self.region).u64(self.length);
        out.bytes(&self.tag.0).count32(extents).list(extents);
    }

    fn read(what: &'static str, bytes: &[u8]) -> Result<(Self, Vec<DcExtent>), DecodeError> {
        let mut fields = Fields::at_least(what, bytes, 32)?;
        let frame = Self {
            host: HostId(fields.u16()),
            how: fields.u8(),
            region: fields.u8(),
            length: fields.u64(),
            tag: Tag(fields.bytes()),
        };
        let count = fields.u32();
        Ok((frame, fields.list(count, 0)?))
    }

    fn policy(&self) -> u8 {
        self.how & 0xf
    }
}

impl Selection {
    const ALL: [Self; 4] =
        [Self::Free, Self::Contiguous, Self::Prescriptive, Self::EnableSharedAccess];
}

impl Payload for InitiateAdd {
    fn encode(&self, out: &mut Vec<u8>) {
        let Self { host, region, length, tag, .. } = *self;
        let frame = Initiate { host, how: self.selection as u8, region, length, tag };
        frame.write(out, &self.extents);
    }

    fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let (frame, extents) = Initiate::read("an Initiate Dynamic Capacity Add request", bytes)?;
        let number = frame.policy();
        let known = Selection::ALL.into_iter().find(|&policy| policy as u8 == number);
        let selection = known.ok_or(DecodeError::Field {
            field: "selection policy",
            value: number.into(),
            expected: "0 to 3",
        })?;
        let Initiate { host, region, length, tag, .. } = frame;
        Ok(Self { host, selection, region, length, tag, extents })
    }
}

/// Bit 4 of 5605h's flags.
const FORCED: u8 = 1 << 4;
/// Bit 5 of 5605h's flags.
const SANITIZE: u32 = 5;

impl Payload for InitiateRelease {
    fn encode(&self, out: &mut Vec<u8>) {
        let forced = match self.force {
            Force::Ask => 0,
            Force::Take => FORCED,
        };
        let how = self.removal as u8 | forced | (self.sanitize.bit() << SANITIZE);
        let Self { host, length, tag, .. } = *self;
        Initiate { host, how, region: 0, length, tag }.write(out, &self.extents);
    }

    fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let what = "an Initiate Dynamic Capacity Release request";
        let (frame, extents) = Initiate::read(what, bytes)?;
        let removal = match frame.policy() {
            0 => Removal::TagBased,
            1 => Removal::Prescriptive,
            other => {
                let (field, expected) = ("removal policy", "0 or 1");
                return Err(DecodeError::Field { field, value: other.into(), expected });
            }
        };
        let force = if frame.how & FORCED == 0 { Force::Ask } else { Force::Take };
        let sanitize = Sanitize::from_bit(frame.how >> SANITIZE);
        let Initiate { host, length, tag, .. } = frame;
        Ok(Self { host, removal, force, sanitize, length, tag, extents })
    }
}

impl Record for AddReference {
    const SIZE: usize = 16;

    fn write(&self, out: &mut Writer<'_>) {
        out.bytes(&self.0.0);
    }

    fn read(fields: &mut Fields<'_>) -> Result<Self, DecodeError> {
        Ok(Self(Tag(fields.bytes())))
    }
}

impl Record for RemoveReference {
    const SIZE: usize = 16;

    fn write(&self, out: &mut Writer<'_>) {
        out.bytes(&self.0.0);
    }

    fn read(fields: &mut Fields<'_>) -> Result<Self, DecodeError> {
        Ok(Self(Tag(fields.bytes())))
    }
}

impl Record for ListTags {
    const SIZE: usize = 8;

    fn write(&self, out: &mut Writer<'_>) {
        out.u32(self.start).u32(self.count);
    }

    fn read(fields: &mut Fields<'_>) -> Result<Self, DecodeError> {
        Ok(Self { start: fields.u32(), count: fields.u32() })
    }
}

/// Bits 0 and 1 of the validity in what 5608h answers: both bitmaps of every tag are true. A device
/// that does not know who has what cannot be told from one where nobody has anything, and so what
/// it says is refused.
const BITMAPS_VALID: u8 = 3;

impl Payload for Tags {
    fn encode(&self, out: &mut Vec<u8>) {
        let mut out = Writer(out);
        out.u32(self.generation).u32(self.total).count32(&self.tags);
        out.u8(BITMAPS_VALID).reserved(3).list(&self.tags);
    }

    fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let mut fields = Fields::at_least("a list of tags", bytes, 16)?;
        let (generation, total, returned) = (fields.u32(), fields.u32(), fields.u32());
        let validity = fields.u8();
        fields.reserved(3);
        let tags: Vec<TagInfo> = fields.list(returned, 0)?;
        if validity & BITMAPS_VALID != BITMAPS_VALID && !tags.is_empty() {
            let (field, expected) = ("validity bitmap", "3: both bitmaps of the tags");
            return Err(DecodeError::Field { field, value: validity.into(), expected });
        }
        Ok(Self { generation, total, tags })
    }
}

impl Record for TagInfo {
    const SIZE: usize = 84;

    fn write(&self, out: &mut Writer<'_>) {
        out.bytes(&self.tag.0).u8(self.referenced.into()).reserved(3);
        out.bytes(&self.holders).bytes(&self.pending);
    }

    fn read(fields: &mut Fields<'_>) -> Result<Self, DecodeError> {
        let (tag, flags) = (Tag(fields.bytes()), fields.u8());
        fields.reserved(3);
        let (holders, pending) = (fields.bytes(), fields.bytes());
        Ok(Self { tag, referenced: flags & 1 != 0, holders, pending })
    }
}
