//! A device with dynamic capacity that several hosts share, as the specification has it (CXL 3.1,
//! 9.13.3): a state machine that hosts and a fabric manager talk to.
//!
//! ```text
//!               5604h                4802h
//!      ┌─ free ───────▶ offered ───────────────▶ held
//!      │   ▲ ▲             │ left out, or          │ 4803h, or forced
//!      │   │ └─────────────┘ forced                │
//!      │   │ overwritten                           ▼ to be sanitized?
//!      │   └──────────── sanitizing ◀────── yes ───┴─── no ──▶ free
//! ```
//!
//! **Addresses.** Every host has the same regions, and the same medium behind the same device
//! address. (The specification lets a device give each host addresses of its own.) So a block of
//! an exclusive region has one owner at most: nobody, a host that it is offered to, a host that
//! has accepted it, or the one who overwrites it. A block of a sharable region is under one tag,
//! and belongs to all hosts that have the tag. Sharable capacity is one allocation in one region;
//! to enable access to it through another region is refused, as a device may.
//!
//! **Offers.** What one 5604h offers is one group: its records are chained with More, and it is
//! answered by one 4802h (or a chain of them). Groups are answered in order. The answer names
//! extents as they were offered, and what it does not name is refused; all of a sharable tag, or
//! none. Records of offers and requests are never lost: a command whose records do not fit is
//! refused with Retry Required, or, where they never could, Resources Exhausted. A host that
//! clears its log unread still owes the answers; an empty one refuses. Nothing times out.
//!
//! **Taking back.** 5605h asks, and the host releases what it likes, in whole blocks and at any
//! time; all of a sharable tag, or none. Forced, it takes effect at once, and only its record can
//! be lost. An offer of which anything is taken by force is dead as a whole: its capacity is free,
//! and the group stays in the queue until the host's answer, which cannot accept anything.
//!
//! **Tags.** A tag that is not null names one allocation; a second one under it is refused for as
//! long as it is used. Sequence numbers in sharable regions are 0 to n-1, those that a manager
//! prescribes may be 1 to n (an older revision), and they are 0 elsewhere. A reference of the
//! manager keeps sharable capacity, and its contents, when its last host has released it.
//!
//! **Sanitizing.** What was held, and is released where the region or the request says so, is
//! free only once the caller has overwritten it ([`Effect::Sanitize`], [`Device::sanitized`]).
//! Sharable capacity is overwritten when the last host and the manager have let go of it. An
//! offer that is refused was never accessible and is free at once.
//!
//! **Reset of a host.** Its log is emptied and its shares of sharable capacity end, as the
//! specification wants, without a record for the host. What it accepted of exclusive capacity
//! stays: it finds that in its extent list. Its offers end, since their records are gone and it
//! could not answer them in order. The manager is told of both.
//!
//! **What it remembers** is bounded ([`Limits`]). Available extents and tags, as they are told,
//! are those of the host's limit that neither offers (dead ones, too), nor held capacity, nor
//! what only the manager's reference keeps, take up (9.13.3.3).
//!
//! It does no I/O and knows no time but what [`Device::set_time`] says. Each command is checked
//! in full before it changes anything; [`Refusal`] says what was wrong and which return code that
//! is. [`Device::validate`] holds it to the rules above.
//!
//! Not modelled: reset of the whole device, media errors, read-only and non-volatile regions,
//! locking (TSP), and the logs of events other than dynamic capacity, which are always empty.

mod add_response;
mod config;
mod extents;
mod held;
mod host;
mod initiate_add;
mod initiate_release;
mod log;
mod prescribed;
mod query;
mod ranges;
mod refusal;
mod region;
mod release;
mod reset;
mod set_configuration;
mod shared;
mod taking;
mod validate;

use alloc::{collections::BTreeMap, vec::Vec};

use memtide_units::{DcExtent, DpaRange, Tag};

pub use self::{
    config::{
        BLOCK_BYTES_MIN, BLOCK_SIZES, CAPACITY_UNIT, Config, ConfigError, HOSTS_MAX, Limits,
        REGIONS_MAX, RegionConfig, SanitizeControl, Sharing,
    },
    refusal::Refusal,
};
use self::{
    host::Host,
    log::{Appended, Log},
    region::Region,
    shared::Shared,
};
use crate::command::{
    HostId, More,
    events::{DynamicCapacityEvent, DynamicCapacityEventKind},
};

/// A device.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Device {
    serial: u64,
    regions: Vec<Region>,
    hosts: Vec<Host>,
    /// Sharable capacity that somebody has, is offered, or keeps.
    shared: BTreeMap<Tag, Shared>,
    /// The manager's event log.
    log: Log,
    /// Another number whenever the list of tags may have changed.
    tags_generation: u32,
    total_capacity: u64,
    limits: Limits,
    time: u64,
    effects: Vec<Effect>,
}

/// What the caller has to do.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
#[non_exhaustive]
pub enum Effect {
    /// Interrupt a host: its event log is no longer empty.
    HostEvent(HostId),
    /// Notify the manager: its event log is no longer empty.
    ManagerEvent,
    /// This host may access this from now on.
    Gained {
        /// Which.
        host: HostId,
        /// What.
        range: DpaRange,
    },
    /// This host may access this no more. It comes before what happens to it next.
    Ended {
        /// Which.
        host: HostId,
        /// What.
        range: DpaRange,
    },
    /// Overwrite this, then say so with [`Device::sanitized`]. Nobody has it.
    Sanitize {
        /// What.
        range: DpaRange,
    },
}

/// What is said to be overwritten is not waiting for it.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{range} is overwritten; expected a range that is being sanitized")]
pub struct NotSanitizing {
    /// What.
    pub range: DpaRange,
}

impl Device {
    /// A device of which everything is free.
    ///
    /// # Errors
    /// [`ConfigError`] says what there cannot be.
    pub fn new(config: Config) -> Result<Self, ConfigError> {
        config.check()?;
        let Config { serial, hosts, regions, total_capacity, limits } = config;
        let records = limits.event_records;
        Ok(Self {
            serial,
            regions: regions.into_iter().map(Region::new).collect(),
            hosts: (0..hosts).map(|_| Host::new(records)).collect(),
            shared: BTreeMap::new(),
            log: Log::new(records),
            tags_generation: 0,
            total_capacity,
            limits,
            time: 0,
            effects: Vec::new(),
        })
    }

    /// Its serial number.
    #[must_use]
    pub const fn serial(&self) -> u64 {
        self.serial
    }

    /// What it remembers at most.
    #[must_use]
    pub const fn limits(&self) -> Limits {
        self.limits
    }

    /// Its hosts.
    pub fn hosts(&self) -> impl Iterator<Item = HostId> + use<> {
        // There are 255 at most.
        (0..self.hosts.len() as u16).map(HostId)
    }

    /// The time that event records get from now on: nanoseconds since 1970, or 0 if nobody knows.
    pub const fn set_time(&mut self, nanoseconds: u64) {
        self.time = nanoseconds;
    }

    /// What there is to do since the last call, in order.
    pub fn take_effects(&mut self) -> Vec<Effect> {
        core::mem::take(&mut self.effects)
    }

    /// What waits to be overwritten, ascending.
    pub fn sanitizing(&self) -> impl Iterator<Item = DpaRange> {
        self.regions.iter().flat_map(|region| region.sanitizing.iter())
    }

    /// What a host was offered and can still accept, the oldest first, one list for each answer.
    pub fn offers(&self, host: HostId) -> impl Iterator<Item = &[DcExtent]> {
        let host = self.hosts.get(usize::from(host.0)).into_iter();
        let open = host.flat_map(|host| &host.offers);
        open.filter(|offer| offer.state == host::OfferState::Open)
            .map(|offer| offer.extents.as_slice())
    }

    /// Says that a range, or a part of one, has been overwritten: it is free now.
    ///
    /// # Errors
    /// It is not waiting for that.
    pub fn sanitized(&mut self, range: DpaRange) -> Result<(), NotSanitizing> {
        let waits = |region: &&mut Region| range.exists() && region.sanitizing.contains(range);
        let region = self.regions.iter_mut().find(waits).ok_or(NotSanitizing { range })?;
        if !range.is_aligned(region.config.block_size) {
            return Err(NotSanitizing { range });
        }
        region.sanitizing.remove(range);
        region.free.insert(range);
        Ok(())
    }

    /// The number of a host, if there is one.
    fn known(&self, host: HostId) -> Result<usize, Refusal> {
        let number = usize::from(host.0);
        let hosts = self.hosts.len();
        if number < hosts { Ok(number) } else { Err(Refusal::Host { host, hosts }) }
    }

    /// A region, if there is one.
    fn region(&self, region: u8) -> Result<&Region, Refusal> {
        let regions = self.regions.len();
        self.regions.get(usize::from(region)).ok_or(Refusal::Region { region, regions })
    }

    /// The region that a range lies in, by its number.
    fn region_of(&self, range: DpaRange) -> Option<usize> {
        let has = |region: &Region| region.config.usable().contains(range) && range.exists();
        self.regions.iter().position(has)
    }

    /// The region of a range that was checked before.
    fn region_behind(&mut self, range: DpaRange) -> &mut Region {
        let number = self.region_of(range).expect("what is offered or held lies in a region");
        &mut self.regions[number]
    }

    /// Bytes of the medium that are neither somebody's nor being overwritten.
    fn unused(&self) -> u64 {
        let taken: u64 = self.regions.iter().map(Region::taken).sum();
        self.total_capacity.saturating_sub(taken)
    }

    /// How many extents and tags this host can still get, not counting what is under `tag` only
    /// by the manager's reference.
    fn available(&self, host: usize, except: Option<Tag>) -> (usize, usize) {
        let kept = self.shared.iter().filter(|&(&tag, shared)| {
            shared.referenced && Some(tag) != except && !shared.is_with(host)
        });
        let (mut extents, mut tags) = (0, 0);
        for (_, shared) in kept {
            extents += shared.extents.len();
            tags += 1;
        }
        let host = &self.hosts[host];
        extents += host.tracked().count();
        tags += host.tags().len();
        let left = |limit: u32, used: usize| (limit as usize).saturating_sub(used);
        (left(self.limits.extents, extents), left(self.limits.tags, tags))
    }

    /// Tells a host of a group.
    fn tell_host(
        &mut self,
        host: usize,
        kind: DynamicCapacityEventKind,
        region: u8,
        extents: &[DcExtent],
    ) {
        // The field for the host is the manager's only.
        let group = self.group(host, HostId(0), kind, region, extents);
        if self.hosts[host].log.append(&group, self.time) == Appended::First {
            self.effects.push(Effect::HostEvent(HostId(host as u16)));
        }
    }

    /// Tells the manager of a group.
    fn tell_manager(&mut self, host: usize, kind: DynamicCapacityEventKind, extents: &[DcExtent]) {
        let group = self.group(host, HostId(host as u16), kind, 0, extents);
        if self.log.append(&group, self.time) == Appended::First {
            self.effects.push(Effect::ManagerEvent);
        }
    }

    /// A group of events, with what the host can still get.
    fn group(
        &self,
        host: usize,
        named: HostId,
        kind: DynamicCapacityEventKind,
        region: u8,
        extents: &[DcExtent],
    ) -> Vec<DynamicCapacityEvent> {
        let (extents_left, tags_left) = self.available(host, None);
        let event = |&extent: &DcExtent| DynamicCapacityEvent {
            kind,
            host: named,
            region,
            more: More::Last,
            extent,
            extents_available: extents_left as u32,
            tags_available: tags_left as u32,
        };
        extents.iter().map(event).collect()
    }
}
