//! Whose data is in what is free.
//!
//! In a region that overwrites what is released, nobody's. Elsewhere it is of whoever had it last,
//! until the device has overwritten it because a release asked for that; and a host may release
//! unasked. So for such regions it is kept, durably, what was given to whom and not overwritten
//! since ([`Key::Unsanitized`]): from before an offer is sent, and of all that a host is found to
//! hold, or a record says that it accepted, whoever gave it, known to this manager or not. What one
//! had, another does not get. An offer that the device did not make, or of which it says that the
//! host took nothing, has given nothing to anybody, as long as nothing was lost in between: not the
//! word on it, no record, no connection. (A manager that begins reads the log before it knows the
//! regions, and those records say nothing to it: what another manager gave a host and had back while
//! this one was away, it does not know of.)
//!
//! Who had something is known by number and name ([`Former`]). A host of another name behind the
//! same number may be another machine, and one of the same name behind another number, too: neither
//! gets what the former one had. But what a host has, it can read, whoever wrote it: it counts as
//! what that host had, and nobody before it. So a host that is renamed or set up while it has
//! something can be asked for it, and it is clean then.
//!
//! There is no command that overwrites what is free. So what a host left behind that is not set up
//! any more stays withheld ([`Notice::Withheld`]), until that host is set up again, gets it, and is
//! asked for it back. What a host left behind that never was set up stays withheld for as long as
//! the store is kept: it has no name to be set up by, and a host that is later may be another one.
//!
//! What was free before a manager with an empty store saw a device for the first time counts as
//! clean: nobody can say otherwise. A store that is lost is lost knowledge.

use alloc::vec::Vec;

use memtide_units::DpaRange;

use super::{
    device::{Device, is_sharable, range_of, sanitizes},
    journal::{Former, Key},
    output::Notice,
    ranges::Ranges,
    state::Manager,
};
use crate::command::HostId;

impl Device {
    /// Who a host is, to be remembered.
    pub(super) fn former(&self, host: HostId) -> Former {
        Former { host: host.0, name: self.ports.get(&host).map(|port| port.name.clone()) }
    }

    /// What of these is not overwritten when it is released.
    fn dirty_of(&self, extents: impl Iterator<Item = DpaRange>) -> Vec<DpaRange> {
        let is_dirty = |extent: &DpaRange| {
            self.region_of(extent.start).is_some_and(|(_, region)| !sanitizes(region))
        };
        extents.filter(is_dirty).collect()
    }
}

impl Manager {
    /// From now on a host may write there. What counts as its own only since now.
    pub(super) fn touch(&mut self, on: usize, to: HostId, extents: &[DpaRange]) -> Ranges {
        let device = &mut self.devices[on];
        let dirty = device.dirty_of(extents.iter().copied());
        let mut new: Ranges = dirty.iter().copied().collect();
        if dirty.is_empty() {
            return new;
        }
        let known = device.unsanitized.get(&device.former(to)).into_iter();
        known.flat_map(Ranges::iter).for_each(|range| new.remove(range));
        let port = device.port_mut(to);
        dirty.iter().for_each(|&range| port.told_to_sanitize.remove(range));
        self.note_dirty(on, to, dirty);
        new
    }

    /// A host never had what counted as its own because it was to be offered that.
    pub(super) fn untouch(&mut self, on: usize, to: HostId, touched: &Ranges) {
        let former = self.devices[on].former(to);
        self.forget_dirty(on, former, touched);
    }

    /// A host has what it has, whoever gave it. Whatever others left there, it can read already: what
    /// is not shared is its own from now on.
    pub(super) fn note_held(&mut self, on: usize, host: HostId) {
        let device = &self.devices[on];
        let own = device.former(host);
        let held = device.held_by(host).iter().map(|extent| extent.range);
        let held = device.dirty_of(held);
        let is_exclusive = |extent: &DpaRange| {
            device.region_of(extent.start).is_some_and(|(_, region)| !is_sharable(region))
        };
        let only_its: Ranges = held.iter().copied().filter(is_exclusive).collect();
        let known = device.unsanitized.get(&own);
        let is_new = |range: &DpaRange| known.is_none_or(|known| !known.contains(*range));
        let dirty: Vec<DpaRange> = held.into_iter().filter(is_new).collect();
        let others = device.unsanitized.keys().filter(|&former| *former != own);
        for former in others.cloned().collect::<Vec<_>>() {
            self.forget_dirty(on, former, &only_its);
        }
        if !dirty.is_empty() {
            self.note_dirty(on, host, dirty);
        }
    }

    /// A record says that a host accepted this: it may have written there, whatever is found later
    /// of what it was offered, and also if it has given it back by the time that is looked at.
    pub(super) fn note_accepted(&mut self, on: usize, host: HostId, range: DpaRange) {
        let device = &self.devices[on];
        // No more hosts are remembered than a device may have.
        let is_there = device.info.as_ref().is_some_and(|info| host.0 < u16::from(info.hosts));
        let is_whole = device.regions.iter().any(|region| range_of(region).contains(range));
        if !is_there || !is_whole || range.length == 0 {
            return;
        }
        let dirty = device.dirty_of([range].into_iter());
        let known = device.unsanitized.get(&device.former(host));
        if !dirty.is_empty() && known.is_none_or(|known| !known.contains(range)) {
            self.note_dirty(on, host, dirty);
        }
    }

    fn note_dirty(&mut self, on: usize, host: HostId, dirty: Vec<DpaRange>) {
        let device = &mut self.devices[on];
        let former = device.former(host);
        let known = device.unsanitized.entry(former.clone()).or_default();
        dirty.into_iter().for_each(|range| known.insert(range));
        self.changed.insert(Key::Unsanitized(device.name.clone(), former));
    }

    /// A host has this and nothing else: what it had, and the device was told to overwrite when it
    /// comes back, is clean.
    pub(super) fn overwritten(&mut self, on: usize, host: HostId, held: &Ranges) {
        let device = &mut self.devices[on];
        let Some(port) = device.ports.get_mut(&host) else { return };
        let mut gone = port.told_to_sanitize.clone();
        held.iter().for_each(|range| gone.remove(range));
        gone.iter().for_each(|range| port.told_to_sanitize.remove(range));
        let former = device.former(host);
        self.forget_dirty(on, former, &gone);
    }

    fn forget_dirty(&mut self, on: usize, former: Former, gone: &Ranges) {
        let device = &mut self.devices[on];
        let Some(known) = device.unsanitized.get_mut(&former) else { return };
        let before = known.bytes();
        gone.iter().for_each(|range| known.remove(range));
        if known.bytes() == before {
            return;
        }
        if known.is_empty() {
            device.unsanitized.remove(&former);
        }
        self.changed.insert(Key::Unsanitized(device.name.clone(), former));
    }

    /// Says how much of what is free no host that is set up may get.
    pub(super) fn tell_withheld(&mut self, on: usize) {
        let device = &self.devices[on];
        let is_there = |former: &Former| {
            let port = device.ports.get(&HostId(former.host));
            port.is_some_and(|port| Some(&port.name) == former.name.as_ref())
        };
        let left = device.unsanitized.iter().filter(|(former, _)| !is_there(former));
        let left: Ranges = left.flat_map(|(_, ranges)| ranges.to_vec()).collect();
        let free = self.free(on);
        let withheld = left.iter().flat_map(|range| free.common(range));
        let bytes = withheld.fold(0, |sum: u64, range| sum.saturating_add(range.length));
        if bytes != 0 {
            self.note(on, Notice::Withheld { bytes });
        }
    }
}
