//! A software fabric in a thread, and what its manager says to it.

#![allow(dead_code)]

use std::{
    fs,
    path::PathBuf,
    sync::atomic::{AtomicU32, Ordering},
    thread::JoinHandle,
    time::{Duration, Instant},
};

use memtide_cxl::command::{
    HostId, Sanitize,
    fabric_manager::{Force, GetHostExtents, InitiateAdd, InitiateRelease, Removal, Selection},
};
use memtide_daemon::{
    NodeConfig,
    config::{Accept, DcdConfig, SharedWith, Wants},
};
use memtide_fabric::{
    Address, Link, LinkError,
    serving::StopHandle,
    software::{Config, Fabric},
    wire::Role,
};
use memtide_units::{ByteSize, DcExtent, DpaRange, NodeKind, PAGEBLOCK_BYTES, Tag};

use super::LONG;

/// Bytes of the device: 128 pageblocks.
pub const CAPACITY: ByteSize = ByteSize(256 << 20);

/// A fabric of one device for two hosts.
pub struct TestFabric {
    pub address: Address,
    directory: PathBuf,
    running: Option<(StopHandle, JoinHandle<()>)>,
    manager: Option<Link>,
}

/// Pageblocks of the device.
pub fn range(first: u64, count: u64) -> DpaRange {
    DpaRange::new(first * PAGEBLOCK_BYTES, count * PAGEBLOCK_BYTES)
}

impl TestFabric {
    /// One that is not there yet.
    pub fn absent() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = format!("memtide-fabric-{}-{number}", std::process::id());
        let directory = std::env::temp_dir().join(name);
        fs::create_dir_all(&directory).unwrap();
        let address = Address::Unix(directory.join("sock"));
        Self { address, directory, running: None, manager: None }
    }

    pub fn start() -> Self {
        let mut fabric = Self::absent();
        fabric.begin();
        fabric
    }

    pub fn begin(&mut self) {
        let config = Config { capacity: CAPACITY, ..Config::default() };
        let mut fabric = Fabric::bind(config, std::slice::from_ref(&self.address)).unwrap();
        let stop = fabric.stop_handle();
        let thread = std::thread::spawn(move || fabric.run().unwrap());
        self.running = Some((stop, thread));
        self.manager = Some(Link::connect(&self.address, Role::Manager).unwrap());
    }

    /// Everything that it knew is gone with it.
    pub fn end(&mut self) {
        self.manager = None;
        if let Some((stop, thread)) = self.running.take() {
            stop.stop();
            thread.join().unwrap();
        }
    }

    fn manager(&mut self) -> &mut Link {
        self.manager.as_mut().expect("it is there")
    }

    /// Offers pageblocks to a host.
    pub fn add(&mut self, host: u16, first: u64, count: u64) {
        self.add_all(host, &[range(first, count)], Tag::NULL);
    }

    /// The same, as soon as the device has them back: a host takes memory out of its pool before
    /// it tells the device.
    pub fn add_when_free(&mut self, host: u16, first: u64, count: u64) {
        let until = Instant::now() + Duration::from_secs(30);
        while let Err(error) = self.offer(host, &[range(first, count)], Tag::NULL) {
            assert!(Instant::now() < until, "{error}");
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// The same, if they are free.
    pub fn try_add(&mut self, host: u16, first: u64, count: u64) {
        if let Err(error) = self.offer(host, &[range(first, count)], Tag::NULL) {
            assert!(matches!(error, LinkError::Device { .. }), "{error}");
        }
    }

    /// Offers several extents at once.
    pub fn add_all(&mut self, host: u16, ranges: &[DpaRange], tag: Tag) {
        self.offer(host, ranges, tag).unwrap();
    }

    fn offer(&mut self, host: u16, ranges: &[DpaRange], tag: Tag) -> Result<(), LinkError> {
        let extents = ranges.iter().map(|&range| DcExtent { range, tag, sequence: 0 }).collect();
        let selection = Selection::Prescriptive;
        let host = HostId(host);
        let add = InitiateAdd { host, selection, region: 0, length: 0, tag, extents };
        self.manager().command(&add)
    }

    /// Asks for pageblocks back, or takes them.
    pub fn release(&mut self, host: u16, first: u64, count: u64, force: Force) {
        self.take(host, vec![range(first, count)], force).unwrap();
    }

    /// The same, if the host has them.
    pub fn try_release(&mut self, host: u16, first: u64, count: u64, force: Force) {
        if let Err(error) = self.take(host, vec![range(first, count)], force) {
            assert!(matches!(error, LinkError::Device { .. }), "{error}");
        }
    }

    /// Asks for all that a host has.
    pub fn release_all(&mut self, host: u16) {
        let all = self.listed(host);
        if !all.is_empty()
            && let Err(error) = self.take(host, all, Force::Ask)
        {
            assert!(matches!(error, LinkError::Device { .. }), "{error}");
        }
    }

    fn take(&mut self, host: u16, ranges: Vec<DpaRange>, force: Force) -> Result<(), LinkError> {
        let tag = Tag::NULL;
        let extents = ranges.into_iter().map(|range| DcExtent { range, tag, sequence: 0 });
        let release = InitiateRelease {
            host: HostId(host),
            removal: Removal::Prescriptive,
            force,
            sanitize: Sanitize::OnRelease,
            length: 0,
            tag,
            extents: extents.collect(),
        };
        self.manager().command(&release)
    }

    /// Pageblocks that a host has accepted.
    pub fn held(&mut self, host: u16) -> u64 {
        self.listed(host).iter().map(|range| range.length / PAGEBLOCK_BYTES).sum()
    }

    /// What a host has accepted.
    pub fn listed(&mut self, host: u16) -> Vec<DpaRange> {
        let query = GetHostExtents { host: HostId(host), count: 1000, start: 0 };
        let extents = self.manager().command(&query).unwrap().extents;
        extents.into_iter().map(|extent| extent.range).collect()
    }

    pub fn wait_until_held(&mut self, host: u16, pageblocks: u64) {
        let start = Instant::now();
        while self.held(host) != pageblocks {
            let held = self.held(host);
            assert!(start.elapsed() < LONG, "host {host} holds {held}; expected {pageblocks}");
            std::thread::sleep(std::time::Duration::from_millis(2));
        }
    }

    /// Ends a host's connection by taking its place for a moment.
    pub fn cut_off(&self, host: u16) -> Result<(), LinkError> {
        Link::connect(&self.address, Role::Host(host)).map(drop)
    }

    /// A node of the device, as a host.
    pub fn node(&self, host: u16, accept: Accept) -> NodeConfig {
        let dcd = DcdConfig {
            fabric: self.address.clone(),
            host,
            accept,
            shared_with: SharedWith::Everybody,
            manager: None,
            host_name: format!("host{host}"),
            wants: Wants::Nothing,
        };
        let mut node = NodeConfig::of_device("dcd0", NodeKind::Far, dcd);
        node.size = CAPACITY;
        node
    }
}

impl Drop for TestFabric {
    fn drop(&mut self) {
        self.manager = None;
        if let Some((stop, thread)) = self.running.take() {
            stop.stop();
            let _ = thread.join();
        }
        let _ = fs::remove_dir_all(&self.directory);
    }
}
