//! The policy contig-zones: zones do not overlap if that can be had.

use memtide_units::{FrameRange, NodeId};

use super::{memory::Memory, zone_for_pfn_range::OnlineZone};

/// The only zone whose span intersects the range; `otherwise` when none or both do.
pub(super) fn default_zone_for_pfn(
    memory: &Memory,
    node: NodeId,
    range: FrameRange,
    otherwise: OnlineZone,
) -> OnlineZone {
    let in_kernel = memory.zone_intersects(node, OnlineZone::Kernel, range);
    let in_movable = memory.zone_intersects(node, OnlineZone::Movable, range);
    match (in_kernel, in_movable) {
        (true, false) => OnlineZone::Kernel,
        (false, true) => OnlineZone::Movable,
        _ => otherwise,
    }
}
