//! The real binary on nodes of the kernel's: `run --near node0`, `adopt`. What needs two nodes is
//! tried in a guest (`crates/testbed/tests/vms/placement.rs`); one node is here, and is `node0`
//! unless the machine has none.

use std::{
    fs,
    os::unix::{fs::MetadataExt, process::CommandExt},
    process::{Child, Command, Output, Stdio},
};

use common::{code, err, json, out};

mod common;

fn memtide(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_memtide")).args(arguments).output().unwrap()
}

/// A program that does nothing, until it is dropped.
struct Sleeper(Child);

impl Sleeper {
    fn start() -> Self {
        let mut child =
            Command::new("sh").args(["-c", "echo; sleep 60"]).stdout(Stdio::piped()).spawn();
        // It has begun when it says so.
        let mut line = [0; 1];
        std::io::Read::read_exact(child.as_mut().unwrap().stdout.as_mut().unwrap(), &mut line)
            .unwrap();
        Self(child.unwrap())
    }

    fn pid(&self) -> String {
        self.0.id().to_string()
    }
}

impl Drop for Sleeper {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn a_program_and_its_children_run_under_the_policy() {
    let script = "cat /proc/$$/numa_maps; cat /proc/self/numa_maps; exit 7";
    let output = memtide(&["run", "--near", "node0", "--", "sh", "-c", script]);
    assert_eq!(code(&output), 7, "{output:?}");
    let text = out(&output);
    assert!(text.lines().count() > 20, "{text}");
    assert!(text.lines().all(|line| line.contains(" bind=static")), "{text}");
    let output = memtide(&[
        "run",
        "--near",
        "node0",
        "--placement",
        "interleave",
        "--",
        "cat",
        "/proc/self/numa_maps",
    ]);
    assert!(out(&output).lines().all(|line| line.contains(" interleave=static:0")), "{output:?}");
}

#[test]
fn a_report_says_where_the_memory_was() {
    let output = memtide(&["run", "--near", "node0", "--report", "--", "sleep", "0.5"]);
    assert_eq!(code(&output), 0);
    let text = err(&output);
    assert!(text.lines().any(|line| line.starts_with("memtide: node0 (near): ")), "{text}");
    assert!(text.contains(" processes seen, in "), "{text}");
}

#[test]
fn signals_and_failures_pass_through() {
    let output = memtide(&["run", "--near", "node0", "--", "sh", "-c", "kill -TERM $$"]);
    assert_eq!(code(&output), 143);
    assert_eq!(code(&memtide(&["run", "--near", "node0", "--", "/no/such/program"])), 127);
    assert_eq!(code(&memtide(&["run", "--near", "node0", "--", "/etc/passwd"])), 126);
}

#[test]
fn what_makes_no_sense_starts_nothing() {
    for (arguments, says) in [
        (&["--near", "node0", "--far", "1G"][..], "two sizes"),
        (&["--near", "64M", "--far", "node0"], "two sizes"),
        (&["--near", "node0", "--far", "node0"], "node0 is near and far"),
        (&["--near", "node1023"], "there is no node1023"),
        (&["--near", "node0", "--store", "memfd"], "--store is for pools"),
        (&["--near", "node0", "--on-full", "fail"], "--on-full is for pools"),
        (&["--near", "node0", "--socket", "/x"], "--socket is for pools"),
        (&["--near", "64M", "--placement", "interleave"], "--placement is for nodes"),
        (&["--near", "node0", "--placement", "far-first"], "no far node"),
        (&["--near", "nodes"], "node0-1,3"),
        (&["--near", "0-1"], "node0-1,3"),
    ] {
        let mut all = vec!["run"];
        all.extend(arguments);
        all.extend(["--", "echo", "started"]);
        let output = memtide(&all);
        assert_eq!(code(&output), 2, "{arguments:?}: {output:?}");
        assert!(err(&output).contains(says), "{arguments:?}: {}", err(&output));
        assert_eq!(out(&output), "", "{arguments:?}");
    }
}

#[test]
fn a_program_that_is_where_it_should_be_is_left_alone() {
    let sleeper = Sleeper::start();
    let output = memtide(&["adopt", &sleeper.pid(), "--to", "node0", "--json"]);
    assert_eq!(code(&output), 0, "{output:?}");
    let answer = json(&output);
    assert_eq!(answer["name"], "sh");
    for nothing in ["requested", "moved", "remaining", "shared"] {
        assert_eq!(answer[nothing], 0, "{answer}");
    }
    assert_eq!(answer["holders"], serde_json::json!([]));
    assert_eq!(answer["nodes"][0]["node"], "node0");
    assert!(answer["nodes"][0]["after"].as_u64().unwrap() > 100 << 10, "{answer}");
    let output = memtide(&["adopt", &sleeper.pid(), "--near", "node0", "--dry-run"]);
    assert!(out(&output).contains(": 0B would move\nNODE "), "{output:?}");
}

#[test]
fn who_cannot_be_adopted_is_said() {
    let sleeper = Sleeper::start();
    let pid = &sleeper.pid();
    for (arguments, says) in [
        (&["adopt", pid][..], "--near <NODES>|--far <NODES>|--to <NODES>"),
        (&["adopt", pid, "--to", "node0", "--near", "node0"], "cannot be used with"),
        (&["adopt", pid, "--to", "1"], "expected nodes such as node0"),
        (&["adopt", pid, "--to", "node1023"], "node1023 has no memory"),
        (&["adopt", pid, "--near", "node0", "--far", "node0"], "node0 is in two lists"),
        (&["adopt", "0", "--to", "node0"], "PID"),
        (&["adopt", "4194305", "--to", "node0"], "there is no process 4194305"),
    ] {
        let output = memtide(arguments);
        assert_eq!(code(&output), 2, "{arguments:?}: {output:?}");
        assert!(err(&output).contains(says), "{arguments:?}: {}", err(&output));
    }
}

#[test]
fn programs_of_others_are_none_of_ones_business() {
    const NOBODY: u32 = 65_534;
    let sleeper = Sleeper::start();
    if fs::metadata("/proc/self").unwrap().uid() != 0 {
        memtide_skip::skip("needs root, who alone can become somebody else");
        return;
    }
    // The binary's own folder may be closed to others.
    let folder = std::env::temp_dir().join(format!("memtide-nobody-{}", std::process::id()));
    fs::create_dir_all(&folder).unwrap();
    let copy = folder.join("memtide");
    fs::copy(env!("CARGO_BIN_EXE_memtide"), &copy).unwrap();
    let mut adopt = Command::new(&copy);
    adopt.args(["adopt", &sleeper.pid(), "--to", "node0"]).uid(NOBODY).gid(NOBODY);
    let output = adopt.output();
    fs::remove_dir_all(&folder).unwrap();
    let output = output.unwrap();
    assert_eq!(code(&output), 1, "{output:?}");
    let says = format!("process {} (sh) of user 0 may not be looked at", sleeper.pid());
    assert!(err(&output).contains(&says), "{output:?}");
    assert!(err(&output).contains("CAP_SYS_PTRACE"), "{output:?}");
}
