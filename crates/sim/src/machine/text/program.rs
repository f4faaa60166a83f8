//! Programs and their phases.

use core::num::NonZeroU32;
use std::collections::BTreeMap;

use memtide_units::HoldReason;
use serde::Deserialize;
use toml::Spanned;

use super::{
    name::{LIST_MAX, Names, find, wrong},
    policy::PolicyText,
    value::{Blocks, Switch, Time, one},
};
use crate::{
    machine::plan::{Access, Phase, Program, Promise},
    scenario::Wrong,
};

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(super) struct ProgramText {
    pub name: String,
    tenant: Spanned<String>,
    #[serde(default = "one")]
    count: NonZeroU32,
    start: Option<Time>,
    every: Option<Time>,
    processor: Option<Spanned<String>>,
    /// Who accesses the memory, and how often in proportion to the others.
    processors: Option<BTreeMap<Spanned<String>, NonZeroU32>>,
    #[serde(default = "one")]
    repeats: NonZeroU32,
    policy: Option<PolicyText>,
    pin: Option<HoldReason>,
    #[serde(default)]
    promise: Switch,
    #[serde(default = "leases")]
    lease_max: NonZeroU32,
    retry: Option<Time>,
    fork: Option<ForkText>,
    phase: Vec<PhaseText>,
}

const fn leases() -> NonZeroU32 {
    NonZeroU32::new(64).expect("not 0")
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct ForkText {
    every: Time,
    lives: Time,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct PhaseText {
    lasts: Time,
    working_set: Blocks,
    /// MiB a second; idle when 0.
    #[serde(default)]
    wants_mib: u64,
    lines: Option<NonZeroU32>,
    hot_percent: Option<u32>,
    hot_share_percent: Option<u32>,
}

impl ProgramText {
    pub(super) fn program(&self, at: usize, names: &Names) -> Result<Program, Wrong> {
        let processor = match &self.processor {
            Some(name) => find(&names.processors, "processor", name)?,
            None => 0,
        };
        if !(1..=LIST_MAX).contains(&self.phase.len()) {
            let phases = self.phase.len();
            return Err(wrong(at, format!("{phases} phases; expected 1 to {LIST_MAX}")));
        }
        if self.pin.is_some_and(|reason| !reason.is_pin()) {
            return Err(wrong(at, "pin; expected a reason that lasts, such as \"memory-lock\""));
        }
        let phases = self.phase.iter().map(|phase| phase.phase(at)).collect::<Result<_, _>>()?;
        let policy = self.policy.as_ref().map(|policy| policy.policy(at, names)).transpose()?;
        let zero = |time: Option<Time>| time.map_or(0, |time| time.0);
        if self.fork.as_ref().is_some_and(|fork| fork.every.0 == 0)
            || self.retry.is_some_and(|t| t.0 == 0)
        {
            return Err(wrong(at, "a time of 0; expected more"));
        }
        Ok(Program {
            name: self.name.clone(),
            tenant: find(&names.tenants, "tenant", &self.tenant)?,
            count: self.count.get(),
            start: zero(self.start),
            every: zero(self.every),
            processor,
            accessed_by: self.accessed_by(at, processor, names)?,
            phases,
            repeats: self.repeats.get(),
            policy,
            pin: self.pin,
            promise: match self.promise {
                Switch::On => Promise::Asked,
                Switch::Off => Promise::NotAsked,
            },
            lease_max: self.lease_max.get(),
            retry: self.retry.map(|time| time.0),
            fork: self.fork.as_ref().map(|fork| (fork.every.0, fork.lives.0)),
        })
    }

    /// Who accesses its memory: those that it names, else the processor where it runs.
    fn accessed_by(
        &self,
        at: usize,
        processor: usize,
        names: &Names,
    ) -> Result<Vec<(usize, u32)>, Wrong> {
        let Some(processors) = &self.processors else { return Ok(vec![(processor, 1)]) };
        if processors.is_empty() {
            return Err(wrong(at, "processors of nobody; expected one or more, or no such key"));
        }
        let one = |(name, times): (&Spanned<String>, &NonZeroU32)| {
            Ok((find(&names.processors, "processor", name)?, times.get()))
        };
        processors.iter().map(one).collect()
    }
}

impl PhaseText {
    fn phase(&self, at: usize) -> Result<Phase, Wrong> {
        let hot = (self.hot_percent.unwrap_or(100), self.hot_share_percent.unwrap_or(100));
        if hot.0 == 0 || hot.0 > 100 || hot.1 > 100 || self.lasts.0 == 0 {
            let problem = format!(
                "a phase that lasts {} ns, {} % hot for {} % of accesses; expected more than 0, and \
                 100 % at most",
                self.lasts.0, hot.0, hot.1
            );
            return Err(wrong(at, problem));
        }
        let access = match self.wants_mib {
            0 => Access::Idle,
            wants_mib => Access::Busy {
                wants_mib,
                lines: self.lines.map(NonZeroU32::get),
                hot_permille: hot.0 * 10,
                hot_share_permille: hot.1 * 10,
            },
        };
        Ok(Phase { lasts: self.lasts.0, pageblocks: self.working_set.0, access })
    }
}
