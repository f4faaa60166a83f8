//! Where what has to leave a node goes.
//!
//! Along its own route, as a lease is placed ([`crate::place`]), and along all legs of it whatever
//! its tenant does on depletion, for what has to leave must go somewhere. (Linux's
//! `alloc_migration_target` asks no policy at all when a block goes offline.) Still, who asked for
//! extended memory only does not find itself in near memory, nor a device where it does not reach:
//! no leg leads there.

use alloc::{sync::Arc, vec::Vec};

use memtide_units::{Extent, Pageblock, TenantId, TokenId};

use crate::{engine::Engine, pageblocks::MOVABLE, place::Route, quota::PerKind, tenant::Emergency};

impl Engine {
    /// Takes places for pageblocks of a process to move to, away from a node, each along its own
    /// route. They are not leased yet. Some have none when the process's tenant may have no more
    /// where they may go.
    pub(crate) fn destinations(
        &mut self,
        token: TokenId,
        from: &[Pageblock],
        mut after: Option<Pageblock>,
        leaving: usize,
    ) -> Vec<(Pageblock, Pageblock)> {
        let route = |at: &Pageblock| self.route_of(&self.leases[at]).clone();
        let from: Vec<_> = from.iter().map(|at| (*at, route(at))).collect();
        let mut pairs = Vec::new();
        // Charged only when it is leased.
        let mut taken = PerKind::default();
        for run in from.chunk_by(|one, next| Arc::ptr_eq(&one.1, &next.1)) {
            let count = run.len() as u64;
            let to = self.take_away_from(leaving, token, &run[0].1, count, after, &mut taken);
            let to = to.iter().flat_map(|extent| extent.iter());
            pairs.extend(run.iter().map(|&(at, _)| at).zip(to));
            after = pairs.last().map(|&(_, to)| to).or(after);
        }
        pairs
    }

    /// Where memory along this route may go when it has to leave: all legs, whatever the tenant
    /// does on depletion.
    pub(crate) fn ways_out<'a>(
        &self,
        tenant: TenantId,
        route: &'a Route,
    ) -> impl Iterator<Item = usize> + use<'a> {
        let special = match self.tenant(tenant).config.emergency {
            Emergency::On => &route.emergency[..],
            Emergency::Off => &[],
        };
        route.nodes.iter().chain(&route.beyond).chain(special).copied()
    }

    /// The same, of a run with one route; fewer when there is not enough.
    fn take_away_from(
        &mut self,
        leaving: usize,
        token: TokenId,
        route: &Route,
        count: u64,
        after: Option<Pageblock>,
        taken: &mut PerKind,
    ) -> Vec<Extent> {
        let kind = self.pool.nodes()[leaving].kind;
        let (mut left, mut all) = (count, Vec::new());
        let route = self.as_now(route);
        for node in self.ways_out(self.tenant_of(token), &route) {
            let to = self.pool.nodes()[node].kind;
            let room = self.room_for_move(token, kind, node, taken[to as usize]);
            let some = self.pool.take_on(node, left.min(room), after, MOVABLE);
            let count: u64 = some.iter().map(|extent| u64::from(extent.count)).sum();
            taken[to as usize] += count;
            left -= count;
            all.extend(some);
        }
        all
    }
}
