//! Which zone blocks are to go to: by what was asked for, or by a policy.

use std::fmt;

use memtide_engine::onlining::{AutoMovable, NumaAware, OnlinePolicy, OnlineType, OnlineZone};

use crate::{ReadError, Root, Zone};

const PARAMETERS: &str = "sys/module/memory_hotplug/parameters";

/// How the zone of each block is found.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum How {
    /// All to ZONE_MOVABLE.
    Movable,
    /// All to a kernel zone.
    Kernel,
    /// Each as the policy says, which memtide works out itself.
    Policy(OnlinePolicy),
}

impl How {
    /// Whether a block that is online in that zone is where it was to go. A policy is about what
    /// goes online, not about what is.
    #[must_use]
    pub fn allows(self, zone: Option<Zone>) -> bool {
        match self {
            Self::Movable => zone == Some(Zone::Movable),
            Self::Kernel => zone.is_some_and(Zone::is_kernel),
            Self::Policy(_) => true,
        }
    }

    /// What the rules are asked.
    pub(super) const fn kind(self) -> OnlineType {
        match self {
            Self::Movable => OnlineType::OnlineMovable,
            Self::Kernel => OnlineType::OnlineKernel,
            Self::Policy(_) => OnlineType::Online,
        }
    }

    /// The policy; any where an explicit zone goes before it.
    pub(super) const fn policy(self) -> OnlinePolicy {
        match self {
            Self::Policy(policy) => policy,
            Self::Movable | Self::Kernel => {
                OnlinePolicy::ContigZones { otherwise: OnlineZone::Kernel }
            }
        }
    }
}

impl fmt::Display for How {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Movable => f.write_str("zone movable"),
            Self::Kernel => f.write_str("zone kernel"),
            Self::Policy(OnlinePolicy::ContigZones { .. }) => f.write_str("policy contig-zones"),
            Self::Policy(OnlinePolicy::AutoMovable(AutoMovable { ratio, .. })) => {
                write!(f, "policy auto-movable, ratio {ratio}")
            }
        }
    }
}

/// The policy that the kernel follows itself (`memory_hotplug.online_policy` and its knobs).
///
/// Where the parameters are missing, the kernel is one from before them: contig-zones.
///
/// # Errors
/// [`ReadError`] when a parameter cannot be read or makes no sense.
pub fn of_kernel(root: &Root) -> Result<OnlinePolicy, ReadError> {
    let path = format!("{PARAMETERS}/online_policy");
    match root.text(&path)?.as_deref() {
        None | Some("contig-zones") => contig_zones(root),
        Some("auto-movable") => Ok(OnlinePolicy::AutoMovable(auto_movable(root)?)),
        Some(other) => Err(ReadError::Value {
            path: root.at(path),
            value: other.to_owned(),
            expected: "contig-zones or auto-movable",
        }),
    }
}

/// The policy contig-zones; with `movable_node` on the kernel's command line what neighbours
/// nothing is movable.
///
/// # Errors
/// [`ReadError`] when the command line cannot be read.
pub fn contig_zones(root: &Root) -> Result<OnlinePolicy, ReadError> {
    let line = root.text("proc/cmdline")?.unwrap_or_default();
    let movable_node = line.split_ascii_whitespace().any(|word| word == "movable_node");
    let otherwise = if movable_node { OnlineZone::Movable } else { OnlineZone::Kernel };
    Ok(OnlinePolicy::ContigZones { otherwise })
}

/// The knobs of auto-movable, as the kernel has them; its defaults where it has none.
///
/// # Errors
/// [`ReadError`] when a parameter cannot be read or makes no sense.
pub fn auto_movable(root: &Root) -> Result<AutoMovable, ReadError> {
    let path = format!("{PARAMETERS}/auto_movable_ratio");
    let ratio = match root.number(&path)? {
        None => AutoMovable::RATIO_DEFAULT,
        Some(ratio) => u32::try_from(ratio).map_err(|_| ReadError::Value {
            path: root.at(path),
            value: ratio.to_string(),
            expected: "a number below 2^32",
        })?,
    };
    let path = format!("{PARAMETERS}/auto_movable_numa_aware");
    let numa_aware = match root.text(&path)?.as_deref() {
        None | Some("Y") => NumaAware::MachineAndNode,
        Some("N") => NumaAware::Machine,
        Some(other) => {
            return Err(ReadError::Value {
                path: root.at(path),
                value: other.to_owned(),
                expected: "Y or N",
            });
        }
    };
    Ok(AutoMovable { ratio, numa_aware })
}
