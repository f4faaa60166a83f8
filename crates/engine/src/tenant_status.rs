//! Snapshots of tenants.

use alloc::{string::String, vec::Vec};

use memtide_units::{ByteSize, MemberId, NodeKind, TenantId};

use crate::{
    engine::Engine,
    tenant::{Access, OnDepletion},
    wishes::Wish,
};

/// A snapshot of one tenant.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TenantStatus {
    /// Its name in the engine.
    pub tenant: TenantId,
    /// Its name for people.
    pub name: String,
    /// Its share of what several wait for.
    pub weight: u32,
    /// What happens when the nodes of a policy have no room for it.
    pub on_depletion: OnDepletion,
    /// Its processes, forked children that have not joined included.
    pub processes: u64,
    /// Per kind of node, in the order of [`NodeKind::ALL`].
    pub kinds: Vec<KindStatus>,
    /// Requests that wait.
    pub waiting: u64,
    /// What they ask for.
    pub waiting_for: ByteSize,
    /// What its programs had to have elsewhere than their policies say, since the engine was made:
    /// on nodes that the policies leave out, and in ordinary memory.
    pub fell_back: ByteSize,
    /// What its processes are promised or have.
    pub promised: ByteSize,
}

/// What a tenant has of one kind of node.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct KindStatus {
    /// Which.
    pub kind: NodeKind,
    /// Whether it may use this kind.
    pub access: Access,
    /// What it is charged for: what it leases, and what is not yet zeroed after it.
    pub used: ByteSize,
    /// At most; no limit when absent.
    pub max: Option<ByteSize>,
    /// It is sure to get so much.
    pub min: ByteSize,
    /// What of it is pinned: on request, or because the kernel or a device uses it in a way that
    /// nothing can move. The latter may be more than the limit.
    pub pinned: ByteSize,
    /// How much of it may be pinned on request; no limit when absent.
    pub pinned_max: Option<ByteSize>,
}

impl Engine {
    /// The tenants, in the order of the configuration.
    #[must_use]
    pub fn tenant_status(&self) -> Vec<TenantStatus> {
        let size = ByteSize::from_pageblocks;
        let pinned = self.pinned_by_tenant();
        let status = |(id, tenant): (TenantId, &crate::quota::Tenant)| {
            let kind = |kind: NodeKind| {
                let quota = tenant.config.quota(kind);
                KindStatus {
                    kind,
                    access: quota.access,
                    used: size(tenant.used[kind as usize]),
                    max: quota.max.map(size),
                    min: size(quota.min),
                    pinned: size(pinned[usize::from(id.0)][kind as usize]),
                    pinned_max: quota.pinned_max.map(size),
                }
            };
            let own = self.processes.iter().filter(|&(&token, _)| self.tenant_of(token) == id);
            let (mut processes, mut promised) = (0, 0u64);
            for (_, process) in own {
                processes += 1;
                promised = promised.saturating_add(process.promised());
            }
            let of_it =
                self.queue.of.iter().filter(|&(&(token, _), _)| self.tenant_of(token) == id);
            let wishes = of_it.flat_map(|(_, all)| all).map(|waiting| match waiting.wish {
                Wish::Lease(count, ..) => u64::from(count),
                Wish::Promise(by) => by,
            });
            TenantStatus {
                tenant: id,
                name: tenant.config.name.clone(),
                weight: tenant.config.weight,
                on_depletion: tenant.config.on_depletion,
                processes,
                kinds: NodeKind::ALL.into_iter().map(kind).collect(),
                waiting: wishes.clone().count() as u64,
                waiting_for: size(wishes.fold(0, u64::saturating_add)),
                fell_back: size(tenant.fell_back),
                promised: size(promised),
            }
        };
        self.tenants().map(status).collect()
    }

    /// The tenant of a member that joined.
    #[must_use]
    pub fn tenant_of_member(&self, member: MemberId) -> Option<TenantId> {
        Some(self.tenant_of(*self.members.get(&member)?))
    }

    /// What happens when the nodes of a policy have no room for a member that joined.
    #[must_use]
    pub fn on_depletion_of(&self, member: MemberId) -> Option<OnDepletion> {
        Some(self.tenant(self.tenant_of_member(member)?).config.on_depletion)
    }
}
