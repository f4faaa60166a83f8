//! What a process lacks, asks for, gets, and gives back.

use std::collections::BTreeSet;

use memtide_engine::{
    Input, Refusal,
    mempolicy::Mode,
    tenant::{Migration, OnDepletion},
};
use memtide_units::{Extent, HoldReason, MemberId, Pageblock, TenantId};

use crate::machine::{
    oracle::Checked,
    plan::{MS, Nanos, Promise},
    process::{Asked, Page, What},
    trace::variant,
    world::{SLACK, Step, World},
};

/// Reasons that a program gives because it wants its memory to stay; the others are facts.
const ASKED_FOR: [HoldReason; 2] = [HoldReason::LongTermPin, HoldReason::NoMigration];

impl World<'_> {
    /// Gives back what is too much.
    pub(in crate::machine) fn shrink(&mut self, number: usize) -> Checked<()> {
        let process = &mut self.processes[number];
        if !process.is_there() {
            return Ok(());
        }
        let mut released = Vec::new();
        while process.pages.len() as u64 > process.wants {
            if let Some(Page::Pool(pageblock)) = process.pop() {
                released.push(pageblock);
            }
        }
        let (member, less) = (process.member, process.promised.saturating_sub(process.wants));
        process.thaws.retain(|pageblock| !released.contains(pageblock));
        for &pageblock in &released {
            self.oracle.unmapped(pageblock);
        }
        if !released.is_empty() {
            self.must(Input::Release { member, extents: Extent::from_blocks(released) })?;
        }
        if less > 0 {
            self.must(Input::Commit { member, by: -(less as i64) })?;
            self.processes[number].promised -= less;
        }
        Ok(())
    }

    /// Asks for what is missing, first for a promise if the program does that.
    pub(in crate::machine) fn grow(&mut self, number: usize) -> Checked<()> {
        let plan = self.plan;
        let process = &self.processes[number];
        let missing = process.wants.saturating_sub(process.pages.len() as u64);
        if !process.is_there() || process.asked.is_some() || missing == 0 {
            return Ok(());
        }
        let program = &plan.programs[process.program];
        let (member, tenant) = (process.member, process.tenant);
        let lacks = process.wants.saturating_sub(process.promised);
        let (what, count) = match program.promise {
            Promise::Asked if lacks > 0 => (What::Promise, lacks),
            _ => (What::Lease, missing.min(program.lease_max.into())),
        };
        let patience = plan.limits.patience;
        let waits = match plan.tenants[tenant].on_depletion {
            OnDepletion::Wait(wait) | OnDepletion::Reclaim(wait) => wait.max(patience),
            OnDepletion::Fail | OnDepletion::FallBack => patience,
        };
        let until = self.now + waits.as_nanos() as Nanos + SLACK;
        self.oracle.owe(until, owed(number, what));
        let asked = Asked { since: self.now, until, count, what };
        self.note_sure(number, &asked);
        self.processes[number].asked = Some(asked);
        let said = match what {
            What::Promise => self.say(Input::Commit { member, by: count as i64 })?,
            What::Lease => {
                self.measure.note(self.now, tenant, |row| row.leases += 1);
                let count = count as u32;
                self.say(Input::Lease { member, count, after: None, policy: None })?
            }
        };
        match said {
            Ok(()) => Ok(()),
            Err(refusal) => Err(format!("refused: {refusal}; it was {what:?} of {count}")),
        }
    }

    pub(super) fn take_asked(&mut self, number: usize) -> Option<Asked> {
        let asked = self.processes[number].asked.take()?;
        self.oracle.settled(asked.until, &owed(number, asked.what));
        Some(asked)
    }

    fn retry(&mut self, number: usize) {
        if let Some(retry) = self.plan.programs[self.processes[number].program].retry {
            self.queue.push(self.now + retry, Step::Grow(number));
        }
    }

    pub(in crate::machine) fn promised(&mut self, member: MemberId, granted: bool) -> Checked<()> {
        let number = self.by_member(member)?;
        let Some(asked) = self.take_asked(number).filter(|asked| asked.what == What::Promise)
        else {
            return Err(format!("{member} is promised what it did not ask for"));
        };
        self.measure.saw(if granted { "promise given" } else { "promise refused" });
        if granted {
            self.processes[number].promised += asked.count;
            self.queue.push(self.now, Step::Grow(number));
        } else {
            self.short.push((number, asked));
            let tenant = self.processes[number].tenant;
            self.measure.note(self.now, tenant, |row| row.promises_refused += 1);
            self.explain(number);
            self.retry(number);
        }
        Ok(())
    }

    pub(in crate::machine) fn granted(
        &mut self,
        member: MemberId,
        extents: &[Extent],
    ) -> Checked<()> {
        let plan = self.plan;
        let number = self.by_member(member)?;
        let Some(asked) = self.take_asked(number).filter(|asked| asked.what == What::Lease) else {
            return Err(format!("{member} is granted what it did not ask for"));
        };
        let tenant = self.processes[number].tenant;
        let all: Vec<Pageblock> = extents.iter().flat_map(|extent| extent.iter()).collect();
        let got = all.len() as u64;
        if got > asked.count {
            return Err(format!("{member} is granted {got} pageblocks, asked for {}", asked.count));
        }
        self.map_granted(number, &all)?;
        self.judge_grant(number, &all)?;
        let waited = self.now - asked.since;
        if waited > 0 {
            self.measure.saw("lease waited");
            self.asked_until = self.now;
        }
        self.measure.note(self.now, tenant, |row| {
            row.leases_short += u64::from(got < asked.count);
            row.leases_waited += u64::from(waited > 0);
            row.wait_ms_max = row.wait_ms_max.max(waited / MS);
        });
        if plan.programs[self.processes[number].program].pin.is_some() && got > 0 {
            self.queue.push(self.now, Step::Pin(number, all));
        }
        if got < asked.count {
            self.explain(number);
            self.short.push((number, asked.clone()));
        }
        if got == asked.count {
            self.queue.push(self.now, Step::Grow(number));
        } else if plan.tenants[tenant].on_depletion == OnDepletion::FallBack {
            for _ in got..asked.count {
                self.processes[number].push(Page::Ordinary);
            }
            self.queue.push(self.now, Step::Grow(number));
        } else {
            self.retry(number);
        }
        // It may have come to want less while it waited.
        self.queue.push(self.now, Step::Shrink(number));
        Ok(())
    }

    /// A process maps what it was granted.
    fn map_granted(&mut self, number: usize, all: &[Pageblock]) -> Checked<()> {
        let (image, tenant) = (self.processes[number].image, self.processes[number].tenant);
        let stays = self.plan.tenants[tenant].migration == Migration::Never;
        for &pageblock in all {
            self.oracle.granted(pageblock, image)?;
            if stays {
                self.oracle.may_stay(pageblock, "granted to who is never moved")?;
            }
            let place = self.processes[number].pages.len() as u32;
            self.oracle.new_content((number as u64, place));
            self.processes[number].push(Page::Pool(pageblock));
        }
        Ok(())
    }

    /// Whether a process may have been granted what it maps now.
    fn judge_grant(&mut self, number: usize, all: &[Pageblock]) -> Checked<()> {
        let (plan, tenant) = (self.plan, self.processes[number].tenant);
        self.are_reached(number, all, "check reach of a grant")?;
        self.oracle.quota(plan, tenant)?;
        let kind = |&at: &Pageblock| plan.nodes[self.oracle.node_of(at)].kind;
        for kind in all.iter().map(kind).collect::<BTreeSet<_>>() {
            self.oracle.guarantees(plan, tenant, kind)?;
        }
        let anything = all.iter().filter(|&&at| !self.oracle.is_movable_only(at));
        for kind in anything.map(kind).collect::<BTreeSet<_>>() {
            self.oracle.guarantees_of_never(plan, tenant, kind)?;
        }
        Ok(())
    }

    /// Whether those who access a process's memory, as its policy says, reach the nodes where it
    /// comes to lie. Counted as seen where there is a node that they do not reach.
    pub(super) fn are_reached(
        &mut self,
        number: usize,
        all: &[Pageblock],
        seen: &str,
    ) -> Checked<()> {
        let (plan, process) = (self.plan, &self.processes[number]);
        let own = plan.programs[process.program].policy.as_ref();
        let mode = &own.unwrap_or(&plan.tenants[process.tenant].policy).mode;
        let Mode::AccessedBy(_) = mode else { return Ok(()) };
        let nodes: BTreeSet<usize> = all.iter().map(|&at| self.oracle.node_of(at)).collect();
        if let Some(node) = nodes.into_iter().find(|&node| !plan.is_reached(mode, node)) {
            let (member, name) = (process.member, &plan.nodes[node].name);
            return Err(format!(
                "{member} gets memory on {name:?}, which not all reach who use it"
            ));
        }
        if (0..plan.nodes.len()).any(|node| !plan.is_reached(mode, node)) {
            self.measure.saw(seen);
        }
        Ok(())
    }

    /// Makes what was granted unmovable, for a program that does that.
    pub(in crate::machine) fn pin(&mut self, number: usize, all: &[Pageblock]) -> Checked<()> {
        let process = &self.processes[number];
        let reason = self.plan.programs[process.program].pin;
        let (true, Some(reason)) = (process.is_there(), reason) else { return Ok(()) };
        let member = process.member;
        let still = all.iter().copied().filter(|pageblock| process.places.contains_key(pageblock));
        let still: Vec<Pageblock> = still.collect();
        let extents = Extent::from_blocks(still.iter().copied());
        if extents.is_empty() {
            return Ok(());
        }
        match self.say(Input::Pin { member, extents, reason })? {
            Ok(()) => {
                if ASKED_FOR.contains(&reason) {
                    still.iter().try_for_each(|&at| self.oracle.may_stay(at, "pinned"))?;
                }
                self.processes[number].pinned.extend(still);
            }
            Err(
                Refusal::PinLimit { .. }
                | Refusal::PinNotPermitted { .. }
                | Refusal::PinInZone { .. },
            ) => {}
            Err(refusal) => return Err(format!("refused: {refusal}; it was a pin")),
        }
        Ok(())
    }

    /// Counts the rules that stood in the way of a process's last wish.
    fn explain(&mut self, number: usize) {
        let (member, tenant) = (self.processes[number].member, self.processes[number].tenant);
        let mut last =
            self.engine.decisions(TenantId(tenant as u16)).filter(|one| one.member == member);
        let Some(last) = last.next_back() else { return };
        let names: Vec<String> = last.rules.iter().map(variant).collect();
        for name in names {
            self.measure.saw(&format!("rule {name}"));
            self.measure.note(self.now, tenant, |row| {
                *row.rules.entry(name.clone()).or_default() += 1;
            });
        }
    }
}

fn owed(number: usize, what: What) -> String {
    format!("{what:?} of process {}", number + 1)
}
