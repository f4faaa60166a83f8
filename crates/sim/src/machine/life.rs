//! What processes do: start, grow, shrink, fork, end, and answer what they are ordered.

use memtide_engine::{
    Input, Lineage, MoveOutcome, Refusal,
    tenant::{Credentials, OnDepletion},
};
use memtide_units::{Extent, HoldReason, MemberId, MoveId, PAGEBLOCK_BYTES, Pageblock, TenantId};

use super::{
    oracle::Checked,
    plan::{MS, Nanos, Promise},
    process::{Asked, Life, Page, Pairs, Process, What},
    world::{SLACK, Step, World, transfer, variant},
};

/// Pageblocks that are moved at once, as the live pager does it.
const BATCH: usize = 8;
/// What moving a batch takes beside copying: protecting, mapping.
const BATCH_TAKES: Nanos = 20_000;
/// What mapping shared again takes, for a batch.
const THAW_TAKES: Nanos = 100_000;
/// Until a process that lost something has let go of it.
const HEARS_AFTER: Nanos = 200_000;
/// Until a forked child is heard of.
const BORN_AFTER: Nanos = 50_000;

impl World<'_> {
    /// Whether something that goes wrong so often does now.
    pub(super) fn happens(&mut self, permille: u32) -> bool {
        permille > 0 && self.random.below(1000) < u64::from(permille)
    }

    pub(super) fn by_member(&self, member: MemberId) -> Checked<usize> {
        let number = (member.0 as usize).checked_sub(1);
        number
            .filter(|&number| self.processes.get(number).is_some_and(Process::is_there))
            .ok_or_else(|| format!("{member} is told something but is not there"))
    }

    pub(super) fn start(&mut self, number: usize) -> Checked<()> {
        let plan = self.plan;
        let program = &plan.programs[number];
        let process = self.processes.len();
        let name = process as u64 + 1;
        self.processes.push(Process::new(number, program.tenant, program.processor, name));
        let (member, token) = (self.processes[process].member, self.processes[process].token);
        self.must(Input::Join {
            member,
            pid: name as u32,
            name: program.name.clone(),
            token,
            lineage: Lineage::Fresh,
            who: Credentials {
                label: plan.tenants[program.tenant].name.clone(),
                ..Credentials::default()
            },
        })?;
        let image = self.engine.image_of(member).ok_or("who joined has no image")?;
        self.oracle.image(image, program.tenant)?;
        self.processes[process].image = image;
        if program.policy.is_some() {
            self.must(Input::SetPolicy { member, policy: program.policy.clone() })?;
        }
        if let Some((every, _)) = program.fork {
            self.queue.push(self.now + every, Step::Fork(process));
        }
        self.phase(process, 0)
    }

    pub(super) fn phase(&mut self, process: usize, number: u32) -> Checked<()> {
        let plan = self.plan;
        if !self.processes[process].is_there() {
            return Ok(());
        }
        let program = &plan.programs[self.processes[process].program];
        if self.happens(plan.faults.die_permille) {
            return self.die(process);
        }
        let phases = program.phases.len() as u32;
        if number >= phases.saturating_mul(program.repeats) {
            return self.die(process);
        }
        let phase = program.phases[(number % phases) as usize];
        self.processes[process].wants = phase.pageblocks;
        self.processes[process].access = phase.access;
        self.queue.push(self.now + phase.lasts, Step::Phase(process, number + 1));
        self.shrink(process)?;
        self.grow(process)
    }

    /// Gives back what is too much.
    pub(super) fn shrink(&mut self, number: usize) -> Checked<()> {
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
        process.promised -= less;
        process.thaws.retain(|pageblock| !released.contains(pageblock));
        for &pageblock in &released {
            self.oracle.unmapped(pageblock);
        }
        if !released.is_empty() {
            self.must(Input::Release { member, extents: Extent::from_blocks(released) })?;
        }
        if less > 0 {
            self.must(Input::Commit { member, by: -(less as i64) })?;
        }
        Ok(())
    }

    /// Asks for what is missing, first for a promise if the program does that.
    pub(super) fn grow(&mut self, number: usize) -> Checked<()> {
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

    fn take_asked(&mut self, number: usize) -> Option<Asked> {
        let asked = self.processes[number].asked.take()?;
        self.oracle.settled(asked.until, &owed(number, asked.what));
        Some(asked)
    }

    fn retry(&mut self, number: usize) {
        if let Some(retry) = self.plan.programs[self.processes[number].program].retry {
            self.queue.push(self.now + retry, Step::Grow(number));
        }
    }

    pub(super) fn promised(&mut self, member: MemberId, granted: bool) -> Checked<()> {
        let number = self.by_member(member)?;
        let Some(asked) = self.take_asked(number).filter(|asked| asked.what == What::Promise)
        else {
            return Err(format!("{member} is promised what it did not ask for"));
        };
        if granted {
            self.processes[number].promised += asked.count;
            self.queue.push(self.now, Step::Grow(number));
        } else {
            let tenant = self.processes[number].tenant;
            self.measure.note(self.now, tenant, |row| row.promises_refused += 1);
            self.explain(number);
            self.retry(number);
        }
        Ok(())
    }

    pub(super) fn granted(&mut self, member: MemberId, extents: &[Extent]) -> Checked<()> {
        let plan = self.plan;
        let number = self.by_member(member)?;
        let Some(asked) = self.take_asked(number).filter(|asked| asked.what == What::Lease) else {
            return Err(format!("{member} is granted what it did not ask for"));
        };
        let (image, tenant) = (self.processes[number].image, self.processes[number].tenant);
        let all: Vec<Pageblock> = extents.iter().flat_map(|extent| extent.iter()).collect();
        let got = all.len() as u64;
        if got > asked.count {
            return Err(format!("{member} is granted {got} pageblocks, asked for {}", asked.count));
        }
        let mut kinds = std::collections::BTreeSet::new();
        for &pageblock in &all {
            self.oracle.granted(pageblock, image)?;
            kinds.insert(plan.nodes[self.oracle.node_of(pageblock)].kind);
            let place = self.processes[number].pages.len() as u32;
            self.oracle.new_content((number as u64, place));
            self.processes[number].push(Page::Pool(pageblock));
        }
        self.oracle.quota(plan, tenant)?;
        for kind in kinds {
            self.oracle.guarantees(plan, tenant, kind)?;
        }
        let waited = self.now - asked.since;
        if waited > 0 {
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

    /// Makes what was granted unmovable, for a program that does that.
    pub(super) fn pin(&mut self, number: usize, all: &[Pageblock]) -> Checked<()> {
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
            Ok(()) => self.processes[number].pinned.extend(still),
            Err(Refusal::PinLimit { .. } | Refusal::PinNotPermitted { .. }) => {}
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

    pub(super) fn ordered(
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
        if self.plan.tenants[tenant].migration == memtide_engine::tenant::Migration::Never {
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

    pub(super) fn copied(&mut self, number: usize) -> Checked<()> {
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
            self.set_link(link, super::topology::Width::Lost)?;
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
        use super::oracle::State;
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
        self.oracle.went((number as u64, place), source, target, ordered, settle)?;
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

    pub(super) fn thaw_ordered(&mut self, member: MemberId, extents: &[Extent]) -> Checked<()> {
        let number = self.by_member(member)?;
        let process = &mut self.processes[number];
        let is_idle = process.thaws.is_empty();
        process.thaws.extend(extents.iter().flat_map(|extent| extent.iter()));
        if is_idle {
            self.queue.push(self.now + THAW_TAKES, Step::Thawed(number));
        }
        Ok(())
    }

    pub(super) fn thawed(&mut self, number: usize) -> Checked<()> {
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

    pub(super) fn fork(&mut self, number: usize) -> Checked<()> {
        let plan = self.plan;
        if !self.processes[number].is_there() {
            return Ok(());
        }
        let program = &plan.programs[self.processes[number].program];
        let Some((every, lives)) = program.fork else { return Ok(()) };
        self.queue.push(self.now + every, Step::Fork(number));
        let child = self.processes.len();
        let parent = &mut self.processes[number];
        let mut process =
            Process::new(parent.program, parent.tenant, parent.processor, child as u64 + 1);
        process.life = Life::Unborn;
        process.image = parent.image;
        parent.thaws.clear();
        let shared: Vec<Pageblock> = parent.places.keys().copied().collect();
        for &pageblock in &shared {
            parent.frozen.insert(pageblock);
            process.push(Page::Pool(pageblock));
            process.frozen.insert(pageblock);
        }
        process.wants = process.pages.len() as u64;
        let (member, token) = (parent.member, process.token);
        for pageblock in shared {
            self.oracle.shared(pageblock);
        }
        self.processes.push(process);
        self.queue.push(self.now + BORN_AFTER, Step::Born(child));
        self.queue.push(self.now + BORN_AFTER + lives, Step::Die(child));
        self.must(Input::ForkBegin { member, token })
    }

    pub(super) fn born(&mut self, number: usize) -> Checked<()> {
        let plan = self.plan;
        let process = &mut self.processes[number];
        if process.life != Life::Unborn {
            return Ok(());
        }
        process.life = Life::Running;
        let (member, token, tenant) = (process.member, process.token, process.tenant);
        let name = plan.programs[process.program].name.clone();
        self.must(Input::Join {
            member,
            pid: member.0 as u32,
            name,
            token,
            lineage: Lineage::Child(token),
            who: Credentials { label: plan.tenants[tenant].name.clone(), ..Credentials::default() },
        })
    }

    /// A process is gone, and all its mappings with it.
    pub(super) fn die(&mut self, number: usize) -> Checked<()> {
        if self.processes[number].life == Life::Gone {
            return Ok(());
        }
        self.take_asked(number);
        let process = &mut self.processes[number];
        process.life = Life::Gone;
        process.pages = Vec::new();
        process.frozen.clear();
        process.pinned.clear();
        process.thaws.clear();
        let places = std::mem::take(&mut process.places);
        let orders: Vec<(MoveId, Pairs)> = process.orders.drain(..).collect();
        let token = process.token;
        for (from, to) in orders.into_iter().flat_map(|(_, pairs)| pairs) {
            self.oracle.answered(from);
            self.oracle.not_coming(to);
        }
        for pageblock in places.into_keys() {
            self.oracle.unmapped(pageblock);
        }
        // A child that its parent took along before anybody heard of it may be forgotten already.
        if self.engine.knows(token) { self.must(Input::TokenGone { token }) } else { Ok(()) }
    }

    pub(super) fn lost(&mut self, member: MemberId, extents: &[Extent]) -> Checked<()> {
        let number = self.by_member(member)?;
        let mut count = 0;
        for pageblock in extents.iter().flat_map(|extent| extent.iter()) {
            let process = &mut self.processes[number];
            if !process.places.contains_key(&pageblock) {
                continue;
            }
            let place = process.places[&pageblock];
            self.oracle.new_content((number as u64, place));
            process.lose(pageblock);
            count += PAGEBLOCK_BYTES;
        }
        let tenant = self.processes[number].tenant;
        self.measure.note(self.now, tenant, |row| row.lost_bytes += count);
        self.queue.push(self.now, Step::Grow(number));
        self.queue.push(self.now + HEARS_AFTER, Step::LetGo(number, extents.to_vec()));
        Ok(())
    }

    /// Says that nothing of a process maps what it lost.
    pub(super) fn let_go(&mut self, number: usize, extents: Vec<Extent>) -> Checked<()> {
        let process = &self.processes[number];
        if !process.is_there() {
            return Ok(());
        }
        self.must(Input::LetGo { member: process.member, extents })
    }
}

fn owed(number: usize, what: What) -> String {
    format!("{what:?} of process {}", number + 1)
}
