//! What a tenant has of each kind of node, and how much more it may have.
//!
//! A tenant is *charged* for what is leased to its images and for what is not yet zeroed after
//! them, by kind of node. So what all tenants are charged for is what is in use, kind by kind, and
//! a move is charged at both ends until its source is free again.
//!
//! Of a kind a tenant gets what is free, less what is guaranteed to others and they do not use
//! yet, up to its maximum. When every tenant keeps to that, what is free is never less than what
//! is guaranteed and not used: whoever is below its minimum gets what it asks for up to there, at
//! once, whatever others hold.
//!
//! Three things are stronger than quotas. What a program that returns has already, it keeps. An
//! operator who takes capacity away takes it from what is free, guaranteed or not. And what moves
//! within a kind, because its block is to leave, needs no quota for the time of the move
//! ([`Engine::room_for_move`]): the tenant has no more of the kind after it than before. A move to
//! another kind is as a lease there.

use alloc::{collections::VecDeque, sync::Arc};

use memtide_units::{ImageId, NodeKind, Pageblock, TenantId, TokenId};

use crate::{
    decision::{Decision, Rule},
    engine::Engine,
    migrate_reason::Migrated,
    place::Route,
    refusal::Refusal,
    tenant::{Access, Credentials, TenantConfig},
};

/// Numbers by kind of node, in the order of [`NodeKind::ALL`].
pub(crate) type PerKind = [u64; NodeKind::ALL.len()];

/// One tenant, and what is known of it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Tenant {
    pub(crate) config: TenantConfig,
    /// Where its policy leads.
    pub(crate) route: Arc<Route>,
    /// Pageblocks it is charged for.
    pub(crate) used: PerKind,
    /// Pageblocks that it had to have elsewhere than its programs' policies say.
    pub(crate) fell_back: u64,
    /// The oldest first.
    pub(crate) decisions: VecDeque<Decision>,
    /// The oldest first.
    pub(crate) migrations: VecDeque<Migrated>,
}

impl Tenant {
    pub(crate) fn new(config: TenantConfig, route: Arc<Route>) -> Self {
        let used = PerKind::default();
        let (decisions, migrations) = (VecDeque::new(), VecDeque::new());
        Self { config, route, used, fell_back: 0, decisions, migrations }
    }

    /// Pageblocks it is charged for, of all kinds.
    pub(crate) fn used_in_all(&self) -> u64 {
        self.used.iter().sum()
    }

    /// What is guaranteed to it of a kind and it does not use.
    pub(crate) fn unused_guarantee(&self, kind: NodeKind) -> u64 {
        self.config.quota(kind).min.saturating_sub(self.used[kind as usize])
    }
}

impl Engine {
    pub(crate) fn tenant(&self, id: TenantId) -> &Tenant {
        &self.tenants[usize::from(id.0)]
    }

    pub(crate) fn tenant_mut(&mut self, id: TenantId) -> &mut Tenant {
        &mut self.tenants[usize::from(id.0)]
    }

    /// All tenants with their names.
    pub(crate) fn tenants(&self) -> impl Iterator<Item = (TenantId, &Tenant)> {
        (0..).map(TenantId).zip(&self.tenants)
    }

    /// The tenant of a process: that of its image.
    pub(crate) fn tenant_of(&self, token: TokenId) -> TenantId {
        self.images[&self.process(token).image].tenant
    }

    /// The first tenant whose description fits.
    pub(crate) fn tenant_for(&self, who: &Credentials) -> Result<TenantId, Refusal> {
        let fits = |tenant: &Tenant| {
            let whom = &tenant.config.who;
            whom.is_empty() || whom.iter().any(|description| description.fits(who))
        };
        let found = self.tenants().find(|(_, tenant)| fits(tenant));
        found.map(|(id, _)| id).ok_or(Refusal::NoTenant { uid: who.uid, gid: who.gid })
    }

    /// An image has one pageblock more: its tenant is charged.
    pub(crate) fn charge_to(&mut self, image: ImageId, pageblock: Pageblock) {
        let kind = self.kind_of(pageblock) as usize;
        let record = self.image_mut(image);
        record.pageblocks += 1;
        let tenant = record.tenant;
        self.tenant_mut(tenant).used[kind] += 1;
    }

    /// An image has one pageblock less.
    pub(crate) fn uncharge(&mut self, image: ImageId, pageblock: Pageblock) {
        let kind = self.kind_of(pageblock) as usize;
        let record = self.image_mut(image);
        record.pageblocks -= 1;
        let tenant = record.tenant;
        self.tenant_mut(tenant).used[kind] -= 1;
    }

    /// The kind of the node that has a pageblock.
    pub(crate) fn kind_of(&self, pageblock: Pageblock) -> NodeKind {
        self.pool.nodes()[self.pool.block_of(pageblock).node].kind
    }

    /// What is free on nodes of a kind and may be handed out.
    fn free_of(&self, kind: NodeKind) -> u64 {
        let nodes = self.pool.nodes().iter().enumerate();
        let open = nodes.filter(|(node, record)| record.kind == kind && !self.is_closed(*node));
        open.map(|(_, record)| record.frames.counts().free).sum()
    }

    /// What others than this tenant are sure to get of a kind and do not use.
    fn reserved_from(&self, tenant: TenantId, kind: NodeKind) -> u64 {
        let others = self.tenants().filter(|&(other, _)| other != tenant);
        others.map(|(_, other)| other.unused_guarantee(kind)).sum()
    }

    /// How much of a node a tenant can have now, and the rule that makes it no more.
    pub(crate) fn room(&self, tenant: TenantId, node: usize) -> (u64, Rule) {
        self.room_beside(tenant, node, 0)
    }

    /// The same, with so much of the node's kind taken and not charged yet.
    fn room_beside(&self, tenant: TenantId, node: usize, taken: u64) -> (u64, Rule) {
        let record = &self.pool.nodes()[node];
        let (kind, counts, node_id) = (record.kind, record.frames.counts(), record.id);
        if self.is_closed(node) {
            return (0, Rule::Evacuating { node: node_id });
        }
        let quota = self.tenant(tenant).config.quota(kind);
        if quota.access == Access::Denied {
            return (0, Rule::NoAccess { node: node_id, kind });
        }
        if counts.present() == counts.offline {
            return (0, Rule::NoCapacity { node: node_id });
        }
        // What never moves may not lie anywhere.
        let free = record.frames.free_for(self.movability(tenant));
        let mut least = (free, Rule::Full { node: node_id });
        let mut limit = |room: u64, rule: Rule| {
            if room < least.0 {
                least = (room, rule);
            }
        };
        if let Some(max) = quota.max {
            let used = self.tenant(tenant).used[kind as usize] + taken;
            limit(max.saturating_sub(used), Rule::Maximum { node: node_id, kind, used, max });
        }
        let reserved = self.reserved_from(tenant, kind);
        if reserved > 0 {
            let free = self.free_of(kind);
            let rule = Rule::Guaranteed { node: node_id, free, reserved };
            limit(free.saturating_sub(reserved), rule);
        }
        least
    }

    /// How much of a node some memory of a process can be moved to because that is wished.
    pub(crate) fn room_to_fill(&self, token: TokenId, node: usize, what: &[Pageblock]) -> u64 {
        let unpromised = self.unpromised_to(node, token, what);
        self.room(self.tenant_of(token), node).0.min(unpromised)
    }

    /// How much of a node a process's memory can be moved to, away from a kind of node, when so
    /// much of the node's kind is taken for that already and not leased yet.
    pub(crate) fn room_for_move(
        &self,
        token: TokenId,
        from: NodeKind,
        to: usize,
        taken: u64,
    ) -> u64 {
        let tenant = self.tenant_of(token);
        let record = &self.pool.nodes()[to];
        let access = self.tenant(tenant).config.quota(record.kind).access;
        let within = record.kind == from && access == Access::Allowed;
        if within && !self.is_closed(to) {
            return record.frames.counts().free;
        }
        self.room_beside(tenant, to, taken).0
    }
}
