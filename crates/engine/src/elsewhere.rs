//! Whether what is in a block has somewhere to go.
//!
//! What leaves a block goes where the policies of its owners lead, and no further than their
//! tenants' quotas let it ([`crate::place`]). So room is counted owner by owner; and once more for
//! all of them together, for their ways have nodes in common. What other blocks that are being
//! emptied still have to move comes first in both, and the free pageblocks of the block itself do
//! not count: nothing is placed there.
//!
//! It is a forecast, so that nothing is isolated and moved in part in vain. What it promises too
//! much, because tenants share what is free and several blocks start at once, is sorted out when
//! the room is missing ([`Engine::relieve`]).

use alloc::collections::{BTreeMap, BTreeSet};

use memtide_units::TokenId;

use crate::{engine::Engine, pool::BlockId, quota::PerKind, request::Goal};

/// What is known of the room elsewhere, as long as nothing is started.
#[derive(Default)]
pub(crate) struct Elsewhere {
    /// Pageblocks that are to leave blocks already, and are not ordered to.
    waiting: BTreeMap<TokenId, u64>,
    /// What may be moved of an owner's away from a node, with that node's own.
    room: BTreeMap<(TokenId, usize), u64>,
    may_come: Option<bool>,
}

impl Engine {
    pub(crate) fn elsewhere(&self) -> Elsewhere {
        let mut waiting = BTreeMap::new();
        let emptying = self.works.values().filter(|work| matches!(work.goal, Goal::Empty(_)));
        // The lists may be out of date, and name processes that are gone.
        let listed = emptying.flat_map(|work| &work.todo);
        for (&token, todo) in listed.filter(|(token, _)| self.processes.contains_key(token)) {
            *waiting.entry(token).or_default() += todo.len() as u64;
        }
        Elsewhere { waiting, ..Elsewhere::default() }
    }

    /// Where a process's memory may go when it has to leave, in the order of [`crate::place`].
    fn ways_out_of(&self, token: TokenId) -> impl Iterator<Item = usize> {
        self.ways_out(self.tenant_of(token), &self.process(token).route)
    }

    /// How much of a process's memory may go elsewhere from a node, and to that node.
    fn room_from(&self, token: TokenId, leaving: usize) -> u64 {
        let kind = self.pool.nodes()[leaving].kind;
        let mut taken = PerKind::default();
        for node in self.ways_out_of(token) {
            let taken = &mut taken[self.pool.nodes()[node].kind as usize];
            *taken += self.room_for_move(token, kind, node, *taken);
        }
        taken.iter().sum()
    }
}

impl Elsewhere {
    /// Whether there is room for all that can be moved in a block.
    pub(crate) fn has_room(&mut self, engine: &Engine, block: BlockId) -> bool {
        let mut leaving: BTreeMap<TokenId, u64> = BTreeMap::new();
        for (_, token) in engine.movable_in(engine.pool.span(block)) {
            *leaving.entry(token).or_default() += 1;
        }
        let free_in = engine.pool.available_in(block);
        let kind = engine.pool.nodes()[block.node].kind;
        let own = |token: TokenId| {
            let counts = engine.ways_out_of(token).any(|node| node == block.node);
            let room = if counts { engine.room_for_move(token, kind, block.node, 0) } else { 0 };
            room.min(free_in)
        };
        let each = leaving.iter().all(|(&token, count)| {
            let room = self.room.entry((token, block.node));
            let room = *room.or_insert_with(|| engine.room_from(token, block.node));
            let before = self.waiting.get(&token).copied().unwrap_or(0);
            before + count <= room.saturating_sub(own(token))
        });
        each && self.has_room_for_all(engine, block, &leaving)
    }

    fn has_room_for_all(
        &self,
        engine: &Engine,
        block: BlockId,
        leaving: &BTreeMap<TokenId, u64>,
    ) -> bool {
        let owners = leaving.keys().chain(self.waiting.keys());
        let nodes: BTreeSet<usize> = owners.flat_map(|&owner| engine.ways_out_of(owner)).collect();
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
