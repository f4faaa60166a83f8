//! The zone of a range that goes online: what was asked for, else what the policy says.

use memtide_units::{FrameRange, NodeId, OnlineZone};

use super::{
    auto_movable_zone_for_pfn::auto_movable_zone_for_pfn,
    default_zone_for_pfn::default_zone_for_pfn,
    memory::{GroupId, Memory},
};

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

impl Promise {
    /// How far it is promised that memory of this zone comes back.
    pub(crate) const fn of(zone: OnlineZone) -> Self {
        match zone {
            OnlineZone::Movable | OnlineZone::Exmem => Self::Sure,
            OnlineZone::PreferMovable => Self::Likely,
            OnlineZone::Kernel => Self::None,
        }
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
