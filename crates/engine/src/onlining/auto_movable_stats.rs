//! What the ratio is taken of: present pages, early kernel ones against movable ones.

use memtide_units::NodeId;

use super::memory::{Group, GroupId, GroupKind, Memory};

/// Pages of a machine, or of one node (`struct auto_movable_stats`).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) struct AutoMovableStats {
    /// Present since boot, in zones other than MOVABLE, less CMA.
    pub kernel_early_pages: u64,
    /// Present in ZONE_MOVABLE, and CMA.
    pub movable_pages: u64,
}

impl AutoMovableStats {
    /// Of one node; of all without one.
    pub fn of(memory: &Memory, node: Option<NodeId>) -> Self {
        let mut stats = Self::default();
        for (_, node) in memory.nodes().filter(|&(id, _)| node.is_none_or(|node| node == id)) {
            stats.kernel_early_pages += node.early - node.cma;
            stats.movable_pages += node.movable + node.cma;
        }
        stats
    }
}

/// What the other dynamic groups use of the early pages (`struct auto_movable_group_stats`).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) struct AutoMovableGroupStats {
    /// Movable pages in them.
    pub movable_pages: u64,
    /// Early pages that those need, beyond the groups' own kernel pages.
    pub req_kernel_early_pages: u64,
}

impl AutoMovableGroupStats {
    /// Of the dynamic groups of a node (of all without one), except one.
    pub fn of(memory: &Memory, node: Option<NodeId>, except: Option<GroupId>, ratio: u32) -> Self {
        let mut stats = Self::default();
        let dynamic = |group: &Group| matches!(group.kind(), GroupKind::Dynamic { .. });
        for (id, group) in memory.groups() {
            let counts = node.is_none_or(|node| node == group.node());
            if dynamic(group) && counts && Some(id) != except {
                stats.account_group(group, ratio);
            }
        }
        stats
    }

    /// `auto_movable_stats_account_group`.
    fn account_group(&mut self, group: &Group, ratio: u32) {
        if ratio == 0 {
            return;
        }
        let needed = group.present_movable_pages() * 100 / u64::from(ratio);
        self.req_kernel_early_pages += needed.saturating_sub(group.present_kernel_pages());
        self.movable_pages += group.present_movable_pages();
    }
}
