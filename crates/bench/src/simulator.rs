//! How many accesses a second the simulator of tiers looks up, on one core.
//!
//! The limit is what the machine does with the same list of random pages: a plain loop that reads
//! the same map of one byte a page at each of them, with the list already made. The simulator makes
//! the list, too, looks every page up, counts, lets time pass, samples, and asks the policy.
//!
//! All cases take turns in each round, on one pinned thread. The first tenth of each is not timed:
//! setting up and warming up. What is timed is visits with a burst of 1, so a visit is an access.
//!
//! Seconds are the thread's own, of CPU time: a figure is what a core does, not what other
//! programs leave of it. They still share its caches.

use std::{cell::Cell, fs, hint::black_box, io, thread, time::Duration};

use memtide_sim::tiering::{
    Contender, Job,
    page_map::PageMap,
    probe::{self, Paged},
    run_job,
    workload::{Pattern, stream},
};
use memtide_sys::processor::{pin_to, processors};
use memtide_units::ByteSize;
use rustix::time::{ClockId, clock_gettime};
use serde::Serialize;

use crate::frames::Spread;

/// Visits between two looks at the clock, as in a run of the simulator.
const RUN: usize = 1 << 15;
const WRITE: u32 = 1 << 31;
const SEED: u64 = 1;
/// Of a run, so many thousandths are not timed.
const WARM_UP: u64 = 100;

/// What is measured.
#[derive(Clone, Debug)]
pub struct SimulatorOptions {
    /// How often each case is timed.
    pub rounds: u32,
    /// Accesses of each case in each round.
    pub accesses: u64,
    /// The memory of the simulated programs.
    pub memories: Vec<Paged>,
}

/// Who looks pages up.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Looker {
    /// The plain loop: the limit.
    PlainLoop,
    /// The simulator, with nobody moving anything.
    Static,
    /// The simulator, under memtide's own policy.
    Memtide,
}

impl Looker {
    const ALL: [Self; 3] = [Self::PlainLoop, Self::Static, Self::Memtide];

    /// Its name in tables; for the simulator, of its policy.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::PlainLoop => "plain loop",
            Self::Static => "static",
            Self::Memtide => "memtide",
        }
    }
}

/// One case.
#[derive(Clone, Debug, Serialize)]
pub struct SimulatorRow {
    /// Which pages are visited.
    pub pattern: &'static str,
    /// Pages of the simulated program.
    pub pages: u32,
    /// Bytes of each.
    pub page_bytes: u64,
    /// Who looks them up.
    pub looker: Looker,
    /// Accesses a second of CPU time.
    pub per_second: Spread,
    /// The same by the plain loop's of the same round: the median.
    pub of_limit: f64,
    /// Most memory that the process had while the case ran, in bytes.
    pub peak_bytes: u64,
}

/// All cases.
#[derive(Clone, Debug, Serialize)]
pub struct SimulatorReport {
    /// A row for each.
    pub rows: Vec<SimulatorRow>,
}

/// Times all cases. `told` hears which round is done, of how many.
///
/// # Errors
/// The kernel's: the thread cannot be pinned, or `/proc` cannot be read.
pub fn bench_simulator(
    options: &SimulatorOptions,
    told: impl Fn(u32, u32) + Sync,
) -> io::Result<SimulatorReport> {
    // A thread of its own, so that the caller stays where it is.
    thread::scope(|scope| {
        let pinned = scope.spawn(|| {
            let processors = processors()?;
            pin_to(processors[processors.len() - 1])?;
            on_this_core(options, &told)
        });
        pinned.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

/// A case, and what each round measured.
struct Case {
    pattern: &'static str,
    looker: Looker,
    job: Job,
    rates: Vec<f64>,
    peak_bytes: u64,
}

fn on_this_core(
    options: &SimulatorOptions,
    told: &dyn Fn(u32, u32),
) -> io::Result<SimulatorReport> {
    let mut cases: Vec<Case> =
        options.memories.iter().flat_map(|&memory| cases(memory, options.accesses)).collect();
    for round in 0..options.rounds {
        for case in &mut cases {
            forget_peak()?;
            case.rates.push(match case.looker {
                Looker::PlainLoop => plain_loop(&case.job),
                Looker::Static | Looker::Memtide => simulate(&case.job),
            });
            case.peak_bytes = case.peak_bytes.max(peak()?);
        }
        told(round + 1, options.rounds);
    }
    let mut rows = Vec::new();
    for like in cases.chunk_by(|a, b| (a.pattern, memory(a)) == (b.pattern, memory(b))) {
        let limit = &like[0].rates;
        rows.extend(like.iter().filter_map(|case| row(case, limit)));
    }
    Ok(SimulatorReport { rows })
}

const fn memory(case: &Case) -> Paged {
    Paged { pages: case.job.workload.pages, page_bytes: case.job.page_bytes }
}

fn cases(memory: Paged, accesses: u64) -> impl Iterator<Item = Case> {
    let patterns = [
        ("uniform", Pattern::Uniform),
        ("hot set", Pattern::HotSet { hot_pages: 10, hot_visits: 90, phase: None }),
        ("zipf", Pattern::Zipf { theta: 0.99, phase: None }),
    ];
    patterns.into_iter().flat_map(move |(name, pattern)| {
        Looker::ALL.map(|looker| {
            // The plain loop takes no policy; its job is a stream of the same pages.
            let policy = if looker == Looker::Memtide { "memtide" } else { "static" };
            let contender = Contender::Policy(policy.to_owned());
            let job = probe::job(pattern.clone(), memory, accesses, contender);
            Case { pattern: name, looker, job, rates: Vec::new(), peak_bytes: 0 }
        })
    })
}

fn row(case: &Case, limit: &[f64]) -> Option<SimulatorRow> {
    let ratios: Vec<f64> = case.rates.iter().zip(limit).map(|(rate, limit)| rate / limit).collect();
    let Paged { pages, page_bytes } = memory(case);
    Some(SimulatorRow {
        pattern: case.pattern,
        pages,
        page_bytes,
        looker: case.looker,
        per_second: Spread::of(&case.rates)?,
        of_limit: Spread::of(&ratios)?.median,
        peak_bytes: case.peak_bytes,
    })
}

/// Accesses a second of the simulator, all but the first tenth of a job.
fn simulate(job: &Job) -> f64 {
    let warm: Cell<Option<(u64, Duration)>> = Cell::new(None);
    let timed: Cell<(u64, Duration)> = Cell::new((0, Duration::ZERO));
    // It hears of every run: the first after the warm-up starts the watch.
    let told = |thousandths: u64| match warm.get() {
        None if thousandths >= WARM_UP => warm.set(Some((thousandths, cpu_time()))),
        Some((from, start)) => timed.set((thousandths - from, cpu_time() - start)),
        None => {}
    };
    black_box(run_job(job, SEED, &told));
    let (thousandths, took) = timed.get();
    (job.workload.visits * thousandths) as f64 / 1000.0 / took.as_secs_f64()
}

/// Accesses a second of reading a map of one byte a page at the job's pages; only the reading.
fn plain_loop(job: &Job) -> f64 {
    let mut map = PageMap::new(job.workload.pages);
    map.fill(1);
    let mut stream = stream(&job.workload, SEED);
    let mut run = vec![0; RUN];
    let (mut timed, mut took) = (0, Duration::ZERO);
    for done in (0..job.workload.visits).step_by(RUN) {
        stream.fill(0, &mut run);
        let start = cpu_time();
        let sum: u64 = run.iter().map(|visit| u64::from(map[(visit & !WRITE) as usize])).sum();
        black_box(sum);
        if done * 1000 >= job.workload.visits * WARM_UP {
            took += cpu_time() - start;
            timed += RUN;
        }
    }
    timed as f64 / took.as_secs_f64()
}

/// What this thread has had of its processor so far.
fn cpu_time() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

/// From now on the kernel notes the peak anew (proc_pid_clear_refs(5)).
fn forget_peak() -> io::Result<()> {
    fs::write("/proc/self/clear_refs", "5")
}

/// The most memory of this process that was resident at once, in bytes.
fn peak() -> io::Result<u64> {
    let status = fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kib = line.and_then(|line| line.trim().strip_suffix(" kB")?.parse::<u64>().ok());
    kib.map(|kib| kib << 10).ok_or_else(|| io::Error::other("/proc/self/status has no VmHWM"))
}

impl SimulatorReport {
    /// Cells below a heading.
    #[must_use]
    pub fn rows(&self) -> Vec<Vec<String>> {
        let heading = ["PATTERN", "MEMORY", "PAGES", "BY", "M ACCESSES/S", "OF LIMIT", "PEAK MiB"];
        let mut rows = vec![heading.map(str::to_owned).to_vec()];
        rows.extend(self.rows.iter().map(|row| {
            let Spread { min, median, max } = row.per_second;
            let [min, median, max] = [min, median, max].map(|rate| rate / 1e6);
            vec![
                row.pattern.to_owned(),
                ByteSize(u64::from(row.pages) * row.page_bytes).to_string(),
                ByteSize(row.page_bytes).to_string(),
                row.looker.name().to_owned(),
                format!("{median:.0} ({min:.0}–{max:.0})"),
                format!("{:.2}", row.of_limit),
                (row.peak_bytes >> 20).to_string(),
            ]
        }));
        rows
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_case_has_a_row_and_the_limit_is_one() {
        let memories = [(1 << 12, 2 << 20), (1 << 25, 4096)];
        let memories = memories.map(|(pages, page_bytes)| Paged { pages, page_bytes }).into();
        let options = SimulatorOptions { rounds: 2, accesses: 1 << 21, memories };
        let report = bench_simulator(&options, |_, _| {}).unwrap();
        assert_eq!(report.rows.len(), 2 * 3 * 3);
        for rows in report.rows.chunks(3) {
            assert_eq!([0, 1, 2].map(|at| rows[at].looker), Looker::ALL);
            assert_eq!(rows[0].of_limit, 1.0);
            assert!(rows.iter().all(|row| row.per_second.min > 1e5 && row.of_limit > 0.0));
        }
        // A byte a page. What else the process has depends on the tests beside this one.
        let large = report.rows[9].peak_bytes;
        assert!(large >= 1 << 25, "{large}");
    }
}
