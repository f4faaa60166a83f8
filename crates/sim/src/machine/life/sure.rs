//! Whether who is sure to get something gets it: no request of a tenant that is below its
//! guaranteed minimum is refused, or waits, while there is room for what is guaranteed.
//!
//! What is looked at is less than what the rules reach: no node of a device whose driver was asked
//! something, none that was evacuated, no emergency; and nothing while an operator's request takes
//! free memory out of use. So what is found is wrong in any case.

use memtide_engine::{
    mempolicy::{MemPolicy, Mode},
    nodes::{NodeClass, NodeMask},
    tenant::{Access, Emergency, OnDepletion},
};
use memtide_units::{Extent, NodeId, NodeKind};

use crate::machine::{
    oracle::Checked,
    process::{Asked, Life, Process, What},
    world::World,
};

impl World<'_> {
    /// A node is evacuated, or its driver is asked something: nothing is sure there.
    pub(in crate::machine) fn close(&mut self, node: usize) {
        self.closed[node] = true;
    }

    /// Memory is put back: a node without a driver is as good as before.
    pub(in crate::machine) fn reopen(&mut self, extents: &[Extent]) {
        for extent in extents {
            let node = self.oracle.node_of(extent.start);
            self.closed[node] &= self.plan.nodes[node].kind == NodeKind::Device;
        }
    }

    /// Notes that a process asks for something that it is sure to get.
    pub(super) fn note_sure(&mut self, number: usize, asked: &Asked) {
        let is_sure = match asked.what {
            What::Lease => self.had_its_own(number).is_err(),
            What::Promise => self.had_its_promise(number, asked.count).is_err(),
        };
        if is_sure {
            self.measure.saw("check guarantee");
        }
    }

    /// Checks all who wait, and all who were just answered with less than they asked for.
    pub(in crate::machine) fn all_had_their_own(&mut self) -> Checked<()> {
        let answered = std::mem::take(&mut self.short);
        if !self.open.is_empty() {
            return Ok(());
        }
        let all = self.processes.iter().enumerate();
        let wait = all.filter_map(|(number, process)| Some((number, process.asked.clone()?)));
        for (number, asked) in answered.into_iter().chain(wait) {
            if !self.processes[number].is_there() {
                continue;
            }
            match asked.what {
                What::Lease => self.had_its_own(number)?,
                What::Promise => self.had_its_promise(number, asked.count)?,
            }
        }
        Ok(())
    }

    /// Whether a process that lacks something has what its tenant is sure to get and did not have
    /// promised to other processes.
    fn had_its_own(&self, number: usize) -> Checked<()> {
        let mut nodes = self.surely_reached(number);
        nodes.retain(|&node| !self.closed[node]);
        let tenant = self.processes[number].tenant;
        // Promises of who falls back bind nobody.
        let binds = self.plan.tenants[tenant].on_depletion != OnDepletion::FallBack;
        let others = self.alive_of(tenant).filter(|&(other, _)| binds && other != number);
        let others: Vec<_> = others.map(|(other, one)| (self.may_reach(other), one)).collect();
        let promised = |kind: NodeKind| {
            let is_of_kind = |&node: &usize| self.plan.nodes[node].kind == kind;
            let all = others.iter().filter(|(reach, _)| reach.iter().any(is_of_kind));
            all.map(|(_, one)| one.promised.saturating_sub(one.places.len() as u64)).sum::<u64>()
        };
        self.oracle.had_its_own(self.plan, tenant, &nodes, promised)
    }

    fn alive_of(&self, tenant: usize) -> impl Iterator<Item = (usize, &Process)> {
        let all = self.processes.iter().enumerate();
        all.filter(move |(_, one)| one.tenant == tenant && one.life != Life::Gone)
    }

    /// Whether a process that was not promised so much more could not count upon it: what is
    /// guaranteed can be promised, if nothing of the machine has left.
    fn had_its_promise(&self, number: usize, count: u64) -> Checked<()> {
        let tenant = self.processes[number].tenant;
        let is_all = self.surely_reached(number).len() == self.plan.nodes.len();
        let is_whole = self.oracle.is_whole() && self.oracle.can_all_be_met(self.plan);
        if !is_all || !is_whole || self.closed.contains(&true) {
            return Ok(());
        }
        let (mut promised, mut waits) = (0, false);
        for (other, process) in self.alive_of(tenant) {
            promised += process.promised.max(process.places.len() as u64);
            let asks = process.asked.as_ref().is_some_and(|asked| asked.what == What::Promise);
            waits |= asks && other != number;
        }
        let of = &self.plan.tenants[tenant];
        let sure: u64 = NodeKind::ALL.map(|kind| of.quota(kind).min).iter().sum();
        if waits || promised + count > sure {
            return Ok(());
        }
        Err(format!(
            "guarantee: tenant {:?} has or is promised {promised} pageblocks and is not promised \
             {count} more; it is sure to get {sure}",
            of.name
        ))
    }

    /// Nodes where a process's policy may lead: all that it does not leave out for good.
    fn may_reach(&self, number: usize) -> Vec<usize> {
        let (plan, process) = (self.plan, &self.processes[number]);
        let tenant = &plan.tenants[process.tenant];
        let own = plan.programs[process.program].policy.as_ref();
        let MemPolicy { mode, extended } = own.unwrap_or(&tenant.policy);
        let stays =
            tenant.on_depletion != OnDepletion::FallBack && tenant.emergency == Emergency::Off;
        let leads_to = |&node: &usize| {
            let kind = plan.nodes[node].kind;
            let leads = match mode {
                Mode::Bind(named) | Mode::Interleave(named) | Mode::WeightedInterleave(named) => {
                    !stays || named.contains(NodeId(node as u16))
                }
                mode => plan.is_reached(mode, node),
            };
            leads
                && extended.allows(plan.nodes[node].is_extended())
                && tenant.quota(kind).access == Access::Allowed
        };
        (0..plan.nodes.len()).filter(leads_to).collect()
    }

    /// Nodes where a process's policy leads in any case.
    fn surely_reached(&self, number: usize) -> Vec<usize> {
        let (plan, process) = (self.plan, &self.processes[number]);
        let tenant = &plan.tenants[process.tenant];
        let own = plan.programs[process.program].policy.as_ref();
        let MemPolicy { mode, extended } = own.unwrap_or(&tenant.policy);
        let falls_back = tenant.on_depletion == OnDepletion::FallBack;
        // Its owner may want requests to stay.
        let is_private =
            |node: NodeId| matches!(plan.nodes[usize::from(node.0)].class, NodeClass::Private(_));
        let names_private = |named: &NodeMask| named.iter().any(is_private);
        let leads_to = |&node: &usize| {
            let (id, class) = (NodeId(node as u16), plan.nodes[node].class);
            let is_public = class == NodeClass::Public;
            let leads = match mode {
                Mode::Local => is_public,
                // Of special memory only what is nearest to those who access it.
                Mode::AccessedBy(_) => is_public && plan.is_reached(mode, node),
                Mode::Preferred(named) => is_public || *named == id,
                Mode::PreferredMany(named) => is_public || named.contains(id),
                Mode::Bind(named) | Mode::Interleave(named) | Mode::WeightedInterleave(named) => {
                    named.contains(id) || falls_back && is_public && !names_private(named)
                }
            };
            leads && extended.allows(plan.nodes[node].is_extended())
        };
        (0..plan.nodes.len()).filter(leads_to).collect()
    }
}
