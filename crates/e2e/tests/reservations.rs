//! Reservations cost nothing until touched; blocks come 2 MiB at a time.

use std::time::Duration;

use memtide_e2e::{MIB, Pool, PoolSpec, machine};

#[test]
fn address_space_costs_nothing_until_touched() {
    let machine = machine();
    let pool = Pool::start(&machine, &PoolSpec::new(256, 256));
    // Twice 64 GiB of addresses in a pool of 512 MiB.
    let mut toucher = pool.run_proof("toucher", &[]);
    let leased = pool.status().leased();
    // 24 touches in 64 GiB, 24 in 4 MiB, and what the program has besides.
    assert!(leased >= 2 * MIB, "nothing was leased: does it run under memtide at all?");
    assert!(leased <= 100 * MIB, "{leased} bytes leased for 48 touches");
    toucher.send("");
    toucher.finish(Duration::from_secs(60)).assert_pass();
    pool.assert_all_free();
}
