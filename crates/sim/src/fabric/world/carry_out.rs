//! What the host's port and its engine want done, and how long that takes.

use core::time::Duration;
use std::collections::VecDeque;

use memtide_cxl::command::HostId;
use memtide_engine::{
    Effect, Input,
    dynamic_capacity::{self as dc, Action},
};
use memtide_units::{Instant, MemberId, PAGEBLOCK_BYTES};

use super::{Event, HOSTS, World};
use crate::fabric::{FabricError, LINK};

impl World<'_> {
    /// Gives the engine something, and all that follows from it.
    pub(in crate::fabric) fn engine(&mut self, input: Input) -> Result<(), FabricError> {
        self.act(vec![Action::Engine(input)])
    }

    pub(super) fn act(&mut self, actions: Vec<Action>) -> Result<(), FabricError> {
        let mut actions = VecDeque::from(actions);
        while let Some(action) = actions.pop_front() {
            match action {
                Action::Engine(input) => {
                    let follows = match self.engine.handle(self.now, input.clone()) {
                        Ok(effects) => self.carry_out(effects),
                        Err(_) if is_ports(&input) => self.port.engine_refused(self.now, &input),
                        Err(refusal) => return Err(refusal.into()),
                    };
                    // What follows from this comes before what was to come next.
                    follows.into_iter().rev().for_each(|action| actions.push_front(action));
                }
                Action::Host(effect) => self.host_says(HOSTS[0], effect),
                Action::Answer(answer) => {
                    let asked_at = self.asked_at.unwrap_or(self.now);
                    self.seen.answers.push((self.now.0 - asked_at.0, answer));
                }
            }
        }
        Ok(())
    }

    fn carry_out(&mut self, effects: Vec<Effect>) -> Vec<Action> {
        let mut actions = Vec::new();
        for effect in effects {
            actions.extend(self.port.engine_did(self.now, &effect));
            match effect {
                Effect::Grant { member, extents } => {
                    let granted = extents.iter().flat_map(|extent| extent.iter());
                    self.programs.get(member).held.extend(granted);
                }
                Effect::Move { member, id, pairs } => {
                    let done = self.copied(member, pairs.len() as u64);
                    self.at(done, Event::Moved(member, id, pairs));
                }
                Effect::Zero { image, extents } => {
                    let count = extents.iter().map(|extent| u64::from(extent.count)).sum();
                    let start = self.zeroed_until.max(self.now);
                    self.zeroed_until = start.after(self.takes(count));
                    self.at(self.zeroed_until, Event::Zeroed(image, extents));
                }
                Effect::Lost { member, extents } => {
                    let lost = self.programs.get(member).lose(&extents);
                    self.seen.lost += lost * PAGEBLOCK_BYTES;
                    actions.push(Action::Engine(Input::LetGo { member, extents }));
                }
                _ => {}
            }
        }
        actions
    }

    /// What a host wants sent to the device, and what is counted of the rest.
    pub(super) fn host_says(&mut self, host: HostId, effect: dc::Effect) {
        match effect {
            dc::Effect::AddResponse { chain, accepted, .. } => {
                self.later(LINK, Event::Response(host, chain, accepted));
            }
            dc::Effect::ReleaseDc { released, .. } => {
                self.later(LINK, Event::Release(host, released));
            }
            dc::Effect::Note { notice: dc::Notice::Refused { .. }, .. } => self.seen.refused += 1,
            dc::Effect::Note { notice: dc::Notice::Again { .. }, .. } => self.seen.again += 1,
            _ => {}
        }
    }

    /// When a program has copied so much, after what it copies already.
    fn copied(&mut self, member: MemberId, pageblocks: u64) -> Instant {
        let takes = self.takes(pageblocks);
        let now = self.now;
        let program = self.programs.get(member);
        program.busy_until = program.busy_until.max(now).after(takes);
        program.busy_until
    }

    pub(super) fn takes(&self, pageblocks: u64) -> Duration {
        let nanoseconds = u128::from(pageblocks * PAGEBLOCK_BYTES) * 1_000_000_000;
        let nanoseconds = nanoseconds / u128::from(self.plan.bandwidth);
        Duration::from_nanos(u64::try_from(nanoseconds).unwrap_or(u64::MAX))
    }
}

/// Whether the port has an answer to the engine's refusing this.
const fn is_ports(input: &Input) -> bool {
    matches!(input, Input::GiveBackExtents { .. } | Input::Online { .. })
}
