//! Tiering: what a policy makes of a program's accesses, on a machine of several tiers.
//!
//! The policies are the engine's own ([`memtide_engine::tiering`]); what is modelled is the world
//! around them:
//! * [`machine`]: tiers with a load-latency curve; throughput by Little's law.
//! * [`workload`]: which pages the program accesses. [`trace`]: what a real one did.
//! * [`placement`]: where every page lies, in a [`page_map`]. `scatter`: where the popular ones are.
//! * `drive`: the loop: accesses, time, samples, ticks. `manager`: the policy at work, and what it
//!   costs. `oracle`: the best placements that a look into the future finds.
//! * [`config`]: the scenario. [`row`]: what came out. [`probe`]: for a stopwatch.
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
pub mod page_map;
pub mod placement;
mod plot;
pub mod probe;
pub mod row;
mod scatter;
pub mod trace;
pub mod workload;

pub use self::{
    config::{Contender, Tiering, Workload},
    drive::run_job,
    row::{TieringRow, table},
};

use self::{machine::Machine, workload::Pattern};
use crate::{
    SimError,
    kind::{self, Kind},
    plot::Plot,
    scenario::Wrong,
};

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

impl Tiering {
    /// The n-th of its jobs: workload after workload, and all contenders on each.
    fn job(&self, number: usize) -> Job {
        let contenders = self.policies.len();
        Job {
            machine: self.machine.clone(),
            page_bytes: self.page.0,
            workload: self.workloads[number / contenders].clone(),
            contender: self.policies[number % contenders].clone(),
        }
    }
}

impl Kind for Tiering {
    type Row = TieringRow;

    fn check(&self) -> Result<(), Wrong> {
        Ok(self.check()?)
    }

    fn jobs(&self) -> usize {
        self.workloads.len() * self.policies.len()
    }

    fn run(&self, job: kind::Job<'_>) -> Result<Vec<TieringRow>, SimError> {
        let of = self.job(job.number);
        if let (Pattern::Trace { file }, None) = (&of.workload.pattern, &of.workload.recorded) {
            return Err(SimError::NoTrace(file.clone()));
        }
        Ok(vec![run_job(&of, job.seed, job.told)])
    }

    fn table(rows: &[TieringRow]) -> Vec<Vec<String>> {
        table(rows)
    }

    fn plots(rows: &[TieringRow]) -> Result<Vec<Plot>, SimError> {
        plot::plots(rows)
    }
}

#[cfg(test)]
mod tests;
