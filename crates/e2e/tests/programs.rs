//! The proof programs pass without memtide: what they check holds on plain Linux, and a failure
//! under memtide is memtide's.

use std::{
    process::Command,
    thread,
    time::{Duration, Instant},
};

use memtide_e2e::{Finished, Running, machine, program};
use rustix::process::Signal;

const LIMIT: Duration = Duration::from_secs(60);

fn run(name: &str, arguments: &[&str]) -> Finished {
    let running = Running::start(Command::new(program(name)).args(arguments));
    let finished = running.finish(LIMIT);
    finished.assert_pass();
    finished
}

#[test]
fn checksum_passes_and_times_its_stalls() {
    let _machine = machine();
    let finished = run("checksum", &["--seconds", "1", "--mib", "64", "--stalls"]);
    assert!(finished.number("ops") > 100_000.0);
    assert!(finished.number("max_us") >= finished.number("p50_us"));
    let finished = run("checksum", &["--ops", "1000000", "--mib", "16", "--threads", "3"]);
    assert!(finished.number("ops") >= 1_000_000.0);
}

#[test]
fn forker_passes() {
    let _machine = machine();
    run("forker", &["--seconds", "1", "--mib", "32"]);
}

#[test]
fn a_daemonized_forker_reports_when_its_parents_are_gone() {
    let machine = machine();
    for mode in ["daemon", "orphan"] {
        let verdict = machine.directory().join(mode);
        let path = verdict.to_str().expect("a path of text");
        let arguments = ["--mode", mode, "--seconds", "0.5", "--mib", "16", "--file", path];
        let _ = Running::start(Command::new(program("forker")).args(arguments)).finish(LIMIT);
        let deadline = Instant::now() + LIMIT;
        while !verdict.exists() {
            assert!(Instant::now() < deadline, "no verdict of {mode}");
            thread::sleep(Duration::from_millis(20));
        }
        let text = std::fs::read_to_string(&verdict).expect("reading the verdict");
        assert!(text.starts_with("VERDICT PASS"), "{mode}: {text}");
    }
}

#[test]
fn futexer_passes() {
    let _machine = machine();
    run("futexer", &["--seconds", "1", "--mib", "32"]);
    run("futexer", &["--seconds", "1", "--mib", "32", "--mode", "pi"]);
}

#[test]
fn directio_passes_and_stops_its_transfers_on_request() {
    let machine = machine();
    for mode in ["sync", "uring", "aio"] {
        let path = machine.directory().join("data");
        let mut command = Command::new(program("directio"));
        command.args(["--mode", mode, "--mib", "32", "--seconds", "1.5", "--file"]).arg(&path);
        let mut running = Running::start(&mut command);
        running.expect_line("READY", LIMIT);
        thread::sleep(Duration::from_millis(500));
        running.signal(Signal::USR1);
        running.expect_line("CLOSED", LIMIT);
        running.finish(LIMIT).assert_pass();
    }
}

#[test]
fn filler_obeys() {
    let _machine = machine();
    let mut filler = Running::start(&mut Command::new(program("filler")));
    for command in
        ["fill 32", "verify", "dontneed", "rewrite", "free-half", "zero-check 8", "exhaust 4"]
    {
        filler.ask(command, LIMIT);
    }
    filler.send("quit");
    filler.finish(LIMIT).assert_pass();
}

#[test]
fn toucher_and_churn_pass() {
    let _machine = machine();
    run("churn", &["--seconds", "1"]);
    let mut toucher = Running::start(&mut Command::new(program("toucher")));
    toucher.expect_line("READY", LIMIT);
    toucher.send("");
    toucher.finish(LIMIT).assert_pass();
}
