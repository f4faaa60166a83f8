//! The bytes of 0100h and 0101h, and of event records (CXL 3.1, 8.2.9.2.1 to 8.2.9.2.3).

use alloc::vec::Vec;

use super::{
    Clear, ClearEventRecords, DynamicCapacityEvent, DynamicCapacityEventKind, EventBody, EventLog,
    EventRecord, EventRecords, GetEventRecords, Overflow,
};
use crate::{
    Command, DecodeError, Opcode, Payload,
    command::{HostId, More},
    payload::{Fields, Record, Writer, fixed_size},
};

/// The kind of a record of dynamic capacity: ca95afa7-f183-4018-8c2f-95268e101a2a (table 8-51),
/// bytes in printed order.
pub const DYNAMIC_CAPACITY_UUID: [u8; 16] = [
    0xca, 0x95, 0xaf, 0xa7, 0xf1, 0x83, 0x40, 0x18, 0x8c, 0x2f, 0x95, 0x26, 0x8e, 0x10, 0x1a, 0x2a,
];

/// Bit 0 of what 0100h answers: records were lost.
const OVERFLOW: u8 = 1;
/// Bit 0 of what 0101h asks for: all of them.
const CLEAR_ALL: u8 = 1;
/// Bit 0 of a record's validity: its counts of what is available are true.
const AVAILABLE_VALID: u8 = 1;

impl Command for GetEventRecords {
    const OPCODE: Opcode = Opcode::GET_EVENT_RECORDS;
    type Response = EventRecords;
}

impl Command for ClearEventRecords {
    const OPCODE: Opcode = Opcode::CLEAR_EVENT_RECORDS;
    type Response = ();
}

fixed_size!(GetEventRecords = "a Get Event Records request");

impl EventLog {
    const ALL: [Self; 5] =
        [Self::Informational, Self::Warning, Self::Failure, Self::Fatal, Self::DynamicCapacity];

    fn read(fields: &mut Fields<'_>) -> Result<Self, DecodeError> {
        let number = fields.u8();
        Self::ALL.into_iter().find(|&log| log as u8 == number).ok_or(DecodeError::Field {
            field: "event log",
            value: number.into(),
            expected: "0 to 4",
        })
    }
}

impl Record for GetEventRecords {
    const SIZE: usize = 1;

    fn write(&self, out: &mut Writer<'_>) {
        out.u8(self.log as u8);
    }

    fn read(fields: &mut Fields<'_>) -> Result<Self, DecodeError> {
        Ok(Self { log: EventLog::read(fields)? })
    }
}

impl Payload for EventRecords {
    fn encode(&self, out: &mut Vec<u8>) {
        let lost = self.overflow.unwrap_or(Overflow { count: 0, first: 0, last: 0 });
        let overflow = if self.overflow.is_some() { OVERFLOW } else { 0 };
        let flags = overflow | (self.more.bit() << 1);
        let mut out = Writer(out);
        out.u8(flags).reserved(1).u16(lost.count).u64(lost.first).u64(lost.last);
        out.count16(&self.records).reserved(10).list(&self.records);
    }

    fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let mut fields = Fields::at_least("an answer of event records", bytes, 32)?;
        let flags = fields.u8();
        fields.reserved(1);
        let lost = Overflow { count: fields.u16(), first: fields.u64(), last: fields.u64() };
        let count = fields.u16();
        fields.reserved(10);
        Ok(Self {
            overflow: (flags & OVERFLOW != 0).then_some(lost),
            more: More::from_bit(flags >> 1),
            records: fields.list(count.into(), 0)?,
        })
    }
}

/// A header of 48 bytes that all kinds have (table 8-42), and 80 of its own.
impl Record for EventRecord {
    const SIZE: usize = 128;

    fn write(&self, out: &mut Writer<'_>) {
        let uuid = match &self.body {
            EventBody::DynamicCapacity(_) => DYNAMIC_CAPACITY_UUID,
            EventBody::Other(uuid) => *uuid,
        };
        out.bytes(&uuid).u8(Self::SIZE as u8).reserved(3).u16(self.handle).u16(self.related);
        out.u64(self.timestamp).reserved(16);
        match &self.body {
            EventBody::DynamicCapacity(event) => out.record(event),
            EventBody::Other(_) => out.reserved(DynamicCapacityEvent::SIZE),
        };
    }

    fn read(fields: &mut Fields<'_>) -> Result<Self, DecodeError> {
        let uuid = fields.bytes();
        // Its length and flags: all records are of one size, and no flag changes what is done.
        fields.reserved(4);
        let (handle, related, timestamp) = (fields.u16(), fields.u16(), fields.u64());
        fields.reserved(16);
        let body = if uuid == DYNAMIC_CAPACITY_UUID {
            EventBody::DynamicCapacity(Record::read(fields)?)
        } else {
            fields.reserved(DynamicCapacityEvent::SIZE);
            EventBody::Other(uuid)
        };
        Ok(Self { handle, related, timestamp, body })
    }
}

impl DynamicCapacityEventKind {
    const ALL: [Self; 6] = [
        Self::Add,
        Self::Release,
        Self::ForcedRelease,
        Self::RegionConfigurationUpdated,
        Self::AddResponse,
        Self::CapacityReleased,
    ];

    fn read(fields: &mut Fields<'_>) -> Result<Self, DecodeError> {
        let number = fields.u8();
        Self::ALL.into_iter().find(|&kind| kind as u8 == number).ok_or(DecodeError::Field {
            field: "dynamic capacity event type",
            value: number.into(),
            expected: "0 to 5",
        })
    }
}

impl Record for DynamicCapacityEvent {
    const SIZE: usize = 80;

    fn write(&self, out: &mut Writer<'_>) {
        out.u8(self.kind as u8).u8(AVAILABLE_VALID).u16(self.host.0).u8(self.region);
        out.u8(self.more.bit()).reserved(2).record(&self.extent).reserved(24);
        out.u32(self.extents_available).u32(self.tags_available);
    }

    fn read(fields: &mut Fields<'_>) -> Result<Self, DecodeError> {
        let kind = DynamicCapacityEventKind::read(fields)?;
        let validity = fields.u8();
        let (host, region) = (HostId(fields.u16()), fields.u8());
        let more = More::from_bit(fields.u8());
        fields.reserved(2);
        let extent = Record::read(fields)?;
        fields.reserved(24);
        let available = [fields.u32(), fields.u32()];
        let known = validity & AVAILABLE_VALID != 0;
        let [extents_available, tags_available] = if known { available } else { [0; 2] };
        Ok(Self { kind, host, region, more, extent, extents_available, tags_available })
    }
}

impl Payload for ClearEventRecords {
    fn encode(&self, out: &mut Vec<u8>) {
        let (flags, handles) = match &self.what {
            Clear::All => (CLEAR_ALL, [].as_slice()),
            Clear::Handles(handles) => (0, handles.as_slice()),
        };
        let mut out = Writer(out);
        out.u8(self.log as u8).u8(flags).count8(handles).reserved(3).list(handles);
    }

    fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let mut fields = Fields::at_least("a Clear Event Records request", bytes, 6)?;
        let log = EventLog::read(&mut fields)?;
        let all = fields.u8() & CLEAR_ALL != 0;
        let count = fields.u8();
        fields.reserved(3);
        let handles: Vec<u16> = fields.list(count.into(), 0)?;
        let refuse = |expected| {
            let field = "number of event record handles";
            Err(DecodeError::Field { field, value: count.into(), expected })
        };
        match (all, count) {
            (true, 0) => Ok(Self { log, what: Clear::All }),
            (true, _) => refuse("0, where all events are cleared"),
            (false, 0) => refuse("1 to 255"),
            (false, _) => Ok(Self { log, what: Clear::Handles(handles) }),
        }
    }
}

/// A handle in a list.
impl Record for u16 {
    const SIZE: usize = 2;

    fn write(&self, out: &mut Writer<'_>) {
        out.u16(*self);
    }

    fn read(fields: &mut Fields<'_>) -> Result<Self, DecodeError> {
        Ok(fields.u16())
    }
}
