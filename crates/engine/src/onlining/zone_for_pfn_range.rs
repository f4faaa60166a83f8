//! The zone of a range that goes online: what was asked for, else what the policy says.

use core::fmt;

use memtide_units::{FrameRange, NodeId};

use super::{
    auto_movable_zone_for_pfn::auto_movable_zone_for_pfn,
    default_zone_for_pfn::default_zone_for_pfn,
    memory::{GroupId, Memory},
};

/// The zones that plugged memory goes to. Linux has the first two; a policy never gives another.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub enum OnlineZone {
    /// A kernel zone: everything may lie here.
    #[default]
    Kernel,
    /// ZONE_MOVABLE: only what can move.
    Movable,
    /// ZONE_PREFER_MOVABLE, proposed in 2021: what can move, and as little else as possible.
    PreferMovable,
    /// ZONE_EXMEM, of SMDK: extended memory, for what can move.
    Exmem,
}

impl OnlineZone {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Kernel, Self::Movable, Self::PreferMovable, Self::Exmem];

    /// Its name for people, and in files.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Kernel => "kernel",
            Self::Movable => "movable",
            Self::PreferMovable => "prefer-movable",
            Self::Exmem => "exmem",
        }
    }

    /// How far it is promised that it comes back.
    pub(crate) const fn promise(self) -> Promise {
        match self {
            Self::Movable | Self::Exmem => Promise::Sure,
            Self::PreferMovable => Promise::Likely,
            Self::Kernel => Promise::None,
        }
    }

    /// Whether only what can move may lie here.
    #[must_use]
    pub const fn is_movable_only(self) -> bool {
        matches!(self.promise(), Promise::Sure)
    }
}

/// How far it is promised that memory of a zone comes back when it is asked for, the surest first.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) enum Promise {
    /// Nothing that never moves is placed there.
    Sure,
    /// As little as possible.
    Likely,
    /// Anything may be.
    None,
}

impl fmt::Display for OnlineZone {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// What is written to a block's `state` (`MMOP_*` in the kernel).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum OnlineType {
    /// `online`: the policy decides.
    Online,
    /// `online_kernel`: a kernel zone, whatever the policy says.
    OnlineKernel,
    /// `online_movable`: ZONE_MOVABLE, whatever the policy says.
    OnlineMovable,
    /// ZONE_PREFER_MOVABLE, whatever the policy says.
    OnlinePreferMovable,
    /// ZONE_EXMEM, whatever the policy says.
    OnlineExmem,
}

/// `memory_hotplug.online_policy`.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum OnlinePolicy {
    /// The zone that is there already; else this one (MOVABLE with `movable_node`).
    ContigZones {
        /// Where nothing or both are there.
        otherwise: OnlineZone,
    },
    /// As much MOVABLE as the ratio bears.
    AutoMovable(AutoMovable),
}

/// The knobs of the policy auto-movable.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct AutoMovable {
    /// `auto_movable_ratio`: movable pages for 100 early kernel pages. 0: none.
    pub ratio: u32,
    /// `auto_movable_numa_aware`.
    pub numa_aware: NumaAware,
}

/// Whether the ratio must hold on the node as well as on the machine.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum NumaAware {
    /// On both.
    MachineAndNode,
    /// On the machine.
    Machine,
}

impl AutoMovable {
    /// The kernel's default: 3:1, and 1 % for firmware pages that are absent.
    pub const RATIO_DEFAULT: u32 = 301;
}

impl Default for AutoMovable {
    fn default() -> Self {
        Self { ratio: Self::RATIO_DEFAULT, numa_aware: NumaAware::MachineAndNode }
    }
}

/// The zone for a range of one node and, if it is plugged as part of one, group.
#[must_use]
pub fn zone_for_pfn_range(
    memory: &Memory,
    policy: OnlinePolicy,
    online: OnlineType,
    node: NodeId,
    group: Option<GroupId>,
    range: FrameRange,
) -> OnlineZone {
    match (online, policy) {
        (OnlineType::OnlineKernel, _) => OnlineZone::Kernel,
        (OnlineType::OnlineMovable, _) => OnlineZone::Movable,
        (OnlineType::OnlinePreferMovable, _) => OnlineZone::PreferMovable,
        (OnlineType::OnlineExmem, _) => OnlineZone::Exmem,
        (OnlineType::Online, OnlinePolicy::ContigZones { otherwise }) => {
            default_zone_for_pfn(memory, node, range, otherwise)
        }
        (OnlineType::Online, OnlinePolicy::AutoMovable(knobs)) => {
            auto_movable_zone_for_pfn(memory, knobs, node, group, range)
        }
    }
}
