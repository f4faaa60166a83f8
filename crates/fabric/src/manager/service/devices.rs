//! The service's devices: connected, being connected, or waiting to be.

use std::{
    collections::BTreeMap,
    os::fd::{AsFd, BorrowedFd},
    sync::Arc,
    time::{Duration, Instant},
};

use memtide_cxl::{
    command::HostId,
    manager::{Command, DeviceName, Reply},
};
use rustix::event::PollFlags;

use crate::manager::backend::{Backend, BackendError, Connected, Connecting, Connector, HostSays};

/// Until a device is tried again, the first time and at most: each pause is twice the last.
const RETRY_FIRST: Duration = Duration::from_millis(100);
const RETRY_MOST: Duration = Duration::from_secs(5);

/// What has become of a device.
#[derive(Debug)]
pub enum Change {
    /// It is connected.
    Up,
    /// The connection is over.
    Down(BackendError),
    /// It cannot be connected, for another reason than the last time.
    Unreachable(BackendError),
    /// It replied.
    Reply(Reply),
    /// Its event log has something new.
    EventsPending,
}

enum Connection {
    /// Tried again later.
    Waiting(Instant),
    /// On its way.
    Connecting(Connecting),
    /// There.
    Up(Box<dyn Backend>),
}

struct Device {
    connector: Arc<dyn Connector>,
    connection: Connection,
    pause: Duration,
    serial: Option<u64>,
    problem: Option<String>,
}

/// All devices.
pub struct Devices(BTreeMap<DeviceName, Device>);

impl Devices {
    /// None is connected.
    pub fn new(connectors: BTreeMap<DeviceName, Arc<dyn Connector>>) -> Self {
        let device = |connector| Device {
            connector,
            connection: Connection::Waiting(Instant::now()),
            pause: RETRY_FIRST,
            serial: None,
            problem: None,
        };
        Self(connectors.into_iter().map(|(name, c)| (name, device(c))).collect())
    }

    /// What to wait for.
    pub fn descriptors(&self) -> Vec<(BorrowedFd<'_>, PollFlags)> {
        self.0.values().filter_map(Device::descriptor).collect()
    }

    /// When something is due without being said.
    pub fn due(&self) -> Option<Instant> {
        let due = |device: &Device| match &device.connection {
            Connection::Waiting(again) => Some(*again),
            Connection::Connecting(_) => None,
            Connection::Up(backend) => backend.due(),
        };
        self.0.values().filter_map(due).min()
    }

    /// What has become of all of them since the last time.
    pub fn changes(&mut self, now: Instant) -> Vec<(DeviceName, Change)> {
        let mut changes = Vec::new();
        let up = self.0.iter().filter(|(_, device)| device.is_up());
        let mut serials: BTreeMap<u64, DeviceName> =
            up.filter_map(|(name, device)| Some((device.serial?, name.clone()))).collect();
        for (name, device) in &mut self.0 {
            device.changes(now, &serials, &mut |change| changes.push((name.clone(), change)));
            if let Some(serial) = device.serial.filter(|_| device.is_up()) {
                serials.insert(serial, name.clone());
            }
        }
        changes
    }

    /// Gives a connected device a command.
    pub fn begin(&mut self, name: &DeviceName, command: &Command) -> Result<(), Change> {
        let device = self.0.get_mut(name).expect("the manager speaks of devices that are set up");
        match &mut device.connection {
            Connection::Up(backend) => backend.begin(command).map_err(|error| {
                device.lose(&error, Instant::now());
                Change::Down(error)
            }),
            // It is over already, and the manager will hear of it.
            _ => Ok(()),
        }
    }

    /// Ends all connections, to be made anew after a pause.
    pub fn disconnect_all(&mut self, now: Instant) {
        for device in self.0.values_mut() {
            device.connection = Connection::Waiting(now + RETRY_FIRST);
            device.pause = RETRY_FIRST;
        }
    }

    /// Which device has this serial number: of those that are connected only one does.
    pub fn by_serial(&self, serial: u64) -> Option<&DeviceName> {
        let its = self.0.iter().filter(|(_, device)| device.serial == Some(serial));
        its.max_by_key(|(_, device)| device.is_up()).map(|(name, _)| name)
    }

    /// A device's serial number, if it was ever connected.
    pub fn serial(&self, name: &DeviceName) -> Option<u64> {
        self.0.get(name)?.serial
    }

    /// A host's agent says something of a device, if that is connected.
    pub fn host_says(&mut self, name: &DeviceName, host: HostId, says: HostSays) {
        if let Some(Device { connection: Connection::Up(backend), .. }) = self.0.get_mut(name) {
            backend.host_says(host, says);
        }
    }

    /// Which hosts' agents are to look at which devices, and the number of that.
    pub fn take_looks(&mut self) -> Vec<(DeviceName, HostId, u64)> {
        let mut looks = Vec::new();
        for (name, device) in &mut self.0 {
            if let Connection::Up(backend) = &mut device.connection {
                let its = backend.take_looks().into_iter();
                looks.extend(its.map(|(host, number)| (name.clone(), host, number)));
            }
        }
        looks
    }

    /// Whether a device, which is connected, knows only what hosts' agents say.
    pub fn hears_agents(&self, name: &DeviceName) -> bool {
        match self.0.get(name).map(|device| &device.connection) {
            Some(Connection::Up(backend)) => backend.hears_agents(),
            _ => false,
        }
    }

    /// Where a device is, and what is wrong with it.
    pub fn told(&self, name: &DeviceName) -> (String, Option<String>) {
        let device = self.0.get(name);
        device.map_or_else(Default::default, |d| (d.connector.address(), d.problem()))
    }
}

impl Device {
    fn descriptor(&self) -> Option<(BorrowedFd<'_>, PollFlags)> {
        match &self.connection {
            Connection::Waiting(_) => None,
            Connection::Connecting(connecting) => Some((connecting.as_fd(), PollFlags::IN)),
            Connection::Up(backend) => Some(backend.descriptor()),
        }
    }

    /// Why it is not connected, or what it says is wrong.
    fn problem(&self) -> Option<String> {
        match &self.connection {
            Connection::Up(backend) => backend.problem(),
            _ => self.problem.clone(),
        }
    }

    const fn is_up(&self) -> bool {
        matches!(self.connection, Connection::Up(_))
    }

    /// What has become of it. `others` are the serial numbers of those that are connected.
    fn changes(
        &mut self,
        now: Instant,
        others: &BTreeMap<u64, DeviceName>,
        say: &mut impl FnMut(Change),
    ) {
        match &mut self.connection {
            Connection::Waiting(again) if *again <= now => {
                match Connecting::start(Arc::clone(&self.connector)) {
                    Ok(connecting) => self.connection = Connection::Connecting(connecting),
                    Err(error) => self.lose(&error, now),
                }
            }
            Connection::Waiting(_) => {}
            Connection::Connecting(connecting) => match unlike(others, connecting.result()) {
                None => {}
                Some(Ok(backend)) => {
                    self.serial = Some(backend.serial());
                    (self.problem, self.pause) = (None, RETRY_FIRST);
                    self.connection = Connection::Up(backend);
                    say(Change::Up);
                }
                Some(Err(error)) => {
                    let before = self.problem.take();
                    self.lose(&error, now);
                    if self.problem != before {
                        say(Change::Unreachable(error));
                    }
                }
            },
            Connection::Up(backend) => {
                let finished = backend.finish();
                if backend.take_events_pending() {
                    say(Change::EventsPending);
                }
                match finished {
                    Ok(None) => {}
                    Ok(Some(reply)) => say(Change::Reply(reply)),
                    Err(error) => {
                        self.lose(&error, now);
                        say(Change::Down(error));
                    }
                }
            }
        }
    }

    fn lose(&mut self, error: &dyn std::error::Error, now: Instant) {
        self.problem = Some(chain(error));
        self.connection = Connection::Waiting(now + self.pause);
        self.pause = (self.pause * 2).min(RETRY_MOST);
    }
}

/// What came of connecting: no device if another one has its serial number.
fn unlike(others: &BTreeMap<u64, DeviceName>, result: Option<Connected>) -> Option<Connected> {
    let result = result?;
    Some(result.and_then(|backend| {
        let serial = backend.serial();
        match others.get(&serial) {
            Some(device) => Err(BackendError::SameSerial { serial, device: device.clone() }),
            None => Ok(backend),
        }
    }))
}

/// What happened, and why, and why that.
pub fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !text.ends_with(&cause_text) {
            text = format!("{text}: {cause_text}");
        }
        source = cause.source();
    }
    text
}
