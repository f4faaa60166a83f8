//! What a device says against the books, word by word.

use std::{
    fs,
    path::PathBuf,
    thread::JoinHandle,
    time::{Duration, Instant},
};

use memtide_cxl::command::{
    HostId,
    fabric_manager::{GetHostExtents, InitiateAdd, Selection},
};
use memtide_engine::dynamic_capacity::Input;
use memtide_fabric::{
    Link, serving,
    software::{self, Fabric},
    wire::Role,
};
use memtide_units::{DcExtent, NodeKind, PAGEBLOCK_BYTES, Tag};

use super::{carry::Surfaced, courier::Word, *};
use crate::config::{NodeConfig, SharedWith, Wants};

const CAPACITY: ByteSize = ByteSize(256 << 20);
const NAME: DeviceId = DeviceId(0);

/// A fabric, and a daemon whose loop is the test.
struct Bed {
    daemon: Daemon,
    manager: Link,
    fabric: Option<(serving::StopHandle, JoinHandle<()>)>,
    directory: PathBuf,
}

fn range(first: u64, count: u64) -> DpaRange {
    DpaRange::new(first * PAGEBLOCK_BYTES, count * PAGEBLOCK_BYTES)
}

impl Bed {
    fn new(name: &str) -> Self {
        let directory = format!("memtide-dcd-{}-{name}", std::process::id());
        let directory = std::env::temp_dir().join(directory);
        fs::create_dir_all(&directory).unwrap();
        let address = memtide_fabric::Address::Unix(directory.join("fabric"));
        let config = software::Config { capacity: CAPACITY, ..software::Config::default() };
        let mut fabric = Fabric::bind(config, std::slice::from_ref(&address)).unwrap();
        let stop = fabric.stop_handle();
        let thread = std::thread::spawn(move || fabric.run().unwrap());
        let manager = Link::connect(&address, Role::Manager).unwrap();
        let dcd = DcdConfig {
            fabric: address,
            host: 0,
            accept: Accept::All,
            shared_with: SharedWith::Everybody,
            manager: None,
            host_name: "host0".to_owned(),
            wants: Wants::Nothing,
        };
        let mut node = NodeConfig::of_device("dcd0", NodeKind::Far, dcd);
        node.size = CAPACITY;
        let config = Config::new(directory.join("sock"), vec![node]).unwrap();
        let daemon = Daemon::bind(config).unwrap();
        Self { daemon, manager, fabric: Some((stop, thread)), directory }
    }

    fn device(&self) -> &Device {
        &self.daemon.dcd.devices[&NAME]
    }

    /// Offers pageblocks.
    fn add(&mut self, first: u64, count: u64) {
        let tag = Tag([0; 16]);
        let extents = vec![DcExtent { range: range(first, count), tag, sequence: 0 }];
        let (host, selection) = (HostId(0), Selection::Prescriptive);
        let add = InitiateAdd { host, selection, region: 0, length: 0, tag, extents };
        self.manager.command(&add).unwrap();
    }

    /// What the device counts as accepted.
    fn listed(&mut self) -> Vec<DpaRange> {
        let query = GetHostExtents { host: HostId(0), count: 100, start: 0 };
        let extents = self.manager.command(&query).unwrap().extents;
        extents.into_iter().map(|extent| extent.range).collect()
    }

    /// Hears one word, and says what it was.
    fn hear(&mut self) -> &'static str {
        let start = Instant::now();
        loop {
            if let Some((session, word)) = self.device().courier.hear() {
                let what = match &word {
                    Word::Connected(_) => "connected",
                    Word::Answered { .. } => "answered",
                    _ => "else",
                };
                self.daemon.heard_of_device(NAME, session, word);
                return what;
            }
            assert!(start.elapsed() < Duration::from_secs(20), "the device says nothing");
            std::thread::sleep(Duration::from_micros(200));
        }
    }

    fn hear_until(&mut self, what: &str) {
        while self.hear() != what {}
    }

    /// Offers pageblocks, and hears of them; they are answered, and the device's word is to come.
    fn offered(&mut self, first: u64, count: u64) {
        self.add(first, count);
        while self.device().unanswered.is_empty() {
            self.hear();
        }
        assert_eq!(self.daemon.held(NAME, Surfaced::OrNot).last(), Some(&range(first, count)));
    }
}

impl Drop for Bed {
    fn drop(&mut self) {
        if let Some((stop, thread)) = self.fabric.take() {
            stop.stop();
            let _ = thread.join();
        }
        let _ = fs::remove_dir_all(&self.directory);
    }
}

#[test]
fn an_answer_that_fits_the_books_is_the_end_of_it() {
    let mut bed = Bed::new("fits");
    bed.hear_until("connected");
    bed.offered(0, 4);
    bed.hear_until("answered");
    assert_eq!(bed.device().list_at, None);
    assert_eq!(bed.listed(), [range(0, 4)]);
}

/// The device takes an answer with what the books have no more: nobody would use it, and nobody
/// give it back.
#[test]
fn what_the_device_takes_and_the_books_have_not_is_released_again() {
    let mut bed = Bed::new("differs");
    bed.hear_until("connected");
    bed.offered(8, 2);
    bed.hear_until("answered");
    bed.offered(0, 4);
    let (range, tag) = (range(0, 4), Tag([0; 16]));
    bed.daemon.port_hear(Input::ForcedRelease { device: NAME, range, tag });
    bed.hear_until("answered");
    let soon = bed.device().list_at.expect("its list is looked at");
    assert!(soon > bed.daemon.engine_now(), "but not at once");
    assert!(bed.listed().contains(&range));
    let start = Instant::now();
    while bed.listed().contains(&range) {
        assert!(start.elapsed() < Duration::from_secs(20), "it is never given back");
        bed.daemon.serve_devices();
        std::thread::sleep(Duration::from_millis(2));
    }
    assert_eq!(bed.listed(), [self::range(8, 2)], "and nothing else is");
    assert_eq!(bed.daemon.held(NAME, Surfaced::Only), [self::range(8, 2)]);
}
