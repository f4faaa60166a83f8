//! A deterministic simulator: what the rules do to terabytes.
//!
//! The text of a [`scenario`] goes in, an [`Outcome`] comes out: what somebody claimed, and what
//! was measured. The rules are not modelled: they are the engine's and the page-frame allocator's
//! own code. What is modelled is the world around them.
//!
//! * [`scenario`]: TOML, checked; every mistake with its line.
//! * [`onlining`]: plug memory into a machine unit by unit, and see which zone it goes to.
//! * [`comes_back`]: how much of plugged memory can leave again. `world`: the allocator and what
//!   is put into it; `give_back`: emptying it.
//! * The one source of chance is [`memtide_units::Random`]. Time is a number of steps.
//! * [`outcome`]: results as rows, text and JSON. [`plot`]: as SVG. [`page`]: as one HTML page.
//!
//! One seed, scenario and version give one outcome, byte for byte. Nothing here reads a clock, a
//! file or the environment.

#![forbid(unsafe_code)]

pub mod comes_back;
mod give_back;
pub mod onlining;
pub mod outcome;
pub mod page;
pub mod plot;
pub mod scenario;
pub mod tiering;
mod world;

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
    /// A plot could not be drawn.
    #[error("a plot: {0}")]
    Plot(String),
}

/// Runs a scenario. The seed is the scenario's own unless another is given. `progress` hears how
/// many steps are done, of how many.
///
/// # Errors
/// [`SimError`]; a scenario that was read does not give one.
pub fn run(
    scenario: &Scenario,
    seed: Option<u64>,
    progress: &mut dyn FnMut(u64, u64),
) -> Result<Outcome, SimError> {
    let seed = seed.unwrap_or(scenario.seed);
    let results = match &scenario.what {
        scenario::What::Onlining(what) => Results::Onlining(onlining::run(what)?),
        scenario::What::ComesBack(what) => {
            Results::ComesBack(comes_back::run(what, seed, progress)?)
        }
    };
    let Scenario { title, claim, .. } = scenario;
    Ok(Outcome { title: title.clone(), claim: claim.clone(), seed, results })
}
