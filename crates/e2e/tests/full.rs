//! A pool too small for the program.

use std::time::Duration;

use memtide_e2e::{MIB, OnFull, Pool, PoolSpec, machine};

const LIMIT: Duration = Duration::from_secs(60);

fn pieces_held(line: &str) -> u64 {
    line.rsplit('=').next().and_then(|n| n.parse().ok()).expect("… now=N")
}

#[test]
fn malloc_and_mmap_say_enomem_when_the_pool_is_full() {
    let machine = machine();
    let pool = Pool::start(&machine, &PoolSpec::new(128, 128));
    let mut filler = pool.run_proof("filler", &[]);
    let held = pieces_held(&filler.ask("exhaust 512", LIMIT));
    assert!((160..=256).contains(&held), "{held} MiB of a pool of 256");
    filler.ask("verify", LIMIT);
    let status = pool.status();
    assert!(status.programs.iter().all(|p| p.counters.overflow_bytes == 0), "{status:?}");

    // What is freed can be had again.
    filler.ask("free-half", LIMIT);
    let held = pieces_held(&filler.ask("exhaust 512", LIMIT));
    assert!(held >= 160, "{held} MiB the second time");
    filler.ask("verify", LIMIT);
    filler.send("quit");
    filler.finish(LIMIT).assert_pass();
    pool.assert_all_free();
}

#[test]
fn a_program_goes_on_with_ordinary_memory_where_configured_so() {
    let machine = machine();
    let spec = PoolSpec { on_full: OnFull::Fallback, ..PoolSpec::new(128, 128) };
    let pool = Pool::start(&machine, &spec);
    let mut filler = pool.run_proof("filler", &[]);
    filler.ask("fill 400", LIMIT);
    filler.ask("verify", LIMIT);
    let status = pool.wait_for("the overflow to be counted", LIMIT, |status| {
        status.programs.iter().any(|p| p.counters.overflow_bytes >= 100 * MIB)
    });
    assert!(status.leased() <= 256 * MIB);
    filler.send("quit");
    filler.finish(LIMIT).assert_pass();
    pool.assert_all_free();
}
