//! A process loses its connection, goes on without, and returns with what it holds.
//!
//! What it was ordered to move and had not answered it may have moved or not; only it knows. What
//! it asked for is forgotten. What it lost meanwhile it hears when it returns.

use memtide_engine::{Claims, Input, Lineage};
use memtide_units::{Extent, Pageblock};

use crate::machine::{
    oracle::{Checked, State},
    plan::Nanos,
    process::Life,
    world::{Step, World},
};

impl World<'_> {
    /// The connection of a process is lost for some time.
    pub(in crate::machine) fn leave(&mut self, number: usize, away: Nanos) -> Checked<()> {
        self.take_asked(number);
        let process = &mut self.processes[number];
        process.life = Life::Away;
        process.connection += 1;
        process.thaws.clear();
        let member = process.member;
        let orders: Vec<_> = process.orders.drain(..).collect();
        for (from, to) in orders.into_iter().flat_map(|(_, pairs)| pairs) {
            self.oracle.answered(from);
            let process = &self.processes[number];
            let can = process.places.contains_key(&from) && !process.frozen.contains(&from);
            let can = can && matches!(self.oracle.state(to), State::Coming(_));
            if can && self.happens(500) {
                self.measure.saw("fault moved but unanswered");
                let place = self.processes[number].places[&from];
                self.oracle.new_content((number as u64, place));
                self.processes[number].replace(from, to);
                self.oracle.arrived(to)?;
                self.oracle.unmapped(from);
            } else {
                self.processes[number].unclaimed.push(to);
            }
        }
        self.queue.push(self.now + away, Step::Return(number));
        self.must(Input::Left { member })
    }

    /// It is connected again, and says what it holds.
    pub(in crate::machine) fn come_back(&mut self, number: usize) -> Checked<()> {
        if self.processes[number].life != Life::Away {
            return Ok(());
        }
        for pageblock in std::mem::take(&mut self.processes[number].unclaimed) {
            self.oracle.not_coming(pageblock);
        }
        let is_child = |&&child: &&usize| self.processes[child].life != Life::Gone;
        let children = self.processes[number].children.iter().filter(is_child);
        let children = children.map(|&child| self.processes[child].token).collect();
        let plan = self.plan;
        let process = &mut self.processes[number];
        process.life = Life::Running;
        let is_shared = |at: &Pageblock| process.frozen.contains(at);
        let (shared, leased): (Vec<Pageblock>, Vec<_>) =
            process.places.keys().copied().partition(is_shared);
        let (member, token, tenant) = (process.member, process.token, process.tenant);
        let claims = Claims {
            member,
            image: process.image,
            leased: Extent::from_blocks(leased),
            shared: Extent::from_blocks(shared),
            children,
            committed: process.promised,
        };
        let program = &plan.programs[process.program];
        let who = self.who(tenant);
        self.must(Input::Join {
            member,
            pid: member.0 as u32,
            name: program.name.clone(),
            token,
            lineage: Lineage::Returning(claims),
            who,
        })?;
        let process = &self.processes[number];
        let gone =
            |at: &&Pageblock| matches!(self.oracle.state(**at), State::Gone | State::Offline);
        if let Some(pageblock) = process.places.keys().find(gone) {
            return Err(format!("{member} returns and is not told that {pageblock} is gone"));
        }
        if program.policy.is_some() {
            self.must(Input::SetPolicy { member, policy: program.policy.clone() })?;
        }
        self.queue.push(self.now, Step::Shrink(number));
        self.queue.push(self.now, Step::Grow(number));
        Ok(())
    }
}
