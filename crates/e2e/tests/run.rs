//! `memtide run` is invisible: standard input, output, signals and exit codes pass through.

use std::{process::Command, time::Duration};

use memtide_e2e::{MIB, Pool, PoolSpec, Running, machine, memtide};
use rustix::process::Signal;

const LIMIT: Duration = Duration::from_secs(30);

fn run(arguments: &[&str]) -> Command {
    let mut command = Command::new(memtide());
    command.args(["run", "--near", "128M", "--far", "128M", "--"]).args(arguments);
    command
}

#[test]
fn exit_codes_pass_through() {
    let _machine = machine();
    for code in [0, 1, 7, 42] {
        let finished =
            Running::start(&mut run(&["sh", "-c", &format!("exit {code}")])).finish(LIMIT);
        assert_eq!(finished.status.code(), Some(code), "{finished:?}");
        assert_eq!((&*finished.stdout, &*finished.stderr), ("", ""));
    }
}

#[test]
fn standard_streams_pass_through() {
    let _machine = machine();
    let mut running = Running::start(&mut run(&["sh", "-c", "cat; echo aside >&2"]));
    running.send("in and out");
    running.close_stdin();
    let finished = running.finish(LIMIT);
    finished.assert_success();
    assert_eq!((&*finished.stdout, &*finished.stderr), ("in and out", "aside"));
}

#[test]
fn signals_pass_through() {
    let _machine = machine();
    let script = "trap 'echo caught; exit 9' TERM; echo READY; while :; do sleep 0.05; done";
    let mut running = Running::start(&mut run(&["sh", "-c", script]));
    running.expect_line("READY", LIMIT);
    running.signal(Signal::TERM);
    running.expect_line("caught", LIMIT);
    assert_eq!(running.finish(LIMIT).status.code(), Some(9));
}

#[test]
fn a_program_that_is_not_there() {
    let _machine = machine();
    let finished = Running::start(&mut run(&["/no/such/program"])).finish(LIMIT);
    assert!(!finished.status.success());
    assert!(finished.stderr.contains("/no/such/program"), "{finished:?}");
}

#[test]
fn give_back_and_add_answer_in_whole() {
    let machine = machine();
    let pool = Pool::start(&machine, &PoolSpec::new(128, 256));
    let report = pool.give_back(128, "far", "5s");
    assert_eq!((report.returned, report.remaining), (128 * MIB, 0));
    assert_eq!(pool.status().node("far").offline, 128 * MIB);
    pool.add(128, "far");
    assert_eq!(pool.status().offline(), 0);
    pool.assert_all_free();
}
