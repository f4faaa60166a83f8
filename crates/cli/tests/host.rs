//! The commands that look at a machine, on captured ones.

use std::{
    fs,
    os::unix::fs::symlink,
    path::PathBuf,
    process::{Command, Output},
    time::{Duration, Instant},
};

fn data(machine: &str) -> String {
    let data = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../host/tests/data");
    data.join(format!("{machine}.tar.gz")).to_str().unwrap().to_owned()
}

fn memtide(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_memtide")).args(arguments).output().unwrap()
}

fn done(arguments: &[&str]) -> String {
    let output = memtide(arguments);
    assert!(output.status.success(), "{arguments:?}: {output:?}");
    String::from_utf8(output.stdout).unwrap()
}

fn json(arguments: &[&str]) -> serde_json::Value {
    serde_json::from_str(&done(arguments)).unwrap()
}

fn refused(arguments: &[&str]) -> String {
    let output = memtide(arguments);
    assert_eq!(output.status.code(), Some(2), "{arguments:?}: {output:?}");
    assert!(output.stdout.is_empty());
    String::from_utf8(output.stderr).unwrap()
}

#[test]
fn topology_shows_the_way_to_each_memory() {
    let text = done(&["topology", "--root", &data("cxl-switch")]);
    for line in [
        "node1  none    1GiB    1GiB    22  Movable 1GiB",
        "node1        20     10",
        "node1  online  Movable       8    1GiB",
        "└─ dport 12: pci0000:0c",
        "            │  └─ endpoint3, of mem0 at 0000:0f:00.0, 1GiB ram, \
         firmware \"BWFW VERSION 00\"",
        "dax0.0  region0  1GiB   2MiB  system-ram  node1",
        "node0  node1  region0, dax0.0  1GiB    1GiB        20  -     -",
        "region0, position 0: root0 decoder0.0 → pci0000:0c (dport 12) → port1 decoder1.0 → \
         0000:0c:00.0 (dport 0) → port2 decoder2.0 → 0000:0e:00.0 (dport 0) → \
         endpoint3 decoder3.0 → mem0, 1GiB at 0x0",
        "not on this machine: latency and bandwidth from firmware (HMAT), virtio-mem",
    ] {
        assert!(text.lines().any(|it| it == line), "{line}\nis not in\n{text}");
    }
}

#[test]
fn topology_in_json_has_the_documented_shape() {
    let told = json(&["topology", "--json", "--root", &data("cxl-interleave2")]);
    assert_eq!(told["nodes"]["online"][0]["cpus"], serde_json::json!([0, 1]));
    assert_eq!(told["nodes"]["online"][1]["distances"][0]["distance"], 20);
    assert_eq!(told["tiers"][1], serde_json::json!({"tier": 22, "nodes": [1]}));
    assert_eq!(told["blocks"]["nodes"][1]["zones"][0]["zone"], "Movable");
    assert_eq!(told["cxl"]["decoders"][0]["kind"], "root");
    assert_eq!(told["cxl"]["decoders"][0]["targets"], serde_json::json!([12, 222]));
    let region = &told["memories"][1];
    assert_eq!((&region["kind"], &region["name"]), (&"region".into(), &"region0".into()));
    assert_eq!(region["node"], 1);
    assert_eq!(region["size"], 2u64 << 30);
    assert_eq!(region["ways"][1]["hops"][0]["device"], "pci0000:de");
    assert_eq!(region["ways"][1]["memdev"], "mem1");
    let told = json(&["topology", "--json", "--root", &data("hmat")]);
    assert_eq!(told["memories"][1]["from"][0]["read_latency_ns"], 250);
}

#[test]
fn this_machine_has_a_topology_quickly() {
    // The fastest of three: other tests run beside this one.
    let times = (0..3).map(|_| {
        let start = Instant::now();
        let text = done(&["topology"]);
        assert!(text.contains("not on this machine: ") || text.contains("root0"), "{text}");
        start.elapsed()
    });
    let fastest = times.min().unwrap();
    assert!(fastest < Duration::from_millis(500), "{fastest:?}");
    json(&["topology", "--json"]);
    json(&["map", "--json"]);
}

#[test]
fn the_map_names_windows_and_conflicts() {
    let text = done(&["map", "--root", &data("two-windows")]);
    for part in [
        "CXL Window 1  0x690000000-0x70fffffff  2GiB     1           222         1GiB",
        "    0x590000000-0x5cfffffff                       1GiB  dax0.0",
        "! conflict 1",
        "conflict 1: the SRAT does not say to which node",
        "the kernel's map is what firmware's tables come to",
    ] {
        assert!(text.contains(part), "{part}\nis not in\n{text}");
    }
    let told = json(&["map", "--json", "--root", &data("two-windows")]);
    assert_eq!(told["windows"][1]["host_bridges"], serde_json::json!([222]));
    assert_eq!(told["source"], "kernel");
    let conflict = &told["conflicts"][0];
    assert_eq!(conflict["kind"], "no-affinity");
    assert_eq!(conflict["sources"], serde_json::json!(["cedt", "srat"]));
    let party = &conflict["parties"][0];
    assert_eq!((&party["source"], party["name"].is_string()), (&"cedt".into(), true), "{party}");
    assert_eq!(
        (&party["start"], &party["last"]),
        (&0x5_9000_0000_u64.into(), &0x6_8fff_ffff_u64.into())
    );
    assert!(conflict["text"].as_str().unwrap().starts_with("the SRAT does not say"));
    let text = done(&["map", "--root", &data("plain-memmap")]);
    assert!(text.contains("difference: ") && text.contains("! not as firmware says"), "{text}");
}

#[test]
fn a_capture_is_the_machine_and_overwrites_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("machine.tar.gz");
    let file = file.to_str().unwrap();
    let told = json(&["capture", file, "--root", &data("cxl-switch"), "--json"]);
    assert!(told["files"].as_u64().unwrap() > 300, "{told}");
    for command in ["topology", "map"] {
        assert_eq!(
            done(&[command, "--root", file]),
            done(&[command, "--root", &data("cxl-switch")])
        );
    }
    assert!(refused(&["capture", file]).contains("exists: captures do not overwrite"));
    let nowhere = memtide(&["capture", "/nowhere/machine.tar.gz"]);
    assert_eq!(nowhere.status.code(), Some(1));
    // This machine's, too.
    let own = folder.path().join("own.tar.gz");
    done(&["capture", own.to_str().unwrap()]);
    assert!(done(&["topology", "--root", own.to_str().unwrap()]).contains("node0"));
}

#[test]
fn ports_in_a_ring_behind_many_dports_are_shown_once() {
    let folder = tempfile::tempdir().unwrap();
    let status = Command::new("tar")
        .args(["xzf", &data("cxl-switch"), "-C", folder.path().to_str().unwrap()])
        .status();
    assert!(status.unwrap().success());
    let devices = folder.path().join("sys/bus/cxl/devices");
    let real = folder.path().join("sys/ring/port1/port1");
    fs::create_dir_all(&real).unwrap();
    symlink("anywhere", real.join("parent_dport")).unwrap();
    for dport in 0..100 {
        symlink("anywhere", real.join(format!("dport{dport}"))).unwrap();
        symlink("anywhere", devices.join(format!("root0/dport{dport}"))).ok();
    }
    fs::remove_file(devices.join("port1")).unwrap();
    symlink("../../../ring/port1/port1", devices.join("port1")).unwrap();
    let text = done(&["topology", "--root", folder.path().to_str().unwrap()]);
    assert!(text.lines().count() < 1000 && text.contains("mem0"), "{text}");
}

#[test]
fn what_is_no_machine_is_refused() {
    let error = refused(&["topology", "--root", "/nowhere"]);
    assert!(error.contains("--root /nowhere: cannot read /nowhere: No such file"), "{error}");
    let error = refused(&["map", "--root", env!("CARGO_BIN_EXE_memtide")]);
    assert!(error.contains("is no tar file, gzipped or not"), "{error}");
}

#[test]
fn changes_are_planned_for_a_captured_machine() {
    let captured = data("cxl-switch");
    let told = json(&["offline", "--node", "1", "--dry-run", "--json", "--root", &captured]);
    assert_eq!(told["offline"].as_array().unwrap().len(), 8);
    assert_eq!(told["dry_run"], true);
    let error = refused(&["offline", "--node", "1", "--root", &captured]);
    assert!(error.contains("expected --dry-run with it"), "{error}");
    let error = refused(&["region", "create", "--dry-run", "--root", "/nowhere"]);
    assert!(error.contains("--root /nowhere: cannot read /nowhere: No such file"), "{error}");
}

#[test]
fn where_a_ratio_must_hold_asks_for_a_policy_with_ratios() {
    let (mode, captured) = (["dax", "mode", "dax0.0", "system-ram"], data("cxl-switch"));
    let with = ["--ratio-on", "machine", "--dry-run", "--root", &captured];
    let error = refused(&[&mode[..], &with[..]].concat());
    assert!(error.contains("expected the policy auto-movable with them"), "{error}");
}
