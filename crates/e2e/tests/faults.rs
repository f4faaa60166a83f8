//! The pager killed or delayed at every step of its work: still nothing is lost.
//!
//! `MEMTIDE_INJECT` is the pager's own switch for such faults.

use std::{sync::Arc, time::Duration};

use memtide_e2e::{Pool, PoolSpec, Running, Tides, machine, machine::loud, program, seconds};

/// Each step at its own rhythm, so that they fall on each other in ever new ways.
const STEPS: [(&str, u32); 9] = [
    ("populated", 11),
    ("protected", 13),
    ("copied", 17),
    ("swapped", 19),
    ("woken", 23),
    ("entered", 29),
    ("touched", 31),
    ("frozen", 37),
    ("thawed", 41),
];

fn run_with(faults: &str, name: &str, arguments: &[&str]) {
    let machine = machine();
    let pool = Arc::new(Pool::start(&machine, &PoolSpec::new(512, 1024)));
    let (seed, length) = (machine.seed().to_string(), seconds(3));
    let length_text = length.as_secs().to_string();
    let mut command = pool.run_command(program(name), arguments);
    command.args(["--seed", &seed, "--seconds", &length_text]).env("MEMTIDE_INJECT", faults);
    let mut victim = Running::start(&mut command);
    victim.expect_line("READY", Duration::from_secs(60));
    let tides = Tides::begin(&pool, machine.seed(), 768);
    let finished = victim.finish(length + Duration::from_secs(90));
    let _ = tides.stop();
    loud(&format!("{name} passed with {faults}"));
    finished.assert_pass();
    pool.assert_all_free();
}

fn all_steps(fault: impl Fn(&str, u32) -> String) -> String {
    STEPS.map(|(step, every)| fault(step, every)).join(",")
}

#[test]
fn writers_lose_nothing_when_the_pager_is_killed_at_any_step() {
    for (step, every) in &STEPS[..7] {
        run_with(&format!("kill@{step}/{every}"), "checksum", &["--mib", "96"]);
    }
}

#[test]
fn writers_lose_nothing_when_the_pager_is_killed_or_slow_at_all_steps() {
    let killed = all_steps(|step, every| format!("kill@{step}/{}", every * 5));
    run_with(&killed, "checksum", &["--mib", "96"]);
    let delayed = all_steps(|step, every| format!("delay@{step}/{every}:5"));
    run_with(&delayed, "checksum", &["--mib", "96"]);
}

#[test]
fn sleepers_wake_when_the_pager_is_killed_at_any_step() {
    let killed = all_steps(|step, every| format!("kill@{step}/{}", every * 2));
    run_with(&killed, "futexer", &["--mib", "48"]);
}

#[test]
fn forks_keep_their_meaning_when_the_pager_is_killed_or_slow_at_any_step() {
    let killed = all_steps(|step, every| format!("kill@{step}/{}", every * 5));
    run_with(&killed, "forker", &["--mib", "64"]);
    let delayed = all_steps(|step, every| format!("delay@{step}/{every}:5"));
    run_with(&delayed, "forker", &["--mib", "64"]);
}
