//! Anything at all, said to a switch.

use memtide_cxl::{
    Opcode, Payload, ReturnCode,
    cci::Message,
    tunnel::{HOPS_MAX, Route, Target, Tunnel},
};
use proptest::{collection::vec, prelude::*};

use crate::bed::{Came, HEADS, MEMORY, SHARED, send, switch};

fn opcode() -> impl Strategy<Value = u16> {
    prop_oneof![
        Just(1),
        0x100..0x102_u16,
        0x4800..0x4804_u16,
        0x5100..0x5103_u16,
        Just(0x5300),
        0x5600..0x5609_u16,
        any::<u16>(),
    ]
}

fn target() -> impl Strategy<Value = Target> {
    prop_oneof![
        Just(Target::LdPool),
        (0..6_u8).prop_map(Target::PortOrLd),
        Just(Target::PortOrLd(HEADS)),
        any::<u8>().prop_map(Target::PortOrLd),
    ]
}

fn route() -> impl Strategy<Value = Route> {
    (any::<u8>(), vec(target(), 0..HOPS_MAX)).prop_map(|(port, others)| {
        let ports = [0, 1, MEMORY, SHARED, HEADS, port];
        let first = Route::port(ports[usize::from(port) % ports.len()]);
        others.into_iter().fold(first, Route::then)
    })
}

proptest! {
    /// Whatever is said, there is an answer that fits into the mailbox, and a refusal has changed
    /// nothing.
    #[test]
    fn any_command_has_an_answer(
        log2 in 8..12_u8,
        commands in vec((opcode(), vec(any::<u8>(), 0..300)), 1..8),
    ) {
        let mut switch = switch(log2);
        for (opcode, payload) in commands {
            let before = switch.clone();
            let reply = switch.execute(Opcode(opcode), &payload);
            prop_assert!(reply.payload.len() <= switch.payload_bytes());
            prop_assert_eq!(reply.refusal.is_some(), reply.code != ReturnCode::SUCCESS);
            if reply.code != ReturnCode::SUCCESS && reply.code != ReturnCode::INTERNAL_ERROR {
                prop_assert!(switch == before, "{:?}", reply.refusal);
            }
        }
    }

    /// Whatever way a message goes: it comes from the end as the device there gives it, or somebody
    /// on the way refuses it. Those that get there are just those for which somebody is there.
    #[test]
    fn any_way_ends_where_it_should(
        route in route(),
        opcode in opcode(),
        payload in vec(any::<u8>(), 0..64),
    ) {
        let mut switch = switch(12);
        let request = Message::request(3, Opcode(opcode), payload);
        let end: Option<fn(u16) -> bool> = match route.hops() {
            [Target::PortOrLd(MEMORY)] => Some(|opcode| opcode == 1),
            [Target::PortOrLd(SHARED)] | [Target::PortOrLd(HEADS), Target::LdPool] => {
                Some(|opcode| matches!(opcode, 1 | 0x100 | 0x101 | 0x5600..=0x5608))
            }
            [Target::PortOrLd(HEADS)] => Some(|opcode| opcode == 1),
            [Target::PortOrLd(SHARED), Target::PortOrLd(0 | 1)] => {
                Some(|opcode| matches!(opcode, 1 | 0x100 | 0x101 | 0x4000 | 0x4800..=0x4803))
            }
            _ => None,
        };
        let came = send(&mut switch, &route, &request);
        match (&came, end) {
            // A tunnel in the payload: one hop more, made up.
            (_, Some(_)) if opcode == 0x5300 => {}
            (Came::End(code, _), Some(knows)) => {
                prop_assert_eq!(*code == ReturnCode::UNSUPPORTED, !knows(opcode), "{:?}", came);
            }
            (Came::Switch(_) | Came::Way(_), None) => {}
            _ => prop_assert!(false, "{:?}: {:?}", route, came),
        }
    }

    /// A tunnel with one bit flipped is a tunnel, or refused; nothing panics.
    #[test]
    fn a_broken_tunnel(route in route(), at in any::<prop::sample::Index>(), bit in 0..8_u8) {
        let mut switch = switch(9);
        let request = Message::request(3, Opcode::GET_DCD_INFO, vec![]);
        let mut bytes = route.wrap(&request).unwrap().to_bytes();
        let at = at.index(bytes.len());
        bytes[at] ^= 1 << bit;
        let reply = switch.execute(Opcode::TUNNEL_MANAGEMENT_COMMAND, &bytes);
        if Tunnel::decode(&bytes).is_err() {
            prop_assert!(reply.code != ReturnCode::SUCCESS);
        }
    }
}
