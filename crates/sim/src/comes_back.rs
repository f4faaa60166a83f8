//! How much of plugged memory would come back?
//!
//! For each policy and share of unmovable memory the same allocations, from the same seed, are put
//! into a fresh node of the real allocator; then all plugged memory is asked back, once for each
//! granularity.

use memtide_units::{ByteSize, Order, PAGE_BYTES};
use serde::{Deserialize, Serialize};

use crate::{
    SimError,
    give_back::give_back,
    kind::{Job, Kind},
    outcome::{gib, heading, percent},
    plot::{self, Line, Plot},
    scenario::{Wrong, length, size, sizes, total, whole},
    workload::{Policy, Workload},
    world::{self, World},
};

/// The most memory that one machine may have: each frame costs 9 bytes.
pub const MEMORY_MAX: ByteSize = ByteSize(1 << 40);

/// Memory is plugged, used, and asked back.
#[derive(Clone, PartialEq, Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct ComesBack {
    /// What the machine has at boot, all NORMAL; it stays.
    #[serde(deserialize_with = "size")]
    pub early: ByteSize,
    /// What is plugged, and asked back.
    #[serde(deserialize_with = "size")]
    pub plugged: ByteSize,
    /// Where plugged memory goes.
    pub policies: Vec<Policy>,
    /// In which units it leaves.
    #[serde(deserialize_with = "sizes")]
    pub granularities: Vec<ByteSize>,
    /// Percent of the memory asked for that cannot move.
    pub unmovable_percent: Vec<u32>,
    /// What is put into it.
    pub workload: Workload,
}

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

/// Rows come by policy, then share, then granularity.
impl Kind for ComesBack {
    type Row = ComesBackRow;

    fn check(&self) -> Result<(), Wrong> {
        total(self.early, self.plugged, MEMORY_MAX)?;
        length("policies", self.policies.len())?;
        length("granularities", self.granularities.len())?;
        length("unmovable-percent", self.unmovable_percent.len())?;
        for &granularity in &self.granularities {
            if granularity.0 < Order::PAGEBLOCK.bytes() || !granularity.0.is_power_of_two() {
                return Err(format!(
                    "granularity {granularity}; expected a power of two, 2MiB or more"
                )
                .into());
            }
            whole("early", self.early, "units", granularity)?;
            whole("plugged", self.plugged, "units", granularity)?;
        }
        let over = self.unmovable_percent.iter().find(|&&percent| percent > 100);
        if let Some(percent) = over {
            return Err(format!("unmovable-percent {percent}; expected 100 at most").into());
        }
        Ok(self.workload.check()?)
    }

    fn jobs(&self) -> usize {
        self.policies.len() * self.unmovable_percent.len() * self.granularities.len()
    }

    fn run(&self, job: Job<'_>) -> Result<Vec<ComesBackRow>, SimError> {
        let (rest, granularity) =
            (job.number / self.granularities.len(), job.number % self.granularities.len());
        let (policy, share) =
            (rest / self.unmovable_percent.len(), rest % self.unmovable_percent.len());
        let policy = self.policies[policy];
        let unmovable_percent = self.unmovable_percent[share];
        let granularity = self.granularities[granularity];
        let world = World::new(self)?;
        let frames = world.plug(policy)?;
        let seen = world::run(&frames, &self.workload, unmovable_percent, job.seed)?;
        let given = give_back(&frames, world.plugged(), granularity.0 / PAGE_BYTES)?;
        Ok(vec![ComesBackRow {
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
        }])
    }

    fn table(rows: &[ComesBackRow]) -> Vec<Vec<String>> {
        let names = [
            "POLICY",
            "UNMOVABLE %",
            "UNIT",
            "BACK %",
            "BACK GiB",
            "BLOCKED GiB",
            "NO ROOM GiB",
            "MOVED GiB",
            "UNMOVABLE REFUSED %",
        ];
        let rows = rows.iter().map(|row| {
            vec![
                row.policy.name().to_owned(),
                row.unmovable_percent.to_string(),
                ByteSize(row.granularity_bytes).to_string(),
                percent(row.returned_permille()),
                gib(row.returned_bytes),
                gib(row.blocked_bytes),
                gib(row.no_room_bytes),
                gib(row.moved_bytes),
                percent(row.refused_permille()),
            ]
        });
        std::iter::once(heading(&names)).chain(rows).collect()
    }

    fn plots(rows: &[ComesBackRow]) -> Result<Vec<Plot>, SimError> {
        let mut granularities: Vec<u64> = rows.iter().map(|row| row.granularity_bytes).collect();
        granularities.sort_unstable();
        granularities.dedup();
        granularities.into_iter().map(|bytes| plot_of(rows, bytes)).collect()
    }
}

fn plot_of(rows: &[ComesBackRow], bytes: u64) -> Result<Plot, SimError> {
    let mut lines: Vec<Line> = Vec::new();
    for row in rows.iter().filter(|row| row.granularity_bytes == bytes) {
        let point = (f64::from(row.unmovable_percent), row.returned_permille() as f64 / 10.0);
        match lines.iter_mut().find(|(name, _)| name == row.policy.name()) {
            Some((_, points)) => points.push(point),
            None => lines.push((row.policy.name().to_owned(), vec![point])),
        }
    }
    let size = ByteSize(bytes);
    let axes = ["asked for that cannot move, %", "comes back, %"];
    let svg = plot::draw(&format!("What comes back in units of {size}"), axes, &lines)?;
    Ok(Plot { name: format!("comes-back-{size}"), svg })
}
