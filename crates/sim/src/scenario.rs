//! Scenarios: TOML files, read whole or refused.
//!
//! A file has a `title`, a `claim` (what somebody says the answer is), a `seed`, and one table:
//! `[onlining]` or `[comes-back]`. Unknown keys, impossible sizes and empty lists are refused
//! with line, reason and what was expected. `docs/sim.md` has all keys.

use core::num::NonZeroU32;

use memtide_units::{ByteSize, Order, PAGE_BYTES};
use serde::{Deserialize, Deserializer, de::Error as _};

/// The most memory that one machine of `[onlining]` may have.
pub const ONLINING_MAX: ByteSize = ByteSize(1 << 50);
/// The most memory that one machine of `[comes-back]` may have: each frame costs 9 bytes.
pub const COMES_BACK_MAX: ByteSize = ByteSize(1 << 40);
/// Entries of a list at most.
pub const LIST_MAX: usize = 64;
/// Steps of a workload at most.
pub const STEPS_MAX: u32 = 100_000;

/// What to run.
#[derive(Clone, PartialEq, Debug)]
pub struct Scenario {
    /// Its name, for people.
    pub title: String,
    /// What somebody says the answer is.
    pub claim: String,
    /// The seed unless another is given.
    pub seed: u64,
    /// The kind.
    pub what: What,
}

/// The kinds of scenario.
#[derive(Clone, PartialEq, Debug)]
pub enum What {
    /// Which zones plugged memory goes to.
    Onlining(Onlining),
    /// How much of it comes back.
    ComesBack(ComesBack),
}

/// Memory is plugged into a machine, unit by unit.
#[derive(Clone, PartialEq, Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Onlining {
    /// What the machine has at boot.
    #[serde(deserialize_with = "size")]
    pub early: ByteSize,
    /// What is plugged.
    #[serde(deserialize_with = "size")]
    pub plugged: ByteSize,
    /// The machines to compare.
    pub case: Vec<OnliningCase>,
}

/// One machine.
#[derive(Clone, PartialEq, Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct OnliningCase {
    /// What plugs.
    pub device: Device,
    /// What is plugged at once: a DIMM, or a unit of virtio-mem.
    #[serde(deserialize_with = "size")]
    pub unit: ByteSize,
    /// A memory block of Linux, the unit of onlining.
    #[serde(deserialize_with = "size")]
    pub block: ByteSize,
    /// `auto_movable_ratio`.
    pub ratio: u32,
}

/// What plugs memory.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Deserialize, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Device {
    /// One device that plugs units: one dynamic group.
    VirtioMem,
    /// A DIMM for each unit: a static group each.
    Dimm,
}

/// Memory is plugged, used, and asked back.
#[derive(Clone, PartialEq, Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct ComesBack {
    /// What the machine has at boot, all NORMAL; it stays.
    #[serde(deserialize_with = "size")]
    pub early: ByteSize,
    /// What is plugged, and asked back.
    #[serde(deserialize_with = "size")]
    pub plugged: ByteSize,
    /// Where plugged memory goes.
    pub policies: Vec<Policy>,
    /// In which units it leaves.
    #[serde(deserialize_with = "sizes")]
    pub granularities: Vec<ByteSize>,
    /// Percent of the memory asked for that cannot move.
    pub unmovable_percent: Vec<u32>,
    /// What is put into it.
    pub workload: Workload,
}

/// Where plugged memory goes.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Deserialize, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Policy {
    /// ZONE_NORMAL.
    AllNormal,
    /// ZONE_MOVABLE.
    AllMovable,
    /// NORMAL:MOVABLE 1:1.
    #[serde(rename = "1:1")]
    OneToOne,
    /// NORMAL:MOVABLE 1:2.
    #[serde(rename = "1:2")]
    OneToTwo,
    /// NORMAL:MOVABLE 1:3.
    #[serde(rename = "1:3")]
    OneToThree,
    /// NORMAL:MOVABLE 1:4.
    #[serde(rename = "1:4")]
    OneToFour,
    /// ZONE_PREFER_MOVABLE.
    PreferMovable,
    /// ZONE_EXMEM, in channels that are dedicated to one movability.
    Exmem,
}

/// Allocations that come and go.
#[derive(Clone, PartialEq, Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Workload {
    /// How long it runs.
    pub steps: u32,
    /// Steps from one peak of use to the next.
    pub period: NonZeroU32,
    /// Percent of all memory in use at a peak.
    pub peak_percent: u32,
    /// Percent of all memory in use between peaks, and when memory is asked back.
    pub rest_percent: u32,
    /// Sizes.
    pub sizes: Vec<Size>,
    /// How long allocations live.
    pub lifetimes: Vec<Lifetime>,
}

/// Allocations of one size.
#[derive(Clone, Copy, PartialEq, Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Size {
    /// 2^order frames, at most a pageblock: 9.
    #[serde(deserialize_with = "order")]
    pub order: Order,
    /// How often among those that can move.
    pub movable: u32,
    /// How often among those that cannot.
    pub unmovable: u32,
}

/// Allocations that live about as long.
#[derive(Clone, Copy, PartialEq, Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Lifetime {
    /// Steps, on average; evenly between 1 and twice that.
    pub steps: NonZeroU32,
    /// How often.
    pub weight: u32,
}

/// Why a text is no scenario.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("line {line}: {problem}")]
pub struct ScenarioError {
    /// Where, from 1.
    pub line: usize,
    /// What is wrong.
    pub problem: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct Raw {
    title: String,
    claim: String,
    seed: u64,
    onlining: Option<toml::Spanned<Onlining>>,
    comes_back: Option<toml::Spanned<ComesBack>>,
}

impl Scenario {
    /// The scenario that a text describes.
    ///
    /// # Errors
    /// [`ScenarioError`] with the line of the first mistake.
    pub fn read(text: &str) -> Result<Self, ScenarioError> {
        let wrong = |offset: usize, problem: String| ScenarioError {
            line: text[..offset.min(text.len())].matches('\n').count() + 1,
            problem,
        };
        let raw: Raw = toml::from_str(text).map_err(|error| {
            wrong(error.span().map_or(0, |span| span.start), error.message().to_owned())
        })?;
        let what = match (raw.onlining, raw.comes_back) {
            (Some(what), None) => {
                let at = what.span().start;
                let what = what.into_inner();
                what.check().map_err(|problem| wrong(at, problem))?;
                What::Onlining(what)
            }
            (None, Some(what)) => {
                let at = what.span().start;
                let what = what.into_inner();
                what.check().map_err(|problem| wrong(at, problem))?;
                What::ComesBack(what)
            }
            _ => return Err(wrong(0, "expected one of [onlining] and [comes-back]".to_owned())),
        };
        Ok(Self { title: raw.title, claim: raw.claim, seed: raw.seed, what })
    }
}

impl Onlining {
    fn check(&self) -> Result<(), String> {
        total(self.early, self.plugged, ONLINING_MAX)?;
        length("case", self.case.len())?;
        for (number, case) in self.case.iter().enumerate() {
            let OnliningCase { unit, block, .. } = case;
            let at = format!("case {}", number + 1);
            whole(&format!("{at}: plugged"), self.plugged, "units", *unit)?;
            whole(&format!("{at}: early"), self.early, "units", *unit)?;
            whole(&format!("{at}: unit"), *unit, "blocks", *block)?;
            if block.0 < 128 << 20 || !block.0.is_power_of_two() {
                return Err(format!(
                    "{at}: block {block}; expected a power of two, 128MiB or more"
                ));
            }
        }
        Ok(())
    }
}

impl ComesBack {
    fn check(&self) -> Result<(), String> {
        total(self.early, self.plugged, COMES_BACK_MAX)?;
        length("policies", self.policies.len())?;
        length("granularities", self.granularities.len())?;
        length("unmovable-percent", self.unmovable_percent.len())?;
        for &granularity in &self.granularities {
            if granularity.0 < Order::PAGEBLOCK.bytes() || !granularity.0.is_power_of_two() {
                return Err(format!(
                    "granularity {granularity}; expected a power of two, 2MiB or more"
                ));
            }
            whole("early", self.early, "units", granularity)?;
            whole("plugged", self.plugged, "units", granularity)?;
        }
        let over = self.unmovable_percent.iter().find(|&&percent| percent > 100);
        if let Some(percent) = over {
            return Err(format!("unmovable-percent {percent}; expected 100 at most"));
        }
        self.workload.check()
    }
}

impl Workload {
    fn check(&self) -> Result<(), String> {
        let Self { steps, peak_percent, rest_percent, sizes, lifetimes, .. } = self;
        if !(1..=STEPS_MAX).contains(steps) {
            return Err(format!("workload: {steps} steps; expected 1 to {STEPS_MAX}"));
        }
        if *peak_percent > 99 || rest_percent > peak_percent {
            return Err(format!(
                "workload: peak {peak_percent} %, rest {rest_percent} %; expected a peak of 99 at \
                 most, and no more rest than peak"
            ));
        }
        length("sizes", sizes.len())?;
        length("lifetimes", lifetimes.len())?;
        let weights = [
            sizes.iter().map(|size| u64::from(size.movable)).sum::<u64>(),
            sizes.iter().map(|size| u64::from(size.unmovable)).sum(),
            lifetimes.iter().map(|lifetime| u64::from(lifetime.weight)).sum(),
        ];
        if weights.contains(&0) {
            return Err("workload: weights that are all 0; expected one that is not".to_owned());
        }
        Ok(())
    }
}

fn total(early: ByteSize, plugged: ByteSize, max: ByteSize) -> Result<(), String> {
    match early.0.checked_add(plugged.0) {
        Some(total) if total <= max.0 && early.0 != 0 && plugged.0 != 0 => Ok(()),
        _ => Err(format!("early {early}, plugged {plugged}; expected more than 0, {max} at most")),
    }
}

fn whole(name: &str, size: ByteSize, units: &str, unit: ByteSize) -> Result<(), String> {
    if unit.0 != 0 && size.0.is_multiple_of(unit.0) {
        Ok(())
    } else {
        Err(format!("{name} {size}; expected whole {units} of {unit}"))
    }
}

fn length(name: &str, length: usize) -> Result<(), String> {
    if (1..=LIST_MAX).contains(&length) {
        Ok(())
    } else {
        Err(format!("{name}: {length} entries; expected 1 to {LIST_MAX}"))
    }
}

fn parse_size(text: &str) -> Result<ByteSize, String> {
    let size: ByteSize = text.parse().map_err(|error| format!("{text:?} {error}"))?;
    whole("size", size, "pages", ByteSize(PAGE_BYTES))?;
    Ok(size)
}

fn size<'de, D: Deserializer<'de>>(deserializer: D) -> Result<ByteSize, D::Error> {
    parse_size(&String::deserialize(deserializer)?).map_err(D::Error::custom)
}

fn sizes<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<ByteSize>, D::Error> {
    let texts = Vec::<String>::deserialize(deserializer)?;
    texts.iter().map(|text| parse_size(text).map_err(D::Error::custom)).collect()
}

fn order<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Order, D::Error> {
    let exponent = u8::deserialize(deserializer)?;
    Order::new(exponent)
        .filter(|&order| order <= Order::PAGEBLOCK)
        .ok_or_else(|| D::Error::custom(format!("order {exponent}; expected 0 to 9")))
}
