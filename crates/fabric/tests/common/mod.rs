//! A fabric in a thread, and hosts and managers that are a few lines.
#![allow(dead_code, reason = "each test file uses some of it")]

use std::{
    io::{Read, Write},
    os::unix::{fs::FileExt, net::UnixStream},
    path::PathBuf,
    sync::{Arc, Mutex},
    thread::JoinHandle,
    time::{Duration, Instant},
};

use memtide_cxl::{
    Opcode,
    command::{
        HostId, More, Sanitize,
        dynamic_capacity::{AddResponse, GetExtentList, Release},
        events::{
            Clear, ClearEventRecords, DynamicCapacityEvent, DynamicCapacityEventKind, EventBody,
            EventLog, GetEventRecords,
        },
        fabric_manager::{Force, InitiateAdd, InitiateRelease, Removal, Selection},
    },
};
use memtide_fabric::{
    Address, Link, LinkError,
    serving::StopHandle,
    software::{Config, Fabric, RunError},
    wire::Role,
};
use memtide_units::{ByteSize, DcExtent, DpaRange, Tag};

pub const BLOCK: u64 = 2 << 20;

/// A fabric that serves until it is dropped.
pub struct Served {
    pub directory: tempfile::TempDir,
    pub addresses: Vec<Address>,
    pub notices: Arc<Mutex<Vec<String>>>,
    stop: StopHandle,
    thread: Option<JoinHandle<Result<(), RunError>>>,
}

impl Served {
    pub fn start() -> Self {
        Self::with(Config { capacity: ByteSize(1 << 30), ..Config::default() })
    }

    pub fn with(config: Config) -> Self {
        Self::at(tempfile::tempdir().unwrap(), config)
    }

    /// Ends, and begins anew at the same place with nothing.
    pub fn restart(&mut self) {
        self.stop();
        let directory = std::mem::replace(&mut self.directory, tempfile::tempdir().unwrap());
        *self = Self::at(directory, Config { capacity: ByteSize(1 << 30), ..Config::default() });
    }

    fn at(directory: tempfile::TempDir, config: Config) -> Self {
        let unix = Address::Unix(directory.path().join("fabric"));
        let mut fabric = Fabric::bind(config, &[unix, "tcp:127.0.0.1:0".parse().unwrap()]).unwrap();
        let notices = Arc::new(Mutex::new(Vec::new()));
        let log = Arc::clone(&notices);
        fabric.on_notice(move |notice| log.lock().unwrap().push(notice.to_string()));
        let addresses = fabric.addresses().cloned().collect();
        let stop = fabric.stop_handle();
        let thread = Some(std::thread::spawn(move || fabric.run()));
        Self { directory, addresses, notices, stop, thread }
    }

    pub fn host(&self, host: u16) -> Host {
        Host(Link::connect(&self.addresses[0], Role::Host(host)).unwrap())
    }

    pub fn manager(&self) -> Link {
        Link::connect(&self.addresses[0], Role::Manager).unwrap()
    }

    pub fn path(&self) -> PathBuf {
        self.directory.path().join("fabric")
    }

    /// A connection that says what it likes.
    pub fn raw(&self) -> UnixStream {
        let stream = UnixStream::connect(self.path()).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        stream
    }

    pub fn expect_notice(&self, part: &str) {
        let until = Instant::now() + Duration::from_secs(5);
        while Instant::now() < until {
            if self.notices.lock().unwrap().iter().any(|notice| notice.contains(part)) {
                return;
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        panic!("no notice of {part:?}: {:?}", self.notices.lock().unwrap());
    }

    pub fn stop(&mut self) {
        self.stop.stop();
        if let Some(thread) = self.thread.take() {
            thread.join().unwrap().unwrap();
        }
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        self.stop();
    }
}

/// Whether the other end hangs up.
pub fn is_ended(stream: &mut UnixStream) -> bool {
    let mut rest = Vec::new();
    !matches!(stream.read_to_end(&mut rest), Err(error)
        if error.kind() == std::io::ErrorKind::WouldBlock)
}

/// Says it as a frame.
pub fn say(stream: &mut UnixStream, body: &[u8]) {
    let length = u32::try_from(body.len()).unwrap().to_le_bytes();
    // It may have hung up already.
    let _ = stream.write_all(&length).and_then(|()| stream.write_all(body));
}

/// The records of the event log, which is empty afterwards.
pub fn drain(link: &mut Link) -> Vec<DynamicCapacityEvent> {
    let log = EventLog::DynamicCapacity;
    let mut events = Vec::new();
    loop {
        let got = link.command(&GetEventRecords { log }).unwrap();
        if got.records.is_empty() {
            return events;
        }
        let handles = got.records.iter().map(|record| record.handle).collect();
        link.command(&ClearEventRecords { log, what: Clear::Handles(handles) }).unwrap();
        events.extend(got.records.iter().map(|record| match record.body {
            EventBody::DynamicCapacity(event) => event,
            EventBody::Other(uuid) => panic!("a record of {uuid:?}"),
        }));
    }
}

/// A host that takes what it is offered.
pub struct Host(pub Link);

impl Host {
    /// Accepts all offers; what was offered.
    pub fn accept_all(&mut self) -> Vec<DpaRange> {
        let events = drain(&mut self.0);
        let mut accepted = Vec::new();
        let mut group = Vec::new();
        for event in events {
            if event.kind != DynamicCapacityEventKind::Add {
                continue;
            }
            group.push(event.extent.range);
            if event.more == More::Last {
                let response = AddResponse { more: More::Last, accepted: group.clone() };
                self.0.command(&response).unwrap();
                accepted.append(&mut group);
            }
        }
        accepted
    }

    pub fn extents(&mut self) -> Vec<DpaRange> {
        let list = self.0.command(&GetExtentList { count: 1000, start: 0 }).unwrap();
        list.extents.iter().map(|extent| extent.range).collect()
    }

    pub fn release(&mut self, released: &[DpaRange]) -> Result<(), LinkError> {
        self.0.command(&Release { more: More::Last, released: released.to_vec() })
    }

    pub fn write(&self, at: u64, bytes: &[u8]) {
        self.file().write_all_at(bytes, at).unwrap();
    }

    pub fn read(&self, at: u64, length: usize) -> Vec<u8> {
        let mut bytes = vec![0; length];
        self.file().read_exact_at(&mut bytes, at).unwrap();
        bytes
    }

    pub fn file(&self) -> std::fs::File {
        self.0.memory().unwrap().try_clone_to_owned().unwrap().into()
    }
}

/// Offers anything of this size.
pub fn offer(manager: &mut Link, host: u16, length: u64) -> Result<(), LinkError> {
    manager.command(&InitiateAdd {
        host: HostId(host),
        selection: Selection::Free,
        region: 0,
        length,
        tag: Tag::NULL,
        extents: Vec::new(),
    })
}

/// Offers this.
pub fn offer_this(manager: &mut Link, host: u16, range: DpaRange) -> Result<(), LinkError> {
    manager.command(&InitiateAdd {
        host: HostId(host),
        selection: Selection::Prescriptive,
        region: 0,
        length: 0,
        tag: Tag::NULL,
        extents: vec![DcExtent { range, tag: Tag::NULL, sequence: 0 }],
    })
}

/// Takes this.
pub fn take(manager: &mut Link, host: u16, range: DpaRange) -> Result<(), LinkError> {
    manager.command(&InitiateRelease {
        host: HostId(host),
        removal: Removal::Prescriptive,
        force: Force::Take,
        sanitize: Sanitize::OnRelease,
        length: 0,
        tag: Tag::NULL,
        extents: vec![DcExtent { range, tag: Tag::NULL, sequence: 0 }],
    })
}

/// What no command has.
pub const NO_OPCODE: Opcode = Opcode(0xfefe);
