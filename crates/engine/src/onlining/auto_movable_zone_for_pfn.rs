//! The policy auto-movable, for one block: MOVABLE only if all that is still to come with it could
//! be movable too. For what is unplugged as a whole is lost as a whole if any of it is lost.

use memtide_units::{FrameRange, NodeId, OnlineZone, Pfn};

use super::{
    auto_movable_can_online_movable::auto_movable_can_online_movable,
    memory::{GroupId, GroupKind, Memory},
    zone_for_pfn_range::{AutoMovable, NumaAware},
};

/// The zone of a block.
pub(super) fn auto_movable_zone_for_pfn(
    memory: &Memory,
    knobs: AutoMovable,
    node: NodeId,
    group: Option<GroupId>,
    range: FrameRange,
) -> OnlineZone {
    let AutoMovable { ratio, numa_aware } = knobs;
    if ratio == 0 {
        return OnlineZone::Kernel;
    }
    let Some(nr_pages) = remaining_pages(memory, group, range) else {
        return OnlineZone::Kernel;
    };
    let bears = |node| auto_movable_can_online_movable(memory, ratio, node, group, nr_pages);
    let node_bears = || match numa_aware {
        NumaAware::MachineAndNode => bears(Some(node)),
        NumaAware::Machine => true,
    };
    if bears(None) && node_bears() { OnlineZone::Movable } else { OnlineZone::Kernel }
}

/// Pages still to come with the block, itself among them. None if part of that is in a kernel zone
/// already: then the rest goes there as well.
fn remaining_pages(memory: &Memory, group: Option<GroupId>, range: FrameRange) -> Option<u64> {
    let Some(group) = group.and_then(|id| memory.group(id)) else {
        return Some(range.frames);
    };
    match group.kind() {
        GroupKind::Static { max_pages } => {
            group.is_all_movable().then(|| max_pages - group.present_movable_pages())
        }
        GroupKind::Dynamic { unit_pages } if unit_pages == range.frames => Some(range.frames),
        GroupKind::Dynamic { unit_pages } => {
            let unit = FrameRange::new(Pfn(range.start.0 / unit_pages * unit_pages), unit_pages);
            let mut online_pages = 0;
            for (block, zone) in memory.online_blocks(unit) {
                if zone != OnlineZone::Movable {
                    return None;
                }
                online_pages += block.frames;
            }
            Some(unit_pages - online_pages)
        }
    }
}
