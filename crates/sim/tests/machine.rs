//! Whole machines: random ones, and the shipped scenarios.

use std::num::NonZeroUsize;

use memtide_sim::machine::fuzz::fuzz;

/// `MEMTIDE_SEEDS=FROM..TO` runs others.
#[test]
fn random_machines_hold_what_must_hold() {
    let seeds = std::env::var("MEMTIDE_SEEDS").unwrap_or_else(|_| "0..3000".to_owned());
    let (from, to) = seeds.split_once("..").unwrap();
    let seeds = from.parse().unwrap()..to.parse().unwrap();
    let outcome = fuzz(seeds, NonZeroUsize::new(2).unwrap(), &mut |_, _| {});
    println!("{} steps, {:#?}", outcome.steps, outcome.seen);
    for failure in outcome.failures.iter().take(3) {
        println!("seed {}: {}", failure.seed, failure.violation);
    }
    let seeds: Vec<u64> = outcome.failures.iter().map(|failure| failure.seed).collect();
    assert!(seeds.is_empty(), "{} of {} fail: {seeds:?}", seeds.len(), outcome.seeds);
}
