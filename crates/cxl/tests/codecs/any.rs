//! Any message at all: every field takes every value that it may have.

use memtide_cxl::{
    cci::Kind,
    command::{
        HostId, More, Sanitize, background, dynamic_capacity as dc, events, fabric_manager as fm,
        identify, logical_device as ld, switch,
    },
    tunnel,
};
use memtide_units::{DcExtent, DpaRange, Tag};
use proptest::{array::uniform32, collection::vec, prelude::*};

/// Lists get this long.
const MEMBERS_MAX: usize = 6;

pub fn tag() -> impl Strategy<Value = Tag> {
    any::<[u8; 16]>().prop_map(Tag)
}

pub fn host() -> impl Strategy<Value = HostId> {
    any::<u16>().prop_map(HostId)
}

pub fn more() -> impl Strategy<Value = More> {
    prop_oneof![Just(More::Follows), Just(More::Last)]
}

pub fn sanitize() -> impl Strategy<Value = Sanitize> {
    prop_oneof![Just(Sanitize::OnRelease), Just(Sanitize::Never)]
}

/// Bytes that are sent in units of 256 MiB.
pub fn capacity() -> impl Strategy<Value = u64> {
    (0..1_u64 << 36).prop_map(|units| units << 28)
}

pub fn range() -> impl Strategy<Value = DpaRange> {
    any::<(u64, u64)>().prop_map(|(start, length)| DpaRange::new(start, length))
}

pub fn extent() -> impl Strategy<Value = DcExtent> {
    (range(), tag(), any::<u16>()).prop_map(|(range, tag, sequence)| DcExtent {
        range,
        tag,
        sequence,
    })
}

pub fn extents() -> impl Strategy<Value = Vec<DcExtent>> {
    vec(extent(), 0..=MEMBERS_MAX)
}

pub fn resources() -> impl Strategy<Value = dc::Resources> {
    any::<[u32; 4]>().prop_map(|numbers| dc::Resources {
        extents_supported: numbers[0],
        extents_available: numbers[1],
        tags_supported: numbers[2],
        tags_available: numbers[3],
    })
}

pub fn get_configuration() -> impl Strategy<Value = dc::GetConfiguration> {
    any::<(u8, u8)>().prop_map(|(count, start)| dc::GetConfiguration { count, start })
}

pub fn configuration() -> impl Strategy<Value = dc::Configuration> {
    let region = (any::<[u64; 3]>(), capacity(), any::<u32>(), sanitize()).prop_map(
        |([base, length, block_size], decode_length, dsmad_handle, sanitize)| dc::Region {
            base,
            decode_length,
            length,
            block_size,
            dsmad_handle,
            sanitize,
        },
    );
    (any::<u8>(), vec(region, 0..=MEMBERS_MAX), resources()).prop_map(
        |(available, regions, resources)| dc::Configuration { available, regions, resources },
    )
}

pub fn get_extent_list() -> impl Strategy<Value = dc::GetExtentList> {
    any::<(u32, u32)>().prop_map(|(count, start)| dc::GetExtentList { count, start })
}

pub fn extent_list() -> impl Strategy<Value = dc::ExtentList> {
    (any::<u32>(), any::<u32>(), extents())
        .prop_map(|(total, generation, extents)| dc::ExtentList { total, generation, extents })
}

pub fn add_response() -> impl Strategy<Value = dc::AddResponse> {
    (more(), vec(range(), 0..=MEMBERS_MAX))
        .prop_map(|(more, accepted)| dc::AddResponse { more, accepted })
}

pub fn release() -> impl Strategy<Value = dc::Release> {
    (more(), vec(range(), 1..=MEMBERS_MAX))
        .prop_map(|(more, released)| dc::Release { more, released })
}

pub fn log() -> impl Strategy<Value = events::EventLog> {
    use events::EventLog::*;
    prop::sample::select(vec![Informational, Warning, Failure, Fatal, DynamicCapacity])
}

pub fn get_event_records() -> impl Strategy<Value = events::GetEventRecords> {
    log().prop_map(|log| events::GetEventRecords { log })
}

pub fn dynamic_capacity_event() -> impl Strategy<Value = events::DynamicCapacityEvent> {
    use events::DynamicCapacityEventKind::*;
    let kinds = vec![
        Add,
        Release,
        ForcedRelease,
        RegionConfigurationUpdated,
        AddResponse,
        CapacityReleased,
    ];
    (prop::sample::select(kinds), host(), any::<u8>(), more(), extent(), any::<(u32, u32)>())
        .prop_map(|(kind, host, region, more, extent, (extents_available, tags_available))| {
            events::DynamicCapacityEvent {
                kind,
                host,
                region,
                more,
                extent,
                extents_available,
                tags_available,
            }
        })
}

pub fn event_records() -> impl Strategy<Value = events::EventRecords> {
    let body = prop_oneof![
        dynamic_capacity_event().prop_map(events::EventBody::DynamicCapacity),
        any::<[u8; 16]>()
            .prop_filter("another kind", |uuid| *uuid != events::DYNAMIC_CAPACITY_UUID)
            .prop_map(events::EventBody::Other),
    ];
    let record = (any::<u16>(), any::<u16>(), any::<u64>(), body).prop_map(
        |(handle, related, timestamp, body)| events::EventRecord {
            handle,
            related,
            timestamp,
            body,
        },
    );
    let lost = any::<(u16, u64, u64)>().prop_map(|(count, first, last)| events::Overflow {
        count,
        first,
        last,
    });
    (prop::option::of(lost), more(), vec(record, 0..=MEMBERS_MAX))
        .prop_map(|(overflow, more, records)| events::EventRecords { overflow, more, records })
}

pub fn clear_event_records() -> impl Strategy<Value = events::ClearEventRecords> {
    let what = prop_oneof![
        Just(events::Clear::All),
        vec(any::<u16>(), 1..=255).prop_map(events::Clear::Handles)
    ];
    (log(), what).prop_map(|(log, what)| events::ClearEventRecords { log, what })
}

pub fn info() -> impl Strategy<Value = fm::Info> {
    (any::<(u8, u8, u8)>(), any::<(u16, u16)>(), capacity(), any::<[u64; 8]>()).prop_map(
        |(bytes, policies, total_capacity, block_sizes)| fm::Info {
            hosts: bytes.0,
            regions: bytes.1,
            add_policies: policies.0,
            release_policies: policies.1,
            sanitize_configurable: bytes.2,
            total_capacity,
            block_sizes,
        },
    )
}

pub fn get_host_configuration() -> impl Strategy<Value = fm::GetHostConfiguration> {
    (host(), any::<u8>(), any::<u8>()).prop_map(|(host, count, start)| fm::GetHostConfiguration {
        host,
        count,
        start,
    })
}

pub fn host_configuration() -> impl Strategy<Value = fm::HostConfiguration> {
    let region = (any::<[u64; 3]>(), capacity(), any::<u8>(), sanitize()).prop_map(
        |([base, length, block_size], decode_length, dsmas_flags, sanitize)| fm::HostRegion {
            base,
            decode_length,
            length,
            block_size,
            dsmas_flags,
            sanitize,
        },
    );
    (host(), any::<u8>(), vec(region, 0..=MEMBERS_MAX), resources()).prop_map(
        |(host, available, regions, resources)| fm::HostConfiguration {
            host,
            available,
            regions,
            resources,
        },
    )
}

pub fn set_configuration() -> impl Strategy<Value = fm::SetConfiguration> {
    (any::<u8>(), any::<u64>(), sanitize()).prop_map(|(region, block_size, sanitize)| {
        fm::SetConfiguration { region, block_size, sanitize }
    })
}

pub fn get_host_extents() -> impl Strategy<Value = fm::GetHostExtents> {
    (host(), any::<u32>(), any::<u32>()).prop_map(|(host, count, start)| fm::GetHostExtents {
        host,
        count,
        start,
    })
}

pub fn host_extents() -> impl Strategy<Value = fm::HostExtents> {
    (host(), any::<[u32; 3]>(), extents()).prop_map(
        |(host, [start, total, generation], extents)| fm::HostExtents {
            host,
            start,
            total,
            generation,
            extents,
        },
    )
}

pub fn initiate_add() -> impl Strategy<Value = fm::InitiateAdd> {
    use fm::Selection::*;
    let selection = prop::sample::select(vec![Free, Contiguous, Prescriptive, EnableSharedAccess]);
    (host(), selection, any::<u8>(), any::<u64>(), tag(), extents()).prop_map(
        |(host, selection, region, length, tag, extents)| fm::InitiateAdd {
            host,
            selection,
            region,
            length,
            tag,
            extents,
        },
    )
}

pub fn initiate_release() -> impl Strategy<Value = fm::InitiateRelease> {
    let removal = prop_oneof![Just(fm::Removal::TagBased), Just(fm::Removal::Prescriptive)];
    let force = prop_oneof![Just(fm::Force::Ask), Just(fm::Force::Take)];
    (host(), removal, force, sanitize(), any::<u64>(), tag(), extents()).prop_map(
        |(host, removal, force, sanitize, length, tag, extents)| fm::InitiateRelease {
            host,
            removal,
            force,
            sanitize,
            length,
            tag,
            extents,
        },
    )
}

pub fn list_tags() -> impl Strategy<Value = fm::ListTags> {
    any::<(u32, u32)>().prop_map(|(start, count)| fm::ListTags { start, count })
}

pub fn tags() -> impl Strategy<Value = fm::Tags> {
    let bitmap = || uniform32(any::<u8>());
    let info = (tag(), any::<bool>(), bitmap(), bitmap()).prop_map(
        |(tag, referenced, holders, pending)| fm::TagInfo { tag, referenced, holders, pending },
    );
    (any::<u32>(), any::<u32>(), vec(info, 0..=MEMBERS_MAX))
        .prop_map(|(generation, total, tags)| fm::Tags { generation, total, tags })
}

pub fn cci() -> impl Strategy<Value = memtide_cxl::cci::Message> {
    use memtide_cxl::{
        Opcode, ReturnCode,
        cci::{Background, Kind, Message, Outcome},
    };
    let background = prop_oneof![Just(Background::Over), Just(Background::Running)];
    let outcome =
        (any::<u16>(), any::<u16>(), background).prop_map(|(code, vendor_status, background)| {
            Outcome { code: ReturnCode(code), vendor_status, background }
        });
    let kind = prop_oneof![Just(Kind::Request), outcome.prop_map(Kind::Response)];
    (any::<u8>(), any::<u16>(), kind, vec(any::<u8>(), 0..200)).prop_map(
        |(tag, opcode, kind, payload)| Message { tag, opcode: Opcode(opcode), kind, payload },
    )
}

pub fn identity() -> impl Strategy<Value = identify::Identity> {
    (any::<[u16; 4]>(), any::<u64>(), any::<(u8, u8)>()).prop_map(|(ids, serial, bytes)| {
        identify::Identity {
            vendor: ids[0],
            device: ids[1],
            subsystem_vendor: ids[2],
            subsystem: ids[3],
            serial,
            message_log2_max: bytes.0,
            component: identify::Component(bytes.1),
        }
    })
}

pub fn memory_device() -> impl Strategy<Value = identify::MemoryDevice> {
    let capacities = [capacity(), capacity(), capacity(), capacity()];
    let poison = (0..1_u32 << 24, any::<(u16, u8, u8)>());
    let logs = (any::<[u16; 4]>(), any::<Option<u16>>());
    (any::<[u8; 16]>(), capacities, logs, any::<u32>(), poison).prop_map(
        |(firmware, capacities, logs, label_bytes, (poison_list_max, rest))| {
            identify::MemoryDevice {
                firmware,
                total_capacity: capacities[0],
                volatile_capacity: capacities[1],
                persistent_capacity: capacities[2],
                partition_align: capacities[3],
                log_records: logs.0,
                label_bytes,
                poison_list_max,
                inject_poison_limit: rest.0,
                poison_capabilities: rest.1,
                qos_capabilities: rest.2,
                dynamic_capacity_log_records: logs.1,
            }
        },
    )
}

pub fn switch_identity() -> impl Strategy<Value = switch::Switch> {
    let bitmaps = [uniform32(any::<u8>()), uniform32(any::<u8>())];
    (any::<[u8; 4]>(), any::<[u16; 2]>(), bitmaps).prop_map(|(bytes, bridges, bitmaps)| {
        switch::Switch {
            ingress_port: bytes[0],
            ports: bytes[1],
            virtual_switches: bytes[2],
            active_ports: bitmaps[0],
            active_virtual_switches: bitmaps[1],
            bridges: bridges[0],
            bound_bridges: bridges[1],
            decoders: bytes[3],
        }
    })
}

pub fn get_physical_port_state() -> impl Strategy<Value = switch::GetPhysicalPortState> {
    vec(any::<u8>(), 0..=255).prop_map(|ports| switch::GetPhysicalPortState { ports })
}

pub fn physical_port_state() -> impl Strategy<Value = switch::PhysicalPortState> {
    let port = (any::<[u8; 12]>(), any::<u16>()).prop_map(|(bytes, flags)| switch::Port {
        number: bytes[0],
        configuration: switch::PortConfiguration(bytes[1] & 0xf),
        mode: bytes[1] >> 4,
        connected: switch::ConnectedDevice(bytes[2]),
        modes_supported: bytes[3],
        link: switch::Link {
            width_max: bytes[4],
            width: bytes[5],
            speeds: bytes[6],
            speed_max: bytes[7],
            speed: bytes[8],
            ltssm: bytes[9],
            first_lane: bytes[10],
            flags,
        },
        ld_count: bytes[11],
    });
    vec(port, 0..=255).prop_map(|ports| switch::PhysicalPortState { ports })
}

pub fn ld_info() -> impl Strategy<Value = ld::LdInfo> {
    any::<(u64, u16, u8)>().prop_map(|(memory_bytes, count, qos_capabilities)| ld::LdInfo {
        memory_bytes,
        count,
        qos_capabilities,
    })
}

pub fn get_ld_allocations() -> impl Strategy<Value = ld::GetLdAllocations> {
    any::<(u8, u8)>().prop_map(|(start, count)| ld::GetLdAllocations { start, count })
}

pub fn ld_allocations() -> impl Strategy<Value = ld::LdAllocations> {
    use ld::LdGranularity::*;
    let granularity = prop::sample::select(vec![Quarter, Half, Whole]);
    let allocation =
        any::<(u64, u64)>().prop_map(|(range_1, range_2)| ld::LdAllocation { range_1, range_2 });
    (any::<(u8, u8)>(), granularity, vec(allocation, 0..=255)).prop_map(
        |((total, start), granularity, allocations)| ld::LdAllocations {
            total,
            granularity,
            start,
            allocations,
        },
    )
}

pub fn get_multi_headed_info() -> impl Strategy<Value = ld::GetMultiHeadedInfo> {
    any::<(u8, u8)>().prop_map(|(start, count)| ld::GetMultiHeadedInfo { start, count })
}

pub fn multi_headed_info() -> impl Strategy<Value = ld::MultiHeadedInfo> {
    (any::<[u8; 3]>(), vec(any::<u8>(), 0..=255)).prop_map(|([total, heads, start], heads_of)| {
        ld::MultiHeadedInfo { total, heads, start, heads_of }
    })
}

pub fn background_operation() -> impl Strategy<Value = background::BackgroundOperation> {
    (any::<bool>(), 0..128_u8, any::<[u16; 3]>()).prop_map(|(running, percent, numbers)| {
        use memtide_cxl::{Opcode, ReturnCode, cci::Background};
        background::BackgroundOperation {
            background: if running { Background::Running } else { Background::Over },
            percent,
            opcode: Opcode(numbers[0]),
            code: ReturnCode(numbers[1]),
            vendor_status: numbers[2],
        }
    })
}

pub fn tunnel() -> impl Strategy<Value = tunnel::Tunnel> {
    let target =
        prop_oneof![any::<u8>().prop_map(tunnel::Target::PortOrLd), Just(tunnel::Target::LdPool)];
    (target, cci()).prop_map(|(target, message)| {
        let message = memtide_cxl::cci::Message { kind: Kind::Request, ..message };
        tunnel::Tunnel::new(target, message).unwrap()
    })
}

pub fn tunneled() -> impl Strategy<Value = tunnel::Tunneled> {
    let is_response = |message: &memtide_cxl::cci::Message| message.kind != Kind::Request;
    cci()
        .prop_filter("a response", is_response)
        .prop_map(|message| tunnel::Tunneled::new(message).unwrap())
}
