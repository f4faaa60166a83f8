//! What hosts that share a device have of what they need.

use memtide_sim::{Results, Scenario, page::page, plot::plots, pool::PoolRow, run};

const SHIPPED: &str = include_str!("../../../scenarios/pool.toml");

fn rows(text: &str, seed: Option<u64>) -> Vec<PoolRow> {
    let outcome = run(&Scenario::read(text).unwrap(), seed, &mut |_, _| {}).unwrap();
    let plots = plots(&outcome).unwrap();
    assert!(page(&outcome, &plots).contains("comes close"), "the claim stands beside the answer");
    let Results::Pool(rows) = outcome.results else { panic!() };
    rows
}

#[test]
fn print() {
    let outcome = run(&Scenario::read(SHIPPED).unwrap(), None, &mut |_, _| {}).unwrap();
    for line in outcome.table() { println!("{}", line.join(" | ")); }
    let Results::Pool(rows) = outcome.results else { panic!() };
    for row in &rows { if row.hosts == "all" { println!("{:?} {}", row.seen, row.steps); } }
}
