//! Random pools, for the fuzz: small, so that memory runs out, and with faults drawn first (swarm
//! testing), so that some have none.

use core::time::Duration;

use memtide_cxl::manager::{Limits, Timing};
use memtide_units::Random;

use super::plan::{Faults, HostPlan, Phase, Plan, needs};

const BLOCK: u64 = 16 << 20;

/// The pool of a seed.
pub(crate) fn plan(seed: u64) -> Plan {
    let mut random = Random::new(seed);
    let blocks = 16 + random.below(48);
    let capacity = blocks * BLOCK;
    let duration = Duration::from_secs(20 + random.below(60));
    let count = 2 + random.below(5);
    let mut guaranteed = capacity / 2;
    let hosts = (0..count).map(|_| {
        let limits = limits(&mut random, &mut guaranteed);
        HostPlan { group: 0, limits, needs: some_needs(&mut random, capacity, duration) }
    });
    let hosts = hosts.collect();
    let seconds =
        |random: &mut Random, most: u64| Duration::from_millis(500 + random.below(most * 1000));
    Plan {
        capacity,
        block: BLOCK,
        duration,
        sample_every: duration,
        say_every: seconds(&mut random, 3),
        copied: BLOCK << random.below(8),
        timing: Timing {
            patience: seconds(&mut random, 8),
            retry_first: Duration::from_millis(500),
            retry_most: seconds(&mut random, 8),
            settle: seconds(&mut random, 8),
        },
        operator_every: sometimes(&mut random, 1, 4),
        faults: faults(&mut random),
        hosts,
        groups: vec!["some".to_owned()],
    }
}

fn sometimes(random: &mut Random, least: u64, more: u64) -> Option<Duration> {
    (random.below(2) == 0).then(|| Duration::from_secs(least + random.below(more)))
}

fn limits(random: &mut Random, guaranteed: &mut u64) -> Limits {
    let minimum = if random.below(2) == 0 { random.below(4) * BLOCK } else { 0 };
    let minimum = minimum.min(*guaranteed);
    *guaranteed -= minimum;
    let most = (4 + random.below(16)) * BLOCK;
    let maximum = if random.below(3) == 0 { most } else { u64::MAX };
    Limits { minimum, maximum, weight: 1 + random.below(4) as u32 }
}

fn some_needs(random: &mut Random, capacity: u64, duration: Duration) -> Vec<(Duration, u64)> {
    let count = 1 + random.below(5);
    let phase = |random: &mut Random| Phase {
        lasts: Duration::from_millis(2000 + random.below(20_000)),
        needs: random.below(capacity / 2),
    };
    let phases: Vec<Phase> = (0..count).map(|_| phase(random)).collect();
    needs(&phases, Duration::ZERO, random.below(30), duration, random)
}

fn faults(random: &mut Random) -> Faults {
    let mut some = |most: u64| if random.below(2) == 0 { 1 + random.below(most) } else { 0 };
    let (lost, repeated, late) = (some(60), some(60), some(100));
    let late_by = Duration::from_millis(if late == 0 { 0 } else { 1 + random.below(900) });
    let (agent_dies, manager_dies) = (sometimes(random, 2, 20), sometimes(random, 2, 20));
    let away = Duration::from_millis(random.below(5000));
    Faults { lost, repeated, late, late_by, agent_dies, manager_dies, away }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::pool::run_plan;

    /// A fuzz that covers nothing would find nothing.
    #[test]
    fn whatever_goes_wrong_all_of_it_comes_back_and_every_request_has_an_answer() {
        let mut seen: BTreeMap<String, u64> = BTreeMap::new();
        for seed in 0..150 {
            let rows = run_plan(&plan(seed), seed, "", &|_| {});
            let rows = rows.unwrap_or_else(|violation| panic!("seed {seed}: {violation}"));
            for (what, count) in rows.into_iter().flat_map(|row| row.seen) {
                *seen.entry(what).or_default() += count;
            }
        }
        for what in [
            "agents killed",
            "managers killed",
            "lines lost",
            "requests",
            "requests refused",
            "answers",
            "records",
            "host commands",
        ] {
            assert!(seen.get(what).is_some_and(|&count| count >= 100), "{what}: {seen:?}");
        }
        // Few agents are away for as long as an offer may wait.
        assert!(seen.contains_key("offers withdrawn"), "{seen:?}");
    }

    #[test]
    fn one_seed_is_one_pool() {
        assert_eq!(plan(7), plan(7));
        assert_ne!(plan(7), plan(8));
        let rows = |seed| run_plan(&plan(seed), seed, "", &|_| {}).expect("nothing is wrong");
        assert_eq!(rows(7), rows(7));
        // Other faults for the same needs.
        assert_ne!(rows(7), run_plan(&plan(7), 8, "", &|_| {}).expect("nothing is wrong"));
    }
}
