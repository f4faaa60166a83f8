//! The keys of `[machine]`, and their way to a [`Plan`]: every name known, every size possible.
//!
//! Each part has a file that reads it and resolves its names. Here is what is about several: names
//! that are there once, links, and what no part can say of itself.

mod event;
mod limits;
mod name;
mod node;
mod policy;
mod program;
mod tenant;
pub(crate) mod value;

use core::num::NonZeroU32;
use std::collections::BTreeMap;

use memtide_engine::{mempolicy::Weighting, tenant::Access};
use memtide_units::{NodeId, NodeKind, OnlineZone};
use serde::Deserialize;
use toml::Spanned;

use self::{
    event::EventText,
    limits::{FaultsText, LimitsText},
    name::{Names, find, unique, wrong},
    node::{LinkText, NodeText, speed},
    program::ProgramText,
    tenant::TenantText,
    value::{Time, second},
};
use super::{
    plan::{Happening, Plan, Window},
    topology::{Link, Place, Topology},
};
use crate::scenario::Wrong;

/// Programs at most.
const PROGRAMS_MAX: u64 = 100_000;

/// Pageblocks of all nodes at most: 8 TiB.
const PAGEBLOCKS_MAX: u64 = 1 << 22;

/// Samples at most.
const SAMPLES_MAX: u64 = 100_000;

/// `[machine]`, as it stands in a file.
#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(super) struct Text {
    duration: Time,
    #[serde(default = "second")]
    sample_every: Time,
    heat_every: Option<Time>,
    weighting: Option<WeightingText>,
    #[serde(default)]
    weights: BTreeMap<Spanned<String>, u8>,
    ordinary: Option<OrdinaryText>,
    zero_mib: Option<NonZeroU32>,
    #[serde(default)]
    limits: LimitsText,
    #[serde(default)]
    faults: FaultsText,
    #[serde(default)]
    window: Vec<Spanned<WindowText>>,
    processor: Vec<Named>,
    #[serde(default)]
    switch: Vec<Named>,
    node: Vec<Spanned<NodeText>>,
    #[serde(default)]
    link: Vec<Spanned<LinkText>>,
    tenant: Vec<Spanned<TenantText>>,
    program: Vec<Spanned<ProgramText>>,
    #[serde(default)]
    event: Vec<Spanned<EventText>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
enum WeightingText {
    Automatic,
    Manual,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct OrdinaryText {
    latency_ns: NonZeroU32,
    bandwidth_mib: NonZeroU32,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct WindowText {
    name: String,
    from: Time,
    to: Time,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct Named {
    name: Spanned<String>,
}

impl Text {
    /// The plan, or the first mistake.
    pub(super) fn plan(&self) -> Result<Plan, Wrong> {
        let place = |named: &Named| named.name.span().start;
        let named = |all: &[Named], what| {
            unique(what, all.iter().map(|one| (place(one), one.name.get_ref().as_str())))
        };
        let processors = named(&self.processor, "processor")?;
        if processors.is_empty() {
            return Err("no processor; expected one or more".to_owned().into());
        }
        let switches = named(&self.switch, "switch")?;
        let nodes = self
            .node
            .iter()
            .map(|node| (node.get_ref().name.span().start, node.get_ref().name.get_ref().as_str()));
        let nodes = unique("node", nodes)?;
        let tenants = self.tenant.iter();
        let tenants = tenants.map(|tenant| (tenant.span().start, tenant.get_ref().name.as_str()));
        let tenants = unique("tenant", tenants)?;
        let programs = self.program.iter();
        let programs = programs.map(|one| (one.span().start, one.get_ref().name.as_str()));
        let programs = unique("program", programs)?;
        let links = self.links(&processors, &switches, &nodes)?;
        let names: Vec<String> = links.iter().map(|link| link.name.clone()).collect();
        let topology = Topology::new(processors.len(), nodes.len(), links).map_err(|error| {
            let at = error.link.map_or(0, |link| self.link[link].span().start);
            wrong(at, error.problem)
        })?;
        let names = Names { processors, nodes, tenants, programs, links: names };
        let plan = self.with_names(&names, topology)?;
        self.check(&plan)?;
        Ok(plan)
    }

    fn links(
        &self,
        processors: &[String],
        switches: &[String],
        nodes: &[String],
    ) -> Result<Vec<Link>, Wrong> {
        let all: Vec<&String> = processors.iter().chain(switches).chain(nodes).collect();
        if let Some(at) = (1..all.len()).find(|&at| all[..at].contains(&all[at])) {
            let name = all[at];
            return Err(format!("{name:?} is a processor, switch or node twice").into());
        }
        let place = |name: &Spanned<String>| {
            let at = |names: &[String]| names.iter().position(|known| known == name.get_ref());
            let place = at(processors).map(Place::Processor);
            let place = place.or_else(|| at(switches).map(Place::Switch));
            place.or_else(|| at(nodes).map(Place::Node)).ok_or_else(|| {
                let problem = format!(
                    "no processor, switch or node {:?} for a link to end at",
                    name.get_ref()
                );
                wrong(name.span().start, problem)
            })
        };
        let link = |text: &Spanned<LinkText>| {
            let LinkText { name, from, to, latency_ns, bandwidth_mib } = text.get_ref();
            let name = name.clone();
            let name = name.unwrap_or_else(|| format!("{}-{}", from.get_ref(), to.get_ref()));
            Ok(Link {
                name,
                from: place(from)?,
                to: place(to)?,
                latency_ns: *latency_ns,
                bandwidth_mib: bandwidth_mib.get(),
            })
        };
        let links: Vec<Link> = self.link.iter().map(link).collect::<Result<_, Wrong>>()?;
        let at = |number: usize| self.link[number].span().start;
        unique("link", links.iter().enumerate().map(|(n, link)| (at(n), link.name.as_str())))?;
        Ok(links)
    }

    fn with_names(&self, names: &Names, topology: Topology) -> Result<Plan, Wrong> {
        let windows = self.window.iter().map(|window| {
            let WindowText { name, from, to } = window.get_ref();
            if from.0 >= to.0 || to.0 > self.duration.0 {
                let expected = "expected one that ends after it begins, within the duration";
                return Err(wrong(window.span().start, format!("window {name:?}; {expected}")));
            }
            Ok(Window { name: name.clone(), from: from.0, to: to.0 })
        });
        let mut windows: Vec<Window> = windows.collect::<Result<_, Wrong>>()?;
        if windows.is_empty() {
            windows.push(Window { name: "all".to_owned(), from: 0, to: self.duration.0 });
        }
        let weight = |(name, weight): (&Spanned<String>, &u8)| {
            let node = find(&names.nodes, "node", name)?;
            match weight {
                0 => Err(wrong(name.span().start, "weight 0; expected 1 to 255")),
                &weight => Ok((NodeId(node as u16), weight)),
            }
        };
        let OrdinaryText { latency_ns, bandwidth_mib } =
            self.ordinary.as_ref().unwrap_or(&ORDINARY);
        Ok(Plan {
            duration: self.duration.0,
            sample_every: self.sample_every.0,
            heat_every: self.heat_every.map(|every| every.0),
            windows,
            processors: names.processors.clone(),
            nodes: self
                .node
                .iter()
                .map(|node| node.get_ref().node(node.span().start))
                .collect::<Result<_, _>>()?,
            topology,
            ordinary: speed(*latency_ns, *bandwidth_mib, None, None),
            tenants: self
                .tenant
                .iter()
                .map(|tenant| tenant.get_ref().tenant(tenant.span().start, names))
                .collect::<Result<_, _>>()?,
            weighting: match self.weighting {
                Some(WeightingText::Manual) => Weighting::Manual,
                _ => Weighting::Automatic,
            },
            weights: self.weights.iter().map(weight).collect::<Result<_, _>>()?,
            limits: self.limits.limits(),
            programs: self
                .program
                .iter()
                .map(|program| program.get_ref().program(program.span().start, names))
                .collect::<Result<_, _>>()?,
            events: self
                .event
                .iter()
                .map(|event| event.get_ref().event(event.span().start, names))
                .collect::<Result<_, _>>()?,
            faults: self.faults.faults()?,
            zero_mib: self.zero_mib.map_or(16 << 10, |mib| mib.get().into()),
        })
    }

    /// What no part can say of itself.
    fn check(&self, plan: &Plan) -> Result<(), Wrong> {
        let pageblocks = plan.pageblocks();
        if pageblocks > PAGEBLOCKS_MAX {
            return Err(
                format!("{pageblocks} pageblocks; expected {PAGEBLOCKS_MAX} at most").into()
            );
        }
        let programs: u64 = plan.programs.iter().map(|program| u64::from(program.count)).sum();
        if programs > PROGRAMS_MAX {
            return Err(format!("{programs} programs; expected {PROGRAMS_MAX} at most").into());
        }
        if plan.sample_every == 0 || plan.duration / plan.sample_every > SAMPLES_MAX {
            let problem = format!("sample-every; expected {SAMPLES_MAX} samples at most");
            return Err(problem.into());
        }
        if plan.heat_every == Some(0) {
            return Err("heat-every 0; expected more".to_owned().into());
        }
        if plan.duration == 0 {
            return Err("duration 0; expected more".to_owned().into());
        }
        self.quotas(plan)?;
        self.zones(plan)?;
        for kind in NodeKind::ALL {
            let there: u64 = plan
                .nodes
                .iter()
                .filter(|node| node.kind == kind)
                .map(|node| node.pageblocks)
                .sum();
            let sure: u64 = plan.tenants.iter().map(|tenant| tenant.quota(kind).min).sum();
            if sure > there {
                let problem = format!(
                    "{sure} pageblocks of {kind} are guaranteed, of {there} that there are"
                );
                return Err(problem.into());
            }
        }
        Ok(())
    }

    /// Nobody is sure to get more than it may have.
    fn quotas(&self, plan: &Plan) -> Result<(), Wrong> {
        for (number, tenant) in plan.tenants.iter().enumerate() {
            for (kind, quota) in &tenant.quotas {
                let max = quota.max.unwrap_or(u64::MAX);
                if quota.min > max || quota.access == Access::Denied && quota.min > 0 {
                    let problem = format!(
                        "tenant {:?}: at least {} pageblocks of {kind}; expected {} at most",
                        tenant.name,
                        quota.min,
                        if quota.access == Access::Denied { 0 } else { max },
                    );
                    return Err(wrong(self.tenant[number].span().start, problem));
                }
            }
        }
        Ok(())
    }

    /// Memory comes into no zone that its node cannot have.
    fn zones(&self, plan: &Plan) -> Result<(), Wrong> {
        for (number, event) in plan.events.iter().enumerate() {
            let Happening::Add { to, zone: Some(zone), .. } = event.what else { continue };
            let (own, name) = (plan.nodes[to].zone, &plan.nodes[to].name);
            if (zone == OnlineZone::Exmem) != (own == OnlineZone::Exmem) {
                let problem = format!(
                    "zone \"{zone}\" on node {name:?}, which is in \"{own}\"; expected all of a \
                     node in \"exmem\" or nothing"
                );
                return Err(wrong(self.event[number].span().start, problem));
            }
        }
        Ok(())
    }
}

/// Memory of programs beside the pool, unless something is said of it.
const ORDINARY: OrdinaryText = OrdinaryText {
    latency_ns: NonZeroU32::new(100).expect("not 0"),
    bandwidth_mib: NonZeroU32::new(10 << 10).expect("not 0"),
};
