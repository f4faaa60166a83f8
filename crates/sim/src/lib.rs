//! A deterministic simulator: what the rules do to terabytes.
//!
//! The text of a [`scenario`] goes in, an [`Outcome`] comes out: what somebody claimed, and what
//! was measured. The rules are not modelled: they are the engine's and the page-frame allocator's
//! own code. What is modelled is the world around them.
//!
//! * [`scenario`]: TOML, checked; every mistake with its line. `change`: other values for its
//!   keys. [`kind`]: the kinds of scenario.
//! * [`onlining`]: plug memory into a machine unit by unit, and see which zone it goes to.
//! * [`comes_back`]: how much of plugged memory can leave again. [`workload`]: what uses it;
//!   `world`: the allocator that it is put into; `give_back`: emptying it.
//! * [`dynamic_capacity`]: what a host gives back of what a fabric manager asks for; [`fabric`]:
//!   the device, the manager, and the other hosts.
//! * [`pool`]: one device, its manager, and many hosts whose needs come and go.
//! * [`tiering`]: what policies make of the accesses of programs on several tiers.
//! * [`machine`]: a whole machine of tenants and programs under the engine's rules.
//! * The one source of chance is [`memtide_units::Random`]. Time is a number of steps.
//! * [`sweep`]: a scenario over and over, with other values for some of its keys.
//! * [`outcome`]: results as rows, text and JSON. [`plot`]: as SVG. [`page`]: as one HTML page.
//!
//! One seed, scenario and version give one outcome, byte for byte, on any number of threads
//! (`parallel`). Nothing here reads a clock, a file or the environment.

#![forbid(unsafe_code)]

mod change;
pub mod comes_back;
pub mod dynamic_capacity;
pub mod fabric;
mod give_back;
pub mod kind;
pub mod machine;
pub mod onlining;
pub mod outcome;
pub mod page;
mod parallel;
pub mod plot;
pub mod pool;
pub mod scenario;
pub mod sweep;
pub mod tiering;
pub mod workload;
mod world;

use core::num::NonZeroUsize;

pub use self::{
    outcome::{Outcome, Results},
    scenario::{Scenario, ScenarioError},
};

/// Why a scenario that makes sense could not be run to its end.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SimError {
    /// The rules of onlining refused what the scenario plugs.
    #[error("onlining: {0}")]
    Online(#[from] memtide_engine::onlining::OnlineError),
    /// The allocator refused the node.
    #[error("the node: {0}")]
    Layout(#[from] memtide_frames::LayoutError),
    /// The allocator refused to add, isolate or remove.
    #[error("plugging: {0}")]
    Plug(#[from] memtide_frames::PlugError),
    /// The allocator does not know a block that was taken of it.
    #[error("giving back: {0}")]
    Frame(#[from] memtide_frames::FrameError),
    /// A fabric did what must not happen.
    #[error("the fabric: {0}")]
    Fabric(#[from] fabric::FabricError),
    /// A machine did what must not happen.
    #[error("{}{violation}", of_case(case))]
    Violated {
        /// In which case of the scenario.
        case: String,
        /// What.
        violation: Box<machine::Violation>,
    },
    /// A trace that the scenario names was not supplied.
    #[error("trace {0:?} was not supplied")]
    NoTrace(String),
    /// A plot could not be drawn.
    #[error("a plot: {0}")]
    Plot(String),
}

fn of_case(case: &str) -> String {
    if case.is_empty() { String::new() } else { format!("case {case:?}: ") }
}

/// Runs a scenario. The seed is the scenario's own unless another is given. `progress` hears how
/// much is done, of how much.
///
/// # Errors
/// [`SimError`]; a scenario that was read does not give one.
pub fn run(
    scenario: &Scenario,
    seed: Option<u64>,
    progress: &mut dyn FnMut(u64, u64),
) -> Result<Outcome, SimError> {
    run_on(NonZeroUsize::MIN, scenario, seed, progress)
}

/// The same on several threads: the outcome is the same, byte for byte.
///
/// # Errors
/// [`SimError`]; of several, that of the first job.
pub fn run_on(
    threads: NonZeroUsize,
    scenario: &Scenario,
    seed: Option<u64>,
    progress: &mut dyn FnMut(u64, u64),
) -> Result<Outcome, SimError> {
    let seed = seed.unwrap_or(scenario.seed);
    let results = scenario.what.run(seed, threads, progress)?;
    let Scenario { title, claim, .. } = scenario;
    Ok(Outcome { title: title.clone(), claim: claim.clone(), seed, results })
}
