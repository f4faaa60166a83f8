//! The keys of `[pool]`, and what they may be.

use core::time::Duration;

use memtide_cxl::manager::{Limits, Timing};
use memtide_units::{ByteSize, Random};
use serde::Deserialize;

use super::{
    host::takes,
    plan::{self, Faults, HostPlan, Phase, Plan},
    world::REST,
};
use crate::{
    machine::text::value::{Time, second},
    scenario::{length, size, whole},
};

/// The most that a device may have.
pub const CAPACITY_MAX: ByteSize = ByteSize(1 << 42);
/// Blocks of a device, at most.
const BLOCKS_MAX: u64 = 1 << 16;
/// Hosts, at most.
const HOSTS_MAX: u64 = 64;
/// Whatever repeats, at most so often in all.
const REPEATS_MAX: u64 = 1 << 22;
/// The longest pause of anybody: what is open when faults stop goes through a few of them until it
/// has its answer.
const PAUSE_MAX: Time = Time(REST.as_nanos() as u64 / 5);

/// A device, its manager, and hosts whose needs come and go.
#[derive(Clone, PartialEq, Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Pool {
    #[serde(deserialize_with = "size")]
    capacity: ByteSize,
    #[serde(deserialize_with = "size")]
    block: ByteSize,
    duration: Time,
    #[serde(default = "second")]
    sample_every: Time,
    #[serde(default = "second")]
    say_every: Time,
    #[serde(deserialize_with = "size")]
    copied_a_second: ByteSize,
    operator_every: Option<Time>,
    #[serde(default)]
    timing: TimingText,
    host: Vec<HostText>,
    pub(super) case: Vec<CaseText>,
}

#[derive(Clone, PartialEq, Debug, Deserialize, Default)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct TimingText {
    patience: Option<Time>,
    retry_first: Option<Time>,
    retry_most: Option<Time>,
    settle: Option<Time>,
}

#[derive(Clone, PartialEq, Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct HostText {
    name: String,
    #[serde(default = "one")]
    count: u64,
    /// How much further each copy is than the one before.
    ahead: Option<Time>,
    #[serde(default = "nothing", deserialize_with = "size")]
    minimum: ByteSize,
    #[serde(default = "everything", deserialize_with = "size")]
    maximum: ByteSize,
    #[serde(default = "one")]
    weight: u64,
    #[serde(default)]
    vary_percent: u64,
    phase: Vec<PhaseText>,
}

#[derive(Clone, PartialEq, Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct PhaseText {
    lasts: Time,
    #[serde(deserialize_with = "size")]
    needs: ByteSize,
}

/// What goes wrong.
#[derive(Clone, PartialEq, Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(super) struct CaseText {
    pub(super) name: String,
    #[serde(default)]
    lost_permille: u64,
    #[serde(default)]
    repeated_permille: u64,
    #[serde(default)]
    late_permille: u64,
    late_by: Option<Time>,
    agent_dies_every: Option<Time>,
    manager_dies_every: Option<Time>,
    away: Option<Time>,
}

const fn one() -> u64 {
    1
}

const fn nothing() -> ByteSize {
    ByteSize(0)
}

const fn everything() -> ByteSize {
    CAPACITY_MAX
}

impl From<Time> for Duration {
    fn from(time: Time) -> Self {
        Self::from_nanos(time.0)
    }
}

/// Whether requests that are open when faults stop have their answers in time with such pauses.
fn pause(name: &str, Time(time): Time) -> Result<(), String> {
    let most = PAUSE_MAX.0;
    if time > most {
        return Err(format!("{name} {time} ns; expected {most} ns at most"));
    }
    Ok(())
}

impl TimingText {
    fn timing(&self) -> Timing {
        let Timing { patience, retry_first, retry_most, settle } = Timing::default();
        let or = |time: Option<Time>, default| time.map_or(default, Duration::from);
        Timing {
            patience: or(self.patience, patience),
            retry_first: or(self.retry_first, retry_first),
            retry_most: or(self.retry_most, retry_most),
            settle: or(self.settle, settle),
        }
    }
}

impl Pool {
    /// Whether all of it makes sense, and asks for no more than can be done.
    pub(super) fn check_all(&self) -> Result<(), String> {
        let Self { capacity, block, .. } = *self;
        if !block.0.is_power_of_two() || block.0 < 2 << 20 {
            return Err(format!("block {block}; expected a power of two, 2MiB or more"));
        }
        whole("capacity", capacity, "blocks", block)?;
        let most = CAPACITY_MAX.0.min(block.0.saturating_mul(BLOCKS_MAX));
        if capacity.0 == 0 || capacity.0 > most {
            let most = ByteSize(most);
            return Err(format!("capacity {capacity}; expected more than 0, {most} at most"));
        }
        if self.copied_a_second.0 == 0 {
            return Err("copied-a-second 0; expected more than 0".to_owned());
        }
        if takes(capacity.0, self.copied_a_second.0) > PAUSE_MAX.into() {
            let least = ByteSize(capacity.0.div_ceil(Duration::from(PAUSE_MAX).as_secs()));
            let copied = self.copied_a_second;
            return Err(format!("copied-a-second {copied}; expected {least} at least"));
        }
        length("case", self.case.len())?;
        length("host", self.host.len())?;
        self.check_times()?;
        self.host.iter().try_for_each(|host| host.check(self.duration))?;
        let hosts: u64 = self.host.iter().map(|host| host.count).sum();
        if hosts > HOSTS_MAX {
            return Err(format!("{hosts} hosts; expected {HOSTS_MAX} at most"));
        }
        let minimum: u128 = self.host.iter().map(HostText::guaranteed).sum();
        if minimum > u128::from(capacity.0) {
            return Err(format!(
                "minimum of all hosts {minimum}; expected the capacity, {capacity}, at most"
            ));
        }
        self.case.iter().try_for_each(CaseText::check)
    }

    fn check_times(&self) -> Result<(), String> {
        let TimingText { patience, retry_first, retry_most, settle } = self.timing.clone();
        // What operators want, and samples, end with the duration.
        let measured = [
            ("duration", Some(self.duration)),
            ("sample-every", Some(self.sample_every)),
            ("operator-every", self.operator_every),
        ];
        let often = REPEATS_MAX / HOSTS_MAX;
        for (name, time) in measured {
            let Some(Time(time)) = time else { continue };
            if time == 0 || self.duration.0 / time > often {
                return Err(format!(
                    "{name} {time} ns; expected a part of the duration, {often} of it at most"
                ));
            }
        }
        // The parties go on until all is at rest.
        let rest = Duration::from(self.duration).max(2 * REST);
        let pauses = [
            ("say-every", Some(self.say_every)),
            ("patience", patience),
            ("retry-first", retry_first),
            ("retry-most", retry_most),
            ("settle", settle),
        ];
        for (name, time) in pauses {
            let Some(time) = time else { continue };
            let ns = time.0;
            if ns == 0 || rest.as_nanos() / u128::from(ns) > u128::from(often) {
                let (rest, after) = (rest.as_secs(), (2 * REST).as_secs());
                return Err(format!(
                    "{name} {ns} ns; expected a part of the duration, or of the {after} s after \
                     it: {often} of it at most, which is {rest} s"
                ));
            }
            pause(name, time)?;
        }
        Ok(())
    }

    /// One case, with its needs drawn.
    pub(super) fn plan(&self, case: &CaseText, random: &mut Random) -> Plan {
        let duration = self.duration.into();
        let mut hosts = Vec::new();
        for (group, host) in self.host.iter().enumerate() {
            for copy in 0..host.count {
                let ahead = Duration::from(host.ahead.unwrap_or(Time(0))) * copy as u32;
                let phases: Vec<Phase> = host.phase.iter().map(PhaseText::phase).collect();
                let needs = plan::needs(&phases, ahead, host.vary_percent, duration, random);
                hosts.push(HostPlan { group, limits: host.limits(), needs });
            }
        }
        Plan {
            capacity: self.capacity.0,
            block: self.block.0,
            duration,
            sample_every: self.sample_every.into(),
            say_every: self.say_every.into(),
            copied: self.copied_a_second.0,
            timing: self.timing.timing(),
            operator_every: self.operator_every.map(Duration::from),
            faults: case.faults(),
            hosts,
            groups: self.host.iter().map(|host| host.name.clone()).collect(),
        }
    }
}

impl PhaseText {
    fn phase(&self) -> Phase {
        Phase { lasts: self.lasts.into(), needs: self.needs.0 }
    }
}

impl HostText {
    fn guaranteed(&self) -> u128 {
        u128::from(self.minimum.0) * u128::from(self.count)
    }

    fn limits(&self) -> Limits {
        let weight = u32::try_from(self.weight).unwrap_or(u32::MAX);
        Limits { minimum: self.minimum.0, maximum: self.maximum.0, weight }
    }

    fn check(&self, duration: Time) -> Result<(), String> {
        let Self { name, count, weight, vary_percent, .. } = self;
        let at = format!("host {name:?}");
        self.limits().check().map_err(|why| format!("{at}: {why}"))?;
        if !(1..=HOSTS_MAX).contains(count) {
            return Err(format!("{at}: count {count}; expected 1 to {HOSTS_MAX}"));
        }
        if *weight > 1000 {
            return Err(format!("{at}: weight {weight}; expected 1 to 1000"));
        }
        if *vary_percent > 100 {
            return Err(format!("{at}: vary-percent {vary_percent}; expected 100 at most"));
        }
        if let Some(Time(ahead)) = self.ahead.filter(|ahead| ahead.0 > duration.0) {
            let most = duration.0;
            return Err(format!(
                "{at}: ahead {ahead} ns; expected the duration, {most} ns, at most"
            ));
        }
        length(&format!("{at}: phase"), self.phase.len())?;
        for phase in &self.phase {
            let (Time(lasts), needs) = (phase.lasts, phase.needs);
            let often = REPEATS_MAX / HOSTS_MAX / HOSTS_MAX;
            if lasts == 0 || duration.0 / lasts > often {
                return Err(format!(
                    "{at}: lasts {lasts} ns; expected a part of the duration, {often} at most"
                ));
            }
            if needs.0 > CAPACITY_MAX.0 {
                return Err(format!("{at}: needs {needs}; expected {CAPACITY_MAX} at most"));
            }
        }
        Ok(())
    }
}

impl CaseText {
    fn faults(&self) -> Faults {
        Faults {
            lost: self.lost_permille,
            repeated: self.repeated_permille,
            late: self.late_permille,
            late_by: self.late_by.unwrap_or(Time(0)).into(),
            agent_dies: self.agent_dies_every.map(Duration::from),
            manager_dies: self.manager_dies_every.map(Duration::from),
            away: self.away.unwrap_or(Time(0)).into(),
        }
    }

    fn check(&self) -> Result<(), String> {
        let at = format!("case {:?}", self.name);
        let permilles = [
            ("lost-permille", self.lost_permille),
            ("repeated-permille", self.repeated_permille),
            ("late-permille", self.late_permille),
        ];
        for (name, permille) in permilles {
            if permille > 500 {
                return Err(format!("{at}: {name} {permille}; expected 500 at most"));
            }
        }
        if (self.late_permille != 0) != self.late_by.is_some() {
            return Err(format!("{at}: expected late-permille and late-by, or neither"));
        }
        self.late_by
            .map_or(Ok(()), |time| pause("late-by", time))
            .map_err(|why| format!("{at}: {why}"))?;
        let dies = [
            ("agent-dies-every", self.agent_dies_every),
            ("manager-dies-every", self.manager_dies_every),
        ];
        for (name, every) in dies {
            if every.is_some_and(|Time(every)| every < second().0) {
                return Err(format!("{at}: {name}; expected 1s or more"));
            }
        }
        if dies.iter().any(|(_, every)| every.is_some()) != self.away.is_some() {
            return Err(format!("{at}: expected away where somebody dies, and only there"));
        }
        Ok(())
    }
}
