//! Tenants: who may have what kind of memory, and how much.
//!
//! A program belongs to the first tenant whose description fits it. A tenant has, for every kind
//! of node, whether it may use it, how much at most, how much it is sure to get, and how much of
//! that it may pin; and for all kinds what happens when its policy's nodes have no room.

use alloc::{collections::BTreeMap, string::String, vec::Vec};
use core::time::Duration;

use memtide_units::NodeKind;

use crate::mempolicy::MemPolicy;

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
    /// How much of it may be pinned on request; no limit when absent.
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
