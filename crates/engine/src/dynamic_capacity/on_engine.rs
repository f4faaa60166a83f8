//! Dynamic capacity as blocks of an engine's nodes.
//!
//! [`Port`] stands between a [`Host`] and an [`Engine`](crate::Engine). A region of a device is a
//! [`Window`]: a run of pageblocks of one node, all offline when the engine is made. What surfaces
//! comes online there; what is asked back is a give-back of these very blocks; what is lost is
//! lost. The port decides nothing. It knows which of the window is online, from what the engine
//! says, so that blocks that an operator has emptied already count as unused, and it lets nothing
//! come online that no device has given.
//!
//! Everything the engine does in response goes through [`Port::engine_did`], what it refuses
//! through [`Port::engine_refused`]. When somebody stops using something, or can be moved again,
//! [`Port::freed`] has what was deferred asked for at once instead of after a while.

mod action;
mod validate;
mod window;

use alloc::{
    collections::{BTreeMap, BTreeSet},
    vec::Vec,
};
use core::time::Duration;

use memtide_units::{ByteSize, Extent, Instant, RequestId};

pub use self::{
    action::{Action, Answer, PortError},
    window::Window,
};
use super::{
    config::{DeviceConfig, Limits},
    effect::Effect,
    extent::{DcExtent, DeviceId, DpaRange},
    host::Host,
    input::Input,
    ranges::Ranges,
    refused::InputError,
};
use crate::effect::Holder;

/// A host whose capacity an engine uses.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Port {
    host: Host,
    limits: Limits,
    windows: Vec<Window>,
    /// What of each device the engine has online, or was told to bring online.
    online: BTreeMap<DeviceId, Ranges>,
    /// What of each device the engine would not have online yet: those who lost what was there
    /// before have not let go of it.
    unwelcome: BTreeMap<DeviceId, Vec<DpaRange>>,
    retry_at: Option<Instant>,
    asking: BTreeMap<DeviceId, Asking>,
    requests: BTreeMap<RequestId, DeviceId>,
    next_request: RequestId,
    deadline: Duration,
}

/// What the engine is asked for.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
struct Asking {
    /// Ascending.
    ranges: Vec<DpaRange>,
    open: BTreeSet<RequestId>,
    holders: Vec<Holder>,
    /// What went by force meanwhile, of this and of other things. The device may give an address
    /// again and take it again before the question is answered: of what was asked it is gone once.
    lost: Ranges,
}

impl Asking {
    /// Bytes of it that did not go by force meanwhile.
    fn still_there(&self) -> u64 {
        let there = self.ranges.iter().flat_map(|&range| self.lost.missing(range));
        there.map(|range| range.length).sum()
    }
}

impl Port {
    /// A port without devices. Its give-backs have the names from `first_request` on, and so long
    /// to move what must move.
    #[must_use]
    pub const fn new(limits: Limits, first_request: RequestId, deadline: Duration) -> Self {
        Self {
            host: Host::new(limits),
            limits,
            windows: Vec::new(),
            online: BTreeMap::new(),
            unwelcome: BTreeMap::new(),
            retry_at: None,
            asking: BTreeMap::new(),
            requests: BTreeMap::new(),
            next_request: first_request,
            deadline,
        }
    }

    /// The host.
    #[must_use]
    pub const fn host(&self) -> &Host {
        &self.host
    }

    /// What the engine is asked for just now on behalf of this device.
    #[must_use]
    pub fn asked(&self, device: DeviceId) -> &[DpaRange] {
        self.asking.get(&device).map_or(&[], |asking| &asking.ranges)
    }

    /// A device is there. Its `align` is a multiple of the blocks of the nodes that it will be.
    ///
    /// # Errors
    /// [`InputError`] when it is there already or makes no sense.
    pub fn add_device(&mut self, device: DeviceId, config: DeviceConfig) -> Result<(), InputError> {
        self.host.add_device(device, config)
    }

    /// A region was made, and the device's list of accepted extents read.
    ///
    /// # Errors
    /// [`PortError`] when a part of it is another region already.
    pub fn probe(
        &mut self,
        now: Instant,
        window: Window,
        accepted: Vec<DcExtent>,
    ) -> Result<Vec<Action>, PortError> {
        let Window { device, decoder, first, .. } = window;
        let numbered = first.checked_add(window.pageblocks()).is_some();
        if !numbered || !self.windows.iter().all(|other| window.is_apart_from(other)) {
            return Err(PortError::Window { device, decoder, first });
        }
        let effects = self.host.handle(now, Input::Probe { device, decoder, accepted })?;
        self.windows.push(window);
        Ok(self.carry_out(now, effects))
    }

    /// A device said something, or time passed.
    ///
    /// # Errors
    /// [`PortError`] when it makes no sense. What a device says never does this.
    pub fn hear(&mut self, now: Instant, input: Input) -> Result<Vec<Action>, PortError> {
        let what = match input {
            Input::Probe { .. } => Some("a probe without a window"),
            Input::Reclaimed { .. } | Input::Freed { .. } => Some("a word of the user"),
            _ => None,
        };
        if let Some(what) = what {
            return Err(PortError::NotFromOutside { what });
        }
        let effects = self.host.handle(now, input)?;
        let mut actions = self.carry_out(now, effects);
        if self.retry_at.is_some_and(|at| at <= now) {
            actions.extend(self.welcome());
        }
        Ok(actions)
    }

    /// Somebody stopped using something, or it can be moved now.
    pub fn freed(&mut self, now: Instant) -> Vec<Action> {
        let mut actions = self.welcome();
        let devices: BTreeSet<DeviceId> = self.windows.iter().map(|window| window.device).collect();
        for device in devices {
            actions.extend(self.tell_host(now, Input::Freed { device }));
        }
        actions
    }

    /// The next time at which something happens by itself: [`Input::Tick`] is due then.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Instant> {
        self.host.next_deadline().into_iter().chain(self.retry_at).min()
    }

    /// The engine did this.
    pub fn engine_did(&mut self, now: Instant, effect: &crate::Effect) -> Vec<Action> {
        match effect {
            crate::Effect::Onlined { extents, .. } => self.onlined(extents),
            crate::Effect::Offlined { extents, .. } => {
                for (window, range) in self.ranges_of(extents) {
                    self.online.entry(window.device).or_default().remove(range);
                }
                Vec::new()
            }
            crate::Effect::Answer { request, report } => {
                self.request_ended(now, *request, &report.holders)
            }
            _ => Vec::new(),
        }
    }

    /// The engine refused this.
    pub fn engine_refused(&mut self, now: Instant, input: &crate::Input) -> Vec<Action> {
        match input {
            crate::Input::GiveBackExtents { request, .. } => self.request_ended(now, *request, &[]),
            crate::Input::Online { extents } => {
                for (window, range) in self.ranges_of(extents) {
                    self.online.entry(window.device).or_default().remove(range);
                    self.unwelcome.entry(window.device).or_default().push(range);
                }
                self.retry_at = Some(now.after(self.limits.retry_after));
                Vec::new()
            }
            _ => Vec::new(),
        }
    }

    fn tell_host(&mut self, now: Instant, input: Input) -> Vec<Action> {
        let effects = self.host.handle(now, input).expect("the port says what it was asked");
        self.carry_out(now, effects)
    }

    fn carry_out(&mut self, now: Instant, effects: Vec<Effect>) -> Vec<Action> {
        let mut actions = Vec::new();
        for effect in effects {
            match &effect {
                Effect::Reclaim { device, ranges } => {
                    actions.extend(self.ask(now, *device, ranges.clone()));
                    continue;
                }
                Effect::Keep { device, ranges } => {
                    actions.extend(self.bring_in(*device, ranges));
                    continue;
                }
                Effect::Surface { device, extents, .. } => {
                    let bring_in = self.bring_in(*device, extents);
                    actions.push(Action::Host(effect));
                    actions.extend(bring_in);
                    continue;
                }
                Effect::Lost { device, extents, .. } => {
                    actions.extend(self.lost(*device, extents));
                }
                _ => {}
            }
            actions.push(Action::Host(effect));
        }
        actions
    }

    /// The parts of ranges of a device, by window.
    fn by_window(&self, device: DeviceId, ranges: &[DpaRange]) -> Vec<(Window, Vec<DpaRange>)> {
        let windows = self.windows.iter().filter(|window| window.device == device);
        let inside = windows.map(|&window| {
            let inside = ranges.iter().filter(|&&range| window.decoder.contains(range));
            (window, inside.copied().collect::<Vec<_>>())
        });
        inside.filter(|(_, inside)| !inside.is_empty()).collect()
    }

    fn ranges_of(&self, extents: &[Extent]) -> Vec<(Window, DpaRange)> {
        let all = extents.iter().flat_map(|&extent| {
            let windows = self.windows.iter();
            windows.filter_map(move |&window| Some((window, window.range_of(extent)?)))
        });
        all.collect()
    }

    /// What surfaced, or stays after all, comes into the pool. It counts as online at once: what
    /// is asked of the engine after that comes after that.
    fn bring_in(&mut self, device: DeviceId, ranges: &[DpaRange]) -> Vec<Action> {
        let online = self.online.entry(device).or_default();
        ranges.iter().for_each(|&range| online.insert(range));
        let by_window = self.by_window(device, ranges);
        let online = by_window.into_iter().map(|(window, ranges)| {
            let extents = ranges.into_iter().flat_map(|range| window.extents(range)).collect();
            Action::Engine(crate::Input::Online { extents })
        });
        online.collect()
    }

    /// Tries again what the engine would not have.
    fn welcome(&mut self) -> Vec<Action> {
        self.retry_at = None;
        let mut actions = Vec::new();
        for (device, ranges) in core::mem::take(&mut self.unwelcome) {
            for range in ranges {
                let held = self.host.held_in(device, range);
                let offline = |range| match self.online.get(&device) {
                    Some(online) => online.missing(range),
                    None => alloc::vec![range],
                };
                let wanted: Vec<DpaRange> = held.into_iter().flat_map(offline).collect();
                actions.extend(self.bring_in(device, &wanted));
            }
        }
        actions
    }

    /// Whatever came online is noted. What no device has given goes at once: there is nothing
    /// behind it, whoever put it there.
    fn onlined(&mut self, extents: &[Extent]) -> Vec<Action> {
        let mut missing = Vec::new();
        for (window, range) in self.ranges_of(extents) {
            let mut held = Ranges::default();
            for part in self.host.held_in(window.device, range) {
                held.insert(part);
            }
            self.online.entry(window.device).or_default().insert(range);
            missing.extend(held.missing(range).into_iter().flat_map(|gap| window.extents(gap)));
        }
        if missing.is_empty() {
            return Vec::new();
        }
        alloc::vec![Action::Engine(crate::Input::Lost { extents: missing })]
    }

    fn lost(&mut self, device: DeviceId, ranges: &[DpaRange]) -> Vec<Action> {
        if let Some(asking) = self.asking.get_mut(&device) {
            ranges.iter().for_each(|&range| asking.lost.insert(range));
        }
        let online = self.online.entry(device).or_default();
        ranges.iter().for_each(|&range| online.remove(range));
        let by_window = self.by_window(device, ranges);
        let lost = by_window.into_iter().map(|(window, ranges)| {
            let extents = ranges.into_iter().flat_map(|range| window.extents(range)).collect();
            Action::Engine(crate::Input::Lost { extents })
        });
        lost.collect()
    }

    /// Asks the engine for what is online of ranges, once for each window.
    fn ask(&mut self, now: Instant, device: DeviceId, ranges: Vec<DpaRange>) -> Vec<Action> {
        let mut actions = Vec::new();
        let mut open = BTreeSet::new();
        for (window, ranges) in self.by_window(device, &ranges) {
            let online = self.online.entry(device).or_default();
            let online = ranges.iter().flat_map(|&range| online.within(range));
            let extents: Vec<Extent> = online.flat_map(|range| window.extents(range)).collect();
            if extents.is_empty() {
                continue;
            }
            let request = self.next_request;
            self.next_request.0 += 1;
            self.requests.insert(request, device);
            open.insert(request);
            let deadline = self.deadline;
            actions.push(Action::Engine(crate::Input::GiveBackExtents {
                request,
                extents,
                deadline,
            }));
        }
        let none = open.is_empty();
        let asking = Asking { ranges, open, ..Asking::default() };
        let before = self.asking.insert(device, asking);
        assert!(before.is_none(), "{device} is asked one question at a time");
        if none {
            actions.extend(self.reclaimed(now, device));
        }
        actions
    }

    /// The engine answered one of the port's requests, or refused it.
    fn request_ended(
        &mut self,
        now: Instant,
        request: RequestId,
        holders: &[Holder],
    ) -> Vec<Action> {
        let Some(device) = self.requests.remove(&request) else { return Vec::new() };
        let asking = self.asking.get_mut(&device).expect("requests are part of a question");
        asking.open.remove(&request);
        asking.holders.extend_from_slice(holders);
        if asking.open.is_empty() { self.reclaimed(now, device) } else { Vec::new() }
    }

    /// All requests of a question are answered.
    fn reclaimed(&mut self, now: Instant, device: DeviceId) -> Vec<Action> {
        let asking = self.asking.remove(&device).expect("the caller found it");
        let asked = asking.still_there();
        let Asking { ranges, mut holders, .. } = asking;
        let online = self.online.entry(device).or_default();
        let free = ranges.iter().flat_map(|&range| online.missing(range)).collect();
        let input = Input::Reclaimed { device, free };
        let effects = self.host.handle(now, input).expect("the host asked for it");
        let released = effects.iter().map(|effect| match effect {
            Effect::ReleaseDc { released, .. } => released.iter().map(|range| range.length).sum(),
            _ => 0,
        });
        let released: u64 = released.sum();
        let remaining = asked - released;
        holders.sort_by_key(|holder| core::cmp::Reverse(holder.bytes));
        let answer = Action::Answer(Answer {
            device,
            asked: ByteSize(asked),
            released: ByteSize(released),
            remaining: ByteSize(remaining),
            holders,
            ask_again: remaining > 0,
        });
        // The answer first: what follows may be the next question.
        core::iter::once(answer).chain(self.carry_out(now, effects)).collect()
    }
}
