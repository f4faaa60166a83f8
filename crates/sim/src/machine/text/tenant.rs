//! Tenants: who may have what.

use core::num::NonZeroU32;
use std::collections::BTreeMap;

use memtide_engine::{
    TenantConfig,
    mempolicy::MemPolicy,
    tenant::{Access, Emergency, Migration, OnDepletion, Quota, Who},
};
use memtide_units::NodeKind;
use serde::Deserialize;

use super::{
    name::{Names, wrong},
    policy::PolicyText,
    value::{Blocks, Switch, Time, one},
};
use crate::scenario::Wrong;

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(super) struct TenantText {
    pub name: String,
    #[serde(default = "one")]
    weight: NonZeroU32,
    policy: Option<PolicyText>,
    #[serde(default)]
    on_depletion: DepletionText,
    wait: Option<Time>,
    #[serde(default)]
    emergency: Switch,
    #[serde(default)]
    migration: MigrationText,
    #[serde(default)]
    quota: BTreeMap<NodeKind, QuotaText>,
}

#[derive(Deserialize, Default, Clone, Copy, PartialEq, Eq)]
#[serde(rename_all = "kebab-case")]
enum DepletionText {
    #[default]
    Fail,
    FallBack,
    Wait,
    Reclaim,
}

#[derive(Deserialize, Default, Clone, Copy)]
#[serde(rename_all = "kebab-case")]
enum MigrationText {
    #[default]
    Allowed,
    Never,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct QuotaText {
    #[serde(default)]
    access: AllowedText,
    max: Option<Blocks>,
    min: Option<Blocks>,
    pinned_max: Option<Blocks>,
}

#[derive(Deserialize, Default, Clone, Copy)]
#[serde(rename_all = "kebab-case")]
enum AllowedText {
    #[default]
    Allowed,
    Denied,
}

impl TenantText {
    pub(super) fn tenant(&self, at: usize, names: &Names) -> Result<TenantConfig, Wrong> {
        if self.weight.get() > 1000 {
            return Err(wrong(at, format!("weight {}; expected 1 to 1000", self.weight)));
        }
        let waits = matches!(self.on_depletion, DepletionText::Wait | DepletionText::Reclaim);
        if waits != self.wait.is_some() {
            let expected = "expected \"wait\" with on-depletion \"wait\" and \"reclaim\", else not";
            return Err(wrong(at, format!("tenant {:?}: {expected}", self.name)));
        }
        let wait = core::time::Duration::from_nanos(self.wait.map_or(0, |time| time.0));
        let policy = self.policy.as_ref().map(|policy| policy.policy(at, names)).transpose()?;
        let quota = |(&kind, quota): (&NodeKind, &QuotaText)| {
            let access = match quota.access {
                AllowedText::Allowed => Access::Allowed,
                AllowedText::Denied => Access::Denied,
            };
            let blocks = |blocks: Option<Blocks>| blocks.map(|blocks| blocks.0);
            let (max, pinned_max) = (blocks(quota.max), blocks(quota.pinned_max));
            (kind, Quota { access, max, min: blocks(quota.min).unwrap_or(0), pinned_max })
        };
        Ok(TenantConfig {
            name: self.name.clone(),
            who: vec![Who::Label(self.name.clone())],
            quotas: self.quota.iter().map(quota).collect(),
            weight: self.weight.get(),
            policy: policy.unwrap_or(MemPolicy::LOCAL),
            on_depletion: match self.on_depletion {
                DepletionText::Fail => OnDepletion::Fail,
                DepletionText::FallBack => OnDepletion::FallBack,
                DepletionText::Wait => OnDepletion::Wait(wait),
                DepletionText::Reclaim => OnDepletion::Reclaim(wait),
            },
            emergency: match self.emergency {
                Switch::On => Emergency::On,
                Switch::Off => Emergency::Off,
            },
            migration: match self.migration {
                MigrationText::Allowed => Migration::Allowed,
                MigrationText::Never => Migration::Never,
            },
        })
    }
}
