//! Where what is idle goes when it makes way: a step down.
//!
//! Linux demotes to the nearest nodes of the next tier below, and if those are full to any that
//! lies further below (`demote_folio_list`, mm/vmscan.c; the targets are those of
//! [`crate::tiers::MemoryTiers`]). Here the owner's policy says where the memory may be at all, as
//! [`crate::place`] has it; among those nodes the step down comes first. So what is idle on near
//! memory does not take the place of what is idle on the next tier, and does not go to the far end
//! as long as there is room between.
//!
//! What makes way on a device has no tier below it as a rule, but has to go all the same: nodes
//! that are no step down come last, in the order of the policy. And never to a node of the kind
//! that is lacking, whatever its tier, for that would help nobody.

use alloc::{collections::BTreeMap, vec::Vec};

use memtide_units::{NodeKind, Pageblock};

use crate::{engine::Engine, lease::Lease, nodes::Capability, tiers::MemoryTiers};

impl Engine {
    /// Where something may go that is to leave a kind of node: along its route, as far as its
    /// tenant may, down the tiers first. So much of each node is taken already.
    pub(crate) fn demotion_target(
        &self,
        at: Pageblock,
        lease: &Lease,
        kind: NodeKind,
        tiers: Option<&MemoryTiers>,
        taken: &BTreeMap<usize, u64>,
    ) -> Option<usize> {
        let token = lease.owner.token;
        let elsewhere = |node: &usize| {
            self.pool.nodes()[*node].kind != kind && self.permits(*node, Capability::Demotion)
        };
        let route = self.as_now(self.route_of(lease));
        let mut targets: Vec<usize> =
            self.legs(self.tenant_of(token), &route).filter(elsewhere).collect();
        if let Some(tiers) = tiers {
            let id = |node: usize| self.pool.nodes()[node].id;
            let here = id(self.pool.block_of(at).node);
            let (preferred, allowed) = (tiers.preferred(here), tiers.allowed(here));
            targets.sort_by_key(|&to| (!preferred.contains(id(to)), !allowed.contains(id(to))));
        }
        let has_room = |&node: &usize| {
            let room = self.room_to_fill(token, node, &[at]);
            room > taken.get(&node).copied().unwrap_or(0)
        };
        targets.into_iter().find(has_room)
    }
}
