//! What the port says, carried out: inputs to the engine, orders to the device.
//!
//! Actions are done one after the other; what they lead to comes behind them. Whatever the engine
//! does, for whatever reason, the port hears of it ([`Daemon::tell_port`]).

use std::collections::VecDeque;

use memtide_engine::{
    self as engine,
    dynamic_capacity::{Action, Answer, ChainId, DeviceId, Effect, Input, Outcome},
};
use memtide_units::{ByteSize, DpaRange, Extent};

use super::{Dcd, Device, Order, ranges};
use crate::{
    config::Accept,
    daemon::{Daemon, node_id},
    notice::Notice,
};

impl Daemon {
    /// Tells the port something, and does what it makes of it.
    pub(super) fn port_hear(&mut self, input: Input) {
        let now = self.engine_now();
        let actions = self.dcd.port.hear(now, input);
        self.act(actions.expect("devices are named as they were added"));
    }

    /// Tells the port what the engine did.
    pub(crate) fn tell_port(&mut self, effects: &[engine::Effect]) {
        if self.dcd.devices.is_empty() {
            return;
        }
        for effect in effects {
            match effect {
                engine::Effect::Offlined { extents, .. } => self.has_left(extents),
                engine::Effect::Onlined { extents, .. } => self.dcd.is_back(extents),
                _ => {}
            }
        }
        let now = self.engine_now();
        let did = effects.iter().flat_map(|effect| self.dcd.port.engine_did(now, effect));
        let actions: Vec<Action> = did.collect();
        self.act(actions);
    }

    pub(super) fn act(&mut self, actions: Vec<Action>) {
        let mut todo = VecDeque::from(actions);
        while let Some(action) = todo.pop_front() {
            match action {
                Action::Engine(input) => todo.extend(self.have_engine_do(input)),
                Action::Host(effect) => self.have_device_do(effect),
                Action::Answer(answer) => self.device_answered(answer),
            }
        }
    }

    fn have_engine_do(&mut self, input: engine::Input) -> Vec<Action> {
        let now = self.engine_now();
        let asked = match input {
            // What is in the pool stays there, whatever comes of the rest.
            engine::Input::Online { extents } => {
                let extents = self.not_in_pool(&extents);
                if extents.is_empty() {
                    return Vec::new();
                }
                let is_ready = self.make_ready(&extents);
                let input = engine::Input::Online { extents };
                if is_ready.is_err() {
                    return self.dcd.port.engine_refused(now, &input);
                }
                input
            }
            other => other,
        };
        match self.decide(asked.clone()) {
            Ok(effects) => {
                self.carry_out_all(effects);
                Vec::new()
            }
            Err(_) => self.dcd.port.engine_refused(now, &asked),
        }
    }

    /// What of these is not in the pool yet.
    fn not_in_pool(&self, extents: &[Extent]) -> Vec<Extent> {
        let mut out = Vec::new();
        for extent in extents {
            let offline = self.engine.offline(node_id(self.node_at(extent.start)));
            out.extend(offline.iter().filter_map(|other| overlap(*extent, *other)));
        }
        out
    }

    /// Empties these; the error has been told.
    fn make_ready(&mut self, extents: &[Extent]) -> Result<(), NotReady> {
        for &extent in extents {
            if let Some(Err(error)) = self.dcd.zero(self.node_at(extent.start), extent) {
                self.notice(Notice::NotReady { extent, error });
                return Err(NotReady);
            }
        }
        Ok(())
    }

    /// The position of the node that a pageblock of the pool lies in.
    pub(crate) fn node_at(&self, pageblock: memtide_units::Pageblock) -> usize {
        self.firsts.partition_point(|first| *first <= pageblock) - 1
    }

    fn have_device_do(&mut self, effect: Effect) {
        match effect {
            Effect::AddResponse { device, chain, accepted } => {
                self.answer_chain(device, chain, accepted);
            }
            Effect::ReleaseDc { device, released } => {
                let device = self.dcd.devices.get_mut(&device).expect("devices stay");
                device.left = ranges::minus(&device.left, &released);
                device.order(Order::Release { released });
            }
            Effect::Lost { device, extents, .. } => {
                let device = self.dcd.devices.get_mut(&device).expect("devices stay");
                device.left = ranges::minus(&device.left, &extents);
                let node = device.node;
                let (node, bytes) = (self.config.nodes[node].name.clone(), ranges::bytes(&extents));
                self.notice(Notice::CapacityLost { node, bytes: ByteSize(bytes) });
            }
            Effect::Note { device, notice, .. } => {
                let node = self.dcd.devices[&device].node;
                let node = self.config.nodes[node].name.clone();
                self.notice(Notice::Device { node, notice });
            }
            Effect::Surface { .. } | Effect::Withdrawn { .. } => {}
            Effect::Reclaim { .. } | Effect::Keep { .. } => {
                unreachable!("the port does these by the engine")
            }
        }
    }

    /// What of this device can be used, or will be once its word is heard.
    pub(super) fn held(&self, name: DeviceId, surfaced_only: Surfaced) -> Vec<DpaRange> {
        let groups = self.dcd.port.host().groups();
        let ours = groups.into_iter().filter(|group| {
            group.device == name && (group.surfaced || surfaced_only == Surfaced::OrNot)
        });
        ours.flat_map(|group| group.extents).collect()
    }

    /// Answers a chain: as the rules say, unless it is more than the operator wants of the device.
    fn answer_chain(&mut self, name: DeviceId, chain: ChainId, accepted: Vec<DpaRange>) {
        let before = self.held(name, Surfaced::Only);
        let all = self.held(name, Surfaced::OrNot);
        let new = ranges::bytes(&ranges::minus(&accepted, &before));
        let device = self.dcd.devices.get_mut(&name).expect("devices stay");
        let fits = match device.accept {
            Accept::All => true,
            Accept::None => false,
            Accept::Limit(limit) => ranges::bytes(&all) <= limit.0,
        };
        let accepted = if fits || new == 0 {
            accepted
        } else {
            device.declined.insert(chain);
            // What is had already, and offered again, is not given up.
            accepted
                .into_iter()
                .filter(|range| ranges::minus(&[*range], &before).is_empty())
                .collect()
        };
        device.unanswered.insert(chain, accepted.clone());
        if accepted.is_empty() {
            device.clear_heard();
        }
        device.order(Order::Answer { chain, accepted });
        if !fits && new > 0 {
            let node = self.config.nodes[device.node].name.clone();
            self.notice(Notice::Declined { node, bytes: ByteSize(new) });
        }
    }

    /// The device's word on an answer.
    pub(super) fn chain_answered(&mut self, name: DeviceId, chain: ChainId, outcome: Outcome) {
        let device = self.dcd.devices.get_mut(&name).expect("devices stay");
        if device.unanswered.remove(&chain).is_none() {
            return;
        }
        let declined = device.declined.remove(&chain);
        let outcome = if declined { Outcome::Rejected } else { outcome };
        self.port_hear(Input::Answered { device: name, chain, outcome });
    }

    /// A request of the device has come as far as it does for now.
    fn device_answered(&mut self, answer: Answer) {
        self.tell_manager(&answer);
        let device = self.dcd.devices.get_mut(&answer.device).expect("devices stay");
        device.answer = Some(answer);
    }

    /// What an operator has taken out of a device's node goes back to the device.
    pub(crate) fn release_idle(&mut self) {
        for name in self.dcd.devices.keys().copied().collect::<Vec<_>>() {
            let device = self.dcd.devices.get_mut(&name).expect("devices stay");
            let left = std::mem::take(&mut device.left);
            if left.is_empty() {
                continue;
            }
            let offline = ranges::both(&self.offline_of(name), &left);
            for group in self.dcd.port.host().groups() {
                if group.device != name || !group.surfaced {
                    continue;
                }
                for range in
                    group.extents.iter().flat_map(|piece| ranges::both(&[*piece], &offline))
                {
                    let (tag, more) = (group.tag, engine::dynamic_capacity::More::Last);
                    self.port_hear(Input::Release { device: name, range, tag, more });
                }
            }
        }
    }

    /// Asks again for what stayed, if somebody stopped using something.
    pub(super) fn look_at_use(&mut self) {
        if self.dcd.devices.is_empty() {
            return;
        }
        let status = self.engine.node_status();
        let mut freed = false;
        for device in self.dcd.devices.values_mut() {
            let leased = status[device.node].leased;
            freed |= leased < device.leased;
            device.leased = leased;
        }
        if freed {
            let now = self.engine_now();
            let actions = self.dcd.port.freed(now);
            self.act(actions);
        }
        self.tell_use();
        self.tell_wants();
    }

    /// These have left the pool: what the device still counts as this host's, and does not ask for
    /// itself, is remembered.
    fn has_left(&mut self, extents: &[Extent]) {
        for name in self.dcd.devices.keys().copied().collect::<Vec<_>>() {
            let left = self.dcd.devices[&name].ranges_of(extents);
            if left.is_empty() {
                continue;
            }
            let unasked = ranges::minus(&left, self.dcd.port.asked(name));
            let mut left = ranges::both(&unasked, &self.held(name, Surfaced::Only));
            let device = self.dcd.devices.get_mut(&name).expect("devices stay");
            left.append(&mut device.left);
            // Joined, so that it is never more than the device has blocks.
            device.left = ranges::minus(&left, &[]);
        }
    }
}

impl Dcd {
    /// These are in the pool again.
    fn is_back(&mut self, extents: &[Extent]) {
        for device in self.devices.values_mut().filter(|device| !device.left.is_empty()) {
            device.left = ranges::minus(&device.left, &device.ranges_of(extents));
        }
    }
}

impl Device {
    /// The addresses of those that are of its node.
    fn ranges_of(&self, extents: &[Extent]) -> Vec<DpaRange> {
        let first = self.window.first.0;
        let end = first + self.window.decoder.length / memtide_units::PAGEBLOCK_BYTES;
        let here = extents.iter().filter(|extent| (first..end).contains(&extent.start.0));
        here.map(|extent| self.range_of(*extent)).collect()
    }
}

/// What could not be emptied.
struct NotReady;

/// Which of the groups of a device.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Surfaced {
    /// Those that can be used.
    Only,
    /// Those too that the device has yet to confirm.
    OrNot,
}

fn overlap(one: Extent, other: Extent) -> Option<Extent> {
    let start = one.start.max(other.start);
    let end = one.end()?.min(other.end()?);
    let count = end.0.checked_sub(start.0).filter(|count| *count > 0)?;
    Some(Extent::new(start, u32::try_from(count).expect("no longer than either")))
}
