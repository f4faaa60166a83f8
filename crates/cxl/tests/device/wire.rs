//! Commands as bytes.

use memtide_cxl::{
    Command, Opcode, Payload, ReturnCode,
    cci::{Kind, Message},
    command::{
        HostId, More, Sanitize,
        dynamic_capacity::{AddResponse, GetConfiguration, GetExtentList, Release},
        events::{Clear, ClearEventRecords, EventBody, EventLog, GetEventRecords},
        fabric_manager::{
            AddReference, GetHostConfiguration, GetHostExtents, GetInfo, ListTags, RemoveReference,
            SetConfiguration,
        },
        identify::{Component, Identify, IdentifyMemoryDevice},
    },
    device::{Device, Refusal, Reply},
};
use memtide_units::Tag;

use crate::bed::*;

fn host<C: Command>(device: &mut Device, host: HostId, command: &C) -> C::Response {
    read::<C>(device.host(host, C::OPCODE, &command.to_bytes()))
}

fn manager<C: Command>(device: &mut Device, command: &C) -> C::Response {
    read::<C>(device.manager(C::OPCODE, &command.to_bytes()))
}

fn read<C: Command>(reply: Reply) -> C::Response {
    assert_eq!((reply.code, reply.refusal), (ReturnCode::SUCCESS, None));
    C::Response::decode(&reply.payload).unwrap()
}

#[test]
fn a_whole_life_of_an_extent_goes_through_bytes() {
    let mut bed = Bed::new();
    let device = &mut bed.device;
    assert_eq!(manager(device, &GetInfo).hosts, 3);
    assert_eq!(host(device, H1, &GetConfiguration { count: 8, start: 0 }).regions.len(), 2);
    let request = GetHostConfiguration { host: H1, count: 8, start: 0 };
    assert_eq!(manager(device, &request).regions.len(), 2);

    manager(device, &wish(H1, 1, 4 * BLOCK, A));
    let log = EventLog::DynamicCapacity;
    let offered = host(device, H1, &GetEventRecords { log });
    let EventBody::DynamicCapacity(event) = offered.records[0].body else { panic!() };
    assert_eq!(event.extent, extent(shared(0, 4), A, 0));
    let what = Clear::Handles(vec![offered.records[0].handle]);
    host(device, H1, &ClearEventRecords { log, what });
    let range = shared(0, 4);
    host(device, H1, &AddResponse { more: More::Last, accepted: vec![range] });
    assert_eq!(host(device, H1, &GetExtentList { count: 9, start: 0 }).extents.len(), 1);

    manager(device, &AddReference(A));
    assert_eq!(manager(device, &ListTags { start: 0, count: 9 }).tags[0].holders[0], 0b10);
    manager(device, &ask_for_tag(H1, A, 4 * BLOCK));
    host(device, H1, &Release { more: More::Last, released: vec![range] });
    manager(device, &RemoveReference(A));
    device.sanitized(range).unwrap();
    let sanitize = Sanitize::OnRelease;
    manager(device, &SetConfiguration { region: 1, block_size: 2 * BLOCK, sanitize });
    let request = GetHostExtents { host: H1, count: 9, start: 0 };
    assert_eq!(manager(device, &request).extents, []);
    let told = manager(device, &GetEventRecords { log });
    assert_eq!(told.records.len(), 2);
    let what = Clear::Handles(told.records.iter().map(|record| record.handle).collect());
    manager(device, &ClearEventRecords { log, what });
    bed.device.validate();
}

#[test]
fn a_device_says_what_it_is() {
    let mut device = Bed::new().device;
    let identity = host(&mut device, H2, &Identify);
    assert_eq!((identity.serial, identity.message_log2_max), (42, 10));
    assert_eq!(identity.component, Component::MEMORY_DEVICE);
    assert_eq!(manager(&mut device, &Identify), identity);
    let memory = host(&mut device, H0, &IdentifyMemoryDevice);
    assert_eq!((memory.total_capacity, memory.dynamic_capacity_log_records), (0, Some(6)));
}

#[test]
fn each_side_has_commands_of_its_own() {
    let mut device = Bed::new().device;
    let before = device.clone();
    for opcode in (0..=u16::MAX).map(Opcode) {
        let for_host =
            [0x1, 0x100, 0x101, 0x4000, 0x4800, 0x4801, 0x4802, 0x4803].contains(&opcode.0);
        let for_manager = matches!(opcode.0, 0x1 | 0x100 | 0x101 | 0x5600..=0x5608);
        let reply = device.host(H0, opcode, &[]);
        assert_eq!(reply.code == ReturnCode::UNSUPPORTED, !for_host, "{opcode}");
        let reply = device.manager(opcode, &[]);
        assert_eq!(reply.code == ReturnCode::UNSUPPORTED, !for_manager, "{opcode}");
    }
    assert_eq!(device, before);
}

#[test]
fn a_payload_of_the_wrong_length_is_said_to_be() {
    let mut device = Bed::new().device;
    let before = device.clone();
    let answer = AddResponse { more: More::Last, accepted: vec![own(0, 1)] }.to_bytes();
    for payload in [&answer[..7], &answer[..31], &[&answer[..], &[0]].concat(), &[0; 1025]] {
        let reply = device.host(H0, Opcode::ADD_DC_RESPONSE, payload);
        assert_eq!(reply.code, ReturnCode::INVALID_PAYLOAD_LENGTH);
        assert!(reply.payload.is_empty());
    }
    let reply = device.manager(Opcode::INITIATE_DC_ADD, &[0; 1025]);
    let expected = Refusal::PayloadLength { bytes: 1025, limit: 1024 };
    assert_eq!(reply.refusal, Some(expected));
    assert_eq!(device, before);
}

#[test]
fn a_field_that_means_nothing_is_invalid_input() {
    let mut device = Bed::new().device;
    let mut add = wish(H0, 0, BLOCK, A).to_bytes();
    add[2] = 4;
    assert_eq!(device.manager(Opcode::INITIATE_DC_ADD, &add).code, ReturnCode::INVALID_INPUT);
    let mut release = ask_for_tag(H0, A, BLOCK).to_bytes();
    release[2] = 2;
    let reply = device.manager(Opcode::INITIATE_DC_RELEASE, &release);
    assert_eq!(reply.code, ReturnCode::INVALID_INPUT);
    for log in [5, 255] {
        assert_eq!(device.host(H0, Opcode::GET_EVENT_RECORDS, &[log]).code, ReturnCode(2));
    }
    assert_eq!(device.host(H0, Opcode::RELEASE_DC, &[0; 8]).code, ReturnCode::INVALID_INPUT);
}

#[test]
fn an_unreadable_part_refuses_the_rest_of_its_chain() {
    let mut bed = Bed::new();
    bed.give(H0, &plain(&[own(0, 8)]));
    let part = |more| Release { more, released: vec![own(0, 1)] }.to_bytes();
    let release = Opcode::RELEASE_DC;
    assert_eq!(bed.device.host(H0, release, &part(More::Follows)).code, ReturnCode::SUCCESS);
    let cut = bed.device.host(H0, release, &part(More::Follows)[..20]);
    assert_eq!(cut.code, ReturnCode::INVALID_PAYLOAD_LENGTH);
    assert_eq!(bed.device.host(H0, release, &part(More::Last)).code, ReturnCode::INVALID_INPUT);
    assert_eq!(bed.held_ranges(H0), [own(0, 8)]);
    assert_eq!(bed.device.host(H0, release, &part(More::Last)).code, ReturnCode::SUCCESS);
}

#[test]
fn a_reply_becomes_the_response_of_its_message() {
    let mut device = Bed::new().device;
    let request = Message::command(9, &GetInfo);
    let reply = device.manager(request.opcode, &request.payload);
    let response = reply.into_message(&request);
    assert!(response.answers(&request) && !response.payload.is_empty());
    let request = Message::command(9, &AddReference(Tag::NULL));
    let response = device.manager(request.opcode, &request.payload).into_message(&request);
    let Kind::Response(outcome) = response.kind else { panic!("{response:?}") };
    assert_eq!(outcome.code, ReturnCode::INVALID_INPUT);
}

#[test]
fn no_reply_is_longer_than_a_payload() {
    let mut config = config();
    config.limits = memtide_cxl::device::Limits {
        extents: 64,
        tags: 64,
        event_records: 64,
        payload_bytes: 256,
    };
    let mut bed = Bed::of(config);
    for number in 0..32 {
        bed.give(H0, &[extent(own(2 * number, 1), Tag([number as u8 + 1; 16]), 0)]);
    }
    let all: Vec<_> = (0..32).map(|number| own(2 * number, 1)).collect();
    bed.ask(&ask_for(H0, plain(&all))).unwrap();
    let log = EventLog::DynamicCapacity;
    let device = &mut bed.device;
    let replies = [
        device.host(H0, Opcode::GET_EVENT_RECORDS, &GetEventRecords { log }.to_bytes()),
        device.host(H0, Opcode::GET_DC_EXTENT_LIST, &[0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0]),
        device.host(H0, Opcode::GET_DC_CONFIGURATION, &[255, 0]),
        device.manager(Opcode::DC_LIST_TAGS, &[0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff]),
        device.manager(Opcode::GET_DCD_INFO, &[]),
        device.manager(Opcode::GET_HOST_DC_REGION_CONFIGURATION, &[0, 0, 255, 0]),
        device.manager(
            Opcode::GET_DC_REGION_EXTENT_LISTS,
            &GetHostExtents { host: H0, count: u32::MAX, start: 0 }.to_bytes(),
        ),
    ];
    for reply in replies {
        assert_eq!(reply.code, ReturnCode::SUCCESS);
        assert!((1..=256).contains(&reply.payload.len()), "{}", reply.payload.len());
    }
}
