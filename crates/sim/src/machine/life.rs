//! What processes do: start, go through their phases, fork, lose memory, end.

mod away;
mod orders;
mod sure;
mod wants;

use memtide_engine::{Input, Lineage, tenant::Credentials};
use memtide_units::{Extent, MemberId, MoveId, PAGEBLOCK_BYTES, Pageblock};

use super::{
    oracle::Checked,
    plan::Nanos,
    process::{Life, Page, Pairs, Process},
    world::{Step, World},
};

/// Until a process that lost something has let go of it.
const HEARS_AFTER: Nanos = 200_000;
/// How often a process without a connection looks whether it can go on.
const AWAY_TRIES: Nanos = 100_000_000;
/// Until a forked child is heard of.
const BORN_AFTER: Nanos = 50_000;

impl World<'_> {
    /// Whether something that goes wrong so often does now.
    pub(super) fn happens(&mut self, permille: u32) -> bool {
        permille > 0 && self.random.below(1000) < u64::from(permille)
    }

    /// What a program of a tenant is known by.
    fn who(&self, tenant: usize) -> Credentials {
        Credentials { label: self.plan.tenants[tenant].name.clone(), ..Credentials::default() }
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
            who: self.who(program.tenant),
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
        if self.processes[process].life == Life::Away {
            self.queue.push(self.now + AWAY_TRIES, Step::Phase(process, number));
        }
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

    pub(super) fn fork(&mut self, number: usize) -> Checked<()> {
        let plan = self.plan;
        let program = &plan.programs[self.processes[number].program];
        let Some((every, lives)) = program.fork else { return Ok(()) };
        if self.processes[number].life != Life::Gone {
            self.queue.push(self.now + every, Step::Fork(number));
        }
        if !self.processes[number].is_there() {
            return Ok(());
        }
        let child = self.processes.len();
        let parent = &mut self.processes[number];
        let mut process =
            Process::new(parent.program, parent.tenant, parent.processor, child as u64 + 1);
        process.life = Life::Unborn;
        process.image = parent.image;
        parent.thaws.clear();
        parent.children.push(child);
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
            who: self.who(tenant),
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
        for pageblock in std::mem::take(&mut self.processes[number].unclaimed) {
            self.oracle.not_coming(pageblock);
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
        let let_go = Step::LetGo(number, self.processes[number].connection, extents.to_vec());
        self.queue.push(self.now + HEARS_AFTER, let_go);
        Ok(())
    }

    /// Says that nothing of a process maps what it lost.
    pub(super) fn let_go(
        &mut self,
        number: usize,
        connection: u32,
        extents: Vec<Extent>,
    ) -> Checked<()> {
        let process = &self.processes[number];
        if !process.is_there() || process.connection != connection {
            return Ok(());
        }
        self.must(Input::LetGo { member: process.member, extents })
    }
}
