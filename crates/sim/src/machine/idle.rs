//! Who holds memory idle, as the engine says ([`memtide_engine::Engine::idle_holders`]).
//!
//! It is asked at every sample. Processes of one program are told together; of each window that
//! moment is kept at which a program held most of a kind. Where nobody tells of accesses
//! (`heat-every`), all memory would look idle, and nothing is said.

use std::collections::BTreeMap;

use memtide_units::NodeKind;
use serde::Serialize;

use super::{
    measure::Measure,
    plan::{MS, Nanos},
    world::World,
};

/// Memory of a kind that a program held and nobody accessed, at the moment of a window when it
/// was most.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct IdleRow {
    /// Which program.
    pub program: String,
    /// Near, far, or of a device.
    pub kind: NodeKind,
    /// How much, of what its tenant has above what it is guaranteed.
    pub bytes: u64,
    /// When.
    pub at_ms: u64,
    /// All of it had been idle for so long then, at least.
    pub idle_ms: u64,
}

impl core::fmt::Display for IdleRow {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        let Self { program, kind, bytes, at_ms, idle_ms } = self;
        let gib = crate::outcome::gib(*bytes);
        let [at, since] = [at_ms, idle_ms].map(|&ms| ms as f64 / 1000.0);
        write!(f, "{program}: {gib} GiB {kind} at {at} s for {since} s")
    }
}

impl World<'_> {
    /// Notes who holds what idle at this moment.
    pub(super) fn note_idle(&mut self) {
        if self.plan.heat_every.is_none() {
            return;
        }
        let mut held: BTreeMap<(usize, NodeKind, String), (u64, u64)> = BTreeMap::new();
        for kind in NodeKind::ALL {
            for holder in self.engine.idle_holders(kind) {
                let idle_ms = holder.idle_for.as_millis() as u64;
                let whose = (usize::from(holder.tenant.0), kind, holder.name);
                let sum = held.entry(whose).or_insert((0, idle_ms));
                *sum = (sum.0 + holder.bytes.0, sum.1.min(idle_ms));
            }
        }
        for ((tenant, kind, program), (bytes, idle_ms)) in held {
            let row = IdleRow { program, kind, bytes, at_ms: self.now / MS, idle_ms };
            self.measure.idle(self.now, tenant, &row);
        }
    }
}

impl Measure {
    /// Somebody holds something idle.
    fn idle(&mut self, now: Nanos, tenant: usize, row: &IdleRow) {
        self.note(now, tenant, |rows| {
            let same = |old: &&mut IdleRow| (&old.program, old.kind) == (&row.program, row.kind);
            match rows.idle.iter_mut().find(same) {
                Some(old) if old.bytes < row.bytes => *old = row.clone(),
                Some(_) => {}
                None => rows.idle.push(row.clone()),
            }
        });
    }
}
