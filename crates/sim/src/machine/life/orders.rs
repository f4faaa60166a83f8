//! What a process does when it is ordered to move or to thaw.

use std::collections::BTreeSet;

use memtide_engine::{Input, MoveOutcome, Refusal, tenant::Migration};
use memtide_units::{Extent, HoldReason, MemberId, MoveId, PAGEBLOCK_BYTES, Pageblock};

use crate::machine::{
    operator::Chosen,
    oracle::{Checked, State, Went},
    plan::Nanos,
    process::{Life, Process},
    topology::Width,
    world::{Step, World, transfer},
};

/// Pageblocks that are moved at once, as the live pager does it.
const BATCH: usize = 8;
/// What moving a batch takes beside copying: protecting, mapping.
const BATCH_TAKES: Nanos = 20_000;
/// What mapping shared again takes, for a batch.
const THAW_TAKES: Nanos = 100_000;

impl World<'_> {
    pub(in crate::machine) fn ordered(
        &mut self,
        member: MemberId,
        id: MoveId,
        pairs: Vec<(Pageblock, Pageblock)>,
    ) -> Checked<()> {
        let number = self.by_member(member)?;
        let (image, tenant) = (self.processes[number].image, self.processes[number].tenant);
        for &(from, to) in &pairs {
            self.oracle.coming(to, image)?;
            self.oracle.leaving(from, self.now);
            let process = &self.processes[number];
            if !process.places.contains_key(&from) {
                return Err(format!("{member} is to move {from}, which it does not have"));
            }
            if process.pinned.contains(&from) {
                return Err(format!("{member} is to move {from}, which is pinned"));
            }
        }
        // Who names nodes means them, whoever reaches those.
        if self.open.iter().all(|open| open.chosen == Chosen::ByPolicy) {
            let to: Vec<Pageblock> = pairs.iter().map(|&(_, to)| to).collect();
            self.are_reached(number, &to, "check reach of a move")?;
        }
        let kind = |at| self.plan.nodes[self.oracle.node_of(at)].kind;
        let others = pairs.iter().filter(|&&(from, to)| kind(from) != kind(to));
        let kinds: BTreeSet<_> = others.map(|&(_, to)| kind(to)).collect();
        for kind in kinds {
            self.oracle.guarantees(self.plan, tenant, kind)?;
        }
        if self.plan.tenants[tenant].migration == Migration::Never {
            return Err(format!("{member} is to move something; its tenant must never move"));
        }
        let is_idle = self.processes[number].orders.is_empty();
        self.processes[number].orders.push_back((id, pairs.into()));
        if is_idle {
            self.copy(number);
        }
        Ok(())
    }

    /// Begins to copy the next batch.
    fn copy(&mut self, number: usize) {
        let faults = self.plan.faults;
        if self.processes[number].life != Life::Running {
            return;
        }
        if self.happens(faults.mute_permille) {
            self.measure.saw("fault mute");
            self.processes[number].life = Life::Mute;
            return;
        }
        let process = &self.processes[number];
        let Some((_, pairs)) = process.orders.front() else { return };
        let processor = process.processor;
        let mut takes = BATCH_TAKES;
        for &(from, to) in pairs.iter().take(BATCH) {
            let of = |pageblock| {
                let node = self.oracle.node_of(pageblock);
                self.plan.performance(&self.topology, processor, node)
            };
            let read = of(from).map_or(1, |speed| speed.read_bandwidth_mib);
            let write = of(to).map_or(1, |speed| speed.write_bandwidth_mib);
            takes += transfer(PAGEBLOCK_BYTES, read.min(write).into());
        }
        if self.happens(faults.late_permille) {
            self.measure.saw("fault late");
            takes *= 100;
        }
        self.queue.push(self.now + takes, Step::Copied(number));
    }

    pub(in crate::machine) fn copied(&mut self, number: usize) -> Checked<()> {
        let faults = self.plan.faults;
        if self.processes[number].life != Life::Running {
            return Ok(());
        }
        if self.happens(faults.die_permille) {
            self.measure.saw("fault die");
            return self.die(number);
        }
        if self.happens(faults.link_lost_permille) && !self.topology.links.is_empty() {
            self.measure.saw("fault link lost");
            let link = self.random.below(self.topology.links.len() as u64) as usize;
            self.set_link(link, Width::Lost)?;
        }
        let Some((id, pairs)) = self.processes[number].orders.front_mut() else { return Ok(()) };
        let id = *id;
        let batch: Vec<_> = pairs.drain(..pairs.len().min(BATCH)).collect();
        if pairs.is_empty() {
            self.processes[number].orders.pop_front();
        }
        let outcomes = batch.iter().map(|&pair| {
            let ordered = self.oracle.answered(pair.0).unwrap_or(self.now);
            self.move_one(number, pair, ordered)
        });
        let outcomes: Vec<MoveOutcome> = outcomes.collect::<Checked<_>>()?;
        let member = self.processes[number].member;
        match self.say(Input::Moved { member, id, outcomes })? {
            // What it was about is gone with its device.
            Ok(()) | Err(Refusal::NoSuchOrder { .. }) => {}
            Err(refusal) => return Err(format!("refused: {refusal}; it was the answer to {id}")),
        }
        if !self.processes[number].orders.is_empty() {
            self.copy(number);
        }
        Ok(())
    }

    fn move_one(
        &mut self,
        number: usize,
        (from, to): (Pageblock, Pageblock),
        ordered: Nanos,
    ) -> Checked<MoveOutcome> {
        let process = &self.processes[number];
        let outcome = if !process.places.contains_key(&from) {
            MoveOutcome::Gone
        } else if process.frozen.contains(&from) {
            MoveOutcome::Held(HoldReason::SharedWithChild)
        } else if !matches!(self.oracle.state(to), State::Coming(_)) {
            MoveOutcome::Held(HoldReason::MoveFailed)
        } else if self.happens(self.plan.faults.held_permille) {
            self.measure.saw("fault held");
            MoveOutcome::Held(HoldReason::DirectRead)
        } else {
            MoveOutcome::Moved
        };
        if outcome != MoveOutcome::Moved {
            self.oracle.not_coming(to);
            return Ok(outcome);
        }
        let place = self.processes[number].places[&from];
        self.processes[number].replace(from, to);
        self.oracle.arrived(to)?;
        self.oracle.unmapped(from);
        self.oracle.quota(self.plan, self.processes[number].tenant)?;
        let (source, target) = (self.oracle.node_of(from), self.oracle.node_of(to));
        let tenant = self.processes[number].tenant;
        self.measure.moved(self.now, tenant, source, target);
        // A move is decided up to a round of looking before it is ordered.
        let limits = self.plan.limits;
        let settle = limits.settle_for.saturating_sub(limits.idle_after / 8).as_nanos() as Nanos;
        let settle = self.is_balance().then_some(settle);
        if settle.is_some() && source != target {
            self.measure.saw("balance moved");
        }
        let went = self.oracle.went((number as u64, place), source, target, ordered, settle)?;
        if went == Went::Again {
            self.measure.saw("check ping-pong");
        }
        Ok(outcome)
    }

    /// Whether nobody has asked for what moves now.
    fn is_balance(&self) -> bool {
        let settle = self.plan.limits.settle_for.as_nanos() as Nanos;
        let waits = |process: &Process| process.asked.is_some();
        self.open.is_empty()
            && self.now > self.asked_until + settle
            && !self.processes.iter().any(waits)
    }

    pub(in crate::machine) fn thaw_ordered(
        &mut self,
        member: MemberId,
        extents: &[Extent],
    ) -> Checked<()> {
        let number = self.by_member(member)?;
        let process = &mut self.processes[number];
        let is_idle = process.thaws.is_empty();
        process.thaws.extend(extents.iter().flat_map(|extent| extent.iter()));
        if is_idle {
            self.queue.push(self.now + THAW_TAKES, Step::Thawed(number));
        }
        Ok(())
    }

    pub(in crate::machine) fn thawed(&mut self, number: usize) -> Checked<()> {
        let process = &mut self.processes[number];
        if process.life != Life::Running || process.thaws.is_empty() {
            return Ok(());
        }
        let count = process.thaws.len().min(BATCH);
        let batch: Vec<Pageblock> = process.thaws.drain(..count).collect();
        let (known, unknown): (Vec<_>, Vec<_>) =
            batch.into_iter().partition(|pageblock| process.places.contains_key(pageblock));
        process.frozen.retain(|pageblock| !known.contains(pageblock));
        let (member, more) = (process.member, !process.thaws.is_empty());
        if more {
            self.queue.push(self.now + THAW_TAKES, Step::Thawed(number));
        }
        if !unknown.is_empty() {
            for &pageblock in &unknown {
                self.oracle.not_coming(pageblock);
            }
            self.must(Input::Release { member, extents: Extent::from_blocks(unknown) })?;
        }
        if known.is_empty() {
            return Ok(());
        }
        self.must(Input::Thawed { member, extents: Extent::from_blocks(known) })
    }
}
