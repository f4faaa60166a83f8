//! The policy at work: it hears samples, is asked at its ticks, and its moves are carried out.
//!
//! Moves are carried out in order, no faster than migration goes; what is not carried out when the
//! next tick comes is dropped, and so is a move to a tier that is full.
//!
//! Costs, in the terms of [`super::machine::Costs`]: each sample and each tick, and for each page
//! that moves a fixed cost and the copying, are CPU time of the manager. Moved pages are traffic
//! on both tiers, and make threads of the program wait.

use std::{
    collections::{BTreeMap, VecDeque},
    time::Duration,
};

use memtide_engine::tiering::{Budget, Move, Page, Policy, Sample, Tier, TierState};
use memtide_units::{Instant, Random};

use super::{
    Job,
    machine::{Flow, Machine, TIERS_MAX},
    placement::{Counted, Placement, WRITE},
};

/// A page that goes back where it came from within this time has been moved for nothing.
const PING_PONG_NS: f64 = 1e9;

/// What carrying out moves costs a slice.
#[derive(Clone, Copy, PartialEq, Debug, Default)]
pub struct Cost {
    /// CPU time of the manager.
    pub cpu_ns: f64,
    /// Time that threads of the program wait.
    pub stall_ns: f64,
    /// Bytes in and out of each tier.
    pub bytes: [f64; TIERS_MAX],
}

/// What became of the moves.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Moves {
    /// Carried out.
    pub done: u64,
    /// Not carried out.
    pub dropped: u64,
    /// Of those carried out, back to where the page came from a moment ago.
    pub back: u64,
}

/// The policy at work.
pub struct Manager<'a> {
    pub policy: &'a mut dyn Policy,
    pub moves: Moves,
    job: &'a Job,
    random: Random,
    /// Visits until the next sample.
    until_sample: u64,
    samples: Vec<Sample>,
    next_tick_ns: f64,
    /// Since the last tick, for each tier: accesses, and the sum of their latencies.
    accesses: [u64; TIERS_MAX],
    latency_sum: [f64; TIERS_MAX],
    latency: [f64; TIERS_MAX],
    queue: VecDeque<Move>,
    /// Bytes that migration may move now.
    allowance: f64,
    /// Where pages came from that were moved a moment ago; and their moves in order of time.
    recent: BTreeMap<Page, (f64, Tier)>,
    recent_order: VecDeque<(f64, Page)>,
}

impl<'a> Manager<'a> {
    pub fn new(job: &'a Job, policy: &'a mut dyn Policy, seed: u64) -> Self {
        let next_tick_ns = nanoseconds(policy.tick_every());
        assert!(next_tick_ns > 0.0, "{} ticks all the time", policy.name());
        let mut latency = [0.0; TIERS_MAX];
        for (latency, tier) in latency.iter_mut().zip(&job.machine.tiers) {
            *latency = tier.latency_ns;
        }
        let mut manager = Self {
            policy,
            moves: Moves::default(),
            job,
            random: Random::new(seed),
            until_sample: 0,
            samples: Vec::new(),
            next_tick_ns,
            accesses: [0; TIERS_MAX],
            latency_sum: [0.0; TIERS_MAX],
            latency,
            queue: VecDeque::new(),
            allowance: 0.0,
            recent: BTreeMap::new(),
            recent_order: VecDeque::new(),
        };
        manager.until_sample = manager.gap() - 1;
        manager
    }

    /// Visits from one sample to the next: random, so that no pattern hides from it; on average
    /// those of the policy's period. A visit is sampled once at most.
    fn gap(&mut self) -> u64 {
        let burst = u64::from(self.job.workload.burst);
        let period = (u64::from(self.policy.sample_period()) / burst).max(1);
        1 + self.random.below(2 * period - 1)
    }

    /// Tells the policy what of a run was sampled. Returns what it cost.
    pub fn sample(&mut self, run: &[u32], placement: &Placement) -> f64 {
        self.samples.clear();
        let length = run.len() as u64;
        while self.until_sample < length {
            let visit = run[self.until_sample as usize];
            let page = visit & !WRITE;
            let tier = placement.tier(page);
            self.samples.push(Sample { page, tier, write: visit & WRITE != 0 });
            self.until_sample += self.gap();
        }
        self.until_sample -= length;
        if !self.samples.is_empty() {
            self.policy.samples(&self.samples);
        }
        self.samples.len() as f64 * self.job.machine.costs.sample_ns
    }

    /// Hears how long the accesses of a run took.
    pub fn observe(&mut self, counted: &Counted, flow: &Flow) {
        for tier in 0..TIERS_MAX {
            let accesses = counted.visits[tier] * u64::from(self.job.workload.burst);
            self.accesses[tier] += accesses;
            self.latency_sum[tier] += accesses as f64 * flow.latency_ns[tier];
            self.latency[tier] = flow.latency_ns[tier];
        }
    }

    /// Asks the policy when it is time to. Returns what it cost.
    pub fn tick(&mut self, now_ns: f64, machine: &Machine, placement: &Placement) -> f64 {
        if now_ns < self.next_tick_ns {
            return 0.0;
        }
        let every = nanoseconds(self.policy.tick_every());
        while self.next_tick_ns <= now_ns {
            self.next_tick_ns += every;
        }
        self.moves.dropped += self.queue.len() as u64;
        self.queue.clear();
        let pages = every * machine.migration_gbps / self.job.page_bytes as f64;
        let budget = Budget { moves: (pages as u32).max(1) };
        let tiers = self.states(machine, placement);
        let now = Instant(Duration::from_nanos(now_ns as u64));
        let wanted = self.policy.tick(now, &tiers, &|page| placement.tier(page), budget);
        let granted = wanted.len().min(budget.moves as usize);
        self.moves.dropped += (wanted.len() - granted) as u64;
        self.queue.extend(wanted.into_iter().take(granted));
        self.accesses = [0; TIERS_MAX];
        self.latency_sum = [0.0; TIERS_MAX];
        machine.costs.tick_ns
    }

    /// The tiers, as the policy sees them.
    fn states(&self, machine: &Machine, placement: &Placement) -> Vec<TierState> {
        let state = |(at, tier): (usize, &super::machine::TierModel)| {
            let accesses = self.accesses[at];
            let average = self.latency_sum[at] / accesses.max(1) as f64;
            TierState {
                pages: placement.capacity(at),
                free: placement.free(at),
                unloaded_ns: tier.latency_ns,
                loaded_ns: if accesses > 0 { average } else { self.latency[at] },
                accesses,
            }
        };
        machine.tiers.iter().enumerate().map(state).collect()
    }

    /// Carries out moves, as many as go in the time that the last slice took.
    pub fn carry_out(&mut self, now_ns: f64, took_ns: f64, placement: &mut Placement) -> Cost {
        let mut cost = Cost::default();
        let costs = self.job.machine.costs;
        let page_bytes = self.job.page_bytes as f64;
        self.allowance += took_ns * self.job.machine.migration_gbps;
        while self.allowance > 0.0
            && let Some(Move { page, to }) = self.queue.pop_front()
        {
            let Some(from) = placement.shift(page, to) else {
                self.moves.dropped += 1;
                continue;
            };
            self.allowance -= page_bytes;
            self.moves.done += 1;
            self.moves.back += u64::from(self.goes_back(now_ns, page, from, to));
            cost.cpu_ns += costs.move_ns + page_bytes / costs.copy_gbps;
            cost.stall_ns += costs.stall_ns;
            cost.bytes[usize::from(from)] += page_bytes;
            cost.bytes[usize::from(to)] += page_bytes;
        }
        // Time in which there was nothing to move is gone.
        self.allowance = self.allowance.min(0.0);
        cost
    }

    fn goes_back(&mut self, now_ns: f64, page: Page, from: Tier, to: Tier) -> bool {
        while let Some(&(at, old)) = self.recent_order.front()
            && at + PING_PONG_NS < now_ns
        {
            self.recent_order.pop_front();
            // Unless it has been moved again since.
            if self.recent.get(&old).is_some_and(|&(last, _)| last == at) {
                self.recent.remove(&old);
            }
        }
        self.recent_order.push_back((now_ns, page));
        let before = self.recent.insert(page, (now_ns, from));
        before.is_some_and(|(_, came_from)| came_from == to)
    }
}

fn nanoseconds(time: Duration) -> f64 {
    time.as_secs_f64() * 1e9
}

#[cfg(test)]
mod tests;
