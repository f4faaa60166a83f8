//! What these tests have in common: guests with `memtide`, its answers, and what a kernel must not
//! say.

use std::{
    env,
    path::{Path, PathBuf},
    process::Command,
    sync::Mutex,
    time::Duration,
};

use memtide_testbed::{Error, Guest, Initramfs, Machine, Output, machines, places};
use serde_json::Value;

/// Longer than anything takes on a busy computer.
pub const LONG: Duration = Duration::from_secs(240);
/// Memory blocks of emulated x86 machines of this size.
pub const BLOCK: u64 = 128 * MIB;
pub const MIB: u64 = 1 << 20;
pub const GIB: u64 = 1 << 30;

/// Runs a tool of this computer.
fn tool(command: &mut Command) {
    let output = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let complaint = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {complaint}");
}

/// A program of `tests/programs`, compiled.
pub fn program(name: &str) -> PathBuf {
    // Of two tests that want the same program, the second waits for the first.
    static COMPILING: Mutex<()> = Mutex::new(());
    let _turn = COMPILING.lock().expect("no test has panicked in here");
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/programs/{name}.c"));
    let part = places::kept().expect("a folder").join(format!("{name}-{}", std::process::id()));
    let flags = ["-O2", "-std=gnu11", "-D_GNU_SOURCE", "-Wall", "-Wextra", "-Werror", "-o"];
    let compiler = env::var_os("CC").unwrap_or_else(|| "cc".into());
    tool(Command::new(compiler).args(flags).arg(&part).arg(source));
    let program = part.with_file_name(name);
    std::fs::rename(&part, &program).expect("the same folder");
    program
}

/// A guest with `memtide` and these programs, in which the kernel moves nothing by itself.
pub fn boot(machine: Machine, programs: &[PathBuf]) -> Result<Guest, Error> {
    let mut initramfs = Initramfs::new().program(memtide_e2e::memtide(), "/bin/memtide");
    for program in programs {
        let name = program.file_name().expect("a program").to_string_lossy().into_owned();
        initramfs = initramfs.program(program, &format!("/bin/{name}"));
    }
    let machine = machine.kernel_argument("numa_balancing=disable");
    Guest::boot_with(&machine, &initramfs)
}

/// Runs `memtide` with these words, which must end with this code.
#[track_caller]
pub fn ends(guest: &Guest, words: &str, code: i32) -> Output {
    let output = guest.run_within(LONG, &format!("memtide {words}")).expect("the guest lives");
    let Output { status, stdout, stderr } = &output;
    assert_eq!(*status, code, "memtide {words}\n{stdout}{stderr}{}", guest.console());
    output
}

/// The JSON that `memtide` prints when it ends with this code.
#[track_caller]
pub fn json(guest: &Guest, words: &str, code: i32) -> Value {
    let output = ends(guest, &format!("{words} --json"), code);
    let told = serde_json::from_str(&output.stdout);
    told.unwrap_or_else(|error| panic!("memtide {words}: {error}\n{}", output.stdout))
}

/// What memtide shows of a machine, but what changes by itself: how much memory is free, and the
/// watermarks, which the kernel works out anew whenever memory comes or goes.
#[track_caller]
pub fn shown(guest: &Guest) -> Value {
    let mut topology = json(guest, "topology", 0);
    forget_moments(&mut topology);
    topology
}

fn forget_moments(value: &mut Value) {
    match value {
        Value::Object(fields) => {
            fields.retain(|name, _| !["free", "min", "low", "high"].contains(&name.as_str()));
            fields.values_mut().for_each(forget_moments);
        }
        Value::Array(items) => items.iter_mut().for_each(forget_moments),
        _ => {}
    }
}

/// What a topology says of memory in use. Not of decoders: an unused one keeps the range and
/// granularity that it had; nor of devices: one that is plugged in again has another number.
pub fn memory(topology: &Value) -> [&Value; 4] {
    let cxl = &topology["cxl"];
    [&topology["nodes"], &topology["blocks"], &topology["dax"], &cxl["regions"]]
}

/// A number in an answer.
#[track_caller]
pub fn number(answer: &Value, key: &str) -> u64 {
    answer[key].as_u64().unwrap_or_else(|| panic!("{key} of {answer}"))
}

/// The states of a node's blocks, with their zones where they are online: `8 offline`,
/// `6 online Movable, 2 online Normal`.
pub fn blocks(guest: &Guest, node: u32) -> Result<String, Error> {
    let script = "cd /sys/devices/system/node/nodeN 2>/dev/null || exit 0
        for block in memory[0-9]*; do
            [ -e $block/state ] || continue
            state=$(cat $block/state)
            [ $state = online ] && state=\"$state $(cat $block/valid_zones)\"
            echo $state
        done | sort | uniq -c";
    let counted = guest.sh(&script.replace('N', &node.to_string()))?;
    Ok(counted.lines().map(str::trim).collect::<Vec<_>>().join(", "))
}

/// Waits until the blocks of a node are these.
pub fn wait_for_blocks(guest: &Guest, node: u32, count: usize) -> Result<(), Error> {
    let list = format!("ls -d /sys/devices/system/node/node{node}/memory[0-9]* | wc -l");
    guest.wait_until(LONG, &format!("[ $({list}) = {count} ]")).map(|_| ())
}

/// A machine with one CXL device of 1 GiB, which the kernel has found.
pub fn boot_cxl(programs: &[PathBuf]) -> Result<Guest, Error> {
    let guest = boot(machines::cxl_direct(), programs)?;
    guest.wait_until(LONG, "ls -d /sys/bus/cxl/devices/endpoint*")?;
    Ok(guest)
}

/// Makes the region of a machine's only CXL device; its blocks are there, and offline.
#[track_caller]
pub fn region_of_one_gib(guest: &Guest) -> Result<(), Error> {
    let made = json(guest, "region create", 0);
    assert_eq!((made["region"].as_str(), number(&made, "size")), (Some("region0"), GIB), "{made}");
    wait_for_blocks(guest, 1, 8)?;
    assert_eq!(blocks(guest, 1)?, "8 offline");
    Ok(())
}

/// The kernel has complained of nothing, and memory can be had and returned.
pub fn healthy(guest: &Guest) -> Result<(), Error> {
    let console = guest.console();
    let complaints = ["BUG:", "Oops", "WARNING:", "Call Trace", "Bad page", "RCU stall"];
    for line in console.lines() {
        assert!(!complaints.iter().any(|word| line.contains(word)), "{line}\n{console}");
    }
    let script = "dd if=/dev/urandom of=/tmp/health bs=1M count=16 2>/dev/null &&
        cp /tmp/health /tmp/health2 && cmp /tmp/health /tmp/health2 && rm /tmp/health*";
    guest.sh(script).map(|_| ())
}
