//! The daemon is killed and started again: programs run on, and the state is the same.

use std::{thread, time::Duration};

use memtide_e2e::{MIB, Pool, PoolSpec, Random, machine, report::Status, seconds};

const LIMIT: Duration = Duration::from_secs(60);

/// What must survive: who holds how much, where.
fn holdings(status: &Status) -> Vec<(u32, Vec<(String, u64)>)> {
    let mut all: Vec<_> = status
        .programs
        .iter()
        .filter(|p| p.connected)
        .map(|p| (p.pid, p.nodes.iter().map(|n| (n.node.clone(), n.bytes)).collect()))
        .collect();
    all.sort();
    all
}

fn returned(status: &Status, programs: usize) -> bool {
    status.programs.iter().filter(|p| p.connected).count() == programs
}

#[test]
fn programs_keep_what_they_hold_across_a_restart() {
    let machine = machine();
    let mut pool = Pool::start(&machine, &PoolSpec::new(256, 512));
    let mut idle = pool.run_proof("filler", &[]);
    idle.ask("fill 64", LIMIT);
    let pid = pool.pid_of("filler");
    let _ = pool.move_memory(pid, "far", Some(32));
    let _ = pool.give_back(64, "far", "5s");
    let before = pool.status();

    pool.kill_daemon();
    idle.ask("rewrite", LIMIT);
    pool.start_daemon();
    let after = pool.wait_for("the program to come back", LIMIT, |s| returned(s, 1));
    assert_eq!(holdings(&before), holdings(&after));
    for (was, is) in before.nodes.iter().zip(&after.nodes) {
        assert_eq!((was.leased, was.offline), (is.leased, is.offline), "{was:?} {is:?}");
    }
    idle.ask("verify", LIMIT);
    let report = pool.move_memory(pid, "near", None);
    assert_eq!(report.remaining, 0, "{report:?}");
    idle.ask("verify", LIMIT);
    idle.ask("free-half", LIMIT);
    idle.ask("fill 32", LIMIT);
    idle.send("quit");
    idle.finish(LIMIT).assert_pass();
    pool.assert_all_free();
}

#[test]
fn the_daemon_is_killed_again_and_again_while_programs_write() {
    let machine = machine();
    let mut pool = Pool::start(&machine, &PoolSpec::new(512, 512));
    let mut random = Random::new(machine.seed());
    let length = seconds(10);
    let length_text = length.as_secs().to_string();
    let checksum = pool.run_proof("checksum", &["--mib", "128", "--seconds", &length_text]);
    let churn = pool.run_proof("churn", &["--threads", "1", "--seconds", &length_text]);
    let pid = pool.pid_of("checksum");
    let end = std::time::Instant::now() + length - Duration::from_secs(2);
    let mut kills = 0;
    while std::time::Instant::now() < end {
        let to = if random.below(2) == 0 { "near" } else { "far" };
        // Some moves are under way when the daemon dies.
        let pid_text = pid.to_string();
        let mut asking = pool.command(&["move", "--pid", &pid_text, "--to", to, "--json"]);
        thread::sleep(Duration::from_millis(random.below(40)));
        pool.kill_daemon();
        kills += 1;
        asking.kill();
        thread::sleep(Duration::from_millis(random.below(300)));
        pool.start_daemon();
        pool.wait_for("both programs to come back", LIMIT, |s| returned(s, 2));
    }
    assert!(kills > 2);
    checksum.finish(length + LIMIT).assert_pass();
    churn.finish(length + LIMIT).assert_pass();
    pool.assert_all_free();
}

#[test]
fn memory_of_a_program_that_ended_meanwhile_is_free_after_a_restart() {
    let machine = machine();
    let mut pool = Pool::start(&machine, &PoolSpec::new(256, 256));
    let mut filler = pool.run_proof("filler", &[]);
    filler.ask("fill 64", LIMIT);
    assert!(pool.status().leased() >= 64 * MIB);
    pool.kill_daemon();
    filler.send("quit");
    filler.finish(LIMIT).assert_pass();
    pool.start_daemon();
    pool.assert_all_free();
    let mut next = pool.run_proof("filler", &[]);
    next.ask("zero-check 160", LIMIT);
    next.send("quit");
    next.finish(LIMIT).assert_pass();
}
