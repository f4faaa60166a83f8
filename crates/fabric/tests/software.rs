//! The software fabric over its sockets: hosts and managers that connect to it as programs would.

mod common;

use std::{
    io::{Read, Write},
    os::fd::AsFd,
    time::{Duration, Instant},
};

use common::{BLOCK, Host, NO_OPCODE, Served, drain, is_ended, offer, offer_this, say, take};
use memtide_cxl::{
    Opcode, ReturnCode,
    cci::Message,
    command::{HostId, events::DynamicCapacityEventKind, fabric_manager::GetInfo},
};
use memtide_fabric::{
    Link, LinkError, frame,
    software::Config,
    wire::{Hello, Role, ToFabric, VERSION},
};
use memtide_sys::memfd;
use memtide_units::{ByteSize, DpaRange, Random};

fn code_of(error: &LinkError) -> ReturnCode {
    match error {
        LinkError::Device { code, .. } => *code,
        other => panic!("{other}"),
    }
}

#[test]
fn capacity_goes_from_host_to_host_and_arrives_as_zeroes() {
    let served = Served::start();
    let (mut one, mut two, mut manager) = (served.host(0), served.host(1), served.manager());
    offer(&mut manager, 0, 4 * BLOCK).unwrap();
    let got = one.accept_all();
    assert_eq!(got.iter().map(|range| range.length).sum::<u64>(), 4 * BLOCK);
    let at = got[0].start;
    one.write(at, b"a secret");
    one.release(&got).unwrap();
    for range in &got {
        offer_this(&mut manager, 1, *range).unwrap();
    }
    assert_eq!(two.accept_all(), got);
    assert_eq!(two.read(at, 8), [0; 8]);
    assert_eq!(one.read(at, 8), [0; 8]);
    assert_eq!(memfd::allocated_bytes(one.0.memory().unwrap()).unwrap(), 0);
    two.write(at, b"another");
    assert_eq!(one.read(at, 8), [0; 8]);
}

#[test]
fn what_a_host_wrote_before_it_had_it_is_gone_when_it_does() {
    let served = Served::start();
    let (mut host, mut manager) = (served.host(0), served.manager());
    host.write(5 * BLOCK, b"too early");
    offer_this(&mut manager, 0, DpaRange::new(5 * BLOCK, BLOCK)).unwrap();
    host.accept_all();
    assert_eq!(host.read(5 * BLOCK, 9), [0; 9]);
}

#[test]
fn what_is_taken_by_force_is_empty_and_the_rest_is_not() {
    let served = Served::start();
    let (mut host, mut manager) = (served.host(0), served.manager());
    offer_this(&mut manager, 0, DpaRange::new(0, 2 * BLOCK)).unwrap();
    host.accept_all();
    host.write(0, b"first");
    host.write(BLOCK, b"second");
    take(&mut manager, 0, DpaRange::new(BLOCK, BLOCK)).unwrap();
    let events = drain(&mut host.0);
    assert_eq!(events[0].kind, DynamicCapacityEventKind::ForcedRelease);
    // The device has done its overwriting before it offers anything.
    offer_this(&mut manager, 1, DpaRange::new(BLOCK, BLOCK)).unwrap();
    assert_eq!(host.read(BLOCK, 6), [0; 6]);
    assert_eq!(host.read(0, 5), b"first");
    assert_eq!(host.extents(), [DpaRange::new(0, BLOCK)]);
}

#[test]
fn hosts_and_the_manager_are_interrupted() {
    let served = Served::start();
    let (mut host, mut other, mut manager) = (served.host(0), served.host(1), served.manager());
    let wait = |link: &mut Link| {
        let until = Instant::now() + Duration::from_secs(5);
        while !link.take_events_pending() {
            assert!(Instant::now() < until, "no interrupt");
            link.pump().unwrap();
            std::thread::sleep(Duration::from_millis(1));
        }
    };
    offer(&mut manager, 0, BLOCK).unwrap();
    wait(&mut host.0);
    host.accept_all();
    wait(&mut manager);
    let heard = drain(&mut manager);
    assert_eq!((heard[0].kind, heard[0].host), (DynamicCapacityEventKind::AddResponse, HostId(0)));
    other.0.pump().unwrap();
    assert!(!other.0.take_events_pending());
}

#[test]
fn a_host_that_comes_back_finds_what_it_had() {
    let served = Served::start();
    let mut manager = served.manager();
    offer_this(&mut manager, 0, DpaRange::new(BLOCK, BLOCK)).unwrap();
    let mut host = served.host(0);
    host.accept_all();
    host.write(BLOCK, b"kept");
    let mut again = served.host(0);
    assert_eq!(again.extents(), [DpaRange::new(BLOCK, BLOCK)]);
    assert_eq!(again.read(BLOCK, 4), b"kept");
    // The newer connection has ended the older one.
    let error = host.0.command(&GetInfo).unwrap_err();
    assert!(!error.leaves_link_usable(), "{error}");
    served.expect_notice("host 0 connected again");
}

#[test]
fn a_second_manager_ends_the_first() {
    let served = Served::start();
    let mut first = served.manager();
    assert_eq!(first.command(&GetInfo).unwrap().hosts, 2);
    let mut second = served.manager();
    assert_eq!(second.command(&GetInfo).unwrap().hosts, 2);
    assert!(!first.command(&GetInfo).unwrap_err().leaves_link_usable());
    assert_eq!(second.command(&GetInfo).unwrap().total_capacity, 1 << 30);
}

#[test]
fn each_side_has_its_own_commands() {
    let served = Served::start();
    let (mut host, mut manager) = (served.host(0), served.manager());
    assert_eq!(code_of(&host.0.command(&GetInfo).unwrap_err()), ReturnCode::UNSUPPORTED);
    let (code, _) = manager.raw(Opcode::RELEASE_DC, &[0; 8]).unwrap();
    assert_eq!(code, ReturnCode::UNSUPPORTED);
    let (code, _) = manager.raw(NO_OPCODE, &[]).unwrap();
    assert_eq!(code, ReturnCode::UNSUPPORTED);
    let (code, _) = manager.raw(Opcode::INITIATE_DC_ADD, &[1, 2, 3]).unwrap();
    assert_eq!(code, ReturnCode::INVALID_PAYLOAD_LENGTH);
    let (code, _) = manager.raw(Opcode::INITIATE_DC_ADD, &vec![0; 9000]).unwrap();
    assert_eq!(code, ReturnCode::INVALID_PAYLOAD_LENGTH);
    let unaligned = offer_this(&mut manager, 0, DpaRange::new(1, BLOCK)).unwrap_err();
    assert_eq!(code_of(&unaligned), ReturnCode::INVALID_EXTENT_LIST);
    served.expect_notice("the manager: Initiate Dynamic Capacity Add (5604h) refused");
}

#[test]
fn a_host_that_there_is_not_is_refused() {
    let served = Served::start();
    let error = Link::connect(&served.addresses[0], Role::Host(2)).unwrap_err();
    assert_eq!(error.to_string(), "the fabric refuses: host 2; expected 0 to 1");
}

#[test]
fn over_tcp_there_are_commands_and_no_memory() {
    let served = Served::start();
    let mut host = Host(Link::connect(&served.addresses[1], Role::Host(0)).unwrap());
    assert!(host.0.memory().is_none());
    let mut manager = Link::connect(&served.addresses[1], Role::Manager).unwrap();
    offer(&mut manager, 0, BLOCK).unwrap();
    let got = host.accept_all();
    host.release(&got).unwrap();
    assert!(host.extents().is_empty());
}

#[test]
fn garbage_ends_its_connection_and_no_other() {
    let served = Served::start();
    let (mut host, mut manager) = (served.host(0), served.manager());
    let hello = |role| {
        let hello = ToFabric::Hello(Hello { version: VERSION, role });
        frame::encode(&hello).unwrap()
    };
    let mut random = Random::new(3);
    for round in 0..200 {
        let mut stream = served.raw();
        match round % 5 {
            // A length that is not believable.
            0 => stream.write_all(&[0xff; 8]).unwrap(),
            // No message.
            1 => {
                let bytes: Vec<u8> =
                    (0..1 + random.below(200)).map(|_| random.below(256) as u8).collect();
                say(&mut stream, &[&[9][..], &bytes].concat());
            }
            // A command before a hello.
            2 => {
                let command = ToFabric::Command(Vec::new());
                stream.write_all(&frame::encode(&command).unwrap()).unwrap();
            }
            // A hello, and another.
            3 => {
                stream.write_all(&hello(Role::Host(1))).unwrap();
                stream.write_all(&hello(Role::Host(1))).unwrap();
            }
            // A hello, and a command that is no CCI message.
            _ => {
                stream.write_all(&hello(Role::Host(1))).unwrap();
                let bytes: Vec<u8> = (0..random.below(30)).map(|_| 0xa5).collect();
                stream.write_all(&frame::encode(&ToFabric::Command(bytes)).unwrap()).unwrap();
            }
        }
        assert!(is_ended(&mut stream), "round {round}");
        assert_eq!(manager.command(&GetInfo).unwrap().hosts, 2, "round {round}");
        assert!(host.extents().is_empty(), "round {round}");
    }
}

#[test]
fn who_hangs_up_in_the_middle_leaves_nothing_behind() {
    let served = Served::start();
    let mut manager = served.manager();
    let request = Message::command(0, &GetInfo).encode().unwrap();
    let stream = [
        frame::encode(&ToFabric::Hello(Hello { version: VERSION, role: Role::Host(1) })).unwrap(),
        frame::encode(&ToFabric::Command(request)).unwrap(),
    ]
    .concat();
    for cut in 0..stream.len() {
        served.raw().write_all(&stream[..cut]).unwrap();
    }
    offer(&mut manager, 1, BLOCK).unwrap();
    assert_eq!(served.host(1).accept_all().len(), 1);
}

#[test]
fn idle_strangers_and_those_who_do_not_read_keep_nobody_waiting() {
    let served = Served::start();
    let idle: Vec<_> = (0..300).map(|_| served.raw()).collect();
    // Sends commands and reads none of the answers, until nothing goes any more.
    let mut deaf = served.raw();
    deaf.set_nonblocking(true).unwrap();
    let hello = ToFabric::Hello(Hello { version: VERSION, role: Role::Host(1) });
    deaf.write_all(&frame::encode(&hello).unwrap()).unwrap();
    let request = Message::request(0, Opcode::GET_DC_EXTENT_LIST, vec![0; 8]).encode().unwrap();
    let command = frame::encode(&ToFabric::Command(request)).unwrap();
    let (mut blocked, mut at) = (0, 0);
    while blocked < 20 {
        match deaf.write(&command[at..]) {
            // The rest of a command that went out in part comes next.
            Ok(bytes) => (blocked, at) = (0, (at + bytes) % command.len()),
            Err(_) => {
                blocked += 1;
                std::thread::sleep(Duration::from_millis(2));
            }
        }
    }
    let (mut host, mut manager) = (served.host(0), served.manager());
    let started = Instant::now();
    for _ in 0..100 {
        offer(&mut manager, 0, BLOCK).unwrap();
        let got = host.accept_all();
        host.release(&got).unwrap();
        drain(&mut manager);
    }
    assert!(started.elapsed() < Duration::from_secs(5), "{:?}", started.elapsed());
    // Of the idle ones, most were dropped for newer ones.
    let open = idle.into_iter().filter_map(|mut stream| {
        stream.set_nonblocking(true).unwrap();
        let error = stream.read(&mut [0; 1]).err()?;
        (error.kind() == std::io::ErrorKind::WouldBlock).then_some(())
    });
    assert!(open.count() <= 64);
}

#[test]
fn no_host_ever_reads_what_another_wrote() {
    let blocks = 32;
    let hosts = 3u16;
    let served = Served::with(Config {
        capacity: ByteSize(256 << 20),
        block: ByteSize(8 << 20),
        hosts,
        ..Config::default()
    });
    let block = 8 << 20;
    let mut random = Random::new(19);
    let mut manager = served.manager();
    let mut all: Vec<Host> = (0..hosts).map(|host| served.host(host)).collect();
    // Who has which block, and has written to it.
    let mut owner = vec![None::<u16>; blocks];
    for _ in 0..600 {
        let host = random.below(hosts.into()) as u16;
        let at = random.below(blocks as u64) as usize;
        let range = DpaRange::new(at as u64 * block, block);
        match random.below(6) {
            0..=2 => {
                let offered = offer_this(&mut manager, host, range);
                assert_eq!(offered.is_ok(), owner[at].is_none(), "{offered:?}");
                if offered.is_ok() {
                    assert_eq!(all[usize::from(host)].accept_all(), [range]);
                    let page = all[usize::from(host)].read(range.start, 4096);
                    assert!(page.iter().all(|byte| *byte == 0), "{range} of {host}");
                    all[usize::from(host)].write(range.start, &[host as u8 + 1; 4096]);
                    owner[at] = Some(host);
                }
            }
            3 => {
                let released = all[usize::from(host)].release(&[range]);
                assert_eq!(released.is_ok(), owner[at] == Some(host), "{released:?}");
                if released.is_ok() {
                    owner[at] = None;
                }
            }
            4 => {
                let taken = take(&mut manager, host, range);
                assert_eq!(taken.is_ok(), owner[at] == Some(host), "{taken:?}");
                if taken.is_ok() {
                    owner[at] = None;
                    drain(&mut all[usize::from(host)].0);
                }
            }
            // Where it has nothing, its own file is its own affair.
            _ => all[usize::from(host)].write(range.start + 8192, &[0xee; 10]),
        }
        drain(&mut manager);
        for (at, owner) in owner.iter().enumerate() {
            for (number, host) in all.iter().enumerate() {
                let page = host.read(at as u64 * block, 4096);
                let own = *owner == Some(number as u16);
                let expected = if own { number as u8 + 1 } else { 0 };
                assert!(page.iter().all(|byte| *byte == expected), "block {at} of host {number}");
            }
        }
    }
}

#[test]
fn a_stopped_fabric_takes_its_socket_with_it() {
    let mut served = Served::start();
    let mut host = served.host(0);
    let path = served.path();
    served.stop();
    assert!(!path.exists());
    assert!(matches!(host.0.command(&GetInfo), Err(LinkError::Closed)));
    assert!(host.0.as_fd().try_clone_to_owned().is_ok());
}
