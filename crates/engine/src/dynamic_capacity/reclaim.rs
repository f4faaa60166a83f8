//! What is asked back is asked of whoever uses it; what stays is asked for again.
//!
//! ```text
//!        more follows                the last, or time       the user's answer,
//!  Idle ─────────────▶ Gathering ───────────────▶ Asked ────────────────────▶ Idle
//!    │                                            ▲ ▲ │       nothing stays
//!    │ the last                                   │ │ │ something stays
//!    └────────────────────────────────────────────┘ │ ▼
//!                             time, or freed, or asked again: Deferred
//! ```
//!
//! One question at a time, about all that is wanted: the user empties blocks together more
//! cheaply than one after the other. Records that come meanwhile are part of the next question.
//! A chain that does not end is acted on all the same, for what it names is wanted in any case.

use alloc::{
    collections::{BTreeMap, BTreeSet},
    vec::Vec,
};
use core::time::Duration;

use memtide_units::Instant;

use super::{
    config::Splitting,
    device::Standing,
    effect::{Effect, Notice},
    extent::{DeviceId, DpaRange, GroupId},
    host::Host,
    input::More,
    ranges::Ranges,
    tag_group::GroupState,
};

/// How far the device's requests have come.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Reclaim {
    /// Nothing is wanted, or only of what has not surfaced yet.
    Idle,
    /// More records follow, until then at most.
    Gathering { until: Instant },
    /// The user was asked. If something stays, it is asked for again after the pause.
    Asked { pause: Duration },
    /// Something stayed; it is asked for again then.
    Deferred { until: Instant, pause: Duration },
}

/// Whether a record asks for something.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Marked {
    Some,
    Nothing,
}

/// What happens to it.
enum Event {
    Record(More, Marked),
    /// It is time, or something was freed.
    Due,
    Answered(Stays),
}

/// What an answer of the user leaves.
enum Stays {
    Nothing,
    /// Something that was asked for.
    Some,
    /// Something that was not asked for yet: records came meanwhile.
    New,
}

impl Reclaim {
    pub(super) const fn is_asked(&self) -> bool {
        matches!(self, Self::Asked { .. })
    }

    pub(super) const fn until(&self) -> Option<Instant> {
        match *self {
            Self::Gathering { until } | Self::Deferred { until, .. } => Some(until),
            Self::Idle | Self::Asked { .. } => None,
        }
    }
}

/// What the user is to be asked, and how a unit that goes together is named.
type Unit = (GroupId, Option<u32>, Option<u64>);

impl Host {
    pub(super) fn reclaim_recorded(&mut self, device: DeviceId, more: More, marked: Marked) {
        self.step_reclaim(device, Event::Record(more, marked));
    }

    pub(super) fn reclaim_due(&mut self, device: DeviceId) {
        self.step_reclaim(device, Event::Due);
    }

    /// Something was freed: what was deferred is asked for at once.
    pub(super) fn freed(&mut self, device: DeviceId) {
        if matches!(self.devices[&device].reclaim, Reclaim::Deferred { .. }) {
            self.step_reclaim(device, Event::Due);
        }
    }

    /// A group has surfaced that was asked back before it had.
    pub(super) fn reclaim_if_asked(&mut self, device: DeviceId, group: GroupId) {
        let held = &self.devices[&device].held;
        let mut pieces = self.groups[&group].pieces.iter().map(|(_, start)| &held[start]);
        if pieces.any(|held| held.standing == Standing::Asked) {
            self.step_reclaim(device, Event::Record(More::Last, Marked::Some));
        }
    }

    /// Every transition.
    fn step_reclaim(&mut self, device: DeviceId, event: Event) {
        let (now, limits) = (self.now, self.limits);
        let state = self.devices[&device].reclaim;
        let next = match (state, event) {
            (Reclaim::Idle, Event::Record(More::Follows, Marked::Some)) => {
                Some(Reclaim::Gathering { until: limits.chain_ends(now) })
            }
            (Reclaim::Idle | Reclaim::Deferred { .. }, Event::Record(More::Last, Marked::Some))
            | (Reclaim::Gathering { .. }, Event::Record(More::Last, _) | Event::Due)
            | (Reclaim::Asked { .. }, Event::Answered(Stays::New)) => {
                Some(self.ask(device, limits.retry_after))
            }
            (Reclaim::Deferred { pause, .. }, Event::Due) => {
                Some(self.ask(device, limits.longer(pause)))
            }
            (Reclaim::Asked { .. }, Event::Answered(Stays::Nothing)) => Some(Reclaim::Idle),
            (Reclaim::Asked { pause }, Event::Answered(Stays::Some)) => {
                Some(Reclaim::Deferred { until: now.after(pause), pause })
            }
            // What records name while the user is asked, or something is deferred, is part of the
            // next question.
            (_, Event::Record(..)) | (Reclaim::Idle | Reclaim::Asked { .. }, Event::Due) => None,
            (_, Event::Answered(_)) => unreachable!("checked on entry"),
        };
        if let Some(next) = next {
            self.device_mut(device).reclaim = next;
        }
    }

    /// Asks the user for all that is wanted.
    fn ask(&mut self, device: DeviceId, pause: Duration) -> Reclaim {
        let groups = &self.groups;
        let known = self.devices.get_mut(&device).expect("checked on entry");
        let mut ranges = Vec::new();
        for (&start, held) in &mut known.held {
            let surfaced = groups[&held.group].state == GroupState::Surfaced;
            if surfaced && held.standing == Standing::Asked {
                held.standing = Standing::Reclaiming;
                ranges.push(DpaRange::new(start, held.length));
            }
        }
        if ranges.is_empty() {
            return Reclaim::Idle;
        }
        self.out.push(Effect::Reclaim { device, ranges });
        Reclaim::Asked { pause }
    }

    /// The user's answer: what can go goes, the rest is wanted again.
    pub(super) fn reclaimed(&mut self, device: DeviceId, free: &[DpaRange]) {
        let mut unused = Ranges::default();
        free.iter().filter(|range| range.exists()).for_each(|&range| unused.insert(range));
        let mut leaving = BTreeSet::new();
        let mut kept = Vec::new();
        for pieces in self.units(device, &unused).into_values() {
            if pieces.iter().all(|&piece| unused.covers(piece)) {
                leaving.extend(pieces.iter().map(|piece| piece.start));
            } else {
                kept.extend(pieces.iter().flat_map(|&piece| unused.within(piece)));
            }
        }
        self.withdraw(device, &leaving);
        if !kept.is_empty() {
            kept.sort_unstable();
            self.out.push(Effect::Keep { device, ranges: kept });
        }
        self.defer(device);
    }

    /// What was asked of the user, by what the device takes back at once.
    fn units(&mut self, device: DeviceId, unused: &Ranges) -> BTreeMap<Unit, Vec<DpaRange>> {
        let splitting = self.devices[&device].config.splitting;
        if splitting == Splitting::Block {
            for piece in self.reclaiming(device) {
                for part in unused.within(piece) {
                    if let Some(part) = self.devices[&device].aligned_in(part) {
                        self.split_around(device, part);
                    }
                }
            }
        }
        let mut units: BTreeMap<Unit, Vec<DpaRange>> = BTreeMap::new();
        for piece in self.reclaiming(device) {
            let held = self.devices[&device].held[&piece.start];
            let unit = match splitting {
                Splitting::Group => (held.group, None, None),
                Splitting::Extent => (held.group, Some(held.place), None),
                Splitting::Block => (held.group, Some(held.place), Some(piece.start)),
            };
            units.entry(unit).or_default().push(piece);
        }
        units
    }

    fn reclaiming(&self, device: DeviceId) -> Vec<DpaRange> {
        let held = self.devices[&device].held.iter();
        let asked = held.filter(|(_, held)| held.standing == Standing::Reclaiming);
        asked.map(|(&start, held)| DpaRange::new(start, held.length)).collect()
    }

    /// Gives pieces back that nobody uses.
    fn withdraw(&mut self, device: DeviceId, starts: &BTreeSet<u64>) {
        let mut released = Vec::new();
        for (group, gone) in self.remove_pieces(device, starts) {
            self.device_mut(device).totals.released += gone.bytes();
            released.extend(&gone.ranges);
            let (extents, left) = (gone.ranges, gone.left);
            self.out.push(Effect::Withdrawn { group, extents, left });
        }
        if !released.is_empty() {
            released.sort_unstable();
            self.out.push(Effect::ReleaseDc { device, released });
        }
    }

    /// What stayed is wanted again.
    fn defer(&mut self, device: DeviceId) {
        let (mut stays, mut bytes) = (Stays::Nothing, 0);
        let groups = &self.groups;
        let known = self.devices.get_mut(&device).expect("checked on entry");
        for held in known.held.values_mut() {
            let surfaced = groups[&held.group].state == GroupState::Surfaced;
            match held.standing {
                Standing::Kept => {}
                Standing::Asked if surfaced => stays = Stays::New,
                Standing::Asked => {}
                Standing::Reclaiming => {
                    held.standing = Standing::Asked;
                    bytes += held.length;
                    if matches!(stays, Stays::Nothing) {
                        stays = Stays::Some;
                    }
                }
            }
        }
        self.step_reclaim(device, Event::Answered(stays));
        if let Reclaim::Deferred { until, .. } = self.devices[&device].reclaim {
            self.note(device, Notice::Deferred { bytes, until });
        }
    }
}
