//! Traces of `memtide sim`: beside the scenario, regular files, in runs and in sweeps.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Output},
};

fn directory(name: &str) -> PathBuf {
    let path = std::env::temp_dir().join(format!("memtide-traces-{name}-{}", std::process::id()));
    fs::create_dir_all(&path).unwrap();
    path
}

/// A scenario that replays a file, beside which it lies.
fn scenario(directory: &Path, file: &str) -> String {
    let text = format!(
        r#"
title = "A trace"
claim = "It is replayed."
seed = 1
[tiering]
page = "4KiB"
policies = ["static"]
[tiering.machine]
threads = 1
migration-gbps = 4.0
tiers = [
    {{ latency-ns = 90.0, bandwidth-gbps = 60.0, load-factor = 0.2, capacity-percent = 50 }},
    {{ latency-ns = 220.0, bandwidth-gbps = 24.0, load-factor = 0.2, capacity-percent = 100 }},
]
[tiering.machine.costs]
sample-ns = 100.0
tick-ns = 20000.0
move-ns = 1000.0
copy-gbps = 8.0
stall-ns = 2000.0
[[tiering.workloads]]
name = "replayed"
visits = 1000
burst = 1
parallelism = 4
pattern.trace = {{ file = "{file}" }}
"#
    );
    let path = directory.join("trace.toml");
    fs::write(&path, text).unwrap();
    path.to_str().unwrap().to_owned()
}

fn sim(what: &str, arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_memtide"));
    command.args(["sim", what]).args(arguments).output().unwrap()
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn a_sweep_replays_the_trace_beside_the_scenario() {
    let directory = directory("sweep");
    let file = scenario(&directory, "lackey.txt");
    let line = |page: u64| format!(" L {:08x},8\n", page << 12);
    fs::write(directory.join("lackey.txt"), (1..200).map(line).collect::<String>()).unwrap();
    let run = sim("run", &[&file]);
    assert!(run.status.success(), "{}", said(&run));
    let set = ["--set", "tiering.workloads.0.visits=1000,2000", "--set", "tiering.page=4KiB,2MiB"];
    let swept = sim("sweep", &[&file, set[0], set[1], set[2], set[3], "--json"]);
    assert!(swept.status.success(), "{}", said(&swept));
    let swept: serde_json::Value = serde_json::from_slice(&swept.stdout).unwrap();
    assert_eq!(swept["runs"].as_array().unwrap().len(), 4);
    fs::remove_dir_all(directory).unwrap();
}

#[test]
fn a_trace_is_a_regular_file_beside_the_scenario() {
    let directory = directory("beside");
    let refused = |name: &str, reason: &str| {
        let file = scenario(&directory, name);
        for (what, set) in [("run", None), ("sweep", Some("tiering.workloads.0.visits=9"))] {
            let mut arguments = vec![file.as_str()];
            arguments.extend(set.iter().flat_map(|set| ["--set", *set]));
            let output = sim(what, &arguments);
            assert_eq!(output.status.code(), Some(2), "{name}: {}", said(&output));
            assert!(said(&output).contains(reason), "{name}: {}", said(&output));
        }
    };
    for name in ["/etc/passwd", "../trace", "a/b", "..", ""] {
        refused(name, "expected the plain name of a file");
    }
    refused("none", "No such file");
    fs::create_dir(directory.join("folder")).unwrap();
    refused("folder", "expected a regular file");
    let pipe = directory.join("pipe");
    assert!(Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    refused("pipe", "expected a regular file");
    // All holes: its length counts, nothing of it is read.
    let long = fs::File::create(directory.join("long")).unwrap();
    long.set_len((1 << 34) + 1).unwrap();
    refused("long", "17179869185 bytes; expected 17179869184 at most");
    fs::remove_dir_all(directory).unwrap();
}
