//! What a device says of itself: its event log, what it is, its regions, extents and tags.
//!
//! The log comes first and is read until it is empty; then what is unread, in the order of
//! [`Subject`]. A list that comes in pages is begun anew when its generation changes under it, but
//! not for ever: a device that never stops is believed at last. It is begun anew as well when the
//! device refuses a later page, because a list that became shorter has none there.

use alloc::{collections::BTreeSet, vec::Vec};

use memtide_units::{DcExtent, DpaRange, Tag};

use super::{
    device::{
        Asked, Events, InFlight, Link, Offer, Page, Seen, Standing, Subject, is_sharable, range_of,
        sanitizes,
    },
    exchange::{Command, Reply, Response},
    journal::OfferRecord,
    output::Notice,
    ranges::Ranges,
    state::Manager,
};
use crate::{
    ReturnCode,
    command::{
        HostId, Sanitize,
        events::{
            Clear, ClearEventRecords, DynamicCapacityEvent, DynamicCapacityEventKind as Kind,
            EventBody, EventLog, EventRecords, GetEventRecords,
        },
        fabric_manager::{
            GetHostConfiguration, GetHostExtents, GetInfo, HostConfiguration, HostExtents,
            ListTags, SetConfiguration, Tags,
        },
    },
};

/// Extents or tags in a page: what the smallest mailbox that devices have (4 KiB) can return.
const PAGE: u32 = 32;
/// Most extents of one host, and most tags, that are looked at.
const MOST: usize = 65_536;
/// How often a list is begun anew.
const RESTARTS_MOST: u32 = 16;

impl Manager {
    /// A new connection: everything is read.
    pub(super) fn connect(&mut self, on: usize) {
        self.disconnect(on);
        let device = &mut self.devices[on];
        device.link = Link::Up;
        device.events = Events::Pending;
        device.unread = BTreeSet::from([Subject::Info]);
        device.page = Page::default();
        device.configured.clear();
        device.avoid.clear();
        device.doubt_withdrawn();
        device.quiet_until = self.now;
        // It may have been reset, and know of nothing that it was told to overwrite: so it is told
        // again. And what became of an offer may not be all in its log.
        for port in device.ports.values_mut() {
            port.told_to_sanitize = Ranges::default();
            port.offer.iter_mut().for_each(|offer| offer.touched = Ranges::default());
        }
        let now = self.now;
        let open = self.requests.values_mut().filter(|entry| entry.is_open() && entry.on == on);
        for entry in open.filter(|entry| !entry.record.asked_back.is_empty()) {
            entry.pace.ask_again(now);
        }
    }

    /// What was in flight will have no reply.
    pub(super) fn disconnect(&mut self, on: usize) {
        let now = self.now;
        let device = &mut self.devices[on];
        device.link = Link::Down;
        if device.seen == Seen::Now {
            device.seen = Seen::Earlier;
        }
        match device.in_flight.take() {
            Some(InFlight::Offer(host)) => {
                if let Some(offer) = &mut device.port_mut(host).offer {
                    offer.doubt();
                }
            }
            Some(InFlight::Release { request, .. } | InFlight::Reference(request)) => {
                if let Some(entry) = self.requests.get_mut(&request) {
                    entry.pace.ask_again(now);
                }
            }
            _ => {}
        }
    }

    /// The next thing to read, if there is any.
    pub(super) fn next_reading(&mut self, on: usize) -> Option<(InFlight, Command)> {
        let device = &mut self.devices[on];
        if device.events == Events::Pending {
            let command = GetEventRecords { log: EventLog::DynamicCapacity };
            return Some((InFlight::Events, Command::GetEventRecords(command)));
        }
        let &subject = device.unread.first()?;
        let command = match subject {
            Subject::Info => Command::GetInfo(GetInfo),
            Subject::Regions(host) => {
                Command::GetHostConfiguration(GetHostConfiguration { host, count: 8, start: 0 })
            }
            Subject::Extents(host) => Command::GetHostExtents(GetHostExtents {
                host,
                count: PAGE,
                start: u32::try_from(device.page.extents.len()).expect("at most MOST"),
            }),
            Subject::Tags => Command::ListTags(ListTags {
                start: u32::try_from(device.page.tags.len()).expect("at most MOST"),
                count: PAGE,
            }),
        };
        device.page.asked = Asked::Yes;
        Some((InFlight::Read(subject), command))
    }

    /// A region that is not overwritten on release, could be, and that nobody has anything of.
    pub(super) fn next_configuring(&mut self, on: usize) -> Option<(InFlight, Command)> {
        let device = &self.devices[on];
        let info = device.info.as_ref()?;
        let may = |number: u8| {
            info.sanitize_configurable >> number & 1 == 1 && !device.configured.contains(&number)
        };
        let is_used = |range: DpaRange| {
            let mut held = device.held.values().flatten().map(|extent| extent.range);
            let mut offers = device.ports.values().filter_map(|port| port.offer.as_ref());
            held.any(|held| held.overlaps(range)) || offers.any(|_| true)
        };
        let mut regions = (0..8).zip(&device.regions);
        let (number, region) = regions.find(|&(number, region)| {
            may(number) && !sanitizes(region) && !is_used(range_of(region))
        })?;
        let command = SetConfiguration {
            region: number,
            block_size: region.block_size,
            sanitize: Sanitize::OnRelease,
        };
        self.devices[on].configured.insert(number);
        Some((InFlight::Configure(number), Command::SetConfiguration(command)))
    }

    /// A device's reply.
    pub(super) fn replied(&mut self, on: usize, flight: InFlight, reply: Reply) {
        if let Err(code @ (ReturnCode::RETRY_REQUIRED | ReturnCode::BUSY)) = reply {
            return self.later(on, flight, code);
        }
        match (flight, reply) {
            (InFlight::Events, Ok(Response::EventRecords(records))) => self.events(on, records),
            (InFlight::Events, Err(_)) => self.no_log(on),
            (InFlight::Read(Subject::Info), Ok(Response::Info(info))) => self.info(on, info),
            (InFlight::Read(Subject::Regions(host)), Ok(Response::HostConfiguration(regions))) => {
                self.host_regions(on, host, regions);
            }
            (InFlight::Read(Subject::Extents(host)), Ok(Response::HostExtents(extents))) => {
                self.host_extents(on, host, extents);
            }
            (InFlight::Read(Subject::Tags), Ok(Response::Tags(tags))) => self.read_tags(on, tags),
            // The list has become shorter than where this page begins.
            (InFlight::Read(Subject::Extents(_) | Subject::Tags), Err(_))
                if self.devices[on].page.begin_anew() => {}
            (InFlight::Read(Subject::Tags), Err(_)) => {
                self.devices[on].tags = None;
                self.devices[on].unread.remove(&Subject::Tags);
            }
            (InFlight::Clear, Ok(_)) => {}
            // The same records come again, and mean nothing new; but not at once, for ever.
            (InFlight::Clear, Err(_)) => {
                self.be_quiet(on, self.now.after(self.timing.retry_first));
            }
            (InFlight::Configure(_), Ok(_)) => self.read_again(on, Subject::Info),
            (InFlight::Configure(_), Err(_)) => {}
            (InFlight::Offer(host), reply) => self.offer_replied(on, host, reply.err()),
            (InFlight::Withdraw(host), reply) => self.withdraw_replied(on, host, reply.err()),
            (InFlight::Release { request, host, extents, force }, reply) => {
                self.release_replied(on, request, host, extents, force, reply.err());
            }
            (InFlight::Reference(request), reply) => {
                self.reference_replied(on, request, reply.err());
            }
            (InFlight::Events | InFlight::Read(_), Ok(_)) => {
                self.unusable(on, "the reply's kind", 0, "that of the command");
            }
            (InFlight::Read(_), Err(code)) => {
                self.unusable(on, "the return code", u64::from(code.0), "success");
            }
        }
    }

    /// The device cannot just now. Whatever it was is done again after a pause.
    fn later(&mut self, on: usize, flight: InFlight, code: ReturnCode) {
        let until = self.now.after(self.timing.retry_first);
        match flight {
            InFlight::Offer(host) => self.offer_not_made(on, host, code),
            InFlight::Withdraw(host) => {
                if let Some(offer) = &mut self.devices[on].port_mut(host).offer {
                    (offer.standing, offer.due) = (Standing::Pending, until);
                }
                // What was looked at of others is not what there is after the pause either.
                self.be_quiet(on, until);
            }
            InFlight::Release { request, .. } | InFlight::Reference(request) => {
                if let Some(entry) = self.requests.get_mut(&request) {
                    entry.pace.ask_again(until);
                }
            }
            InFlight::Configure(region) => {
                self.devices[on].configured.remove(&region);
                self.be_quiet(on, until);
            }
            InFlight::Events | InFlight::Clear | InFlight::Read(_) => {
                self.be_quiet(on, until);
            }
        }
    }

    pub(super) fn read_again(&mut self, on: usize, subject: Subject) {
        let device = &mut self.devices[on];
        device.unread.insert(subject);
        // Of whatever it is: it may not be the next any more, or may have changed.
        device.page = Page::default();
    }

    /// All hosts' extents, and the tags.
    pub(super) fn read_all_again(&mut self, on: usize) {
        let hosts = self.devices[on].info.as_ref().map_or(0, |info| u16::from(info.hosts));
        (0..hosts).for_each(|host| self.read_again(on, Subject::Extents(HostId(host))));
        self.read_again(on, Subject::Tags);
    }

    fn unusable(&mut self, on: usize, field: &'static str, value: u64, expected: &'static str) {
        self.devices[on].link = Link::Unusable;
        self.note(on, Notice::Unusable { field, value, expected });
    }

    /// Records: what they tell is read again, and they are cleared.
    fn events(&mut self, on: usize, records: EventRecords) {
        let is_new = records.overflow.is_some() && records.overflow != self.devices[on].overflow;
        if is_new {
            let count = records.overflow.map_or(0, |overflow| overflow.count);
            self.note(on, Notice::Overflow { count });
            self.read_all_again(on);
            self.doubt_all(on);
        }
        self.devices[on].overflow = records.overflow;
        for record in &records.records {
            if let EventBody::DynamicCapacity(event) = record.body {
                self.event(on, event);
            }
        }
        let handles: Vec<u16> = records.records.iter().map(|record| record.handle).collect();
        let what = match handles.is_empty() {
            false => Clear::Handles(handles.into_iter().take(usize::from(u8::MAX)).collect()),
            // Until that is cleared, nothing else that is lost is told.
            true if is_new => Clear::All,
            true => {
                self.devices[on].events = Events::Quiet;
                return;
            }
        };
        let command = ClearEventRecords { log: EventLog::DynamicCapacity, what };
        self.send(on, InFlight::Clear, Command::ClearEventRecords(command));
    }

    fn event(&mut self, on: usize, event: DynamicCapacityEvent) {
        match event.kind {
            Kind::AddResponse => {
                self.read_again(on, Subject::Extents(event.host));
                self.note_accepted(on, event.host, event.extent.range);
                if self.is_answer_to_dead(on, event.host, event.extent) {
                    return;
                }
                let Some(port) = self.devices[on].ports.get_mut(&event.host) else { return };
                let has_dead = port.withdrawn.is_some();
                let Some(offer) = &mut port.offer else { return };
                if offer.is_answered_by(event.extent) {
                    // It may have had some of it; or this is about the dead one.
                    if event.extent.range.length != 0 || has_dead {
                        offer.touched = Ranges::default();
                    }
                    offer.standing = Standing::Answered;
                }
            }
            Kind::CapacityReleased => self.read_again(on, Subject::Extents(event.host)),
            Kind::RegionConfigurationUpdated => self.read_again(on, Subject::Info),
            Kind::Add | Kind::Release | Kind::ForcedRelease => {}
        }
    }

    /// There is no log: whenever it would have something, everything is read.
    fn no_log(&mut self, on: usize) {
        self.devices[on].events = Events::Quiet;
        // No record will tell of an answer.
        self.devices[on].doubt_withdrawn();
        self.read_all_again(on);
    }

    fn info(&mut self, on: usize, info: crate::command::fabric_manager::Info) {
        if info.hosts == 0 {
            return self.unusable(on, "the number of hosts", 0, "1 or more");
        }
        let device = &self.devices[on];
        let beyond = device.ports.keys().find(|host| host.0 >= u16::from(info.hosts));
        if let Some(&HostId(host)) = beyond {
            let expected = "below the number of hosts that the device has room for";
            return self.unusable(on, "the number of a host that is set up", host.into(), expected);
        }
        let hosts: Vec<HostId> = device.ports.keys().copied().collect();
        self.devices[on].info = Some(info);
        self.devices[on].unread.remove(&Subject::Info);
        // A device that nobody is set up for is still told of.
        let first = hosts.is_empty().then_some(HostId(0));
        for host in hosts.into_iter().chain(first) {
            self.read_again(on, Subject::Regions(host));
        }
        self.devices[on].regions_read = Asked::No;
        self.read_all_again(on);
    }

    /// All hosts see the same regions, and the regions make sense.
    fn host_regions(&mut self, on: usize, host: HostId, answer: HostConfiguration) {
        let regions = answer.regions;
        if regions.is_empty() || regions.len() > 8 || regions.len() != usize::from(answer.available)
        {
            let count = regions.len() as u64;
            return self.unusable(on, "the number of regions", count, "1 to 8, all at once");
        }
        let mut end = 0;
        for region in &regions {
            let range = range_of(region);
            let block = region.block_size;
            if !block.is_power_of_two() || block < 64 {
                return self.unusable(on, "a block size", block, "a power of two from 64");
            }
            if range.length == 0 || !range.is_aligned(block) || range.end() >= 1 << 64 {
                let length = range.length;
                return self.unusable(on, "a region's length", length, "blocks, below 2^64");
            }
            if range.start < end {
                return self.unusable(on, "a region's base", range.start, "past the one before");
            }
            end = range.start + range.length;
        }
        let device = &mut self.devices[on];
        if device.regions_read == Asked::No {
            device.regions = regions;
            device.regions_read = Asked::Yes;
        } else if device.regions != regions {
            let host = u64::from(host.0);
            return self.unusable(on, "the host with other regions", host, "all to see the same");
        }
        self.devices[on].unread.remove(&Subject::Regions(host));
    }

    fn host_extents(&mut self, on: usize, host: HostId, answer: HostExtents) {
        let regions: Vec<DpaRange> = self.devices[on].regions.iter().map(range_of).collect();
        let page = &mut self.devices[on].page;
        if page.is_of_another(answer.generation) {
            return;
        }
        let came = answer.extents.len();
        page.extents.extend(answer.extents);
        let more = came != 0 && page.extents.len() < (answer.total as usize).min(MOST);
        if more {
            return;
        }
        let mut extents = core::mem::take(&mut self.devices[on].page).extents;
        // What lies in no region cannot be given out, whoever has it.
        extents.retain(|extent| regions.iter().any(|region| region.contains(extent.range)));
        extents.retain(|extent| extent.range.length != 0);
        extents.sort_unstable();
        extents.dedup();
        self.devices[on].unread.remove(&Subject::Extents(host));
        self.has(on, host, extents);
    }

    /// A host has this, and nothing else.
    fn has(&mut self, on: usize, host: HostId, extents: Vec<DcExtent>) {
        let held: Ranges = extents.iter().map(|extent| extent.range).collect();
        self.devices[on].held.insert(host, extents);
        self.came_back(on, host, &held);
        self.overwritten(on, host, &held);
        self.note_held(on, host);
    }

    fn read_tags(&mut self, on: usize, answer: Tags) {
        let page = &mut self.devices[on].page;
        if page.is_of_another(answer.generation) {
            return;
        }
        let came = answer.tags.len();
        page.tags.extend(answer.tags);
        if came != 0 && page.tags.len() < (answer.total as usize).min(MOST) {
            return;
        }
        let tags = core::mem::take(&mut self.devices[on].page).tags;
        self.devices[on].tags = Some(tags);
        self.devices[on].unread.remove(&Subject::Tags);
        self.forget_references(on);
    }

    /// Everything was read for the first time in a connection.
    pub(super) fn look_for_two_owners(&mut self, on: usize) {
        let device = &self.devices[on];
        let mut seen = Ranges::default();
        let mut twice = Vec::new();
        for extent in device.held.values().flatten() {
            let sharable = device.region_of(extent.range.start).is_some_and(|r| is_sharable(r.1));
            if !sharable {
                twice.extend(seen.common(extent.range));
            }
            seen.insert(extent.range);
        }
        for range in twice {
            self.note(on, Notice::TwoOwners { range });
        }
    }
}

impl Offer {
    /// Whether a record is about this offer. What was not taken has no length; it is named by where
    /// its first extent is and by its tag, or not at all.
    pub(super) fn is_answered_by(&self, extent: DcExtent) -> bool {
        let OfferRecord { extents, tag, .. } = &self.record;
        let first = DpaRange::new(extent.range.start, extent.range.length.max(1));
        let is_here = extents.iter().any(|range| range.overlaps(first));
        let is_named = !tag.is_null() && extent.tag == *tag;
        is_here
            || is_named
            || extent == DcExtent { range: DpaRange::new(0, 0), tag: Tag::NULL, sequence: 0 }
    }
}

impl Page {
    /// Whether what came belongs to another reading than what was read; then it is begun anew.
    fn is_of_another(&mut self, generation: u32) -> bool {
        if self.asked == Asked::No {
            return true;
        }
        let was = self.generation.replace(generation);
        let same = was.is_none_or(|was| was == generation);
        !same && self.restart()
    }

    /// Whether a page past the first was refused; then the list is begun anew, unless that was done
    /// too often.
    fn begin_anew(&mut self) -> bool {
        let is_first = self.extents.is_empty() && self.tags.is_empty();
        !is_first && self.restart()
    }

    /// Begins anew, unless that was done too often.
    fn restart(&mut self) -> bool {
        if self.restarts == RESTARTS_MOST {
            return false;
        }
        *self = Self { restarts: self.restarts + 1, ..Self::default() };
        true
    }
}
