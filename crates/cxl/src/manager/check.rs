//! Whether a request can be: all of it is looked at before anything is done.

use alloc::vec::Vec;

use memtide_units::{DpaRange, Instant, RequestId, Tag};

use super::{
    config::Limits,
    device::{Device, Seen, is_sharable},
    entry::{Entry, MAX_OPEN},
    journal::{Origin, RequestRecord},
    name::{DeviceName, HostName},
    ranges::{Ranges, bytes_of},
    report::{Report, State},
    request::{Forcing, Place, Policy, Request, RequestError, Rest, What},
    state::Manager,
};
use crate::command::{HostId, fabric_manager::Selection};

/// Most extents of one request, and of one command: what a mailbox of 4 KiB can take.
pub const MAX_EXTENTS: usize = 64;

/// Whether what hosts share is meant, too.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Exclusive {
    Only,
    Any,
}

type Whereabouts = (usize, Option<HostId>, Option<HostId>);

/// The bit of a selection policy in 5600h.
pub(super) const fn policy_bit(selection: Selection) -> u16 {
    1 << selection as u16
}

impl Manager {
    /// The request, if it can be.
    pub(super) fn check(
        &self,
        now: Instant,
        id: RequestId,
        request: Request,
    ) -> Result<Entry, RequestError> {
        let open = self.requests.values().filter(|entry| entry.is_open()).count();
        if open >= MAX_OPEN && !matches!(request, Request::Cancel { .. }) {
            return Err(RequestError::TooMany { open, most: MAX_OPEN });
        }
        let (on, from, to) = self.whereabouts(&request)?;
        let mut asked_back = Vec::new();
        let asked = match &request {
            Request::Add { to: place, size, tag, policy, rest, .. } => {
                let to = to.expect("an addition names a host");
                self.check_add(on, to, place, *size, *tag, policy, *rest)?
            }
            Request::Release { what, forcing, deadline, .. } => {
                let from = from.expect("a release names a host");
                if *forcing == Forcing::AtDeadline && deadline.is_none() {
                    return Err(RequestError::NoDeadline);
                }
                asked_back = self.check_release(on, from, what, Exclusive::Any)?;
                match *what {
                    What::Size(size) => size,
                    _ => bytes_of(&asked_back),
                }
            }
            Request::Move { from: place, size, .. } => {
                let (from, to) = (from.expect("it names both"), to.expect("it names both"));
                self.check_move(on, from, to, &place.host, *size)?;
                asked_back = self.check_release(on, from, &What::Size(*size), Exclusive::Only)?;
                *size
            }
            Request::AddReference { tag, .. } => self.check_reference(on, *tag, Vec::is_empty)?,
            Request::RemoveReference { tag, .. } => self.check_reference(on, *tag, |_| false)?,
            Request::SetLimits { limits, .. } => {
                self.check_limits(on, to.expect("it names a host"), *limits)?;
                0
            }
            Request::Cancel { request } => {
                let known = self.requests.get(request);
                if !known.is_some_and(Entry::is_open) {
                    return Err(RequestError::NotOpen { id: *request });
                }
                0
            }
        };
        let report = Report::new(id, asked, asked - bytes_of(&asked_back));
        let since = self.now.max(now).0;
        let origin = Origin::Operator;
        let record =
            RequestRecord { request, origin, since, report, asked_back, promised: Vec::new() };
        let entry = Entry::new(record, on, self.timing.retry_first);
        Ok(Entry { from, to, ..entry })
    }

    /// Which device and which hosts a request is about.
    pub(super) fn whereabouts(&self, request: &Request) -> Result<Whereabouts, RequestError> {
        Ok(match request {
            Request::Add { to, .. } | Request::SetLimits { of: to, .. } => {
                let (on, host) = self.place(to)?;
                (on, None, Some(host))
            }
            Request::Release { from, .. } => {
                let (on, host) = self.place(from)?;
                (on, Some(host), None)
            }
            Request::Move { from, to, .. } => {
                let (on, host) = self.place(from)?;
                (on, Some(host), Some(self.host_on(on, to)?))
            }
            Request::AddReference { device, .. } | Request::RemoveReference { device, .. } => {
                (self.device_named(device)?, None, None)
            }
            Request::Cancel { .. } => (0, None, None),
        })
    }

    fn device_named(&self, name: &DeviceName) -> Result<usize, RequestError> {
        let at = self.devices.iter().position(|device| device.name == *name);
        at.ok_or_else(|| RequestError::NoSuchDevice { device: name.clone() })
    }

    fn host_on(&self, on: usize, host: &HostName) -> Result<HostId, RequestError> {
        if !self.agents.contains_key(host) {
            return Err(RequestError::NoSuchHost { host: host.clone() });
        }
        let device = &self.devices[on];
        device.host_id(host).ok_or_else(|| RequestError::NotThere {
            host: host.clone(),
            device: device.name.clone(),
        })
    }

    fn place(&self, place: &Place) -> Result<(usize, HostId), RequestError> {
        let host = &place.host;
        if let Some(device) = &place.device {
            let on = self.device_named(device)?;
            return Ok((on, self.host_on(on, host)?));
        }
        let parts = self.devices.iter().enumerate();
        let parts = parts.filter_map(|(on, device)| Some((on, device.host_id(host)?)));
        let parts: Vec<(usize, HostId)> = parts.collect();
        match parts[..] {
            [] => Err(RequestError::NoSuchHost { host: host.clone() }),
            [part] => Ok(part),
            _ => Err(RequestError::WhichDevice { host: host.clone(), count: parts.len() }),
        }
    }

    /// The device, of which all was read at least once.
    fn seen(&self, on: usize) -> Result<&Device, RequestError> {
        let device = &self.devices[on];
        match device.seen {
            Seen::Never => Err(RequestError::NotConnected { device: device.name.clone() }),
            Seen::Earlier | Seen::Now => Ok(device),
        }
    }

    #[expect(clippy::too_many_arguments, reason = "they are the fields of one request")]
    fn check_add(
        &self,
        on: usize,
        to: HostId,
        place: &Place,
        size: u64,
        tag: Tag,
        policy: &Policy,
        rest: Rest,
    ) -> Result<u64, RequestError> {
        let device = self.seen(on)?;
        let (capacity, block) = device.room_in(place.region)?;
        let does = device.info.as_ref().map_or(0, |info| info.add_policies);
        let (selection, name) = device.selection(policy, tag, place.region);
        // Shared access has no bit.
        let is_shared = selection == Selection::EnableSharedAccess;
        if !is_shared && does & policy_bit(selection) == 0 {
            return Err(RequestError::Policy { device: device.name.clone(), policy: name });
        }
        let size = match policy {
            Policy::Free | Policy::Contiguous => {
                let mut regions = (0..).zip(&device.regions);
                let is_meant = |number: u8| place.region.is_none_or(|region| region == number);
                let shares = regions.all(|(number, known)| !is_meant(number) || is_sharable(known));
                if tag.is_null() && shares {
                    return Err(RequestError::NoTag);
                }
                if size == 0 || !size.is_multiple_of(block) {
                    return Err(RequestError::Size { size, block });
                }
                size
            }
            _ if size != 0 => return Err(RequestError::SizeGiven { size }),
            Policy::Prescriptive(extents) => {
                let extents = device.check_extents(extents, place.region)?;
                let region = extents.iter().next().and_then(|run| device.region_of(run.start));
                if tag.is_null() && region.is_some_and(|(_, region)| is_sharable(region)) {
                    return Err(RequestError::NoTag);
                }
                let free = self.free(on);
                let taken = extents.iter().find(|&extent| !free.contains(extent));
                if let (Some(extent), Rest::Drop) = (taken, rest) {
                    return Err(RequestError::NotFree { extent });
                }
                extents.bytes()
            }
            Policy::Shared => device.check_shared(to, tag)?,
        };
        if size > capacity {
            return Err(RequestError::MoreThanThereIs { size, capacity });
        }
        if !matches!(policy, Policy::Shared) && !tag.is_null() && self.is_tag_taken(on, tag) {
            return Err(RequestError::TagTaken { tag });
        }
        self.check_maximum(on, to, size)?;
        Ok(size)
    }

    fn check_maximum(&self, on: usize, to: HostId, size: u64) -> Result<(), RequestError> {
        let most = self.room(on, to, None);
        let port = &self.devices[on].ports[&to];
        if size > most {
            let (host, maximum) = (port.name.clone(), port.limits().maximum);
            return Err(RequestError::AboveMaximum { size, most, host, maximum });
        }
        Ok(())
    }

    /// Whether a tag is in use, or asked for.
    fn is_tag_taken(&self, on: usize, tag: Tag) -> bool {
        let mut open = self.requests.values().filter(|entry| entry.is_open() && entry.on == on);
        self.devices[on].has_tag(tag)
            || open.any(|entry| {
                matches!(&entry.record.request, Request::Add { tag: other, .. } if *other == tag)
            })
    }

    /// What of a host's is asked for, exactly. For a size it may be less: whole tags may not fit.
    fn check_release(
        &self,
        on: usize,
        from: HostId,
        what: &What,
        exclusive: Exclusive,
    ) -> Result<Vec<DpaRange>, RequestError> {
        let device = self.seen(on)?;
        let host = &device.ports[&from].name;
        let asked = self.asked_of(on, from);
        let chosen = match what {
            What::Size(size) => {
                let size = *size;
                let (_, block) = device.room_in(None)?;
                if size == 0 || !size.is_multiple_of(block) {
                    return Err(RequestError::Size { size, block });
                }
                let held = device.held_bytes(from).saturating_sub(asked.bytes());
                if size > held {
                    return Err(RequestError::MoreThanHeld { size, held, host: host.clone() });
                }
                device.give(from, size, &asked, exclusive)
            }
            What::Tag(tag) if tag.is_null() => return Err(RequestError::NoTag),
            What::Tag(tag) => {
                let held = device.held_by(from).iter().filter(|extent| extent.tag == *tag);
                let held: Ranges = held.map(|extent| extent.range).collect();
                if held.is_empty() {
                    return Err(RequestError::NoSuchTag { tag: *tag });
                }
                held
            }
            What::Extents(extents) => {
                let extents = device.check_extents(extents, None)?;
                let held = device.held_by(from).iter().map(|extent| extent.range);
                let held: Ranges = held.collect();
                if let Some(extent) = extents.iter().find(|&extent| !held.contains(extent)) {
                    return Err(RequestError::NotHeld { extent, host: host.clone() });
                }
                extents
            }
        };
        let size = match what {
            What::Size(size) => *size,
            _ => chosen.bytes(),
        };
        self.check_minimum(on, from, size, &chosen)?;
        Ok(chosen.to_vec())
    }

    /// What a host is guaranteed is not asked back.
    fn check_minimum(
        &self,
        on: usize,
        from: HostId,
        size: u64,
        chosen: &Ranges,
    ) -> Result<(), RequestError> {
        let device = &self.devices[on];
        let port = &device.ports[&from];
        let minimum = port.limits().minimum;
        let mut going = self.asked_of(on, from);
        chosen.iter().for_each(|range| going.remove(range));
        let left = device.held_bytes(from).saturating_sub(going.bytes());
        let most = left.saturating_sub(minimum);
        if size > most {
            let host = port.name.clone();
            return Err(RequestError::BelowMinimum { size, most, host, minimum });
        }
        Ok(())
    }

    fn check_move(
        &self,
        on: usize,
        from: HostId,
        to: HostId,
        host: &HostName,
        size: u64,
    ) -> Result<(), RequestError> {
        let device = self.seen(on)?;
        if from == to {
            return Err(RequestError::SameHost { host: host.clone() });
        }
        let does = device.info.as_ref().map_or(0, |info| info.add_policies);
        if does & policy_bit(Selection::Prescriptive) == 0 {
            let device = device.name.clone();
            return Err(RequestError::Policy { device, policy: "prescriptive" });
        }
        self.check_maximum(on, to, size)
    }

    fn check_reference(
        &self,
        on: usize,
        tag: Tag,
        is_wrong: impl Fn(&Vec<DpaRange>) -> bool,
    ) -> Result<u64, RequestError> {
        if tag.is_null() {
            return Err(RequestError::NoTag);
        }
        let device = self.seen(on)?;
        let extents = device.extents_of(tag);
        if !device.has_tag(tag) || is_wrong(&extents) {
            return Err(RequestError::NoSuchTag { tag });
        }
        Ok(0)
    }

    fn check_limits(&self, on: usize, of: HostId, limits: Limits) -> Result<(), RequestError> {
        limits.check()?;
        let device = &self.devices[on];
        if device.seen == Seen::Never {
            return Ok(());
        }
        let others = device.ports.iter().filter(|&(&host, _)| host != of);
        let others = others.map(|(_, port)| port.limits().minimum).fold(0, u64::saturating_add);
        let most = device.capacity().saturating_sub(others);
        if limits.minimum > most {
            return Err(RequestError::Guarantees { minimum: limits.minimum, most });
        }
        Ok(())
    }
}

impl Report {
    const fn new(id: RequestId, asked: u64, missing: u64) -> Self {
        Self {
            id,
            state: State::Open,
            asked,
            returned: 0,
            held: 0,
            holders: Vec::new(),
            accepted: 0,
            refused: 0,
            pending: 0,
            missing,
        }
    }
}
