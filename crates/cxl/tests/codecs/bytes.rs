//! Every message, byte by byte, as the layouts have it; and which of its bits nobody looks at.

use std::{fmt::Debug, ops::Range};

use memtide_cxl::{
    Opcode, Payload, ReturnCode, cci,
    command::{
        HostId, More, Sanitize, background, dynamic_capacity as dc, events, fabric_manager as fm,
        identify, logical_device as ld, message_limit, switch,
    },
    tunnel,
};
use memtide_units::{DcExtent, DpaRange, Tag};

/// Bytes, and of each of them the bits that are reserved.
type Reserved = [(Range<usize>, u8)];

/// From hexadecimal digits; what follows a `|` in a line is a remark.
pub fn hex(text: &str) -> Vec<u8> {
    let bytes = text
        .lines()
        .flat_map(|line| line.split('|').next().into_iter().flat_map(str::split_whitespace));
    bytes.map(|byte| u8::from_str_radix(byte, 16).expect(byte)).collect()
}

/// The message has these bytes, and any bit of them that is not reserved changes it.
fn check<T: Payload + PartialEq + Debug>(message: &T, text: &str, reserved: &Reserved) {
    let bytes = hex(text);
    assert_eq!(message.to_bytes(), bytes, "{message:?}");
    check_bits(&bytes, reserved, |bytes| T::decode(bytes).as_ref() == Ok(message));
}

/// Flips each bit, alone: the message is the same only if the bit is reserved.
fn check_bits(bytes: &[u8], reserved: &Reserved, is_same: impl Fn(&[u8]) -> bool) {
    assert!(is_same(bytes));
    for bit in 0..8 * bytes.len() {
        let (byte, mask) = (bit / 8, 1 << (bit % 8));
        let mut other = bytes.to_vec();
        other[byte] ^= mask;
        let expected =
            reserved.iter().any(|(range, bits)| range.contains(&byte) && bits & mask != 0);
        assert_eq!(is_same(&other), expected, "byte {byte}, bit {mask:#x}");
    }
}

const TAG: Tag = Tag([
    0x6b, 0xa7, 0xb8, 0x10, 0x9d, 0xad, 0x11, 0xd1, 0x80, 0xb4, 0x00, 0xc0, 0x4f, 0xd4, 0x30, 0xc8,
]);

const EXTENT: DcExtent =
    DcExtent { range: DpaRange::new(0x1_2000_0000, 0x40_0000), tag: TAG, sequence: 0x0102 };

const EXTENT_BYTES: &str = "
    00 00 00 20 01 00 00 00 | start
    00 00 40 00 00 00 00 00 | length
    6b a7 b8 10 9d ad 11 d1 80 b4 00 c0 4f d4 30 c8 | tag
    02 01 00 00 00 00 00 00 | sequence, reserved
";

const RESOURCES: dc::Resources = dc::Resources {
    extents_supported: 0x200,
    extents_available: 0x1ff,
    tags_supported: 0x10,
    tags_available: 0x0f,
};

const RESOURCES_BYTES: &str = "00 02 00 00 ff 01 00 00 10 00 00 00 0f 00 00 00";

#[test]
fn dc_4800h_get_configuration() {
    check(&dc::GetConfiguration { count: 8, start: 1 }, "08 01", &[]);
    let region = dc::Region {
        base: 0x1_0000_0000,
        decode_length: 512 << 20,
        length: 0x1800_0000,
        block_size: 2 << 20,
        dsmad_handle: 0x0a0b_0c0d,
        sanitize: Sanitize::OnRelease,
    };
    let answer = dc::Configuration { available: 2, regions: vec![region], resources: RESOURCES };
    let text = format!(
        "02 01 00 00 00 00 00 00
         00 00 00 00 01 00 00 00 | base
         02 00 00 00 00 00 00 00 | decode length, in 256 MiB
         00 00 00 18 00 00 00 00 | length
         00 00 20 00 00 00 00 00 | block size
         0d 0c 0b 0a 01 00 00 00 | DSMAD handle, flags
         {RESOURCES_BYTES}"
    );
    check(&answer, &text, &[(2..8, 0xff), (44..45, 0xfe), (45..48, 0xff)]);
}

#[test]
fn dc_4801h_get_extent_list() {
    let request = dc::GetExtentList { count: 0x100, start: 2 };
    check(&request, "00 01 00 00 02 00 00 00", &[]);
    let answer = dc::ExtentList { total: 3, generation: 0x0504, extents: vec![EXTENT] };
    let text = format!(
        "01 00 00 00 03 00 00 00 04 05 00 00 00 00 00 00
         {EXTENT_BYTES}"
    );
    check(&answer, &text, &[(12..16, 0xff), (50..56, 0xff)]);
}

#[test]
fn dc_4802h_add_response() {
    let accepted = vec![DpaRange::new(0x2000_0000, 0x20_0000)];
    let text = "
        01 00 00 00 01 00 00 00
        00 00 00 20 00 00 00 00
        00 00 20 00 00 00 00 00
        00 00 00 00 00 00 00 00";
    let reserved = [(4..5, 0xfe), (5..8, 0xff), (24..32, 0xff)];
    check(&dc::AddResponse { more: More::Follows, accepted }, text, &reserved);
    let nothing = dc::AddResponse { more: More::Last, accepted: vec![] };
    check(&nothing, "00 00 00 00 00 00 00 00", &[(4..5, 0xfe), (5..8, 0xff)]);
}

#[test]
fn dc_4803h_release() {
    let released = vec![DpaRange::new(0x2000_0000, 0x20_0000), DpaRange::new(0x1000_0000, 1)];
    let text = "
        02 00 00 00 00 00 00 00
        00 00 00 20 00 00 00 00
        00 00 20 00 00 00 00 00
        00 00 00 00 00 00 00 00
        00 00 00 10 00 00 00 00
        01 00 00 00 00 00 00 00
        00 00 00 00 00 00 00 00";
    let reserved = [(4..5, 0xfe), (5..8, 0xff), (24..32, 0xff), (48..56, 0xff)];
    check(&dc::Release { more: More::Last, released }, text, &reserved);
    let refused = dc::Release::decode(&[0; 8]).unwrap_err();
    assert_eq!(refused.code(), ReturnCode::INVALID_INPUT, "{refused}");
}

#[test]
fn events_0100h_get_records() {
    let request = events::GetEventRecords { log: events::EventLog::DynamicCapacity };
    check(&request, "04", &[]);
    let event = events::DynamicCapacityEvent {
        kind: events::DynamicCapacityEventKind::CapacityReleased,
        host: HostId(0x0302),
        region: 7,
        more: More::Follows,
        extent: EXTENT,
        extents_available: 0x1ff,
        tags_available: 0x0f,
    };
    let record = events::EventRecord {
        handle: 0x1122,
        related: 0x3344,
        timestamp: 0x0807_0605_0403_0201,
        body: events::EventBody::DynamicCapacity(event),
    };
    let answer = events::EventRecords {
        overflow: Some(events::Overflow { count: 9, first: 0x10, last: 0x20 }),
        more: More::Follows,
        records: vec![record],
    };
    let text = format!(
        "03 00 09 00
         10 00 00 00 00 00 00 00 | first overflow
         20 00 00 00 00 00 00 00 | last overflow
         01 00 00 00 00 00 00 00 00 00 00 00 | record count
         ca 95 af a7 f1 83 40 18 8c 2f 95 26 8e 10 1a 2a
         80 00 00 00 22 11 44 33 | length, flags, handle, related
         01 02 03 04 05 06 07 08 | timestamp
         00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00
         05 01 02 03 07 01 00 00 | type, validity, host, region, flags
         {EXTENT_BYTES}
         00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00
         ff 01 00 00 0f 00 00 00"
    );
    assert_eq!(hex(&text).len(), 32 + 128);
    let reserved = [
        (0..1, 0xfc),
        (1..2, 0xff),
        (22..32, 0xff),
        (48..52, 0xff),
        (64..80, 0xff),
        (81..82, 0xfe),
        (85..86, 0xfe),
        (86..88, 0xff),
        (122..128, 0xff),
        (128..152, 0xff),
    ];
    check(&answer, &text, &reserved);
}

/// QEMU's device says nothing of what is available; other kinds are only told by their UUID.
#[test]
fn events_0100h_other_kinds_and_unknown_counts() {
    let mut bytes = vec![0; 32 + 2 * 128];
    bytes[20] = 2;
    bytes[32..48].copy_from_slice(&events::DYNAMIC_CAPACITY_UUID);
    bytes[32 + 120..32 + 128].fill(0xff);
    bytes[160..176].copy_from_slice(&TAG.0);
    bytes[176..].fill(0xff);
    let answer = events::EventRecords::decode(&bytes).unwrap();
    let [ours, other] = answer.records.try_into().unwrap();
    let events::EventBody::DynamicCapacity(event) = ours.body else { panic!("{ours:?}") };
    assert_eq!((event.extents_available, event.tags_available), (0, 0));
    assert_eq!((other.handle, other.body), (0xffff, events::EventBody::Other(TAG.0)));
}

#[test]
fn events_0101h_clear_records() {
    let log = events::EventLog::DynamicCapacity;
    let what = events::Clear::Handles(vec![0x0102, 3]);
    let reserved = [(1..2, 0xfe), (3..6, 0xff)];
    check(&events::ClearEventRecords { log, what }, "04 00 02 00 00 00 02 01 03 00", &reserved);
    let all = events::ClearEventRecords { log, what: events::Clear::All };
    check(&all, "04 01 00 00 00 00", &reserved);
    for wrong in ["04 00 00 00 00 00", "04 01 01 00 00 00 01 00", "05 01 00 00 00 00"] {
        let refused = events::ClearEventRecords::decode(&hex(wrong)).unwrap_err();
        assert_eq!(refused.code(), ReturnCode::INVALID_INPUT, "{wrong}: {refused}");
    }
}

#[test]
fn fm_5600h_get_info() {
    check(&fm::GetInfo, "", &[]);
    let info = fm::Info {
        hosts: 2,
        regions: 3,
        add_policies: 0x000f,
        release_policies: 0x0003,
        sanitize_configurable: 0x05,
        total_capacity: 1 << 40,
        block_sizes: [1 << 21, 1 << 28, 1 << 30, 0, 0, 0, 0, 1 << 52],
    };
    let text = "
        02 03 00 00 0f 00 00 00 03 00 05 00
        00 10 00 00 00 00 00 00 | total capacity, in 256 MiB
        00 00 20 00 00 00 00 00
        00 00 00 10 00 00 00 00
        00 00 00 40 00 00 00 00
        00 00 00 00 00 00 00 00
        00 00 00 00 00 00 00 00
        00 00 00 00 00 00 00 00
        00 00 00 00 00 00 00 00
        00 00 00 00 00 00 10 00";
    assert_eq!(hex(text).len(), 84);
    check(&info, text, &[(2..4, 0xff), (6..8, 0xff), (11..12, 0xff)]);
}

#[test]
fn fm_5601h_get_host_configuration() {
    let host = HostId(0x0102);
    check(&fm::GetHostConfiguration { host, count: 8, start: 1 }, "02 01 08 01", &[]);
    let region = fm::HostRegion {
        base: 0x1_0000_0000,
        decode_length: 512 << 20,
        length: 0x1800_0000,
        block_size: 2 << 20,
        dsmas_flags: 0x28,
        sanitize: Sanitize::OnRelease,
    };
    let regions = vec![region];
    let answer = fm::HostConfiguration { host, available: 2, regions, resources: RESOURCES };
    let text = format!(
        "02 01 02 01
         00 00 00 00 01 00 00 00 | base
         02 00 00 00 00 00 00 00 | decode length, in 256 MiB
         00 00 00 18 00 00 00 00 | length
         00 00 20 00 00 00 00 00 | block size
         28 00 00 00 01 00 00 00 | DSMAS flags, sanitize
         {RESOURCES_BYTES}"
    );
    check(&answer, &text, &[(37..40, 0xff), (40..41, 0xfe), (41..44, 0xff)]);
}

#[test]
fn fm_5602h_set_configuration() {
    let request =
        fm::SetConfiguration { region: 3, block_size: 2 << 20, sanitize: Sanitize::OnRelease };
    let text = "03 00 00 00 00 00 20 00 00 00 00 00 01 00 00 00";
    check(&request, text, &[(1..4, 0xff), (12..13, 0xfe), (13..16, 0xff)]);
}

#[test]
fn fm_5603h_get_host_extents() {
    let host = HostId(0x0102);
    let request = fm::GetHostExtents { host, count: 0x100, start: 2 };
    check(&request, "02 01 00 00 00 01 00 00 02 00 00 00", &[(2..4, 0xff)]);
    let extents = vec![EXTENT];
    let answer = fm::HostExtents { host, start: 2, total: 3, generation: 0x0504, extents };
    let text = format!(
        "02 01 00 00 02 00 00 00 | host, start
         01 00 00 00 03 00 00 00 | returned, total
         04 05 00 00 00 00 00 00 | generation
         {EXTENT_BYTES}"
    );
    check(&answer, &text, &[(2..4, 0xff), (20..24, 0xff), (58..64, 0xff)]);
}

#[test]
fn fm_5604h_initiate_add() {
    let request = fm::InitiateAdd {
        host: HostId(0x0102),
        selection: fm::Selection::Prescriptive,
        region: 5,
        length: 0x40_0000,
        tag: TAG,
        extents: vec![EXTENT],
    };
    let text = format!(
        "02 01 02 05
         00 00 40 00 00 00 00 00
         6b a7 b8 10 9d ad 11 d1 80 b4 00 c0 4f d4 30 c8
         01 00 00 00
         {EXTENT_BYTES}"
    );
    check(&request, &text, &[(2..3, 0xf0), (66..72, 0xff)]);
}

#[test]
fn fm_5605h_initiate_release() {
    let request = fm::InitiateRelease {
        host: HostId(0x0102),
        removal: fm::Removal::Prescriptive,
        force: fm::Force::Take,
        sanitize: Sanitize::OnRelease,
        length: 0x40_0000,
        tag: TAG,
        extents: vec![EXTENT],
    };
    let text = format!(
        "02 01 31 00
         00 00 40 00 00 00 00 00
         6b a7 b8 10 9d ad 11 d1 80 b4 00 c0 4f d4 30 c8
         01 00 00 00
         {EXTENT_BYTES}"
    );
    check(&request, &text, &[(2..3, 0xc0), (3..4, 0xff), (66..72, 0xff)]);
}

#[test]
fn fm_5606h_and_5607h_references() {
    let text = "6b a7 b8 10 9d ad 11 d1 80 b4 00 c0 4f d4 30 c8";
    check(&fm::AddReference(TAG), text, &[]);
    check(&fm::RemoveReference(TAG), text, &[]);
}

#[test]
fn fm_5608h_list_tags() {
    check(&fm::ListTags { start: 1, count: 0x100 }, "01 00 00 00 00 01 00 00", &[]);
    let mut info = fm::TagInfo { tag: TAG, referenced: true, holders: [0; 32], pending: [0; 32] };
    info.holders[0] = 0x05;
    info.pending[31] = 0x80;
    let answer = fm::Tags { generation: 0x0504, total: 3, tags: vec![info] };
    let text = "
        04 05 00 00 03 00 00 00 01 00 00 00 03 00 00 00
        6b a7 b8 10 9d ad 11 d1 80 b4 00 c0 4f d4 30 c8
        01 00 00 00
        05 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00
        00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00
        00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00
        00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 80";
    let reserved = [(12..13, 0xfc), (13..16, 0xff), (32..33, 0xfe), (33..36, 0xff)];
    check(&answer, text, &reserved);
}

#[test]
fn info_0001h_identify() {
    check(&identify::Identify, "", &[]);
    let identity = identify::Identity {
        vendor: 0x8086,
        device: 0x0d93,
        subsystem_vendor: 0x1af4,
        subsystem: 0x1100,
        serial: 0x0807_0605_0403_0201,
        message_log2_max: 9,
        component: identify::Component::MEMORY_DEVICE,
    };
    let text = "86 80 93 0d f4 1a 00 11 01 02 03 04 05 06 07 08 09 03";
    check(&identity, text, &[]);
}

#[test]
fn memory_4000h_identify() {
    check(&identify::IdentifyMemoryDevice, "", &[]);
    let device = identify::MemoryDevice {
        firmware: *b"BWFW VERSION 00\0",
        total_capacity: 4 << 28,
        volatile_capacity: 3 << 28,
        persistent_capacity: 1 << 28,
        partition_align: 2 << 28,
        log_records: [1, 2, 3, 0x0104],
        label_bytes: 0x0002_0000,
        poison_list_max: 0x03_0201,
        inject_poison_limit: 0x0504,
        poison_capabilities: 6,
        qos_capabilities: 7,
        dynamic_capacity_log_records: None,
    };
    let text = "
        42 57 46 57 20 56 45 52 53 49 4f 4e 20 30 30 00
        04 00 00 00 00 00 00 00
        03 00 00 00 00 00 00 00
        01 00 00 00 00 00 00 00
        02 00 00 00 00 00 00 00
        01 00 02 00 03 00 04 01
        00 00 02 00 01 02 03 04 05 06 07";
    assert_eq!(hex(text).len(), 67);
    check(&device, text, &[]);
    let device = identify::MemoryDevice { dynamic_capacity_log_records: Some(0x0908), ..device };
    check(&device, &format!("{text} 08 09"), &[]);
    assert!(identify::MemoryDevice::decode(&hex(&format!("{text} 08"))).is_err());
}

#[test]
fn background_0002h_operation_status() {
    check(&background::GetBackgroundOperation, "", &[]);
    let status = background::BackgroundOperation {
        background: cci::Background::Running,
        percent: 50,
        opcode: Opcode::INITIATE_DC_ADD,
        code: ReturnCode::RETRY_REQUIRED,
        vendor_status: 0x0807,
    };
    check(&status, "65 00 04 56 05 00 07 08", &[(1..2, 0xff)]);
}

#[test]
fn message_limit_0004h() {
    check(&message_limit::SetResponseLimit { log2: 10 }, "0a", &[]);
    check(&message_limit::ResponseLimit { log2: 9 }, "09", &[]);
    assert!(message_limit::SetResponseLimit::decode(&[]).is_err());
    assert!(message_limit::ResponseLimit::decode(&[9, 0]).is_err());
}

#[test]
fn switch_5100h_identify() {
    check(&switch::IdentifySwitch, "", &[]);
    let mut answer = switch::Switch {
        ingress_port: 1,
        ports: 5,
        virtual_switches: 2,
        active_ports: [0; 32],
        active_virtual_switches: [0; 32],
        bridges: 0x0107,
        bound_bridges: 3,
        decoders: 4,
    };
    answer.active_ports[0] = 0x1f;
    answer.active_virtual_switches[31] = 0x80;
    let text = "
        01 00 05 02
        1f 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00
        00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00
        00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00
        00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 80
        07 01 03 00 04";
    assert_eq!(hex(text).len(), 0x49);
    check(&answer, text, &[(1..2, 0xff)]);
}

#[test]
fn switch_5101h_get_physical_port_state() {
    check(&switch::GetPhysicalPortState { ports: vec![1, 9] }, "02 01 09", &[]);
    let link = switch::Link {
        width_max: 0x10,
        width: 8,
        speeds: 0x1f,
        speed_max: 5,
        speed: 4,
        ltssm: 7,
        first_lane: 2,
        flags: 0x0104,
    };
    let port = switch::Port {
        number: 9,
        configuration: switch::PortConfiguration::DOWNSTREAM,
        mode: 2,
        connected: switch::ConnectedDevice::MEMORY_MULTI_LOGICAL,
        modes_supported: 6,
        link,
        ld_count: 3,
    };
    let text = "01 00 00 00  09 03 02 00 05 06 10 08 1f 05 04 07 02 04 01 03";
    let reserved = [(1..4, 0xff), (5..7, 0xf0), (7..8, 0xff)];
    check(&switch::PhysicalPortState { ports: vec![port] }, text, &reserved);
}

#[test]
fn ld_5400h_get_info() {
    check(&ld::GetLdInfo, "", &[]);
    let answer = ld::LdInfo { memory_bytes: 1 << 40, count: 0x0102, qos_capabilities: 3 };
    check(&answer, "00 00 00 00 00 01 00 00 02 01 03", &[]);
}

#[test]
fn ld_5401h_get_allocations() {
    check(&ld::GetLdAllocations { start: 1, count: 4 }, "01 04", &[]);
    let allocations = vec![ld::LdAllocation { range_1: 0x0102, range_2: 3 }];
    let granularity = ld::LdGranularity::Whole;
    assert_eq!(granularity.bytes(), 1 << 30);
    let answer = ld::LdAllocations { total: 4, granularity, start: 1, allocations };
    let text = "04 02 01 01  02 01 00 00 00 00 00 00  03 00 00 00 00 00 00 00";
    check(&answer, text, &[]);
}

#[test]
fn ld_5500h_get_multi_headed_info() {
    check(&ld::GetMultiHeadedInfo { start: 1, count: 4 }, "01 04", &[]);
    let answer = ld::MultiHeadedInfo { total: 4, heads: 2, start: 1, heads_of: vec![0, 1, 0xff] };
    let text = "04 02 00 00 01 03 00 00 00 01 ff";
    check(&answer, text, &[(2..4, 0xff), (6..8, 0xff)]);
}

fn check_cci(message: &cci::Message, text: &str, reserved: &Reserved) {
    let bytes = hex(text);
    assert_eq!(message.encode().as_deref(), Ok(bytes.as_slice()));
    check_bits(&bytes, reserved, |bytes| cci::Message::decode(bytes).as_ref() == Ok(message));
}

#[test]
fn cci_header_of_12_bytes() {
    let opcode = Opcode::GET_HOST_DC_REGION_CONFIGURATION;
    let request = cci::Message::request(7, opcode, vec![0xa, 0xb, 0xc, 0xd]);
    let text = "00 07 00 01 56 04 00 00 00 00 00 00  0a 0b 0c 0d";
    let reserved = [(0..1, 0xf0), (2..3, 0xff), (7..8, 0xe0), (8..12, 0xff)];
    check_cci(&request, text, &reserved);

    let mut response = cci::Message::response(&request, ReturnCode::RETRY_REQUIRED, vec![]);
    assert!(response.answers(&request) && !request.answers(&request));
    let cci::Kind::Response(outcome) = &mut response.kind else { panic!("{response:?}") };
    outcome.vendor_status = 0x0102;
    let reserved = [(0..1, 0xf0), (2..3, 0xff), (7..8, 0x60)];
    check_cci(&response, "01 07 00 01 56 00 00 00 05 00 02 01", &reserved);

    let begun = cci::Message::response(&request, ReturnCode::BACKGROUND_STARTED, vec![]);
    check_cci(&begun, "01 07 00 01 56 00 00 80 01 00 00 00", &reserved);
}

#[test]
fn cci_payload_of_1_mib_and_no_more() {
    let longest = cci::Message::request(0, Opcode::RELEASE_DC, vec![0x5a; 1 << 20]);
    let mut bytes = longest.encode().unwrap();
    assert_eq!(bytes[5..8], [0, 0, 0x10]);
    assert_eq!(cci::Message::decode(&bytes), Ok(longest.clone()));
    assert_eq!(cci::payload_bytes(bytes.first_chunk().unwrap()), Ok(1 << 20));
    // One more byte.
    bytes[5] = 1;
    bytes.push(0x5a);
    assert!(cci::Message::decode(&bytes).is_err());
    assert!(cci::payload_bytes(bytes.first_chunk().unwrap()).is_err());
    let too_long = cci::Message { payload: vec![0; (1 << 20) + 1], ..longest };
    let (what, max) = ("a CCI payload", 1 << 20);
    assert_eq!(too_long.encode(), Err(cci::TooLong { what, bytes: max + 1, max }));
}

#[test]
fn tunnel_5300h() {
    let inner = cci::Message::command(7, &fm::GetInfo);
    let request = tunnel::Tunnel::new(tunnel::Target::PortOrLd(3), inner.clone()).unwrap();
    let text = "03 00 0c 00  00 07 00 00 56 00 00 00 00 00 00 00";
    // All of what is in a request's outcome, and the length's two bits below the topmost.
    let reserved = [(4..5, 0xf0), (6..7, 0xff), (11..12, 0xe0), (12..16, 0xff)];
    check(&request, text, &reserved);

    let to_pool = tunnel::Tunnel::new(tunnel::Target::LdPool, inner.clone()).unwrap();
    let text = "00 01 0c 00  00 07 00 00 56 00 00 00 00 00 00 00";
    let reserved = [(0..1, 0xff), (4..5, 0xf0), (6..7, 0xff), (11..12, 0xe0), (12..16, 0xff)];
    check(&to_pool, text, &reserved);

    let answer = cci::Message::response(&inner, ReturnCode::UNSUPPORTED, vec![]);
    let response = tunnel::Tunneled::new(answer.clone()).unwrap();
    let text = "0c 00 00 00  01 07 00 00 56 00 00 00 03 00 00 00";
    check(&response, text, &[(2..4, 0xff), (4..5, 0xf0), (6..7, 0xff), (11..12, 0x60)]);
    assert_eq!(response.into_message(), answer);

    let long = cci::Message::request(0, Opcode::RELEASE_DC, vec![0; 65535 - 12]);
    let longest = tunnel::Tunnel::new(tunnel::Target::LdPool, long.clone()).unwrap();
    assert_eq!(tunnel::Tunnel::decode(&longest.to_bytes()), Ok(longest));
    let longer = cci::Message { payload: vec![0; 65536 - 12], ..long };
    assert!(tunnel::Tunnel::new(tunnel::Target::LdPool, longer).is_err());
}
