//! Garbage and lies on the socket: whoever sends them is refused, nobody else notices.

mod common;

use std::{
    os::fd::AsFd,
    sync::mpsc,
    time::{Duration, Instant},
};

use common::{Life, Pool, Program, blocks, hello, next_packet};
use memtide_daemon::{BindError, Daemon};
use memtide_proto::{
    ControlRequest, FromProgram, Hello, Lineage, ToProgram, VERSION, decode, encode,
};
use memtide_sys::socket::{self, Connection};
use memtide_units::{ByteSize, Extent, HoldReason, MoveId, Pageblock, TokenId};
use proptest::prelude::*;

fn refused(connection: &Connection) -> memtide_proto::Refused {
    let (packet, _) = next_packet(connection).expect("a reason");
    let ToProgram::Refused(why) = decode(&packet).unwrap() else { panic!("not refused") };
    assert!(next_packet(connection).is_none(), "closed afterwards");
    why
}

/// Sends this as the first packet and returns why it was refused.
fn first_packet(pool: &Pool, packet: &[u8]) -> memtide_proto::Refused {
    let connection = Connection::connect(pool.socket()).unwrap();
    connection.send(packet, &[]).unwrap();
    refused(&connection)
}

#[test]
fn garbage_ends_its_connection_and_nothing_else() {
    let pool = Pool::start(4, 4);
    let polite = Program::join(pool.socket());
    let leased = blocks(&polite.lease(2));
    polite.write(leased[0], 1);
    assert_eq!(first_packet(&pool, b"\xff\xff\xff\xff").field, "packet");
    assert_eq!(first_packet(&pool, &[0; 3000]).field, "packet");
    let mut good = hello(Lineage::Fresh { token: TokenId(77) });
    assert_eq!(first_packet(&pool, &good[..good.len() - 1]).field, "packet");
    assert_eq!(first_packet(&pool, &good).field, "descriptors");
    good.push(0);
    assert_eq!(first_packet(&pool, &good).field, "packet");
    // Larger than any message.
    assert_eq!(first_packet(&pool, &vec![1; 40_000]).field, "packet");
    polite.lease(1);
    assert_eq!(polite.read(leased[0]), 1);
    assert_eq!(pool.leased(), 3);
}

#[test]
fn another_version_is_named() {
    let pool = Pool::start(1, 1);
    let hello = Hello::Control { version: VERSION + 1, request: ControlRequest::Status };
    let connection = Connection::connect(pool.socket()).unwrap();
    connection.send(&encode(&hello).unwrap(), &[]).unwrap();
    let (packet, _) = next_packet(&connection).unwrap();
    let memtide_proto::ControlReply::Refused(why) = decode(&packet).unwrap() else { panic!() };
    assert_eq!((why.field.as_str(), why.value), ("version", (VERSION + 1).to_string()));
}

#[test]
fn floods_of_descriptors_are_closed() {
    let pool = Pool::start(4, 4);
    let polite = Program::join(pool.socket());
    let life = Life::new();
    for count in [2, 64] {
        let connection = Connection::connect(pool.socket()).unwrap();
        let fds = vec![life.file.as_fd(); count];
        let packet = hello(Lineage::Fresh { token: life.id });
        connection.send(&packet, &fds).unwrap();
        assert_eq!(refused(&connection).field, "descriptors");
    }
    let descriptors = || std::fs::read_dir("/proc/self/fd").unwrap().count();
    let before = descriptors();
    for _ in 0..200 {
        let connection = Connection::connect(pool.socket()).unwrap();
        let _ = connection.send(b"\xff", &vec![life.file.as_fd(); 64]);
        while next_packet(&connection).is_some() {}
    }
    polite.lease(1);
    // The daemon is a thread of this very process; other tests open some meanwhile.
    assert!(descriptors() < before + 200, "{before} before, {} after", descriptors());
}

#[test]
fn what_is_no_token_is_refused() {
    let pool = Pool::start(1, 1);
    let null = std::fs::File::open("/dev/null").unwrap();
    let connection = Connection::connect(pool.socket()).unwrap();
    let packet = hello(Lineage::Fresh { token: TokenId(900_000) });
    connection.send(&packet, &[null.as_fd()]).unwrap();
    assert_eq!(refused(&connection).field, "token");
}

#[test]
fn a_program_may_name_only_what_it_leased() {
    let pool = Pool::start(8, 8);
    let victim = Program::join(pool.socket());
    let leased = victim.lease(2);
    victim.write(blocks(&leased)[0], 8);
    let outside = Extent::new(Pageblock(1 << 40), 3);
    let endless = Extent::new(Pageblock(0), u32::MAX);
    let tries = [
        FromProgram::Release { extents: leased.clone() },
        FromProgram::Release { extents: vec![outside] },
        FromProgram::Release { extents: vec![endless] },
        FromProgram::Pin { extents: leased.clone(), reason: HoldReason::MemoryLock },
        FromProgram::Unpin { extents: leased.clone(), reason: HoldReason::MemoryLock },
        FromProgram::Thawed { extents: leased.clone() },
        FromProgram::Moved { id: MoveId(1), outcomes: vec![] },
        FromProgram::Lease { count: 0, after: None },
        FromProgram::Lease { count: u32::MAX, after: None },
        FromProgram::Commit { by: i64::MIN },
        FromProgram::Claim { leased: leased.clone(), shared: vec![], children: vec![], last: true },
        FromProgram::ForkBegin { token: victim.life.id },
    ];
    for message in tries {
        let liar = Program::join(pool.socket());
        liar.send(&message);
        let why = refused(&liar.connection);
        assert!(!why.expected.is_empty(), "{message:?}: {why}");
    }
    assert_eq!(victim.read(blocks(&leased)[0]), 8);
    victim.lease(1);
    pool.wait_until("only the victim", |status| status.programs.len() == 1);
    assert_eq!(pool.leased(), 3);
}

#[test]
fn nobody_returns_as_somebody_else() {
    let pool = Pool::start(8, 8);
    let victim = Program::join(pool.socket());
    let leased = victim.lease(2);
    // With files of his own.
    let mut liar = Program::join(pool.socket());
    liar.member = victim.member;
    liar.image = victim.image;
    let Some(ToProgram::Refused(why)) = liar.come_back(pool.socket(), &leased) else { panic!() };
    assert_eq!(why.field, "files");
    // Under a name that nobody was given, claiming what another has.
    let mut liar = Program::join(pool.socket());
    liar.member.0 += 1000;
    liar.life = Life::new();
    let Some(ToProgram::Refused(why)) = liar.come_back(pool.socket(), &leased) else { panic!() };
    assert_eq!(why.field, "member");
    // Under its own name, the same.
    let mut liar = Program::join(pool.socket());
    let Some(ToProgram::Refused(why)) = liar.come_back(pool.socket(), &leased) else { panic!() };
    assert_eq!(why.field, "claims");
    // More than there is.
    let mut liar = Program::join(pool.socket());
    let all = [Extent::new(Pageblock(0), u32::MAX)];
    let Some(ToProgram::Refused(why)) = liar.come_back(pool.socket(), &all) else { panic!() };
    assert_eq!(why.field, "claims");
    victim.lease(1);
}

#[test]
fn claims_of_children_come_with_their_tokens() {
    let pool = Pool::start(4, 4);
    let null = std::fs::File::open("/dev/null").unwrap();
    let life = Life::new();
    let claim = |children| {
        let (leased, shared) = (vec![], vec![]);
        encode(&FromProgram::Claim { leased, shared, children, last: true }).unwrap()
    };
    let packets = [
        (claim(vec![life.id]), vec![], "descriptors"),
        (claim(vec![]), vec![life.file.as_fd()], "descriptors"),
        (claim(vec![life.id]), vec![null.as_fd()], "token"),
    ];
    for (packet, fds, field) in packets {
        let mut liar = Program::join(pool.socket());
        liar.say_that_it_is_back(pool.socket(), "");
        liar.connection.send(&packet, &fds).unwrap();
        assert_eq!(refused(&liar.connection).field, field);
    }
}

#[test]
fn who_does_not_read_is_dropped_and_the_others_go_on() {
    let pool = Pool::start(4, 4);
    let deaf = Program::join(pool.socket());
    let polite = Program::join(pool.socket());
    let start = Instant::now();
    std::thread::scope(|scope| {
        // Blocks once the daemon stops reading from who does not listen; then that is that.
        scope.spawn(|| {
            let packet = encode(&FromProgram::Commit { by: 0 }).unwrap();
            for _ in 0..200_000 {
                if deaf.connection.send(&packet, &[]).is_err() {
                    break;
                }
            }
        });
        for _ in 0..50 {
            assert_eq!(polite.lease(1).len(), 1);
            let one = vec![Extent::new(Pageblock(0), 1)];
            polite.send(&FromProgram::Release { extents: one });
            pool.wait_until("free", |status| status.nodes.iter().all(|n| n.leased.0 == 0));
        }
        assert!(start.elapsed() < Duration::from_secs(15));
        rustix::net::shutdown(deaf.connection.as_fd(), rustix::net::Shutdown::Both).unwrap();
    });
}

#[test]
fn a_second_request_on_a_connection_is_noise() {
    let pool = Pool::start(1, 1);
    let connection = Connection::connect(pool.socket()).unwrap();
    let request = ControlRequest::GiveBack {
        bytes: ByteSize(2 << 20),
        from: Some("nowhere".to_owned()),
        deadline_ms: None,
    };
    let packet = encode(&Hello::Control { version: VERSION, request }).unwrap();
    connection.send(&packet, &[]).unwrap();
    let _ = connection.send(&packet, &[]);
    let (first, _) = next_packet(&connection).unwrap();
    let memtide_proto::ControlReply::Refused(why) = decode(&first).unwrap() else { panic!() };
    assert_eq!(why.field, "from");
    assert_eq!(why.expected, "one of the nodes near, far");
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..Default::default() })]

    #[test]
    fn no_bytes_upset_the_decoder(bytes in proptest::collection::vec(any::<u8>(), 0..600)) {
        let _ = decode::<Hello>(&bytes);
        let _ = decode::<FromProgram>(&bytes);
        let _ = decode::<ToProgram>(&bytes);
        let _ = decode::<memtide_proto::ControlReply>(&bytes);
    }
}

#[test]
fn no_bytes_upset_the_daemon() {
    let pool = Pool::start(4, 4);
    let polite = Program::join(pool.socket());
    let mut state = 0x9E37_79B9_7F4A_7C15_u64;
    let mut random = move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state
    };
    for round in 0..2000 {
        // Small numbers first: they are what the variants of messages are.
        let bytes: Vec<u8> = (0..random() % 64)
            .map(|index| (random() >> 13) as u8 % if index < 3 { 8 } else { 255 })
            .collect();
        let liar = if round % 2 == 0 {
            Connection::connect(pool.socket()).unwrap()
        } else {
            let program = Program::join(pool.socket());
            let _ = program.connection.send(&bytes, &[program.life.file.as_fd()]);
            program.connection
        };
        let _ = liar.send(&bytes, &[]);
    }
    assert_eq!(polite.lease(4).len(), 1);
    pool.wait_until("only one", |status| status.programs.len() == 1);
}

/// Somebody listens there and takes no connections, and those who tried fill his backlog.
#[test]
fn who_takes_no_connections_keeps_his_address_and_is_not_waited_for() {
    let mut pool = Pool::start(1, 1);
    let config = pool.config.clone();
    pool.stop_daemon();
    let listener = socket::listen(&config.socket, 0o600, 1).unwrap();
    let patience = Duration::from_millis(50);
    let tries = (0..8).map(|_| socket::connect_within(&config.socket, patience));
    let tries: Vec<_> = tries.collect();
    assert!(tries.iter().any(Result::is_err), "no room for eight");
    let (tell, told) = mpsc::channel();
    std::thread::spawn(move || tell.send(Daemon::bind(config).map(drop)));
    let bound = told.recv_timeout(common::LONG).expect("it does not wait for ever");
    assert!(matches!(bound, Err(BindError::Listen { .. })), "{bound:?}");
    drop((listener, tries));
}
