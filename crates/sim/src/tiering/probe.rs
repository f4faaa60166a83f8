//! How fast the simulator is: jobs for a stopwatch.
//!
//! A visit is the unit: one look at where a page lies. With a burst of 1 that is an access.

use super::{
    Contender, Job, Workload,
    machine::{Costs, Machine, TierModel},
    workload::Pattern,
};

/// A program's memory.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Paged {
    /// How many pages.
    pub pages: u32,
    /// Bytes of each.
    pub page_bytes: u64,
}

/// So many visits of a pattern, one in twenty of them a write, on DRAM and an expander.
#[must_use]
pub fn job(pattern: Pattern, memory: Paged, visits: u64, contender: Contender) -> Job {
    let tier = |latency_ns, bandwidth_gbps, capacity_percent| TierModel {
        latency_ns,
        bandwidth_gbps,
        load_factor: 0.2,
        capacity_percent,
    };
    let machine = Machine {
        threads: 8,
        tiers: vec![tier(90.0, 60.0, 33), tier(220.0, 24.0, 100)],
        migration_gbps: 4.0,
        costs: Costs {
            sample_ns: 100.0,
            tick_ns: 20_000.0,
            move_ns: 1000.0,
            copy_gbps: 8.0,
            stall_ns: 2000.0,
        },
        changes: Vec::new(),
    };
    let workload = Workload {
        name: "probe".to_owned(),
        pages: memory.pages,
        visits,
        burst: 1,
        parallelism: 4,
        write_percent: 5,
        pattern,
        recorded: None,
    };
    Job { machine, page_bytes: memory.page_bytes, workload, contender }
}
