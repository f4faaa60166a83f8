//! What a manager is set up with: devices, hosts, limits, pauses.

use alloc::{string::String, vec::Vec};
use core::time::Duration;

use super::name::{DeviceName, HostName};
use crate::command::HostId;

/// Most devices of one manager.
pub const MAX_DEVICES: usize = 64;
/// Most hosts of one device: 5600h counts them in a byte.
pub const MAX_HOSTS: usize = 255;

/// All that is set up.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Config {
    /// The devices, each name once.
    pub devices: Vec<DeviceConfig>,
    /// How long things may take.
    pub timing: Timing,
}

/// A device.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct DeviceConfig {
    /// Its name.
    pub name: DeviceName,
    /// Who chooses what a tagged request gets.
    pub chooser: Chooser,
    /// The hosts that this manager serves there: each name and each number once. Other hosts of
    /// the device keep what they have.
    pub hosts: Vec<HostConfig>,
}

/// Who chooses the addresses of a request that leaves them open.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Chooser {
    /// The manager; the device is told which (prescriptive).
    #[default]
    Manager,
    /// The device, for requests with a tag and for policies that it does (5600h).
    Device,
}

/// A host's part in one device.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct HostConfig {
    /// The host.
    pub name: HostName,
    /// The device's number for it.
    pub host: HostId,
    /// What it may have of the device, unless [`super::Request::SetLimits`] said otherwise since.
    pub limits: Limits,
}

/// What a host may have of one device.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct Limits {
    /// Bytes that it can always get, and that are never asked back from it.
    pub minimum: u64,
    /// Bytes that it never has more of.
    pub maximum: u64,
    /// Its share beside others' when several want more than there is: 1 to 1000.
    pub weight: u32,
}

impl Default for Limits {
    /// Nothing for sure, everything possible, as much as any other.
    fn default() -> Self {
        Self { minimum: 0, maximum: u64::MAX, weight: 1 }
    }
}

/// How long things may take; none of them is zero.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Timing {
    /// Until a request without a deadline is answered with what became of it so far.
    pub patience: Duration,
    /// Until what is left of a standing request is asked for again, the first time.
    pub retry_first: Duration,
    /// The same, at most: each pause is twice the last.
    pub retry_most: Duration,
    /// How long a host that gave or got by balancing is left alone.
    pub settle: Duration,
}

impl Default for Timing {
    fn default() -> Self {
        Self {
            patience: Duration::from_secs(10),
            retry_first: Duration::from_secs(1),
            retry_most: Duration::from_secs(60),
            settle: Duration::from_secs(10),
        }
    }
}

/// Why a manager cannot be set up so.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// Too many of something.
    #[error("{count} {what}; expected at most {most}")]
    TooMany {
        /// Of what.
        what: &'static str,
        /// How many.
        count: usize,
        /// How many there may be.
        most: usize,
    },
    /// Two of one name.
    #[error("{what} {name} is there twice; expected each once")]
    Twice {
        /// What it is.
        what: &'static str,
        /// Its name or number.
        name: String,
    },
    /// Limits that contradict each other.
    #[error("limits of {host}: {source}")]
    Limits {
        /// Whose.
        host: HostName,
        /// Why.
        source: LimitsError,
    },
    /// A time of zero.
    #[error("{field} is 0; expected a time")]
    Zero {
        /// Which.
        field: &'static str,
    },
}

/// Why limits are none.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LimitsError {
    /// More for sure than at most.
    #[error("minimum {minimum}; expected at most the maximum, {maximum}")]
    Order {
        /// The minimum.
        minimum: u64,
        /// The maximum.
        maximum: u64,
    },
    /// No such weight.
    #[error("weight {weight}; expected 1 to 1000")]
    Weight {
        /// What it is.
        weight: u32,
    },
}

impl Limits {
    /// Whether they make sense.
    ///
    /// # Errors
    /// [`LimitsError`] says what does not.
    pub const fn check(&self) -> Result<(), LimitsError> {
        let Self { minimum, maximum, weight } = *self;
        if minimum > maximum {
            return Err(LimitsError::Order { minimum, maximum });
        }
        if weight == 0 || weight > 1000 {
            return Err(LimitsError::Weight { weight });
        }
        Ok(())
    }
}
