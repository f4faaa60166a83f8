//! Emulated hardware becomes what the kernel makes of real hardware: each machine, by hand.

use std::time::Duration;

use memtide_testbed::{Error, Guest, by_hand, gib, machines, mib, ready};
use memtide_units::ByteSize;
use serde_json::json;

/// Memory blocks of emulated x86 machines of this size.
const BLOCK: ByteSize = mib(128);
const SOON: Duration = Duration::from_secs(120);

/// The zones of a node's blocks, as `COUNT ZONES` each.
fn zones(guest: &Guest, node: u32) -> Result<String, Error> {
    let script = "cat /sys/devices/system/node/nodeN/memory[0-9]*/valid_zones | sort | uniq -c";
    let counted = guest.sh(&script.replace('N', &node.to_string()))?;
    Ok(counted.lines().map(str::trim).collect::<Vec<_>>().join(", "))
}

/// The lines of /proc/iomem that contain one of these, without their indentation.
fn iomem(guest: &Guest, names: &[&str]) -> Result<Vec<String>, Error> {
    let map = guest.sh("cat /proc/iomem")?;
    let wanted = map.lines().map(str::trim).filter(|line| names.iter().any(|n| line.contains(n)));
    Ok(wanted.map(str::to_owned).collect())
}

#[test]
fn a_cxl_region_becomes_a_movable_node_and_goes_again() -> Result<(), Error> {
    if !ready() {
        return Ok(());
    }
    let guest = Guest::boot(&machines::cxl_direct())?;
    poison_is_known_to_the_device(&guest)?;
    let region = by_hand::create_region(&guest, 0, gib(1), 256, &[1])?;
    assert_eq!(region, "region0");
    guest
        .wait_until(SOON, "[ $(ls -d /sys/devices/system/node/node1/memory[0-9]* | wc -l) = 8 ]")?;
    assert_eq!(zones(&guest, 1)?, "8 Normal Movable", "1 GiB is 8 blocks of {BLOCK}");
    by_hand::set_blocks(&guest, 1, "online_movable")?;
    assert_eq!(zones(&guest, 1)?, "8 Movable");
    let nested: Vec<_> = iomem(&guest, &["CXL Window", "region0", "dax0.0", "kmem"])?
        .iter()
        .map(|line| line.split(" : ").nth(1).unwrap_or_default().to_owned())
        .collect();
    assert_eq!(nested, ["CXL Window 0", "region0", "dax0.0", "System RAM (kmem)"]);

    by_hand::set_blocks(&guest, 1, "offline")?;
    guest.sh("echo dax0.0 >/sys/bus/dax/drivers/kmem/unbind")?;
    by_hand::destroy_region(&guest, 0, &region)?;
    assert_eq!(guest.run("test -e /sys/bus/cxl/devices/region0")?.status, 1);
    assert_eq!(iomem(&guest, &["region0"])?.len(), 0);
    // Taken apart, the device can be unplugged, and another one plugged in.
    guest.qmp().device_del("mem0", SOON)?;
    guest.wait_until(SOON, "! ls -d /sys/bus/cxl/devices/mem*")?;
    // QEMU keeps a reference to it, and so to the memory behind it.
    let kept = guest.qmp().execute("object-del", json!({ "id": "mem0-ram" }));
    let kept = kept.expect_err("it stays in use").to_string();
    assert!(kept.contains("is in use"), "{kept}");
    guest.qmp().add_cxl_device("mem9", "hb0-p0", mib(512), 9)?;
    by_hand::create_region(&guest, 0, mib(512), 256, &[9])?;
    guest
        .wait_until(SOON, "[ $(ls -d /sys/devices/system/node/node1/memory[0-9]* | wc -l) = 4 ]")?;
    assert_eq!(zones(&guest, 1)?, "4 Normal Movable");
    guest.powerdown()
}

#[test]
fn devices_behind_a_switch_and_under_two_bridges() -> Result<(), Error> {
    if !ready() {
        return Ok(());
    }
    let guest = Guest::boot(&machines::cxl_switch())?;
    by_hand::create_region(&guest, 0, gib(1), 256, &[2])?;
    let second = machines::cxl_switch().serial("mem1");
    assert_eq!(second, Some(2));
    // Root, host bridge, switch: three ports above the endpoint.
    let path = guest.sh(
        "cd /sys/bus/cxl/devices; for e in endpoint*; do dirname $(readlink -f $e); done | sort -u",
    )?;
    assert!(path.ends_with("/root0/port1/port2"), "{path}");
    guest.powerdown()?;

    let guest = Guest::boot(&machines::cxl_interleaved())?;
    let region = by_hand::create_region(&guest, 0, gib(1), 256, &[1, 2])?;
    assert_eq!(guest.sh(&format!("cat /sys/bus/cxl/devices/{region}/interleave_ways"))?, "2");
    assert_eq!(
        guest.sh(&format!("cat /sys/bus/cxl/devices/{region}/size"))?,
        format!("{:#x}", gib(2).0)
    );
    guest.powerdown()
}

#[test]
fn several_windows_each_lead_to_their_bridge() -> Result<(), Error> {
    if !ready() {
        return Ok(());
    }
    let guest = Guest::boot(&machines::cxl_windows())?;
    let windows = iomem(&guest, &["CXL Window"])?;
    assert_eq!(windows.len(), 2, "{windows:?}");
    // The device of the other bridge is refused, and the error says at which step.
    let error = by_hand::create_region(&guest, 1, gib(1), 256, &[1]).expect_err("wrong window");
    assert!(error.to_string().contains("No such device or address"), "{error}");
    guest.powerdown()
}

#[test]
fn a_device_that_no_driver_has_is_left_alone() -> Result<(), Error> {
    if !ready() {
        return Ok(());
    }
    let guest = Guest::boot(&machines::cxl_dynamic())?;
    guest.sh("test -e /sys/bus/cxl/devices/root0")?;
    assert_eq!(guest.run("ls -d /sys/bus/cxl/devices/mem*")?.status, 1);
    // CXL memory devices have PCI class 0502 with interface 10 (CXL 3.1, 8.1.12.1).
    let driver = "for d in /sys/bus/pci/devices/*; do
        [ $(cat $d/class) = 0x050210 ] && basename $d && test ! -e $d/driver; done; true";
    assert_eq!(guest.sh(driver)?.lines().count(), 1);
    guest.load_modules(&["cxl_pci", "cxl_mem"])?;
    guest.wait_until(SOON, "ls -d /sys/bus/cxl/devices/mem0")?;
    guest.powerdown()
}

#[test]
fn firmware_tells_how_far_a_node_is() -> Result<(), Error> {
    if !ready() {
        return Ok(());
    }
    let guest = Guest::boot(&machines::near_far())?;
    assert_eq!(guest.sh("cat /sys/devices/system/node/node1/cpulist")?, "");
    assert_eq!(guest.sh("cat /sys/devices/system/node/node0/distance")?, "10 30");
    let access = "cat /sys/devices/system/node/node1/access0/initiators/read_";
    assert_eq!(guest.sh(&format!("{access}latency"))?, "250");
    assert_eq!(guest.sh(&format!("{access}bandwidth"))?, "20480");
    assert_eq!(&guest.read("/sys/firmware/acpi/tables/HMAT")?[..4], b"HMAT");
    guest.powerdown()
}

#[test]
fn virtio_mem_plugs_and_unplugs() -> Result<(), Error> {
    if !ready() {
        return Ok(());
    }
    let guest = Guest::boot(&machines::virtio_mem())?;
    let until = |wanted: ByteSize| -> Result<(), Error> {
        let deadline = std::time::Instant::now() + SOON;
        while guest.qmp().plugged_memory("vm0")? != wanted {
            assert!(std::time::Instant::now() < deadline, "{wanted} is not plugged");
            std::thread::sleep(Duration::from_millis(50));
        }
        Ok(())
    };
    until(ByteSize(0))?;
    guest.qmp().request_memory("vm0", gib(1))?;
    until(gib(1))?;
    // The kernel adds a block after its memory was plugged, and unplugs before it removes one.
    let has =
        |kib: u64| format!("grep -q 'MemTotal: *{kib} kB' /sys/devices/system/node/node1/meminfo");
    guest.wait_until(SOON, &has(1 << 20))?;
    assert_eq!(zones(&guest, 1)?, "8 Normal");
    guest.qmp().wait_for(SOON, "MEMORY_DEVICE_SIZE_CHANGE", |data| data["size"] == gib(1).0)?;
    guest.qmp().request_memory("vm0", mib(256))?;
    until(mib(256))?;
    guest.wait_until(SOON, &has(256 << 10))?;
    guest.qmp().request_memory("vm0", ByteSize(0))?;
    until(ByteSize(0))?;
    guest.wait_until(SOON, "! ls -d /sys/devices/system/node/node1/memory[0-9]*")?;

    let too_much = guest.qmp().request_memory("vm0", gib(17)).expect_err("16 GiB at most");
    assert!(matches!(&too_much, Error::Refused { .. }), "{too_much}");
    guest.powerdown()
}

fn poison_is_known_to_the_device(guest: &Guest) -> Result<(), Error> {
    guest.wait_until(SOON, "test -e /sys/bus/cxl/devices/mem0/trigger_poison_list")?;
    guest.qmp().inject_poison("mem0", 0x1000, 64)?;
    guest.sh("echo 1 >/sys/kernel/debug/tracing/events/cxl/cxl_poison/enable &&
         echo 1 >/sys/bus/cxl/devices/mem0/trigger_poison_list")?;
    let trace = guest.sh("cat /sys/kernel/debug/tracing/trace")?;
    assert!(trace.contains("dpa=0x1000 ") && trace.contains("dpa_length=0x40 "), "{trace}");
    let odd = guest.qmp().inject_poison("mem0", 0x1001, 64).expect_err("not a multiple of 64");
    assert!(odd.to_string().contains("cxl-inject-poison"), "{odd}");
    Ok(())
}

#[test]
fn odd_firmware_maps() -> Result<(), Error> {
    if !ready() {
        return Ok(());
    }
    let guest = Guest::boot(&machines::odd_map())?;
    let map = iomem(&guest, &["Persistent Memory (legacy)", "Soft Reserved"])?;
    assert_eq!(
        map,
        ["40000000-4fffffff : Persistent Memory (legacy)", "70000000-77ffffff : Soft Reserved"]
    );
    assert!(iomem(&guest, &["60000000-67ffffff"])?[0].ends_with("Reserved"));
    guest.powerdown()?;

    let guest = Guest::boot(&machines::numa_emulation())?;
    assert_eq!(guest.sh("cat /sys/devices/system/node/online")?, "0-1");
    guest.powerdown()
}
