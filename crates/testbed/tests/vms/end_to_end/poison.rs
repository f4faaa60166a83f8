//! A page of a running program goes bad on a CXL device.
//!
//! What emulation delivers of it: QEMU's device keeps a list of its poison, and the kernel, when it
//! asks, translates each entry to an address of the machine. But a processor that reads such an
//! address gets the old content, for software emulation has no poisoned reads; nor does a machine
//! check injected by QEMU's monitor reach the kernel. So the kernel itself is told that the page is
//! bad (Documentation/ABI/testing/sysfs-memory-page-offline, `hard_offline_page`), which is what
//! its machine check handler does with an address: all from there on is its own way.

use memtide_testbed::{Error, Guest, ready};

use super::kit::{self, LONG};

/// `si_code` of a SIGBUS for memory that was touched after it went bad (sigaction(2)).
const BUS_MCEERR_AR: i32 = 4;

fn hexadecimal(text: &str) -> u64 {
    u64::from_str_radix(text.trim_start_matches("0x"), 16).unwrap_or_else(|_| panic!("{text:?}"))
}

/// What the kernel reads from the device's list of poison.
fn poison_list(guest: &Guest) -> Result<String, Error> {
    guest.sh("echo 1 >/sys/kernel/debug/tracing/events/cxl/cxl_poison/enable &&
         echo 1 >/sys/bus/cxl/devices/mem0/trigger_poison_list &&
         cat /sys/kernel/debug/tracing/trace")
}

#[test]
fn a_program_loses_a_bad_page_and_nothing_else() -> Result<(), Error> {
    if !ready() {
        return Ok(());
    }
    let guest = kit::boot_cxl(&[kit::program("victim")])?;
    kit::region_of_one_gib(&guest)?;
    kit::ends(&guest, "online --node node1 --zone movable", 0);
    let run = "memtide run --near node0 --far node1 --placement far-first -- victim 4";
    let victim = guest.start(&format!("exec {run}"))?;
    victim.wait_for_output(LONG, "ready ")?;
    let said = victim.stdout()?;
    let page = said.lines().find_map(|line| line.strip_prefix("ready ")).expect("an address");
    let address = hexadecimal(page);
    let start = hexadecimal(&guest.sh("cat /sys/bus/cxl/devices/region0/resource")?);

    // The device knows, and the kernel learns of which region and address it is when it asks.
    guest.qmp().inject_poison("mem0", address - start, 64)?;
    let listed = poison_list(&guest)?;
    assert!(listed.contains("region=region0 "), "{listed}");
    assert!(listed.contains(&format!("hpa={address:#x} dpa={:#x} ", address - start)), "{listed}");
    guest.write("/sys/devices/system/memory/hard_offline_page", format!("{address:#x}"))?;
    victim.wait_for_output(LONG, "lost ")?;
    assert!(victim.stdout()?.contains(&format!("lost 512 {BUS_MCEERR_AR}\n")));
    let corrupted = "awk '/HardwareCorrupted/ {print $2}' /proc/meminfo";
    assert_eq!(guest.sh(corrupted)?, "4", "KiB: one page");
    let shown = guest.sh("memtide topology")?;
    assert!(shown.contains("node1: 1 pages went bad since boot: 1 recovered"), "{shown}");

    // All else in its block can be moved, and the block goes offline with the bad page in it.
    let answer = kit::json(&guest, "give-back 1GiB --from node1 --deadline 200s", 0);
    assert_eq!(kit::number(&answer, "returned"), kit::GIB, "{answer}");
    assert_eq!(kit::blocks(&guest, 1)?, "8 offline");
    // There it stays: the kernel remembers, takes the others back, and memtide says which it is.
    let bad = format!("memory{}", address / kit::BLOCK);
    let refused = kit::ends(&guest, "online --node node1 --zone movable", 1).stderr;
    assert!(refused.contains(&format!("{bad} has bad pages")), "{refused}");
    assert!(refused.contains("what was done before it has been taken back"), "{refused}");
    assert_eq!(kit::blocks(&guest, 1)?, "8 offline");
    let others =
        "cd /sys/devices/system/node/node1 && ls -d memory[0-9]* | grep -vx BAD | tr '\\n' ','";
    let others = guest.sh(&others.replace("BAD", &bad))?;
    kit::ends(&guest, &format!("online {} --zone movable", others.trim_end_matches(',')), 0);
    assert_eq!(kit::blocks(&guest, 1)?, "1 offline, 7 online Movable");

    victim.signal("TERM")?;
    let output = victim.wait(LONG)?;
    let said = (output.status, output.stdout.lines().last());
    assert_eq!(said, (0, Some("right 1024 lost 1")), "{}", output.stdout);
    kit::ends(&guest, "offline --node node1", 0);
    kit::ends(&guest, "region destroy region0", 0);
    kit::healthy(&guest)?;
    guest.powerdown()
}
