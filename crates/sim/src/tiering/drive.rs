//! The loop: a run of visits, what it takes, what the manager does; again.
//!
//! Time goes by runs. Within a run nothing changes: where pages lie and how fast tiers are. A run
//! is short, about 2^18 accesses: a fraction of a millisecond.

use memtide_engine::tiering::{TierState, by_name};

use super::{
    Contender, Job, TieringRow, Workload,
    machine::{Change, Demand, Flow, LINE_BYTES, Machine, TIERS_MAX},
    manager::{Cost, Manager},
    oracle::Counts,
    placement::{Counted, Placement},
    workload::{self, Stream},
};

/// Accesses of a run, about.
const RUN_ACCESSES: u32 = 1 << 18;
/// Visits of a run at most.
const RUN_MAX: u32 = 1 << 15;
/// Points of a curve.
const CURVE_POINTS: u64 = 200;

/// Runs a workload under a contender. `told` hears now and then how many thousandths are done.
#[must_use]
pub fn run_job(job: &Job, seed: u64, told: &dyn Fn(u64)) -> TieringRow {
    match &job.contender {
        Contender::Policy(name) => under_policy(job, name, seed, told),
        Contender::NearOnly => {
            let mut capacity = [0; TIERS_MAX];
            capacity[0] = job.workload.pages;
            let placement = Placement::new(job.workload.pages, capacity, |_, _| 0);
            Drive::new(job, placement, seed).run(&mut Mover::Nobody, told)
        }
        Contender::FarOnly => {
            let last = job.machine.tiers.len() - 1;
            let mut capacity = [0; TIERS_MAX];
            capacity[last] = job.workload.pages;
            let placement = Placement::new(job.workload.pages, capacity, |_, _| last as u8);
            Drive::new(job, placement, seed).run(&mut Mover::Nobody, told)
        }
        Contender::StaticOracle => foreseen(job, job.workload.visits, seed, told),
        Contender::Clairvoyant => {
            foreseen(job, job.workload.phase().unwrap_or(job.workload.visits), seed, told)
        }
    }
}

fn under_policy(job: &Job, name: &str, seed: u64, told: &dyn Fn(u64)) -> TieringRow {
    let Job { machine, workload, page_bytes, .. } = job;
    let policy = by_name(name, workload.pages, machine.tiers.len());
    let mut policy = policy.expect("a contender's name is one of a policy");
    // What the policy keeps in mind lies in the fastest tier, and pages give way.
    let books = policy.metadata_bytes().div_ceil(*page_bytes);
    let capacity = capacities(machine, workload.pages, books);
    let placement = Placement::new(workload.pages, capacity, |page, free| {
        let mut states =
            [TierState { pages: 0, free: 0, unloaded_ns: 0.0, loaded_ns: 0.0, accesses: 0 };
                TIERS_MAX];
        for (at, tier) in machine.tiers.iter().enumerate() {
            states[at] = TierState {
                pages: capacity[at],
                free: free[at],
                unloaded_ns: tier.latency_ns,
                loaded_ns: tier.latency_ns,
                accesses: 0,
            };
        }
        policy.place(page, &states[..machine.tiers.len()])
    });
    let metadata_bytes = policy.metadata_bytes();
    let mut mover = Mover::Manager(Box::new(Manager::new(job, &mut *policy, !seed)));
    let row = Drive::new(job, placement, seed).run(&mut mover, told);
    TieringRow { metadata_bytes, ..row }
}

/// The best placement for every `period` visits.
fn foreseen(job: &Job, period: u64, seed: u64, told: &dyn Fn(u64)) -> TieringRow {
    let pages = job.workload.pages;
    let capacity = capacities(&job.machine, pages, 0);
    let placement = Placement::new(pages, capacity, |_, _| 0);
    let ahead = workload::stream(&job.workload, seed);
    let run = vec![0; RUN_MAX as usize];
    let mut mover = Mover::Oracle { ahead, run, period, capacity };
    Drive::new(job, placement, seed).run(&mut mover, told)
}

/// Pages that fit into each tier, less `books` of the first. The last has room for what the others
/// have not.
fn capacities(machine: &Machine, pages: u32, books: u64) -> [u32; TIERS_MAX] {
    let mut capacity = [0; TIERS_MAX];
    let mut rest = u64::from(pages);
    for (at, tier) in machine.tiers.iter().enumerate() {
        let mut fit = u64::from(pages) * u64::from(tier.capacity_percent) / 100;
        if at == 0 {
            fit = fit.saturating_sub(books);
        }
        if at + 1 == machine.tiers.len() {
            fit = fit.max(rest);
        }
        rest = rest.saturating_sub(fit);
        capacity[at] = fit.min(u64::from(u32::MAX)) as u32;
    }
    capacity
}

impl Demand {
    /// What a job's program asks for, before it is known of which tiers.
    pub fn of(job: &Job) -> Self {
        let Workload { parallelism, .. } = job.workload;
        let outstanding = f64::from(job.machine.threads) * f64::from(parallelism);
        Self { outstanding, ..Self::default() }
    }
}

/// Who moves pages.
enum Mover<'a> {
    Nobody,
    Manager(Box<Manager<'a>>),
    Oracle { ahead: Box<dyn Stream>, run: Vec<u32>, period: u64, capacity: [u32; TIERS_MAX] },
}

/// A run of a job.
struct Drive<'a> {
    job: &'a Job,
    machine: Machine,
    changes: std::slice::Iter<'a, Change>,
    placement: Placement,
    stream: Box<dyn Stream>,
    now_ns: f64,
    done: u64,
    totals: Totals,
}

/// Sums over a run.
#[derive(Default)]
struct Totals {
    latency_ns: f64,
    near: u64,
    first_near: u64,
    cpu_ns: f64,
    slices_ps: Vec<u64>,
    curve: Vec<[u64; 2]>,
    /// The visits and the time of the curve's last point.
    curve_from: (u64, f64),
    /// Those at which the last tenth began.
    settled_from: Option<(u64, f64)>,
}

impl<'a> Drive<'a> {
    fn new(job: &'a Job, placement: Placement, seed: u64) -> Self {
        Self {
            job,
            machine: job.machine.clone(),
            changes: job.machine.changes.iter(),
            placement,
            stream: workload::stream(&job.workload, seed),
            now_ns: 0.0,
            done: 0,
            totals: Totals::default(),
        }
    }

    fn run(mut self, mover: &mut Mover<'_>, told: &dyn Fn(u64)) -> TieringRow {
        let Workload { visits, burst, .. } = self.job.workload;
        let length = (RUN_ACCESSES / burst).clamp(1, RUN_MAX);
        let phase_visits = self.job.workload.phase().unwrap_or(visits);
        let mut run = vec![0; length as usize];
        let mut took_ns = 0.0;
        while self.done < visits {
            self.change();
            let to_phase = phase_visits - self.done % phase_visits;
            let most = u64::from(length).min(to_phase).min(visits - self.done);
            let run = &mut run[..most as usize];
            let phase = self.done / phase_visits;
            self.foresee(mover, phase_visits);
            self.stream.fill(phase, run);
            let mut cost = Cost::default();
            if let Mover::Manager(manager) = mover {
                cost = manager.carry_out(self.now_ns, took_ns, &mut self.placement);
                cost.cpu_ns += manager.sample(run, &self.placement);
                cost.cpu_ns += manager.tick(self.now_ns, &self.machine, &self.placement);
            }
            let counted = self.placement.count(run);
            took_ns = self.pass(&counted, &cost, took_ns, mover);
            told(self.done * 1000 / visits);
        }
        assert!(self.placement.is_sound(), "the map of pages agrees with its counts");
        self.row(mover)
    }

    /// Makes the changes of the machine whose time has come.
    fn change(&mut self) {
        while let Some(change) = self.changes.as_slice().first()
            && f64::from(change.at_ms) * 1e6 <= self.now_ns
        {
            let tier = &mut self.machine.tiers[change.tier];
            tier.latency_ns = change.latency_ns;
            tier.bandwidth_gbps = change.bandwidth_gbps;
            self.changes.next();
        }
    }

    /// At the beginning of an oracle's period: the best placement for it.
    fn foresee(&mut self, mover: &mut Mover<'_>, phase_visits: u64) {
        let Mover::Oracle { ahead, run, period, capacity } = mover else { return };
        if !self.done.is_multiple_of(*period) {
            return;
        }
        let visits = (*period).min(self.job.workload.visits - self.done);
        let pages = self.job.workload.pages;
        let phases = self.done..self.done + visits;
        let counts = Counts::take(pages, &mut **ahead, phases, phase_visits, run);
        self.placement = counts.place(self.job, &self.machine, *capacity);
    }

    /// Lets the time of a run pass, and returns it.
    fn pass(&mut self, counted: &Counted, cost: &Cost, last_ns: f64, mover: &mut Mover<'_>) -> f64 {
        let burst = u64::from(self.job.workload.burst);
        let visits: u64 = counted.visits.iter().sum();
        let mut demand = Demand::of(self.job);
        for tier in 0..TIERS_MAX {
            let here = counted.visits[tier];
            demand.share[tier] = here as f64 / visits as f64;
            demand.writes[tier] = counted.writes[tier] as f64 / here.max(1) as f64;
            demand.background[tier] = cost.bytes[tier] / last_ns.max(1.0);
        }
        let flow = self.machine.solve(&demand);
        let accesses = (visits * burst) as f64;
        let held_up = (cost.cpu_ns + cost.stall_ns) / f64::from(self.machine.threads);
        let took_ns = accesses / flow.per_ns + held_up;
        if self.done * 10 >= self.job.workload.visits * 9 {
            self.totals.settled_from.get_or_insert((self.done, self.now_ns));
        }
        self.now_ns += took_ns;
        self.done += visits;
        if let Mover::Manager(manager) = mover {
            manager.observe(counted, &flow);
        }
        self.sum_up(counted, &flow, cost);
        self.totals.slices_ps.push((demand.outstanding * took_ns / accesses * 1e3) as u64);
        took_ns
    }

    fn sum_up(&mut self, counted: &Counted, flow: &Flow, cost: &Cost) {
        let totals = &mut self.totals;
        for (&visits, latency_ns) in counted.visits.iter().zip(flow.latency_ns) {
            if visits > 0 {
                totals.latency_ns += visits as f64 * latency_ns;
            }
        }
        totals.near += counted.visits[0];
        totals.first_near += counted.first_near;
        totals.cpu_ns += cost.cpu_ns;
        let (from_visits, from_ns) = totals.curve_from;
        let all = self.job.workload.visits;
        if (self.done - from_visits) * CURVE_POINTS >= all || self.done == all {
            let accesses = (self.done - from_visits) * u64::from(self.job.workload.burst);
            let per_second = accesses as f64 / (self.now_ns - from_ns) * 1e9;
            totals.curve.push([(self.now_ns / 1e3) as u64, per_second as u64]);
            totals.curve_from = (self.done, self.now_ns);
        }
    }

    fn row(self, mover: &Mover<'_>) -> TieringRow {
        let Self { job, totals, now_ns, done, .. } = self;
        let Workload { burst, pages, .. } = job.workload;
        let moves = match mover {
            Mover::Manager(manager) => manager.moves,
            Mover::Nobody | Mover::Oracle { .. } => Default::default(),
        };
        let accesses = done * u64::from(burst);
        let gained = totals.near.saturating_sub(totals.first_near) * u64::from(burst);
        let gained_bytes = gained as f64 * LINE_BYTES;
        let moved_bytes = moves.done as f64 * job.page_bytes as f64;
        let per_gained = (gained > 0 && moves.done > 0).then(|| moved_bytes * 1e3 / gained_bytes);
        let (settled_visits, settled_ns) = totals.settled_from.unwrap_or_default();
        let settled = (done - settled_visits) * u64::from(burst);
        let mut slices = totals.slices_ps;
        slices.sort_unstable();
        let core_ns = now_ns * f64::from(job.machine.threads);
        TieringRow {
            workload: job.workload.name.clone(),
            policy: job.contender.name().to_owned(),
            accesses,
            time_ns: now_ns as u64,
            per_second: (accesses as f64 / now_ns * 1e9) as u64,
            settled_per_second: (settled as f64 / (now_ns - settled_ns) * 1e9) as u64,
            latency_ps: (totals.latency_ns / done as f64 * 1e3) as u64,
            slice_p99_ps: slices[(slices.len() - 1) * 99 / 100],
            near_ppm: ppm(totals.near, done),
            moved_pages: moves.done,
            moved_per_1000_gained: per_gained.map(|moved| moved as u64),
            ping_pong_ppm: ppm(moves.back, moves.done),
            dropped_moves: moves.dropped,
            manager_ppm: (totals.cpu_ns / core_ns * 1e6) as u64,
            metadata_bytes: 0,
            pages: u64::from(pages),
            curve: totals.curve,
        }
    }
}

/// A part of a whole, of a million.
fn ppm(part: u64, whole: u64) -> u64 {
    (u128::from(part) * 1_000_000 / u128::from(whole.max(1))) as u64
}
