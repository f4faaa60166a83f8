//! Zero lost or torn writes while blocks move both ways without a pause.
//!
//! `MEMTIDE_E2E_OPS` sets the number of operations (`cargo xtask soak --ops 1000000000`).

use std::{sync::Arc, time::Duration};

use memtide_e2e::{
    Pool, PoolSpec, Tides, machine,
    machine::{HugePages, SharedHugePages, needs_root, ops},
    seconds,
};

#[test]
fn no_write_is_lost_or_torn_while_blocks_move() {
    prove(PoolSpec::new(512, 1024), 10);
}

#[test]
fn no_write_is_lost_or_torn_with_transparent_huge_pages() {
    if !needs_root() {
        return;
    }
    let Some(_allowed) = SharedHugePages::allow() else { return };
    prove(PoolSpec { store: "memfd-thp", ..PoolSpec::new(512, 1024) }, 5);
}

#[test]
fn no_write_is_lost_or_torn_with_the_huge_page_pool() {
    if !needs_root() {
        return;
    }
    let spec = PoolSpec { store: "hugetlb", ..PoolSpec::new(512, 512) };
    // Both nodes, in 2 MiB pages, and a few for moves under way.
    let Some(_reserved) = HugePages::reserve(512 + 32) else { return };
    prove(spec, 5);
}

fn prove(spec: PoolSpec, short: u64) {
    let machine = machine();
    let pool = Arc::new(Pool::start(&machine, &spec));
    let (seed, length) = (machine.seed().to_string(), seconds(short));
    let (ops, limit) = match ops() {
        // A million a second is a twentieth of what it does undisturbed on two cores.
        Some(ops) => (ops.to_string(), Duration::from_secs(60 + ops / 1_000_000)),
        None => ("0".into(), length + Duration::from_secs(60)),
    };
    let length = length.as_secs().to_string();
    let arguments =
        ["--mib", "256", "--threads", "3", "--seed", &seed, "--seconds", &length, "--ops", &ops];
    let victim = pool.run_proof("checksum", &arguments);
    let tides = Tides::begin(&pool, machine.seed(), spec.near_mib + spec.far_mib - 512);
    let finished = victim.finish(limit);
    let tally = tides.stop();
    finished.assert_pass();
    memtide_e2e::machine::loud(&format!("{} operations, {tally:?}", finished.number("ops")));
    pool.assert_all_free();
}

#[test]
fn an_allocation_heavy_program_runs_while_blocks_move() {
    let machine = machine();
    let pool = Arc::new(Pool::start(&machine, &PoolSpec::new(512, 1024)));
    let (seed, length) = (machine.seed().to_string(), seconds(6));
    let length_text = length.as_secs().to_string();
    let arguments = ["--threads", "4", "--seed", &seed, "--seconds", &length_text];
    let victim = pool.run_proof("churn", &arguments);
    let tides = Tides::begin(&pool, machine.seed(), 512);
    let finished = victim.finish(length + Duration::from_secs(60));
    let _ = tides.stop();
    finished.assert_pass();
    pool.assert_all_free();
}
