//! A switch with something of each kind behind its ports.

use std::collections::BTreeMap;

use memtide_cxl::{
    Command, Opcode, Payload, ReturnCode,
    cci::{Kind, Message},
    command::{
        Sanitize,
        identify::{Component, Identity},
        switch::Link,
    },
    device::{CAPACITY_UNIT, Config, Device, Limits, RegionConfig, SanitizeControl, Sharing},
    switch::{Attached, Port, Switch},
    tunnel::{Route, RouteError},
};

pub const BLOCK: u64 = 2 << 20;
pub const HOST: u8 = 0;
pub const NOTHING: u8 = 1;
pub const MEMORY: u8 = 2;
pub const SHARED: u8 = 3;
/// A number that does not follow the one before.
pub const HEADS: u8 = 200;
/// Where there is no port.
pub const NO_PORT: u8 = 4;

pub const LINK: Link = Link {
    width_max: 16,
    width: 8,
    speeds: 0x1f,
    speed_max: 5,
    speed: 4,
    ltssm: 4,
    first_lane: 0,
    flags: 4,
};

pub fn memory_identity() -> Identity {
    Identity {
        vendor: 0x8086,
        device: 0xd93,
        subsystem_vendor: 0x1af4,
        subsystem: 0x1100,
        serial: 77,
        message_log2_max: 9,
        component: Component::MEMORY_DEVICE,
    }
}

/// Two hosts, one region of 64 blocks, messages of so many bytes.
pub fn device(serial: u64, payload_bytes: u32) -> Device {
    device_with(serial, Limits { extents: 64, tags: 4, event_records: 8, payload_bytes })
}

/// The same, which remembers so much.
pub fn device_with(serial: u64, limits: Limits) -> Device {
    let region = RegionConfig {
        base: 0,
        decode_length: CAPACITY_UNIT,
        length: 64 * BLOCK,
        block_size: BLOCK,
        block_sizes: BLOCK,
        dsmad_handle: 0,
        sharing: Sharing::Exclusive,
        sanitize: Sanitize::Never,
        sanitize_control: SanitizeControl::Fixed,
    };
    let total_capacity = CAPACITY_UNIT;
    Device::new(Config { serial, hosts: 2, regions: vec![region], total_capacity, limits })
        .expect("a device that there can be")
}

/// One of each kind, and a mailbox of 2 to the power of this many bytes.
pub fn switch(payload_log2: u8) -> Switch {
    switch_before(payload_log2, 2048)
}

/// The same, before devices with messages of so many bytes.
pub fn switch_before(payload_log2: u8, device_bytes: u32) -> Switch {
    let at = |attached| Port { link: LINK, attached };
    let ports = BTreeMap::from([
        (HOST, at(Attached::Host)),
        (NOTHING, at(Attached::Nothing)),
        (MEMORY, at(Attached::Memory(memory_identity()))),
        (SHARED, at(Attached::Shared(Box::new(device(3, device_bytes))))),
        (HEADS, at(Attached::SharedHead(Box::new(device(200, device_bytes))))),
    ]);
    Switch::new(9, payload_log2, ports).expect("a switch that there can be")
}

/// A command of the switch's own.
pub fn ask<C: Command>(switch: &mut Switch, command: &C) -> Result<C::Response, ReturnCode> {
    let reply = switch.execute(C::OPCODE, &command.to_bytes());
    match reply.code {
        ReturnCode::SUCCESS => Ok(C::Response::decode(&reply.payload).expect("an answer")),
        code => {
            assert!(reply.payload.is_empty() && reply.refusal.is_some());
            Err(code)
        }
    }
}

/// What came of a message: from the switch, from somebody on the way, or from the end.
#[derive(Debug, PartialEq, Eq)]
pub enum Came {
    Switch(ReturnCode),
    Way(RouteError),
    End(ReturnCode, Vec<u8>),
}

pub fn send(switch: &mut Switch, route: &Route, request: &Message) -> Came {
    let tunnel = route.wrap(request).expect("it is short");
    let reply = switch.execute(Opcode::TUNNEL_MANAGEMENT_COMMAND, &tunnel.to_bytes());
    if reply.code != ReturnCode::SUCCESS {
        return Came::Switch(reply.code);
    }
    match route.unwrap(request, &reply.payload) {
        Err(error) => Came::Way(error),
        Ok(Message { kind: Kind::Response(outcome), payload, .. }) => {
            Came::End(outcome.code, payload)
        }
        Ok(_) => panic!("a request came back"),
    }
}

pub fn through<C: Command>(switch: &mut Switch, route: &Route, command: &C) -> Came {
    send(switch, route, &Message::command(0x5a, command))
}
