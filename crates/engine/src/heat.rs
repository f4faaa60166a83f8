//! How a pageblock is used: when it was last accessed, by whom how often.
//!
//! A sampler says what it saw; what it did not see in a while fades: counts are halved for every
//! [`crate::Limits::idle_after`] without an access. Of the accessors of one pageblock the few that
//! access it most are known. All this belongs to the content, and goes with it when it moves.

use alloc::{
    collections::{BTreeMap, BTreeSet},
    vec::Vec,
};

use memtide_units::{AccessorId, Extent, Instant, NodeId, Pageblock};

use crate::{engine::Engine, refusal::Refusal};

/// Accessors of one pageblock that are known.
const ACCESSORS_MAX: usize = 4;

/// How one pageblock is used, and what balance has to do with it.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(crate) struct Heat {
    /// Since when nobody accessed it: since it was leased, or the last access.
    pub(crate) since: Instant,
    /// How often, lately; empty until somebody did.
    pub(crate) counts: BTreeMap<AccessorId, u32>,
    /// Where it should be and is not, for want of room there.
    pub(crate) home: Option<usize>,
    /// Until when balance leaves it where it is.
    pub(crate) settled_until: Instant,
}

impl Heat {
    /// Of a new lease.
    pub(crate) fn new(now: Instant) -> Self {
        Self { since: now, ..Self::default() }
    }

    fn access(&mut self, now: Instant, fades: core::time::Duration, by: AccessorId, times: u32) {
        let idle = now.0.saturating_sub(self.since.0);
        let halved = idle.as_nanos().checked_div(fades.as_nanos()).unwrap_or(0);
        let shift = u32::try_from(halved).unwrap_or(u32::MAX);
        for count in self.counts.values_mut() {
            *count = count.checked_shr(shift).unwrap_or(0);
        }
        let count = self.counts.entry(by).or_default();
        *count = count.saturating_add(times);
        self.counts.retain(|_, count| *count > 0);
        if self.counts.len() > ACCESSORS_MAX {
            let least = self.counts.iter().min_by_key(|&(&id, &count)| (count, id));
            let least = least.map(|(&id, _)| id).expect("there are some");
            self.counts.remove(&least);
        }
        self.since = now;
    }

    /// Whether somebody accessed it so lately.
    pub(crate) fn is_hot(&self, now: Instant, within: core::time::Duration) -> bool {
        !self.counts.is_empty() && now.0.saturating_sub(self.since.0) < within
    }

    /// Whether nobody accessed it for so long.
    pub(crate) fn is_idle(&self, now: Instant, after: core::time::Duration) -> bool {
        now.0.saturating_sub(self.since.0) >= after
    }
}

impl Engine {
    /// From now on this is where these should be, if anywhere: an operator, or the program, says
    /// so, and nothing from before counts any more.
    pub(crate) fn set_home(
        &mut self,
        pageblocks: impl IntoIterator<Item = Pageblock>,
        home: Option<usize>,
    ) {
        for pageblock in pageblocks {
            if let Some(lease) = self.leases.get_mut(&pageblock) {
                lease.heat.home = home;
            }
        }
    }

    /// What was accessed may be anybody's, or nobody's any more: samples come late.
    pub(crate) fn accessed(
        &mut self,
        accessor: AccessorId,
        extents: &[(Extent, u32)],
    ) -> Result<(), Refusal> {
        let mut seen = BTreeSet::new();
        for (extent, _) in extents {
            self.pool.check(&[*extent], &mut seen)?;
        }
        let (now, fades) = (self.now, self.limits.idle_after);
        for &(extent, times) in extents.iter().filter(|&&(_, times)| times > 0) {
            for pageblock in extent.iter() {
                if let Some(lease) = self.leases.get_mut(&pageblock) {
                    lease.heat.access(now, fades, accessor, times);
                    self.follow_accessors(pageblock);
                    if self.leases[&pageblock].heat.home.is_some() {
                        self.look_for_balance();
                    }
                }
            }
        }
        Ok(())
    }

    /// The node where those who access a pageblock spend the least time on it, among those where
    /// its owner may have it, and the owners of private nodes permit that. None where too little is
    /// known: nobody accessed it, or there is no node of which [`crate::Config::accessors`] says
    /// that all of them reach it.
    #[must_use]
    pub fn best_node_for(&self, pageblock: Pageblock) -> Option<NodeId> {
        let lease = self.leases.get(&pageblock)?;
        let reach = self.reach(self.tenant_of(lease.owner.token), self.route_of(lease));
        let here = self.pool.block_of(pageblock).node;
        let may_go = reach.iter().filter(|&&to| self.may_follow_use(here, to));
        let nodes: Vec<_> = may_go.map(|&node| self.pool.nodes()[node].id).collect();
        let counts = lease.heat.counts.iter();
        let counts: Vec<_> = counts.map(|(&by, &count)| (by, u64::from(count))).collect();
        self.accessors.best(&counts, &nodes)
    }

    /// What several access belongs where that is best for all of them, whatever its policy has
    /// first.
    fn follow_accessors(&mut self, pageblock: Pageblock) {
        if self.leases[&pageblock].heat.counts.len() < 2 {
            return;
        }
        let Some(best) = self.best_node_for(pageblock) else { return };
        let best = self.pool.index_of(best);
        let here = self.pool.block_of(pageblock).node;
        let lease = self.leases.get_mut(&pageblock).expect("the caller found it");
        lease.heat.home = best.filter(|&best| best != here);
    }

    /// What was moved is used as it was before. What had to leave wants to come back some day.
    pub(crate) fn carry_heat(&mut self, from: Pageblock, to: Pageblock) {
        let Some(lease) = self.leases.get(&from) else { return };
        let mut heat = lease.heat.clone();
        let (left, here) = (self.pool.block_of(from).node, self.pool.block_of(to).node);
        let kind = |node: usize| self.pool.nodes()[node].kind;
        heat.home = match heat.home {
            Some(home) => Some(home).filter(|&home| kind(home) != kind(here)),
            None => self.as_now(self.route_of(lease)).home_after(left, here, kind),
        };
        let route = lease.route.clone();
        let lease = self.leases.get_mut(&to).expect("the caller found it");
        (lease.heat, lease.route) = (heat, route);
    }
}
