//! A machine, its tenants and programs, and what happens to them: checked, names resolved.
//!
//! What [`crate::machine::text`] makes of a scenario, and [`crate::machine::swarm`] of a seed.
//! Time is nanoseconds, memory is pageblocks.

use memtide_engine::{
    Config, Limits, NodeConfig, Performance, TenantConfig,
    mempolicy::{MemPolicy, Mode, Weighting},
    nodes::NodeClass,
    onlining::OnlineZone,
    tiers::Access as Accessor,
};
use memtide_units::{AccessorId, HoldReason, NodeId, NodeKind, Pageblock};

use super::topology::{Topology, Width};

/// Nanoseconds.
pub type Nanos = u64;

/// Nanoseconds in a millisecond.
pub const MS: Nanos = 1_000_000;
/// Nanoseconds in a second.
pub const SECOND: Nanos = 1000 * MS;

/// All of it.
#[derive(Clone, PartialEq, Debug)]
pub struct Plan {
    /// How long it runs.
    pub duration: Nanos,
    /// How often it is measured.
    pub sample_every: Nanos,
    /// How often programs' accesses are told to the engine; never when absent.
    pub heat_every: Option<Nanos>,
    /// What is averaged over.
    pub windows: Vec<Window>,
    /// Processors' names.
    pub processors: Vec<String>,
    /// The nodes.
    pub nodes: Vec<Node>,
    /// Who reaches what over what.
    pub topology: Topology,
    /// Memory of programs beside the pool.
    pub ordinary: Performance,
    /// Who may have what.
    pub tenants: Vec<TenantConfig>,
    /// Who sets the weights of the weighted interleave.
    pub weighting: Weighting,
    /// Weights by hand.
    pub weights: Vec<(NodeId, u8)>,
    /// How much of anything.
    pub limits: Limits,
    /// The programs.
    pub programs: Vec<Program>,
    /// What operators, devices and links do.
    pub events: Vec<Event>,
    /// What goes wrong by chance.
    pub faults: Faults,
    /// MiB a second at which what is given back is zeroed.
    pub zero_mib: u64,
}

/// A part of the time that is measured by itself.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Window {
    /// Its name.
    pub name: String,
    /// From when.
    pub from: Nanos,
    /// Until when.
    pub to: Nanos,
}

/// A memory node.
#[derive(Clone, PartialEq, Debug)]
pub struct Node {
    /// Its name.
    pub name: String,
    /// Near, far, or of a device.
    pub kind: NodeKind,
    /// Who reaches it.
    pub class: NodeClass,
    /// What may lie in its blocks.
    pub zone: OnlineZone,
    /// How large it is.
    pub pageblocks: u64,
    /// Pageblocks in a block, the unit in which it comes and goes.
    pub block_pageblocks: u64,
    /// How fast its media is.
    pub media: Performance,
    /// How long its driver takes to save its state, and to restore it.
    pub driver: Nanos,
}

impl Node {
    /// Whether it is extended memory to policies.
    #[must_use]
    pub fn is_extended(&self) -> bool {
        self.kind != NodeKind::Near || self.zone == OnlineZone::Exmem
    }
}

/// A program, or many that are alike.
#[derive(Clone, PartialEq, Debug)]
pub struct Program {
    /// Its name.
    pub name: String,
    /// Whose it is, as an index.
    pub tenant: usize,
    /// How many.
    pub count: u32,
    /// When the first starts.
    pub start: Nanos,
    /// How much later each of the others does.
    pub every: Nanos,
    /// Where it runs, as an index: who copies what of it is moved.
    pub processor: usize,
    /// Who accesses its memory, as indices, and how often in proportion to each other: somebody at
    /// least, each once and 1 or more.
    pub accessed_by: Vec<(usize, u32)>,
    /// What it does, one after the other; then it ends.
    pub phases: Vec<Phase>,
    /// How often it starts over.
    pub repeats: u32,
    /// Its own policy; its tenant's when absent.
    pub policy: Option<MemPolicy>,
    /// Why nothing of it can be moved.
    pub pin: Option<HoldReason>,
    /// Whether it has memory promised before it uses it.
    pub promise: Promise,
    /// Most pageblocks in a request for some.
    pub lease_max: u32,
    /// How long it waits before it asks again for what it did not get; it does not when absent.
    pub retry: Option<Nanos>,
    /// How often it forks, and how long the child lives.
    pub fork: Option<(Nanos, Nanos)>,
}

impl Program {
    /// Who accesses its memory, and which part of all accesses is theirs.
    pub fn accesses(&self) -> impl Iterator<Item = (usize, f64)> {
        let all: u64 = self.accessed_by.iter().map(|&(_, times)| u64::from(times)).sum();
        self.accessed_by.iter().map(move |&(by, times)| (by, f64::from(times) / all as f64))
    }
}

/// Whether memory is promised before it is used.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Promise {
    /// It is.
    Asked,
    /// It is not.
    NotAsked,
}

/// A part of a program's life.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Phase {
    /// How long.
    pub lasts: Nanos,
    /// What it wants to have.
    pub pageblocks: u64,
    /// What it does with it.
    pub access: Access,
}

/// How a program accesses its memory.
#[derive(Clone, Copy, PartialEq, Debug)]
pub enum Access {
    /// Not at all.
    Idle,
    /// Some of it more than the rest.
    Busy {
        /// MiB a second that it wants.
        wants_mib: u64,
        /// Cache lines in flight at most.
        lines: Option<u32>,
        /// Thousandths of its memory that are hot: its first.
        hot_permille: u32,
        /// Thousandths of its accesses that go there.
        hot_share_permille: u32,
    },
}

/// Something that happens at a time.
#[derive(Clone, PartialEq, Debug)]
pub struct Event {
    /// When.
    pub at: Nanos,
    /// What.
    pub what: Happening,
}

/// What can happen.
#[derive(Clone, PartialEq, Debug)]
pub enum Happening {
    /// An operator wants memory back.
    GiveBack {
        /// How much.
        pageblocks: u64,
        /// From which node; from any when absent.
        from: Option<usize>,
        /// How long to try.
        deadline: Nanos,
    },
    /// An operator puts it back.
    Add {
        /// How much.
        pageblocks: u64,
        /// To which node.
        to: usize,
        /// Into which zone; into that of the node when absent.
        zone: Option<OnlineZone>,
    },
    /// A node is to be emptied.
    Evacuate {
        /// Which.
        node: usize,
        /// How long to try.
        deadline: Nanos,
    },
    /// An operator has a program's memory moved.
    MoveTo {
        /// Whose.
        program: usize,
        /// To which node.
        to: usize,
        /// How long to try.
        deadline: Nanos,
    },
    /// What a program has already is to lie elsewhere.
    Mbind {
        /// Whose.
        program: usize,
        /// Where.
        policy: MemPolicy,
        /// How long to try.
        deadline: Nanos,
    },
    /// A device wants these very blocks back.
    GiveBackExtents {
        /// Of which node.
        node: usize,
        /// The first, modulo how many there are.
        block: u64,
        /// How many, as far as they are online and follow.
        blocks: u64,
        /// How long to try.
        deadline: Nanos,
    },
    /// A device offers these very blocks.
    Online {
        /// Of which node.
        node: usize,
        /// The first, modulo how many there are.
        block: u64,
        /// How many, as far as they are offline and follow.
        blocks: u64,
    },
    /// A program's connection is lost.
    Leave {
        /// Whose.
        program: usize,
        /// Until it returns.
        away: Nanos,
    },
    /// A link becomes narrower, wider, or is lost.
    Link {
        /// Which.
        link: usize,
        /// What becomes of it.
        width: Width,
    },
    /// A node is gone by surprise.
    Remove {
        /// Which.
        node: usize,
    },
    /// A pageblock has an error that cannot be corrected.
    Poison {
        /// Of which node.
        node: usize,
        /// Which of it, modulo how many there are.
        pageblock: u64,
    },
}

/// What goes wrong by chance, in thousandths of the times that it could.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Faults {
    /// A program dies when it does something.
    pub die_permille: u32,
    /// A program that is to move something stops answering for good.
    pub mute_permille: u32,
    /// It answers a hundred times later.
    pub late_permille: u32,
    /// A pageblock that it is to move cannot be moved just then.
    pub held_permille: u32,
    /// A driver never answers.
    pub driver_mute_permille: u32,
    /// A link is lost when a program moves something over it.
    pub link_lost_permille: u32,
}

impl Plan {
    /// Pageblocks of all nodes.
    #[must_use]
    pub fn pageblocks(&self) -> u64 {
        self.nodes.iter().map(|node| node.pageblocks).sum()
    }

    /// The first pageblock of a node: nodes follow each other.
    #[must_use]
    pub fn first(&self, node: usize) -> Pageblock {
        Pageblock(self.nodes[..node].iter().map(|node| node.pageblocks).sum())
    }

    /// How fast a node is from a processor over the links as they are; absent when nothing leads
    /// there.
    #[must_use]
    pub fn performance(&self, now: &Topology, from: usize, node: usize) -> Option<Performance> {
        let path = now.path(from, node)?;
        let media = self.nodes[node].media;
        let narrow =
            |bandwidth: u32| path.bandwidth_mib.map_or(bandwidth, |least| least.min(bandwidth));
        Some(Performance {
            read_latency_ns: media.read_latency_ns.saturating_add(path.latency_ns),
            write_latency_ns: media.write_latency_ns.saturating_add(path.latency_ns),
            read_bandwidth_mib: narrow(media.read_bandwidth_mib),
            write_bandwidth_mib: narrow(media.write_bandwidth_mib),
        })
    }

    /// The same from the processor that reaches it soonest: what the engine is told.
    #[must_use]
    pub fn best_performance(&self, now: &Topology, node: usize) -> Option<Performance> {
        let all = (0..self.processors.len()).filter_map(|from| self.performance(now, from, node));
        all.min_by_key(|speed| (speed.read_latency_ns, u32::MAX - speed.read_bandwidth_mib))
    }

    /// What every processor that reaches a node has to it, over links at full width.
    fn accessors(&self) -> Vec<Accessor> {
        let mut all = Vec::new();
        for from in 0..self.processors.len() {
            let accessor = AccessorId(from as u16);
            all.extend((0..self.nodes.len()).filter_map(|node| {
                let performance = self.performance(&self.topology, from, node)?;
                Some(Accessor { accessor, node: NodeId(node as u16), performance })
            }));
        }
        all
    }

    /// Whether all processors that a policy names reach a node, if it names any.
    #[must_use]
    pub fn is_reached(&self, mode: &Mode, node: usize) -> bool {
        let Mode::AccessedBy(by) = mode else { return true };
        let mut named = by.iter().filter(|(_, times)| *times > 0);
        named.all(|(id, _)| self.topology.path(usize::from(id.0), node).is_some())
    }

    /// What the engine is made from.
    #[must_use]
    pub fn config(&self) -> Config {
        let node = |(number, node): (usize, &Node)| NodeConfig {
            node: NodeId(number as u16),
            name: node.name.clone(),
            kind: node.kind,
            class: node.class,
            performance: self.best_performance(&self.topology, number).unwrap_or_default(),
            first: self.first(number),
            pageblocks: node.pageblocks,
            block_pageblocks: node.block_pageblocks,
            offline: Vec::new(),
            zone: node.zone,
            zones: Vec::new(),
        };
        let mut config = Config::new(self.nodes.iter().enumerate().map(node).collect());
        config.placement = self.placement();
        config.tenants.clone_from(&self.tenants);
        config.weighting = self.weighting;
        config.weights.clone_from(&self.weights);
        config.limits = self.limits;
        config.accessors = self.accessors();
        config
    }

    /// All public nodes, the near ones first, then the far ones, then devices.
    fn placement(&self) -> Vec<NodeId> {
        let public = |&node: &usize| self.nodes[node].class == NodeClass::Public;
        let mut all: Vec<usize> = (0..self.nodes.len()).filter(public).collect();
        all.sort_by_key(|&node| self.nodes[node].kind);
        all.into_iter().map(|node| NodeId(node as u16)).collect()
    }
}
