//! The policy contig-zones: zones do not overlap if that can be had.

use memtide_units::{FrameRange, NodeId, OnlineZone};

use super::memory::Memory;

/// The only zone whose span intersects the range; `otherwise` when none or several do.
pub(super) fn default_zone_for_pfn(
    memory: &Memory,
    node: NodeId,
    range: FrameRange,
    otherwise: OnlineZone,
) -> OnlineZone {
    let intersects = |zone: &OnlineZone| memory.zone_intersects(node, *zone, range);
    let mut there = OnlineZone::ALL.into_iter().filter(intersects);
    match (there.next(), there.next()) {
        (Some(only), None) => only,
        _ => otherwise,
    }
}
