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
mod tests {
    use super::*;
    use crate::tiering::Tiering;

    /// Does what a script says, and notes what it hears.
    #[derive(Default)]
    struct Scripted {
        period: u32,
        heard: Vec<Sample>,
        budgets: Vec<u32>,
        states: Vec<TierState>,
        answers: VecDeque<Vec<Move>>,
    }

    impl Policy for Scripted {
        fn name(&self) -> &'static str {
            "scripted"
        }

        fn sample_period(&self) -> u32 {
            self.period
        }

        fn tick_every(&self) -> Duration {
            Duration::from_millis(1)
        }

        fn samples(&mut self, samples: &[Sample]) {
            self.heard.extend(samples);
        }

        fn tick(
            &mut self,
            _: Instant,
            tiers: &[TierState],
            _: &dyn Fn(Page) -> Tier,
            budget: Budget,
        ) -> Vec<Move> {
            self.budgets.push(budget.moves);
            self.states = tiers.to_vec();
            self.answers.pop_front().unwrap_or_default()
        }

        fn metadata_bytes(&self) -> u64 {
            0
        }
    }

    fn job() -> Job {
        let text = r#"
            page = "4KiB"
            policies = ["static"]
            [machine]
            threads = 8
            migration-gbps = 4.096
            [[machine.tiers]]
            latency-ns = 90
            bandwidth-gbps = 60
            load-factor = 0.2
            capacity-percent = 33
            [[machine.tiers]]
            latency-ns = 220
            bandwidth-gbps = 24
            load-factor = 0.2
            capacity-percent = 100
            [machine.costs]
            sample-ns = 100
            tick-ns = 20000
            move-ns = 1000
            copy-gbps = 8
            stall-ns = 7
            [[workloads]]
            name = "w"
            pages = 1000
            visits = 1000
            burst = 4
            parallelism = 4
            pattern = "uniform"
        "#;
        let what: Tiering = toml::from_str(text).unwrap();
        what.job(0)
    }

    fn placement() -> Placement {
        Placement::new(1000, [300, 1000, 0, 0], |page, _| u8::from(page >= 290))
    }

    fn moves(moves: &[(Page, Tier)]) -> Vec<Move> {
        moves.iter().map(|&(page, to)| Move { page, to }).collect()
    }

    /// A period of 400 accesses in bursts of 4: a visit of 100, on average.
    #[test]
    fn samples_come_as_often_as_asked() {
        let (job, placement) = (job(), placement());
        let mut policy = Scripted { period: 400, ..Scripted::default() };
        let mut manager = Manager::new(&job, &mut policy, 5);
        let run: Vec<u32> =
            (0..1000).map(|page| page | if page < 500 { WRITE } else { 0 }).collect();
        let cost: f64 = (0..1000).map(|_| manager.sample(&run, &placement)).sum();
        assert!((9700..10_300).contains(&policy.heard.len()), "{}", policy.heard.len());
        assert_eq!(cost, policy.heard.len() as f64 * 100.0);
        for Sample { page, tier, write } in policy.heard {
            assert_eq!((tier, write), (placement.tier(page), page < 500));
        }
        // A period shorter than a burst: every visit, once.
        let mut policy = Scripted { period: 1, ..Scripted::default() };
        Manager::new(&job, &mut policy, 5).sample(&run, &placement);
        assert_eq!(policy.heard.len(), 1000);
    }

    #[test]
    fn a_tick_comes_at_its_time_and_tells_the_load() {
        let (job, placement) = (job(), placement());
        let mut policy = Scripted { period: 400, ..Scripted::default() };
        let mut manager = Manager::new(&job, &mut policy, 5);
        let counted = Counted { visits: [10, 0, 0, 0], ..Counted::default() };
        for latency in [100.0, 110.0] {
            let flow = Flow { per_ns: 1.0, latency_ns: [latency, 230.0, 0.0, 0.0] };
            manager.observe(&counted, &flow);
        }
        assert_eq!(manager.tick(0.99e6, &job.machine, &placement), 0.0);
        assert_eq!(manager.tick(1.0e6, &job.machine, &placement), 20_000.0);
        assert_eq!(manager.tick(1.5e6, &job.machine, &placement), 0.0);
        let near = policy.states[0];
        assert_eq!((near.pages, near.free, near.accesses), (300, 10, 80));
        assert_eq!((near.unloaded_ns, near.loaded_ns), (90.0, 105.0));
        // Nobody was there; it would have taken as long as the load has it.
        assert_eq!((policy.states[1].accesses, policy.states[1].loaded_ns), (0, 230.0));
        // 4.096 GB/s for a millisecond: 1000 pages of 4 KiB.
        assert_eq!(policy.budgets, [1000]);
    }

    #[test]
    fn moves_go_as_fast_as_migration_and_cost_what_they_cost() {
        let (job, mut placement) = (job(), placement());
        let mut policy = Scripted { period: 400, ..Scripted::default() };
        // 10 free; two of these are no moves; and one to a tier that is full then.
        let mut wanted = vec![(0, 0), (2000, 0)];
        wanted.extend((300..311).map(|page| (page, 0)));
        policy.answers.push_back(moves(&wanted));
        let mut manager = Manager::new(&job, &mut policy, 5);
        // A time without moves is not saved up.
        assert_eq!(manager.carry_out(0.0, 1e6, &mut placement), Cost::default());
        manager.tick(1e6, &job.machine, &placement);
        // 4.096 bytes a nanosecond: 4 pages in 4 microseconds.
        let cost = manager.carry_out(1e6, 4000.0, &mut placement);
        assert_eq!(placement.free(0), 6);
        let page_ns = 1000.0 + 4096.0 / 8.0;
        assert_eq!((cost.cpu_ns, cost.stall_ns), (4.0 * page_ns, 28.0));
        assert_eq!(cost.bytes, [16384.0, 16384.0, 0.0, 0.0]);
        assert_eq!(manager.moves, Moves { done: 4, dropped: 2, back: 0 });
        manager.carry_out(1e6, 1e6, &mut placement);
        assert_eq!(manager.moves, Moves { done: 10, dropped: 3, back: 0 });
        assert!(placement.is_sound() && placement.free(0) == 0);
    }

    #[test]
    fn what_is_not_done_by_the_next_tick_is_dropped() {
        let (job, mut placement) = (job(), placement());
        let mut policy = Scripted { period: 400, ..Scripted::default() };
        let too_many: Vec<(Page, Tier)> = (0..1200).map(|page| (page % 290, 1)).collect();
        policy.answers.push_back(moves(&too_many));
        let mut manager = Manager::new(&job, &mut policy, 5);
        manager.tick(1e6, &job.machine, &placement);
        assert_eq!(manager.moves.dropped, 200);
        manager.carry_out(1e6, 2000.0, &mut placement);
        manager.tick(2e6, &job.machine, &placement);
        assert_eq!(manager.moves, Moves { done: 2, dropped: 1198, back: 0 });
    }

    #[test]
    fn back_within_a_second_is_ping_pong() {
        let (job, mut placement) = (job(), placement());
        let mut policy = Scripted { period: 400, ..Scripted::default() };
        // (When, page, where to, whether that is back.)
        let script = [
            (1.0, 0, 1, 0),
            (500.0, 0, 0, 1),
            (900.0, 0, 1, 1),
            (1000.0, 1, 1, 0),
            (1950.0, 0, 0, 0),
            (1990.0, 1, 0, 1),
        ];
        for (_, page, to, _) in script {
            policy.answers.push_back(moves(&[(page, to)]));
        }
        let mut manager = Manager::new(&job, &mut policy, 5);
        for (ms, page, _, back) in script {
            let before = manager.moves.back;
            manager.tick(ms * 1e6, &job.machine, &placement);
            manager.carry_out(ms * 1e6, 1e6, &mut placement);
            assert_eq!(manager.moves.back - before, back, "page {page} at {ms}");
        }
        assert_eq!(manager.moves.done, 6);
        // What is forgotten takes no memory.
        assert!(manager.recent.len() <= 2 && manager.recent_order.len() <= 3);
    }
}
