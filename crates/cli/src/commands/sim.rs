//! `memtide sim`.

mod traces;

use std::{fs, io::Read, num::NonZeroUsize, path::Path, process::ExitCode};

use memtide_sim::{
    Outcome, Scenario, ScenarioError, SimError,
    page::{page, page_of_sweep},
    plot::{Plot, plots},
    sweep::{Combinations, SweepError},
};
use serde::Serialize;

use self::traces::Traces;
use crate::{
    arguments::{SimFuzz, SimRun, SimSweep, SimWhat},
    failure::Failure,
    output,
    progress::Progress,
};

/// Bytes of a scenario file at most.
const FILE_MAX: u64 = 1 << 20;

pub fn sim(what: &SimWhat) -> Result<ExitCode, Failure> {
    match what {
        SimWhat::Run(options) => run(options),
        SimWhat::Sweep(options) => sweep(options),
        SimWhat::Fuzz(options) => fuzz(options),
    }
}

fn run(options: &SimRun) -> Result<ExitCode, Failure> {
    let scenario = named(&options.file, Scenario::read(&read(&options.file)?))?;
    let mut progress = Progress::of_steps("simulating");
    let mut show = |done, of| progress.show(done, of);
    let outcome = memtide_sim::run_on(cores(options.jobs), &scenario, options.seed, &mut show);
    progress.end();
    let outcome = outcome.map_err(|error| {
        let seed = options.seed.unwrap_or(scenario.seed);
        let again = format!("memtide sim run {} --seed {seed}", options.file.display());
        failed(&error, &again)
    })?;
    if let Some(directory) = &options.report {
        let plots = plots(&outcome).map_err(Failure::failed)?;
        report(directory, &outcome, &plots, &page(&outcome, &plots))?;
    }
    if options.json {
        output::json(&outcome)?;
    } else {
        let Outcome { title, claim, seed, .. } = &outcome;
        print(title, claim, *seed, &outcome.table())?;
    }
    Ok(ExitCode::SUCCESS)
}

fn sweep(options: &SimSweep) -> Result<ExitCode, Failure> {
    let text = read(&options.file)?;
    let mut all =
        Combinations::read(&text, &options.set).map_err(|error| unswept(options, &error))?;
    let mut traces = Traces::default();
    all.scenarios().try_for_each(|one| traces.supply(&mut one.what, &options.file))?;
    let mut progress = Progress::of_steps("simulating");
    let mut show = |done, of| progress.show(done, of);
    let sweep = all.run(options.seed, cores(options.jobs), &mut show);
    progress.end();
    let sweep = sweep.map_err(|error| unswept(options, &error))?;
    if let Some(directory) = &options.report {
        let plots = sweep.plots().map_err(Failure::failed)?;
        report(directory, &sweep, &plots, &page_of_sweep(&sweep, &plots))?;
    }
    if options.json {
        output::json(&sweep)?;
    } else {
        print(&sweep.title, &sweep.claim, sweep.seed, &sweep.table())?;
    }
    Ok(ExitCode::SUCCESS)
}

/// Why there is no sweep; what must not happen, with the command that makes it happen again.
fn unswept(options: &SimSweep, error: &SweepError) -> Failure {
    let message = format!("{}: {error}", options.file.display());
    match error {
        SweepError::Run { set, error: SimError::Violated { .. } } => {
            let mut again = format!("memtide sim sweep {}", options.file.display());
            for (path, value) in set {
                again.push_str(&format!(" --set {}", quoted(&format!("{path}={value}"))));
            }
            if let Some(seed) = options.seed {
                again.push_str(&format!(" --seed {seed}"));
            }
            Failure::Failed(format!("{message}again: {again}"))
        }
        error if error.is_usage() => Failure::Usage(message),
        _ => Failure::Failed(message),
    }
}

/// A word as a shell takes it.
fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "=.-_/".contains(c);
    if word.chars().all(plain) {
        word.to_owned()
    } else {
        format!("'{}'", word.replace('\'', "'\\''"))
    }
}

fn fuzz(options: &SimFuzz) -> Result<ExitCode, Failure> {
    let mut progress = Progress::of_steps("fuzzing");
    let mut show = |done, of| progress.show(done / 1000, of / 1000);
    let outcome =
        memtide_sim::machine::fuzz::fuzz(options.seeds.clone(), cores(options.jobs), &mut show);
    progress.end();
    if options.json {
        output::json(&outcome)?;
    } else {
        output::text(&format!("{} seeds, {} steps\n\n", outcome.seeds, outcome.steps))?;
        let heading = vec!["SEEN".to_owned(), "TIMES".to_owned()];
        let rows = outcome.seen.iter().map(|(what, count)| vec![what.clone(), count.to_string()]);
        output::text(&output::table(&std::iter::once(heading).chain(rows).collect::<Vec<_>>()))?;
        for failure in &outcome.failures {
            let (seed, next) = (failure.seed, failure.seed.saturating_add(1));
            let again = format!("again: memtide sim fuzz --seeds {seed}..{next}");
            output::text(&format!("\nseed {seed}: {}{again}\n", failure.violation))?;
        }
        if outcome.more_failures > 0 {
            output::text(&format!("\n{} more seeds failed\n", outcome.more_failures))?;
        }
    }
    match outcome.failed() {
        0 => Ok(ExitCode::SUCCESS),
        failed => Err(Failure::Failed(format!("{failed} of {} seeds failed", outcome.seeds))),
    }
}

/// Why a run failed; what must not happen, with the command that makes it happen again.
fn failed(error: &SimError, again: &str) -> Failure {
    match error {
        SimError::Violated { .. } => Failure::Failed(format!("{error}again: {again}")),
        _ => Failure::failed(error),
    }
}

fn print(title: &str, claim: &str, seed: u64, table: &[Vec<String>]) -> Result<(), Failure> {
    output::text(&format!("{title} (seed {seed})\n\nClaimed: {}\n\n", claim.trim()))?;
    output::text(&output::table(table))
}

/// So many jobs at once; as many as there are cores unless something else is said.
fn cores(jobs: Option<NonZeroUsize>) -> NonZeroUsize {
    jobs.unwrap_or_else(|| std::thread::available_parallelism().unwrap_or(NonZeroUsize::MIN))
}

fn read(path: &Path) -> Result<String, Failure> {
    let wrong =
        |error: &dyn std::fmt::Display| Failure::Usage(format!("{}: {error}", path.display()));
    let file = fs::File::open(path).map_err(|error| wrong(&error))?;
    let mut text = String::new();
    let read = file.take(FILE_MAX + 1).read_to_string(&mut text);
    if read.map_err(|error| wrong(&error))? as u64 > FILE_MAX {
        return Err(wrong(&format!("more than {FILE_MAX} bytes")));
    }
    Ok(text)
}

fn named(path: &Path, scenario: Result<Scenario, ScenarioError>) -> Result<Scenario, Failure> {
    let mut scenario = scenario.map_err(|error| {
        Failure::Usage(format!("{}:{}: {}", path.display(), error.line, error.problem))
    })?;
    Traces::default().supply(&mut scenario.what, path)?;
    Ok(scenario)
}

fn report(
    directory: &Path,
    results: &impl Serialize,
    plots: &[Plot],
    page: &str,
) -> Result<(), Failure> {
    let write = |name: &str, text: &str| {
        let path = directory.join(name);
        fs::write(&path, text)
            .map_err(|error| Failure::Failed(format!("{}: {error}", path.display())))
    };
    fs::create_dir_all(directory)
        .map_err(|error| Failure::Failed(format!("{}: {error}", directory.display())))?;
    for plot in plots {
        write(&format!("{}.svg", plot.name), &plot.svg)?;
    }
    let json = serde_json::to_string_pretty(results).map_err(Failure::failed)?;
    write("results.json", &format!("{json}\n"))?;
    write("index.html", page)
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::quoted;

    #[test]
    fn a_shell_reads_what_was_quoted() {
        for word in ["machine.duration=1s", "a b", "it's", "$HOME;`x`"] {
            let echo = format!("printf %s {}", quoted(word));
            let said = Command::new("sh").args(["-c", &echo]).output().unwrap().stdout;
            assert_eq!(String::from_utf8(said).unwrap(), word);
        }
        assert_eq!(quoted("machine.duration=1s"), "machine.duration=1s");
    }

    #[test]
    fn a_violation_in_a_sweep_is_told_with_the_command_that_does_it_again() {
        use std::path::PathBuf;

        use memtide_sim::{
            SimError,
            machine::Violation,
            sweep::{Setting, SweepError},
        };

        use super::unswept;
        use crate::{arguments::SimSweep, failure::Failure};

        let values = vec!["1".to_owned(), "two words".to_owned()];
        let options = SimSweep {
            file: PathBuf::from("bad.toml"),
            set: vec![Setting { path: "machine.x".to_owned(), values }],
            seed: Some(7),
            jobs: None,
            json: false,
            report: None,
        };
        let violation = Violation { at: 5, what: "broken".to_owned(), trace: Vec::new() };
        let error = SweepError::Run {
            set: vec![("machine.x".to_owned(), "two words".to_owned())],
            error: SimError::Violated { case: String::new(), violation: Box::new(violation) },
        };
        let Failure::Failed(message) = unswept(&options, &error) else { panic!("a failure") };
        let again = "again: memtide sim sweep bad.toml --set 'machine.x=two words' --seed 7";
        assert!(message.contains("broken") && message.ends_with(again), "{message}");
    }
}
