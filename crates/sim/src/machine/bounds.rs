//! What a machine of a file may ask for: so much that it can be run, and nothing that would be
//! left out without a word.
//!
//! A scenario may come from somebody else. What costs time or memory to simulate (memory that is
//! wanted, processes, steps, samples) is added up beforehand from what the plan says, and refused
//! beyond a bound; so is what the engine would refuse, and what would never happen.
//!
//! Bounds, not forecasts: everybody is taken to get what they want and to live as long as they
//! may. What chance adds ([`Faults`](super::plan::Faults)) is a part of that.

use memtide_engine::Engine;

use super::plan::{MS, Nanos, Plan, Program};

/// How many times the machine's memory the copies of a program may want.
const WANTED_TIMES: u64 = 16;
/// Pageblocks that all programs want together at most: 32 TiB.
const WANTED_MAX: u64 = 1 << 24;
/// The shortest period.
const PERIOD_MIN: Nanos = MS;
/// Children that are forked in all at most.
const FORKS_MAX: u64 = 1 << 17;
/// Pageblocks that children share with their parents when they are forked, in all at most.
const FORKED_MAX: u64 = 1 << 26;
/// Steps in all at most, one for every pageblock that is asked for or told of included.
const STEPS_MAX: u64 = 1 << 24;
/// Pageblocks that samples look at in all at most: those of the machine and of its programs.
const LOOKED_MAX: u64 = 1 << 36;
/// Figures of the curves at most: one for each sample, tenant and node.
const FIGURES_MAX: u64 = 1 << 24;

/// Whether a plan can be run, to its end and without a word that does nothing.
pub(super) fn check(plan: &Plan) -> Result<(), String> {
    periods(plan)?;
    for (number, event) in plan.events.iter().enumerate() {
        if event.at >= plan.duration {
            let name = format!("event {number}: at {} ns", event.at);
            return Err(format!("{name}; expected less than the duration, {} ns", plan.duration));
        }
    }
    memory(plan)?;
    forks(plan)?;
    let samples = plan.duration / plan.sample_every;
    let figures = product([samples, plan.tenants.len() as u64, plan.nodes.len() as u64 + 2]);
    at_most("figures: samples x tenants x (nodes + 2)", figures, FIGURES_MAX)?;
    let wanted = plan.programs.iter().map(|one| product([largest(one), one.count.into()]));
    let looked = product([samples, plan.pageblocks().saturating_add(sum(wanted))]);
    at_most("pageblocks looked at: samples x (nodes + working sets)", looked, LOOKED_MAX)?;
    at_most("steps of all programs, in the duration by their periods,", steps(plan), STEPS_MAX)?;
    // The engine's own rules come last: to make one takes memory as the machine has it.
    let engine = Engine::new(plan.config())
        .map_err(|error| format!("the engine refuses this configuration: {error}"))?;
    policies(plan, &engine)
}

/// Programs' policies can be followed. Those of tenants are part of the engine's configuration.
fn policies(plan: &Plan, engine: &Engine) -> Result<(), String> {
    let mut own = plan.programs.iter().filter_map(|one| Some((&one.name, one.policy.as_ref()?)));
    own.try_for_each(|(name, policy)| {
        engine.check_policy(policy).map_err(|error| format!("program {name:?}: {error}"))
    })
}

/// Nothing repeats more often than can be followed.
fn periods(plan: &Plan) -> Result<(), String> {
    let period = |name: String, every: Nanos| match every {
        PERIOD_MIN.. => Ok(()),
        _ => Err(format!("{name} {every} ns; expected {PERIOD_MIN} ns, 1 ms, or more")),
    };
    period("sample-every".to_owned(), plan.sample_every)?;
    plan.heat_every.map_or(Ok(()), |every| period("heat-every".to_owned(), every))?;
    for program in &plan.programs {
        let of = |what: &str| format!("program {:?}: {what}", program.name);
        program.retry.map_or(Ok(()), |retry| period(of("retry"), retry))?;
        program.fork.map_or(Ok(()), |(every, _)| period(of("fork.every"), every))?;
        program.phases.iter().try_for_each(|phase| period(of("phase.lasts"), phase.lasts))?;
    }
    Ok(())
}

/// What programs want when each of them wants most.
fn memory(plan: &Plan) -> Result<(), String> {
    let most = plan.pageblocks().saturating_mul(WANTED_TIMES);
    let mut all = 0_u64;
    for program in &plan.programs {
        let wanted = product([largest(program), program.count.into()]);
        let name = format!("program {:?}: working-set x count, in pageblocks,", program.name);
        at_most(&name, wanted, most)?;
        all = all.saturating_add(wanted);
    }
    at_most("working-set x count of all programs, in pageblocks,", all, WANTED_MAX)
}

/// Children that are forked, and what they share.
fn forks(plan: &Plan) -> Result<(), String> {
    let forks = |program: &Program| {
        let (every, _) = program.fork?;
        Some(product([lives(plan, program) / every, program.count.into()]))
    };
    let all = plan.programs.iter().filter_map(forks);
    at_most("forks: duration / every x count", sum(all), FORKS_MAX)?;
    let shared = |program: &Program| forks(program).map(|all| product([all, largest(program)]));
    let shared = sum(plan.programs.iter().filter_map(shared));
    at_most("forks x working-set, in pageblocks,", shared, FORKED_MAX)
}

/// Steps of all programs: phases with what they ask for, what is asked for again, and told.
fn steps(plan: &Plan) -> u64 {
    let of = |program: &Program| {
        let lives = lives(plan, program);
        let cycle = program.phases.iter().fold(0, |all: Nanos, one| all.saturating_add(one.lasts));
        // A cycle that the end cuts short counts whole.
        let cycles = (lives / cycle.max(1) + 1).min(program.repeats.into());
        let asked = sum(program.phases.iter().map(|phase| phase.pageblocks.saturating_add(1)));
        let retries = program.retry.map_or(0, |retry| lives / retry);
        let told = plan
            .heat_every
            .map_or(0, |every| product([lives / every, largest(program).saturating_add(1)]));
        let told = product([told, program.accessed_by.len() as u64]);
        let one = [product([cycles, asked]), retries, told, lives / plan.sample_every];
        product([sum(one.into_iter()), program.count.into()])
    };
    sum(plan.programs.iter().map(of))
}

/// How long a program is there at most.
fn lives(plan: &Plan, program: &Program) -> Nanos {
    let cycle = program.phases.iter().fold(0, |all: Nanos, one| all.saturating_add(one.lasts));
    let lives = cycle.saturating_mul(program.repeats.into());
    lives.min(plan.duration.saturating_sub(program.start))
}

fn largest(program: &Program) -> u64 {
    program.phases.iter().map(|phase| phase.pageblocks).max().unwrap_or(0)
}

fn product<const N: usize>(all: [u64; N]) -> u64 {
    all.into_iter().fold(1, u64::saturating_mul)
}

fn sum(all: impl Iterator<Item = u64>) -> u64 {
    all.fold(0, u64::saturating_add)
}

fn at_most(name: &str, value: u64, most: u64) -> Result<(), String> {
    if value <= most { Ok(()) } else { Err(format!("{name} {value}; expected {most} at most")) }
}
