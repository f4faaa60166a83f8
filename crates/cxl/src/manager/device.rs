//! What is known of one device.
//!
//! ```text
//!            DeviceUp                    all is read                 a record, a refusal
//!   Down ───────────────▶ Up, unread ────────────────▶ Up, all read ────────────────────▶ unread
//!    ▲                      │  it says what cannot be                                       │
//!    │ DeviceDown           ▼                                                               │
//!    └───────────────── Unusable                            (only where it may have changed)┘
//! ```

use alloc::{
    collections::{BTreeMap, BTreeSet},
    vec::Vec,
};

use memtide_units::{DcExtent, DpaRange, Instant, RequestId, Tag};

use super::{
    config::{Chooser, DeviceConfig, Limits},
    input::HostAnswer,
    journal::{Former, OfferRecord},
    name::{DeviceName, HostName},
    ranges::{Ranges, bytes_of},
};
use crate::{
    ReturnCode,
    command::{
        HostId, Sanitize,
        events::Overflow,
        fabric_manager::{Force, HostRegion, Info, TagInfo},
    },
};

/// The flag of a region that hosts can share (DSMAS in CDAT, bit 3).
const SHARABLE: u8 = 1 << 3;

/// One device.
#[derive(Clone, Debug)]
pub(super) struct Device {
    pub(super) name: DeviceName,
    pub(super) chooser: Chooser,
    pub(super) link: Link,
    /// What the command is for that has no reply yet.
    pub(super) in_flight: Option<InFlight>,
    /// Whether the event log may have something.
    pub(super) events: Events,
    /// The overflow that was seen last: the same again is no other one.
    pub(super) overflow: Option<Overflow>,
    /// What is to be read again, in this order.
    pub(super) unread: BTreeSet<Subject>,
    /// What was read so far of a list that comes in pages.
    pub(super) page: Page,
    /// As read last; also of an earlier connection.
    pub(super) info: Option<Info>,
    pub(super) regions: Vec<HostRegion>,
    /// Whether the regions are of this connection.
    pub(super) regions_read: Asked,
    /// Whether all was read in this connection, and ever.
    pub(super) seen: Seen,
    pub(super) held: BTreeMap<HostId, Vec<DcExtent>>,
    /// Nothing: the device does not list tags.
    pub(super) tags: Option<Vec<TagInfo>>,
    pub(super) ports: BTreeMap<HostId, Port>,
    /// Where tags are that are kept.
    pub(super) references: BTreeMap<Tag, Vec<DpaRange>>,
    /// What the device refused to offer though it looked free: not tried again until then.
    pub(super) avoid: Vec<(DpaRange, Instant)>,
    /// Nothing is sent before: the device said "later".
    pub(super) quiet_until: Instant,
    /// What was given to whom and not overwritten since, in regions that do not do that.
    pub(super) unsanitized: BTreeMap<Former, Ranges>,
    /// Regions that it was tried to have overwritten on release, in this connection.
    pub(super) configured: BTreeSet<u8>,
}

/// Whether there is a connection.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Link {
    Down,
    Up,
    Unusable,
}

/// Whether all of a device was read.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Seen {
    Never,
    Earlier,
    Now,
}

/// Whether the event log may have something.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Events {
    Quiet,
    Pending,
}

/// Something that is read.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) enum Subject {
    Info,
    Regions(HostId),
    Extents(HostId),
    Tags,
}

/// A list, as far as it was read.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(super) struct Page {
    pub(super) asked: Asked,
    pub(super) generation: Option<u32>,
    pub(super) restarts: u32,
    pub(super) extents: Vec<DcExtent>,
    pub(super) tags: Vec<TagInfo>,
}

/// Whether something was asked for: a list, the reply that comes next belongs to it.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) enum Asked {
    #[default]
    No,
    Yes,
}

/// What a command is for.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum InFlight {
    Events,
    Clear,
    Read(Subject),
    Configure(u8),
    Offer(HostId),
    Withdraw(HostId),
    Release { request: RequestId, host: HostId, extents: Vec<DcExtent>, force: Force },
    Reference(RequestId),
}

/// A host's part in a device.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Port {
    pub(super) name: HostName,
    /// As set up.
    pub(super) configured: Limits,
    /// As changed since.
    pub(super) changed: Option<Limits>,
    /// What it has been offered.
    pub(super) offer: Option<Offer>,
    /// What it said last of what stays, and why.
    pub(super) answer: Option<HostAnswer>,
    /// What its programs use, if it says so.
    pub(super) used: Option<u64>,
    /// Until when it is not asked to give, because it got, or is not given, because it gave.
    pub(super) got_until: Instant,
    pub(super) gave_until: Instant,
    /// Until when it is offered nothing of the manager's own accord: it declined such an offer.
    pub(super) declined_until: Instant,
    /// The last offer that was withdrawn, and that it has not answered.
    pub(super) withdrawn: Option<Withdrawn>,
    /// What the device was told to overwrite when it comes back.
    pub(super) told_to_sanitize: Ranges,
}

/// An offer.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Offer {
    pub(super) record: OfferRecord,
    pub(super) standing: Standing,
    /// When it was made.
    pub(super) since: Instant,
    /// When it is withdrawn if it has no answer.
    pub(super) due: Instant,
    /// What counts as the host's because of this offer, and is not if nothing was taken of it.
    /// Nothing once that can no longer be known.
    pub(super) touched: Ranges,
}

/// An offer that was withdrawn.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Withdrawn {
    pub(super) record: OfferRecord,
    pub(super) silence: Silence,
}

/// Whether the device still waits for the answer to an offer that was withdrawn.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Silence {
    /// It does.
    Certain,
    /// Perhaps not.
    Doubtful,
}

/// How far an offer is.
///
/// ```text
///                          ┌── time ──▶ Overdue ── all read ──▶ Withdrawn ── all read ──▶ (over)
///   Sent ── success ──▶ Pending ── record ──▶ Answered ── extents read ──▶ (over)
///    │ ▲                   │ records lost                        ▲
///    │ └── not found ── InDoubt ── found accepted ───────────────┘
///    └── no reply ─────────▲
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Standing {
    /// The command has no reply yet; it is the first or another one for these bytes.
    Sent(Attempt),
    /// The host has it before it.
    Pending,
    /// And its time is over: the device is asked once more whether it was answered.
    Overdue,
    /// The host has answered; its list tells what.
    Answered,
    /// Nobody here knows whether the device has it.
    InDoubt(Attempt),
    /// The device took it back, or does not know it.
    Withdrawn(Silence),
}

/// Whether these bytes may have been offered before.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Attempt {
    First,
    Again,
    /// The device refused it, as it does with what it has already.
    Refused(ReturnCode),
}

impl Offer {
    /// One that an earlier manager made, perhaps.
    pub(super) fn recalled(record: OfferRecord, now: Instant, due: Instant) -> Self {
        let touched = Ranges::default();
        Self { record, standing: Standing::InDoubt(Attempt::Again), since: now, due, touched }
    }

    /// Nobody here knows any more what became of it.
    pub(super) fn doubt(&mut self) {
        self.standing = Standing::InDoubt(Attempt::Again);
        self.touched = Ranges::default();
    }

    /// Whether the device has it, and the host's answer is what is missing.
    pub(super) fn waits(&self) -> bool {
        matches!(self.standing, Standing::Pending | Standing::Overdue)
    }
}

impl Port {
    fn new(name: HostName, configured: Limits) -> Self {
        let start = Instant::default();
        Self {
            name,
            configured,
            changed: None,
            offer: None,
            answer: None,
            used: None,
            got_until: start,
            gave_until: start,
            declined_until: start,
            withdrawn: None,
            told_to_sanitize: Ranges::default(),
        }
    }

    /// What it may have.
    pub(super) fn limits(&self) -> Limits {
        self.changed.unwrap_or(self.configured)
    }

    /// Whether it can be offered something: nothing is out, and nothing that was withdrawn waits
    /// for its answer.
    pub(super) fn takes_offers(&self) -> bool {
        let silent = self.withdrawn.as_ref().is_some_and(|it| it.silence == Silence::Certain);
        self.offer.is_none() && !silent
    }

    /// Bytes that it is offered.
    pub(super) fn pending(&self) -> u64 {
        self.offer.as_ref().map_or(0, |offer| offer.record.bytes)
    }
}

impl Device {
    /// A device of which nothing is known but how it is set up.
    pub(super) fn new(config: DeviceConfig) -> Self {
        let port = |host: super::HostConfig| (host.host, Port::new(host.name, host.limits));
        Self {
            name: config.name,
            chooser: config.chooser,
            link: Link::Down,
            in_flight: None,
            events: Events::Quiet,
            overflow: None,
            unread: BTreeSet::from([Subject::Info]),
            page: Page::default(),
            info: None,
            regions: Vec::new(),
            regions_read: Asked::No,
            seen: Seen::Never,
            held: BTreeMap::new(),
            tags: None,
            ports: config.hosts.into_iter().map(port).collect(),
            references: BTreeMap::new(),
            avoid: Vec::new(),
            quiet_until: Instant::default(),
            unsanitized: BTreeMap::new(),
            configured: BTreeSet::new(),
        }
    }

    /// Whether what is known of it is what it says now.
    pub(super) fn is_ready(&self) -> bool {
        self.link == Link::Up && self.unread.is_empty() && self.events == Events::Quiet
    }

    /// The number of a host.
    pub(super) fn host_id(&self, name: &HostName) -> Option<HostId> {
        self.ports.iter().find(|(_, port)| port.name == *name).map(|(&host, _)| host)
    }

    pub(super) fn port_mut(&mut self, host: HostId) -> &mut Port {
        self.ports.get_mut(&host).expect("requests are only for hosts that are set up")
    }

    /// What a host has.
    pub(super) fn held_by(&self, host: HostId) -> &[DcExtent] {
        self.held.get(&host).map_or(&[], Vec::as_slice)
    }

    /// How many bytes a host has.
    pub(super) fn held_bytes(&self, host: HostId) -> u64 {
        let lengths = self.held_by(host).iter().map(|extent| extent.range.length);
        lengths.fold(0, u64::saturating_add)
    }

    /// Whether any host has something under a tag, or is offered it, or it is kept.
    pub(super) fn has_tag(&self, tag: Tag) -> bool {
        let mut held = self.held.values().flatten();
        let mut offers = self.ports.values().filter_map(|port| port.offer.as_ref());
        held.any(|extent| extent.tag == tag)
            || offers.any(|offer| offer.record.tag == tag)
            || self.references.contains_key(&tag)
            || self.tags.iter().flatten().any(|info| info.tag == tag)
    }

    /// What is under a tag, wherever it is held or kept: its extents once, in order.
    pub(super) fn extents_of(&self, tag: Tag) -> Vec<DpaRange> {
        let held = self.held.values().flatten().filter(|extent| extent.tag == tag);
        let held: Ranges = held.map(|extent| extent.range).collect();
        match self.references.get(&tag) {
            Some(kept) if held.is_empty() => kept.clone(),
            _ => held.to_vec(),
        }
    }

    /// The region that has an address, and its number.
    pub(super) fn region_of(&self, start: u64) -> Option<(u8, &HostRegion)> {
        let mut regions = (0..).zip(&self.regions);
        regions.find(|(_, region)| range_of(region).contains(DpaRange::new(start, 1)))
    }

    /// All that can ever be given out: bytes.
    pub(super) fn capacity(&self) -> u64 {
        let regions: Vec<DpaRange> = self.regions.iter().map(range_of).collect();
        let total = self.info.as_ref().map_or(0, |info| info.total_capacity);
        bytes_of(&regions).min(total)
    }

    /// The offer that a device chose the place of, if one is out: no other one is made meanwhile.
    pub(super) fn is_choosing(&self) -> bool {
        let mut offers = self.ports.values().filter_map(|port| port.offer.as_ref());
        offers.any(|offer| offer.record.extents.is_empty())
    }
}

/// The addresses of a region that may have something behind them.
pub(super) fn range_of(region: &HostRegion) -> DpaRange {
    DpaRange::new(region.base, region.length)
}

/// Whether hosts can share what is in a region.
pub(super) fn is_sharable(region: &HostRegion) -> bool {
    region.dsmas_flags & SHARABLE != 0
}

/// Whether what is released in a region is overwritten without being told.
pub(super) fn sanitizes(region: &HostRegion) -> bool {
    region.sanitize == Sanitize::OnRelease
}

impl Device {
    /// Whether nothing that is free in a region can be somebody's data: it overwrites what is
    /// released, and did when all of it was.
    pub(super) fn is_clean_region(&self, region: &HostRegion) -> bool {
        let is_clean = |former: &Ranges| former.common(range_of(region)).is_empty();
        sanitizes(region) && self.unsanitized.values().all(is_clean)
    }
}
