//! Random machines.
//!
//! A seed makes a machine, its links, tenants, programs, events and faults. Whether a feature is
//! there at all is drawn first (swarm testing: Groce et al., ISSTA 2012): a run in which everything
//! happens at once hides what happens only when something else does not. Machines are small, so
//! that memory runs out and everything is checked after every step.
//!
//! `machine`: nodes, links, limits. `tenants`: who may have what. `happenings`: what programs do,
//! and what goes wrong.

mod happenings;
mod machine;
mod tenants;

use memtide_engine::{Performance, mempolicy::Weighting};
use memtide_units::Random;

use super::plan::{Faults, MS, Nanos, Plan, SECOND, Window};

/// How long a run lasts.
const DURATION: Nanos = 20 * SECOND;

/// What is there at all.
struct Features {
    special: bool,
    private: bool,
    links: bool,
    quotas: bool,
    guarantees: bool,
    policies: bool,
    waits: bool,
    promises: bool,
    pins: bool,
    forks: bool,
    fleets: bool,
    heat: bool,
    operators: bool,
    evacuations: bool,
    extents: bool,
    zones: bool,
    accessors: bool,
    mbinds: bool,
    leaves: bool,
    losses: bool,
    poison: bool,
    faults: bool,
}

/// The machine of a seed.
pub fn plan(seed: u64) -> Plan {
    let mut swarm = Swarm { random: Random::new(seed) };
    let has = swarm.features();
    let nodes = swarm.nodes(&has);
    let topology = swarm.topology(&has, nodes.len());
    let tenants = swarm.tenants(&has, &nodes);
    let programs = swarm.programs(&has, &nodes, tenants.len());
    let events = swarm.events(&has, &nodes, &topology, programs.len());
    Plan {
        duration: DURATION,
        sample_every: SECOND,
        heat_every: has.heat.then(|| swarm.one_of(&[100 * MS, 500 * MS, SECOND])),
        windows: vec![Window { name: "all".to_owned(), from: 0, to: DURATION }],
        processors: vec!["cpu0".to_owned(), "cpu1".to_owned()],
        nodes,
        topology,
        ordinary: speed(100, 10_000),
        tenants,
        weighting: swarm.one_of(&[Weighting::Automatic, Weighting::Manual]),
        weights: Vec::new(),
        limits: swarm.limits(),
        programs,
        events,
        faults: if has.faults { swarm.faults(&has) } else { Faults::default() },
        zero_mib: swarm.one_of(&[50, 1000, 16_000]),
    }
}

const fn speed(latency_ns: u32, bandwidth_mib: u32) -> Performance {
    Performance {
        read_latency_ns: latency_ns,
        write_latency_ns: latency_ns,
        read_bandwidth_mib: bandwidth_mib,
        write_bandwidth_mib: bandwidth_mib,
    }
}

struct Swarm {
    random: Random,
}

impl Swarm {
    fn below(&mut self, end: u64) -> u64 {
        self.random.below(end)
    }

    /// Between, both ends included.
    fn between(&mut self, least: u64, most: u64) -> u64 {
        least + self.below(most - least + 1)
    }

    fn one_of<T: Clone>(&mut self, all: &[T]) -> T {
        all[self.below(all.len() as u64) as usize].clone()
    }

    /// True so many times of a hundred.
    fn percent(&mut self, percent: u64) -> bool {
        self.below(100) < percent
    }

    fn features(&mut self) -> Features {
        Features {
            special: self.percent(40),
            private: self.percent(15),
            links: self.percent(50),
            quotas: self.percent(50),
            guarantees: self.percent(40),
            policies: self.percent(70),
            waits: self.percent(60),
            promises: self.percent(40),
            pins: self.percent(30),
            forks: self.percent(30),
            fleets: self.percent(30),
            heat: self.percent(50),
            operators: self.percent(70),
            evacuations: self.percent(40),
            extents: self.percent(40),
            zones: self.percent(50),
            accessors: self.percent(30),
            mbinds: self.percent(40),
            leaves: self.percent(40),
            losses: self.percent(25),
            poison: self.percent(30),
            faults: self.percent(50),
        }
    }
}
