//! Times, sizes and switches, as they stand in a file.

use core::num::NonZeroU32;

use memtide_units::{ByteSize, PAGEBLOCK_BYTES};
use serde::{Deserialize, Deserializer, de::Error as _};

use crate::machine::plan::{MS, Nanos, SECOND};

/// A time, such as `"1.5s"`, `"20ms"`, `"3us"`, in nanoseconds.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(crate) struct Time(pub Nanos);

impl<'de> Deserialize<'de> for Time {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let wrong =
            || D::Error::custom(format!("{text:?}; expected a time such as \"10s\" or \"1ms\""));
        let digits = text.find(|c: char| !c.is_ascii_digit()).ok_or_else(wrong)?;
        let (number, unit) = text.split_at(digits);
        let unit = match unit {
            "ns" => 1,
            "us" => 1000,
            "ms" => MS,
            "s" => SECOND,
            "min" => 60 * SECOND,
            "h" => 3600 * SECOND,
            _ => return Err(wrong()),
        };
        let number: Nanos = number.parse().map_err(|_| wrong())?;
        number.checked_mul(unit).filter(|&ns| ns <= 24 * 3600 * SECOND).map(Self).ok_or_else(wrong)
    }
}

pub(crate) const fn second() -> Time {
    Time(SECOND)
}

/// A size of whole pageblocks, in pageblocks.
#[derive(Clone, Copy)]
pub(super) struct Blocks(pub u64);

impl<'de> Deserialize<'de> for Blocks {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let size: ByteSize =
            text.parse().map_err(|error| D::Error::custom(format!("{text:?} {error}")))?;
        if size.0.is_multiple_of(PAGEBLOCK_BYTES) {
            Ok(Self(size.0 / PAGEBLOCK_BYTES))
        } else {
            Err(D::Error::custom(format!("{size}; expected whole pageblocks of 2MiB")))
        }
    }
}

pub(super) const fn one() -> NonZeroU32 {
    NonZeroU32::MIN
}

#[derive(Deserialize, Default, Clone, Copy, PartialEq, Eq)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Switch {
    On,
    #[default]
    Off,
}
