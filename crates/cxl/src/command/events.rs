//! Event logs, and the records of dynamic capacity (CXL 3.1, 8.2.9.2).

mod encoding;

pub use encoding::DYNAMIC_CAPACITY_UUID;

use alloc::vec::Vec;

use memtide_units::DcExtent;

use super::{HostId, More};

/// A log of a device.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
#[repr(u8)]
pub enum EventLog {
    /// Informational.
    Informational = 0,
    /// Warnings.
    Warning = 1,
    /// Failures.
    Failure = 2,
    /// Fatal ones.
    Fatal = 3,
    /// Dynamic capacity.
    DynamicCapacity = 4,
}

/// 0100h: what is in a log.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct GetEventRecords {
    /// Which.
    pub log: EventLog,
}

/// The answer to 0100h: a header of 32 bytes and records of 128.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct EventRecords {
    /// How many records were lost because the log was full; nobody counts past 65535.
    pub overflow: Option<Overflow>,
    /// Whether there are more than these.
    pub more: More,
    /// The oldest first.
    pub records: Vec<EventRecord>,
}

/// Records that were lost.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Overflow {
    /// How many.
    pub count: u16,
    /// When the first was, in nanoseconds; 0 if nobody knows.
    pub first: u64,
    /// When the last was.
    pub last: u64,
}

/// One record.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct EventRecord {
    /// Its name for 0101h; never 0.
    pub handle: u16,
    /// One that it belongs to, or 0.
    pub related: u16,
    /// When, in nanoseconds since 1970; 0 if nobody knows.
    pub timestamp: u64,
    /// What it says.
    pub body: EventBody,
}

/// What a record says.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum EventBody {
    /// Something about dynamic capacity.
    DynamicCapacity(DynamicCapacityEvent),
    /// A record of another kind, by its UUID.
    Other([u8; 16]),
}

/// A record of dynamic capacity (CXL 3.1, table 8-51).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct DynamicCapacityEvent {
    /// What happened.
    pub kind: DynamicCapacityEventKind,
    /// With which host; said to a fabric manager.
    pub host: HostId,
    /// Which region was configured.
    pub region: u8,
    /// Whether another record of the group follows.
    pub more: More,
    /// Where.
    pub extent: DcExtent,
    /// Extents that can still be remembered; 0 also where the device does not say.
    pub extents_available: u32,
    /// Tags that can still be remembered; 0 also where the device does not say.
    pub tags_available: u32,
}

/// What a record of dynamic capacity tells.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum DynamicCapacityEventKind {
    /// To a host: this is offered.
    Add = 0,
    /// To a host: this is asked back.
    Release = 1,
    /// To a host: this is gone.
    ForcedRelease = 2,
    /// To a host: a region was configured anew.
    RegionConfigurationUpdated = 3,
    /// To a fabric manager: a host has answered an offer; an extent of length 0: it took nothing.
    AddResponse = 4,
    /// To a fabric manager: a host has released this.
    CapacityReleased = 5,
}

/// 0101h: forget these.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ClearEventRecords {
    /// In which log.
    pub log: EventLog,
    /// Which.
    pub what: Clear,
}

/// What 0101h forgets.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Clear {
    /// Everything.
    All,
    /// These, the oldest first: 1 to 255 handles.
    Handles(Vec<u16>),
}
