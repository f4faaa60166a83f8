//! Nodes of dynamic capacity: a device gives memory extent by extent, and asks it back.
//!
//! The rules are [`memtide_engine::dynamic_capacity`]'s; here a [`Port`] is kept between them, the
//! engine and the devices, and what it says is carried out. One thread for each device does the
//! talking ([`courier`]), so that the loop never waits for one.
//!
//! ```text
//!   device ◄── courier ──► session, records ──► Port ◄──► Engine ◄──► programs
//!                                                │
//!                                                └──► manager: who holds what, and why
//! ```
//!
//! # What counts
//! * **A connection that is lost takes nothing.** Silence of a fabric is no surprise removal: the
//!   device's file stays mapped, programs run on with what they have, and more of what is there is
//!   leased. What was taken meanwhile is learnt from the device's list when it is back, and is
//!   lost then, as if by force ([`session`]). So is all of it if the memory itself is another: the
//!   fabric was started anew.
//! * **What comes into the pool is zero,** and what is leased anew too: the device says so of what
//!   it gives, and it is punched out all the same, before the engine has it.
//! * **One file for all images.** What one leaves is punched out of the device's file itself; and
//!   as nobody but the processes know what they map of it, a daemon that takes over waits for all
//!   of them, however long, and empties what none of them claims before it leases anything.
//! * **An order is given once.** What a lost connection leaves in doubt is settled by the list,
//!   never by saying it again blindly: an answer is taken if the list has what it accepted.
//! * **An operator's give-back is one to the device.** What leaves the node is released (4803h).
//!
//! # Files
//! [`courier`]: the thread. [`session`]: a connection begins or ends. [`records`]: what the log
//! says. [`carry`]: what the port says, carried out. [`sharing`]: whose programs have the device's
//! file. [`takeover`]: after a restart. [`manager`]: who is told. [`wants`]: what is wanted of it.
//! [`told`]: for operators. [`ranges`]: runs of addresses.

mod carry;
mod courier;
mod manager;
mod ranges;
mod records;
mod session;
mod sharing;
pub(crate) mod takeover;
#[cfg(test)]
mod tests;
mod told;
mod wants;

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use memtide_cxl::command::events::{EventRecord, Overflow};
use memtide_engine::dynamic_capacity::{Answer, ChainId, DeviceId, Limits, Port, Window};
use memtide_fabric::wire::Welcome;
use memtide_store::NodeFile;
use memtide_sys::memfd::FileIdentity;
use memtide_units::{ByteSize, DpaRange, Extent, Pageblock, RequestId};

use self::{
    courier::{Courier, Order},
    manager::Manager,
    wants::Lacks,
};
use crate::{
    config::{Accept, Config, DcdConfig},
    daemon::{Daemon, StopHandle, node_id},
    start::BindError,
};

/// The names of the port's give-backs start here: an operator's never get so far.
pub(crate) const FIRST_REQUEST: RequestId = RequestId(1 << 48);
/// How long at most before what stayed is asked for again, if nothing was freed meanwhile.
const RETRY_MAX: Duration = Duration::from_secs(10);

/// All devices of a pool.
#[derive(Debug)]
pub(crate) struct Dcd {
    port: Port,
    devices: BTreeMap<DeviceId, Device>,
    /// What of the nodes returning processes claim, until all have come back or are gone.
    claimed: Option<Vec<Extent>>,
}

/// One device, and the node that is its memory.
#[derive(Debug)]
struct Device {
    node: usize,
    window: Window,
    courier: Courier,
    manager: Option<Manager>,
    lacks: Lacks,
    accept: Accept,
    /// Its memory, from the first connection on.
    file: Option<NodeFile>,
    /// Which file an earlier daemon had; of no account once there is a file.
    file_before: Option<(u64, u64)>,
    /// What it said of itself at last.
    welcome: Option<Welcome>,
    block_bytes: u64,
    standing: Standing,
    /// Whether its regions are the node's window.
    is_probed: bool,
    /// What has left the node and not been asked for by the device.
    left: Vec<DpaRange>,
    /// Answers whose outcome is not known.
    unanswered: BTreeMap<ChainId, Vec<DpaRange>>,
    /// Of these, those that this host's policy made say no.
    declined: BTreeSet<ChainId>,
    /// What the device counts as accepted, and the rules do not let be used.
    unusable: Vec<DpaRange>,
    /// Records that were heard and are not known to be cleared.
    heard: BTreeMap<u16, EventRecord>,
    /// Of these, those that no order clears yet.
    uncleared: Vec<u16>,
    /// Offers that may have been refused, or still be the device's oldest.
    doubts: u32,
    overflow: Option<Overflow>,
    /// When its list is looked at, as it did not take a release.
    list_at: Option<memtide_units::Instant>,
    /// What was last said of a request of the device.
    answer: Option<Answer>,
    /// Leased bytes when somebody last looked.
    leased: ByteSize,
}

/// How a device stands.
#[derive(Clone, PartialEq, Eq, Debug)]
enum Standing {
    /// There was no connection yet, or none lately; why the last try failed.
    Away { why: String },
    /// This session goes on.
    Here { session: u64 },
}

impl Dcd {
    /// The devices of a configuration; nobody talks to them before [`Daemon::run`].
    pub(crate) fn new(
        config: &Config,
        firsts: &[Pageblock],
        stop: &StopHandle,
    ) -> Result<Self, BindError> {
        let limits = Limits { retry_after_max: RETRY_MAX, ..Limits::default() };
        let mut devices = BTreeMap::new();
        for (node, first) in firsts.iter().enumerate() {
            let Some(dcd) = &config.nodes[node].dcd else { continue };
            let device = DeviceId(u16::try_from(node).expect("a pool has few nodes"));
            let decoder = DpaRange::new(0, config.nodes[node].size.0);
            let window = Window { device, decoder, node: node_id(node), first: *first };
            devices.insert(device, Device::new(node, window, dcd, stop)?);
        }
        let port = Port::new(limits, FIRST_REQUEST, config.deadline);
        Ok(Self { port, devices, claimed: None })
    }

    /// The next time at which something happens by itself.
    pub(crate) fn next_deadline(&self) -> Option<memtide_units::Instant> {
        let lists = self.devices.values().filter_map(|device| device.list_at);
        lists.chain(self.port.next_deadline()).chain(self.wants_deadline()).min()
    }

    /// The device behind the node at this position, if it is one's.
    fn at(&self, node: usize) -> Option<&Device> {
        self.devices.values().find(|device| device.node == node)
    }

    /// The same.
    fn name_at(&self, node: usize) -> Option<DeviceId> {
        self.devices.iter().find(|(_, device)| device.node == node).map(|(name, _)| *name)
    }

    /// Zeroes pageblocks of the node at this position in the device itself, if it is one's.
    pub(crate) fn zero(&self, node: usize, extent: Extent) -> Option<std::io::Result<()>> {
        let device = self.at(node)?;
        // Without its memory there is nothing of it.
        Some(device.file.as_ref().map_or(Ok(()), |file| file.zero(extent)))
    }

    /// Which file is each device's memory, for a later daemon.
    pub(crate) fn files(&self) -> impl Iterator<Item = (usize, (u64, u64))> {
        self.devices.values().filter_map(|device| {
            let file = device.file.as_ref().map(|file| file.identity().numbers());
            Some((device.node, file.or(device.file_before)?))
        })
    }
}

impl Device {
    fn new(
        node: usize,
        window: Window,
        dcd: &DcdConfig,
        stop: &StopHandle,
    ) -> Result<Self, BindError> {
        let failed = |source| BindError::System { what: "start a thread for a device", source };
        let courier = Courier::start(dcd.fabric.clone(), dcd.host, stop.clone()).map_err(failed)?;
        let manager = dcd.manager.clone().map(|at| Manager::start(at, dcd.host_name.clone()));
        Ok(Self {
            node,
            window,
            courier,
            manager: manager.transpose().map_err(failed)?,
            lacks: Lacks::default(),
            accept: dcd.accept,
            file: None,
            file_before: None,
            welcome: None,
            block_bytes: 0,
            standing: Standing::Away { why: "it has not been tried yet".to_owned() },
            is_probed: false,
            left: Vec::new(),
            unanswered: BTreeMap::new(),
            declined: BTreeSet::new(),
            unusable: Vec::new(),
            heard: BTreeMap::new(),
            uncleared: Vec::new(),
            // An earlier daemon's.
            doubts: 1,
            overflow: None,
            list_at: None,
            answer: None,
            leased: ByteSize(0),
        })
    }

    /// Gives an order, if somebody is there to take it.
    fn order(&self, order: Order) {
        if let Standing::Here { session } = self.standing {
            self.courier.order(session, order);
        }
    }

    fn is_file(&self, identity: FileIdentity) -> bool {
        match &self.file {
            Some(file) => file.identity() == identity,
            None => self.file_before == Some(identity.numbers()),
        }
    }

    /// The addresses of pageblocks of the node.
    fn range_of(&self, extent: Extent) -> DpaRange {
        let first = extent.start.0 - self.window.first.0;
        let bytes = memtide_units::PAGEBLOCK_BYTES;
        DpaRange::new(first * bytes, u64::from(extent.count) * bytes)
    }
}

impl Daemon {
    /// What devices said, and what time has made due.
    pub(crate) fn serve_devices(&mut self) {
        for name in self.dcd.devices.keys().copied().collect::<Vec<_>>() {
            while let Some((session, word)) = self.dcd.devices[&name].courier.hear() {
                self.heard_of_device(name, session, word);
            }
        }
        let now = self.engine_now();
        if self.dcd.next_deadline().is_some_and(|at| at <= now) {
            self.port_hear(memtide_engine::dynamic_capacity::Input::Tick);
        }
        self.list_again();
        self.look_at_use();
    }

    /// What of a node's device is offline in the engine, as addresses.
    fn offline_of(&self, name: DeviceId) -> Vec<DpaRange> {
        let device = &self.dcd.devices[&name];
        let offline = self.engine.offline(node_id(device.node));
        offline.into_iter().map(|extent| device.range_of(extent)).collect()
    }
}
