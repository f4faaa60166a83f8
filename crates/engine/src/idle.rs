//! Who holds memory and does not use it.
//!
//! What nobody accessed for [`crate::Limits::idle_after`] is idle. A tenant may hold idle what it
//! is guaranteed; what it has above that others may need more.

use alloc::{collections::BTreeMap, string::String, vec::Vec};
use core::time::Duration;

use memtide_units::{ByteSize, MemberId, NodeKind, Pageblock, TenantId, TokenId};

use crate::{engine::Engine, lease::Lease};

/// A process that holds idle memory.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct IdleHolder {
    /// Its tenant.
    pub tenant: TenantId,
    /// Its name in the engine; none while it is a forked child that has not joined.
    pub member: Option<MemberId>,
    /// Its process number.
    pub pid: u32,
    /// Its program's name.
    pub name: String,
    /// How much; of what its tenant has above its guaranteed minimum.
    pub bytes: ByteSize,
    /// All of it for so long at least.
    pub idle_for: Duration,
}

impl Engine {
    /// Who holds idle memory on nodes of a kind: the largest first, equal ones by process.
    #[must_use]
    pub fn idle_holders(&self, kind: NodeKind) -> Vec<IdleHolder> {
        let mut of: BTreeMap<TokenId, (u64, Duration)> = BTreeMap::new();
        for (_, lease) in self.idle_leases(kind) {
            let idle_for = self.now.0.saturating_sub(lease.heat.since.0);
            let sum = of.entry(lease.owner.token).or_insert((0, idle_for));
            *sum = (sum.0 + 1, sum.1.min(idle_for));
        }
        let mut all: Vec<_> = of.into_iter().collect();
        all.sort_by_key(|&(token, (count, _))| (core::cmp::Reverse(count), token));
        let mut spare: BTreeMap<TenantId, u64> = BTreeMap::new();
        let mut holders = Vec::new();
        for (token, (count, idle_for)) in all {
            let tenant = self.tenant_of(token);
            let spare = spare.entry(tenant).or_insert_with(|| self.above_guarantee(tenant, kind));
            let count = count.min(*spare);
            *spare -= count;
            let (process, bytes) = (self.process(token), ByteSize::from_pageblocks(count));
            let (member, pid, name) = (process.member(), process.pid, process.name.clone());
            if count > 0 {
                holders.push(IdleHolder { tenant, member, pid, name, bytes, idle_for });
            }
        }
        holders.sort_by_key(|holder| core::cmp::Reverse(holder.bytes));
        holders
    }

    /// What a tenant has of a kind above what it is guaranteed.
    pub(crate) fn above_guarantee(&self, tenant: TenantId, kind: NodeKind) -> u64 {
        let tenant = self.tenant(tenant);
        tenant.used[kind as usize].saturating_sub(tenant.config.quota(kind).min)
    }

    /// The idle leases on nodes of a kind.
    pub(crate) fn idle_leases(&self, kind: NodeKind) -> impl Iterator<Item = (Pageblock, &Lease)> {
        let after = self.limits.idle_after;
        let all = self.leases.iter().map(|(&pageblock, lease)| (pageblock, lease));
        all.filter(move |(pageblock, lease)| {
            lease.heat.is_idle(self.now, after) && self.kind_of(*pageblock) == kind
        })
    }
}
