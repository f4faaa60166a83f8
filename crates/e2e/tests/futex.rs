//! Threads asleep on a futex in a moved block still wake.

use std::{sync::Arc, time::Duration};

use memtide_e2e::{Pool, PoolSpec, Tides, machine, seconds};

#[test]
fn every_wake_up_arrives_while_blocks_move() {
    let machine = machine();
    let pool = Arc::new(Pool::start(&machine, &PoolSpec::new(256, 512)));
    let (seed, length) = (machine.seed().to_string(), seconds(12));
    let length_text = length.as_secs().to_string();
    let arguments = ["--mib", "64", "--seed", &seed, "--seconds", &length_text];
    let victim = pool.run_proof("futexer", &arguments);
    let tides = Tides::begin(&pool, machine.seed(), 384);
    let finished = victim.finish(length + Duration::from_secs(60));
    let _ = tides.stop();
    finished.assert_pass();
    pool.assert_all_free();
}

#[test]
fn nothing_moves_under_priority_inheritance_mutexes() {
    let machine = machine();
    let pool = Pool::start(&machine, &PoolSpec::new(256, 512));
    let length = seconds(4).as_secs().to_string();
    let victim = pool.run_proof("futexer", &["--mode", "pi", "--seconds", &length]);
    let pid = pool.pid_of("futexer");
    let report = pool.move_memory(pid, "far", None);
    assert!(report.held("priority-inheritance") > 0, "{report:?}");
    assert_eq!(report.returned, 0, "{report:?}");
    victim.finish(seconds(4) + Duration::from_secs(60)).assert_pass();
    pool.assert_all_free();
}
