//! How much of anything, and how often something goes wrong.

use memtide_engine::Limits;
use serde::Deserialize;

use super::value::Time;
use crate::{machine::plan::Faults, scenario::Wrong};

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(super) struct LimitsText {
    patience: Option<Time>,
    idle_after: Option<Time>,
    settle_for: Option<Time>,
    stall_after: Option<Time>,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub(super) struct FaultsText {
    die_permille: u32,
    mute_permille: u32,
    late_permille: u32,
    held_permille: u32,
    driver_mute_permille: u32,
    link_lost_permille: u32,
}

impl LimitsText {
    pub(super) fn limits(&self) -> Limits {
        let usual = Limits::default();
        let or = |time: Option<Time>, usual| {
            time.map_or(usual, |time| core::time::Duration::from_nanos(time.0))
        };
        Limits {
            patience: or(self.patience, usual.patience),
            idle_after: or(self.idle_after, usual.idle_after),
            settle_for: or(self.settle_for, usual.settle_for),
            stall_after: or(self.stall_after, usual.stall_after),
            ..usual
        }
    }
}

impl FaultsText {
    pub(super) fn faults(&self) -> Result<Faults, Wrong> {
        let faults = Faults {
            die_permille: self.die_permille,
            mute_permille: self.mute_permille,
            late_permille: self.late_permille,
            held_permille: self.held_permille,
            driver_mute_permille: self.driver_mute_permille,
            link_lost_permille: self.link_lost_permille,
        };
        let all = [
            faults.die_permille,
            faults.mute_permille,
            faults.late_permille,
            faults.held_permille,
            faults.driver_mute_permille,
            faults.link_lost_permille,
        ];
        match all.iter().find(|&&permille| permille > 1000) {
            Some(permille) => Err(format!("faults: {permille}; expected 1000 at most").into()),
            None => Ok(faults),
        }
    }
}
