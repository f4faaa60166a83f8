//! A manager that is there, is not, and comes again.

use std::os::unix::net::UnixListener;

use memtide_fabric::wire::MAX_AGENT_FRAME_BYTES;
use memtide_units::Tag;

use super::*;

const MIB: u64 = 1 << 20;

/// A manager's end.
struct Manager {
    listener: UnixListener,
    channel: Option<Channel>,
}

impl Manager {
    fn accept(&mut self) {
        let (stream, _) = self.listener.accept().unwrap();
        stream.set_nonblocking(true).unwrap();
        self.channel = Some(Channel::new(stream.into(), MAX_FRAME_BYTES));
    }

    fn say(&mut self, message: &FromManager) {
        let channel = self.channel.as_mut().unwrap();
        channel.send(message, None).unwrap();
        channel.flush();
    }

    /// What is there now.
    fn heard(&mut self) -> Vec<ToManager> {
        let mut all = Vec::new();
        let channel = self.channel.as_mut().unwrap();
        while let Incoming::Frame(body) = channel.receive() {
            all.push(frame::decode(&body).unwrap());
        }
        all
    }
}

fn extent(at: u64) -> DcExtent {
    DcExtent { range: DpaRange::new(at * 128 * MIB, 128 * MIB), tag: Tag::NULL, sequence: 0 }
}

struct World {
    _folder: tempfile::TempDir,
    manager: Manager,
    teller: Teller,
    said: Vec<String>,
}

impl World {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("agents");
        let listener = UnixListener::bind(&path).unwrap();
        let teller = Teller::new(Address::Unix(path), "h1".to_owned(), 7);
        let manager = Manager { listener, channel: None };
        Self { _folder: folder, manager, teller, said: Vec::new() }
    }

    fn turn(&mut self, accepted: &[DcExtent], answered: &[DpaRange]) {
        let (accepted, answered) = (accepted.to_vec(), answered.to_vec());
        let has = Has { accepted, answered, used: &|| ByteSize(1000 * MIB) };
        self.teller.turn(has, &mut |report| self.said.push(report.to_string()));
    }

    /// Turns until the hello is there, and welcomes it.
    fn welcome(&mut self, accepted: &[DcExtent]) {
        let until = Instant::now() + Duration::from_secs(20);
        while !matches!(self.teller.connection, Connection::Greeting(..)) {
            self.turn(accepted, &[]);
            assert!(Instant::now() < until, "{:?}", self.said);
            thread::sleep(Duration::from_millis(1));
        }
        self.manager.accept();
        let hello = ToManager::Hello { version: VERSION, host: "h1".to_owned() };
        assert_eq!(self.manager.heard(), [hello]);
        self.manager.say(&FromManager::Welcome { version: VERSION });
    }
}

fn has(accepted: &[DcExtent], answered: &[DpaRange]) -> ToManager {
    has_looked(accepted, answered, 0)
}

/// After a look that was asked for.
fn has_looked(accepted: &[DcExtent], answered: &[DpaRange], looked: u64) -> ToManager {
    let (accepted, answered) = (accepted.to_vec(), answered.to_vec());
    ToManager::Extents { serial: 7, accepted, answered, looked }
}

fn uses(accepted: u64) -> ToManager {
    ToManager::Uses { serial: 7, accepted, used: accepted }
}

#[test]
fn what_it_has_is_told_when_the_device_was_looked_at_after_the_welcome() {
    let mut world = World::new();
    world.welcome(&[extent(1)]);
    // This turn reads the welcome, after a look at the device that may have been before it.
    world.turn(&[extent(1)], &[extent(9).range]);
    assert_eq!(world.manager.heard(), []);
    world.turn(&[extent(1), extent(2)], &[extent(2).range]);
    let both = [extent(1), extent(2)];
    assert_eq!(
        world.manager.heard(),
        [has(&both, &[extent(9).range, extent(2).range]), uses(256 * MIB)]
    );
    // Nothing new, nothing told. A refusal is new, though all looks the same.
    world.turn(&both, &[]);
    assert_eq!(world.manager.heard(), []);
    world.turn(&both, &[extent(3).range]);
    assert_eq!(world.manager.heard(), [has(&both, &[extent(3).range])]);
}

#[test]
fn who_is_asked_to_look_tells_of_the_look_after_that() {
    let mut world = World::new();
    world.welcome(&[]);
    world.turn(&[], &[]);
    // Before it is told anything, and of another device.
    world.manager.say(&FromManager::Look { serial: 8, number: 1 });
    world.manager.say(&FromManager::Look { serial: 7, number: 2 });
    world.manager.say(&FromManager::Look { serial: 7, number: 3 });
    world.turn(&[], &[]);
    assert_eq!(world.manager.heard(), [has(&[], &[]), uses(0)]);
    // That turn heard of it; the next one comes after a look. Once, though nothing has changed.
    world.turn(&[], &[]);
    assert_eq!(world.manager.heard(), [has_looked(&[], &[], 3)]);
    world.turn(&[], &[]);
    assert_eq!(world.manager.heard(), []);
    world.turn(&[extent(1)], &[extent(1).range]);
    let new = has_looked(&[extent(1)], &[extent(1).range], 3);
    assert_eq!(world.manager.heard(), [new, uses(128 * MIB)]);
    // Another manager has asked for nothing yet.
    world.manager.channel = None;
    world.turn(&[extent(1)], &[]);
    world.welcome(&[extent(1)]);
    world.turn(&[extent(1)], &[]);
    world.turn(&[extent(1)], &[]);
    assert_eq!(world.manager.heard(), [has(&[extent(1)], &[]), uses(128 * MIB)]);
}

#[test]
fn an_answer_follows_what_is_gone_and_is_told_again_to_the_next_manager() {
    let mut world = World::new();
    world.welcome(&[extent(1), extent(2)]);
    world.turn(&[extent(1), extent(2)], &[]);
    world.turn(&[extent(1), extent(2)], &[]);
    world.manager.heard();
    let holder = Holder {
        tenant: "/".to_owned(),
        image: 0,
        pid: 12,
        name: "holder".to_owned(),
        bytes: ByteSize(4 * MIB),
        reason: Reason::Pinned,
    };
    let answer = Answer {
        requested: ByteSize(256 * MIB),
        returned: ByteSize(128 * MIB),
        remaining: ByteSize(128 * MIB),
        holders: vec![holder],
        ask_again: true,
        blocks: Vec::new(),
    };
    let (asked, free) = (ByteSize(256 * MIB), ByteSize(128 * MIB));
    world.teller.hear(&Report::AskedBack { asked, free, answer: Some(answer) });
    world.turn(&[extent(2)], &[]);
    let heard = world.manager.heard();
    assert_eq!(heard[..2], [has(&[extent(2)], &[]), uses(128 * MIB)]);
    let [_, _, ToManager::Answer(answer)] = &heard[..] else { panic!("{heard:?}") };
    assert_eq!((answer.asked, answer.released), (256 * MIB, 128 * MIB));
    assert_eq!(answer.remaining, 128 * MIB);
    let held = &answer.holders[0];
    assert_eq!((held.program.as_deref(), held.pid), (Some("holder"), Some(12)));
    assert_eq!((held.bytes, held.reason), (4 * MIB, HoldReason::LongTermPin));

    // It is gone, and the next one is told all of it.
    world.manager.channel = None;
    world.turn(&[extent(2)], &[]);
    assert!(world.said.last().unwrap().contains("closed the connection; it is tried again"));
    world.welcome(&[extent(2)]);
    world.turn(&[extent(2)], &[]);
    world.turn(&[extent(2)], &[]);
    assert_eq!(world.manager.heard(), [&heard[..]].concat());
}

#[test]
fn an_answer_fits_into_a_frame_however_long_paths_are() {
    let mut world = World::new();
    world.welcome(&[]);
    world.turn(&[], &[]);
    world.turn(&[], &[]);
    world.manager.heard();
    let holder = Holder {
        tenant: "/x".repeat(2048),
        image: 0,
        pid: 12,
        name: "p".repeat(15),
        bytes: ByteSize(4 * MIB),
        reason: Reason::Pinned,
    };
    let answer = Answer {
        requested: ByteSize(256 * MIB),
        returned: ByteSize(0),
        remaining: ByteSize(256 * MIB),
        holders: vec![holder; MAX_HOLDERS + 1],
        ask_again: true,
        blocks: Vec::new(),
    };
    let (asked, free) = (ByteSize(256 * MIB), ByteSize(0));
    world.teller.hear(&Report::AskedBack { asked, free, answer: Some(answer) });
    world.manager.channel.as_mut().unwrap().set_limit(MAX_AGENT_FRAME_BYTES);
    world.turn(&[], &[]);
    let [ToManager::Answer(answer)] = &world.manager.heard()[..] else { panic!("no answer") };
    assert_eq!(answer.holders.len(), MAX_HOLDERS);
}

#[test]
fn a_manager_that_talks_without_pause_is_heard_a_little_in_each_turn() {
    let mut world = World::new();
    world.welcome(&[]);
    world.turn(&[], &[]);
    let turns = 3;
    for number in 1..=turns * FRAMES_A_TURN as u64 {
        world.manager.say(&FromManager::Look { serial: 7, number });
    }
    for turn in 1..=turns {
        world.turn(&[], &[]);
        assert_eq!(world.teller.look.0, turn * FRAMES_A_TURN as u64);
    }
}

#[test]
fn who_refuses_is_complained_of_once_and_tried_again() {
    let mut world = World::new();
    for _ in 0..3 {
        let until = Instant::now() + Duration::from_secs(20);
        while !matches!(world.teller.connection, Connection::Greeting(..)) {
            world.turn(&[], &[]);
            assert!(Instant::now() < until, "{:?}", world.said);
            thread::sleep(Duration::from_millis(1));
        }
        world.manager.accept();
        world.manager.say(&FromManager::Refused("no such host".to_owned()));
        world.turn(&[], &[]);
        assert!(matches!(world.teller.connection, Connection::Waiting(_)));
    }
    assert_eq!(world.said.len(), 1, "{:?}", world.said);
    assert!(world.said[0].ends_with("no such host; it is tried again"), "{:?}", world.said);
}

#[test]
fn a_manager_that_welcomes_and_goes_is_tried_at_longer_and_longer_intervals() {
    let mut world = World::new();
    for times in [1, 2, 4] {
        assert_eq!(world.teller.pause, PAUSES.0 * times);
        world.welcome(&[]);
        world.turn(&[], &[]);
        world.manager.channel = None;
        world.turn(&[], &[]);
        assert!(matches!(world.teller.connection, Connection::Waiting(_)));
    }
    world.welcome(&[]);
    world.turn(&[], &[]);
    // One that stayed is another thing.
    world.teller.welcomed = Instant::now().checked_sub(PAUSES.1);
    assert!(world.teller.welcomed.is_some());
    world.manager.channel = None;
    world.turn(&[], &[]);
    assert_eq!(world.teller.pause, PAUSES.0 * 2);
}

#[test]
fn a_manager_that_talks_nonsense_is_left() {
    let mut world = World::new();
    world.welcome(&[]);
    world.turn(&[], &[]);
    world.turn(&[], &[]);
    world.manager.say(&FromManager::Welcome { version: VERSION });
    world.turn(&[], &[]);
    assert!(matches!(world.teller.connection, Connection::Waiting(_)));
    assert!(world.said.last().unwrap().contains("another language"), "{:?}", world.said);
}
