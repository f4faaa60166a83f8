//! fork keeps its meaning under memtide, while blocks move.

use std::{
    fs,
    path::Path,
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use memtide_e2e::{Pool, PoolSpec, Tides, machine, program, seconds};

fn wait_for_verdict(path: &Path, within: Duration) -> String {
    let deadline = Instant::now() + within;
    while !path.exists() {
        let log = fs::read_to_string(path.with_extension("log")).unwrap_or_default();
        assert!(Instant::now() < deadline, "no verdict within {within:?}: {log}");
        assert!(!log.contains("VERDICT FAIL"), "{log}");
        thread::sleep(Duration::from_millis(20));
    }
    fs::read_to_string(path).expect("reading the verdict")
}

#[test]
fn parent_and_child_see_their_own_writes() {
    let machine = machine();
    let pool = Arc::new(Pool::start(&machine, &PoolSpec::new(512, 1024)));
    for mode in ["snapshot", "isolation", "spawn"] {
        let (seed, length) = (machine.seed().to_string(), seconds(5));
        let length_text = length.as_secs().to_string();
        let arguments = ["--mode", mode, "--mib", "96", "--seed", &seed, "--seconds", &length_text];
        let victim = pool.run_proof("forker", &arguments);
        let tides = Tides::begin(&pool, machine.seed(), 768);
        let finished = victim.finish(length + Duration::from_secs(90));
        let _ = tides.stop();
        finished.assert_pass();
        pool.assert_all_free();
    }
}

#[test]
fn a_child_takes_over_when_its_parent_ends() {
    let machine = machine();
    let pool = Arc::new(Pool::start(&machine, &PoolSpec::new(512, 1024)));
    // daemon: the parent ends by itself; orphan: the child kills it.
    for mode in ["daemon", "orphan"] {
        let verdict = machine.directory().join(mode);
        let length = seconds(4).as_secs().to_string();
        let path = verdict.to_str().expect("a path of text");
        let arguments = ["--mode", mode, "--mib", "96", "--seconds", &length, "--file", path];
        let parent = pool.run(program("forker"), &arguments);
        let finished = parent.finish(Duration::from_secs(60));
        assert_eq!(finished.status.success(), mode == "daemon", "{finished:?}");
        // It must appear in the status on its own, and its memory must become movable.
        pool.wait_for("the daemonized child", Duration::from_secs(20), |status| {
            status.programs.iter().any(|p| p.connected && p.nodes.iter().any(|n| n.bytes > 0))
        });
        let tides = Tides::begin(&pool, machine.seed(), 768);
        let text = wait_for_verdict(&verdict, seconds(4) + Duration::from_secs(90));
        let _ = tides.stop();
        assert!(text.starts_with("VERDICT PASS"), "{mode}: {text}");
        pool.assert_all_free();
    }
}

#[test]
fn a_parent_that_waits_for_a_snapshot_is_a_holder_with_that_reason() {
    let machine = machine();
    let pool = Pool::start(&machine, &PoolSpec::new(512, 512));
    let script = "import os,sys,time
data = bytearray(os.urandom(1 << 20)) * 64
print('READY', flush=True)
pid = os.fork()
if pid == 0:
    time.sleep(3600)
sys.stdin.readline()
os.kill(pid, 9)
os.waitpid(pid, 0)
print('REAPED', flush=True)
sys.stdin.readline()
print('VERDICT PASS' if len(data) == 64 << 20 else 'VERDICT FAIL', flush=True)
";
    if !memtide_e2e::needs(&[("python3", "python3")]) {
        return;
    }
    let mut parent = pool.run("python3", &["-c", script]);
    parent.expect_line("READY", Duration::from_secs(30));
    pool.wait_for("memory shared with the child", Duration::from_secs(10), |status| {
        status.pinned("shared-with-child") > 0
    });
    let report = pool.give_back(512, "near", "1s");
    assert!(report.held("shared-with-child") > 0, "{report:?}");
    parent.send("");
    parent.expect_line("REAPED", Duration::from_secs(10));
    pool.wait_for("the memory to be the parent's alone", Duration::from_secs(10), |status| {
        status.pinned("shared-with-child") == 0
    });
    let report = pool.give_back(512, "near", "20s");
    assert_eq!(report.held("shared-with-child"), 0, "{report:?}");
    parent.send("");
    parent.finish(Duration::from_secs(10)).assert_pass();
}
