//! Random machines.
//!
//! A seed makes a machine, its links, tenants, programs, events and faults. Whether a feature is
//! there at all is drawn first (swarm testing: Groce et al., ISSTA 2012): a run in which everything
//! happens at once hides what happens only when something else does not. Machines are small, so
//! that memory runs out and everything is checked after every step.

use core::time::Duration;
use std::collections::BTreeMap;

use memtide_engine::{
    Limits, Performance, TenantConfig,
    mempolicy::{Extended, MemPolicy, Mode, Weighting},
    nodes::{Capabilities, Capability, NodeClass, NodeMask},
    tenant::{Access as Allowed, Emergency, Migration, OnDepletion, Quota, Who},
};
use memtide_units::{HoldReason, NodeId, NodeKind, Random};

use super::{
    plan::{
        Access, Event, Faults, Happening, MS, Nanos, Node, Phase, Plan, Program, Promise, SECOND,
        Window,
    },
    topology::{Link, Place, Topology, Width},
};

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
            mbinds: self.percent(40),
            leaves: self.percent(40),
            losses: self.percent(25),
            poison: self.percent(30),
            faults: self.percent(50),
        }
    }

    fn nodes(&mut self, has: &Features) -> Vec<Node> {
        let count = self.between(1, 4);
        (0..count)
            .map(|number| {
                let kind = if number == 0 { NodeKind::Near } else { self.one_of(&NodeKind::ALL) };
                let block_pageblocks = 1 << self.below(4);
                let class = match kind {
                    NodeKind::Device if has.special => NodeClass::Special,
                    NodeKind::Far | NodeKind::Device if has.private && self.percent(50) => {
                        NodeClass::Private(self.capabilities())
                    }
                    _ => NodeClass::Public,
                };
                Node {
                    name: format!("{kind}{number}"),
                    kind,
                    class,
                    pageblocks: self.between(1, 64 / block_pageblocks) * block_pageblocks,
                    block_pageblocks,
                    media: speed(
                        self.between(50, 400) as u32,
                        self.one_of(&[500_u32, 5_000, 50_000]),
                    ),
                    driver: self.between(1, 500) * MS,
                }
            })
            .collect()
    }

    fn capabilities(&mut self) -> Capabilities {
        let all = [
            Capability::UserNuma,
            Capability::Fallback,
            Capability::LongTermPin,
            Capability::NumaBalancing,
        ];
        let chosen = all.into_iter().filter(|_| self.percent(60)).collect::<Vec<_>>();
        chosen.into_iter().fold(Capabilities::NONE, Capabilities::with)
    }

    /// Direct, behind one switch, or behind two in a row.
    fn topology(&mut self, has: &Features, nodes: usize) -> Topology {
        let mut links = Vec::new();
        let mut link = |from, to, latency_ns, bandwidth_mib| {
            let name = format!("link{}", links.len());
            links.push(Link { name, from, to, latency_ns, bandwidth_mib });
        };
        let far: Vec<usize> = (1..nodes).filter(|_| has.links && self.percent(70)).collect();
        let depth = self.below(3) as usize;
        if !far.is_empty() && depth > 0 {
            for processor in 0..2 {
                link(
                    Place::Processor(processor),
                    Place::Switch(0),
                    20,
                    self.between(1000, 30_000) as u32,
                );
            }
            for switch in 1..depth {
                link(
                    Place::Switch(switch - 1),
                    Place::Switch(switch),
                    50,
                    self.between(1000, 30_000) as u32,
                );
            }
        }
        for node in far {
            let bandwidth = self.between(1000, 30_000) as u32;
            match depth {
                0 => {
                    link(Place::Processor(0), Place::Node(node), 70, bandwidth);
                    link(Place::Processor(1), Place::Node(node), 90, bandwidth);
                }
                depth => link(Place::Switch(depth - 1), Place::Node(node), 70, bandwidth),
            }
        }
        Topology::new(2, nodes, links).expect("links lead away from processors to every far node")
    }

    fn limits(&mut self) -> Limits {
        let order = self.between(1, 16) as u32;
        let ms = |ms| Duration::from_millis(ms);
        Limits {
            pairs_per_order_max: order,
            pairs_in_flight_max: order + self.below(16) as u32,
            stall_after: ms(self.one_of(&[100, 1000, 5000])),
            requests_max: self.between(1, 8) as u32,
            leases_queued_max: self.one_of(&[1, 4, 64]),
            patience: ms(self.one_of(&[0, 100, 1000])),
            idle_after: ms(self.one_of(&[500, 2000, 10_000])),
            settle_for: ms(self.one_of(&[500, 2000, 10_000])),
        }
    }

    fn policy(&mut self, nodes: &[Node]) -> MemPolicy {
        // What is private is bound to, if its owner permits that, and named by nothing else.
        let bindable = |node: &Node| match node.class {
            NodeClass::Private(capabilities) => capabilities.has(Capability::UserNuma),
            _ => true,
        };
        let ids = |of: &dyn Fn(&Node) -> bool| -> Vec<NodeId> {
            let all = nodes.iter().enumerate().filter(|(_, node)| of(node));
            all.map(|(number, _)| NodeId(number as u16)).collect()
        };
        let public = ids(&|node| !matches!(node.class, NodeClass::Private(_)));
        let all = ids(&bindable);
        let mode = match self.below(6) {
            1 => Mode::Bind(self.some(&all)),
            2 => Mode::Preferred(self.one_of(&public)),
            3 => Mode::PreferredMany(self.some(&public)),
            4 => Mode::Interleave(self.some(&public)),
            5 => Mode::WeightedInterleave(self.some(&public)),
            _ => Mode::Local,
        };
        let extended = match self.below(10) {
            0 => Extended::Only,
            1 => Extended::Never,
            _ => Extended::Any,
        };
        MemPolicy { mode, extended }
    }

    /// One or more of these.
    fn some(&mut self, from: &[NodeId]) -> NodeMask {
        let one = self.one_of(from);
        from.iter().copied().filter(|_| self.percent(50)).chain([one]).collect()
    }

    fn tenants(&mut self, has: &Features, nodes: &[Node]) -> Vec<TenantConfig> {
        let count = self.between(1, 4);
        // What is left to guarantee.
        let mut left: BTreeMap<NodeKind, u64> = BTreeMap::new();
        for node in nodes {
            *left.entry(node.kind).or_default() += node.pageblocks;
        }
        (0..count)
            .map(|number| {
                let name = format!("t{number}");
                let mut quotas = BTreeMap::new();
                for (&kind, left) in &mut left {
                    if !self.percent(60) {
                        continue;
                    }
                    let min = if has.guarantees { self.below(*left / 2 + 1) } else { 0 };
                    let max = (has.quotas && self.percent(60)).then(|| min + self.below(40));
                    let denied = has.quotas && min == 0 && self.percent(15);
                    *left -= min;
                    quotas.insert(
                        kind,
                        Quota {
                            access: if denied { Allowed::Denied } else { Allowed::Allowed },
                            max,
                            min,
                            pinned_max: (has.quotas && self.percent(30)).then(|| self.below(16)),
                        },
                    );
                }
                let wait = Duration::from_millis(self.one_of(&[10, 500, 3000]));
                TenantConfig {
                    who: vec![Who::Label(name.clone())],
                    name,
                    quotas,
                    weight: self.between(1, 5) as u32,
                    policy: if has.policies { self.policy(nodes) } else { MemPolicy::LOCAL },
                    on_depletion: match (has.waits, self.below(4)) {
                        (true, 0) => OnDepletion::Wait(wait),
                        (true, 1) => OnDepletion::Reclaim(wait),
                        (_, 2) => OnDepletion::FallBack,
                        _ => OnDepletion::Fail,
                    },
                    emergency: self.one_of(&[Emergency::Off, Emergency::On]),
                    migration: if self.percent(85) { Migration::Allowed } else { Migration::Never },
                }
            })
            .collect()
    }

    fn programs(&mut self, has: &Features, nodes: &[Node], tenants: usize) -> Vec<Program> {
        let all: u64 = nodes.iter().map(|node| node.pageblocks).sum();
        let count = self.between(1, 5);
        // Sometimes there is room, and sometimes not for one.
        let most = self.one_of(&[all / 8, all / 3, all, all + all / 4]) + 1;
        (0..count)
            .map(|number| {
                let phases = (0..self.between(1, 4)).map(|_| Phase {
                    lasts: self.between(1, 8000) * MS,
                    pageblocks: self.below(most + 1),
                    access: self.access(),
                });
                let phases = phases.collect();
                Program {
                    name: format!("p{number}"),
                    tenant: self.below(tenants as u64) as usize,
                    count: if has.fleets { self.between(1, 8) as u32 } else { 1 },
                    start: self.below(5000) * MS,
                    every: self.below(2000) * MS,
                    processor: self.below(2) as usize,
                    phases,
                    repeats: self.between(1, 5) as u32,
                    policy: (has.policies && self.percent(30)).then(|| self.policy(nodes)),
                    pin: (has.pins && self.percent(30)).then_some(HoldReason::MemoryLock),
                    promise: match has.promises && self.percent(60) {
                        true => Promise::Asked,
                        false => Promise::NotAsked,
                    },
                    lease_max: self.between(1, 32) as u32,
                    retry: self.percent(70).then(|| self.between(10, 2000) * MS),
                    fork: (has.forks && self.percent(40))
                        .then(|| (self.between(500, 5000) * MS, self.between(1, 3000) * MS)),
                }
            })
            .collect()
    }

    fn access(&mut self) -> Access {
        match self.percent(30) {
            true => Access::Idle,
            false => Access::Busy {
                wants_mib: self.between(1, 20_000),
                lines: self.percent(30).then(|| self.between(1, 64) as u32),
                hot_permille: self.between(1, 1000) as u32,
                hot_share_permille: self.below(1001) as u32,
            },
        }
    }

    fn events(
        &mut self,
        has: &Features,
        nodes: &[Node],
        topology: &Topology,
        programs: usize,
    ) -> Vec<Event> {
        let mut events = Vec::new();
        for _ in 0..self.below(24) {
            let node = self.below(nodes.len() as u64) as usize;
            let pageblocks = self.between(1, nodes[node].pageblocks + 4);
            let deadline = self.one_of(&[0, 10 * MS, SECOND, 10 * SECOND]);
            let program = self.below(programs as u64) as usize;
            let (block, blocks) = (self.below(64), self.between(1, 4));
            let what = match self.below(13) {
                0 | 1 if has.operators => {
                    let from = self.percent(70).then_some(node);
                    Happening::GiveBack { pageblocks, from, deadline }
                }
                2 if has.operators => Happening::Add { pageblocks, to: node },
                3 if has.operators => Happening::MoveTo { program, to: node, deadline },
                4 if has.evacuations => Happening::Evacuate { node, deadline },
                5 if has.losses && self.percent(40) => Happening::Remove { node },
                6 if has.poison => Happening::Poison { node, pageblock: self.below(1000) },
                7 if !topology.links.is_empty() => {
                    let link = self.below(topology.links.len() as u64) as usize;
                    let lost = has.losses && self.percent(30);
                    let percent = self.between(1, 100) as u32;
                    let width = if lost { Width::Lost } else { Width::Percent(percent) };
                    Happening::Link { link, width }
                }
                8 if has.extents => Happening::GiveBackExtents { node, block, blocks, deadline },
                9 if has.extents => Happening::Online { node, block, blocks },
                10 if has.mbinds => {
                    let policy = self.policy(nodes);
                    Happening::Mbind { program, policy, deadline }
                }
                11 | 12 if has.leaves => {
                    let away = self.one_of(&[0, 10 * MS, 500 * MS, 5 * SECOND]);
                    Happening::Leave { program, away }
                }
                _ => continue,
            };
            events.push(Event { at: self.below(DURATION), what });
        }
        events
    }

    fn faults(&mut self, has: &Features) -> Faults {
        let mut permille = |often: u64| if self.percent(40) { self.below(often) as u32 } else { 0 };
        Faults {
            die_permille: permille(100),
            mute_permille: permille(50),
            late_permille: permille(200),
            held_permille: permille(300),
            driver_mute_permille: permille(1000),
            link_lost_permille: if has.losses { permille(20) } else { 0 },
        }
    }
}
