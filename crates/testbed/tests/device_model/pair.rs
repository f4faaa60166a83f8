//! Both devices, and what is compared.

use std::collections::BTreeSet;

use memtide_cxl::{
    Command, Opcode, Payload, ReturnCode,
    command::{
        HostId, More, Sanitize,
        dynamic_capacity::{AddResponse, ExtentList, GetConfiguration, GetExtentList, Release},
        events::{Clear, ClearEventRecords, EventLog, EventRecords, GetEventRecords},
        fabric_manager::{Force, InitiateAdd, InitiateRelease, Removal, Selection},
    },
    device::{
        CAPACITY_UNIT, Config, Device, Effect, Limits, Refusal, RegionConfig, Reply,
        SanitizeControl, Sharing,
    },
};
use memtide_testbed::Error;
use memtide_units::{DcExtent, DpaRange, Tag};

use crate::{
    compare::decoded,
    deviations::{Deviation, of_command, of_request},
    emulated::{Emulated, Request},
};

pub const BLOCK: u64 = 2 << 20;
/// Bytes of each region.
pub const REGION: u64 = 1 << 30;
/// Where region 0 starts: behind the memory that is always there.
pub const FIRST: u64 = 1 << 30;
/// The only host.
pub const HOST: HostId = HostId(0);
const TAGS: u32 = 16;
/// Records that QEMU's log holds.
pub const RECORDS: u16 = 8;

/// `count` blocks from block `first` of a region.
pub fn blocks(region: u8, first: u64, count: u64) -> DpaRange {
    DpaRange::new(base(region) + first * BLOCK, count * BLOCK)
}

pub fn base(region: u8) -> u64 {
    FIRST + u64::from(region) * REGION
}

/// The model, as QEMU configures its device.
fn config(payload_bytes: usize) -> Config {
    let region = |number| RegionConfig {
        base: base(number),
        decode_length: REGION,
        length: REGION,
        block_size: BLOCK,
        block_sizes: BLOCK,
        dsmad_handle: u32::from(number) + 1,
        sharing: Sharing::Exclusive,
        sanitize: Sanitize::Never,
        sanitize_control: SanitizeControl::Fixed,
    };
    let payload_bytes = payload_bytes as u32;
    let limits = Limits { extents: 512, tags: TAGS, event_records: RECORDS, payload_bytes };
    let regions = vec![region(0), region(1)];
    Config { serial: 1, hosts: 1, regions, total_capacity: 8 * CAPACITY_UNIT, limits }
}

pub struct Pair {
    pub qemu: Emulated,
    pub model: Device,
    /// The rows that were seen.
    pub seen: BTreeSet<Deviation>,
}

/// What is asked of a manager.
#[derive(Clone, Debug)]
pub struct Wish {
    pub host: HostId,
    pub selection: Selection,
    pub tag: Tag,
    pub region: u8,
    pub ranges: Vec<DpaRange>,
}

impl Wish {
    pub fn of(region: u8, ranges: &[DpaRange]) -> Self {
        let selection = Selection::Prescriptive;
        Self { host: HOST, selection, tag: Tag::NULL, region, ranges: ranges.to_vec() }
    }

    fn offsets(&self) -> Vec<(u64, u64)> {
        let from = base(self.region);
        self.ranges.iter().map(|range| (range.start - from, range.length)).collect()
    }

    fn extents(&self) -> Vec<DcExtent> {
        let extent = |&range: &DpaRange| DcExtent { range, tag: self.tag, sequence: 0 };
        self.ranges.iter().map(extent).collect()
    }
}

impl Pair {
    pub fn start() -> Result<Self, Error> {
        let qemu = Emulated::start()?;
        let model = Device::new(config(qemu.payload_bytes())).expect("a device");
        Ok(Self { qemu, model, seen: BTreeSet::new() })
    }

    pub fn see(&mut self, deviation: Deviation) {
        self.seen.insert(deviation);
    }

    /// A host command to both. Which row says why they differ in more than what they answer.
    pub fn bytes(&mut self, opcode: Opcode, payload: &[u8]) -> Result<Option<Deviation>, Error> {
        let (code, answer) = self.qemu.command(opcode, payload)?;
        let reply = self.ours(opcode, payload);
        if code != reply.code {
            let row = of_command(opcode, reply.refusal.as_ref(), code);
            let row = row.unwrap_or_else(|| {
                panic!("{opcode} {payload:02x?}: QEMU says {code}, the model {reply:?}")
            });
            self.see(row);
            return Ok(Some(row));
        }
        if code == ReturnCode::SUCCESS {
            self.compare(opcode, payload, &answer, &reply.payload);
        }
        Ok(None)
    }

    pub fn host<C: Command>(&mut self, command: &C) -> Result<Option<Deviation>, Error> {
        self.bytes(C::OPCODE, &command.to_bytes())
    }

    /// A command to the model alone; its own rules hold after it.
    pub fn ours(&mut self, opcode: Opcode, payload: &[u8]) -> Reply {
        let reply = self.model.host(HOST, opcode, payload);
        self.model.validate();
        reply
    }

    pub fn answer(&mut self, accepted: &[DpaRange]) -> Result<Option<Deviation>, Error> {
        self.answer_part(More::Last, accepted)
    }

    /// An empty answer to nothing ends QEMU: it is never sent.
    pub fn answer_part(
        &mut self,
        more: More,
        accepted: &[DpaRange],
    ) -> Result<Option<Deviation>, Error> {
        assert!(!accepted.is_empty() || self.is_offered(), "this would crash QEMU");
        self.host(&AddResponse { more, accepted: accepted.to_vec() })
    }

    pub fn is_offered(&self) -> bool {
        self.model.offers(HOST).next().is_some()
    }

    pub fn release(&mut self, released: &[DpaRange]) -> Result<Option<Deviation>, Error> {
        self.host(&Release { more: More::Last, released: released.to_vec() })
    }

    /// An offer.
    pub fn add(&mut self, wish: &Wish) -> Result<Option<Deviation>, Error> {
        let offsets = wish.offsets();
        let request = Request { host: wish.host.0, region: wish.region, extents: &offsets };
        let words = self.qemu.add(&request, wish.selection, &wish.tag.to_string())?;
        let length = wish.ranges.iter().map(|range| range.length).sum();
        let extents = match wish.selection {
            Selection::Prescriptive => wish.extents(),
            _ => Vec::new(),
        };
        let Wish { host, selection, region, tag, .. } = *wish;
        let done =
            self.model.initiate_add(&InitiateAdd { host, selection, region, length, tag, extents });
        self.requested(done.err(), words, &format!("{wish:?}"))
    }

    /// A request for capacity, or its end.
    pub fn ask(
        &mut self,
        wish: &Wish,
        force: Force,
        sanitize: Sanitize,
    ) -> Result<Option<Deviation>, Error> {
        let offsets = wish.offsets();
        let request = Request { host: wish.host.0, region: wish.region, extents: &offsets };
        let (forced, sanitized) = (force == Force::Take, sanitize == Sanitize::OnRelease);
        let words = self.qemu.release(&request, forced, sanitized)?;
        let done = self.model.initiate_release(&InitiateRelease {
            host: wish.host,
            removal: Removal::Prescriptive,
            force,
            sanitize,
            length: 0,
            tag: Tag::NULL,
            extents: wish.extents(),
        });
        self.requested(done.err(), words, &format!("{force:?} {sanitize:?} {wish:?}"))
    }

    fn requested(
        &mut self,
        ours: Option<Refusal>,
        words: Option<String>,
        what: &str,
    ) -> Result<Option<Deviation>, Error> {
        self.model.validate();
        if ours.is_some() == words.is_some() {
            return Ok(None);
        }
        let row = of_request(ours.as_ref(), words.as_deref())
            .unwrap_or_else(|| panic!("{what}: QEMU says {words:?}, the model {ours:?}"));
        self.see(row);
        Ok(Some(row))
    }

    /// Overwrites what waits for that.
    pub fn sanitize(&mut self) {
        for effect in self.model.take_effects() {
            if let Effect::Sanitize { range } = effect {
                self.model.sanitized(range).expect("it waits for that");
            }
        }
    }

    /// All that can be looked at without changing it is the same.
    pub fn same(&mut self) -> Result<(), Error> {
        self.host(&GetConfiguration { count: 8, start: 0 })?;
        self.host(&GetExtentList { count: 64, start: 0 })?;
        self.host(&GetEventRecords { log: EventLog::DynamicCapacity })?;
        let ours = self.model_events();
        assert_eq!(self.qemu.has_events()?, !ours.records.is_empty(), "event status");
        Ok(())
    }

    pub fn model_events(&self) -> EventRecords {
        let log = GetEventRecords { log: EventLog::DynamicCapacity };
        self.model.host_events(HOST, &log).expect("a host")
    }

    pub fn qemu_events(&self) -> Result<EventRecords, Error> {
        let log = GetEventRecords { log: EventLog::DynamicCapacity };
        let (code, answer) = self.qemu.command(Opcode::GET_EVENT_RECORDS, &log.to_bytes())?;
        assert_eq!(code, ReturnCode::SUCCESS);
        Ok(EventRecords::decode(&answer).expect("records"))
    }

    /// What QEMU has given, and what the model has, ascending; without tags.
    pub fn extents_of_both(&mut self) -> Result<(Vec<DpaRange>, Vec<DpaRange>), Error> {
        let get = GetExtentList { count: 64, start: 0 }.to_bytes();
        let (_, theirs) = self.qemu.command(Opcode::GET_DC_EXTENT_LIST, &get)?;
        let ours = self.ours(Opcode::GET_DC_EXTENT_LIST, &get).payload;
        let ranges = |answer: &[u8]| {
            let list: ExtentList = decoded(Opcode::GET_DC_EXTENT_LIST, answer);
            let extents = list.extents.iter().take(list.total as usize);
            let mut ranges: Vec<DpaRange> = extents.map(|extent| extent.range).collect();
            ranges.sort();
            ranges
        };
        Ok((ranges(&theirs), ranges(&ours)))
    }

    /// Empties both logs.
    pub fn drain(&mut self) -> Result<(), Error> {
        self.clear_first(RECORDS.into())?;
        let left = (self.qemu_events()?.records.len(), self.model_events().records.len());
        assert_eq!(left, (0, 0), "records that were cleared");
        Ok(())
    }

    /// Clears the oldest records of both logs, each by its own handles: so many, or all.
    pub fn clear_first(&mut self, count: usize) -> Result<(), Error> {
        let clear = |read: &EventRecords| {
            let oldest = read.records.iter().take(count);
            let handles: Vec<u16> = oldest.map(|record| record.handle).collect();
            let (log, what) = (EventLog::DynamicCapacity, Clear::Handles(handles));
            ClearEventRecords { log, what }.to_bytes()
        };
        let (theirs, ours) = (self.qemu_events()?, self.model_events());
        if !theirs.records.is_empty() {
            let (code, _) = self.qemu.command(Opcode::CLEAR_EVENT_RECORDS, &clear(&theirs))?;
            assert_eq!(code, ReturnCode::SUCCESS, "QEMU does not clear {theirs:?}");
        }
        if !ours.records.is_empty() {
            let reply = self.ours(Opcode::CLEAR_EVENT_RECORDS, &clear(&ours));
            assert_eq!(reply.code, ReturnCode::SUCCESS, "{reply:?} to {ours:?}");
        }
        Ok(())
    }
}
