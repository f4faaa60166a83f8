//! The model of a switch: what it tells, what it hands on, and what it refuses.

mod bed;
mod random;

use std::collections::BTreeMap;

use bed::{
    BLOCK, Came, HEADS, HOST, LINK, MEMORY, NO_PORT, NOTHING, SHARED, ask, device_with,
    memory_identity, send, switch, through,
};
use memtide_cxl::{
    Opcode, Payload, ReturnCode,
    cci::Message,
    command::{
        HostId, More,
        dynamic_capacity::{AddResponse, GetExtentList},
        events::{EventBody, EventLog, EventRecords, GetEventRecords},
        fabric_manager::{GetHostExtents, GetInfo, InitiateAdd, Selection},
        identify::{Component, Identify},
        switch::{ConnectedDevice, GetPhysicalPortState, IdentifySwitch, PortConfiguration},
    },
    device::Limits,
    switch::{Attached, ConfigError, Port, Refusal, Switch},
    tunnel::{Route, RouteError, Target, Tunnel},
};
use memtide_units::Tag;

#[test]
fn it_says_what_it_is_and_what_is_at_its_ports() {
    let mut switch = switch(11);
    let identity = ask(&mut switch, &Identify).unwrap();
    assert_eq!((identity.serial, identity.component), (9, Component::SWITCH));
    let told = ask(&mut switch, &IdentifySwitch).unwrap();
    assert_eq!((told.ingress_port, told.ports, told.virtual_switches), (HOST, 5, 1));
    assert_eq!((told.active_ports[0], told.active_ports[25]), (0b1111, 1));
    assert_eq!((told.bridges, told.bound_bridges), (5, 4));
    let ports = vec![HEADS, HOST, NOTHING, MEMORY, SHARED];
    let state = ask(&mut switch, &GetPhysicalPortState { ports: ports.clone() }).unwrap();
    assert_eq!(state.ports.iter().map(|port| port.number).collect::<Vec<_>>(), ports);
    let used = state.ports.iter().map(|p| (p.configuration, p.connected, p.mode, p.ld_count));
    let (down, up) = (PortConfiguration::DOWNSTREAM, PortConfiguration::UPSTREAM);
    assert_eq!(
        used.collect::<Vec<_>>(),
        [
            (down, ConnectedDevice::MEMORY_MULTI_LOGICAL, 2, 2),
            (up, ConnectedDevice::NONE, 0, 0),
            (down, ConnectedDevice::NONE, 0, 0),
            (down, ConnectedDevice::MEMORY, 2, 1),
            (down, ConnectedDevice::MEMORY_MULTI_LOGICAL, 2, 2),
        ]
    );
    assert!(state.ports.iter().all(|port| port.link == LINK));
}

#[test]
fn a_command_reaches_who_is_behind_the_port() {
    let mut switch = switch(11);
    let identity = through(&mut switch, &Route::port(MEMORY), &Identify);
    assert_eq!(identity, Came::End(ReturnCode::SUCCESS, memory_identity().to_bytes()));
    // What it has not, it says itself: the switch has done its part.
    let info = through(&mut switch, &Route::port(MEMORY), &GetInfo);
    assert_eq!(info, Came::End(ReturnCode::UNSUPPORTED, vec![]));
    let Came::End(ReturnCode::SUCCESS, info) = through(&mut switch, &Route::port(SHARED), &GetInfo)
    else {
        panic!("no answer")
    };
    assert_eq!(switch.device_mut(SHARED).unwrap().manager(Opcode::GET_DCD_INFO, &[]).payload, info);
}

/// What is behind a device with one head are its hosts; with several, the pool.
#[test]
fn a_tunnel_in_a_tunnel_reaches_who_is_behind_the_device() {
    let mut switch = switch(11);
    let ld = Route::port(SHARED).then(Target::PortOrLd(1));
    let list = GetExtentList { count: 1, start: 0 };
    let Came::End(ReturnCode::SUCCESS, extents) = through(&mut switch, &ld, &list) else {
        panic!("a host's command reaches its logical device")
    };
    assert_eq!(extents.len(), 16);
    let managers = through(&mut switch, &ld, &GetInfo);
    assert_eq!(managers, Came::End(ReturnCode::UNSUPPORTED, vec![]));

    let head = Route::port(HEADS);
    assert_eq!(
        through(&mut switch, &head, &GetInfo),
        Came::End(ReturnCode::UNSUPPORTED, vec![]),
        "one head of several hands out nothing"
    );
    let pool = head.then(Target::LdPool);
    assert!(matches!(
        through(&mut switch, &pool, &GetInfo),
        Came::End(ReturnCode::SUCCESS, info) if info.len() == 84
    ));
    let add = InitiateAdd {
        host: HostId(0),
        selection: Selection::Free,
        region: 0,
        length: BLOCK,
        tag: Tag::NULL,
        extents: vec![],
    };
    assert_eq!(through(&mut switch, &pool, &add), Came::End(ReturnCode::SUCCESS, vec![]));
    let held = GetHostExtents { host: HostId(0), count: 8, start: 0 };
    assert!(matches!(
        through(&mut switch, &pool, &held),
        Came::End(ReturnCode::SUCCESS, list) if list.len() == 24
    ));
}

#[test]
fn who_refuses_on_the_way_is_told_from_who_refuses_at_the_end() {
    let mut switch = switch(11);
    let invalid = ReturnCode::INVALID_INPUT;
    for port in [HOST, NOTHING, NO_PORT] {
        assert_eq!(through(&mut switch, &Route::port(port), &Identify), Came::Switch(invalid));
    }
    let refused = |to, code| Came::Way(RouteError::Refused { to, code });
    let (ld, pool) = (Target::PortOrLd, Target::LdPool);
    for (port, to, code) in [
        (SHARED, ld(2), invalid),
        (SHARED, pool, invalid),
        (HEADS, ld(0), invalid),
        (MEMORY, ld(0), ReturnCode::UNSUPPORTED),
    ] {
        let came = through(&mut switch, &Route::port(port).then(to), &Identify);
        assert_eq!(came, refused(to, code), "{port} {to}");
    }
    // Behind a logical device there is nobody, nor behind the pool.
    for (port, first) in [(SHARED, ld(0)), (HEADS, pool)] {
        let route = Route::port(port).then(first).then(ld(0));
        assert_eq!(
            through(&mut switch, &route, &Identify),
            refused(ld(0), ReturnCode::UNSUPPORTED)
        );
    }
}

#[test]
fn a_switch_refuses_what_is_no_command_of_its() {
    let mut switch = switch(8);
    for opcode in [Opcode::GET_DCD_INFO, Opcode::GET_DC_EXTENT_LIST, Opcode(0x5102)] {
        assert_eq!(switch.execute(opcode, &[]).code, ReturnCode::UNSUPPORTED);
    }
    let invalid = Err(ReturnCode::INVALID_INPUT);
    assert_eq!(ask(&mut switch, &GetPhysicalPortState { ports: vec![HOST, NO_PORT] }), invalid);
    // 256 bytes have room for 15 ports.
    assert!(ask(&mut switch, &GetPhysicalPortState { ports: vec![HOST; 15] }).is_ok());
    assert_eq!(ask(&mut switch, &GetPhysicalPortState { ports: vec![HOST; 16] }), invalid);
    let tunnel = Opcode::TUNNEL_MANAGEMENT_COMMAND;
    let to_pool = Tunnel::new(Target::LdPool, Message::command(1, &Identify)).unwrap();
    assert_eq!(switch.execute(tunnel, &to_pool.to_bytes()).code, ReturnCode::INVALID_INPUT);
    let mut unknown = to_pool.to_bytes();
    unknown[1] = 2;
    assert_eq!(switch.execute(tunnel, &unknown).code, ReturnCode::INVALID_INPUT);
    // A size that is not that of the message, and none.
    let mut longer = to_pool.to_bytes();
    longer[2] += 1;
    for bytes in [&longer[..], &longer[..15], &[]] {
        assert_eq!(switch.execute(tunnel, bytes).code, ReturnCode::INVALID_PAYLOAD_LENGTH);
    }
}

#[test]
fn what_does_not_fit_into_the_mailbox_is_refused() {
    let mut switch = switch(8);
    let route = Route::port(SHARED);
    assert_eq!(route.room(256), 240);
    assert_eq!(route.clone().then(Target::LdPool).room(256), 224);
    assert_eq!(Route::port(1).room(1 << 20), 0xffff - 16);
    let just = Message::request(1, Opcode::INITIATE_DC_ADD, vec![0; 240]);
    let over = Message::request(1, Opcode::INITIATE_DC_ADD, vec![0; 241]);
    assert!(matches!(send(&mut switch, &route, &just), Came::End(..)));
    let too_long = Came::Switch(ReturnCode::INVALID_PAYLOAD_LENGTH);
    assert_eq!(send(&mut switch, &route, &over), too_long);
    // 6 extents of 40 bytes and 24 around them are more than 240.
    for block in 0..12 {
        let add = InitiateAdd {
            host: HostId((block % 2) as u16),
            selection: Selection::Free,
            region: 0,
            length: BLOCK,
            tag: Tag::NULL,
            extents: vec![],
        };
        assert!(matches!(through(&mut switch, &route, &add), Came::End(ReturnCode::SUCCESS, _)));
    }
    accept_all(&mut switch);
    let page = |count| GetHostExtents { host: HostId(0), count, start: 0 };
    assert!(matches!(through(&mut switch, &route, &page(5)), Came::End(ReturnCode::SUCCESS, _)));
    let came = through(&mut switch, &route, &page(6));
    assert_eq!(came, Came::Switch(ReturnCode::INTERNAL_ERROR));
}

/// A mailbox may have room for more than a tunnel, which has 16 bits for a size.
#[test]
fn what_does_not_fit_into_a_tunnel_is_refused_with_the_room_that_there_is() {
    let (records, payload_bytes) = (600, 1 << 20);
    let limits = Limits { extents: 64, tags: 4, event_records: records, payload_bytes };
    let mut device = device_with(3, limits);
    for _ in 0..records {
        let (host, selection, region, length) = (HostId(0), Selection::Free, 0, BLOCK);
        let add = InitiateAdd { host, selection, region, length, tag: Tag::NULL, extents: vec![] };
        device.initiate_add(&add).unwrap();
        let none = AddResponse { more: More::Last, accepted: vec![] };
        device.add_response(HostId(0), &none).unwrap();
    }
    let read = Message::command(1, &GetEventRecords { log: EventLog::DynamicCapacity });
    let answer = device.manager(read.opcode, &read.payload);
    let bytes = Message::response(&read, answer.code, answer.payload).bytes();
    assert!(bytes > 0xffff, "{bytes}");
    let at = Port { link: LINK, attached: Attached::Shared(Box::new(device)) };
    let host = Port { link: LINK, attached: Attached::Host };
    let mut switch = Switch::new(9, 20, BTreeMap::from([(HOST, host), (SHARED, at)])).unwrap();
    let tunnel = Route::port(SHARED).wrap(&read).unwrap();
    let reply = switch.execute(Opcode::TUNNEL_MANAGEMENT_COMMAND, &tunnel.to_bytes());
    assert_eq!(reply.code, ReturnCode::INTERNAL_ERROR);
    let refusal = reply.refusal.expect("it was refused");
    assert_eq!(refusal, Refusal::AnswerLength { bytes, room: 0xffff });
    assert_eq!(refusal.to_string(), format!("an answer of {bytes} bytes; there is room for 65535"));
}

/// Hosts take what they are offered.
fn accept_all(switch: &mut Switch) {
    let device = switch.device_mut(SHARED).expect("a device is there");
    for host in [HostId(0), HostId(1)] {
        let get = GetEventRecords { log: EventLog::DynamicCapacity };
        let got = device.host(host, Opcode::GET_EVENT_RECORDS, &get.to_bytes());
        for record in EventRecords::decode(&got.payload).unwrap().records {
            let EventBody::DynamicCapacity(event) = record.body else { panic!("{record:?}") };
            let answer = AddResponse { more: More::Last, accepted: vec![event.extent.range] };
            let reply = device.host(host, Opcode::ADD_DC_RESPONSE, &answer.to_bytes());
            assert_eq!(reply.code, ReturnCode::SUCCESS);
        }
    }
}

#[test]
fn what_is_no_switch_is_not_made() {
    let host = Port { link: LINK, attached: Attached::Host };
    let new = |payload_log2, ports: BTreeMap<u8, Port>| Switch::new(1, payload_log2, ports).err();
    let one = BTreeMap::from([(0, host.clone())]);
    for payload_log2 in [0, 7, 21, 255] {
        assert_eq!(new(payload_log2, one.clone()), Some(ConfigError::Payload { payload_log2 }));
    }
    assert_eq!(new(8, one), None);
    assert_eq!(new(8, BTreeMap::new()), Some(ConfigError::Hosts { hosts: 0 }));
    let two = BTreeMap::from([(0, host.clone()), (1, host.clone())]);
    assert_eq!(new(8, two), Some(ConfigError::Hosts { hosts: 2 }));
    let nothing = Port { link: LINK, attached: Attached::Nothing };
    let many: BTreeMap<u8, Port> = (0..=255).map(|number| (number, nothing.clone())).collect();
    assert_eq!(new(8, many), Some(ConfigError::Ports { ports: 256 }));
}

/// An answer that is not to what was asked is told from one that cannot be read.
#[test]
fn an_answer_to_something_else_is_none() {
    let request = Message::command(7, &Identify);
    let route = Route::port(3).then(Target::LdPool);
    let answer = |inner: &Message, outer: &Message| {
        let carry = |message: &Message| {
            memtide_cxl::tunnel::Tunneled::new(message.clone()).unwrap().to_bytes()
        };
        let outer = Message { payload: carry(inner), ..outer.clone() };
        carry(&outer)
    };
    let done = |tag, opcode| {
        Message::response(&Message::request(tag, opcode, vec![]), ReturnCode::SUCCESS, vec![])
    };
    let tunnel = Opcode::TUNNEL_MANAGEMENT_COMMAND;
    let right = done(7, Opcode::IDENTIFY);
    assert_eq!(route.unwrap(&request, &answer(&right, &done(7, tunnel))), Ok(right.clone()));
    for (inner, outer) in [
        (done(8, Opcode::IDENTIFY), done(7, tunnel)),
        (done(7, Opcode::GET_DCD_INFO), done(7, tunnel)),
        (right.clone(), done(8, tunnel)),
        (right.clone(), done(7, Opcode::IDENTIFY)),
    ] {
        let error = route.unwrap(&request, &answer(&inner, &outer)).unwrap_err();
        assert!(matches!(error, RouteError::OtherAnswer { .. }), "{error}");
    }
    let whole = answer(&right, &done(7, tunnel));
    for length in 0..whole.len() {
        let error = route.unwrap(&request, &whole[..length]).unwrap_err();
        assert!(matches!(error, RouteError::Decode(_)), "{length}: {error}");
    }
}
