//! In which zone a pageblock is, and what may lie there.

use memtide_engine::onlining::OnlineZone;
use memtide_units::Pageblock;

use super::{Checked, Oracle};
use crate::machine::plan::Plan;

impl Oracle {
    /// Whether all that lies there must be able to move.
    pub fn is_movable_only(&self, pageblock: Pageblock) -> bool {
        self.zones[pageblock.0 as usize].is_movable_only()
    }

    /// Whether something that does not move may lie there; what happens to it.
    pub fn may_stay(&self, pageblock: Pageblock, what: &str) -> Checked<()> {
        let zone = self.zones[pageblock.0 as usize];
        if !zone.is_movable_only() {
            return Ok(());
        }
        Err(format!("zones: {pageblock} is {what} but is in zone {zone}"))
    }

    /// It comes into a zone; nobody has it.
    pub(super) fn comes_into(&mut self, pageblock: Pageblock, zone: OnlineZone) {
        self.zones[pageblock.0 as usize] = zone;
    }

    /// Pageblocks of a node that nobody has, that are zero, and where anything may lie.
    pub fn free_for_never(&self, plan: &Plan, node: usize) -> u64 {
        self.free(plan, node) - self.movable_only[node][0]
    }

    /// Pageblocks of a node that are there, and where anything may lie.
    pub fn there_for_never(&self, plan: &Plan, node: usize) -> u64 {
        let away: u64 = self.away[node].iter().sum();
        plan.nodes[node].pageblocks - away - self.movable_only[node][1]
    }
}
