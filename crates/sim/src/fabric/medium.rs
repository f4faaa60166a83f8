//! The device, as all fabrics here have it: one region of capacity that one host at a time may
//! have, and that is overwritten between two owners.
//!
//! It is [`memtide_cxl::device`], which answers and refuses as CXL 3.1 says. A host reads its event
//! log ([`read_log`]), and the device's word on an answer is [`outcome`].

use memtide_cxl::{
    command::{
        HostId, More, Sanitize,
        events::{
            Clear, ClearEventRecords, DynamicCapacityEventKind as Kind, EventBody, EventLog,
            GetEventRecords,
        },
    },
    device::{
        CAPACITY_UNIT, Config, ConfigError, Device, Limits, Refusal, RegionConfig, SanitizeControl,
        Sharing,
    },
};
use memtide_engine::dynamic_capacity::{self as dc, DeviceId};
use memtide_units::DpaRange;

/// The only device.
pub(crate) const MEM: DeviceId = DeviceId(0);

/// Bytes of a payload: the largest mailbox that there is, so that a log is read in few turns.
const PAYLOAD: u32 = 1 << 20;

/// A device of so many bytes in blocks, for so many hosts. It can remember any extent of whole
/// blocks that there could be, and so many event records of each host.
pub(crate) fn device(
    capacity: u64,
    block: u64,
    hosts: u16,
    event_records: u16,
) -> Result<Device, ConfigError> {
    let region = RegionConfig {
        base: 0,
        decode_length: capacity.next_multiple_of(CAPACITY_UNIT),
        length: capacity,
        block_size: block,
        block_sizes: block,
        dsmad_handle: 0,
        sharing: Sharing::Exclusive,
        sanitize: Sanitize::OnRelease,
        sanitize_control: SanitizeControl::Fixed,
    };
    let blocks = u32::try_from(capacity / block).unwrap_or(u32::MAX);
    Device::new(Config {
        serial: 1,
        hosts,
        regions: vec![region],
        total_capacity: capacity.next_multiple_of(CAPACITY_UNIT),
        limits: Limits { extents: blocks, tags: blocks, event_records, payload_bytes: PAYLOAD },
    })
}

/// What a host's driver knows of such a device.
pub(crate) fn partition(capacity: u64, block: u64) -> dc::Partition {
    let range = DpaRange::new(0, capacity.next_multiple_of(CAPACITY_UNIT));
    dc::Partition { range, length: capacity, block_bytes: block }
}

/// A host reads its log until it is empty, and clears it.
pub(crate) fn read_log(device: &mut Device, host: HostId) -> Result<Vec<dc::Input>, Refusal> {
    let mut inputs = Vec::new();
    loop {
        let ask = GetEventRecords { log: EventLog::DynamicCapacity };
        let records = device.host_events(host, &ask)?.records;
        if records.is_empty() {
            return Ok(inputs);
        }
        inputs.extend(records.iter().filter_map(|record| input(&record.body)));
        let handles = records.iter().map(|record| record.handle).collect();
        let (log, what) = (EventLog::DynamicCapacity, Clear::Handles(handles));
        device.clear_host_events(host, &ClearEventRecords { log, what })?;
    }
}

/// What a record means to the host's rules.
fn input(body: &EventBody) -> Option<dc::Input> {
    let EventBody::DynamicCapacity(event) = body else { return None };
    let (device, extent) = (MEM, event.extent);
    let (range, tag) = (extent.range, extent.tag);
    let more = match event.more {
        More::Follows => dc::More::Follows,
        More::Last => dc::More::Last,
    };
    match event.kind {
        Kind::Add => Some(dc::Input::Add { device, extent, more }),
        Kind::Release => Some(dc::Input::Release { device, range, tag, more }),
        Kind::ForcedRelease => Some(dc::Input::ForcedRelease { device, range, tag }),
        _ => None,
    }
}

/// What the device made of an answer, as the host's rules have it.
pub(crate) const fn outcome(reply: &Result<(), Refusal>) -> dc::Outcome {
    match reply {
        Ok(()) => dc::Outcome::Taken,
        Err(_) => dc::Outcome::Rejected,
    }
}

/// Bytes that a host has accepted.
pub(crate) fn held_bytes(device: &Device, host: HostId) -> u64 {
    device.held(host).map(|extent| extent.range.length).sum()
}
