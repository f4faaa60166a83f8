//! Commands that change the machine, on folders that are none: exit codes, and that nothing is
//! written.

use std::{
    fs,
    path::Path,
    process::{Command, Output},
};

fn memtide(arguments: &[&str], root: &Path) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_memtide"));
    command.args(arguments).arg("--root").arg(root);
    command.output().unwrap()
}

fn error(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// Node 1 has blocks 8 and 9, offline.
fn tree() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let memory = folder.path().join("sys/devices/system/memory");
    fs::create_dir_all(&memory).unwrap();
    fs::write(memory.join("block_size_bytes"), "8000000\n").unwrap();
    for number in [8, 9] {
        let block = memory.join(format!("memory{number}"));
        fs::create_dir_all(block.join("node1")).unwrap();
        fs::write(block.join("phys_index"), format!("{number:08x}\n")).unwrap();
        fs::write(block.join("state"), "offline\n").unwrap();
        fs::write(block.join("valid_zones"), "Normal Movable\n").unwrap();
    }
    folder
}

#[test]
fn a_captured_tree_is_planned_for_and_never_written_to() {
    let tree = tree();
    let online = ["online", "--node", "1", "--zone", "movable"];
    let refused = memtide(&online, tree.path());
    assert_eq!(refused.status.code(), Some(2));
    assert!(error(&refused).contains("expected --dry-run with it"), "{}", error(&refused));
    let planned = memtide(&[&online[..], &["--dry-run"]].concat(), tree.path());
    assert_eq!(planned.status.code(), Some(0), "{}", error(&planned));
    assert_eq!(
        String::from_utf8_lossy(&planned.stdout),
        "echo online_movable > /sys/devices/system/memory/memory8/state\n\
         echo online_movable > /sys/devices/system/memory/memory9/state\n\
         # 256MiB online in zone movable (zone movable): blocks 8-9\n"
    );
    let state = tree.path().join("sys/devices/system/memory/memory8/state");
    assert_eq!(fs::read_to_string(state).unwrap(), "offline\n");
}

#[test]
fn json_has_the_steps_and_what_was_decided() {
    let tree = tree();
    let online = ["online", "--size", "1", "--zone", "kernel", "--dry-run", "--json"];
    let planned = memtide(&online, tree.path());
    let json: serde_json::Value = serde_json::from_slice(&planned.stdout).unwrap();
    assert_eq!(json["dry_run"], true);
    assert_eq!(json["online"][0]["block"], 8);
    assert_eq!(json["online"][0]["zone"], "kernel");
    assert_eq!(json["online"][0]["kernel_says"], "Normal");
    assert_eq!(json["online"].as_array().unwrap().len(), 1);
    assert_eq!(json["steps"].as_array().unwrap().len(), 1);
}

#[test]
fn what_makes_no_sense_is_exit_code_2_and_a_machine_without_it_1() {
    let tree = tree();
    for (arguments, code, expected) in [
        (&["online", "--dry-run"][..], 2, "required"),
        (&["online", "9-8", "--dry-run"], 2, "expected blocks such as"),
        (&["online", "7", "--dry-run"], 2, "there is no memory7"),
        (&["online", "8", "--zone", "kernel", "--ratio", "3", "--dry-run"], 2, "--ratio"),
        (&["online", "8", "--ratio", "100001", "--dry-run"], 2, "100001"),
        (&["offline", "--node", "4", "--dry-run"], 2, "no memory block belongs to node4"),
        (&["region", "create", "--dry-run"], 1, "there is no CXL window"),
        (&["region", "create", "--mode", "pmem", "--dry-run"], 2, "pmem"),
        (&["region", "destroy", "region0", "--dry-run"], 2, "no such CXL region"),
        (&["dax", "mode", "dax0.0", "devdax", "--dry-run"], 2, "no such dax device"),
    ] {
        let output = memtide(arguments, tree.path());
        assert_eq!(output.status.code(), Some(code), "{arguments:?}: {}", error(&output));
        assert!(error(&output).contains(expected), "{arguments:?}: {}", error(&output));
    }
}
