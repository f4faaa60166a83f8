//! `memtide sim`.

use std::{
    fs,
    io::{BufReader, Read},
    num::NonZeroUsize,
    path::Path,
    process::ExitCode,
};

use memtide_sim::{
    Outcome, Scenario,
    kind::What,
    page::page,
    plot::plots,
    tiering::{Tiering, trace::Recorded},
};

use crate::{
    arguments::{SimRun, SimWhat},
    failure::Failure,
    output,
    progress::Progress,
};

/// Bytes of a scenario file at most.
const FILE_MAX: u64 = 1 << 20;

pub fn sim(what: &SimWhat) -> Result<ExitCode, Failure> {
    match what {
        SimWhat::Run(options) => run(options),
    }
}

fn run(options: &SimRun) -> Result<ExitCode, Failure> {
    let scenario = read(&options.file)?;
    let mut progress = Progress::of_steps("simulating");
    let mut show = |done, of| progress.show(done, of);
    let outcome = memtide_sim::run_on(cores(options.jobs), &scenario, options.seed, &mut show);
    progress.end();
    let outcome = outcome.map_err(Failure::failed)?;
    if let Some(directory) = &options.report {
        report(&outcome, directory)?;
    }
    if options.json {
        output::json(&outcome)?;
    } else {
        let Outcome { title, claim, seed, .. } = &outcome;
        output::text(&format!("{title} (seed {seed})\n\nClaimed: {}\n\n", claim.trim()))?;
        output::text(&output::table(&outcome.table()))?;
    }
    Ok(ExitCode::SUCCESS)
}

/// So many jobs at once; as many as there are cores unless something else is said.
fn cores(jobs: Option<NonZeroUsize>) -> NonZeroUsize {
    jobs.unwrap_or_else(|| std::thread::available_parallelism().unwrap_or(NonZeroUsize::MIN))
}

fn read(path: &Path) -> Result<Scenario, Failure> {
    let named = |error: &dyn std::fmt::Display| format!("{}: {error}", path.display());
    let file = fs::File::open(path).map_err(|error| Failure::Usage(named(&error)))?;
    let mut text = String::new();
    let read = file.take(FILE_MAX + 1).read_to_string(&mut text);
    if read.map_err(|error| Failure::Usage(named(&error)))? as u64 > FILE_MAX {
        return Err(Failure::Usage(named(&format!("more than {FILE_MAX} bytes"))));
    }
    let mut scenario = Scenario::read(&text).map_err(|error| {
        Failure::Usage(format!("{}:{}: {}", path.display(), error.line, error.problem))
    })?;
    if let What::Tiering(tiering) = &mut scenario.what {
        supply(tiering, path)?;
    }
    Ok(scenario)
}

/// Reads the traces that a scenario names; they lie beside it.
fn supply(tiering: &mut Tiering, scenario: &Path) -> Result<(), Failure> {
    for name in tiering.files() {
        let path = scenario.with_file_name(&name);
        let wrong =
            |error: &dyn std::fmt::Display| Failure::Usage(format!("{}: {error}", path.display()));
        let file = fs::File::open(&path).map_err(|error| wrong(&error))?;
        let recorded = Recorded::read(BufReader::new(file), tiering.page_shift());
        tiering.supply(&name, recorded.map_err(|error| wrong(&error))?);
    }
    Ok(())
}

fn report(outcome: &Outcome, directory: &Path) -> Result<(), Failure> {
    let write = |name: &str, text: &str| {
        let path = directory.join(name);
        fs::write(&path, text)
            .map_err(|error| Failure::Failed(format!("{}: {error}", path.display())))
    };
    fs::create_dir_all(directory)
        .map_err(|error| Failure::Failed(format!("{}: {error}", directory.display())))?;
    let plots = plots(outcome).map_err(Failure::failed)?;
    for plot in &plots {
        write(&format!("{}.svg", plot.name), &plot.svg)?;
    }
    let json = serde_json::to_string_pretty(outcome).map_err(Failure::failed)?;
    write("results.json", &format!("{json}\n"))?;
    write("index.html", &page(outcome, &plots))
}
