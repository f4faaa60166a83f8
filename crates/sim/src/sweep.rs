//! A scenario over and over, with other values for some of its keys.
//!
//! Every combination of values is one run; the last key changes fastest. Runs are independent and
//! take place on all cores; their order is that of the values, whoever ran them.

use core::num::NonZeroUsize;

use memtide_units::ByteSize;
use serde::Serialize;

use crate::{
    Results, Scenario, ScenarioError, SimError, parallel,
    plot::{self, Line, Plot},
    run,
};

/// Runs of a sweep at most.
pub const RUNS_MAX: usize = 4096;

/// A key, by its dotted path, and the values that it is to have.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Setting {
    /// `machine.tenant.app.emergency`.
    pub path: String,
    /// One or more.
    pub values: Vec<String>,
}

/// What came of it.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct Sweep {
    /// The scenario's title.
    pub title: String,
    /// What somebody says the answer is.
    pub claim: String,
    /// The seed that all runs had.
    pub seed: u64,
    /// By the values, the last key fastest.
    pub runs: Vec<SweepRun>,
}

/// One combination of values.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct SweepRun {
    /// Keys and their values, in the order they were named.
    pub set: Vec<(String, String)>,
    /// What was measured.
    pub results: Results,
}

/// Why there is no sweep.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SweepError {
    /// No values, or more than can be run.
    #[error("{runs} combinations of values; expected 1 to {RUNS_MAX}")]
    Runs {
        /// How many.
        runs: usize,
    },
    /// With these values the text is no scenario.
    #[error("with {set}: {error}")]
    Scenario {
        /// Which.
        set: String,
        /// What is wrong.
        error: ScenarioError,
    },
    /// With these values it could not be run to its end.
    #[error("with {}: {error}", named(set))]
    Run {
        /// Keys and their values.
        set: Vec<(String, String)>,
        /// Why.
        error: SimError,
    },
}

impl SweepError {
    /// Whether what was asked for makes no sense.
    #[must_use]
    pub const fn is_usage(&self) -> bool {
        matches!(self, Self::Runs { .. } | Self::Scenario { .. })
    }
}

/// A scenario with every combination of values: read, but not run.
#[derive(Clone, PartialEq, Debug)]
pub struct Combinations(Vec<(Vec<(String, String)>, Scenario)>);

impl Combinations {
    /// Reads them all.
    ///
    /// # Errors
    /// [`SweepError::Runs`] and [`SweepError::Scenario`], that of the first combination.
    pub fn read(text: &str, settings: &[Setting]) -> Result<Self, SweepError> {
        let runs = settings.iter().try_fold(1_usize, |all, one| all.checked_mul(one.values.len()));
        let runs = runs.unwrap_or(usize::MAX);
        if !(1..=RUNS_MAX).contains(&runs) {
            return Err(SweepError::Runs { runs });
        }
        let read = |run| {
            let set = combination(settings, run);
            match Scenario::read_with(text, &set) {
                Ok(scenario) => Ok((set, scenario)),
                Err(error) => Err(SweepError::Scenario { set: named(&set), error }),
            }
        };
        (0..runs).map(read).collect::<Result<_, _>>().map(Self)
    }

    /// The scenarios, to be supplied with the traces that they name.
    pub fn scenarios(&mut self) -> impl Iterator<Item = &mut Scenario> {
        self.0.iter_mut().map(|(_, scenario)| scenario)
    }

    /// Runs every combination, so many at once.
    ///
    /// # Errors
    /// [`SweepError::Run`], that of the first combination.
    pub fn run(
        self,
        seed: Option<u64>,
        threads: NonZeroUsize,
        progress: &mut dyn FnMut(u64, u64),
    ) -> Result<Sweep, SweepError> {
        let one = |number: usize, told: &dyn Fn(u64)| {
            run(&self.0[number].1, seed, &mut |done, of| told(done * 1000 / of.max(1)))
        };
        let outcomes = parallel::all(self.0.len(), threads, one, progress);
        let Scenario { title, claim, seed: own, .. } = &self.0[0].1;
        let (title, claim, seed) = (title.clone(), claim.clone(), seed.unwrap_or(*own));
        let done = self.0.into_iter().zip(outcomes).map(|((set, _), outcome)| match outcome {
            Ok(outcome) => Ok(SweepRun { set, results: outcome.results }),
            Err(error) => Err(SweepError::Run { set, error }),
        });
        Ok(Sweep { title, claim, seed, runs: done.collect::<Result<_, _>>()? })
    }
}

/// Reads every combination, and runs them all. For scenarios that name no traces.
///
/// # Errors
/// [`SweepError`]; of several, that of the first combination.
pub fn sweep(
    text: &str,
    settings: &[Setting],
    seed: Option<u64>,
    threads: NonZeroUsize,
    progress: &mut dyn FnMut(u64, u64),
) -> Result<Sweep, SweepError> {
    Combinations::read(text, settings)?.run(seed, threads, progress)
}

/// The values of a run: its number, written in digits of as many values as each key has.
fn combination(settings: &[Setting], mut run: usize) -> Vec<(String, String)> {
    let mut set = Vec::new();
    for Setting { path, values } in settings.iter().rev() {
        set.push((path.clone(), values[run % values.len()].clone()));
        run /= values.len();
    }
    set.reverse();
    set
}

fn named(set: &[(String, String)]) -> String {
    let all = set.iter().map(|(path, value)| format!("{path}={value}"));
    all.collect::<Vec<_>>().join(" ")
}

impl Sweep {
    /// All rows under a heading: the values, then what was measured.
    #[must_use]
    pub fn table(&self) -> Vec<Vec<String>> {
        let mut table = Vec::new();
        for SweepRun { set, results } in &self.runs {
            for (number, row) in results.table().into_iter().enumerate() {
                match number {
                    0 if !table.is_empty() => {}
                    0 => table.push(set.iter().map(|(path, _)| path.clone()).chain(row).collect()),
                    _ => {
                        table.push(set.iter().map(|(_, value)| value.clone()).chain(row).collect())
                    }
                }
            }
        }
        table
    }

    /// Every column of numbers over the first key, if its values are numbers or sizes. Rows that
    /// differ in nothing else are one line.
    ///
    /// # Errors
    /// [`SimError::Plot`] when the plotting library refuses one.
    pub fn plots(&self) -> Result<Vec<Plot>, SimError> {
        let table = self.table();
        let Some((heading, rows)) = table.split_first() else { return Ok(Vec::new()) };
        let keys = self.runs.first().map_or(0, |run| run.set.len());
        if keys == 0 || rows.iter().any(|row| number(&row[0]).is_none()) {
            return Ok(Vec::new());
        }
        let is_number = |column: usize| {
            rows.iter().all(|row| row.get(column).is_some_and(|cell| cell.parse::<f64>().is_ok()))
        };
        let columns: Vec<usize> =
            (keys..heading.len()).filter(|&column| is_number(column)).collect();
        let plot_of = |&column: &usize| {
            let mut lines: Vec<Line> = Vec::new();
            for row in rows {
                let others = (1..row.len()).filter(|at| !columns.contains(at));
                let name = others.map(|at| row[at].as_str()).collect::<Vec<_>>().join(" ");
                let x = number(&row[0]).expect("checked above");
                let y = row[column].parse().expect("a column of numbers");
                match lines.iter_mut().find(|(known, _)| *known == name) {
                    Some((_, points)) => points.push((x, y)),
                    None => lines.push((name, vec![(x, y)])),
                }
            }
            let axes = [heading[0].as_str(), heading[column].as_str()];
            let svg = plot::draw(&format!("{} over {}", axes[1], axes[0]), axes, &lines)?;
            let dashed =
                |c: char| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '-' };
            let name = format!("sweep-{}", axes[1].chars().map(dashed).collect::<String>());
            Ok(Plot { name, svg })
        };
        let plots: Result<Vec<Plot>, SimError> = columns.iter().map(plot_of).collect();
        plots.map(plot::distinct)
    }
}

/// A value as a number: as it stands, or a size as GiB.
fn number(value: &str) -> Option<f64> {
    let as_size = || value.parse::<ByteSize>().ok().map(|size| plot::gib(size.0));
    value.parse().ok().or_else(as_size)
}
