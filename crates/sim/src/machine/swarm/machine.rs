//! Nodes, the links to them, and the limits of the engine.

use core::time::Duration;

use memtide_engine::{
    Limits,
    nodes::{Capabilities, Capability, NodeClass},
    onlining::OnlineZone,
};
use memtide_units::NodeKind;

use super::{Features, Swarm, speed};
use crate::machine::{
    plan::{MS, Node},
    topology::{Link, Place, Topology},
};

impl Swarm {
    pub(super) fn nodes(&mut self, has: &Features) -> Vec<Node> {
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
                    zone: if has.zones {
                        self.one_of(&OnlineZone::ALL)
                    } else {
                        OnlineZone::default()
                    },
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

    pub(super) fn capabilities(&mut self) -> Capabilities {
        let all = [
            Capability::UserNuma,
            Capability::Fallback,
            Capability::LongTermPin,
            Capability::NumaBalancing,
        ];
        let chosen = all.into_iter().filter(|_| self.percent(60)).collect::<Vec<_>>();
        chosen.into_iter().fold(Capabilities::NONE, Capabilities::with)
    }

    /// Direct, behind one switch, or behind two in a row. What is direct may be out of the second
    /// processor's reach.
    pub(super) fn topology(&mut self, has: &Features, nodes: usize) -> Topology {
        let mut links = Vec::new();
        let mut link = |from, to, latency_ns, bandwidth_mib| {
            let name = format!("link{}", links.len());
            links.push(Link { name, from, to, latency_ns, bandwidth_mib });
        };
        let far: Vec<usize> = (1..nodes).filter(|_| has.links && self.percent(70)).collect();
        // Who is out of whose reach matters to accessors only.
        let direct = has.accessors && self.percent(70);
        let depth = if direct { 0 } else { self.below(3) as usize };
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
                    if !(has.accessors && self.percent(50)) {
                        link(Place::Processor(1), Place::Node(node), 90, bandwidth);
                    }
                }
                depth => link(Place::Switch(depth - 1), Place::Node(node), 70, bandwidth),
            }
        }
        Topology::new(2, nodes, links).expect("links lead away from processors to every far node")
    }

    pub(super) fn limits(&mut self) -> Limits {
        let order = self.between(1, 16) as u32;
        let ms = |ms| Duration::from_millis(ms);
        Limits {
            pairs_per_order_max: order,
            pairs_in_flight_max: order + self.below(16) as u32,
            stall_after: ms(self.one_of(&[100, 1000, 5000])),
            requests_max: self.between(1, 8) as u32,
            leases_queued_max: self.one_of(&[1, 4, 64]),
            patience: ms(self.one_of(&[0, 100, 1000])),
            idle_after: ms(self.one_of(&[100, 500, 2000, 10_000])),
            settle_for: ms(self.one_of(&[500, 2000, 10_000])),
        }
    }
}
