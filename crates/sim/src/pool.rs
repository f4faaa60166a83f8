//! A pool: one device, its manager, and hosts whose needs come and go.
//!
//! Nobody here is modelled who has rules of its own: the device is [`memtide_cxl::device`], the
//! manager [`memtide_cxl::manager`], with its journal, and each host's rules are
//! [`memtide_engine::dynamic_capacity`]. Modelled are what the hosts' programs need, the time that
//! copying and overwriting take, and what goes wrong: messages that are lost, repeated or late,
//! agents and managers that are killed and start again, operators who ask for anything.
//!
//! The needs are known before anything starts, so the same needs can be met by a fixed part for
//! each host, and by one who knows them all (`bounds`): what the manager achieves lies beside both.
//! Every step is judged (`judge`), and in the end all has to come back.
//!
//! * `text`: the keys of `[pool]`. `plan`: the same, resolved. `swarm`: random ones, for the fuzz.
//! * `world`: steps in the order of their time. `host`: one host. `center`: the manager's side.
//! * `measure`: what a run leaves behind. `row`: as rows and plots.

mod bounds;
mod center;
mod host;
mod judge;
mod measure;
mod plan;
mod row;
mod swarm;
mod text;
mod world;

use std::panic::{AssertUnwindSafe, catch_unwind};

use memtide_units::Random;

use self::world::World;
pub use self::{
    judge::Broken,
    measure::Sample,
    row::{PoolRow, ShareRow, WaitRow},
    text::Pool,
};
pub(crate) use self::{plan::Plan, swarm::plan as random_plan};
use crate::{
    SimError,
    kind::{Job, Kind},
    machine::{
        Violation,
        trace::{Tracing, panic_text},
    },
    plot::Plot,
    scenario::Wrong,
};

/// Runs a plan to its end. What is violated is told with what led to it.
///
/// # Errors
/// [`Violation`]: a check failed, or somebody panicked.
pub(crate) fn run_plan(
    plan: &Plan,
    seed: u64,
    case: &str,
    told: &dyn Fn(u64),
) -> Result<Vec<PoolRow>, Violation> {
    // The same again, this time written down.
    run_once(plan, seed, case, Tracing::Off, told)
        .or_else(|_| run_once(plan, seed, case, Tracing::On, &|_| {}))
}

fn run_once(
    plan: &Plan,
    seed: u64,
    case: &str,
    tracing: Tracing,
    told: &dyn Fn(u64),
) -> Result<Vec<PoolRow>, Violation> {
    let (at, violated) = (0, |broken: Broken| format!("the pool: {broken}"));
    let world = World::new(plan, seed, tracing);
    let mut world =
        world.map_err(|broken| Violation { at, what: violated(broken), trace: Vec::new() })?;
    // What is left half done is told of, and used for nothing else.
    let what = match catch_unwind(AssertUnwindSafe(|| world.run(told))) {
        Ok(Ok(())) => return Ok(row::rows(plan, case, &world)),
        Ok(Err(broken)) => violated(broken),
        Err(panic) => panic_text(&*panic),
    };
    let at = u64::try_from(world.now.0.as_nanos()).unwrap_or(u64::MAX);
    Err(Violation { at, what, trace: world.trace.unwrap_or_default().into() })
}

impl Kind for Pool {
    type Row = PoolRow;

    fn check(&self) -> Result<(), Wrong> {
        self.check_all().map_err(Wrong::from)
    }

    fn jobs(&self) -> usize {
        self.case.len()
    }

    fn run(&self, job: Job<'_>) -> Result<Vec<PoolRow>, SimError> {
        let case = &self.case[job.number];
        // All cases have the same needs.
        let plan = self.plan(case, &mut Random::new(job.seed));
        run_plan(&plan, job.seed, &case.name, job.told).map_err(|violation| SimError::Violated {
            case: case.name.clone(),
            violation: Box::new(violation),
        })
    }

    fn table(rows: &[PoolRow]) -> Vec<Vec<String>> {
        row::table(rows)
    }

    fn plots(rows: &[PoolRow]) -> Result<Vec<Plot>, SimError> {
        row::plots(rows)
    }
}
