//! A link against a fabric that is a few lines here.

use std::{
    os::unix::net::{UnixListener, UnixStream},
    thread::JoinHandle,
};

use memtide_cxl::Opcode;

use super::*;

const CAPACITY: u64 = 1 << 30;

fn welcome() -> Welcome {
    Welcome { version: VERSION, device: "d".to_owned(), serial: 7, capacity: CAPACITY, hosts: 2 }
}

/// A fabric that does with its one connection what it is told to.
fn fabric(
    act: impl FnOnce(&mut Channel) + Send + 'static,
) -> (tempfile::TempDir, Address, JoinHandle<()>) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("socket");
    let listener = UnixListener::bind(&path).unwrap();
    let thread = std::thread::spawn(move || {
        let stream: UnixStream = listener.accept().unwrap().0;
        stream.set_nonblocking(true).unwrap();
        let mut channel = Channel::new(stream.into(), MAX_FRAME_BYTES);
        let body = read(&mut channel).unwrap();
        assert!(matches!(frame::decode(&body), Ok(ToFabric::Hello(_))));
        act(&mut channel);
    });
    (directory, Address::Unix(path), thread)
}

fn read(channel: &mut Channel) -> Result<Vec<u8>, LinkError> {
    next(channel, Instant::now() + PATIENCE, PATIENCE)
}

fn say(channel: &mut Channel, message: &FromFabric, fd: Option<OwnedFd>) {
    channel.send(message, fd).unwrap();
    channel.flush();
}

fn greet(channel: &mut Channel) {
    say(channel, &FromFabric::Welcome(welcome()), None);
}

/// Answers a command with its own payload, and a code.
fn echo(channel: &mut Channel, code: u16) {
    let Ok(ToFabric::Command(mut message)) = frame::decode(&read(channel).unwrap()) else {
        panic!("expected a command");
    };
    message[0] = 1;
    message[8..10].copy_from_slice(&code.to_le_bytes());
    say(channel, &FromFabric::Reply(message), None);
}

#[test]
fn a_command_is_answered_and_events_are_noted_meanwhile() {
    let (_keep, address, thread) = fabric(|channel| {
        greet(channel);
        echo(channel, 0);
        say(channel, &FromFabric::EventsPending, None);
        echo(channel, 0x1e);
    });
    let mut link = Link::connect(&address, Role::Manager).unwrap();
    assert_eq!(link.welcome(), &welcome());
    assert!(link.memory().is_none());
    let (code, payload) = link.raw(Opcode::GET_DCD_INFO, &[1, 2, 3]).unwrap();
    assert_eq!((code, payload.as_slice()), (ReturnCode::SUCCESS, &[1, 2, 3][..]));
    let (code, _) = link.raw(Opcode::INITIATE_DC_ADD, &[]).unwrap();
    assert_eq!(code, ReturnCode::INVALID_EXTENT_LIST);
    assert!(link.take_events_pending());
    assert!(!link.take_events_pending());
    thread.join().unwrap();
    assert!(matches!(link.raw(Opcode::IDENTIFY, &[]), Err(LinkError::Closed)));
}

#[test]
fn a_hosts_welcome_brings_its_memory() {
    let (_keep, address, thread) = fabric(|channel| {
        let file = memfd::create("host", CAPACITY, Pages::Small).unwrap();
        say(channel, &FromFabric::Welcome(welcome()), Some(file));
    });
    let mut link = Link::connect(&address, Role::Host(0)).unwrap();
    assert!(link.memory().is_some());
    assert!(link.take_memory().is_some() && link.memory().is_none());
    thread.join().unwrap();
}

#[test]
fn a_host_takes_no_memory_that_could_be_shortened_under_it() {
    for bytes in [None, Some(CAPACITY / 2)] {
        let (_keep, address, thread) = fabric(move |channel| {
            let file = bytes.map(|bytes| memfd::create("host", bytes, Pages::Small).unwrap());
            say(channel, &FromFabric::Welcome(welcome()), file);
        });
        let error = Link::connect(&address, Role::Host(0)).unwrap_err();
        assert!(matches!(error, LinkError::NoMemory { capacity: CAPACITY }), "{error}");
        thread.join().unwrap();
    }
    let (_keep, address, thread) = fabric(|channel| {
        let file = tempfile::tempfile().unwrap();
        file.set_len(CAPACITY).unwrap();
        say(channel, &FromFabric::Welcome(welcome()), Some(file.into()));
    });
    let error = Link::connect(&address, Role::Host(0)).unwrap_err();
    assert!(matches!(error, LinkError::NoMemory { .. }), "{error}");
    thread.join().unwrap();
}

#[test]
fn a_refusal_is_passed_on() {
    let (_keep, address, thread) = fabric(|channel| {
        say(channel, &FromFabric::Refused("host 9; expected 0 to 1".to_owned()), None);
    });
    let error = Link::connect(&address, Role::Host(9)).unwrap_err();
    assert_eq!(error.to_string(), "the fabric refuses: host 9; expected 0 to 1");
    thread.join().unwrap();
}

#[test]
fn an_unbelievable_welcome_is_none() {
    let cases: [fn(&mut Welcome); 5] = [
        |welcome| welcome.version += 1,
        |welcome| welcome.device = "x".repeat(65),
        |welcome| welcome.capacity = 1 << 63,
        |welcome| welcome.capacity = 0,
        |welcome| welcome.hosts = 0,
    ];
    for spoil in cases {
        let (_keep, address, thread) = fabric(move |channel| {
            let mut welcome = welcome();
            spoil(&mut welcome);
            say(channel, &FromFabric::Welcome(welcome), None);
        });
        let error = Link::connect(&address, Role::Manager).unwrap_err();
        assert!(error.to_string().contains("expected"), "{error}");
        thread.join().unwrap();
    }
}

#[test]
fn a_silent_device_is_given_up_in_time() {
    let (stop, stopped) = std::sync::mpsc::channel::<()>();
    let (_keep, address, thread) = fabric(move |channel| {
        greet(channel);
        let _ = stopped.recv();
    });
    let mut link = Link::connect(&address, Role::Manager).unwrap();
    link.set_patience(Duration::from_millis(30));
    let error = link.raw(Opcode::IDENTIFY, &[]).unwrap_err();
    assert!(matches!(error, LinkError::TimedOut { .. }), "{error}");
    assert!(!error.leaves_link_usable());
    // Its answer might still come: nothing else can be asked.
    let error = link.raw(Opcode::IDENTIFY, &[]).unwrap_err();
    assert!(matches!(error, LinkError::InFlight), "{error}");
    drop(stop);
    thread.join().unwrap();
}

#[test]
fn a_reply_that_nobody_asked_for_ends_the_link() {
    let (_keep, address, thread) = fabric(|channel| {
        greet(channel);
        say(channel, &FromFabric::Reply(Vec::new()), None);
    });
    let mut link = Link::connect(&address, Role::Manager).unwrap();
    thread.join().unwrap();
    let error = link.pump().unwrap_err();
    assert!(matches!(error, LinkError::Unexpected { what: "a reply", .. }), "{error}");
}

#[test]
fn the_answer_to_something_else_is_no_answer() {
    let (_keep, address, thread) = fabric(|channel| {
        greet(channel);
        for spoil in [1, 3, 4] {
            let Ok(ToFabric::Command(mut message)) = frame::decode(&read(channel).unwrap()) else {
                panic!("expected a command");
            };
            message[0] = 1;
            message[spoil] ^= 0x40;
            say(channel, &FromFabric::Reply(message), None);
        }
    });
    let mut link = Link::connect(&address, Role::Manager).unwrap();
    for _ in 0..3 {
        let error = link.raw(Opcode::IDENTIFY, &[]).unwrap_err();
        assert!(matches!(error, LinkError::OtherAnswer { .. }), "{error}");
    }
    thread.join().unwrap();
}

#[test]
fn a_device_whose_answer_is_late_does_not_hold_up_a_loop() {
    let (_keep, address, thread) = fabric(|channel| {
        greet(channel);
        std::thread::sleep(Duration::from_millis(50));
        echo(channel, 0);
    });
    let mut link = Link::connect(&address, Role::Manager).unwrap();
    let request = Message::request(3, Opcode::IDENTIFY, Vec::new());
    let message = request.encode().unwrap();
    link.begin(&message).unwrap();
    assert!(link.finish().unwrap().is_none() && link.is_in_flight());
    assert!(matches!(link.begin(&message), Err(LinkError::InFlight)));
    let reply = loop {
        wait(&link.channel, Instant::now() + PATIENCE, PATIENCE).unwrap();
        if let Some(reply) = link.finish().unwrap() {
            break reply;
        }
    };
    assert!(Message::decode(&reply).unwrap().answers(&request));
    assert!(!link.is_in_flight());
    thread.join().unwrap();
}

#[test]
fn nobody_there_says_where() {
    let error = Link::connect(&"/nowhere/x".parse().unwrap(), Role::Manager).unwrap_err();
    assert_eq!(error.to_string(), "cannot connect to unix:/nowhere/x");
}
