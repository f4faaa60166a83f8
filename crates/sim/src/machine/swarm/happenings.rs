//! What programs do, what happens to them, and what goes wrong.

use memtide_units::{HoldReason, OnlineZone};

use super::{DURATION, Features, Swarm};
use crate::machine::{
    plan::{Access, Event, Faults, Happening, MS, Node, Phase, Program, Promise, SECOND},
    topology::{Topology, Width},
};

impl Swarm {
    pub(super) fn programs(
        &mut self,
        has: &Features,
        nodes: &[Node],
        tenants: usize,
    ) -> Vec<Program> {
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
                let mut program = Program {
                    name: format!("p{number}"),
                    tenant: self.below(tenants as u64) as usize,
                    count: if has.fleets { self.between(1, 8) as u32 } else { 1 },
                    start: self.below(5000) * MS,
                    every: self.below(2000) * MS,
                    processor: self.below(2) as usize,
                    accessed_by: Vec::new(),
                    phases,
                    repeats: self.between(1, 5) as u32,
                    policy: (has.policies && self.percent(30)).then(|| self.policy(has, nodes)),
                    pin: (has.pins && self.percent(30))
                        .then(|| self.one_of(&[HoldReason::MemoryLock, HoldReason::LongTermPin])),
                    promise: match has.promises && self.percent(60) {
                        true => Promise::Asked,
                        false => Promise::NotAsked,
                    },
                    lease_max: self.between(1, 32) as u32,
                    retry: self.percent(70).then(|| self.between(10, 2000) * MS),
                    fork: (has.forks && self.percent(40))
                        .then(|| (self.between(500, 5000) * MS, self.between(1, 3000) * MS)),
                };
                // By its number: what else there is of a seed depends on chance alone.
                program.accessed_by = match has.accessors && number % 2 == 1 {
                    true => vec![(0, 1), (1, number as u32)],
                    false => vec![(program.processor, 1)],
                };
                program
            })
            .collect()
    }

    pub(super) fn access(&mut self) -> Access {
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

    pub(super) fn events(
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
                2 if has.operators => {
                    let zone = self.zone_to_add(has, nodes[node].zone);
                    Happening::Add { pageblocks, to: node, zone }
                }
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
                    let policy = self.policy(has, nodes);
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

    /// Into which zone memory is added to a node in this one: in EXMEM is all of a node or nothing.
    fn zone_to_add(&mut self, has: &Features, own: OnlineZone) -> Option<OnlineZone> {
        if !has.zones || own == OnlineZone::Exmem {
            return None;
        }
        use OnlineZone::{Kernel, Movable, PreferMovable};
        self.one_of(&[None, Some(Kernel), Some(Movable), Some(PreferMovable)])
    }

    pub(super) fn faults(&mut self, has: &Features) -> Faults {
        let mut permille = |often: u64| if self.percent(40) { self.below(often) as u32 } else { 0 };
        Faults {
            die_permille: permille(100),
            mute_permille: permille(50),
            late_permille: permille(200),
            held_permille: permille(300),
            driver_mute_permille: permille(1000),
            link_lost_permille: if has.losses { permille(500) } else { 0 },
        }
    }
}
