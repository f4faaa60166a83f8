//! Tiering: what a policy makes of a program's accesses, on a machine of several tiers.
//!
//! The policies are the engine's own ([`memtide_engine::tiering`]); what is modelled is the world
//! around them:
//! * [`machine`]: tiers with a load-latency curve; throughput by Little's law.
//! * [`workload`]: which pages the program accesses.
//! * [`placement`]: where every page lies. `scatter`: where the popular ones are.
//! * `drive`: the loop: accesses, time, samples, ticks. `manager`: the policy at work, and what it
//!   costs. `oracle`: the best placements that a look into the future finds.
//! * [`config`]: the scenario. [`row`]: what came out.
//!
//! A policy is compared with bounds on the same accesses: everything in the fastest tier
//! (`near-only`), in the slowest (`far-only`), the best placement that never changes
//! (`static-oracle`), and the best for each phase, changed for free (`clairvoyant`).
//!
//! What is left out: caches (an access here is one that missed them), prefetching, and the way
//! from a core to a tier, which is as long for all cores.

pub mod config;
mod drive;
pub mod machine;
mod manager;
mod oracle;
pub mod placement;
pub mod row;
mod scatter;
pub mod workload;

pub use self::{
    config::{Contender, Tiering, Workload},
    drive::run_job,
    row::{TieringRow, table},
};

use self::machine::Machine;

/// One row to be: a workload and a contender. Rows do not depend on each other.
#[derive(Clone, PartialEq, Debug)]
pub struct Job {
    /// The machine.
    pub machine: Machine,
    /// Bytes of a page.
    pub page_bytes: u64,
    /// The workload.
    pub workload: Workload,
    /// Who places the pages.
    pub contender: Contender,
}

/// The rows to be of a scenario, in order.
#[must_use]
pub fn jobs(what: &Tiering) -> Vec<Job> {
    let Tiering { machine, page, workloads, policies } = what;
    let of_workload = |workload: &Workload| {
        let job = |contender: &Contender| Job {
            machine: machine.clone(),
            page_bytes: page.0,
            workload: workload.clone(),
            contender: contender.clone(),
        };
        policies.iter().map(job).collect::<Vec<_>>()
    };
    workloads.iter().flat_map(of_workload).collect()
}

/// Runs a scenario, one row after another. `progress` hears how many are done, of how many.
#[must_use]
pub fn run(what: &Tiering, seed: u64, progress: &mut dyn FnMut(u64, u64)) -> Vec<TieringRow> {
    let jobs = jobs(what);
    let all = jobs.len() as u64;
    let rows = jobs.iter().zip(1..).map(|(job, done)| {
        let row = run_job(job, seed);
        progress(done, all);
        row
    });
    rows.collect()
}
