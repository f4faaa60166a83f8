//! Commands that change the machine, on folders that are none: exit codes, and that nothing is
//! written.

use std::{
    fs,
    path::Path,
    process::{Command, Output},
};

use common::{err, json, out};
use serde_json::json;

mod common;

fn memtide(arguments: &[&str], root: &Path) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_memtide"));
    command.args(arguments).arg("--root").arg(root);
    command.output().unwrap()
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
    assert!(err(&refused).contains("expected --dry-run with it"), "{}", err(&refused));
    let planned = memtide(&[&online[..], &["--dry-run"]].concat(), tree.path());
    assert_eq!(planned.status.code(), Some(0), "{}", err(&planned));
    assert_eq!(
        out(&planned),
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
    let json = json(&planned);
    assert_eq!(json["dry_run"], true);
    assert_eq!(json["online"][0]["block"], 8);
    assert_eq!(json["online"][0]["zone"], "kernel");
    assert_eq!(json["online"][0]["kernel_says"], "Normal");
    assert_eq!(json["online"].as_array().unwrap().len(), 1);
    assert_eq!(json["steps"].as_array().unwrap().len(), 1);
}

#[test]
fn a_give_back_shows_what_it_would_try() {
    let tree = tree();
    for (number, zone) in [(8, "Normal"), (9, "Movable")] {
        let block = tree.path().join(format!("sys/devices/system/memory/memory{number}"));
        fs::write(block.join("state"), "online\n").unwrap();
        fs::write(block.join("valid_zones"), format!("{zone}\n")).unwrap();
    }
    let give_back = ["give-back", "128M", "--from", "node1", "--dry-run"];
    let planned = memtide(&give_back, tree.path());
    assert_eq!(planned.status.code(), Some(0), "{}", err(&planned));
    assert_eq!(
        out(&planned),
        "echo offline > /sys/devices/system/memory/memory9/state\n\
         # 128MiB of 128MiB would be tried: blocks 9\n\
         # what is in them only root sees\n\
         # if some of them stay, 128MiB more: blocks 8\n"
    );
    let told = json(&memtide(&[&give_back[..], &["--json"]].concat(), tree.path()));
    assert_eq!((&told["dry_run"], &told["requested"]), (&true.into(), &(128u64 << 20).into()));
    assert_eq!((&told["leaving"][0]["block"], &told["next"][0]["block"]), (&9.into(), &8.into()));
    assert_eq!((&told["next"][0]["zone"], &told["hopeless"]), (&"Normal".into(), &json!([])));

    // What is in them: free, but for a page of a program's and, in block 8, a slab.
    let page = |number: u64, page: u64| usize::try_from((number << 27) / 4096 + page).unwrap();
    let mut flags = vec![1u64 << 10; page(10, 0)];
    flags[page(9, 7)] = 1 << 12;
    flags[page(8, 7)] = 1 << 7;
    let bytes: Vec<u8> = flags.iter().flat_map(|word| word.to_ne_bytes()).collect();
    fs::create_dir(tree.path().join("proc")).unwrap();
    fs::write(tree.path().join("proc/kpageflags"), bytes).unwrap();
    let all = ["give-back", "1G", "--from", "node1", "--dry-run"];
    let text = out(&memtide(&all, tree.path()));
    for line in [
        "# 128MiB of 1GiB would be tried: blocks 9\n",
        "# 4KiB in them would be moved to other nodes\n",
        "# not tried, with the kernel's own data in them, 128MiB: blocks 8\n",
    ] {
        assert!(text.contains(line), "{line} is not in {text}");
    }
    let state = tree.path().join("sys/devices/system/memory/memory9/state");
    assert_eq!(fs::read_to_string(state).unwrap(), "online\n");
}

#[test]
fn programs_that_are_bound_keep_a_node_from_going_offline() {
    let tree = tree();
    for number in [8, 9] {
        let block = tree.path().join(format!("sys/devices/system/memory/memory{number}"));
        fs::write(block.join("state"), "online\n").unwrap();
    }
    let program = tree.path().join("proc/12");
    fs::create_dir_all(&program).unwrap();
    let stat = "12 (hog) S 1 12 12 0 -1 0 0 0 0 0 0 0 0 0 20 0 1 0 777 0 0";
    fs::write(program.join("stat"), stat).unwrap();
    fs::write(program.join("comm"), "hog\n").unwrap();
    let maps = "7f0000000000 bind:1 anon=3 dirty=3 N1=3 kernelpagesize_kB=4\n";
    fs::write(program.join("numa_maps"), maps).unwrap();
    for all in [&["--node", "1"][..], &["8-9"]] {
        let output = memtide(&[&["offline", "--dry-run"], all].concat(), tree.path());
        assert_eq!(output.status.code(), Some(2), "{output:?}");
        assert!(err(&output).contains("bound to it: hog (pid 12); expected"), "{output:?}");
    }
    // With a block left, or bound to more than that node, it lives on.
    let output = memtide(&["offline", "--dry-run", "9"], tree.path());
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    fs::write(program.join("numa_maps"), maps.replace("bind:1", "bind:0-1")).unwrap();
    let output = memtide(&["offline", "--dry-run", "--node", "1"], tree.path());
    assert_eq!(output.status.code(), Some(0), "{output:?}");
}

#[test]
fn blocks_that_are_online_elsewhere_are_said_to_be_there() {
    let tree = tree();
    let block = tree.path().join("sys/devices/system/memory/memory9");
    fs::write(block.join("state"), "online\n").unwrap();
    fs::write(block.join("valid_zones"), "Normal\n").unwrap();
    for (zone, says) in [
        ("kernel", "# 128MiB were online already, in zone Normal: blocks 9\n"),
        (
            "movable",
            "# 128MiB were online already, in zone Normal, not as asked for (zone movable); take \
             them offline first: blocks 9\n",
        ),
    ] {
        let online = ["online", "--node", "1", "--zone", zone, "--dry-run"];
        let planned = memtide(&online, tree.path());
        assert_eq!(planned.status.code(), Some(0), "{}", err(&planned));
        assert!(out(&planned).ends_with(says), "{}", out(&planned));
    }
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
        (&["give-back", "1G", "--from", "node4", "--dry-run"], 2, "expected one of node1"),
        (&["give-back", "1G", "--from", "node1"], 2, "expected --dry-run with it"),
        (&["give-back", "1G", "--from", "far", "--dry-run"], 2, "expected a node such as node1"),
        (
            &["give-back", "1G", "--dry-run"],
            2,
            "--dry-run and --root: expected a node of the kernel",
        ),
        (&["offline", "--node", "4", "--dry-run"], 2, "no memory block belongs to node4"),
        (&["region", "create", "--dry-run"], 1, "there is no CXL window"),
        (&["region", "create", "--mode", "pmem", "--dry-run"], 2, "pmem"),
        (&["region", "destroy", "region0", "--dry-run"], 2, "no such CXL region"),
        (&["dax", "mode", "dax0.0", "devdax", "--dry-run"], 2, "no such dax device"),
    ] {
        let output = memtide(arguments, tree.path());
        assert_eq!(output.status.code(), Some(code), "{arguments:?}: {}", err(&output));
        assert!(err(&output).contains(expected), "{arguments:?}: {}", err(&output));
    }
}
