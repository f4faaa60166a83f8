//! Memory that a device may write to by reference is not moved, and the reason is said; what the
//! device wrote is there.

use std::{sync::Arc, thread, time::Duration};

use memtide_e2e::{MIB, Machine, Pool, PoolSpec, Running, Tides, machine, program, seconds};
use rustix::process::Signal;

const LIMIT: Duration = Duration::from_secs(60);

fn start(machine: &Machine, pool: &Pool, mode: &str, length: Duration) -> Option<Running> {
    let file = machine.directory().join("data");
    let file = file.to_str().expect("a path of text");
    let length = length.as_secs().to_string();
    let arguments = ["--mode", mode, "--mib", "64", "--seconds", &length, "--file", file];
    let mut running = pool.run(program("directio"), &arguments);
    let line = running.expect_line("", LIMIT);
    if line.starts_with("UNSUPPORTED") {
        memtide_e2e::machine::skip(&line);
        return None;
    }
    assert!(line.starts_with("READY"), "{line}");
    Some(running)
}

/// The program does asynchronous reads: nothing of it moves, for exactly this reason. Once it has
/// closed what it read with, everything moves.
fn refused_while_open(mode: &str, reason: &str) {
    let machine = machine();
    let pool = Pool::start(&machine, &PoolSpec::new(256, 512));
    let Some(running) = start(&machine, &pool, mode, seconds(5)) else { return };
    let pid = pool.pid_of("directio");
    thread::sleep(Duration::from_millis(300));

    let report = pool.move_memory(pid, "far", None);
    assert_eq!(report.returned, 0, "moved under an open {mode}: {report:?}");
    let others: Vec<_> = report.holders.iter().filter(|h| h.reason != reason).collect();
    assert!(others.is_empty() && report.held(reason) >= 64 * MIB, "{report:?}");

    let report = pool.give_back(256, "near", "2s");
    assert!(report.remaining > 0 && report.held(reason) > 0, "{report:?}");
    assert!(report.holders.iter().all(|h| h.pid == pid && h.name == "directio"), "{report:?}");
    assert!(pool.status().pinned(reason) > 0);

    running.signal(Signal::USR1);
    let mut running = running;
    running.expect_line("CLOSED", LIMIT);
    // The pager looks now and then whether what pinned everything is gone.
    pool.wait_for("the pins to go", LIMIT, |status| status.pinned(reason) == 0);
    let report = pool.move_memory(pid, "far", None);
    assert_eq!(report.remaining, 0, "{report:?}");
    running.finish(LIMIT).assert_pass();
    pool.assert_all_free();
}

#[test]
fn nothing_moves_while_an_io_uring_is_open() {
    refused_while_open("uring", "io-uring");
}

#[test]
fn nothing_moves_while_a_linux_aio_context_is_open() {
    refused_while_open("aio", "linux-aio");
}

#[test]
fn synchronous_direct_reads_lose_nothing() {
    let machine = machine();
    let pool = Arc::new(Pool::start(&machine, &PoolSpec::new(256, 512)));
    let length = seconds(6);
    let Some(mut running) = start(&machine, &pool, "sync", length) else { return };
    let tides = Tides::begin(&pool, machine.seed(), 256);
    thread::sleep(length * 2 / 3);
    // What is held while reads go on is held for no other reason.
    running.signal(Signal::USR1);
    running.expect_line("CLOSED", LIMIT);
    let finished = running.finish(length + LIMIT);
    let _ = tides.stop();
    finished.assert_pass();
    pool.assert_all_free();
}

#[test]
fn a_block_under_direct_read_is_a_holder_with_that_reason() {
    let machine = machine();
    let pool = Pool::start(&machine, &PoolSpec::new(256, 512));
    let Some(running) = start(&machine, &pool, "sync", Duration::from_secs(6)) else { return };
    let pid = pool.pid_of("directio");
    for _ in 0..10 {
        for to in ["far", "near"] {
            let report = pool.move_memory(pid, to, None);
            let wrong: Vec<_> = report
                .holders
                .iter()
                .filter(|h| h.reason != "direct-read" && h.reason != "moving")
                .collect();
            assert!(wrong.is_empty(), "{wrong:?}");
        }
    }
    running.finish(LIMIT).assert_pass();
    pool.assert_all_free();
}
