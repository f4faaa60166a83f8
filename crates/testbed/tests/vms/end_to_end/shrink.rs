//! A hypervisor takes memory back through virtio-mem while a program uses it.

use std::time::{Duration, Instant};

use memtide_testbed::{Error, Guest, gib, machines, mib, ready};
use memtide_units::ByteSize;

use super::kit::{self, LONG, MIB};

/// Asks the guest for a size, and waits until it is so.
fn resize(guest: &Guest, wanted: ByteSize) -> Result<(), Error> {
    guest.qmp().request_memory("vm0", wanted)?;
    let deadline = Instant::now() + LONG;
    loop {
        let plugged = guest.qmp().plugged_memory("vm0")?;
        if plugged == wanted {
            return Ok(());
        }
        assert!(Instant::now() < deadline, "{plugged} is plugged, not {wanted}");
        std::thread::sleep(Duration::from_millis(100));
    }
}

/// How much memory a node has, in bytes.
fn total(guest: &Guest) -> Result<u64, Error> {
    let kib = "awk '/MemTotal/ {print $4}' /sys/devices/system/node/node1/meminfo";
    Ok(guest.sh(kib)?.parse::<u64>().expect("KiB") * 1024)
}

#[test]
fn virtio_mem_shrinks_under_a_program() -> Result<(), Error> {
    if !ready() {
        return Ok(());
    }
    let guest = kit::boot(machines::virtio_mem(), &[kit::program("holder")])?;
    // Node 1 has no memory since boot that could bear the ratio, so the machine as a whole must.
    for (name, value) in [("online_policy", "auto-movable"), ("auto_movable_numa_aware", "N")] {
        guest.write(&format!("/sys/module/memory_hotplug/parameters/{name}"), value)?;
    }
    resize(&guest, gib(1))?;
    let online = "cat /sys/devices/system/node/node1/memory*/state | grep -c online";
    guest.wait_until(LONG, &format!("[ $({online}) = 8 ]"))?;
    assert_eq!(kit::blocks(&guest, 1)?, "8 online Movable");
    let run = "memtide run --near node0 --far node1 --placement far-first -- holder plain 200";
    let holder = guest.start(&format!("exec {run}"))?;
    holder.wait_for_output(LONG, "ready")?;
    let used = |guest: &Guest| -> Result<u64, Error> {
        let kib = "awk '/AnonPages/ {print $4}' /sys/devices/system/node/node1/meminfo";
        Ok(guest.sh(kib)?.parse::<u64>().expect("KiB") * 1024)
    };
    assert!(used(&guest)? > 190 * MIB);

    // Emptied first, then taken: what the driver takes is what memtide emptied.
    let answer = kit::json(&guest, "give-back 512MiB --from node1 --deadline 100s", 0);
    assert_eq!(kit::number(&answer, "returned"), 512 * MIB, "{answer}");
    assert_eq!(kit::blocks(&guest, 1)?, "4 offline, 4 online Movable");
    assert_eq!(guest.qmp().plugged_memory("vm0")?, gib(1), "offline is not unplugged");
    resize(&guest, mib(512))?;
    assert_eq!(kit::blocks(&guest, 1)?, "4 online Movable");
    assert_eq!(total(&guest)?, 512 * MIB);

    // Taken without asking anybody: the driver moves the program itself.
    resize(&guest, mib(128))?;
    assert_eq!(total(&guest)?, 128 * MIB);
    assert!(used(&guest)? < 130 * MIB, "the rest of the program is near");

    // More than there is: all of it comes, and goes on serving nobody until the hypervisor has it.
    let answer = kit::json(&guest, "give-back 1GiB --from node1 --deadline 100s", 3);
    let told = ["returned", "remaining"].map(|key| kit::number(&answer, key));
    assert_eq!(told, [128 * MIB, 896 * MIB], "{answer}");
    assert_eq!((kit::blocks(&guest, 1)?.as_str(), total(&guest)?), ("1 offline", 0));
    resize(&guest, mib(0))?;
    assert_eq!(kit::blocks(&guest, 1)?, "");
    let gone = kit::ends(&guest, "give-back 128M --from node1", 2).stderr;
    assert!(gone.contains("node 1: no memory block belongs to it"), "{gone}");

    holder.signal("TERM")?;
    let output = holder.wait(LONG)?;
    assert!(output.stdout.contains("intact "), "{}{}", output.stdout, output.stderr);
    kit::healthy(&guest)?;
    guest.powerdown()
}
