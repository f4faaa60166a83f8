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
    Command::new(env!("CARGO_BIN_EXE_memtide"))
        .args(["sim", "run"])
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
