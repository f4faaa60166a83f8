//! `memtide sim run` on the shipped scenarios, their numbers within bounds, and on nonsense.

use std::{
    fs,
    path::PathBuf,
    process::{Command, Output},
};

use serde_json::Value;

const GIB: u64 = 1 << 30;

fn shipped(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../scenarios").join(name)
}

fn sim(arguments: &[&str]) -> Output {
    sim_what("run", arguments)
}

fn sim_what(what: &str, arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_memtide"))
        .args(["sim", what])
        .args(arguments)
        .output()
        .unwrap()
}

/// A directory of the test's own.
fn directory(name: &str) -> PathBuf {
    let path = std::env::temp_dir().join(format!("memtide-sim-{name}-{}", std::process::id()));
    fs::create_dir_all(&path).unwrap();
    path
}

/// Runs a shipped scenario with everything on.
fn run(name: &str) -> Value {
    let directory = directory(name);
    let file = shipped(name);
    let paths = [file.to_str().unwrap(), "--json", "--report", directory.to_str().unwrap()];
    let output = sim(&paths);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let outcome: Value = serde_json::from_slice(&output.stdout).unwrap();
    let written = fs::read(directory.join("results.json")).unwrap();
    assert_eq!(outcome, serde_json::from_slice::<Value>(&written).unwrap());
    let page = fs::read_to_string(directory.join("index.html")).unwrap();
    assert!(page.contains("<svg") && page.contains("Hildenbrand"));
    fs::remove_dir_all(directory).unwrap();
    outcome
}

#[test]
fn onlining_1tib_is_exact() {
    let outcome = run("onlining-1tib.toml");
    assert_eq!(outcome["results"]["kind"], "onlining");
    let first = &outcome["results"]["rows"][0];
    assert_eq!(first["movable_bytes"], GIB * 771 + GIB * 5 / 8);
    assert_eq!(first["kernel_bytes"], GIB * 252 + GIB * 3 / 8);
}

/// Hildenbrand's and Wilcox's claims, in numbers.
#[test]
fn comes_back_within_bounds() {
    let outcome = run("comes-back.toml");
    let rows = outcome["results"]["rows"].as_array().unwrap();
    assert_eq!(rows.len(), 8 * 4 * 3);
    let row = |policy: &str, percent: u64, granularity: u64| {
        let is = |row: &&Value| {
            row["policy"] == policy
                && row["unmovable_percent"] == percent
                && row["granularity_bytes"] == granularity
        };
        rows.iter().find(is).unwrap()
    };
    let back = |policy: &str, percent: u64, granularity: u64| {
        let row = row(policy, percent, granularity);
        row["returned_bytes"].as_u64().unwrap() * 100 / (20 * GIB)
    };
    let refused = |policy: &str, percent: u64| {
        row(policy, percent, GIB)["unmovable_refused"].as_u64().unwrap()
    };
    for percent in [1, 5, 10, 25] {
        // All MOVABLE comes back, in any unit; it refuses what does not fit into early memory.
        for granularity in [2 << 20, 128 << 20, GIB] {
            assert_eq!(back("all-movable", percent, granularity), 100);
            // What is MOVABLE comes back whatever else happens: 10, 13, 15, 16 of 20 GiB.
            for (policy, least) in [("1:1", 50), ("1:2", 65), ("1:3", 75), ("1:4", 80)] {
                assert!(back(policy, percent, granularity) >= least, "{policy} {percent}");
                assert_eq!(refused(policy, percent), 0);
            }
            // With some PREFER_MOVABLE more comes back than with only NORMAL.
            let [prefer, normal] =
                ["prefer-movable", "all-normal"].map(|name| back(name, percent, granularity));
            assert!(prefer >= normal, "{percent} {granularity}: {prefer} {normal}");
        }
        // All NORMAL: nearly everything in 2 MiB, less than a third in 1 GiB.
        assert!(back("all-normal", percent, 2 << 20) >= 90);
        assert!(back("all-normal", percent, GIB) <= 33, "{percent}");
        assert_eq!(refused("all-normal", percent), 0);
        assert_eq!(refused("prefer-movable", percent), 0);
        // Dedicated channels lose whole channels at most, and not all of them.
        assert!((60..100).contains(&back("exmem", percent, GIB)), "{percent}");
    }
    assert!(refused("all-movable", 25) > 0);
    assert!(back("prefer-movable", 10, GIB) == 100 && back("prefer-movable", 25, GIB) < 100);
}

#[test]
fn nonsense_is_refused_with_file_line_and_reason() {
    let directory = directory("bad");
    let text = fs::read_to_string(shipped("onlining-1tib.toml")).unwrap();
    for (from, to, reason) in [
        ("early =", "earlier =", "unknown field `earlier`"),
        ("\"1TiB\"", "\"1TiBs\"", "unknown unit"),
        ("\"1TiB\"", "\"1000PiB\"", "1PiB at most"),
    ] {
        let file = directory.join("bad.toml");
        fs::write(&file, text.replacen(from, to, 1)).unwrap();
        let output = sim(&[file.to_str().unwrap()]);
        assert_eq!(output.status.code(), Some(2));
        let message = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(message.contains("bad.toml:") && message.contains(reason), "{message}");
    }
    let missing = sim(&[directory.join("none.toml").to_str().unwrap()]);
    assert_eq!(missing.status.code(), Some(2));
    fs::remove_dir_all(directory).unwrap();
}

#[test]
fn a_device_of_16_gib_is_reported_and_any_number_of_jobs_says_the_same() {
    let directory = directory("device");
    let file = shipped("device-sixteen.toml");
    let run = |jobs: &str| {
        let report = directory.join(jobs);
        let paths = [file.to_str().unwrap(), "--jobs", jobs, "--report", report.to_str().unwrap()];
        let output = sim(&paths);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let page = fs::read_to_string(report.join("index.html")).unwrap();
        assert!(page.contains("<svg") && page.contains("McKenney"));
        (output.stdout, page, fs::read(report.join("results.json")).unwrap())
    };
    assert_eq!(run("1"), run("2"));
    fs::remove_dir_all(directory).unwrap();
}

#[test]
fn a_sweep_prints_every_combination() {
    let directory = directory("sweep");
    let file = shipped("onlining-1tib.toml");
    let file = file.to_str().unwrap();
    let report = directory.to_str().unwrap();
    let set = ["--set", "onlining.case.0.ratio=0,100,301"];
    let output = sim_what("sweep", &[file, set[0], set[1], "--json", "--report", report]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let swept: Value = serde_json::from_slice(&output.stdout).unwrap();
    let movable: Vec<u64> = swept["runs"]
        .as_array()
        .unwrap()
        .iter()
        .map(|run| run["results"]["rows"][0]["movable_bytes"].as_u64().unwrap())
        .collect();
    assert!(movable[0] == 0 && movable[1] < movable[2], "{movable:?}");
    assert!(directory.join("sweep-movable-gib.svg").exists());
    assert!(fs::read_to_string(directory.join("index.html")).unwrap().contains("<svg"));
    for (set, reason) in [
        ("onlining.case.9.ratio=1", "has no entry \"9\""),
        ("onlining.ratio=1", "ratio"),
        ("onlining.early=4Gib0", "unknown unit"),
    ] {
        let output = sim_what("sweep", &[file, "--set", set]);
        assert_eq!(output.status.code(), Some(2), "{set}");
        let message = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(message.contains(reason) && message.contains("onlining-1tib"), "{message}");
    }
    fs::remove_dir_all(directory).unwrap();
}

#[test]
fn a_fuzz_says_what_it_has_covered() {
    let output = sim_what("fuzz", &["--seeds", "0..50", "--json"]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let outcome: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(outcome["seeds"], 50);
    assert!(outcome["seen"]["in Lease"].as_u64().unwrap() > 50);
    let text = sim_what("fuzz", &["--seeds", "3..4"]);
    assert!(String::from_utf8_lossy(&text.stdout).contains("1 seeds"));
    for seeds in ["4..3", "4", "a..b", "0..99999999"] {
        assert_eq!(sim_what("fuzz", &["--seeds", seeds]).status.code(), Some(2), "{seeds}");
    }
}
