//! What plugged memory is used for: where it goes, and allocations that come and go.

use core::num::NonZeroU32;

use memtide_units::Order;
use serde::Deserialize;

use crate::scenario::{length, order};

/// Steps of a workload at most.
pub const STEPS_MAX: u32 = 100_000;

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

impl Policy {
    /// Its name in tables.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::AllNormal => "all NORMAL",
            Self::AllMovable => "all MOVABLE",
            Self::OneToOne => "NORMAL:MOVABLE 1:1",
            Self::OneToTwo => "NORMAL:MOVABLE 1:2",
            Self::OneToThree => "NORMAL:MOVABLE 1:3",
            Self::OneToFour => "NORMAL:MOVABLE 1:4",
            Self::PreferMovable => "PREFER_MOVABLE",
            Self::Exmem => "EXMEM",
        }
    }
}

impl Workload {
    pub(crate) fn check(&self) -> Result<(), String> {
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
