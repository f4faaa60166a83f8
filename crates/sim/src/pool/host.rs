//! A host: its rules, and what its programs use of what it has.
//!
//! The rules are [`memtide_engine::dynamic_capacity`]. Programs are a number of bytes here: they
//! use what they need, as far as it is there and not about to leave. Memory is as good as other
//! memory: what is asked back is emptied into what stays, which takes as long as copying does. An
//! agent that is killed forgets all but what the device keeps for it; programs do not notice.

use core::time::Duration;

use memtide_cxl::{
    command::{
        HostId, More,
        dynamic_capacity::{AddResponse, Release},
    },
    device::{Device, Refusal},
    manager::{Holder, HostAnswer},
};
use memtide_engine::dynamic_capacity::{
    self as dc, ChainId, DeviceConfig, DpaRange, Effect, Input, InputError, Limits, Splitting,
};
use memtide_units::{HoldReason, Instant};

use crate::fabric::medium::{MEM, outcome, partition};

/// What a host's agent has to have done, and how much later.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Doing {
    /// 4802h.
    Respond(ChainId, Vec<DpaRange>),
    /// 4803h.
    Release(Vec<DpaRange>),
    /// What was asked back is being emptied: so much of it, for so long.
    Empty { free: Vec<DpaRange>, asked: u64, copies: u64 },
}

/// A host.
pub(super) struct Host {
    pub(super) id: HostId,
    /// Another number whenever its agent was killed.
    pub(super) life: u64,
    /// What it has, as the device says.
    pub(super) has: u64,
    /// What it needs.
    pub(super) need: u64,
    /// What of it is about to leave.
    leaving: u64,
    /// Nothing: its agent is not running.
    rules: Option<dc::Host>,
    capacity: u64,
    block: u64,
}

impl Host {
    pub(super) const fn new(id: HostId, capacity: u64, block: u64) -> Self {
        Self { id, life: 0, has: 0, need: 0, leaving: 0, rules: None, capacity, block }
    }

    /// What its programs can use.
    pub(super) const fn usable(&self) -> u64 {
        self.has.saturating_sub(self.leaving)
    }

    /// What they use.
    pub(super) fn uses(&self) -> u64 {
        self.usable().min(self.need)
    }

    /// What it wants besides, in whole blocks.
    pub(super) const fn wants(&self) -> u64 {
        self.need.saturating_sub(self.usable()).next_multiple_of(self.block)
    }

    pub(super) const fn is_running(&self) -> bool {
        self.rules.is_some()
    }

    pub(super) fn next_deadline(&self) -> Option<Instant> {
        self.rules.as_ref().and_then(dc::Host::next_deadline)
    }

    /// Its agent is killed.
    pub(super) fn die(&mut self) {
        self.rules = None;
        self.life += 1;
        self.leaving = 0;
    }

    /// Its agent starts, and reads what it has accepted before.
    pub(super) fn start(&mut self, now: Instant, device: &Device) -> Result<(), InputError> {
        let partition = partition(self.capacity, self.block);
        let decoder = partition.range;
        let mut rules = dc::Host::new(Limits::default());
        let splitting = Splitting::Block;
        rules.add_device(MEM, DeviceConfig { splitting, ..DeviceConfig::new(vec![partition]) })?;
        let accepted = device.held(self.id).copied().collect();
        // Nothing is to be done about what surfaces.
        rules.handle(now, Input::Probe { device: MEM, decoder, accepted })?;
        self.rules = Some(rules);
        Ok(())
    }

    /// The rules hear something. An agent that is not running hears nothing.
    pub(super) fn hear(&mut self, now: Instant, input: Input) -> Result<Vec<Doing>, InputError> {
        let Some(rules) = &mut self.rules else { return Ok(Vec::new()) };
        let effects = rules.handle(now, input)?;
        Ok(effects.into_iter().filter_map(|effect| self.doing(effect)).collect())
    }

    fn doing(&mut self, effect: Effect) -> Option<Doing> {
        match effect {
            Effect::AddResponse { chain, accepted, .. } => Some(Doing::Respond(chain, accepted)),
            Effect::ReleaseDc { released, .. } => Some(Doing::Release(released)),
            Effect::Reclaim { ranges, .. } => Some(self.reclaim(&ranges)),
            _ => None,
        }
    }

    /// What can leave: what programs do not need. Of what is asked for, the end.
    fn reclaim(&mut self, ranges: &[DpaRange]) -> Doing {
        let asked: u64 = ranges.iter().map(|range| range.length).sum();
        let spare = (self.usable() - self.uses()) / self.block * self.block;
        let mut left = spare.min(asked);
        // What is in use of it, if use is spread evenly, has to be copied elsewhere.
        let used = u128::from(self.uses()) * u128::from(left) / u128::from(self.has.max(1));
        self.leaving += left;
        let mut free = Vec::new();
        for range in ranges.iter().rev() {
            let some = left.min(range.length) / self.block * self.block;
            if some != 0 {
                free.push(DpaRange::new(range.start + (range.length - some), some));
                left -= some;
            }
        }
        self.leaving -= left;
        free.reverse();
        Doing::Empty { free, asked, copies: used as u64 }
    }

    /// What was asked back is empty: what to release, and what to say of it.
    pub(super) fn emptied(
        &mut self,
        now: Instant,
        free: Vec<DpaRange>,
        asked: u64,
    ) -> Result<(Vec<Doing>, HostAnswer), InputError> {
        let promised = bytes(&free);
        let doings = self.hear(now, Input::Reclaimed { device: MEM, free })?;
        let released = doings.iter().map(|doing| match doing {
            Doing::Release(released) => bytes(released),
            Doing::Respond(..) | Doing::Empty { .. } => 0,
        });
        let released: u64 = released.sum();
        // What the rules keep after all is the programs' again.
        self.leaving = self.leaving.saturating_sub(promised.saturating_sub(released));
        let remaining = asked.saturating_sub(released);
        let holder = Holder {
            tenant: None,
            program: Some("programs".to_owned()),
            pid: None,
            bytes: remaining,
            reason: HoldReason::NoRoom,
        };
        let holders = if remaining == 0 { Vec::new() } else { vec![holder] };
        Ok((doings, HostAnswer { asked: released + remaining, released, remaining, holders }))
    }

    /// 4802h reaches the device.
    pub(super) fn respond(&self, device: &mut Device, accepted: Vec<DpaRange>) -> dc::Outcome {
        let answer = AddResponse { more: More::Last, accepted };
        outcome(&device.add_response(self.id, &answer))
    }

    /// 4803h reaches the device. What was taken by force meanwhile is not there any more, and the
    /// device refuses a list that has it: then what is still had is released by itself.
    pub(super) fn release(
        &mut self,
        device: &mut Device,
        released: Vec<DpaRange>,
    ) -> Result<(), Refusal> {
        self.leaving = self.leaving.saturating_sub(bytes(&released));
        let more = More::Last;
        match device.release(self.id, &Release { more, released: released.clone() }) {
            Err(Refusal::NotHeld { .. }) => {}
            other => return other,
        }
        let held = device.held(self.id).map(|extent| extent.range);
        let still: Vec<DpaRange> = held
            .flat_map(|held| released.iter().filter_map(move |&range| common(held, range)))
            .collect();
        if still.is_empty() {
            return Ok(());
        }
        device.release(self.id, &Release { more, released: still })
    }
}

/// How long it takes to copy so much.
pub(super) fn takes(bytes: u64, a_second: u64) -> Duration {
    let nanoseconds = u128::from(bytes) * 1_000_000_000 / u128::from(a_second.max(1));
    Duration::from_nanos(u64::try_from(nanoseconds).unwrap_or(u64::MAX))
}

fn bytes(ranges: &[DpaRange]) -> u64 {
    ranges.iter().map(|range| range.length).sum()
}

fn common(one: DpaRange, other: DpaRange) -> Option<DpaRange> {
    let start = one.start.max(other.start);
    let end = one.end().min(other.end());
    let length = end.checked_sub(u128::from(start))? as u64;
    (length != 0).then(|| DpaRange::new(start, length))
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

    #[test]
    fn what_programs_need_stays_and_the_end_of_the_rest_leaves() {
        let mut host = Host::new(HostId(0), 64 * MIB, 4 * MIB);
        (host.has, host.need) = (32 * MIB, 18 * MIB);
        let ranges = [DpaRange::new(0, 16 * MIB), DpaRange::new(32 * MIB, 8 * MIB)];
        let Doing::Empty { free, asked, copies } = host.reclaim(&ranges) else { panic!() };
        // 14 MiB are spare: 12 in whole blocks.
        let expected = [DpaRange::new(12 * MIB, 4 * MIB), DpaRange::new(32 * MIB, 8 * MIB)];
        assert_eq!((free.as_slice(), asked), (&expected[..], 24 * MIB));
        assert_eq!(copies, 18 * MIB * 12 / 32);
        assert_eq!((host.usable(), host.uses(), host.wants()), (20 * MIB, 18 * MIB, 0));
        host.need = 21 * MIB;
        assert_eq!(host.wants(), 4 * MIB);
    }
}
