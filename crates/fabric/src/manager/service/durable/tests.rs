//! Outputs on a disk that is full, and on one that is not.

use std::{
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    sync::{Arc, Mutex},
};

use memtide_cxl::{
    command::{
        HostId,
        events::{Clear, ClearEventRecords, EventLog, GetEventRecords},
        fabric_manager::{InitiateAdd, Selection},
    },
    manager::{Ending, Former, Limits, Report, State, Value},
};
use memtide_units::{DpaRange, RequestId, Tag};
use rustix::event::{EventfdFlags, PollFlags};

use super::*;
use crate::manager::{
    backend::{Backend, BackendError, Connector},
    service::{devices::Devices, tests::alone},
    store::tests::{Disk, PLENTY},
};

/// A device that never replies; what it was told.
type Told = Arc<Mutex<Vec<Command>>>;

struct Deaf {
    told: Told,
    event: OwnedFd,
}

impl Backend for Deaf {
    fn serial(&self) -> u64 {
        7
    }

    fn begin(&mut self, command: &Command) -> Result<(), BackendError> {
        self.told.lock().unwrap().push(command.clone());
        Ok(())
    }

    fn finish(&mut self) -> Result<Option<manager::Reply>, BackendError> {
        Ok(None)
    }

    fn take_events_pending(&mut self) -> bool {
        false
    }

    fn descriptor(&self) -> (BorrowedFd<'_>, PollFlags) {
        (self.event.as_fd(), PollFlags::IN)
    }

    fn due(&self) -> Option<Instant> {
        None
    }
}

struct DeafConnector(Told);

impl Connector for DeafConnector {
    fn connect(&self) -> Result<Box<dyn Backend>, BackendError> {
        let event = rustix::event::eventfd(0, EventfdFlags::CLOEXEC);
        let event = event.map_err(|error| BackendError::System(error.into()))?;
        Ok(Box::new(Deaf { told: Arc::clone(&self.0), event }))
    }

    fn address(&self) -> String {
        "deaf".to_owned()
    }
}

struct Bed {
    disk: Arc<Disk>,
    service: Service,
    told: Told,
    answered: Arc<Mutex<usize>>,
    _folder: tempfile::TempDir,
}

impl Bed {
    /// A service whose device is connected.
    fn start() -> Self {
        let (mut service, disk, folder) = alone();
        let told = Told::default();
        let connector: Arc<dyn Connector> = Arc::new(DeafConnector(Arc::clone(&told)));
        service.devices = Devices::new([("pool".parse().unwrap(), connector)].into());
        let until = Instant::now() + Duration::from_secs(20);
        while service.devices.changes(Instant::now()).is_empty() {
            assert!(Instant::now() < until);
            std::thread::sleep(Duration::from_millis(1));
        }
        let answered = Arc::new(Mutex::new(0));
        let count = Arc::clone(&answered);
        service.on_notice(move |notice| {
            *count.lock().unwrap() += usize::from(matches!(notice, Notice::Answered(_)));
        });
        Self { disk, service, told, answered, _folder: folder }
    }

    /// What is done when there is so much room on the disk.
    fn carry_out(&mut self, room: i64, outputs: Vec<Output>) -> Vec<Command> {
        self.disk.set_room(room);
        self.service.carry_out(outputs).unwrap();
        self.disk.set_room(PLENTY);
        std::mem::take(&mut self.told.lock().unwrap())
    }

    /// Whether a service that is killed now would be followed by one that knows of this.
    fn is_durable(&mut self, record: &Record) -> bool {
        self.service.store.forget_held();
        let kept = self.service.store.load().unwrap();
        kept.iter().any(|(key, value)| *key == record.key && Some(value) == record.value.as_ref())
    }
}

/// A host had this: no device says so again.
fn unsanitized() -> Record {
    let former = Former { host: 0, name: Some("h1".parse().unwrap()) };
    let value = Value::Extents(vec![DpaRange::new(0, 2 << 20)]);
    Record { key: Key::Unsanitized("pool".parse().unwrap(), former), value: Some(value) }
}

fn limits() -> Record {
    let value = Value::Limits(Limits { weight: 7, ..Limits::default() });
    let key = Key::Limits("pool".parse().unwrap(), "h1".parse().unwrap());
    Record { key, value: Some(value) }
}

fn command(command: Command) -> Output {
    Output::Command { device: "pool".parse().unwrap(), command }
}

fn clear() -> Command {
    let (log, what) = (EventLog::DynamicCapacity, Clear::All);
    Command::ClearEventRecords(ClearEventRecords { log, what })
}

fn add() -> Command {
    Command::InitiateAdd(InitiateAdd {
        host: HostId(0),
        selection: Selection::Free,
        region: 0,
        length: 2 << 20,
        tag: Tag::NULL,
        extents: Vec::new(),
    })
}

fn answer() -> Output {
    let state = State::Ended(Ending::Done);
    let (asked, returned, held) = (0, 0, 0);
    let (accepted, refused, pending, missing) = (0, 0, 0, 0);
    let (id, holders) = (RequestId(1), Vec::new());
    Output::Answer(Report {
        id,
        state,
        asked,
        returned,
        held,
        holders,
        accepted,
        refused,
        pending,
        missing,
    })
}

fn taken() -> Output {
    let (host, device) = ("h1".parse().unwrap(), "pool".parse().unwrap());
    Output::Taken { host, device, extents: Vec::new() }
}

#[test]
fn nothing_is_done_that_rests_on_what_could_not_be_kept() {
    // After each of them comes a command that anybody would see.
    let get = || {
        let log = EventLog::DynamicCapacity;
        command(Command::GetEventRecords(GetEventRecords { log }))
    };
    for (what, record, output) in [
        ("clearing what told it", unsanitized(), command(clear())),
        ("an offer", limits(), command(add())),
        ("an answer", limits(), answer()),
        ("a note to a host", limits(), taken()),
    ] {
        let mut bed = Bed::start();
        let told = bed.carry_out(0, vec![Output::Journal(vec![record.clone()]), output, get()]);
        assert_eq!((told, *bed.answered.lock().unwrap()), (Vec::new(), 0), "{what}");
        assert_eq!(bed.service.started_over, 1, "{what}");
        assert!(!bed.is_durable(&record), "{what}");
    }
}

#[test]
fn what_something_rests_on_is_durable_when_that_is_done() {
    for (what, record, output, told) in [
        ("clearing what told it", unsanitized(), command(clear()), vec![clear()]),
        ("an offer", limits(), command(add()), vec![add()]),
        ("an answer", limits(), answer(), vec![]),
        ("a note to a host", limits(), taken(), vec![]),
    ] {
        let mut bed = Bed::start();
        let outputs = vec![Output::Journal(vec![record.clone()]), output];
        assert_eq!(bed.carry_out(PLENTY, outputs), told, "{what}");
        assert_eq!(bed.service.started_over, 0, "{what}");
        assert!(bed.is_durable(&record), "{what}");
    }
}

/// What a device says again need not be on the disk for what only reads, or clears its log.
#[test]
fn what_is_said_again_waits_and_keeps_nobody() {
    let mut bed = Bed::start();
    let outputs = || vec![Output::Journal(vec![limits()]), command(clear())];
    assert_eq!(bed.carry_out(0, outputs()), [clear()]);
    assert_eq!(bed.service.started_over, 0);
    assert!(bed.service.settle_by.is_some());
    assert!(!bed.is_durable(&limits()));
    // It is written in a while at the latest; a disk that is full then is found to be.
    bed.carry_out(0, outputs());
    bed.disk.set_room(0);
    assert!(!bed.service.settle().unwrap());
    assert_eq!(bed.service.started_over, 1);
}
