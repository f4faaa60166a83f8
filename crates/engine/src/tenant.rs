//! Tenants: who may have what kind of memory, and how much.
//!
//! A program belongs to the first tenant whose description fits it. A tenant has, for every kind
//! of node, whether it may use it, how much at most, how much it is sure to get, and how much of
//! that it may pin; and for all kinds what happens when its policy's nodes have no room.

use alloc::{collections::BTreeMap, string::String, vec::Vec};
use core::time::Duration;

use memtide_units::NodeKind;

use crate::{
    config::{Config, ConfigError},
    mempolicy::{MemPolicy, PolicyError},
    nodes::Zonelists,
    tiers::AccessTable,
};

/// Most tenants.
pub const TENANTS_MAX: usize = 256;
/// The largest weight.
pub const WEIGHT_MAX: u32 = 1000;

/// One tenant, as it is configured.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TenantConfig {
    /// Its name for people; unique.
    pub name: String,
    /// Who belongs to it: whom any of these fits. Empty: everybody.
    pub who: Vec<Who>,
    /// Per kind of node; a kind that is not there has the default quota.
    pub quotas: BTreeMap<NodeKind, Quota>,
    /// Its share of what several wait for, 1 to 1000.
    pub weight: u32,
    /// Where its memory goes unless a program or a lease says otherwise.
    pub policy: MemPolicy,
    /// What happens when the nodes of the policy have no room for it.
    pub on_depletion: OnDepletion,
    /// Whether it may use special memory when all else is exhausted.
    pub emergency: Emergency,
    /// Whether its memory may be moved.
    pub migration: Migration,
}

impl TenantConfig {
    /// A tenant of this name that everybody belongs to: no limits, no guarantees.
    #[must_use]
    pub fn everybody(name: &str) -> Self {
        Self {
            name: String::from(name),
            who: Vec::new(),
            quotas: BTreeMap::new(),
            weight: 1,
            policy: MemPolicy::LOCAL,
            on_depletion: OnDepletion::Fail,
            emergency: Emergency::Off,
            migration: Migration::Allowed,
        }
    }

    /// Its quota of a kind of node.
    #[must_use]
    pub fn quota(&self, kind: NodeKind) -> Quota {
        self.quotas.get(&kind).copied().unwrap_or_default()
    }
}

/// A description of programs.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Who {
    /// Those of a user.
    Uid(u32),
    /// Those of a group.
    Gid(u32),
    /// Those in a control group or below: its path from the root of the hierarchy.
    Cgroup(String),
    /// Those that were started with this label.
    Label(String),
}

/// What is known of a program when it joins.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Credentials {
    /// Its effective user.
    pub uid: u32,
    /// Its effective group.
    pub gid: u32,
    /// Its control group; empty when not known.
    pub cgroup: String,
    /// Its label; empty when it has none.
    pub label: String,
}

impl Who {
    /// Whether the description fits.
    #[must_use]
    pub fn fits(&self, of: &Credentials) -> bool {
        match self {
            Self::Uid(uid) => *uid == of.uid,
            Self::Gid(gid) => *gid == of.gid,
            Self::Cgroup(path) => {
                let rest = of.cgroup.strip_prefix(path.trim_end_matches('/'));
                rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
            }
            Self::Label(label) => *label == of.label,
        }
    }
}

/// How much of one kind of node. Amounts are pageblocks.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Quota {
    /// Whether it may use this kind at all.
    pub access: Access,
    /// At most; no limit when absent.
    pub max: Option<u64>,
    /// It is sure to get so much: others never take what would be missing.
    pub min: u64,
    /// How much of it may be pinned on request; no limit when absent. What the kernel or a device
    /// pins is counted too, but never refused: it is a fact.
    pub pinned_max: Option<u64>,
}

/// Whether a kind of node may be used.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Access {
    /// Yes.
    #[default]
    Allowed,
    /// No.
    Denied,
}

/// What happens when the nodes that a policy allows have no room.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum OnDepletion {
    /// The request is refused.
    Fail,
    /// It goes on to public nodes that the policy leaves out, and to ordinary memory of the
    /// program when there is no room on those either.
    FallBack,
    /// It waits so long at most, in a fair queue.
    Wait(Duration),
    /// The same, and memory that others hold idle is moved away for it.
    Reclaim(Duration),
}

/// Whether special memory may be used when all else is exhausted.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Emergency {
    /// Never.
    #[default]
    Off,
    /// Yes, except of a node that is being evacuated.
    On,
}

/// Whether memory may be moved.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Migration {
    /// Yes.
    #[default]
    Allowed,
    /// Never: no moves at all. It is a holder with that reason when capacity is to leave.
    Never,
}

/// What of a tenant's configuration makes no sense.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TenantError {
    /// It has no name.
    #[error("name is empty; expected one")]
    NoName,
    /// Its weight is 0 or too large.
    #[error("weight is {weight}; expected 1 to {WEIGHT_MAX}")]
    Weight {
        /// The weight.
        weight: u32,
    },
    /// More is guaranteed to it than it may have.
    #[error("min of {kind} memory is {min} pageblocks; expected no more than max, which is {max}")]
    MinAboveMax {
        /// Of which kind.
        kind: NodeKind,
        /// The minimum.
        min: u64,
        /// The maximum.
        max: u64,
    },
    /// Something is guaranteed to it that it may not use.
    #[error("min of {kind} memory is {min} pageblocks, but it may not use that; expected 0")]
    MinWithoutAccess {
        /// Of which kind.
        kind: NodeKind,
        /// The minimum.
        min: u64,
    },
    /// A description that names nothing.
    #[error("{field} is empty; expected a name")]
    Nobody {
        /// Which field.
        field: &'static str,
    },
    /// A control group that is not a path from the root.
    #[error("cgroup does not start with '/'; expected a path from the root of the hierarchy")]
    Cgroup,
    /// Its policy makes no sense.
    #[error(transparent)]
    Policy(#[from] PolicyError),
}

/// Checks the tenants of a configuration, one by one and together.
pub(crate) fn check(
    config: &Config,
    zonelists: &Zonelists,
    accessors: &AccessTable,
) -> Result<(), ConfigError> {
    let (tenants, most) = (config.tenants.len(), TENANTS_MAX);
    if !(1..=most).contains(&tenants) {
        return Err(ConfigError::Tenants { tenants, most });
    }
    for (place, tenant) in config.tenants.iter().enumerate() {
        let name = tenant.name.clone();
        if config.tenants[..place].iter().any(|other| other.name == name) {
            return Err(ConfigError::TenantTwice { name });
        }
        let checked = check_one(tenant, zonelists, accessors);
        checked.map_err(|source| ConfigError::Tenant { name, source })?;
    }
    for kind in NodeKind::ALL {
        let guaranteed = config.tenants.iter().map(|tenant| tenant.quota(kind).min);
        let guaranteed = guaranteed.fold(0, u64::saturating_add);
        let nodes = config.nodes.iter().filter(|node| node.kind == kind);
        let present = nodes.map(|node| node.pageblocks).sum();
        if guaranteed > present {
            return Err(ConfigError::Guarantees { kind, guaranteed, present });
        }
        // Who is never moved gets nothing of what is all for what can move, and a guarantee of it
        // would keep that from the others.
        let never = config.tenants.iter().filter(|tenant| tenant.migration == Migration::Never);
        let never = never.map(|tenant| tenant.quota(kind).min).fold(0, u64::saturating_add);
        let nodes = config.nodes.iter().filter(|node| node.kind == kind);
        let nodes = nodes.filter(|node| !node.zone.is_movable_only());
        let present = nodes.map(|node| node.pageblocks).sum();
        if never > present {
            return Err(ConfigError::GuaranteesNeverMoved { kind, guaranteed: never, present });
        }
    }
    Ok(())
}

fn check_one(
    tenant: &TenantConfig,
    zonelists: &Zonelists,
    accessors: &AccessTable,
) -> Result<(), TenantError> {
    if tenant.name.is_empty() {
        return Err(TenantError::NoName);
    }
    if !(1..=WEIGHT_MAX).contains(&tenant.weight) {
        return Err(TenantError::Weight { weight: tenant.weight });
    }
    for who in &tenant.who {
        match who {
            Who::Label(label) if label.is_empty() => {
                return Err(TenantError::Nobody { field: "label" });
            }
            Who::Cgroup(path) if !path.starts_with('/') => return Err(TenantError::Cgroup),
            _ => {}
        }
    }
    for (&kind, &Quota { access, max, min, .. }) in &tenant.quotas {
        if access == Access::Denied && min > 0 {
            return Err(TenantError::MinWithoutAccess { kind, min });
        }
        if let Some(max) = max.filter(|&max| min > max) {
            return Err(TenantError::MinAboveMax { kind, min, max });
        }
    }
    Ok(tenant.policy.check(zonelists, accessors)?)
}
