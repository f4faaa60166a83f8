//! A page of a running program goes bad on a CXL device.
//!
//! What emulation delivers of it: QEMU's device keeps a list of its poison, and answers the kernel
//! who asks for it; but a processor that reads such an address gets the old content, as the software
//! emulation has no poisoned reads. So the machine check that a processor raises then is injected
//! too, at the same address: from there on all is the kernel's own way, from the exception to the
//! signal.

use memtide_testbed::{Error, Guest, ready};
use serde_json::json;

use super::kit::{self, LONG};

/// `si_code` of a SIGBUS for memory that was touched after it went bad (sigaction(2)).
const BUS_MCEERR_AR: i32 = 4;

/// What a memory controller reports (AMD64 Architecture Programmer's Manual 2, 9.3.2, MCi_STATUS):
/// valid, uncorrected, enabled, address valid, signaled, deferred, poison; extended error code 8, a
/// memory error.
const STATUS: u64 = 0xbd00_1800_0008_009c;
/// The bank of the memory controller.
const BANK: u32 = 4;
/// MCG_STATUS: a machine check is in progress, and the program can be resumed.
const RESUMABLE: u32 = 5;

/// Raises a machine check for an address.
fn machine_check(guest: &Guest, address: u64) -> Result<(), Error> {
    let line = format!("mce 0 {BANK} {STATUS:#x} {RESUMABLE} {address:#x} 0");
    let said = guest.qmp().execute("human-monitor-command", json!({ "command-line": line }))?;
    println!("{said}");
    Ok(())
}

#[test]
fn a_program_loses_a_bad_page_and_nothing_else() -> Result<(), Error> {
    if !ready() {
        return Ok(());
    }
    let guest = kit::boot_cxl(&[kit::program("victim")])?;
    kit::region_of_one_gib(&guest)?;
    kit::ends(&guest, "online --node node1 --zone movable", 0);
    let run = "memtide run --near node0 --far node1 --placement far-first -- victim 8";
    let victim = guest.start(&format!("exec {run}"))?;
    victim.wait_for_output(LONG, "ready ")?;
    let said = victim.stdout()?;
    let line = said.lines().find_map(|line| line.strip_prefix("ready ")).expect("addresses");
    let addresses: Vec<u64> = line
        .split(' ')
        .map(|word| u64::from_str_radix(word.trim_start_matches("0x"), 16).expect("a number"))
        .collect();
    let region = guest.sh("cat /sys/bus/cxl/devices/region0/resource")?;
    let start = u64::from_str_radix(region.trim_start_matches("0x"), 16).expect("a number");
    println!("{addresses:x?} {start:x}");

    // The device knows, and the kernel learns it when it asks; the program goes on.
    guest.qmp().inject_poison("mem0", addresses[0] - start, 64)?;
    guest.sh("echo 1 >/sys/kernel/debug/tracing/events/cxl/cxl_poison/enable &&
         echo 1 >/sys/bus/cxl/devices/mem0/trigger_poison_list")?;
    let trace = guest.sh("cat /sys/kernel/debug/tracing/trace")?;
    println!("{trace}");
    std::thread::sleep(std::time::Duration::from_secs(20));
    println!("{}", victim.stdout()?);

    machine_check(&guest, addresses[1])?;
    std::thread::sleep(std::time::Duration::from_secs(20));
    println!("{}\n{}", victim.stdout()?, guest.console());

    guest.write("/sys/devices/system/memory/hard_offline_page", format!("{:#x}", addresses[0]))?;
    victim.wait_for_output(LONG, "lost ")?;
    assert!(victim.stdout()?.contains(&format!("lost 1024 {BUS_MCEERR_AR}")));
    let corrupted = "awk '/HardwareCorrupted/ {print $2}' /proc/meminfo";
    println!("{}", guest.sh(corrupted)?);

    // The rest of the block can be emptied and leaves, with the bad page in it.
    let answer = kit::json(&guest, "give-back 1GiB --from node1 --deadline 200s", 0);
    assert_eq!(kit::number(&answer, "returned"), kit::GIB, "{answer}");
    assert_eq!(kit::blocks(&guest, 1)?, "8 offline");

    // Not online again: the kernel refuses a block with bad pages, and memtide says so.
    let refused = guest.run_within(LONG, "memtide online --node node1 --zone movable")?;
    println!("{refused:?} {}", kit::blocks(&guest, 1)?);
    println!("{}", guest.console());

    victim.signal("TERM")?;
    let output = victim.wait(LONG)?;
    println!("{output:?}");
    kit::healthy(&guest)?;
    guest.powerdown()
}
