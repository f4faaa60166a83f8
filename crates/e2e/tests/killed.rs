//! A program killed at any moment gives its memory back, and nothing of it is seen again.

use std::{sync::Arc, thread, time::Duration};

use memtide_e2e::{Pool, PoolSpec, Random, Tides, machine, program, seconds};

const LIMIT: Duration = Duration::from_secs(60);

#[test]
fn memory_of_killed_programs_returns_zeroed() {
    let machine = machine();
    let pool = Arc::new(Pool::start(&machine, &PoolSpec::new(256, 256)));
    let mut random = Random::new(machine.seed());
    let rounds = 2 + seconds(12).as_secs() / 2;
    let tides = Tides::begin(&pool, machine.seed(), 128);
    for round in 0..rounds {
        // One of: filling, being moved while writing, forking.
        let mut victim = match round % 3 {
            0 => pool.run(program("filler"), &[]),
            1 => pool.run(program("checksum"), &["--mib", "128", "--seconds", "60"]),
            _ => pool.run(program("forker"), &["--mib", "64", "--seconds", "60"]),
        };
        victim.expect_line("READY", LIMIT);
        if round % 3 == 0 {
            victim.send("fill 128");
        }
        thread::sleep(Duration::from_millis(random.below(700)));
        for pid in pool.status().programs.iter().map(|p| p.pid) {
            if let Some(pid) = rustix::process::Pid::from_raw(pid.cast_signed()) {
                let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
            }
        }
        let finished = victim.finish(LIMIT);
        assert!(!finished.status.success(), "{finished:?}");
        pool.wait_for("the killed program's memory", LIMIT, |status| {
            status.leased() == 0 && status.programs.is_empty()
        });
        // The next one takes nearly all there is, and finds nothing of the last.
        let mut next = pool.run_proof("filler", &[]);
        next.ask("zero-check 192", LIMIT);
        next.ask("fill 96", LIMIT);
        next.send("quit");
        next.finish(LIMIT).assert_pass();
    }
    let _ = tides.stop();
    pool.assert_all_free();
}
