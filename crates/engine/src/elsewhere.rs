//! Whether what is in a block has somewhere to go.
//!
//! What leaves a block goes where its own policy leads, or that of its owner, and no further than
//! its tenant's quotas let it ([`crate::place`]). So room is counted for each owner and way; and
//! once more for all of them together, for their ways have nodes in common. What other blocks that
//! are being emptied still have to move comes first in both, and the free pageblocks of the block
//! itself do not count: nothing is placed there.
//!
//! It is a forecast, so that nothing is isolated and moved in part in vain. What it promises too
//! much, because tenants share what is free and several blocks start at once, is sorted out when
//! the room is missing ([`Engine::relieve`]).

use alloc::{
    collections::{BTreeMap, BTreeSet},
    vec::Vec,
};

use memtide_units::TokenId;

use crate::{
    engine::Engine,
    lease::{Lease, Standing},
    pool::BlockId,
    quota::PerKind,
    request::Goal,
};

/// Whose it is, and the nodes that it may go to.
type Way = (TokenId, Vec<usize>);

/// What is known of the room elsewhere, as long as nothing is started.
#[derive(Default)]
pub(crate) struct Elsewhere {
    /// Pageblocks that are to leave blocks already, and are not ordered to.
    waiting: BTreeMap<Way, u64>,
    /// What may be moved along a way away from a node, with that node's own.
    room: BTreeMap<(Way, usize), u64>,
    may_come: Option<bool>,
}

impl Engine {
    pub(crate) fn elsewhere(&self) -> Elsewhere {
        let mut waiting = BTreeMap::new();
        let emptying = self.works.values().filter(|work| matches!(work.goal, Goal::Empty(_)));
        // The lists may be out of date, and name what is gone.
        for at in emptying.flat_map(|work| work.todo.values()).flatten() {
            if let Some(lease) = self.leases.get(at) {
                *waiting.entry(self.way_of(lease)).or_default() += 1;
            }
        }
        Elsewhere { waiting, ..Elsewhere::default() }
    }

    /// Where a lease may go when it has to leave.
    fn way_of(&self, lease: &Lease) -> Way {
        let token = lease.owner.token;
        (token, self.ways_out(self.tenant_of(token), self.route_of(lease)).collect())
    }

    /// How much may go along a way from a node, and to that node.
    fn room_from(&self, (token, nodes): &Way, leaving: usize) -> u64 {
        let kind = self.pool.nodes()[leaving].kind;
        let mut taken = PerKind::default();
        for &node in nodes {
            let taken = &mut taken[self.pool.nodes()[node].kind as usize];
            *taken += self.room_for_move(*token, kind, node, *taken);
        }
        taken.iter().sum()
    }
}

impl Elsewhere {
    /// Whether there is room for all that can be moved in a block.
    pub(crate) fn has_room(&mut self, engine: &Engine, block: BlockId) -> bool {
        let mut leaving: BTreeMap<Way, u64> = BTreeMap::new();
        for (_, lease) in engine.leased_in(engine.pool.span(block)) {
            if engine.standing(lease) == Standing::Movable {
                *leaving.entry(engine.way_of(lease)).or_default() += 1;
            }
        }
        let free_in = engine.pool.available_in(block);
        let kind = engine.pool.nodes()[block.node].kind;
        let own = |(token, nodes): &Way| {
            let counts = nodes.contains(&block.node);
            let room = if counts { engine.room_for_move(*token, kind, block.node, 0) } else { 0 };
            room.min(free_in)
        };
        let each = leaving.iter().all(|(way, count)| {
            let room = self.room.entry((way.clone(), block.node));
            let room = *room.or_insert_with(|| engine.room_from(way, block.node));
            let before = self.waiting.get(way).copied().unwrap_or(0);
            before + count <= room.saturating_sub(own(way))
        });
        each && self.has_room_for_all(engine, block, &leaving)
    }

    fn has_room_for_all(
        &self,
        engine: &Engine,
        block: BlockId,
        leaving: &BTreeMap<Way, u64>,
    ) -> bool {
        let ways = leaving.keys().chain(self.waiting.keys());
        let nodes: BTreeSet<usize> = ways.flat_map(|(_, nodes)| nodes).copied().collect();
        let free = nodes.iter().filter(|&&node| !engine.is_closed(node)).map(|&node| {
            let own = if node == block.node { engine.pool.available_in(block) } else { 0 };
            engine.pool.frames(node).counts().free - own
        });
        let wanted: u64 = leaving.values().chain(self.waiting.values()).sum();
        wanted <= free.sum()
    }

    /// Whether room may come up by itself.
    pub(crate) fn may_come(&mut self, engine: &Engine) -> bool {
        *self.may_come.get_or_insert_with(|| engine.room_may_come())
    }
}
