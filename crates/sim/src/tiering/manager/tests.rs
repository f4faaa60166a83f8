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
    let run: Vec<u32> = (0..1000).map(|page| page | if page < 500 { WRITE } else { 0 }).collect();
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
