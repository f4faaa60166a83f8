//! A device whose every step is checked: a refused command changed nothing, and what must always
//! hold does.

use memtide_cxl::{
    ReturnCode,
    command::{
        HostId, More, Sanitize,
        dynamic_capacity::{AddResponse, GetExtentList, Release},
        events::{
            Clear, ClearEventRecords, DynamicCapacityEvent, EventBody, EventLog, EventRecords,
            GetEventRecords,
        },
        fabric_manager::{Force, InitiateAdd, InitiateRelease, ListTags, Removal, Selection},
    },
    device::{
        CAPACITY_UNIT, Config, Device, Effect, Limits, Refusal, RegionConfig, SanitizeControl,
        Sharing,
    },
};
use memtide_units::{DcExtent, DpaRange, Tag};

pub const MIB: u64 = 1 << 20;
pub const BLOCK: u64 = 2 * MIB;
/// Where the exclusive region starts, and the sharable one.
pub const OWN: u64 = CAPACITY_UNIT;
pub const SHARED: u64 = 3 * CAPACITY_UNIT;
pub const A: Tag = Tag([0xa; 16]);
pub const B: Tag = Tag([0xb; 16]);
pub const H0: HostId = HostId(0);
pub const H1: HostId = HostId(1);
pub const H2: HostId = HostId(2);
/// Whoever there is not.
pub const NOBODY: HostId = HostId(3);

/// Two regions of 64 blocks of 2 MiB; what leaves the second is overwritten.
pub fn config() -> Config {
    let region = |base, sharing, sanitize, sanitize_control| RegionConfig {
        base,
        decode_length: CAPACITY_UNIT,
        length: 64 * BLOCK,
        block_size: BLOCK,
        block_sizes: 3 * BLOCK,
        dsmad_handle: 7,
        sharing,
        sanitize,
        sanitize_control,
    };
    let fixed = SanitizeControl::Fixed;
    let regions = vec![
        region(OWN, Sharing::Exclusive, Sanitize::Never, SanitizeControl::Configurable),
        region(SHARED, Sharing::Sharable, Sanitize::OnRelease, fixed),
    ];
    let limits = Limits { extents: 8, tags: 4, event_records: 6, payload_bytes: 1024 };
    Config { serial: 42, hosts: 3, regions, total_capacity: CAPACITY_UNIT, limits }
}

pub struct Bed {
    pub device: Device,
}

/// `count` blocks from block `first` of the region at `base`.
pub fn blocks(base: u64, first: u64, count: u64) -> DpaRange {
    DpaRange::new(base + first * BLOCK, count * BLOCK)
}

pub fn own(first: u64, count: u64) -> DpaRange {
    blocks(OWN, first, count)
}

pub fn shared(first: u64, count: u64) -> DpaRange {
    blocks(SHARED, first, count)
}

pub fn extent(range: DpaRange, tag: Tag, sequence: u16) -> DcExtent {
    DcExtent { range, tag, sequence }
}

/// Extents without a tag.
pub fn plain(ranges: &[DpaRange]) -> Vec<DcExtent> {
    ranges.iter().map(|&range| extent(range, Tag::NULL, 0)).collect()
}

/// A request for free capacity, one extent of it.
pub fn wish(host: HostId, region: u8, length: u64, tag: Tag) -> InitiateAdd {
    let selection = Selection::Contiguous;
    InitiateAdd { host, selection, region, length, tag, extents: vec![] }
}

/// An offer of just these.
pub fn prescribed(host: HostId, extents: Vec<DcExtent>) -> InitiateAdd {
    let selection = Selection::Prescriptive;
    InitiateAdd { host, selection, region: 0, length: 0, tag: Tag::NULL, extents }
}

/// What another host has under a tag.
pub fn access(host: HostId, region: u8, tag: Tag) -> InitiateAdd {
    InitiateAdd { selection: Selection::EnableSharedAccess, ..wish(host, region, 0, tag) }
}

pub fn ask_for(host: HostId, extents: Vec<DcExtent>) -> InitiateRelease {
    InitiateRelease {
        host,
        removal: Removal::Prescriptive,
        force: Force::Ask,
        sanitize: Sanitize::Never,
        length: 0,
        tag: Tag::NULL,
        extents,
    }
}

pub fn ask_for_tag(host: HostId, tag: Tag, length: u64) -> InitiateRelease {
    InitiateRelease { removal: Removal::TagBased, tag, length, ..ask_for(host, vec![]) }
}

pub fn forced(request: InitiateRelease) -> InitiateRelease {
    InitiateRelease { force: Force::Take, ..request }
}

pub fn sanitized(request: InitiateRelease) -> InitiateRelease {
    InitiateRelease { sanitize: Sanitize::OnRelease, ..request }
}

impl Bed {
    pub fn new() -> Self {
        Self::of(config())
    }

    pub fn of(config: Config) -> Self {
        Self { device: Device::new(config).unwrap() }
    }

    /// With a limit changed.
    pub fn with(change: impl FnOnce(&mut Limits)) -> Self {
        let mut config = config();
        change(&mut config.limits);
        Self::of(config)
    }

    /// Does something. Refused, it changed nothing.
    pub fn step<T>(
        &mut self,
        what: impl FnOnce(&mut Device) -> Result<T, Refusal>,
    ) -> Result<T, Refusal> {
        let before = self.device.clone();
        let done = what(&mut self.device);
        if done.is_err() {
            assert_eq!(self.device, before, "a refused command changed something");
        }
        self.device.validate();
        done
    }

    pub fn add(&mut self, request: &InitiateAdd) -> Result<(), Refusal> {
        self.step(|device| device.initiate_add(request))
    }

    pub fn ask(&mut self, request: &InitiateRelease) -> Result<(), Refusal> {
        self.step(|device| device.initiate_release(request))
    }

    /// Answers the oldest offer.
    pub fn accept(&mut self, host: HostId, ranges: &[DpaRange]) -> Result<(), Refusal> {
        let answer = AddResponse { more: More::Last, accepted: ranges.to_vec() };
        self.step(|device| device.add_response(host, &answer))
    }

    pub fn release(&mut self, host: HostId, ranges: &[DpaRange]) -> Result<(), Refusal> {
        let release = Release { more: More::Last, released: ranges.to_vec() };
        self.step(|device| device.release(host, &release))
    }

    /// Gives a host extents, and forgets what was said about it.
    pub fn give(&mut self, host: HostId, extents: &[DcExtent]) {
        self.add(&prescribed(host, extents.to_vec())).unwrap();
        let ranges: Vec<_> = extents.iter().map(|extent| extent.range).collect();
        self.accept(host, &ranges).unwrap();
        self.forget();
    }

    /// Gives another host what is under a tag.
    pub fn share(&mut self, host: HostId, tag: Tag) {
        self.add(&access(host, 1, tag)).unwrap();
        let offered = self.device.offers(host).next().unwrap();
        let ranges: Vec<_> = offered.iter().map(|extent| extent.range).collect();
        self.accept(host, &ranges).unwrap();
        self.forget();
    }

    /// Empties all logs, and forgets what there is to do.
    pub fn forget(&mut self) {
        let _ = self.take_all(None);
        for host in self.device.hosts() {
            let _ = self.take_all(Some(host));
        }
        let _ = self.device.take_effects();
    }

    pub fn records(&self, host: Option<HostId>) -> EventRecords {
        let request = GetEventRecords { log: EventLog::DynamicCapacity };
        match host {
            Some(host) => self.device.host_events(host, &request).unwrap(),
            None => self.device.manager_events(&request),
        }
    }

    pub fn clear(&mut self, host: Option<HostId>, what: Clear) -> Result<(), Refusal> {
        let request = ClearEventRecords { log: EventLog::DynamicCapacity, what };
        self.step(|device| match host {
            Some(host) => device.clear_host_events(host, &request),
            None => device.clear_manager_events(&request),
        })
    }

    /// All events of a log, which is empty then: of a host, or the manager's.
    pub fn take_all(&mut self, host: Option<HostId>) -> Vec<DynamicCapacityEvent> {
        let mut events = vec![];
        loop {
            let read = self.records(host);
            let handles: Vec<u16> = read.records.iter().map(|record| record.handle).collect();
            if handles.is_empty() {
                return events;
            }
            events.extend(read.records.iter().map(|record| match record.body {
                EventBody::DynamicCapacity(event) => event,
                EventBody::Other(_) => panic!("{record:?}"),
            }));
            self.clear(host, Clear::Handles(handles)).unwrap();
        }
    }

    /// What a host has, as it is told.
    pub fn held(&self, host: HostId) -> Vec<DcExtent> {
        let mut all = vec![];
        loop {
            let request = GetExtentList { count: u32::MAX, start: all.len() as u32 };
            let list = self.device.extent_list(host, &request).unwrap();
            all.extend(list.extents);
            if all.len() == list.total as usize {
                assert!(self.device.held(host).eq(&all));
                return all;
            }
        }
    }

    pub fn held_ranges(&self, host: HostId) -> Vec<DpaRange> {
        self.held(host).iter().map(|extent| extent.range).collect()
    }

    /// The tags: held by, and offered to, the hosts with these bits; kept by the manager.
    pub fn tags(&self) -> Vec<(Tag, u8, u8, bool)> {
        let tags = self.device.list_tags(&ListTags { start: 0, count: 9 }).unwrap().tags;
        let told = |tag: &memtide_cxl::command::fabric_manager::TagInfo| {
            assert!(tag.holders[1..].iter().chain(&tag.pending[1..]).all(|&bits| bits == 0));
            (tag.tag, tag.holders[0], tag.pending[0], tag.referenced)
        };
        tags.iter().map(told).collect()
    }

    pub fn generation(&self, host: HostId) -> u32 {
        self.device.extent_list(host, &GetExtentList { count: 0, start: 0 }).unwrap().generation
    }

    /// What there is to do, but for telling that there are events.
    pub fn moves(&mut self) -> Vec<Effect> {
        let mut effects = self.device.take_effects();
        effects.retain(|e| !matches!(e, Effect::HostEvent(_) | Effect::ManagerEvent));
        effects
    }
}

/// Why something was refused, and the code that says so.
pub fn refused<T: std::fmt::Debug>(done: Result<T, Refusal>) -> (Refusal, ReturnCode) {
    let why = done.unwrap_err();
    (why, why.code())
}

/// Just the code.
pub fn code<T: std::fmt::Debug>(done: Result<T, Refusal>) -> ReturnCode {
    refused(done).1
}
