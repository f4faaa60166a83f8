//! Whether the ratio bears more movable pages.

use memtide_units::NodeId;

use super::{
    auto_movable_stats::{AutoMovableGroupStats, AutoMovableStats},
    memory::{GroupId, GroupKind, Memory},
};

/// Whether so many pages more may become movable, on a node, or on the machine without one.
///
/// Kernel memory of a dynamic group earns credit for movable memory of that very group: whoever
/// unplugs it can unplug the movable memory first. What the other dynamic groups have is taken out
/// on both sides. Kernel memory of static groups never earns any.
pub(super) fn auto_movable_can_online_movable(
    memory: &Memory,
    ratio: u32,
    node: Option<NodeId>,
    group: Option<GroupId>,
    nr_pages: u64,
) -> bool {
    let stats = AutoMovableStats::of(memory, node);
    let others = AutoMovableGroupStats::of(memory, node, group, ratio);
    if stats.kernel_early_pages <= others.req_kernel_early_pages {
        return false;
    }
    let mut kernel_early_pages = stats.kernel_early_pages - others.req_kernel_early_pages;
    let movable_pages = stats.movable_pages - others.movable_pages;
    if let Some(group) = group.and_then(|id| memory.group(id))
        && matches!(group.kind(), GroupKind::Dynamic { .. })
    {
        kernel_early_pages += group.present_kernel_pages();
    }
    movable_pages + nr_pages <= u64::from(ratio) * kernel_early_pages / 100
}
