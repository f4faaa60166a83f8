//! How much of plugged memory would come back?
//!
//! For each policy and share of unmovable memory the same allocations, from the same seed, are put
//! into a fresh node of the real allocator; then all plugged memory is asked back, once for each
//! granularity.

use memtide_units::PAGE_BYTES;
use serde::Serialize;

use crate::{
    SimError,
    give_back::give_back,
    scenario::{ComesBack, Policy},
    world::{self, World},
};

/// One policy, share and granularity. `returned + blocked + no_room` is all that was plugged.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct ComesBackRow {
    /// Where plugged memory went.
    pub policy: Policy,
    /// Percent of the memory asked for that cannot move.
    pub unmovable_percent: u32,
    /// The unit in which memory leaves.
    pub granularity_bytes: u64,
    /// What left.
    pub returned_bytes: u64,
    /// What did not for something in its unit that cannot move.
    pub blocked_bytes: u64,
    /// What did not for want of room elsewhere.
    pub no_room_bytes: u64,
    /// What was copied for it.
    pub moved_bytes: u64,
    /// What cannot move, in plugged memory, when it was asked back.
    pub unmovable_plugged_bytes: u64,
    /// All that was in use then.
    pub in_use_bytes: u64,
    /// Allocations of what cannot move: asked for, and refused while the workload ran.
    pub unmovable_asked: u64,
    /// Refused.
    pub unmovable_refused: u64,
    /// Allocations of what can move that were refused.
    pub movable_refused: u64,
}

impl ComesBackRow {
    /// What left, in thousandths of what was plugged, rounded down.
    #[must_use]
    pub const fn returned_permille(&self) -> u64 {
        permille(self.returned_bytes, self.returned_bytes + self.blocked_bytes + self.no_room_bytes)
    }

    /// Unmovable allocations that were refused, in thousandths.
    #[must_use]
    pub const fn refused_permille(&self) -> u64 {
        permille(self.unmovable_refused, self.unmovable_asked)
    }
}

const fn permille(part: u64, whole: u64) -> u64 {
    if whole == 0 { 0 } else { (part as u128 * 1000 / whole as u128) as u64 }
}

/// All rows: by policy, then share, then granularity.
///
/// # Errors
/// [`SimError`], of which a scenario that was read gives none.
pub fn run(
    what: &ComesBack,
    seed: u64,
    progress: &mut dyn FnMut(u64, u64),
) -> Result<Vec<ComesBackRow>, SimError> {
    let total = what.policies.len() * what.unmovable_percent.len() * what.granularities.len();
    let mut rows = Vec::new();
    for &policy in &what.policies {
        for &unmovable_percent in &what.unmovable_percent {
            for granularity in &what.granularities {
                progress(rows.len() as u64, total as u64);
                let world = World::new(what)?;
                let frames = world.plug(policy)?;
                let seen = world::run(&frames, &what.workload, unmovable_percent, seed)?;
                let unit = granularity.0 / PAGE_BYTES;
                let given = give_back(&frames, world.plugged(), unit)?;
                rows.push(ComesBackRow {
                    policy,
                    unmovable_percent,
                    granularity_bytes: granularity.0,
                    returned_bytes: given.returned * PAGE_BYTES,
                    blocked_bytes: given.blocked * PAGE_BYTES,
                    no_room_bytes: given.no_room * PAGE_BYTES,
                    moved_bytes: given.moved * PAGE_BYTES,
                    unmovable_plugged_bytes: given.unmovable * PAGE_BYTES,
                    in_use_bytes: seen.live * PAGE_BYTES,
                    unmovable_asked: seen.unmovable_asked,
                    unmovable_refused: seen.unmovable_refused,
                    movable_refused: seen.movable_refused,
                });
            }
        }
    }
    Ok(rows)
}
